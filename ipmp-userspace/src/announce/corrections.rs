//! Neighbours that send packets for a data address to another member than its inbound member: when they are corrected by a unicast
//! announcement, and which of them have a static entry (docs/announcements.md). The caller passes the time.
//!
//! Any host can forge the MAC of a sender, so the number of neighbours is limited, and so are the corrections
//! ([`Schedule::correct`](super::Schedule::correct)).

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use crate::core::Time;

/// Corrections before a neighbour counts as static.
pub const TRIES: u8 = 3;
/// Least time between two corrections of a neighbour: Linux ignores an update within a second of the last one
/// (`LOCKTIME` in `net/ipv4/arp.c`).
const SPACING: Duration = Duration::from_millis(1100);
/// Most neighbours that are known at a time.
const MOST: usize = 64;
/// A neighbour that was reported so long ago makes room for another one.
const GIVES_WAY: Duration = Duration::from_secs(10);
/// A neighbour that has not been reported for so long has accepted the correction.
const ACCEPTED: Duration = Duration::from_secs(120);
/// The same of one that was static: it may send rarely.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// A neighbour and the data address that it has with the MAC of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stale {
    /// MAC of the neighbour.
    pub mac: [u8; 6],
    /// The VLAN of the group; `None`: in none.
    pub vlan: Option<u16>,
    /// The data address.
    pub address: IpAddr,
}

/// How a report is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not at all.
    Nothing,
    /// By a correction; [`Corrections::corrected`] when it was sent.
    Correct,
    /// It is static now, and was for no other address.
    Static,
}

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    /// The member that has received its packets.
    member: u8,
    /// The MAC that it was corrected to.
    to: [u8; 6],
    tries: u8,
    corrected: Option<Time>,
    reported: Time,
    is_static: bool,
}

/// The neighbours of a group that were reported.
#[derive(Debug, Default)]
pub struct Corrections(BTreeMap<Stale, Neighbour>);

impl Corrections {
    /// A neighbour has sent a packet to this member at this time, while the address has the MAC `to`.
    pub fn report(&mut self, stale: Stale, member: u8, to: [u8; 6], at: Time) -> Answer {
        self.forget(at);
        if !self.0.contains_key(&stale) && !self.has_room(at) {
            return Answer::Nothing;
        }
        let new = Neighbour { member, to, tries: 0, corrected: None, reported: at, is_static: false };
        let known = self.0.entry(stale).or_insert(new);
        known.reported = known.reported.max(at);
        known.member = member;
        if known.is_static {
            return Answer::Nothing;
        }
        if known.to != to {
            // The address has moved since.
            (known.to, known.tries) = (to, 0);
        }
        if known.corrected.is_some_and(|corrected| at < corrected + SPACING) {
            return Answer::Nothing;
        }
        if known.tries < TRIES {
            return Answer::Correct;
        }
        known.is_static = true;
        let of_host = self.0.iter().filter(|(other, known)| other.mac == stale.mac && known.is_static);
        if of_host.count() == 1 { Answer::Static } else { Answer::Nothing }
    }

    /// The neighbour was sent a correction.
    pub fn corrected(&mut self, stale: Stale, now: Time) {
        if let Some(known) = self.0.get_mut(&stale) {
            known.tries += 1;
            known.corrected = Some(now);
        }
    }

    /// The neighbours with a static entry, with the members that receive their packets.
    pub fn statics(&self, now: Time) -> impl Iterator<Item = (Stale, u8)> {
        let is_static = move |known: &Neighbour| known.is_static && now < known.reported + FORGOTTEN;
        self.0.iter().filter(move |(_, known)| is_static(known)).map(|(stale, known)| (*stale, known.member))
    }

    fn forget(&mut self, now: Time) {
        self.0.retain(|_, known| now < known.reported + if known.is_static { FORGOTTEN } else { ACCEPTED });
    }

