//! Neighbour Advertisements in which another host claims an IPv6 address of this host. Neighbours take its MAC if the
//! override flag is set (RFC 4861 7.2.5).

use std::{
    collections::BTreeSet,
    io::{self, IoSliceMut},
    net::Ipv6Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt,
        sockopt::{Ipv6RecvHopLimit, Ipv6RecvPacketInfo},
    },
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::claims::{AT_ONCE, Claim, JUMP_EQUAL, LOAD_WORD, MOST, RETURN};

// linux/filter.h
const LOAD_BYTE: u16 = 0x30;
const JUMP_SET: u16 = 0x45;
/// Type of a Neighbour Advertisement.
const ADVERTISEMENT: u8 = 136;
/// The override flag, in the byte after the checksum.
const OVERRIDE: u8 = 0x20;
/// Option with the MAC of the target.
const TARGET_MAC: u8 = 2;
/// Bytes of a message that are passed: header, target, and the usual options.
const MESSAGE: usize = 128;

/// Receives the Neighbour Advertisements of others for these addresses.
#[derive(Debug)]
pub struct Advertisements {
    socket: Socket,
    addresses: BTreeSet<Ipv6Addr>,
}

impl Advertisements {
    /// Opens the socket in the network namespace of the calling thread. Wants CAP_NET_RAW.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn open() -> io::Result<Self> {
        // An ICMPv6 socket: unlike a packet socket for IPv6, it costs other packets nothing.
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.attach_filter(&filter(&BTreeSet::new()))?;
        setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, addresses: BTreeSet::new() })
    }

    /// Receives claims of these addresses from now on.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn watch(&mut self, addresses: BTreeSet<Ipv6Addr>) -> io::Result<()> {
        if self.addresses != addresses {
            self.socket.attach_filter(&filter(&addresses))?;
            self.addresses = addresses;
        }
        Ok(())
    }

    /// The claims that were received.
    pub fn drain(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        let mut bytes = [0; MESSAGE];
        let mut space = cmsg_space!(libc::in6_pktinfo, i32);
        for _ in 0..AT_ONCE {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::empty();
            let Ok(received) =
                recvmsg::<SockaddrIn6>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags)
            else {
                break;
            };
            let (mut ifindex, mut hop_limit) = (0, 0);
            for control in received.cmsgs().into_iter().flatten() {
                match control {
                    ControlMessageOwned::Ipv6PacketInfo(info) => ifindex = info.ipi6_ifindex,
                    ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = limit,
                    _ => {}
                }
            }
            let length = received.bytes;
            // Another hop limit: from a host behind a router (RFC 4861 7.1.2).
            if hop_limit == 255
                && let Some((target, mac)) = claim(&bytes[..length])
                && self.addresses.contains(&target)
            {
                claims.push(Claim { ifindex, address: target.into(), mac, is_probe: false });
            }
        }
        claims
    }
}

impl AsFd for Advertisements {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Advertisements {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Target and MAC of a Neighbour Advertisement with the override flag.
fn claim(message: &[u8]) -> Option<(Ipv6Addr, [u8; 6])> {
    if *message.first()? != ADVERTISEMENT || message.get(4)? & OVERRIDE == 0 {
        return None;
    }
    let target = <[u8; 16]>::try_from(message.get(8..24)?).ok()?;
    let mut options = message.get(24..)?;
    loop {
        let (kind, length) = (*options.first()?, usize::from(*options.get(1)?) * 8);
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == TARGET_MAC {
            return Some((target.into(), option[2..8].try_into().ok()?));
        }
        options = &options[length..];
    }
}

/// Passes Neighbour Advertisements with the override flag for one of these addresses.
fn filter(addresses: &BTreeSet<Ipv6Addr>) -> Vec<SockFilter> {
    let instruction = |code, yes, no, k| SockFilter::new(code, yes, no, k);
    let pass = || instruction(RETURN, 0, 0, MESSAGE as u32);
    let drop = || instruction(RETURN, 0, 0, 0);
    let mut program = vec![
        instruction(LOAD_BYTE, 0, 0, 0),
        instruction(JUMP_EQUAL, 1, 0, u32::from(ADVERTISEMENT)),
        drop(),
        instruction(LOAD_BYTE, 0, 0, 4),
        instruction(JUMP_SET, 1, 0, u32::from(OVERRIDE)),
        drop(),
    ];
    if addresses.len() > MOST {
        program.push(pass());
        return program;
    }
    // The last four bytes of the target differ between the addresses of a host; `drain` compares all of it.
    program.push(instruction(LOAD_WORD, 0, 0, 20));
    for address in addresses {
        let [.., a, b, c, d] = address.octets();
        program.push(instruction(JUMP_EQUAL, 0, 1, u32::from_be_bytes([a, b, c, d])));
        program.push(pass());
    }
    program.push(drop());
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_advertisements_with_override_flag_and_mac_are_claims() {
        let target = Ipv6Addr::new(0xfd00, 0x178, 0, 0, 0, 0, 0, 0x200);
        let mac = [2, 0, 0, 0, 0, 7];
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
        message.extend(target.octets());
        assert_eq!(claim(&message), None, "without the option");
        // A nonce (RFC 3971) first.
        message.extend([14, 1, 0, 0, 0, 0, 0, 0]);
        message.extend([TARGET_MAC, 1]);
        message.extend(mac);
        assert_eq!(claim(&message), Some((target, mac)));
        for length in 0..message.len() {
            assert_eq!(claim(&message[..length]), None, "{length} bytes");
        }
        for (at, value) in [(0, 135), (4, 0x40), (25, 0)] {
            let mut other = message.clone();
            other[at] = value;
            assert_eq!(claim(&other), None, "{value} at {at}");
        }
    }
}
