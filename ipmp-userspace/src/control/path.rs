//! The packet of `Path`, and the replies to `Path` and `Simulate`, field by field as `net.ipmp.Manager.varlink` documents them.

use std::{fmt, net::IpAddr, str::FromStr};

use ipmp_common::frame::protocol;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::report::Traffic;
use crate::types::{GroupState, HashPolicy, PathRule};

/// Why there is no such packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// IPv4 and IPv6.
    #[error("{0} and {1} are of different families: name two addresses of one family")]
    Families(IpAddr, IpAddr),
    /// One port.
    #[error("a packet has two ports or none: name the source port and the destination port")]
    OnePort,
    /// Ports of a protocol that has none.
    #[error("a packet of {0} has no ports: name none, or tcp, udp or sctp")]
    NoPorts(Protocol),
    /// Ports alone.
    #[error("ports need a protocol: name tcp, udp or sctp")]
    NoProtocol,
    /// Not a protocol.
    #[error("{0:?} is no protocol: name tcp, udp, sctp, icmp or ipv6-icmp, or a number up to 255")]
    Protocol(String),
}

/// An internet protocol. Written by its name in `/etc/protocols`, or as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

const NAMES: [(&str, u8); 5] = [
    ("tcp", protocol::TCP),
    ("udp", protocol::UDP),
    ("sctp", protocol::SCTP),
    ("icmp", protocol::ICMP),
    ("ipv6-icmp", protocol::ICMPV6),
];

impl Protocol {
    /// Whether its packets begin with ports.
    pub fn has_ports(self) -> bool {
        matches!(self.0, protocol::TCP | protocol::UDP | protocol::SCTP)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        named.or_else(|| text.parse().ok()).map(Self).ok_or_else(|| Error::Protocol(text.to_owned()))
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What selects the member of a packet, as far as the client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol.
    pub protocol: Option<Protocol>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
}

impl Packet {
    /// Both ports.
    pub fn ports(&self) -> Option<(u16, u16)> {
        self.source_port.zip(self.destination_port)
    }

    /// Checks that there can be such a packet.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Error> {
        if self.source.is_ipv4() != self.destination.is_ipv4() {
            return Err(Error::Families(self.source, self.destination));
        }
        if self.source_port.is_some() != self.destination_port.is_some() {
            return Err(Error::OnePort);
        }
        match (self.ports(), self.protocol) {
            (Some(_), None) => Err(Error::NoProtocol),
            (Some(_), Some(protocol)) if !protocol.has_ports() => Err(Error::NoPorts(protocol)),
            _ => Ok(()),
        }
    }
}

/// Which member transmits a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathReport {
    /// The group.
    pub group: String,
    /// Its hash policy.
    pub hash: HashPolicy,
    /// What selects the member.
    pub rule: PathRule,
    /// The slot of the flow. `None`: another rule, or the kernel draws a slot for each socket.
    pub slot: Option<u16>,
    /// The member. `None`: none can transmit, or the socket decides.
    pub member: Option<String>,
    /// The members in the order in which they are used for this packet. Empty: the socket decides.
    pub preference: Vec<String>,
    /// The members that a socket may use.
    pub shares: Vec<Share>,
}

/// The slots that lead to a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The member. `None`: none can transmit.
    pub member: Option<String>,
    /// Its slots, of 4096.
    pub slots: u32,
}

/// What moves when the links of members go down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Simulation {
    /// The group.
    pub group: String,
    /// Its hash policy.
    pub hash: HashPolicy,
    /// Its state then.
    pub state: GroupState,
    /// Slots whose member changes.
    pub moved_slots: u32,
    /// Slots that no member can transmit then.
    pub dropped_slots: u32,
    /// The members, in the order in which they joined.
    pub members: Vec<SimulatedMember>,
    /// Roles that move.
    pub roles: Vec<MovedRole>,
}

/// A member in a simulation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatedMember {
    /// Its name.
    pub name: String,
    /// Its link is assumed to be down.
    pub lost: bool,
    /// Slots that lead to it now.
    pub slots: u32,
    /// Slots that lead to it then.
    pub slots_after: u32,
    /// Speed of its link in Mbit/s. `None`: unknown.
    pub speed_mbit: Option<u32>,
    /// Its traffic since it was attached.
    pub traffic: Traffic,
}

/// A role that moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedRole {
    /// The data address whose inbound member changes. `None`: multicast and broadcast.
    pub address: Option<IpAddr>,
    /// The member now.
    pub from: Option<String>,
    /// The member then.
    pub to: Option<String>,
}

/// A packet of TCP.
#[cfg(test)]
pub(crate) fn sample_packet() -> Packet {
    Packet {
        source: [192, 168, 178, 200].into(),
        destination: [192, 168, 178, 22].into(),
        protocol: Some(Protocol(protocol::TCP)),
        source_port: Some(5000),
        destination_port: Some(443),
    }
}

/// A path with every field filled.
#[cfg(test)]
pub(crate) fn sample() -> PathReport {
    PathReport {
        group: "production0".into(),
        hash: HashPolicy::Flow,
        rule: PathRule::Slot,
        slot: Some(2991),
        member: Some("e1000g1".into()),
        preference: ["e1000g1", "rge0", "e1000g0"].map(str::to_owned).into(),
        shares: vec![
            Share { member: Some("e1000g0".into()), slots: 4000 },
            Share { member: None, slots: 96 },
        ],
    }
}

/// A simulation with every field filled.
#[cfg(test)]
pub(crate) fn sample_simulation() -> Simulation {
    let member = |name: &str, lost, slots, slots_after, speed_mbit| SimulatedMember {
        name: name.into(),
        lost,
        slots,
        slots_after,
        speed_mbit,
        traffic: Traffic::default(),
    };
    let (from, to) = (Some("e1000g1".to_owned()), Some("rge0".to_owned()));
    Simulation {
        group: "production0".into(),
        hash: HashPolicy::Connection,
        state: GroupState::Degraded,
        moved_slots: 1365,
        dropped_slots: 0,
        members: vec![
            member("e1000g0", false, 1366, 2049, Some(1000)),
            member("e1000g1", true, 1365, 0, Some(1000)),
            member("rge0", false, 1365, 2047, None),
        ],
        roles: vec![
            MovedRole { address: Some([192, 168, 178, 200].into()), from: from.clone(), to },
            MovedRole { address: None, from, to: None },
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_is_read_as_it_is_written() {
        for (text, number) in NAMES.into_iter().chain([("47", 47), ("255", 255)]) {
            assert_eq!((text.parse(), Protocol(number).to_string()), (Ok(Protocol(number)), text.to_owned()));
        }
        for text in ["", "TCP", "256", "-1"] {
            assert_eq!(text.parse::<Protocol>(), Err(Error::Protocol(text.into())));
        }
    }

    #[test]
    fn packet_without_ports_or_protocol_is_complete_enough() {
        let packet = sample_packet();
        let bare = Packet { source_port: None, destination_port: None, ..packet };
        for good in [packet, bare, Packet { protocol: None, ..bare }] {
            assert_eq!(good.check(), Ok(()));
        }
        assert_eq!(Packet { protocol: None, ..packet }.check(), Err(Error::NoProtocol));
    }
}
