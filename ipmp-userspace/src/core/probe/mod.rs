//! Probing: detection of path failures while the link is up (docs/design/probing-and-verdicts.md, docs/reference.md 3).
//!
//! | module | subject |
//! |---|---|
//! | [`prober`] | one member in one family: when it probes, and the results |
//! | [`burst`] | probes that follow a lost one, or evidence, at once |
//! | [`evidence`] | what the traffic of the host shows about members |
//! | [`direction`] | which direction of a failed path has failed |
//! | [`loss`] | how many packets are lost on a path, compared with others |
//! | [`segments`] | how many segments of TCP are lost on a path |
//! | [`history`] | the last probes, their outcomes, and which replies are genuine |
//! | [`outcome`] | reports of finished probes |
//! | [`targets`] | targets of probes |
//! | [`rtt`] | round-trip times |
//! | [`fdt`] | the failure detection time |
//! | [`size`] | the sizes of packets that pass |
//! | [`split`] | targets that only some members reach |
//! | [`verdict`] | whether lost probes are the member's own failure |
//!
//! A member is probed in each family in which it has a test address, by ICMP echo; without one, depending on the group's
//! policy, by ARP or Neighbour Discovery, which need no address. A round is due every fifth of the failure detection time,
//! at an offset in the interval that differs by member and family, and goes to one target, in turn: to the same one for
//! all members in the same interval.
//!
//! | | the reference | here |
//! |---|---|---|
//! | interval | FDT/7, with a jitter of half of it | FDT/5, by chance up to an eighth of it earlier, three eighths while a member loses probes |
//! | a probe is lost | when the next but one is sent | at its own deadline: [`PATIENCE`] or the round-trip time of its target, an interval at most |
//! | a failure is detected | within 4.5 to 6.5 intervals | within FDT, one deadline, and the rounds that are void |
//! | the daemon was delayed | counts as loss | the round is void and counted: neither lost nor answered |
//! | settling after joining | 40 s | [`SETTLE`], or the first reply |
//!
//! The caller must read everything that was received and pass it as [`Input::Answer`](super::Input) with the time at
//! which the kernel received it, *before* it passes [`Input::Deadline`](super::Input), at which probes are judged. It draws
//! the cookies, and passes each probe that it sent with the time from before it was sent.

pub mod burst;
pub mod direction;
pub mod evidence;
pub mod fdt;
pub mod history;
pub mod loss;
pub mod outcome;
pub mod prober;
pub mod rtt;
pub mod segments;
pub mod size;
pub mod split;
pub mod targets;
pub mod verdict;

use crate::types::{Family, ProbeMethod, ProbePolicy, network::is_in};
use std::{net::IpAddr, time::Duration};

/// Consecutive losses that are a failure (docs/reference.md 0.4).
pub const FAILURES: u32 = 5;
/// Consecutive losses after which a control request by ARP or Neighbour Discovery is sent with each echo request: an answer
/// shows that the path is good and the target, or what limits it, drops echo requests.
pub const CONTROLLED: u32 = 2;
/// How long a target is unreliable after it was found to be.
pub const DOUBT: Duration = Duration::from_secs(60);
/// Consecutive replies that are a repair.
pub const REPAIRS: u32 = 10;
/// Minimum time for a reply.
pub const PATIENCE: Duration = Duration::from_millis(2);
/// Time after a member has joined in which its lost probes do not count, unless one was answered before: a switch may
/// block a new port.
pub const SETTLE: Duration = Duration::from_secs(10);
/// Time without a test address after which that is reported (docs/reference.md 0.4).
pub const GRACE: Duration = Duration::from_secs(20);
/// Time for the resolution of a target's MAC, in which no probe is sent or counted. Afterwards probes are lost.
pub const RESOLVE: Duration = Duration::from_secs(1);
/// Interval of ordinary ARP or ND requests for a target whose MAC is unknown.
pub const FIND: Duration = Duration::from_secs(5);
/// Minimum interval of reports of missed rounds.
pub const QUIET: Duration = Duration::from_secs(60);
/// Minimum interval of multicast discovery.
pub const DISCOVER: Duration = Duration::from_secs(1);

/// A member's test address in a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TestAddress {
    /// None is configured.
    #[default]
    None,
    /// One is configured, but missing now: a DHCP client has not obtained it yet, or its lease expired.
    Awaited,
    /// Present.
    Is {
        /// The address.
        address: IpAddr,
        /// Prefix length of its subnet: targets are in it.
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
        /// Prefix length of its subnet.
        prefix: u8,
    },
    /// By ARP requests without a sender address.
    Arp,
    /// By neighbour solicitations.
    Nd,
}

impl ProbeSource {
    /// How a member is probed in a family under a policy. Not at all while its test address is awaited.
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
            Self::Echo { source, prefix } => source != target && is_in(target, (source, prefix)),
            Self::Arp | Self::Nd => true,
        }
    }
}

/// What proves that a reply is genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Of an echo reply: the contents of the request.
    Echo {
        /// Number of the probe.
        sequence: u16,
        /// Random number of the probe.
        cookie: u64,
    },
    /// Of an ARP reply or a neighbour advertisement, which return nothing of the request: the sender's MAC.
    Mac([u8; 6]),
}

/// How a probe is sent.
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
    fn policy_applies_only_without_test_address() {
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
    fn targets_are_in_subnet_of_test_address() {
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
