//! Frames between members: which direction of a failed path has failed ([`core::probe::direction`](crate::core::probe::direction)),
//! and whether frames of full size pass.
//!
//! | bytes | content |
//! |---|---|
//! | 0 to 13 | Ethernet: the MAC of the receiver, that of the sender, type 0x88B5 (IEEE 802, local experiments) |
//! | 14 to 17 | `ipmp` |
//! | 18 | version: 1 |
//! | 19, 20 | numbers of the sending and the receiving member |
//! | 21 | 0 |
//! | 22 to 25 | index of the group |
//! | 26 to 29 | number of the exchange |
//! | 30 to 37 | random number of the daemon |
//! | 38 to 41 | bytes behind the Ethernet header |
//! | 42 to the end | 0 |
//!
//! Numbers have network order. The kernel drops what has another length than it says, mark, version or random number, so frames of other hosts do
//! not even wake the daemon. The state machine checks the rest.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use nix::libc;
use socket2::{Domain, SockFilter, Socket, Type};

use crate::{
    announce::sender::{link_layer, receive},
    link::Mac,
};

/// The type of the frames: OUI Extended EtherTypes for local experiments (IEEE 802, 9.2.3.2).
pub const ETHERTYPE: u16 = 0x88b5;
const MARK: [u8; 4] = *b"ipmp";
const VERSION: u8 = 1;
/// Bytes of the shortest frame without its checksum, the least that Ethernet has: what is read of each.
pub const LENGTH: usize = 60;
/// Bytes of the Ethernet header.
const HEADER: u32 = 14;
/// Where the number of bytes behind the header is.
const BYTES_AT: u32 = 38;
/// Bytes behind the Ethernet header at most: no interface has a larger MTU.
const MOST: u32 = 65535;
/// Frames read at once: more wait for the next turn of the event loop.
const AT_ONCE: usize = 64;

// linux/filter.h: class, size and mode of each instruction.
const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE: u16 = 0x30;
const LOAD_LENGTH: u16 = 0x80;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_EQUAL_INDEX: u16 = 0x1d;
const ADD: u16 = 0x04;
const TO_INDEX: u16 = 0x07;
const RETURN: u16 = 0x06;
/// `SKF_AD_OFF + SKF_AD_PKTTYPE`: whether the frame is for this host.
const PACKET_TYPE: u32 = 0xffff_f004;

/// A frame from one member to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestFrame {
    /// MAC of the receiver.
    pub destination: Mac,
    /// MAC of the sender.
    pub source: Mac,
    /// The sender.
    pub from: u8,
    /// The receiver.
    pub to: u8,
    /// Index of the group.
    pub group: u32,
    /// Number of the exchange.
    pub sequence: u32,
    /// Bytes behind the Ethernet header: 46 to 65,535.
    pub bytes: u32,
    /// Random number of the daemon.
    pub nonce: u64,
}

impl TestFrame {
    /// Its bytes.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; LENGTH.max((HEADER + self.bytes.min(MOST)) as usize)];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&self.destination);
        put(&self.source);
        put(&ETHERTYPE.to_be_bytes());
        put(&MARK);
        put(&[VERSION, self.from, self.to, 0]);
        put(&self.group.to_be_bytes());
        put(&self.sequence.to_be_bytes());
        put(&self.nonce.to_be_bytes());
        put(&self.bytes.to_be_bytes());
        frame
    }

    /// Reads the first [`LENGTH`] bytes of a frame; `None`: it is none of this version.
    pub fn read(head: &[u8]) -> Option<Self> {
        let frame: &[u8; LENGTH] = head.try_into().ok()?;
        let (destination, rest) = frame.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk()?;
        let (ethertype, rest) = rest.split_first_chunk()?;
        let (mark, rest) = rest.split_first_chunk()?;
        let ([version, from, to, _], rest) = rest.split_first_chunk()?;
        let (group, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (bytes, _) = rest.split_first_chunk()?;
        let is_ours = u16::from_be_bytes(*ethertype) == ETHERTYPE && *mark == MARK && *version == VERSION;
        is_ours.then_some(Self {
            destination: *destination,
            source: *source,
            from: *from,
            to: *to,
            group: u32::from_be_bytes(*group),
            sequence: u32::from_be_bytes(*sequence),
            bytes: u32::from_be_bytes(*bytes),
            nonce: u64::from_be_bytes(*nonce),
        })
    }
}

/// Receives the frames that this daemon has sent from one member to another one.
#[derive(Debug)]
pub struct TestFrames {
    socket: Socket,
    nonce: u64,
}

impl TestFrames {
    /// Opens the socket in the network namespace of the calling thread. Wants CAP_NET_RAW.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn open(nonce: u64) -> io::Result<Self> {
        // Without a protocol nothing is received before the filter is attached.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.attach_filter(&filter(nonce))?;
        socket.set_nonblocking(true)?;
        // One protocol alone: it delays no other packet, and gets none that this host sends.
        socket.bind(&link_layer(0, ETHERTYPE.to_be(), &[]))?;
        Ok(Self { socket, nonce })
    }

    /// The frames that were received, and the interface of each.
    pub fn drain(&self) -> Vec<(u32, TestFrame)> {
        let mut frames = Vec::new();
        let mut buffer = [MaybeUninit::<u8>::uninit(); LENGTH];
        for _ in 0..AT_ONCE {
            let Some((ifindex, bytes)) = receive(&self.socket, &mut buffer) else { break };
            let frame = TestFrame::read(&bytes).filter(|frame| frame.nonce == self.nonce);
            frames.extend(frame.map(|frame| (ifindex, frame)));
        }
        frames
    }
}

