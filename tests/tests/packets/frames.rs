//! Frames, byte by byte: written here from the RFCs, with nothing of the programs' own code.

pub use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{PacketBuilder, checksum::Sum16BitWords};
pub use lab::Mac;

/// The group interface.
pub const GROUP_MAC: Mac = [2, 0, 0, 0, 0, 9];
/// A host on the link.
pub const PEER_MAC: Mac = [2, 0, 0, 0, 2, 1];
/// Broadcast.
pub const BROADCAST: Mac = [0xff; 6];

/// The MAC of a member.
pub fn member_mac(member: u8) -> Mac {
    [2, 0, 0, 0, 1, member]
}

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const VLAN: u16 = 0x8100;
pub const QINQ: u16 = 0x88a8;
pub const IPV6: u16 = 0x86dd;
pub const LLDP: u16 = 0x88cc;

pub const NO_MAC: Mac = [0; 6];

/// An Ethernet frame.
pub fn ethernet(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes(), payload].concat()
}

/// An untagged frame with an 802.1Q tag put in.
pub fn tagged(frame: &[u8], kind: u16, vlan: u16) -> Vec<u8> {
    [&frame[..12], &kind.to_be_bytes(), &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// The same frame from another MAC.
pub fn with_source(frame: &[u8], mac: Mac) -> Vec<u8> {
    [&frame[..6], &mac, &frame[12..]].concat()
}

/// The same frame to another MAC.
pub fn with_destination(frame: &[u8], mac: Mac) -> Vec<u8> {
    [&mac, &frame[6..]].concat()
}

/// The MAC that a multicast group address of IP has on Ethernet (RFC 1112, RFC 2464).
pub fn multicast_mac4(address: Ipv4Addr) -> Mac {
    let [_, b, c, d] = address.octets();
    [1, 0, 0x5e, b & 0x7f, c, d]
}

/// The same for IPv6.
pub fn multicast_mac6(address: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = address.octets();
    [0x33, 0x33, a, b, c, d]
}

/// The solicited-node multicast address (RFC 4291).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// UDP over IPv4.
pub fn udp4(source: Ipv4Addr, destination: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        .udp(ports.0, ports.1)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

/// TCP over IPv4: a SYN, then whatever follows in its flow.
pub fn tcp4(source: Ipv4Addr, destination: Ipv4Addr, ports: (u16, u16), sequence: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
        .tcp(ports.0, ports.1, sequence, 0xffff)
        .write(&mut packet, &sequence.to_be_bytes())
        .unwrap();
    packet
}

/// UDP over IPv6.
pub fn udp6(source: Ipv6Addr, destination: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(source.octets(), destination.octets(), 64)
        .udp(ports.0, ports.1)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

/// TCP over IPv6.
pub fn tcp6(source: Ipv6Addr, destination: Ipv6Addr, ports: (u16, u16), sequence: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(source.octets(), destination.octets(), 64)
        .tcp(ports.0, ports.1, sequence, 0xffff)
        .write(&mut packet, &sequence.to_be_bytes())
        .unwrap();
    packet
}

/// An IPv4 packet of any protocol. `fragment` is the word of flags and offset.
pub fn ip4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let [f0, f1] = fragment.to_be_bytes();
    let mut header = [0x45, 0, length[0], length[1], 0x12, 0x34, f0, f1, 64, protocol, 0, 0].to_vec();
    header.extend(source.octets());
    header.extend(destination.octets());
    // The sum is folded in memory order, so its bytes go out as they are.
    let check = Sum16BitWords::new().add_slice(&header).ones_complement();
    header[10..12].copy_from_slice(&check.to_ne_bytes());
    [header, payload.to_vec()].concat()
}

/// ICMP echo in IPv4, of an identifier and a sequence number.
pub fn echo4(
    kind: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    number: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let mut message =
        [&[kind, 0, 0, 0], &number.0.to_be_bytes()[..], &number.1.to_be_bytes(), payload].concat();
    let check = Sum16BitWords::new().add_slice(&message).ones_complement();
    message[2..4].copy_from_slice(&check.to_ne_bytes());
    ip4(1, source, destination, 0, &message)
}

/// The same in IPv6.
pub fn echo6(
    kind: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    number: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let body = [&number.0.to_be_bytes()[..], &number.1.to_be_bytes(), payload].concat();
    ip6(58, 64, source, destination, &icmp6(kind, source, destination, &body))
}

/// An IPv6 packet of any next header.
pub fn ip6(next: u8, hop_limit: u8, source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, hop_limit];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// An ARP packet (RFC 826), without the padding that Ethernet wants.
pub fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(sender.0);
    packet.extend(sender.1.octets());
    packet.extend(target.0);
    packet.extend(target.1.octets());
    packet
}

/// The checksum of an ICMPv6 message (RFC 4443 section 2.3), over all of it.
pub fn icmp6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let mut without = message.to_vec();
    without[2..4].fill(0);
    Sum16BitWords::new()
        .add_16bytes(source.octets())
        .add_16bytes(destination.octets())
        .add_4bytes((message.len() as u32).to_be_bytes())
        .add_4bytes([0, 0, 0, 58])
        .add_slice(&without)
        .ones_complement()
        .to_be()
}

/// An ICMPv6 message with its checksum.
pub fn icmp6(kind: u8, source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0], body].concat();
    let check = icmp6_checksum(source, destination, &message);
    message[2..4].copy_from_slice(&check.to_be_bytes());
    message
}

