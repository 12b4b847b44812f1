//! Addresses that follow the cast member, because no data address is theirs: senders that the datapath has learnt
//! (ipvlan, proxy ARP, containers), and what is on the VLANs of the group. When the cast member is another, each is
//! announced with its MAC, as a data address is when it moves.
//!
//! What was learnt is announced only if it is surely still ours: it was seen within [`RECENT`], and no other host has
//! claimed it since, or the datapath would have forgotten it (`ipmp_common::maps::Learnt`). It is announced as often as
//! a data address, and then no more.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use crate::daemon::group::{Group, Hands, now};
use crate::{
    announce::Announcement,
    core::{Event, Time},
    link::sysctl,
};

/// For how long a learnt sender is believed to be there. Peers that are in touch with it ask again within this time, so
/// that it speaks: BSD, Junos and illumos keep a neighbour for 20 minutes, Linux and Windows for less than one. Those
/// that keep it for longer (Cisco IOS: 4 hours) learn of a move from the sender's own next request.
const RECENT: Duration = Duration::from_secs(20 * 60);

/// An address on a VLAN device of the group: the device, the address and its prefix length.
pub type VlanAddress = (u32, IpAddr, u8);

/// Those that are believed to be there.
fn recent(learnt: Vec<(IpAddr, Time)>, now: Time) -> impl Iterator<Item = IpAddr> {
    learnt.into_iter().filter(move |(_, seen)| now - *seen < RECENT).map(|(address, _)| address)
}

impl Group {
    /// Announces the followers if the cast member is another than that they were announced with, or has another MAC.
    pub(in crate::daemon) fn follow_cast(&mut self, hands: &mut Hands<'_>) {
        let cast = self.core.cast().and_then(|number| Some((number, self.core.member(number)?.mac())));
        if cast == self.followed {
            return;
        }
        self.followed = cast;
        let group = self.interface.ifindex;
        hands.schedule.stop_following(group);
        if cast.is_none() {
            return;
        }
        for (ifindex, address, _) in &self.vlan_addresses {
            if let Some(announcement) = self.follower(self.vlan_of(*ifindex), *address) {
                hands.schedule.announce(announcement, now());
            }
        }
        match self.datapath.learnt() {
            Ok(learnt) => {
                for address in recent(learnt, now()) {
                    if let Some(announcement) = self.follower(None, address) {
                        hands.schedule.announce_briefly(announcement, now());
                    }
                }
            }
            Err(error) => log::error!(group = self.name(); "{error}"),
        }
    }

    fn follower(&self, vlan: Option<u16>, address: IpAddr) -> Option<Announcement> {
        let (number, mac) = self.followed?;
        let ifindex = self.members.get(&number)?.ifindex;
        let router = address.is_ipv6() && sysctl::forwards_ipv6(self.name());
        Some(Announcement { group: self.interface.ifindex, vlan, address, ifindex, mac, router })
    }

    /// The datapath has learnt a sender, or forgotten one that is elsewhere now: such a one is not announced any more.
    pub(in crate::daemon) fn learnt_changed(&mut self, hands: &mut Hands<'_>) {
        match self.datapath.learnt() {
            Ok(learnt) => {
                let ours: BTreeSet<IpAddr> = learnt.into_iter().map(|(address, _)| address).collect();
                hands.schedule.keep_brief(self.interface.ifindex, |address| ours.contains(&address));
                for &address in ours.difference(&self.learnt) {
                    let group = self.name().to_owned();
                    hands.teller.say(Some(self.name()), &Event::AddressLearned { address, group });
                }
                self.learnt = ours;
            }
            Err(error) => log::error!(group = self.name(); "{error}"),
        }
    }

    /// An address is on a VLAN device of the group.
    pub(in crate::daemon) fn vlan_address_appeared(&mut self, hands: &mut Hands<'_>, at: VlanAddress) {
        let (ifindex, address, _) = at;
        if self.vlan_addresses.insert(at)
            && let Some(announcement) = self.follower(self.vlan_of(ifindex), address)
        {
            hands.schedule.announce(announcement, now());
        }
    }

    /// It is gone.
    pub(in crate::daemon) fn vlan_address_went(&mut self, hands: &mut Hands<'_>, at: VlanAddress) {
        let (ifindex, address, _) = at;
        self.vlan_addresses.remove(&at);
        let still = self.vlan_addresses.iter().any(|(other, same, _)| (*other, *same) == (ifindex, address));
        if !still && let Some(vlan) = self.vlan_of(ifindex) {
            hands.schedule.stop_in_vlan(self.interface.ifindex, vlan, address);
        }
    }

    /// Only these are on the VLAN devices of the group.
    pub(in crate::daemon) fn keep_vlan_addresses(
        &mut self,
        hands: &mut Hands<'_>,
        there: &BTreeSet<VlanAddress>,
    ) {
        let gone: Vec<VlanAddress> = self.vlan_addresses.difference(there).copied().collect();
        for at in gone {
            self.vlan_address_went(hands, at);
        }
    }

    /// Drops a sender from what was learnt: its address is a data address, or a member's own.
    pub(in crate::daemon) fn forget_learnt(&mut self, address: IpAddr) {
        if let Err(error) = self.datapath.remove_learnt(address) {
            log::error!(group = self.name(); "{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_been_silent_for_twenty_minutes_is_not_announced() {
        let now = Time(Duration::from_secs(5000));
        let at = |seconds| Time(Duration::from_secs(seconds));
        let address = |last| IpAddr::from([192, 168, 178, last]);
        let learnt = vec![
            (address(1), at(5000)),
            (address(2), at(3801)),
            (address(3), at(3800)),
            (address(4), at(5001)),
        ];
        assert_eq!(recent(learnt, now).collect::<Vec<_>>(), [address(1), address(2), address(4)]);
    }
}
