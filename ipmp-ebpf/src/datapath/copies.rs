//! Multicast and broadcast that arrives: every member receives a copy, and one of them accepts it. The same code decides in tc and in
//! XDP.

use ipmp_common::{
    frame::{self, Ethernet, Frame, Nd, Payload},
    maps::{AddressKind, Ip, MacKey},
    nd,
    steer::Preference,
};

use crate::{
    arp_nd,
    maps::{addresses, own_macs, steering},
    member,
};

/// The owner of a frame's target address.
pub enum Owner {
    /// The group: a data address, with its inbound list.
    Data(Preference),
    /// This member.
    ThisMember,
    /// Another member.
    OtherMember,
    /// Not this host.
    OtherHost,
}

/// What happens to a copy.
pub enum Decision {
    /// The member itself receives it.
    Pass,
    /// The group receives it.
    Accept,
    /// Our own frame, returned by the network: dropped.
    Reflected,
    /// Another member accepts it: dropped.
    OtherCopy,
}

/// Decides on a frame to a multicast or broadcast MAC that `this` member has received, in the VLAN with this number.
#[inline(always)]
pub fn decide(frame: &Frame, ethernet: &Ethernet, vlan: u32, this: u32) -> Decision {
    // SAFETY: the value is not read.
    if unsafe { own_macs.get(MacKey::from(ethernet.source)) }.is_some() {
        return Decision::Reflected;
    }
    let payload = frame::payload(frame, ethernet.payload_at(), ethernet.ethertype);
    if vlan == 0 {
        remove_claimed(&payload);
    }
    let target = match payload {
        // LLDP, LACP, spanning tree belong to the link.
        Payload::Other | Payload::Truncated => return Decision::Pass,
        _ if vlan != 0 => owner_in_vlan(&payload, vlan),
        Payload::Arp(packet) => owner(&packet.target, this),
        Payload::Nd(Nd { kind: nd::NEIGHBOUR_SOLICITATION, target, .. }) => owner(&target, this),
        // To all nodes: another host has the address that this member is about to use (RFC 4862 section 5.4.4).
        Payload::Nd(Nd { kind: nd::NEIGHBOUR_ADVERTISEMENT, target, .. }) => match owner(&target, this) {
            Owner::ThisMember => Owner::ThisMember,
            _ => Owner::OtherHost,
        },
        Payload::Nd(_) | Payload::Ip(_) | Payload::Report => Owner::OtherHost,
    };
    let list = match target {
        Owner::ThisMember => return Decision::Pass,
        Owner::OtherMember => return Decision::OtherCopy,
        Owner::Data(inbound) => inbound,
        Owner::OtherHost => match steering.get(0) {
            Some(words) => words.cast,
            None => return Decision::Pass,
        },
    };
    if member::select(list) == Some(this) { Decision::Accept } else { Decision::OtherCopy }
}

/// Removes a learnt sender whose address this frame of another host claims.
#[inline(always)]
pub fn remove_claimed(payload: &Payload) {
    match payload {
        Payload::Arp(packet) if packet.claims() => arp_nd::remove_learnt(&packet.speaks_for()),
        Payload::Nd(message) if message.claims() => arp_nd::remove_learnt(&message.speaks_for()),
        _ => {}
    }
}

/// The owner of the address that a request in a VLAN of the group solicits. The cast member accepts everything else there.
#[inline(always)]
fn owner_in_vlan(payload: &Payload, vlan: u32) -> Owner {
    let target = match payload {
        Payload::Arp(packet) => &packet.target,
        Payload::Nd(message) if message.kind == nd::NEIGHBOUR_SOLICITATION => &message.target,
        _ => return Owner::OtherHost,
    };
    arp_nd::inbound_in_vlan(target, vlan).map_or(Owner::OtherHost, Owner::Data)
}

/// The owner of an address, seen from `this` member.
#[inline(always)]
pub fn owner(ip: &Ip, this: u32) -> Owner {
    // SAFETY: the value is copied at once; a concurrent update replaces the whole element.
    match unsafe { addresses.get(ip) } {
        None => Owner::OtherHost,
        Some(address) => match address.kind {
            AddressKind::Data => Owner::Data(address.inbound),
            AddressKind::Test if address.member == this => Owner::ThisMember,
            AddressKind::Test => Owner::OtherMember,
        },
    }
}
