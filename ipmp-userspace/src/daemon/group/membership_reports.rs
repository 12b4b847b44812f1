//! Membership reports (IGMP, MLD): the switch of a member that becomes live learns from them what the group receives.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipmp_common::steer::{MAX_MEMBERS, MemberSet};

use super::{Context, RunningGroup};
use crate::{announce::Reporter, core::Time, daemon::clock::now, link};

/// Repetitions: a report may be lost, and a port may start to forward later than it has a carrier.
const TIMES: u8 = 3;
/// Between two of them, at most: as between announcements.
const SPACING: Duration = Duration::from_secs(2);
/// Repetitions come at multiples of this time, for all members at once: what the host listens to is read for each.
const GRID: Duration = Duration::from_millis(250);

/// The members that have reports to send.
#[derive(Debug, Default)]
pub struct PendingReports {
    live: MemberSet,
    /// When the next is due, and how many are left.
    pending: BTreeMap<u8, (Time, u8)>,
}

impl PendingReports {
    /// These members are live now. Those that were not report, the first time at once; those that are no longer do not.
    pub fn set_live(&mut self, live: MemberSet, now: Time) {
        for number in 0..MAX_MEMBERS as u8 {
            if !live.has(number) {
                self.pending.remove(&number);
            } else if !self.live.has(number) {
                self.pending.insert(number, (now, TIMES));
            }
        }
        self.live = live;
    }

    /// The members that report now. Each is counted as having done so.
    pub fn take(&mut self, now: Time) -> Vec<u8> {
        let due =
            self.pending.iter().filter(|(_, (due, _))| *due <= now).map(|(number, _)| *number).collect();
        for number in &due {
            if let Some((due, left)) = self.pending.get_mut(number) {
                (*due, *left) = ((now + (SPACING - GRID)).next_multiple(GRID), *left - 1);
            }
        }
        self.pending.retain(|_, (_, left)| *left > 0);
        due
    }

    /// When [`take`](Self::take) next returns a member.
    pub fn next(&self) -> Option<Time> {
        self.pending.values().map(|(due, _)| *due).min()
    }
}

/// Sends the reports of all groups that are due: what a group and its VLANs listen to, through each member. A lost one is repeated.
pub fn send_due(groups: &mut BTreeMap<String, RunningGroup>, context: &Context<'_>) {
    let now = now();
    let due: Vec<_> = groups
        .values_mut()
        .map(|group| (group.reports.take(now), group))
        .filter(|(members, _)| !members.is_empty())
        .collect();
    if due.is_empty() {
        return;
    }
    match link::memberships() {
        Ok(memberships) => {
            due.into_iter().for_each(|(members, group)| send(group, context, &members, &memberships))
        }
        Err(error) => log::warn!("{error}: members do not report the multicast groups of their groups"),
    }
}

fn send(
    group: &RunningGroup,
    context: &Context<'_>,
    members: &[u8],
    memberships: &BTreeMap<u32, link::Memberships>,
) {
    let own = |wanted: fn(&IpAddr) -> bool| group.addresses.iter().map(|(address, _)| address).find(wanted);
    let v4 = match own(IpAddr::is_ipv4) {
        Some(IpAddr::V4(address)) => address,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let v6 = match own(|address| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())) {
        Some(IpAddr::V6(address)) => address,
        _ => Ipv6Addr::UNSPECIFIED,
    };
    for number in members {
        let (Some(device), Some(member)) = (group.members.get(number), group.core.member(*number)) else {
            continue;
        };
        let untagged = Reporter { mac: member.mac(), v4, v6, vlan: None };
        let tagged = |vlan| Reporter {
            v4: Ipv4Addr::UNSPECIFIED,
            v6: Ipv6Addr::UNSPECIFIED,
            vlan: Some(vlan),
            ..untagged
        };
        let vlans = group.vlans.iter().map(|(ifindex, vlan)| (ifindex, tagged(vlan)));
        for (ifindex, reporter) in [(group.interface.ifindex, untagged)].into_iter().chain(vlans) {
            let Some(memberships) = memberships.get(&ifindex) else { continue };
            for frame in reporter.frames(memberships) {
                if let Err(error) = context.sender.send_frame(device.ifindex, &frame) {
                    log::debug!(group = group.name(); "cannot report memberships on {}: {error}", device.name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(1000 + seconds))
    }

    fn members(numbers: &[u8]) -> MemberSet {
        numbers.iter().copied().collect()
    }

    #[test]
    fn member_that_becomes_live_reports_three_times() {
        let mut reports = PendingReports::default();
        reports.set_live(members(&[0, 1]), at(0));
        assert_eq!(reports.next(), Some(at(0)));
        assert_eq!(reports.take(at(0)), [0, 1]);
        assert_eq!(reports.take(at(1)), [0; 0]);
        reports.set_live(members(&[0, 1, 2]), at(1));
        assert_eq!(reports.take(at(1)), [2], "the others have been live all the time");
        assert_eq!((reports.next(), reports.take(at(2))), (Some(at(2)), vec![0, 1]));
        assert_eq!(reports.take(at(4)), [0, 1, 2]);
        assert_eq!((reports.next(), reports.take(at(5))), (Some(at(6)), vec![]));
        assert_eq!(reports.take(at(6)), [2]);
        assert_eq!(reports.next(), None);
    }

    #[test]
    fn members_repeat_at_the_same_times() {
        let mut reports = PendingReports::default();
        let at = |ms: u64| Time(Duration::from_millis(1_000_000 + ms));
        for (ms, live) in [(10, &[0][..]), (90, &[0, 1]), (170, &[0, 1, 2])] {
            reports.set_live(members(live), at(ms));
            assert_eq!(reports.take(at(ms)).len(), 1);
        }
        assert_eq!((reports.next(), reports.take(at(2000))), (Some(at(2000)), vec![0, 1, 2]));
        assert_eq!((reports.next(), reports.take(at(4000))), (Some(at(4000)), vec![0, 1, 2]));
    }

    #[test]
    fn member_that_fails_stops_reporting_and_restarts_after_repair() {
        let mut reports = PendingReports::default();
        reports.set_live(members(&[3]), at(0));
        reports.set_live(members(&[]), at(1));
        assert_eq!((reports.next(), reports.take(at(9))), (None, vec![]));
        reports.set_live(members(&[3]), at(10));
        assert_eq!([10, 12, 14, 16].map(|second| reports.take(at(second)).len()), [1, 1, 1, 0]);
    }
}
