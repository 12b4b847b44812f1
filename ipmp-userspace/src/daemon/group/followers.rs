//! Addresses that follow the cast member: senders that the datapath has learnt (ipvlan, proxy ARP, containers), and
//! addresses on VLANs of the group beyond those that the datapath has room for. When the cast member changes, each is announced with its MAC, as a data address is
//! when it moves.
//!
//! A learnt sender is announced only if it was seen within [`RECENT`]; one that another host has claimed since is removed
//! by the datapath (`ipmp_common::maps::Learnt`). It is announced as often as a data address, and then no more.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use super::{Context, RunningGroup};
use crate::{
    announce::Announcement,
    core::{Event, Time},
    daemon::clock::now,
    link::sysctl,
};

/// For how long a learnt sender is assumed to be present. Peers that communicate with it send a request within this time:
/// BSD, Junos and illumos keep a neighbour for 20 minutes, Linux and Windows for less than one. Those that keep it for
/// longer (Cisco IOS: 4 hours) learn of a move from the sender's own next request.
const RECENT: Duration = Duration::from_secs(20 * 60);

/// The state of the followers of a group.
#[derive(Debug, Default)]
pub struct Followers {
    /// The cast member that they were announced with, and its MAC.
    cast: Option<(u8, [u8; 6])>,
    /// Learnt senders, as far as they were logged.
    learnt: BTreeSet<IpAddr>,
}

/// Those that were seen recently.
fn recent(learnt: Vec<(IpAddr, Time)>, now: Time) -> impl Iterator<Item = IpAddr> {
    learnt.into_iter().filter(move |(_, seen)| now - *seen < RECENT).map(|(address, _)| address)
}

/// Announces the followers if the cast member or its MAC has changed since they were announced, and lets the cast member
/// receive packets to the MAC of the group interface. The cast member is compared, since it also changes without its list:
/// the first of the list is the cast member only once it is active.
pub fn follow_cast(group: &mut RunningGroup, context: &mut Context<'_>) {
    let cast = group.core.cast().and_then(|number| Some((number, group.core.member(number)?.mac())));
    if cast == group.followers.cast {
        return;
    }
    group.followers.cast = cast;
    group.filters.roles_changed();
    context.schedule.stop_following(group.interface.ifindex);
    if cast.is_none() {
        for (vlan, address) in group.vlans.without_role() {
            context.schedule.stop_in_vlan(group.interface.ifindex, vlan, address);
        }
        return;
    }
    for (vlan, address) in group.vlans.without_role() {
        if let Some(announcement) = announcement(group, Some(vlan), address) {
            context.schedule.announce(announcement, now());
        }
    }
    announce_learnt(group, context);
}

/// Announces every address of the group again, with the senders that the datapath has learnt.
pub fn announce_all(group: &RunningGroup, context: &mut Context<'_>) {
    context.schedule.announce_again(group.interface.ifindex, now());
    announce_learnt(group, context);
}

fn announce_learnt(group: &RunningGroup, context: &mut Context<'_>) {
    match group.datapath.learnt() {
        Ok(learnt) => {
            for address in recent(learnt, now()) {
                if let Some(announcement) = announcement(group, None, address) {
                    context.schedule.announce_briefly(announcement, now());
                }
            }
        }
        Err(error) => log::error!(group = group.name(); "{error}"),
    }
}

/// The announcement of a follower; `None` without a cast member.
pub fn announcement(group: &RunningGroup, vlan: Option<u16>, address: IpAddr) -> Option<Announcement> {
    let (number, mac) = group.followers.cast?;
    let ifindex = group.members.get(&number)?.ifindex;
    let router = address.is_ipv6() && sysctl::forwards_ipv6(group.name());
    Some(Announcement { group: group.interface.ifindex, vlan, address, ifindex, mac, router, probe: false })
}

/// The datapath has learnt a sender, or removed one that another host has now. A removed one is no longer announced.
pub fn learnt_changed(group: &mut RunningGroup, context: &mut Context<'_>) {
    match group.datapath.learnt() {
        Ok(learnt) => {
            let ours: BTreeSet<IpAddr> = learnt.into_iter().map(|(address, _)| address).collect();
            context.schedule.keep_brief(group.interface.ifindex, |address| ours.contains(&address));
            for &address in ours.difference(&group.followers.learnt) {
                let name = group.name().to_owned();
                context.log(group.name(), &Event::AddressLearned { address, group: name });
            }
            group.followers.learnt = ours;
        }
        Err(error) => log::error!(group = group.name(); "{error}"),
    }
}

/// Removes a learnt sender: its address is a data address now, or a member's own.
pub fn forget_learnt(group: &mut RunningGroup, address: IpAddr) {
    if let Err(error) = group.datapath.remove_learnt(address) {
        log::error!(group = group.name(); "{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sender_silent_for_twenty_minutes_is_not_announced() {
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
