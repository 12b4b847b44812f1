//! The files that an operator writes.

use crate::page::Page;
use clap_mangen::roff::{bold, roman};
use ipmp::config::keys::{self, Table};

/// The example that the project ships.
const EXAMPLE: &str = include_str!("../../etc/ipmp.toml");

/// `ipmp.toml(5)`: every key, from the table by which the files are read.
pub fn configuration() -> Page {
    let mut page = Page::new("ipmp.toml", "5", "groups of IP multipathing");
    page.heading("SYNOPSIS").lines("/etc/ipmp/ipmp.toml\n/etc/ipmp/ipmp.d/*.toml");
    page.heading("DESCRIPTION").paragraph(
        "These files describe the groups of a host in TOML. All have the same form; a group is in one file. \
         ipmpctl check reports mistakes with file, line and column, ipmpctl diff what differs from what runs, and \
         ipmpctl apply changes the groups to what the files describe. ipmpd creates the groups at its start, and applies \
         the files on SIGHUP.",
    );
    page.heading("KEYS");
    for (name, table) in [
        ("The file", &keys::FILE),
        ("[defaults]", &keys::DEFAULTS),
        ("[group.NAME]", &keys::GROUP),
        ("An entry of routes", &keys::ROUTE),
        ("dns", &keys::DNS),
        ("[group.NAME.members]: LABEL = { … }", &keys::MEMBER),
        ("match", &keys::MATCH),
    ] {
        add_keys(page.subheading(name), table);
    }
    page.heading("EXAMPLE").lines(EXAMPLE);
    page.see_also("ipmpctl-check(1), ipmpctl-apply(1), ipmpctl-save(1), ipmpctl-set(1), ipmpd(8)");
    page
}

fn add_keys(page: &mut Page, table: &Table) {
    for key in table.keys {
        page.item([bold(key.name)], key.about);
    }
    for setting in table.settings() {
        page.item([bold(setting.key), roman(format!(" = {}", setting.values))], setting.about);
    }
}

/// `mpathd(5)`.
pub fn mpathd() -> Page {
    let mut page = Page::new("mpathd", "5", "defaults of IP multipathing groups, as on Solaris");
    page.heading("SYNOPSIS").lines("/etc/default/mpathd");
    page.heading("DESCRIPTION").paragraph(
        "Lines KEY=VALUE, which ipmpd reads at start and on SIGHUP. They hold for groups without a value of their own. \
         Invalid lines are logged and ignored. The file need not exist.",
    );
    page.item(
        [bold("FAILURE_DETECTION_TIME")],
        "failure detection time in milliseconds, at least 100; default: 10000",
    );
    page.item(
        [bold("FAILBACK")],
        "yes (default): members become active again after their repair; no: on request",
    );
    page.item(
        [bold("TRACK_INTERFACES_ONLY_WITH_GROUPS")],
        "yes (default): only members of groups are probed; no is logged and ignored",
    );
    page.see_also("ipmpctl-set(1), ipmpd(8)");
    page
}
