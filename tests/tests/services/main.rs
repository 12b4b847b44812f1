//! What administrators put on a network interface works on a group interface, with the programs that they use: leases,
//! router advertisements, virtual addresses, firewalls, tunnels. A test each, and cables pulled in every one.

lab::lane!(side_by_side, seconds = 80);

use std::net::IpAddr;

use ipmp::control::report::AddressReport;
use lab::production::GROUP;
use lab::{Daemon, Lab, Production, Program, TIMEOUT, wait_until};

mod dhcp;
mod firewall;
mod slaac;
mod tunnel;
mod virtual_address;

/// The group with all members of the lab and no address: what has one gets it from elsewhere.
fn without_addresses(lab: &Lab) -> Production<'_> {
    let daemon = Daemon::start_in(lab).unwrap();
    daemon.ctl(&format!("create {GROUP}")).unwrap();
    let names: Vec<_> = lab.members().iter().map(|member| member.name()).collect();
    daemon.ctl(&format!("attach {} --group {GROUP}", names.join(" "))).unwrap();
    let production = Production::with_daemon(lab, daemon).unwrap();
    production.wait_usable(names.len()).unwrap();
    production
}

/// Waits until a data address can be used and a member answers for it. Gives that member.
fn wait_answered(production: &Production<'_>, address: IpAddr) -> String {
    let mut inbound = None;
    let answered = wait_until(TIMEOUT, || {
        let found = data_addresses(production).into_iter().find(|known| known.address == address);
        inbound = found.filter(|found| found.up).and_then(|found| found.inbound);
        inbound.is_some()
    });
    assert!(answered, "{address} is no data address that is answered for:\n{}", shown(production));
    inbound.unwrap()
}

/// Waits until the group has an address no more.
fn wait_gone(production: &Production<'_>, address: IpAddr) {
    let gone = || data_addresses(production).iter().all(|known| known.address != address);
    assert!(wait_until(TIMEOUT, gone), "{address} is still there:\n{}", shown(production));
}

fn data_addresses(production: &Production<'_>) -> Vec<AddressReport> {
    production.report().unwrap().addresses
}

fn shown(production: &Production<'_>) -> String {
    production.daemon.ctl("show").unwrap()
}

/// dnsmasq on the router, for these services alone. When this returns it serves.
fn dnsmasq(lab: &Lab, services: &[String]) -> Program {
    let mut command = lab.router().namespace().command("dnsmasq");
    // Nothing of the machine's: no configuration, no name service, no files but those of the lab.
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"]);
    command.args(["--log-facility=-", "--log-dhcp", "--pid-file=", "--interface=eth0", "--bind-interfaces"]);
    command.arg(format!("--dhcp-leasefile={}", lab.directory().join("leases").display()));
    command.args(services);
    let mut program = Program::start(lab, command).unwrap();
    program.wait_line("started, version", 0, TIMEOUT).unwrap();
    program
}
