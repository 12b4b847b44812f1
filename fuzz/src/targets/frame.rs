//! Frames, as ingress and egress read them: no byte past their end, and what counts as the answer to a probe is one to
//! another decoder too. Frames between members, as the daemon reads them.

use etherparse::{Icmpv4Type, Icmpv6Type, LaxSlicedPacket, TransportSlice};
use ipmp::probe::TestFrame;
use ipmp_common::{
    frame::{self, Ethernet, Frame, Payload, ethertype},
    probe::{COOKIE_AT, MARK},
    reply::Reply,
};

use crate::guarded::Guarded;

pub fn run(input: &[u8]) -> bool {
    if let Some(test) = TestFrame::read(input) {
        let written = test.frame();
        assert_eq!((&written[..21], &written[22..42]), (&input[..21], &input[22..42]));
        assert_eq!((input.len(), written.len()), (60, 60.max(14 + test.bytes.min(65_535) as usize)));
        return true;
    }
    let bytes = Guarded::new(input);
    let (start, end) = bytes.bounds();
    // SAFETY: the bytes are readable and writable, and outlive the frame.
    let frame = &unsafe { Frame::new(start, end) };
    let Some(ethernet) = Ethernet::of(frame) else { return false };
    let l3 = ethernet.payload_at();
    let _ = frame::flow_hash(frame, l3, ethernet.ethertype);
    let _ = frame::destination_hash(frame, l3, ethernet.ethertype);
    let _ = frame::is_fragment(frame, l3, ethernet.ethertype);
    if let Some(reply) = Reply::echo(frame, &ethernet) {
        is_echo(input, &reply);
    }
    match frame::payload(frame, l3, ethernet.ethertype) {
        Payload::Arp(packet) => {
            let _ = (packet.speaks_for(), packet.claims());
            if let Some(reply) = Reply::arp(&ethernet, &packet) {
                assert_eq!(ethernet.ethertype, ethertype::ARP);
                assert_eq!(&input[20..22], [0, 2], "a reply");
                assert_eq!(&input[38..42], [0; 4], "without target address");
                assert_eq!(input[22..28], reply.mac.bytes());
            }
            true
        }
        Payload::Nd(message) => {
            let _ = (message.speaks_for(), message.claims());
            if let Some(reply) = Reply::nd(frame, &ethernet, &message) {
                assert_eq!((input[20], input[21], input[54], input[55]), (58, 255, 136, 0));
                assert_eq!(input[58] & 0x40, 0x40, "solicited");
                assert_eq!(input[62..78], reply.from.octets);
                assert!(!reply.mac.is_multicast());
            }
            true
        }
        Payload::Report | Payload::Ip(_) => true,
        Payload::Other | Payload::Truncated => false,
    }
}

/// Whether another decoder sees the same echo reply.
fn is_echo(input: &[u8], reply: &Reply) {
    let packet = LaxSlicedPacket::from_ethernet(input).expect("an Ethernet header");
    let (echo, payload) = match packet.transport.expect("ICMP in IP") {
        TransportSlice::Icmpv4(icmp) => match icmp.icmp_type() {
            Icmpv4Type::EchoReply(echo) => (echo, icmp.payload()),
            other => panic!("{other:?} is taken for an echo reply"),
        },
        TransportSlice::Icmpv6(icmp) => match icmp.icmp_type() {
            Icmpv6Type::EchoReply(echo) => (echo, icmp.payload()),
            other => panic!("{other:?} is taken for an echo reply"),
        },
        other => panic!("{other:?} is taken for ICMP"),
    };
    assert_eq!((echo.id, echo.seq), (reply.identifier, reply.sequence));
    assert_eq!(payload[..COOKIE_AT], MARK);
    assert_eq!(payload[COOKIE_AT..COOKIE_AT + 8], reply.cookie.to_le_bytes());
    assert_eq!(input[6..12], reply.mac.bytes());
}
