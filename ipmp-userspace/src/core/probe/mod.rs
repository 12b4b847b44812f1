//! Probing: whether what lies behind a lit cable is alive (reference 3, with the decisions of ours below).
//!
//! | module | what |
//! |---|---|
//! | [`prober`] | one member in one family: when it probes, and what has become of it |
//! | [`history`] | the last probes, what became of each, and which answers are believed |
//! | [`outcome`] | what is told of a probe that is over |
//! | [`targets`] | whom it probes |
//! | [`rtt`] | how long a target takes |
//! | [`fdt`] | how long a failure may go unnoticed |
//! | [`verdict`] | whose failure a lost probe is |
//!
//! A member is probed in each family in which it has a test address, by ICMP echo; without one, where the group's
//! [`ProbePolicy`] says so, by ARP or Neighbour Discovery, which need no address. A round comes every fifth of the failure
//! detection time, at a place of its own in the interval for each member and family, and goes to one target, in turn:
//! to the same one for all members in the same interval.
//!
//! | | the reference | here |
//! |---|---|---|
//! | interval | FDT/7, jittered by half | FDT/5, as even as the caller's clock |
//! | a probe is lost | when the next but one is sent | at its own deadline, [`PATIENCE`] or what its target takes, an interval at most |
//! | a failure is seen | within 4.5 to 6.5 intervals | within FDT, one deadline, and the rounds that are void |
//! | woken late | the wire is to blame | the round is void and counted: neither lost nor answered |
//! | settling after joining | 40 s | [`SETTLE`], or the first answer |
//!
//! What the caller owes: it reads everything that has arrived, and tells it as [`Input::Answer`](super::Input) with the
//! time at which the kernel saw it, *before* it tells [`Input::Deadline`](super::Input), at which probes are judged. It
//! draws the cookies, and tells of each probe that it sent with the time from before it was sent.

pub mod fdt;
pub mod history;
pub mod outcome;
pub mod prober;
pub mod rtt;
pub mod targets;
pub mod verdict;

use crate::types::{Family, ProbeMethod, ProbePolicy};
use std::{net::IpAddr, time::Duration};

/// So many probes lost in a row are a failure (reference 0.4).
pub const FAILURES: u32 = 5;
/// So many answered in a row are a repair.
pub const REPAIRS: u32 = 10;
/// The least time that an answer has.
pub const PATIENCE: Duration = Duration::from_millis(2);
/// How long after a member has joined its lost probes are not held against it, unless it was answered before: a switch
/// may keep a new port shut.
pub const SETTLE: Duration = Duration::from_secs(10);
/// How long a member may be without a test address until that is said (reference 0.4).
pub const GRACE: Duration = Duration::from_secs(20);
/// How often a target that nobody can reach is asked for by ordinary ARP or Neighbour Discovery.
pub const FIND: Duration = Duration::from_secs(5);
/// How often it is said at most that rounds were missed.
pub const QUIET: Duration = Duration::from_secs(60);
/// How often hosts are looked for by multicast, where the interval is shorter.
pub const DISCOVER: Duration = Duration::from_secs(1);

/// What is known of a member's test address in a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TestAddress {
    /// It has none, and is to have none.
    #[default]
    None,
    /// It is to have one, and has none now: a DHCP client has not brought it yet, or has lost it.
    Awaited,
    /// It has this one.
    Is {
        /// The address.
        address: IpAddr,
        /// Length of its subnet's prefix: targets are looked for in it.
        prefix: u8,
    },
}

/// How a member is probed in a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeSource {
    /// By ICMP echo from its test address.
    Echo {
        /// The test address.
        source: IpAddr,
        /// Length of its subnet's prefix.
        prefix: u8,
    },
    /// By ARP requests without a sender address.
    Arp,
    /// By neighbour solicitations.
    Nd,
}

