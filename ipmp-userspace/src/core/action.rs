//! What a group wants done.

use std::net::IpAddr;

use ipmp_common::{
    maps::MemberStatus,
    steer::{MemberSet, Preference, SLOTS},
    transition::Usable,
};

use super::{
    cause::Cause,
    event::Event,
    probe::{Via, outcome::FinishedProbe},
};

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the word `usable`.
    SetUsable(Usable),
    /// Write the `reserve` mask: members that must not transmit unless a packet would be lost.
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
        /// The member that received it before.
        from: Option<u8>,
    },
    /// Delete a data address.
    ForgetAddress(IpAddr),
    /// Write a member's state.
    SetState {
        /// The member.
        member: u8,
        /// Its state.
        state: MemberStatus,
    },
    /// Announce that this member's MAC answers for the address: gratuitous ARP or unsolicited NA, the first at once.
    Announce {
        /// The data address.
        address: IpAddr,
        /// Its inbound member.
        member: u8,
    },
    /// Announce every address again from its inbound member, after those that have moved: a member was lost, and
    /// announcements of earlier moves may not have been received.
    AnnounceAll,
    /// Stop announcing an address.
    StopAnnouncing(IpAddr),
    /// Set the carrier of the group interface.
    SetCarrier(bool),
    /// Set the MTU of the group interface.
    SetMtu(u32),
    /// Send a probe, and report it by [`Input::Sent`](super::Input::Sent).
    Probe {
        /// On this member.
        member: u8,
        /// To this target.
        target: IpAddr,
        /// How.
        via: Via,
        /// Its number.
        sequence: u16,
        /// Bytes of its packet; `None`: as small as it can be.
        size: Option<u32>,
        /// It belongs to a burst: not sent if the member's ARP packets would be too many.
        is_extra: bool,
    },
    /// Send an echo request to all hosts, and report each that answers by [`Input::Host`](super::Input::Host).
    FindHosts {
        /// On this member.
        member: u8,
        /// From this test address.
        source: IpAddr,
    },
    /// Send a control request beside an echo request: an ARP request without a sender address, or a neighbour
    /// solicitation, to the MAC of the target.
    Control {
        /// From this member.
        member: u8,
        /// To this target.
        target: IpAddr,
        /// The test address.
        source: IpAddr,
    },
    /// Send a frame from a member to the MAC of another one. What arrives is reported by
    /// [`Input::TestFrame`](super::Input::TestFrame).
    TestFrame {
        /// The sender.
        from: u8,
        /// The receiver.
        to: u8,
        /// Number of the exchange.
        sequence: u32,
        /// Bytes behind the Ethernet header.
        bytes: u32,
    },
    /// Resolve a target's MAC by an ordinary request from a data address, and report it by
    /// [`Input::Neighbour`](super::Input::Neighbour).
    FindNeighbour(IpAddr),
    /// Publish a finished probe to the clients that watch probes
    /// ([`Group::watch_probes`](super::Group::watch_probes)).
    ProbeOver(FinishedProbe),
    /// Report an event and its cause.
    Report(Event, Cause),
}
