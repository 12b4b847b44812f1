//! Other hosts that claim an address of the group by ARP (RFC 5227 2.4) or by a Neighbour Advertisement with the
//! override flag. IPv6 addresses are the second row only: until the kernel's detection is over they are no data addresses.
//!
//! | the address | another host sends from it | another host probes for it |
//! |---|---|---|
//! | is new, and was not announced yet | reported; not announced, detected again after 10 s | the same |
//! | is announced | reported; announced once more, at most every 10 s | the kernel answers |
//!
//! So two hosts with one address do not exchange announcements without end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{Context, RunningGroup};
use crate::{
    announce::Claim,
    core::{Event, Time},
    daemon::clock::now,
};

/// Least time between two defences of an address (RFC 5227 1.1).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// A claim by the same host is reported again only after this time without one.
const REPORT_AGAIN: Duration = Duration::from_secs(600);

/// The claims so far.
#[derive(Debug, Default)]
pub struct Conflicts(BTreeMap<IpAddr, Known>);

#[derive(Clone, Copy, Debug)]
struct Known {
    /// The host that was reported.
    mac: [u8; 6],
    claimed: Time,
    defended: Time,
}

/// How a claim is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    defend: bool,
    report: bool,
}

impl Conflicts {
    /// The address is no longer the group's.
    pub fn forget(&mut self, address: IpAddr) {
        self.0.remove(&address);
    }

    fn claimed(&mut self, address: IpAddr, mac: [u8; 6], now: Time) -> Answer {
        let Some(known) = self.0.get_mut(&address) else {
            self.0.insert(address, Known { mac, claimed: now, defended: now });
            return Answer { defend: true, report: true };
        };
        let defend = now - known.defended >= DEFEND_INTERVAL;
        // Hosts that take turns are reported as rarely as the address is defended.
        let report = defend && (known.mac != mac || now - known.claimed >= REPORT_AGAIN);
        known.claimed = now;
        if defend {
            known.defended = now;
        }
        if report {
            known.mac = mac;
        }
        Answer { defend, report }
    }
}

/// The addresses of the group, also on its VLANs.
pub fn watched(group: &RunningGroup) -> impl Iterator<Item = IpAddr> {
    let data = group.addresses.iter().map(|(address, _)| address);
    let on_vlans = group.vlans.addresses().map(|(_, address)| address);
    data.chain(on_vlans)
}

/// Handles the claims that were received.
pub fn receive(groups: &mut BTreeMap<String, RunningGroup>, context: &mut Context<'_>, claims: &[Claim]) {
    let ours: BTreeSet<[u8; 6]> = groups
        .values()
        .flat_map(|group| group.core.members().iter().map(|member| member.mac()).chain([group.interface.mac]))
        .collect();
    for claim in claims.iter().filter(|claim| !ours.contains(&claim.mac)) {
        let concerned = groups
            .values_mut()
            .find(|group| group.has_addresses_on(claim.ifindex) || group.number_of(claim.ifindex).is_some());
        if let Some(group) = concerned {
            receive_claim(group, context, claim);
        }
    }
}

fn receive_claim(group: &mut RunningGroup, context: &mut Context<'_>, claim: &Claim) {
    let (ifindex, vlan) = (group.interface.ifindex, group.vlans.id_of(claim.ifindex));
    let (address, mac, now) = (claim.address, claim.mac, now());
    let name = group.name().to_owned();
    let is_known = match vlan {
        None => group.addresses.contains(address),
        Some(_) => group.vlans.addresses().any(|known| known == (vlan, address)),
    };
    if !is_known {
        return;
    }
    if context.schedule.is_detecting(ifindex, vlan, address) {
        if context.schedule.conflict(ifindex, vlan, address, now) {
            context
                .log(&name, &Event::AddressClaimed { address, group: name.clone(), mac, announced: false });
        }
        return;
    }
    if claim.is_probe {
        return;
    }
    let answer = group.conflicts.claimed(address, mac, now);
    if answer.defend {
        context.schedule.defend(ifindex, vlan, address, now);
    }
    if answer.report {
        context.log(&name, &Event::AddressClaimed { address, group: name.clone(), mac, announced: true });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_answered_every_ten_seconds_and_reported_once() {
        let mut conflicts = Conflicts::default();
        let address = IpAddr::from([192, 168, 178, 200]);
        let mut at = |seconds: u64, mac: u8| {
            let Answer { defend, report } =
                conflicts.claimed(address, [mac; 6], Time(Duration::from_secs(1000 + seconds)));
            (defend, report)
        };
        assert_eq!(at(0, 2), (true, true));
        assert_eq!(at(1, 2), (false, false));
        assert_eq!(at(9, 4), (false, false));
        assert_eq!(at(10, 2), (true, false));
        assert_eq!(at(20, 4), (true, true), "another host");
        assert_eq!(at(619, 4), (true, false));
        assert_eq!(at(1219, 4), (true, true), "after ten minutes");
    }
}
