use super::*;
use proptest::prelude::*;

fn frame(bytes: &mut [u8]) -> Frame {
    let range = bytes.as_mut_ptr_range();
    // SAFETY: the range of a slice that outlives the frame in each test.
    unsafe { Frame::new(range.start as usize, range.end as usize) }
}

fn udp(ports: [u8; 4], flags_and_offset: [u8; 2]) -> Vec<u8> {
    let mut bytes = vec![0; 14];
    bytes.extend([0x45, 0, 0, 28, 0, 1, flags_and_offset[0], flags_and_offset[1], 64, protocol::UDP, 0, 0]);
    bytes.extend([192, 168, 178, 200, 192, 168, 178, 1]);
    bytes.extend(ports);
    bytes.extend([0, 8, 0, 0]);
    bytes
}

#[test]
fn fragments_of_one_datagram_have_the_same_hash() {
    let first = flow_hash(&frame(&mut udp([1, 2, 3, 4], [0x20, 0])), 14, ethertype::IPV4);
    let last = flow_hash(&frame(&mut udp([9, 9, 9, 9], [0, 185])), 14, ethertype::IPV4);
    assert_eq!(first, last);
    let whole = flow_hash(&frame(&mut udp([1, 2, 3, 4], [0x40, 0])), 14, ethertype::IPV4);
    assert_ne!(first, whole, "a packet with don't-fragment has ports");
}

proptest! {
    /// Frames are untrusted: no byte string may cause a read past its end.
    #[test]
    fn random_frames_are_not_read_past_their_end(mut bytes in proptest::collection::vec(any::<u8>(), 0..128), kind in 0..4usize) {
        let frame = frame(&mut bytes);
        let ethertype = [ethertype::IPV4, ethertype::IPV6, ethertype::ARP, ethertype::VLAN][kind];
        let _ = Ethernet::of(&frame);
        let _ = payload(&frame, 14, ethertype);
        let _ = flow_hash(&frame, 14, ethertype);
        let _ = destination_hash(&frame, 14, ethertype);
    }
}
