//! What a group is told, what it wants done, and what it says.

use std::{net::IpAddr, time::Duration};

use ipmp_common::{
    maps::MemberStatus,
    steer::{MemberSet, Preference, SLOTS},
};

use super::{
    Cause, Event,
    group::Settings,
    probe::{Proof, TestAddress, Via, outcome::FinishedProbe},
};
use crate::types::{Family, LinkState};

/// `CLOCK_MONOTONIC` since boot: the one clock, the same that `bpf_ktime_get_ns` reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

impl std::ops::Add<Duration> for Time {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl std::ops::Sub for Time {
    type Output = Duration;
    /// Time that passed between two moments; zero if the other is later.
    fn sub(self, other: Self) -> Duration {
        self.0.saturating_sub(other.0)
    }
}

/// What joins a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its number: free in the group, and named by no slot.
    pub member: u8,
    /// Interface name, for what is said.
    pub name: String,
    /// MAC.
    pub mac: [u8; 6],
    /// MTU in bytes.
    pub mtu: u32,
    /// Share of the slots it should get, against the other members' weights; by default its speed in Mbit/s.
    pub weight: u32,
    /// Link when it joined.
    pub link: LinkState,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// An interface joins the group.
    Joined(Attachment),
    /// A member leaves it, or its device is gone.
    Left {
        /// The member.
        member: u8,
    },
    /// Netlink reports a member's link; it may be what it was.
    Link {
        /// The member.
        member: u8,
        /// Its link.
        link: LinkState,
    },
    /// The members that the datapath trusts now: `live`. A member leaves it at once when its carrier goes, and
    /// enters it when its link has been good for `updelay`.
    Live(MemberSet),
    /// A member's MTU is now this.
    Mtu {
        /// The member.
        member: u8,
        /// MTU in bytes.
        mtu: u32,
    },
    /// A member's MAC is now this.
    Mac {
        /// The member.
        member: u8,
        /// The MAC.
        mac: [u8; 6],
    },
    /// The operator changes a member's weight.
    Weight {
        /// The member.
        member: u8,
        /// The weight.
        weight: u32,
    },
    /// The operator takes a member out.
    Offline {
        /// The member.
        member: u8,
    },
    /// The operator puts a member back.
    Online {
        /// The member.
        member: u8,
    },
    /// A data address appeared on the group interface.
    AddressAdded(IpAddr),
    /// A data address is gone from the group interface.
    AddressRemoved(IpAddr),
    /// The operator changes how the group behaves; no verdict is lost.
    Settings(Settings),
    /// The operator makes a member a standby, or no longer.
    Standby {
        /// The member.
        member: u8,
        /// Whether it is one.
        standby: bool,
    },
    /// What is known of a member's test address.
    TestAddress {
        /// The member.
        member: u8,
        /// In this family.
        family: Family,
        /// What is known now.
        address: TestAddress,
    },
    /// The targets that the operator names, in both families; none: they are found.
    Targets(Vec<IpAddr>),
    /// The targets that the operator wants left alone, in both families, wherever they come from.
    DisabledTargets(Vec<IpAddr>),
    /// The operator wants hosts looked for anew: those that answered before are forgotten.
    Discover,
    /// What the routing table says of a family now. The caller leaves out what is not on the group's link, and the
    /// host's own addresses.
    Routes {
        /// The family.
        family: Family,
        /// Targets of host routes.
        hosts: Vec<IpAddr>,
        /// Next hops of all other routes.
        routers: Vec<IpAddr>,
    },
    /// A host answered a multicast probe of this group.
    Host(IpAddr),
    /// A target of ARP or ND probes has this MAC.
    Neighbour {
        /// The target.
        address: IpAddr,
        /// Its MAC.
        mac: [u8; 6],
    },
    /// A probe that was asked for has been sent, at the time that is told; or it could not be, and is not counted. One
    /// that would have blocked is told as sent: a driver that takes nothing any more is a failure.
    Sent {
        /// The member.
        member: u8,
        /// The family.
        family: Family,
        /// Number of the probe.
        sequence: u16,
        /// The random number that its answer must bring back. `None`: it could not be sent.
        cookie: Option<u64>,
    },
    /// Something that looks like an answer came in at a member.
    Answer {
        /// The member on which it was received.
        member: u8,
        /// Who sent it.
        target: IpAddr,
        /// What proves it.
        proof: Proof,
        /// When the kernel saw it.
        at: Time,
    },
    /// The deadline that the group asked for has come. Whatever arrived before has been told.
    Deadline,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the `usable` mask.
    SetUsable(MemberSet),
    /// Write the mask of the members in reserve: held down, and to carry before a packet is lost.
    SetReserve(MemberSet),
    /// Write the slots that differ.
    SetSlots(Box<[Preference; SLOTS]>),
    /// Write the cast role.
    SetCast(Preference),
    /// Write a data address's inbound role.
    SetInbound {
        /// The data address.
        address: IpAddr,
        /// Its list.
        inbound: Preference,
    },
    /// Forget a data address.
    ForgetAddress(IpAddr),
    /// Show a member's state.
    SetState {
        /// The member.
        member: u8,
        /// Its state.
        state: MemberStatus,
    },
    /// Tell the network that this member's MAC answers for the address: gratuitous ARP or unsolicited NA, the first
    /// at once.
    Announce {
        /// The data address.
        address: IpAddr,
        /// Its inbound member.
        member: u8,
    },
    /// Stop announcing an address.
    StopAnnouncing(IpAddr),
    /// Set the carrier of the group interface.
    SetCarrier(bool),
    /// Set the MTU of the group interface.
    SetMtu(u32),
    /// Send a probe, and tell [`Input::Sent`].
    Probe {
        /// On this member.
        member: u8,
        /// To this target.
        target: IpAddr,
        /// In this way.
        via: Via,
        /// Its number.
        sequence: u16,
    },
    /// Look for hosts: send an echo request to all hosts, and tell [`Input::Host`] of each that answers.
    FindHosts {
        /// On this member.
        member: u8,
        /// From this test address.
        source: IpAddr,
    },
    /// Find a target's MAC by an ordinary request from a data address, and tell [`Input::Neighbour`].
    FindNeighbour(IpAddr),
    /// Tell whoever watches probes what has become of one ([`Group::watch_probes`](super::Group::watch_probes)).
    ProbeOver(FinishedProbe),
    /// Say it, and what made it happen.
    Report(Event, Cause),
}

/// Why a request is refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody else could carry the traffic.
    #[error("cannot offline {0}: no other functioning interfaces are in its IPMP group")]
    LastFunctioning(String),
    /// It is offline already.
    #[error("interface {0} is already offline")]
    AlreadyOffline(String),
    /// It is not offline.
    #[error("interface {0} is not offline")]
    NotOffline(String),
    /// It is offline because of its MAC.
    #[error("cannot undo-offline {0}: interface has duplicate hardware address")]
    DuplicateMac(String),
}
