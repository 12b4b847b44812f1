//! ARP packets in which another host claims an address of this host (RFC 5227 2.4).

use std::{
    collections::BTreeSet,
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use nix::libc;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::sender::receive;

// linux/filter.h: class, size and mode of each instruction.
pub(super) const LOAD_WORD: u16 = 0x20;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const RETURN: u16 = 0x06;
/// Bytes of a frame that are passed.
const FRAME: usize = 42;
/// Most addresses in a filter: with two instructions each, half of what the kernel accepts (`BPF_MAXINSNS`).
pub(super) const MOST: usize = 1000;
/// Packets read at once: more wait for the next turn of the event loop.
pub(super) const AT_ONCE: usize = 64;

/// Another host uses, or is about to use, this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The interface that has received it.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// The sender.
    pub mac: [u8; 6],
    /// The sender only asks whether the address is in use (an ARP probe).
    pub is_probe: bool,
}

/// Receives the ARP packets of others about these addresses.
#[derive(Debug)]
pub struct Claims {
    socket: Socket,
    addresses: BTreeSet<Ipv4Addr>,
}

impl Claims {
    /// Opens the socket in the network namespace of the calling thread. Wants CAP_NET_RAW.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn open() -> io::Result<Self> {
        // ARP alone: no other packet passes the filter's way, and none that this host sends.
        let protocol = Protocol::from(i32::from((libc::ETH_P_ARP as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
        socket.attach_filter(&filter(&BTreeSet::new()))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, addresses: BTreeSet::new() })
    }

    /// Receives claims of these addresses from now on.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn watch(&mut self, addresses: BTreeSet<Ipv4Addr>) -> io::Result<()> {
        if self.addresses != addresses {
            self.socket.attach_filter(&filter(&addresses))?;
            self.addresses = addresses;
        }
        Ok(())
    }

    /// The claims that were received.
    pub fn drain(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        let mut frame = [MaybeUninit::<u8>::uninit(); FRAME];
        for _ in 0..AT_ONCE {
            let Some((ifindex, bytes)) = receive(&self.socket, &mut frame) else { break };
            let is_watched =
                |claim: &Claim| matches!(claim.address, IpAddr::V4(v4) if self.addresses.contains(&v4));
            claims.extend(claim(ifindex, &bytes).filter(is_watched));
        }
        claims
    }
}

impl AsFd for Claims {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Claims {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Reads an Ethernet frame with an ARP packet for IPv4.
fn claim(ifindex: u32, frame: &[u8]) -> Option<Claim> {
    const IPV4_OVER_ETHERNET: [u8; 6] = [0, 1, 8, 0, 6, 4];
    if frame.get(14..20)? != IPV4_OVER_ETHERNET {
        return None;
    }
    let ip = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let (sender, target) = (ip(28)?, ip(38)?);
    let is_probe = sender.is_unspecified();
    let mac = frame.get(22..28)?.try_into().ok()?;
    let address = if is_probe { target } else { sender };
    Some(Claim { ifindex, address: address.into(), mac, is_probe })
}

/// Passes packets whose sender address is one of these, and probes for one of these.
fn filter(addresses: &BTreeSet<Ipv4Addr>) -> Vec<SockFilter> {
    let statement = |code, k| SockFilter::new(code, 0, 0, k);
    if addresses.len() > MOST {
        return vec![statement(RETURN, FRAME as u32)];
    }
    let any = || {
        addresses.iter().flat_map(|address| {
            [SockFilter::new(JUMP_EQUAL, 0, 1, u32::from(*address)), statement(RETURN, FRAME as u32)]
        })
    };
    let sender = std::iter::once(statement(LOAD_WORD, 28)).chain(any());
    let is_probe = [SockFilter::new(JUMP_EQUAL, 1, 0, 0), statement(RETURN, 0), statement(LOAD_WORD, 38)];
    sender.chain(is_probe).chain(any()).chain([statement(RETURN, 0)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{announce::frame::arp_request, announce::sender::link_layer, link::testing::in_namespace};

    #[test]
    fn only_claims_of_watched_addresses_are_received() {
        in_namespace(|links| async move {
            let (eth0, sw0) = links.add_pair("eth0", "sw0").await;
            let mut claims = Claims::open().unwrap();
            let ip = |last| Ipv4Addr::new(192, 168, 178, last);
            let sender = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
            let arp = |source: Ipv4Addr, target: Ipv4Addr| {
                let frame = arp_request(sw0.mac, [0xff; 6], source, target);
                sender.send_to(&frame, &link_layer(sw0.ifindex, 0x0608, &[0xff; 6])).unwrap();
            };
            arp(ip(200), ip(200));
            assert_eq!(claims.drain(), []);
            claims.watch([ip(200), ip(201)].into()).unwrap();
            for (source, target) in [
                (ip(200), ip(200)),
                (ip(7), ip(200)),
                (ip(201), ip(7)),
                (Ipv4Addr::UNSPECIFIED, ip(201)),
                (Ipv4Addr::UNSPECIFIED, ip(7)),
            ] {
                arp(source, target);
            }
            let mut seen = Vec::new();
            for _ in 0..100 {
                seen.extend(claims.drain());
                if seen.len() >= 3 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            let claim = |address: Ipv4Addr, is_probe| Claim {
                ifindex: eth0.ifindex,
                address: address.into(),
                mac: sw0.mac,
                is_probe,
            };
            assert_eq!(seen, [claim(ip(200), false), claim(ip(201), false), claim(ip(201), true)]);
        });
    }

    #[test]
    fn truncated_or_other_packets_are_no_claims() {
        let frame = arp_request([2; 6], [0xff; 6], Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        assert!(claim(1, &frame).is_some());
        assert_eq!(claim(1, &frame[..41]), None);
        let mut other = frame;
        other[18] = 8;
        assert_eq!(claim(1, &other), None);
    }
}