    /// Whether there is room for another one, or the one that was reported first makes it.
    fn has_room(&mut self, now: Time) -> bool {
        if self.0.len() < MOST {
            return true;
        }
        let others = self.0.iter().filter(|(_, known)| !known.is_static && now > known.reported + GIVES_WAY);
        let oldest = others.min_by_key(|(_, known)| known.reported).map(|(stale, _)| *stale);
        oldest.is_some_and(|oldest| self.0.remove(&oldest).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INBOUND: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn at(milliseconds: u64) -> Time {
        Time(Duration::from_secs(1000) + Duration::from_millis(milliseconds))
    }

    fn stale(mac: u8, last: u8) -> Stale {
        Stale { mac: [4, 0, 0, 0, 0, mac], vlan: None, address: IpAddr::from([192, 168, 178, last]) }
    }

    /// Reports a neighbour, and sends what is to be sent.
    fn report(corrections: &mut Corrections, stale: Stale, to: [u8; 6], time: Time) -> Answer {
        let answer = corrections.report(stale, 0, to, time);
        if answer == Answer::Correct {
            corrections.corrected(stale, time);
        }
        answer
    }

    #[test]
    fn neighbour_that_ignores_three_corrections_is_static_once() {
        let mut corrections = Corrections::default();
        let mut answers = Vec::new();
        for time in (0..6000).step_by(500) {
            let answer = report(&mut corrections, stale(1, 200), INBOUND, at(time));
            if answer != Answer::Nothing {
                answers.push((time, answer));
            }
        }
        use Answer::{Correct, Static};
        assert_eq!(answers, [(0, Correct), (1500, Correct), (3000, Correct), (4500, Static)]);
        let listed: Vec<_> = corrections.statics(at(6000)).collect();
        assert_eq!(listed, [(stale(1, 200), 0)]);

        // Of another address the same, without another event.
        for time in (6000..12_000).step_by(500) {
            assert_ne!(report(&mut corrections, stale(1, 201), INBOUND, at(time)), Answer::Static);
        }
        assert_eq!(corrections.statics(at(12_000)).count(), 2);
        assert_eq!(corrections.statics(at(610_000)).count(), 1, "the first was not reported for ten minutes");
    }

    #[test]
    fn address_that_moves_again_is_corrected_again() {
        let mut corrections = Corrections::default();
        for time in [0, 1100, 2200] {
            assert_eq!(report(&mut corrections, stale(1, 200), INBOUND, at(time)), Answer::Correct);
        }
        for time in [3300, 4400, 5500] {
            assert_eq!(report(&mut corrections, stale(1, 200), [2; 6], at(time)), Answer::Correct);
        }
        assert_eq!(report(&mut corrections, stale(1, 200), [2; 6], at(6600)), Answer::Static);
    }

    #[test]
    fn neighbour_that_accepted_a_correction_is_corrected_anew_later() {
        let mut corrections = Corrections::default();
        for time in (0..10).map(|round| 121_000 * round) {
            assert_eq!(report(&mut corrections, stale(1, 200), INBOUND, at(time)), Answer::Correct);
        }
    }

    #[test]
    fn correction_that_could_not_be_sent_is_no_try() {
        let mut corrections = Corrections::default();
        for time in (0..10_000).step_by(1000) {
            assert_eq!(corrections.report(stale(1, 200), 0, INBOUND, at(time)), Answer::Correct);
        }
    }

    #[test]
    fn forged_senders_take_a_bounded_room_and_make_way() {
        let mut corrections = Corrections::default();
        for mac in 0..=255 {
            report(&mut corrections, stale(mac, 200), INBOUND, at(0));
        }
        assert_eq!(corrections.0.len(), MOST);
        assert_eq!(report(&mut corrections, stale(100, 201), INBOUND, at(5000)), Answer::Nothing);
        assert_eq!(report(&mut corrections, stale(100, 201), INBOUND, at(11_000)), Answer::Correct);
        assert_eq!(corrections.0.len(), MOST);
    }
}
