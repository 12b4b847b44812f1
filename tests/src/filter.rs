//! Classic BPF filters for packet sockets.

use socket2::SockFilter;

use crate::Mac;

// linux/filter.h and linux/bpf_common.h: class, size and mode of each instruction.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;

/// Bytes of a matching frame that are passed: all.
const WHOLE: u32 = 0x4_0000;

const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_ARP: u32 = 0x0806;
const ETHERTYPE_IPV6: u32 = 0x86dd;

fn statement(code: u16, k: u32) -> SockFilter {
    SockFilter::new(code, 0, 0, k)
}

fn jump(code: u16, k: u32, yes: u8, no: u8) -> SockFilter {
    SockFilter::new(code, yes, no, k)
}

fn halves(mac: Mac) -> (u32, u32) {
    let [a, b, c, d, e, f] = mac;
    (u32::from_be_bytes([a, b, c, d]), u32::from(u16::from_be_bytes([e, f])))
}

/// Frames to ff:ff:ff:ff:ff:ff.
pub fn broadcast() -> Vec<SockFilter> {
    to([0xff; 6])
}

/// Frames to one Ethernet address.
pub fn to(mac: Mac) -> Vec<SockFilter> {
    at(0, mac)
}

/// Frames from one Ethernet address.
pub fn from(mac: Mac) -> Vec<SockFilter> {
    at(6, mac)
}

fn at(offset: u32, mac: Mac) -> Vec<SockFilter> {
    let (high, low) = halves(mac);
    vec![
        statement(LOAD_WORD, offset),
        jump(JUMP_EQUAL, high, 0, 3),
        statement(LOAD_HALF, offset + 4),
        jump(JUMP_EQUAL, low, 0, 1),
        statement(RETURN, WHOLE),
        statement(RETURN, 0),
    ]
}

/// Every frame.
pub fn all() -> Vec<SockFilter> {
    vec![statement(RETURN, WHOLE)]
}

/// Frames of one EtherType.
pub fn ethertype(value: u16) -> Vec<SockFilter> {
    vec![
        statement(LOAD_HALF, 12),
        jump(JUMP_EQUAL, u32::from(value), 0, 1),
        statement(RETURN, WHOLE),
        statement(RETURN, 0),
    ]
}

/// UDP packets in IPv4 without options, to one port.
pub fn udp_to(port: u16) -> Vec<SockFilter> {
    vec![
        statement(LOAD_HALF, 12),
        jump(JUMP_EQUAL, ETHERTYPE_IPV4, 0, 5),
        statement(LOAD_BYTE, 23),
        jump(JUMP_EQUAL, 17, 0, 3),
        statement(LOAD_HALF, 36),
        jump(JUMP_EQUAL, u32::from(port), 0, 1),
        statement(RETURN, WHOLE),
        statement(RETURN, 0),
    ]
}

/// ARP, ICMP and ICMPv6.
pub fn control() -> Vec<SockFilter> {
    vec![
        statement(LOAD_HALF, 12),
        jump(JUMP_EQUAL, ETHERTYPE_ARP, 6, 0),
        jump(JUMP_EQUAL, ETHERTYPE_IPV6, 3, 0),
        jump(JUMP_EQUAL, ETHERTYPE_IPV4, 0, 5),
        statement(LOAD_BYTE, 23),
        jump(JUMP_EQUAL, 1, 2, 3),
        statement(LOAD_BYTE, 20),
        jump(JUMP_EQUAL, 58, 0, 1),
        statement(RETURN, WHOLE),
        statement(RETURN, 0),
    ]
}

/// ARP, and neighbour advertisements.
pub fn neighbour_replies() -> Vec<SockFilter> {
    vec![
        statement(LOAD_HALF, 12),
        jump(JUMP_EQUAL, ETHERTYPE_ARP, 5, 0),
        jump(JUMP_EQUAL, ETHERTYPE_IPV6, 0, 5),
        // ICMPv6, type 136
        statement(LOAD_BYTE, 20),
        jump(JUMP_EQUAL, 58, 0, 3),
        statement(LOAD_BYTE, 54),
        jump(JUMP_EQUAL, 136, 0, 1),
        statement(RETURN, WHOLE),
        statement(RETURN, 0),
    ]
}

/// Frames that may contain an Ethernet address: as source, as hardware address of the sender or target of ARP, or in a
/// Neighbour Discovery message (user space must check the options).
pub fn contains(mac: Mac) -> Vec<SockFilter> {
    let (high, low) = halves(mac);
    vec![
        // 0: the Ethernet source
        statement(LOAD_WORD, 6),
        jump(JUMP_EQUAL, high, 0, 2),
        statement(LOAD_HALF, 10),
        jump(JUMP_EQUAL, low, 17, 0),
        // 4: the type of frame
        statement(LOAD_HALF, 12),
        jump(JUMP_EQUAL, ETHERTYPE_ARP, 6, 0),
        jump(JUMP_EQUAL, ETHERTYPE_IPV6, 0, 13),
        // 7: ICMPv6, types 133 to 137
        statement(LOAD_BYTE, 20),
        jump(JUMP_EQUAL, 58, 0, 11),
        statement(LOAD_BYTE, 54),
        jump(JUMP_GREATER, 137, 9, 0),
        jump(JUMP_GREATER, 132, 9, 8),
        // 12: ARP, sender and target hardware address
        statement(LOAD_WORD, 22),
        jump(JUMP_EQUAL, high, 0, 2),
        statement(LOAD_HALF, 26),
        jump(JUMP_EQUAL, low, 5, 0),
        statement(LOAD_WORD, 32),
        jump(JUMP_EQUAL, high, 0, 2),
        statement(LOAD_HALF, 36),
        jump(JUMP_EQUAL, low, 1, 0),
        // 20, 21
        statement(RETURN, 0),
        statement(RETURN, WHOLE),
    ]
}
