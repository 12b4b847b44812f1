//! The socket that announcements leave through.

use std::{
    io,
    mem::{self, MaybeUninit},
};

use nix::libc;
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

use super::Announcement;

/// Before all other traffic in a member's queue.
const PRIORITY: u32 = 7;

/// A packet socket that sends and never receives. No routing table, filter or address choice is in its way.
#[derive(Debug)]
pub struct Sender(Socket);

impl Sender {
    /// Opens the socket in the network namespace of the calling thread. Wants CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        // Protocol 0: no frame is ever delivered to it.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        socket.set_priority(PRIORITY)?;
        Ok(Self(socket))
    }

    /// Sends an announcement through its member. A frame that a full queue refuses is lost: the next will follow.
    pub fn send(&self, announcement: &Announcement) -> io::Result<()> {
        self.send_frame(announcement.ifindex, &announcement.frame())
    }

    /// Sends a frame through a member's interface.
    pub fn send_frame(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        // For those that listen on the member: the type that the frame has.
        let protocol = u16::from_ne_bytes([frame[12], frame[13]]);
        let address = link_layer(ifindex, protocol, &frame[..6]);
        self.0.send_to(frame, &address).map(drop)
    }
}

/// The address of an interface, or of a neighbour there, to a packet socket. The protocol is in network order.
pub(crate) fn link_layer(ifindex: u32, protocol: u16, mac: &[u8]) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll is smaller than the storage, and zeros are a valid one.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = ifindex as i32;
    address.sll_halen = mac.len() as u8;
    address.sll_addr[..mac.len()].copy_from_slice(mac);
    // SAFETY: the storage holds a sockaddr_ll, whose family and size are given.
    unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as u32) }
}

/// The next frame that waits at a packet socket, and the index of the interface that it arrived on; `None`: none waits.
pub(crate) fn receive(socket: &Socket, buffer: &mut [MaybeUninit<u8>]) -> Option<(u32, Vec<u8>)> {
    let (length, sender) = socket.recv_from(buffer).ok()?;
    // SAFETY: recv_from has written the first `length` bytes.
    let bytes = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the address of a packet socket is a sockaddr_ll, which fits the storage; both are plain bytes.
    let ifindex = unsafe {
        let from = sender.as_ptr().cast::<u8>();
        let to = storage.view_as::<libc::sockaddr_ll>();
        let size = (sender.len() as usize).min(size_of::<libc::sockaddr_ll>());
        std::ptr::copy_nonoverlapping(from, std::ptr::from_mut(to).cast(), size);
        to.sll_ifindex as u32
    };
    Some((ifindex, bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::testing::in_namespace;

    /// Frames that a peer receives in a moment.
    fn received(socket: &Socket) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
        while let Ok(length) = socket.recv(&mut buffer) {
            // SAFETY: recv has written the first `length` bytes.
            frames.push(buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect());
        }
        frames
    }

    #[test]
    fn announcement_is_received_unchanged_at_the_other_end() {
        in_namespace(|links| async move {
            let (eth0, sw0) = links.add_pair("eth0", "sw0").await;
            // On the far port alone, which sees what has passed the cable.
            let ear = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
            ear.bind(&link_layer(sw0.ifindex, (libc::ETH_P_ALL as u16).to_be(), &[])).unwrap();
            ear.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let sender = Sender::open().unwrap();
            for address in ["192.168.178.200", "2001:db8::c8"] {
                let announcement = Announcement {
                    group: 99,
                    vlan: None,
                    address: address.parse().unwrap(),
                    ifindex: eth0.ifindex,
                    mac: eth0.mac,
                    router: false,
                    probe: false,
                };
                sender.send(&announcement).unwrap();
                let frames = received(&ear);
                assert!(frames.contains(&announcement.frame()), "{address} was not received on {}", sw0.name);
            }
            let without_interface = Announcement {
                group: 99,
                vlan: None,
                address: "192.168.178.200".parse().unwrap(),
                ifindex: 4711,
                mac: [2; 6],
                router: false,
                probe: false,
            };
            assert_eq!(sender.send(&without_interface).unwrap_err().raw_os_error(), Some(libc::ENXIO));
        });
    }
}
