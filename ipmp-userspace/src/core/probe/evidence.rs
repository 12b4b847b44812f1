//! Evidence from the traffic of the host that the path of a member has failed. It starts a burst, and never decides.
//!
//! A segment of TCP that is not acknowledged in time was lost on the way out, or its acknowledgment on the way in: both look the
//! same, so it counts for the member that transmitted it and for the inbound member of its address. It was lost elsewhere, too, if
//! the other end has disappeared, which on a busy server happens all the time. So only a member with more timeouts than usual is
//! suspected: more than twice as many in this second as in the mean of those before it. Members are not compared with each other: a
//! failed inbound member causes timeouts on all, and so do two members that fail by the same event.

use std::{net::SocketAddr, time::Duration};

use ipmp_common::steer::{MAX_MEMBERS, MemberSet};

use crate::core::Time;

/// Time in which timeouts are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// Windows after which a mean is forgotten: of any count nothing is left then.
const FORGOTTEN: u32 = 200;

/// What shows that packets of a member do not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Witness {
    /// A TCP connection: its segments, or their acknowledgments.
    Connection {
        /// The other end.
        remote: SocketAddr,
        /// Port of this host.
        local_port: u16,
    },
    /// The member: it receives nothing any more.
    Silence,
}

/// Timeouts of one member in one role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    now: u32,
    /// Eight times the mean of the windows before, the later ones weighing more.
    usual: u32,
}

impl Count {
    /// This many windows have ended.
    fn end_windows(&mut self, windows: u32) {
        for _ in 0..windows {
            self.usual = self.usual - self.usual.div_ceil(8) + self.now;
            self.now = 0;
        }
    }

    /// Counts a timeout; whether there are more than usual now.
    fn add(&mut self) -> bool {
        self.now = self.now.saturating_add(1).min(u32::MAX >> 4);
        4 * self.now > self.usual
    }
}

/// Timeouts of TCP in a group, by member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Start of the window.
    since: Time,
    /// By the member that transmits.
    sending: [Count; MAX_MEMBERS],
    /// By the inbound member.
    receiving: [Count; MAX_MEMBERS],
}

impl Timeouts {
    /// Counts a timeout of a connection; the members that have more than usual now.
    pub(in crate::core) fn count(&mut self, now: Time, sender: u8, inbound: Option<u8>) -> MemberSet {
        let windows = ((now - self.since).as_nanos() / WINDOW.as_nanos()).min(u128::from(u32::MAX)) as u32;
        self.since = self.since + WINDOW.saturating_mul(windows);
        let counts = self.sending.iter_mut().chain(&mut self.receiving);
        counts.for_each(|count| count.end_windows(windows.min(FORGOTTEN)));
        let place = |member: u8| usize::from(member) % MAX_MEMBERS;
        let sends = self.sending[place(sender)].add().then_some(sender);
        let receives = inbound.filter(|&inbound| self.receiving[place(inbound)].add());
        sends.into_iter().chain(receives).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(1_000_000 + ms))
    }

    fn suspected(timeouts: &mut Timeouts, ms: u64, sender: u8, inbound: u8) -> Vec<u8> {
        timeouts.count(at(ms), sender, Some(inbound)).iter().collect()
    }

    #[test]
    fn single_timeout_suspects_sender_and_inbound_member() {
        assert_eq!(suspected(&mut Timeouts::default(), 0, 2, 1), [1, 2]);
        assert_eq!(suspected(&mut Timeouts::default(), 0, 1, 1), [1]);
    }

    #[test]
    fn clients_that_vanish_all_the_time_suspect_no_member() {
        let mut timeouts = Timeouts::default();
        for ms in (0..20_000).step_by(10) {
            let suspects = suspected(&mut timeouts, ms, (ms / 10 % 3) as u8, 0);
            assert!(ms < 7000 || suspects.is_empty(), "{suspects:?} at {ms} ms");
        }
        // The connections of one member, each of them once.
        let suspects: Vec<u8> = (0..150).flat_map(|_| suspected(&mut timeouts, 20_000, 1, 0)).collect();
        assert!(suspects.contains(&1) && !suspects.contains(&2), "the member that fails has more than usual");
    }

    #[test]
    fn members_that_fail_together_are_all_suspected() {
        let mut timeouts = Timeouts::default();
        let suspects: MemberSet =
            [0, 1, 2, 0, 1].into_iter().flat_map(|sender| suspected(&mut timeouts, 0, sender, 0)).collect();
        assert_eq!(suspects, MemberSet::from_bits(0b111));
    }

    #[test]
    fn timeouts_of_long_ago_are_forgotten() {
        let mut timeouts = Timeouts::default();
        (0..50).for_each(|_| drop(suspected(&mut timeouts, 0, 1, 0)));
        assert!(suspected(&mut timeouts, 1500, 1, 0).is_empty(), "fifty in the second before");
        assert!(suspected(&mut timeouts, 5000, 1, 0).is_empty(), "fifty a few seconds before");
        assert_eq!(suspected(&mut timeouts, 60_000, 1, 0), [0, 1]);
        (0..1000).for_each(|_| drop(suspected(&mut timeouts, 60_000, 1, 0)));
        assert_eq!(suspected(&mut timeouts, 260_000, 1, 0), [0, 1], "nothing is left");
    }
}