/// ICMPv6 in IPv6, with a hop limit that Neighbour Discovery accepts.
pub fn icmp6_packet(kind: u8, source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> Vec<u8> {
    ip6(58, 255, source, destination, &icmp6(kind, source, destination, body))
}

/// Whether the frame, untagged ICMPv6, has the checksum that it should have.
pub fn has_right_checksum(frame: &[u8]) -> bool {
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    let message = &frame[54..];
    icmp6_checksum(address(22), address(38), message).to_be_bytes() == message[2..4]
}

/// Source link-layer address option.
pub fn source_option(mac: Mac) -> Vec<u8> {
    [&[1, 1], &mac[..]].concat()
}

/// Target link-layer address option.
pub fn target_option(mac: Mac) -> Vec<u8> {
    [&[2, 1], &mac[..]].concat()
}

/// MTU option, 1500.
pub fn mtu_option() -> Vec<u8> {
    vec![5, 1, 0, 0, 0, 0, 5, 220]
}

/// Prefix information option for 2001:db8:x::/64.
pub fn prefix_option(x: u8) -> Vec<u8> {
    let mut option = vec![3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0];
    option.extend([0x20, 1, 0x0d, 0xb8, 0, x, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    option
}

/// Neighbour Solicitation for a target.
pub fn solicitation(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    options: &[Vec<u8>],
) -> Vec<u8> {
    let body = [&[0; 4], &target.octets()[..], &options.concat()].concat();
    icmp6_packet(135, source, destination, &body)
}

/// Solicited and override flags of an advertisement.
pub const SOLICITED: u8 = 0x60;
/// The override flag alone.
pub const UNSOLICITED: u8 = 0x20;

/// Neighbour Advertisement.
pub fn advertisement(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    flags: u8,
    options: &[Vec<u8>],
) -> Vec<u8> {
    let body = [&[flags, 0, 0, 0], &target.octets()[..], &options.concat()].concat();
    icmp6_packet(136, source, destination, &body)
}

/// Router Solicitation.
pub fn router_solicitation(source: Ipv6Addr, options: &[Vec<u8>]) -> Vec<u8> {
    icmp6_packet(133, source, ALL_ROUTERS, &[&[0; 4][..], &options.concat()].concat())
}

/// Router Advertisement.
pub fn router_advertisement(source: Ipv6Addr, options: &[Vec<u8>]) -> Vec<u8> {
    let head = [64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    icmp6_packet(134, source, ALL_NODES, &[&head[..], &options.concat()].concat())
}

/// Redirect of a destination to a better first hop.
pub fn redirect(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    about: Ipv6Addr,
    options: &[Vec<u8>],
) -> Vec<u8> {
    let body = [&[0; 4], &target.octets()[..], &about.octets(), &options.concat()].concat();
    icmp6_packet(137, source, destination, &body)
}

pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
pub const MLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
pub const IGMP_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

/// An IGMPv3 report of one group, with the router alert (RFC 3376).
pub fn igmp_report(source: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x46, 0xc0, 0, 40, 0, 0, 0x40, 0, 1, 2, 0, 0];
    packet.extend(source.octets());
    packet.extend(IGMP_ROUTERS.octets());
    packet.extend([0x94, 4, 0, 0]);
    packet.extend([0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3]);
    packet
}

/// An MLD message behind the hop-by-hop header with the router alert (RFC 3810).
pub fn mld(kind: u8, source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> Vec<u8> {
    let message = icmp6(kind, source, destination, body);
    let hop_by_hop = [58, 0, 5, 2, 0, 0, 1, 0];
    ip6(0, 1, source, destination, &[&hop_by_hop, &message[..]].concat())
}

/// An MLDv2 report of one group.
pub fn mld_report(source: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 1, 4, 0, 0, 0];
    body.extend(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x123).octets());
    mld(143, source, MLD_ROUTERS, &body)
}
