//! How often a group announces its addresses, and what may be sent through a member.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use crate::core::Time;

/// Announcements of an IPv4 address: five ARP requests.
const TIMES_V4: u8 = 5;
/// Announcements of an IPv6 address: three advertisements (`MAX_NEIGHBOR_ADVERTISEMENT` of RFC 4861).
const TIMES_V6: u8 = 3;
/// What [`Pace::rate`] is counted in: switches count ARP packets by the second.
pub(super) const RATE_TIME: Duration = Duration::from_secs(1);
/// With [`Pace::rate`] unset: the rate through a member with at most this many addresses of a family. ARP inspection shuts a
/// port at 15 a second; the others are left to requests and probes.
pub(super) const FEW: usize = 10;
/// Every address is announced at least this often, however many a member has.
const ROUND: Duration = Duration::from_secs(60);
/// Most corrections through a member in a second: forged senders must not displace announcements.
const CORRECTIONS: usize = 3;
/// Families are counted separately: ARP inspection does not count advertisements.
const FAMILIES: usize = 2;
/// Refreshes of a second or more apart come at multiples of this time, at the same time for all groups: each wake-up costs.
const REFRESH_GRID: Duration = Duration::from_millis(250);

/// How the addresses of a group are announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Most announcements of a family through a member in any second. `None`: `FEW` through a member with few addresses,
    /// else no limit but `BURST`.
    pub rate: Option<u16>,
    /// Announcements of an address that is new or has moved. `None`: `TIMES_V4` and `TIMES_V6`.
    pub count: Option<u8>,
    /// A member with addresses is never silent for longer.
    pub interval: Duration,
    /// Whether new IPv4 addresses are probed for before they are announced first.
    pub detect: bool,
}

impl Default for Pace {
    /// Three frames within 15 s, the shortest ageing time that bridges are configured with: two may be lost.
    fn default() -> Self {
        Self { rate: None, count: None, interval: Duration::from_secs(5), detect: false }
    }
}

impl Pace {
    /// Announcements of this address after it is new or has moved.
    pub(super) fn times(&self, address: IpAddr) -> u8 {
        self.count.unwrap_or(if address.is_ipv4() { TIMES_V4 } else { TIMES_V6 })
    }
}

/// What is announced through a member.
#[derive(Debug, Default)]
pub(super) struct Port {
    /// Number of addresses, by [`family`].
    pub(super) addresses: [usize; FAMILIES],
    /// When the latest frames were sent, by family: as many as the rate needs.
    sent: [VecDeque<Time>; FAMILIES],
    /// Corrections in the last second.
    corrected: Vec<Time>,
    /// ARP probes of regular rounds in the last second that were counted.
    probed: Vec<Time>,
    /// When the last one was sent; before any, since when it has addresses.
    spoke: Time,
}

/// Which family an address is counted as.
pub(super) fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

impl Port {
    /// Nothing was sent yet.
    pub(super) fn new(now: Time) -> Self {
        Self { spoke: now, ..Self::default() }
    }

    /// It has one more address.
    pub(super) fn add(&mut self, address: IpAddr, now: Time) {
        if self.is_unused() {
            self.spoke = now;
        }
        self.addresses[family(address)] += 1;
    }

    /// It has one address less.
    pub(super) fn remove(&mut self, address: IpAddr) {
        self.addresses[family(address)] -= 1;
    }

    pub(super) fn is_unused(&self) -> bool {
        self.addresses == [0; FAMILIES]
    }

    /// Whether it has sent anything in the last second.
    pub(super) fn is_recent(&self, now: Time) -> bool {
        let sent = self.sent.iter().filter_map(|sent| sent.back());
        sent.chain([&self.spoke]).any(|sent| now - *sent < RATE_TIME)
    }

    /// Most frames of a family in a second.
    fn limit(&self, pace: &Pace, family: usize) -> Option<usize> {
        let few = (self.addresses[family] <= FEW).then_some(FEW);
        pace.rate.map(usize::from).or(few)
    }

    /// From when on another frame may be sent; `None`: now.
    pub(super) fn free_at(&self, pace: &Pace, family: usize) -> Option<Time> {
        let limit = self.limit(pace, family)?;
        let sent = &self.sent[family];
        sent.len().checked_sub(limit).map(|excess| sent[excess] + RATE_TIME)
    }

    /// An announcement is sent.
    pub(super) fn record(&mut self, pace: &Pace, family: usize, now: Time) {
        let kept = pace.rate.map_or(FEW, usize::from);
        let sent = &mut self.sent[family];
        sent.push_back(now);
        sent.drain(..sent.len().saturating_sub(kept));
        self.spoke = now;
    }

    /// When one of its addresses is announced again, so that it is not silent and all of them have their turn.
    pub(super) fn refresh_at(&self, pace: &Pace) -> Time {
        let addresses = self.addresses.iter().sum::<usize>().max(1) as u32;
        let interval = pace.interval.min(ROUND / addresses);
        match interval.checked_sub(REFRESH_GRID) {
            Some(rest) if interval >= Duration::from_secs(1) => {
                (self.spoke + rest).next_multiple(REFRESH_GRID)
            }
            _ => self.spoke + interval,
        }
    }

    /// Whether the rate leaves room for a frame of a family.
    pub(super) fn is_free(&self, pace: &Pace, family: usize, now: Time) -> bool {
        self.free_at(pace, family).is_none_or(|free| free <= now)
    }

    /// Counts a frame that not every switch has seen: it does not delay the next refresh.
    fn count(&mut self, pace: &Pace, family: usize, now: Time) {
        let spoke = self.spoke;
        self.record(pace, family, now);
        self.spoke = spoke;
    }

    /// Whether a correction may be sent now; it is counted as sent.
    pub(super) fn correct(&mut self, pace: &Pace, family: usize, now: Time) -> bool {
        self.corrected.retain(|sent| now < *sent + RATE_TIME);
        if self.corrected.len() >= CORRECTIONS || !self.is_free(pace, family, now) {
            return false;
        }
        self.corrected.push(now);
        self.count(pace, family, now);
        true
    }

    /// Whether an ARP probe may be sent now; as far as [`Schedule::count_arp`](super::Schedule::count_arp) says, it is counted as sent.
    pub(super) fn probe(&mut self, pace: &Pace, is_extra: bool, now: Time) -> bool {
        let family = family(Ipv4Addr::UNSPECIFIED.into());
        if is_extra && !self.is_free(pace, family, now) {
            return false;
        }
        let rate = self.limit(pace, family).unwrap_or(FEW);
        self.probed.retain(|sent| now < *sent + RATE_TIME);
        if is_extra || 2 * self.probed.len() < rate {
            if !is_extra {
                self.probed.push(now);
            }
            self.count(pace, family, now);
        }
        true
    }
}
