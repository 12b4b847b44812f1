//! How many segments the TCP connections of the host lose on the path of each member: far more results than probes have.
//!
//! Sweeps list the connections with their counters ([`Sweeps`]). What a connection sent again between two sweeps, without what the other end received twice,
//! was lost. The connections of a member are compared with those of others to the same destination, an IPv4 /24 or an IPv6 /64:
//! what is lost behind the members, in the access network of a client, is lost on all of them.
//!
//! Segments of one connection are lost together, and one connection may lose many for as long as it exists. So the number of
//! segments does not tell how sure a share is; the difference between connections does. They are in sixteen parts, each in the same one
//! always, and the variance of the share is computed from the shares of the parts (random groups; K. M. Wolter, "Introduction to
//! Variance Estimation", 2007, chapter 2). The share counts as one of so many independent segments as have that variance (design
//! effect; L. Kish, "Survey Sampling", 1965).

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipmp_common::steer::{MAX_MEMBERS, MemberSet};

use super::loss::{CONFIDENCE, Compared, Comparison, Count, WINDOWS, Windows};
use crate::{core::Time, types::LossEvidence};

/// Time between two sweeps.
pub const SWEEP: Duration = Duration::from_secs(10);
/// A power of two.
const PARTS: usize = 16;
/// Parts that must have a connection: fewer do not show how connections differ.
const LEAST_PARTS: usize = 6;
/// A connection that sends more segments between two sweeps counts as one that sends so many.
const MOST_SEGMENTS: f64 = 100.0;

/// What the connections of a member lost, compared with those of others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Segments([Comparison; PARTS]);

impl Segments {
    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(part, other)| part.merge(other));
    }

    /// As many independent segments as show the same; `None`: of too few connections.
    pub fn count(&self) -> Option<Count> {
        Some(self.sum().own().by_fewer(self.effect()?))
    }

    fn sum(&self) -> Comparison {
        let mut sum = Comparison::default();
        self.0.into_iter().for_each(|part| sum.merge(part));
        sum
    }

    /// How many times as large as that of independent segments the variance of the share is; `None`: of too few connections.
    fn effect(&self) -> Option<f64> {
        let parts = || self.0.iter().map(Comparison::own).filter(|own| own.sent > 0.0);
        let count = parts().count();
        if count < LEAST_PARTS {
            return None;
        }
        let (whole, count) = (self.sum().own(), count as f64);
        let share = whole.share();
        let independent = share * (1.0 - share) / whole.sent;
        if independent <= 0.0 {
            return Some(1.0);
        }
        let squares: f64 = parts().map(|part| (part.lost - share * part.sent).powi(2)).sum();
        let variance = count / (count - 1.0) * squares / whole.sent.powi(2);
        // A variance from few parts is itself an estimate.
        let student = student(CONFIDENCE, count - 1.0) / CONFIDENCE;
        Some((variance / independent * student * student).max(1.0))
    }
}

/// The quantile of Student's t-distribution for that of the normal one: the expansion of Cornish and Fisher (Abramowitz and Stegun,
/// 26.7.5).
fn student(z: f64, degrees: f64) -> f64 {
    z + (z.powi(3) + z) / (4.0 * degrees)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * degrees.powi(2))
        + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * degrees.powi(3))
}

/// Compares a member with others over each of [`WINDOWS`].
pub fn compare(now: Time, own: &Windows<Segments>, others: &[&Windows<Segments>]) -> Vec<Compared> {
    let of_window = |(window, length)| {
        let sum = |windows: &Windows<Segments>| {
            let mut sum = Segments::default();
            windows.values(now, window).for_each(|(_, value)| sum.add(&value));
            sum
        };
        let own = sum(own);
        let effect = own.effect()?;
        let others = others.iter().map(|other| sum(other));
        let others = others.filter_map(|other| {
            let effect = other.effect()?;
            Some((effect, other.sum().own().by_fewer(effect).bounds(CONFIDENCE).0))
        });
        let (most, best) = others.reduce(|one, other| (one.0.max(other.0), one.1.min(other.1)))?;
        let with = own.sum().by_fewer(effect, most);
        Some(Compared { of: LossEvidence::Segments, window: length, with, best })
    };
    WINDOWS.into_iter().enumerate().filter_map(of_window).collect()
}

/// A connection, as a sweep found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Number of the group that transmits it.
    pub group: u32,
    /// The member that does.
    pub member: u8,
    /// Its hash.
    pub hash: u32,
    /// Its remote address.
    pub remote: IpAddr,
    /// Segments with data since its beginning, repeated ones included.
    pub sent: u32,
    /// Segments that were sent again.
    pub retransmitted: u32,
    /// Segments that the other end received twice.
    pub duplicates: u32,
}

impl Connection {
    /// What it sent and lost since an earlier sweep. `None`: nothing, or another member transmitted some of it. A new hash is another path
    /// in the network behind the members, too.
    fn since(&self, before: &Self) -> Option<Count> {
        let path = |of: &Self| (of.group, of.member, of.hash);
        let sent = self.sent.checked_sub(before.sent)?;
        let again = self.retransmitted.checked_sub(before.retransmitted)?;
        let twice = self.duplicates.checked_sub(before.duplicates)?;
        if path(self) != path(before) || sent == 0 {
            return None;
        }
        let count = Count { sent: sent.into(), lost: again.saturating_sub(twice).min(sent).into() };
        Some(count.by_fewer((count.sent / MOST_SEGMENTS).max(1.0)))
    }
}

/// The part of a connection, by its cookie.
fn part(cookie: u64) -> usize {
    (cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % PARTS
}

/// The destination of a connection.
fn destination(remote: IpAddr) -> IpAddr {
    match remote {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// What the members of a group lost, by number.
pub type Lost = BTreeMap<u8, Segments>;

/// Sweeps over the connections, each compared with the one before.
#[derive(Debug, Default)]
pub struct Sweeps {
    before: HashMap<u64, Connection>,
}

impl Sweeps {
    /// What the connections, by their cookies, lost since the previous sweep, by group. Members are compared with those members of their
    /// groups that `peers` contains.
    pub fn compare(
        &mut self,
        found: HashMap<u64, Connection>,
        peers: impl Fn(u32) -> MemberSet,
    ) -> BTreeMap<u32, Lost> {
        let since = |(cookie, connection): (&u64, &Connection)| {
            let count = connection.since(self.before.get(cookie)?)?;
            Some((
                (connection.group, destination(connection.remote)),
                connection.member,
                part(*cookie),
                count,
            ))
        };
        // Sorted by destination: as many entries as connections, where most clients have few.
        let mut counts: Vec<_> = found.iter().filter_map(since).collect();
        counts.sort_unstable_by_key(|(destination, ..)| *destination);
        self.before = found;
        let mut lost = BTreeMap::<u32, Lost>::new();
        for counts in counts.chunk_by(|one, other| one.0 == other.0) {
            let mut members = [Count::default(); MAX_MEMBERS];
            for (_, member, _, count) in counts {
                members[usize::from(*member) % MAX_MEMBERS].add(*count);
            }
            let group = counts[0].0.0;
            let peers = peers(group);
            for (_, member, part, count) in counts {
                let mut others = Count::default();
                for other in peers.without(*member).iter() {
                    others.add(members[usize::from(other)]);
                }
                if others.sent > 0.0 {
                    let lost = lost.entry(group).or_default().entry(*member).or_default();
                    lost.0[*part].add_part(*count, members[usize::from(*member) % MAX_MEMBERS], others);
                }
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests;