impl AsFd for TestFrames {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for TestFrames {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Passes the first bytes of untagged frames for this host with this random number.
fn filter(nonce: u64) -> Vec<SockFilter> {
    let checks = [
        (LOAD_WORD, PACKET_TYPE, u32::from(libc::PACKET_HOST)),
        (LOAD_WORD, 14, u32::from_be_bytes(MARK)),
        (LOAD_BYTE, 18, VERSION.into()),
        (LOAD_WORD, 30, (nonce >> 32) as u32),
        (LOAD_WORD, 34, nonce as u32),
    ];
    let length =
        [(LOAD_WORD, BYTES_AT), (ADD, HEADER), (TO_INDEX, 0), (LOAD_LENGTH, 0), (JUMP_EQUAL_INDEX, 0)];
    let last = 2 * checks.len() + length.len() + 1;
    let mut filter = Vec::with_capacity(last + 1);
    for (load, at, expected) in checks {
        filter.push(SockFilter::new(load, 0, 0, at));
        // Else to the last instruction.
        filter.push(SockFilter::new(JUMP_EQUAL, 0, (last - filter.len() - 1) as u8, expected));
    }
    for (code, value) in length {
        let otherwise = if code == JUMP_EQUAL_INDEX { 1 } else { 0 };
        filter.push(SockFilter::new(code, 0, otherwise, value));
    }
    filter.push(SockFilter::new(RETURN, 0, 0, LENGTH as u32));
    filter.push(SockFilter::new(RETURN, 0, 0, 0));
    filter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{announce::Sender, link::testing::in_namespace};

    const NONCE: u64 = 0x0102_0304_0506_0708;

    fn sample() -> TestFrame {
        TestFrame {
            destination: [2, 0, 0, 0, 0, 1],
            source: [2, 0, 0, 0, 0, 2],
            from: 3,
            to: 4,
            group: 5,
            sequence: 6,
            bytes: 46,
            nonce: NONCE,
        }
    }

    #[test]
    fn frame_byte_for_byte() {
        let mut expected = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
        expected.extend(b"ipmp\x01\x03\x04\x00\x00\x00\x00\x05\x00\x00\x00\x06");
        expected.extend([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 46]);
        expected.resize(60, 0);
        assert_eq!(sample().frame().to_vec(), expected);
        assert_eq!(TestFrame::read(&expected), Some(sample()));
        let long = TestFrame { bytes: 9000, ..sample() }.frame();
        assert_eq!((long.len(), &long[38..42]), (9014, &[0, 0, 0x23, 0x28][..]));
        assert_eq!(TestFrame { bytes: u32::MAX, ..sample() }.frame().len(), 65_549);
    }

    #[test]
    fn other_lengths_types_marks_and_versions_are_refused() {
        let frame = sample().frame();
        for length in 0..LENGTH {
            assert_eq!(TestFrame::read(&frame[..length]), None, "{length} bytes");
        }
        assert_eq!(TestFrame::read(&[&frame[..], &[0]].concat()), None);
        for at in 12..=18 {
            let mut other = frame.clone();
            other[at] ^= 1;
            assert_eq!(TestFrame::read(&other), None, "byte {at}");
        }
    }

    /// What the kernel passes of what arrives on an interface.
    #[test]
    fn kernel_passes_frames_of_this_daemon_to_this_host_only() {
        in_namespace(|links| async move {
            let (eth0, sw0) = links.add_pair("eth0", "sw0").await;
            let frames = TestFrames::open(NONCE).unwrap();
            let sender = Sender::open().unwrap();
            let genuine = TestFrame { destination: eth0.mac, source: sw0.mac, ..sample() };
            let mut version = genuine.frame();
            version[18] = 2;
            let long = [&genuine.frame()[..], &[0]].concat();
            let full = TestFrame { bytes: 1500, ..genuine };
            let overflow = TestFrame { bytes: u32::MAX - 13, ..genuine };
            for refused in [
                TestFrame { nonce: NONCE ^ 1, ..genuine }.frame().to_vec(),
                TestFrame { nonce: NONCE ^ (1 << 63), ..genuine }.frame().to_vec(),
                TestFrame { destination: [2; 6], ..genuine }.frame().to_vec(),
                TestFrame { destination: [0xff; 6], ..genuine }.frame().to_vec(),
                version.to_vec(),
                long,
                genuine.frame()[..59].to_vec(),
                full.frame()[..1513].to_vec(),
                [&overflow.frame()[..LENGTH]].concat(),
            ] {
                sender.send_frame(sw0.ifindex, &refused).unwrap();
            }
            sender.send_frame(sw0.ifindex, &genuine.frame()).unwrap();
            sender.send_frame(sw0.ifindex, &full.frame()).unwrap();
            let mut received = Vec::new();
            for _ in 0..100 {
                received.extend(frames.drain());
                if received.len() == 2 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            assert_eq!(received, [(eth0.ifindex, genuine), (eth0.ifindex, full)]);
        });
    }
}
