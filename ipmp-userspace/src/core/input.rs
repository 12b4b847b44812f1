//! What happens to a group.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipmp_common::steer::MemberSet;

use super::{
    probe::{Proof, TestAddress, segments},
    settings::Settings,
    time::Time,
};
use crate::types::{Family, LinkState};

/// What joins a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Number of the member: free in the group, and in no slot.
    pub member: u8,
    /// Interface name.
    pub name: String,
    /// MAC.
    pub mac: [u8; 6],
    /// MTU in bytes.
    pub mtu: u32,
    /// Share of the slots, relative to the other members' weights; by default its speed in Mbit/s.
    pub weight: u32,
    /// Link when it joined.
    pub link: LinkState,
}

/// What happens to a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// An interface joins the group.
    Joined(Attachment),
    /// An interface that does not exist yet is a member, and absent until it appears.
    Expected(Attachment),
    /// A member leaves the group.
    Left {
        /// The member.
        member: u8,
    },
    /// A member's device was deleted, or moved to another network namespace. The member stays, with all its settings.
    Absent {
        /// The member.
        member: u8,
    },
    /// The device of an absent member is back; its name was reported before.
    Returned {
        /// The member.
        member: u8,
        /// MAC.
        mac: [u8; 6],
        /// MTU in bytes.
        mtu: u32,
        /// Its link.
        link: LinkState,
    },
    /// Netlink reports a member's link, changed or not.
    Link {
        /// The member.
        member: u8,
        /// Its link.
        link: LinkState,
    },
    /// The `live` mask of the datapath. A member leaves it at once when its carrier is lost, and enters it when its link
    /// has been up for `updelay`.
    Live(MemberSet),
    /// Whether a member's ingress program is attached.
    Program {
        /// The member.
        member: u8,
        /// Whether it is attached.
        attached: bool,
    },
    /// A member's MTU.
    Mtu {
        /// The member.
        member: u8,
        /// MTU in bytes.
        mtu: u32,
    },
    /// A member's MAC.
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
    /// The operator takes a member out of service.
    Offline {
        /// The member.
        member: u8,
    },
    /// The operator takes a member out of service once the flows that are active on it are idle, or after this time.
    Drain {
        /// The member.
        member: u8,
        /// The longest time.
        limit: Duration,
    },
    /// The members in transition ([`Member::transition`](super::member::Member::transition)) to which, or from which, flows
    /// are still to move, a moment before [`Input::Deadline`].
    Moving(MemberSet),
    /// The operator puts a member back into service, or ends its drain.
    Online {
        /// The member.
        member: u8,
    },
    /// A data address was added to the group interface.
    AddressAdded(IpAddr),
    /// A data address was removed from the group interface.
    AddressRemoved(IpAddr),
    /// Data addresses were added, with `true`, or removed, in this order: at a cost of one of them, and one per address.
    Addresses(Vec<(IpAddr, bool)>),
    /// The operator chooses the preferred inbound members of addresses, or none. The addresses need not be there yet; they move
    /// at once if that member is active.
    Prefer(Vec<(IpAddr, Option<u8>)>),
    /// The operator changes settings; verdicts stay.
    Settings(Settings),
    /// The operator makes a member a standby, or no longer.
    Standby {
        /// The member.
        member: u8,
        /// Whether it is one.
        standby: bool,
    },
    /// A member's test address.
    TestAddress {
        /// The member.
        member: u8,
        /// In this family.
        family: Family,
        /// The test address now.
        address: TestAddress,
    },
    /// The operator's targets, in both families; none: targets are discovered.
    Targets(Vec<IpAddr>),
    /// Targets that the operator excludes, in both families, whatever their source.
    DisabledTargets(Vec<IpAddr>),
    /// The operator restarts discovery: hosts that answered before are forgotten.
    Discover,
    /// Targets in the routing table. The caller leaves out those that are not on the group's link, and the host's own
    /// addresses.
    Routes {
        /// The family.
        family: Family,
        /// Targets of host routes.
        hosts: Vec<IpAddr>,
        /// Next hops of all other routes.
        routers: Vec<IpAddr>,
        /// The next hop of the default route, of the one that the kernel prefers.
        default: Option<IpAddr>,
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
    /// A requested probe was sent, at the time of this input; or sending failed, and it does not count. A probe that would
    /// have blocked counts as sent: a driver that takes no more packets is a failure.
    Sent {
        /// The member.
        member: u8,
        /// The family.
        family: Family,
        /// Number of the probe.
        sequence: u16,
        /// The random number that its reply must have. `None`: sending failed.
        cookie: Option<u64>,
    },
    /// A possible reply was received on a member.
    Answer {
        /// The member on which it was received.
        member: u8,
        /// Its sender.
        target: IpAddr,
        /// What proves it.
        proof: Proof,
        /// When the kernel received it.
        at: Time,
    },
    /// A control request was answered by ARP or Neighbour Discovery on a member, from the MAC of the target.
    ControlAnswer {
        /// The member.
        member: u8,
        /// The target.
        target: IpAddr,
        /// When the kernel received it.
        at: Time,
    },
    /// A frame that this host may have sent from one member to another one was received.
    TestFrame {
        /// The member on which it was received.
        member: u8,
        /// Its source MAC.
        source: [u8; 6],
        /// The sender that it names.
        from: u8,
        /// The receiver that it names.
        to: u8,
        /// Number of the exchange.
        sequence: u32,
        /// Bytes behind the Ethernet header.
        bytes: u32,
    },
    /// A segment of a TCP connection of this host was not acknowledged in time.
    TcpTimeout {
        /// The member that transmits the connection's segments.
        sender: u8,
        /// The member that receives acknowledgments: the inbound one of the connection's local address.
        inbound: Option<u8>,
        /// When the segment was sent, or later.
        sent: Time,
        /// The other end of the connection.
        remote: SocketAddr,
        /// Its port of this host.
        local_port: u16,
    },
    /// What the TCP connections of this host lost since the previous sweep.
    TcpSegments(segments::Lost),
    /// A member that received many packets receives none any more, while the host transmits through it.
    InboundSilence {
        /// The member.
        member: u8,
        /// When it had received a packet last, or later.
        since: Time,
    },
    /// The deadline of the group has passed. Everything that was received before has been handled.
    Deadline,
}

/// Why a request is refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No other member could transmit.
    #[error("cannot offline {0}: no other functioning interfaces are in its IPMP group")]
    LastFunctioning(String),
    /// The member is offline already.
    #[error("interface {0} is already offline")]
    AlreadyOffline(String),
    /// The member is not offline.
    #[error("interface {0} is not offline")]
    NotOffline(String),
    /// The member is offline because of its MAC.
    #[error("cannot undo-offline {0}: interface has duplicate hardware address")]
    DuplicateMac(String),
}
