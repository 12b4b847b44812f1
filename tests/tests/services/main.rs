//! Common services work on a group interface while cables are pulled: DHCP leases, router advertisements, virtual
//! addresses, firewalls, tunnels, systemd-networkd, Prometheus.

lab::lane!(side_by_side, seconds = 80);

use std::net::IpAddr;

use ipmp::control::report::AddressReport;
use lab::{Lab, Production, TIMEOUT, wait_until};

mod dhcp;
mod firewall;
mod networkd;
mod prometheus;
mod slaac;
mod tunnel;
mod virtual_address;

/// The group with all members of the lab and no data address: the service configures it.
fn without_addresses(lab: &Lab) -> Production<'_> {
    Production::builder(lab).without_addresses().create().unwrap()
}

/// Waits until a data address is up and has an inbound member, and returns that member.
fn wait_inbound(production: &Production<'_>, address: IpAddr) -> String {
    let mut inbound = None;
    let answered = wait_until(TIMEOUT, || {
        let found = data_addresses(production).into_iter().find(|known| known.address == address);
        inbound = found.filter(|found| found.up).and_then(|found| found.inbound);
        inbound.is_some()
    });
    assert!(answered, "{address} is not a data address with an inbound member:\n{}", production.show());
    inbound.unwrap()
}

/// Waits until an address is removed from the group.
fn wait_removed(production: &Production<'_>, address: IpAddr) {
    let is_removed = || data_addresses(production).iter().all(|known| known.address != address);
    assert!(wait_until(TIMEOUT, is_removed), "{address} is not removed:\n{}", production.show());
}

fn data_addresses(production: &Production<'_>) -> Vec<AddressReport> {
    production.report().unwrap().addresses
}
