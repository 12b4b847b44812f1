//! The commands of Solaris, whose command lines are not parsed by clap.

use crate::page::Page;
use clap_mangen::roff::bold;
use ipmp::cli::if_mpadm;
use ipmp::stat::options;

/// `ipmpstat(1)`: what `ipmpstat --help` prints.
pub fn ipmpstat() -> Page {
    let mut page = Page::new("ipmpstat", "1", "show the state of IP multipathing");
    page.heading("SYNOPSIS").lines(options::USAGE);
    page.heading("DESCRIPTION").lines(options::NOTES);
    page.heading("FILES").paragraph("/usr/share/doc/ipmp/ipmpstat.md describes every field.");
    page.see_also("ipmpctl-show(1), ipmpctl(1), ipmpd(8)");
    page
}

/// `if_mpadm(8)`.
pub fn if_mpadm() -> Page {
    let mut page = Page::new("if_mpadm", "8", "take a member of a group out of service, and put it back");
    page.heading("SYNOPSIS").lines(if_mpadm::USAGE);
    page.heading("DESCRIPTION").paragraph(
        "The command of Solaris, with its texts. ipmpctl offline and ipmpctl online do the same. It needs root or membership \
         in the group ipmp, and starts ipmpd if it does not run.",
    );
    page.heading("OPTIONS");
    page.item([bold("-d")], "take the member out of service; the last functioning one is refused");
    page.item([bold("-r")], "put it back");
    page.heading("EXIT STATUS").paragraph("0, or 1 after an error.");
    page.heading("FILES").paragraph("/usr/share/doc/ipmp/solaris.md lists the differences from Solaris.");
    page.see_also("ipmpctl-offline(1), ipmpctl-online(1), ipmp-ifconfig(8)");
    page
}

/// `ipmp-ifconfig(8)`.
pub fn ipmp_ifconfig() -> Page {
    let mut page = Page::new("ipmp-ifconfig", "8", "configure IP multipathing as ifconfig of Solaris does");
    page.heading("SYNOPSIS").lines(
        "ipmp-ifconfig GROUP ipmp [ADDRESS] [up]\n\
         ipmp-ifconfig MEMBER [ADDRESS] [-failover] [standby|-standby] [netmask MASK] [broadcast +] group GROUP [up]\n\
         ipmp-ifconfig GROUP addif ADDRESS [up]\n\
         ipmp-ifconfig GROUP removeif ADDRESS\n\
         ipmp-ifconfig INTERFACE plumb|unplumb|up|down\n\
         ipmp-ifconfig -a|-a4|-a6|-au|-ad|INTERFACE [--classic]",
    );
    page.heading("DESCRIPTION").paragraph(
        "The part of ifconfig of Solaris that administers IPMP. It does not replace another ifconfig. The whole line is checked \
         before anything is changed, and what a line has done is undone if a later part of it fails.",
    );
    page.heading("EXIT STATUS").paragraph("0, or 1 after an error, which is one line on standard error.");
    page.heading("EXAMPLES").lines(
        "ipmp-ifconfig production0 ipmp 192.168.178.200/24 up\n\
         ipmp-ifconfig eth0 plumb 192.168.178.201/24 -failover group production0 up\n\
         ipmp-ifconfig eth1 -failover group production0 standby up",
    );
    page.heading("FILES").paragraph(
        "/etc/netmasks has the netmasks of networks. /usr/share/doc/ipmp/solaris.md lists every form and the differences from \
         Solaris.",
    );
    page.see_also("ipmpctl(1), if_mpadm(8), ipmpd(8)");
    page
}
