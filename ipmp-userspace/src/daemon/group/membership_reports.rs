//! Whose switches are to be told what the group listens to: those of members that have become live.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipmp_common::steer::{MAX_MEMBERS, MemberSet};

use crate::daemon::group::{Group, Hands, now};
use crate::{announce::Reporter, core::Time, link};

/// A report may be lost, and a port may forward later than it has a carrier: it is told so often.
const TIMES: u8 = 3;
/// Between two of them: as announcements are spaced.
const SPACING: Duration = Duration::from_secs(2);

/// The members of a group that are owed reports.
#[derive(Debug, Default)]
pub struct Reports {
    live: MemberSet,
    /// When the next is due, and how many are.
    owed: BTreeMap<u8, (Time, u8)>,
}

impl Reports {
    /// These members are live now: who was not before is owed reports, the first at once, and who is not any more none.
    pub fn live(&mut self, live: MemberSet, now: Time) {
        for number in 0..MAX_MEMBERS as u8 {
            if !live.has(number) {
                self.owed.remove(&number);
            } else if !self.live.has(number) {
                self.owed.insert(number, (now, TIMES));
            }
        }
        self.live = live;
    }

    /// The members that are to report now; each is counted as having done so.
    pub fn take(&mut self, now: Time) -> Vec<u8> {
        let due = self.owed.iter().filter(|(_, (due, _))| *due <= now).map(|(number, _)| *number).collect();
        for number in &due {
            if let Some((due, left)) = self.owed.get_mut(number) {
                (*due, *left) = (now + SPACING, *left - 1);
            }
        }
        self.owed.retain(|_, (_, left)| *left > 0);
        due
    }

    /// When [`take`](Self::take) has something to give next.
    pub fn next(&self) -> Option<Time> {
        self.owed.values().map(|(due, _)| *due).min()
    }
}

impl Group {
    /// Reports what the group and its VLANs listen to, through the members that are owed it. What is lost is repeated.
    pub(in crate::daemon) fn report(&mut self, hands: &Hands<'_>) {
        let owed = self.reports.take(now());
        if owed.is_empty() {
            return;
        }
        let memberships = match link::memberships() {
            Ok(memberships) => memberships,
            Err(error) => return log::warn!(group = self.name(); "{error}"),
        };
        let own = |wanted: fn(&IpAddr) -> bool| self.addresses().map(|(address, _)| address).find(wanted);
        let v4 = match own(IpAddr::is_ipv4) {
            Some(IpAddr::V4(address)) => address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let v6 = match own(|address| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())) {
            Some(IpAddr::V6(address)) => address,
            _ => Ipv6Addr::UNSPECIFIED,
        };
        for number in owed {
            let (Some(device), Some(member)) = (self.members.get(&number), self.core.member(number)) else {
                continue;
            };
            let untagged = Reporter { mac: member.mac(), v4, v6, vlan: None };
            let tagged = |vlan| Reporter {
                v4: Ipv4Addr::UNSPECIFIED,
                v6: Ipv6Addr::UNSPECIFIED,
                vlan: Some(vlan),
                ..untagged
            };
            let vlans = self.vlans.iter().map(|(ifindex, vlan)| (*ifindex, tagged(*vlan)));
            for (ifindex, reporter) in [(self.interface.ifindex, untagged)].into_iter().chain(vlans) {
                let Some(memberships) = memberships.get(&ifindex) else { continue };
                for frame in reporter.frames(memberships) {
                    if let Err(error) = hands.sender.send_frame(device.ifindex, &frame) {
                        log::debug!(group = self.name(); "cannot report memberships through {}: {error}", device.name);
                    }
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
    fn who_becomes_live_reports_three_times() {
        let mut reports = Reports::default();
        reports.live(members(&[0, 1]), at(0));
        assert_eq!(reports.next(), Some(at(0)));
        assert_eq!(reports.take(at(0)), [0, 1]);
        assert_eq!(reports.take(at(1)), [0; 0]);
        reports.live(members(&[0, 1, 2]), at(1));
        assert_eq!(reports.take(at(1)), [2], "the others have been live all the time");
        assert_eq!((reports.next(), reports.take(at(2))), (Some(at(2)), vec![0, 1]));
        assert_eq!(reports.take(at(4)), [0, 1, 2]);
        assert_eq!((reports.next(), reports.take(at(5))), (Some(at(6)), vec![]));
        assert_eq!(reports.take(at(6)), [2]);
        assert_eq!(reports.next(), None);
    }

    #[test]
    fn who_is_gone_owes_nothing_and_who_is_back_begins_anew() {
        let mut reports = Reports::default();
        reports.live(members(&[3]), at(0));
        reports.live(members(&[]), at(1));
        assert_eq!((reports.next(), reports.take(at(9))), (None, vec![]));
        reports.live(members(&[3]), at(10));
        assert_eq!([10, 12, 14, 16].map(|second| reports.take(at(second)).len()), [1, 1, 1, 0]);
    }
}