impl ProbeSource {
    /// How a member is probed in a family under a policy. A test address that is not there yet is waited for.
    pub fn of(family: Family, address: TestAddress, policy: ProbePolicy) -> Option<Self> {
        match (address, family, policy) {
            (TestAddress::Is { address, prefix }, ..) => Some(Self::Echo { source: address, prefix }),
            (TestAddress::Awaited, ..) => None,
            (TestAddress::None, Family::V4, ProbePolicy::Auto | ProbePolicy::Arp) => Some(Self::Arp),
            (TestAddress::None, Family::V6, ProbePolicy::Auto | ProbePolicy::Nd) => Some(Self::Nd),
            (TestAddress::None, ..) => None,
        }
    }

    /// The method, without its data.
    pub fn method(self) -> ProbeMethod {
        match self {
            Self::Echo { .. } => ProbeMethod::Echo,
            Self::Arp => ProbeMethod::Arp,
            Self::Nd => ProbeMethod::Nd,
        }
    }

    /// Whether it can reach a target: one of another subnet would need a route, and a test address has none. Without
    /// a test address the caller names only targets on the group's own link.
    pub fn reaches(self, family: Family, target: IpAddr) -> bool {
        if Family::of(target) != family {
            return false;
        }
        match self {
            Self::Echo { source, prefix } => source != target && same_subnet(source, target, prefix),
            Self::Arp | Self::Nd => true,
        }
    }
}

/// Whether two addresses are in one subnet.
pub(crate) fn same_subnet(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let (one, other, bits) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    let differ: u128 = one ^ other;
    differ.checked_shr(bits - u32::from(prefix).min(bits)).unwrap_or(0) == 0
}

/// What proves an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Of an echo: what was in the request.
    Echo {
        /// Number of the probe.
        sequence: u16,
        /// Its cookie.
        cookie: u64,
    },
    /// Of an ARP reply or a neighbour advertisement, which give nothing back: who sent it.
    Mac([u8; 6]),
}

/// Where a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// An ICMP echo request from this address.
    Echo(IpAddr),
    /// An ARP request without a sender address, to this MAC.
    Arp([u8; 6]),
    /// A neighbour solicitation to this MAC.
    Nd([u8; 6]),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_test_address_is_probed_from_and_a_policy_is_for_those_without() {
        let has = TestAddress::Is { address: ip("192.168.1.5"), prefix: 24 };
        let echo = Some(ProbeSource::Echo { source: ip("192.168.1.5"), prefix: 24 });
        for (policy, v4, v6) in [
            (ProbePolicy::Off, None, None),
            (ProbePolicy::Auto, Some(ProbeSource::Arp), Some(ProbeSource::Nd)),
            (ProbePolicy::Arp, Some(ProbeSource::Arp), None),
            (ProbePolicy::Nd, None, Some(ProbeSource::Nd)),
        ] {
            assert_eq!(ProbeSource::of(Family::V4, has, policy), echo, "{policy:?}");
            assert_eq!(ProbeSource::of(Family::V4, TestAddress::Awaited, policy), None, "{policy:?}");
            assert_eq!(ProbeSource::of(Family::V4, TestAddress::None, policy), v4, "{policy:?}");
            assert_eq!(ProbeSource::of(Family::V6, TestAddress::None, policy), v6, "{policy:?}");
        }
    }

    #[test]
    fn targets_are_in_the_subnet_of_the_test_address() {
        for (source, prefix, target, reached) in [
            ("192.168.1.5", 24, "192.168.1.1", true),
            ("192.168.1.5", 24, "192.168.2.1", false),
            ("192.168.1.5", 24, "192.168.1.5", false),
            ("192.168.1.5", 0, "8.8.8.8", true),
            ("192.168.1.5", 32, "192.168.1.4", false),
            ("192.168.1.5", 24, "fe80::1", false),
            ("fe80::5", 64, "fe80::1", true),
            ("2001:db8::5", 64, "fe80::1", false),
            ("2001:db8::5", 0, "fe80::1", true),
            ("2001:db8::5", 128, "2001:db8::4", false),
        ] {
            let means = ProbeSource::Echo { source: ip(source), prefix };
            assert_eq!(
                means.reaches(Family::of(ip(source)), ip(target)),
                reached,
                "{source}/{prefix}, {target}"
            );
        }
        assert!(ProbeSource::Arp.reaches(Family::V4, ip("10.0.0.1")));
        assert!(!ProbeSource::Arp.reaches(Family::V4, ip("fe80::1")));
    }
}
