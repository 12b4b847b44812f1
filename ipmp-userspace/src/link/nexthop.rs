//! Nexthop objects (`ip nexthop`) of an interface. A route that names one follows it, so the object is what moves.
//!
//! `netlink-packet-route` has no such message: it is encoded here (`include/uapi/linux/nexthop.h`).

use std::io;

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use serde::{Deserialize, Serialize};

use super::{Error, Links};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
/// The attributes that describe the object: id, gateway, and encapsulation with its type. The interface is set separately.
const KEPT: [u16; 4] = [NHA_ID, 6, 7, 8];
const RTNH_F_ONLINK: u32 = 4;
/// `NLM_F_DUMP_INTR`: the list changed while the kernel wrote it, so it is read again.
const DUMP_INTERRUPTED: u16 = 0x10;
/// Bytes of a `nlmsghdr`, and of a `nhmsg`.
const HEADER: usize = 16;
const NHMSG: usize = 8;

/// A nexthop object of one interface. Groups of them name the objects, and follow them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nexthop {
    /// Its number.
    pub id: u32,
    family: u8,
    protocol: u8,
    onlink: bool,
    /// Types and values of [`KEPT`].
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Nexthop {
    /// Reads the `nhmsg` and its attributes; `None` if it is of another interface.
    fn parse(payload: &[u8], ifindex: u32) -> Option<Self> {
        let (header, mut rest) = payload.split_at_checked(NHMSG)?;
        let flags = u32::from_ne_bytes(header[4..8].try_into().ok()?);
        let (mut id, mut oif) = (None, None);
        let mut attributes = Vec::new();
        while let Some((head, _)) = rest.split_at_checked(4) {
            let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
            // Without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
            let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
            let value = rest.get(4..length)?;
            match kind {
                NHA_ID => id = Some(u32::from_ne_bytes(value.try_into().ok()?)),
                NHA_OIF => oif = Some(u32::from_ne_bytes(value.try_into().ok()?)),
                _ => {}
            }
            if KEPT.contains(&kind) {
                attributes.push((u16::from_ne_bytes([head[2], head[3]]), value.to_vec()));
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        (oif? == ifindex).then_some(())?;
        Some(Self {
            id: id?,
            family: header[0],
            protocol: header[2],
            onlink: flags & RTNH_F_ONLINK != 0,
            attributes,
        })
    }

    fn message(&self, ifindex: u32) -> Vec<u8> {
        let flags = if self.onlink { RTNH_F_ONLINK } else { 0 };
        let mut payload = vec![self.family, 0, self.protocol, 0];
        payload.extend(flags.to_ne_bytes());
        for (kind, value) in &self.attributes {
            put(&mut payload, *kind, value);
        }
        put(&mut payload, NHA_OIF, &ifindex.to_ne_bytes());
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        framed(RTM_NEWNEXTHOP, flags, &payload)
    }
}

impl Links {
    /// The nexthop objects of an interface. A kernel without them (before Linux 5.3) has none.
    pub fn nexthops_of(&self, ifindex: u32) -> Result<Vec<Nexthop>, Error> {
        let failed = |source| Error::Kernel { what: "list nexthop objects".into(), source };
        let mut payload = vec![0; NHMSG];
        put(&mut payload, NHA_OIF, &ifindex.to_ne_bytes());
        let request = framed(RTM_GETNEXTHOP, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, &payload);
        let messages = match exchange(&request) {
            Ok(messages) => messages,
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENODEV | libc::ENOENT)
                ) =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(messages.iter().filter_map(|payload| Nexthop::parse(payload, ifindex)).collect())
    }

    /// Points a nexthop object at an interface, in one step; creates it if it does not exist.
    pub fn point_nexthop(&self, nexthop: &Nexthop, ifindex: u32, name: &str) -> Result<(), Error> {
        exchange(&nexthop.message(ifindex)).map(drop).map_err(|source| Error::Kernel {
            what: format!("point nexthop object {} at {name}", nexthop.id),
            source,
        })
    }
}

fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend((value.len() as u16 + 4).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn framed(kind: u16, flags: libc::c_int, payload: &[u8]) -> Vec<u8> {
    let mut message = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(payload);
    message
}

/// Sends a request, and returns the payloads of the answers up to the acknowledgement or the end of the dump.
fn exchange(request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(request, 0)?;
    let mut answers = Vec::new();
    loop {
        let (reply, _) = socket.recv_from_full()?;
        let mut rest = reply.as_slice();
        while rest.len() >= HEADER {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let kind = u16::from_ne_bytes([rest[4], rest[5]]);
            if u16::from_ne_bytes([rest[6], rest[7]]) & DUMP_INTERRUPTED != 0 {
                return exchange(request);
            }
            let payload =
                rest.get(HEADER..length).ok_or_else(|| io::Error::other("a short netlink message"))?;
            match i32::from(kind) {
                libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(answers) };
                }
                _ if kind == RTM_NEWNEXTHOP => answers.push(payload.to_vec()),
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nexthop_keeps_everything_but_its_interface() {
        let nexthop = Nexthop {
            id: 7,
            family: 2,
            protocol: 4,
            onlink: true,
            attributes: vec![(NHA_ID, 7u32.to_ne_bytes().to_vec()), (6, vec![192, 168, 178, 1])],
        };
        let message = nexthop.message(3);
        assert_eq!(Nexthop::parse(&message[HEADER..], 3), Some(nexthop));
        assert_eq!(Nexthop::parse(&message[HEADER..], 4), None);
        for length in HEADER..message.len() {
            // A damaged message is no other nexthop.
            assert_eq!(Nexthop::parse(&message[HEADER..length], 3), None);
        }
    }
}
