//! A blocking rtnetlink socket, for changes whose time matters: starting `ip` to pull a cable would take too long.

use std::net::IpAddr;
use std::num::NonZeroI32;
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow, bail};
use rtnetlink::packet_core::{
    DefaultNla, Emitable as _, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::tc::{TcAttribute, TcMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub use rtnetlink::packet_route::link::{State, Stats64};

use crate::Mac;
use crate::cable::Direction;

/// A netlink socket of one namespace. Requests of several threads are serialized.
pub struct Netlink {
    state: Mutex<Connection>,
}

struct Connection {
    socket: Socket,
    sequence: u32,
}

/// An interface, as in RTM_NEWLINK.
#[derive(Clone, Debug)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Whether it is set up (IFF_UP).
    pub up: bool,
    /// Its carrier (IFLA_CARRIER).
    pub carrier: bool,
    /// The operational state, which follows the carrier later.
    pub operstate: State,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The index of its master, if it has one.
    pub master: Option<u32>,
    /// Its counters.
    pub statistics: Stats64,
}

// linux/pkt_sched.h, linux/pkt_cls.h
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_OK: u32 = 0;
const NLA_F_NESTED: u16 = 0x8000;

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
        socket.bind_auto().context("cannot bind a netlink socket")?;
        socket.connect(&SocketAddr::new(0, 0)).context("cannot connect a netlink socket")?;
        Ok(Self { state: Mutex::new(Connection { socket, sequence: 0 }) })
    }

    /// Reads an interface by name.
    pub fn link(&self, name: &str) -> Result<Link> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let replies = self
            .request(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST)
            .with_context(|| format!("no interface {name}"))?;
        match replies.into_iter().next() {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(Link::from(link)),
            other => bail!("unexpected reply to RTM_GETLINK for {name}: {other:?}"),
        }
    }

    /// Names and indexes of all interfaces of the namespace.
    pub fn links(&self) -> Result<Vec<(u32, String)>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let replies =
            self.request(request, NLM_F_REQUEST | NLM_F_DUMP).context("cannot list the interfaces")?;
        let named = replies.into_iter().filter_map(|reply| {
            let RouteNetlinkMessage::NewLink(link) = reply else { return None };
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            Some((link.header.index, name?))
        });
        Ok(named.collect())
    }

    /// Sets an interface up or down.
    pub fn set_up(&self, name: &str, up: bool) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_REQUEST | NLM_F_ACK)
            .with_context(|| format!("cannot set {name} {}", if up { "up" } else { "down" }))?;
        Ok(())
    }

    /// The Ethernet address of an IP address in the neighbour table.
    pub fn neighbour(&self, address: IpAddr) -> Result<Option<Mac>> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let replies =
            self.request(request, NLM_F_REQUEST | NLM_F_DUMP).context("cannot read the neighbour table")?;
        for reply in replies {
            let RouteNetlinkMessage::NewNeighbour(entry) = reply else { continue };
            let ours = entry.attributes.iter().any(|attribute| match (attribute, address) {
                (NeighbourAttribute::Destination(NeighbourAddress::Inet(found)), IpAddr::V4(wanted)) => {
                    *found == wanted
                }
                (NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)), IpAddr::V6(wanted)) => {
                    *found == wanted
                }
                _ => false,
            });
            let mac = entry.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => Mac::try_from(mac.as_slice()).ok(),
                _ => None,
            });
            if ours && mac.is_some() {
                return Ok(mac);
            }
        }
        Ok(None)
    }

    /// Prepares a port for [`Self::drop_frames`]. The port must be down: on a port that is up, the kernel would drop frames
    /// that are sent at the same time.
    pub fn add_clsact(&self, port: &str) -> Result<()> {
        let mut qdisc = TcMessage::with_index(self.link(port)?.index as i32);
        qdisc.header.handle = CLSACT_HANDLE.into();
        qdisc.header.parent = CLSACT.into();
        qdisc.attributes.push(TcAttribute::Kind("clsact".into()));
        let create = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.request(RouteNetlinkMessage::NewQueueDiscipline(qdisc), create)
            .with_context(|| format!("cannot add clsact to {port}"))?;
        Ok(())
    }

    /// Drops every frame that a port receives ([`Direction::Outbound`]) or sends ([`Direction::Inbound`]). The carrier
    /// stays up. The filter is classic BPF, which every supported kernel has.
    pub fn drop_frames(&self, port: &str, direction: Direction) -> Result<()> {
        self.drop_larger(port, direction, 0)
    }

    /// As [`Self::drop_frames`], but only frames of more than so many bytes.
    pub fn drop_larger(&self, port: &str, direction: Direction, bytes: u32) -> Result<()> {
        self.add_drop_filter(port, direction, (libc::BPF_W | libc::BPF_LEN, 0), bytes)
    }

    /// As [`Self::drop_frames`], but only this share of the frames, which are chosen at random.
    pub fn drop_share(&self, port: &str, direction: Direction, percent: u8) -> Result<()> {
        // A random number of 32 bits is larger than this one with that probability.
        let limit = u64::from(u32::MAX) * u64::from(100 - percent.min(100)) / 100;
        let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;
        self.add_drop_filter(port, direction, (libc::BPF_W | libc::BPF_ABS, random), limit as u32)
    }

    /// Drops frames for which `load`, the mode and the number of a load instruction, gives more than `limit`.
    fn add_drop_filter(&self, port: &str, direction: Direction, load: (u32, u32), limit: u32) -> Result<()> {
        let mut filter = self.filter(port, direction)?;
        filter.header.info = (1 << 16) | u32::from((libc::ETH_P_ALL as u16).to_be());
        filter.attributes.push(TcAttribute::Kind("bpf".into()));
        let program = drop_program(load, limit);
        filter.attributes.push(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS | NLA_F_NESTED, program)));
        let create = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.request(RouteNetlinkMessage::NewTrafficFilter(filter), create) {
            Err(error) if os_error(&error) != Some(libc::EEXIST) => {
                Err(error).with_context(|| format!("cannot add the drop filter to {port}"))
            }
            _ => Ok(()),
        }
    }

    /// Reverts [`Self::drop_frames`], in both directions.
    pub fn pass_frames(&self, port: &str) -> Result<()> {
        for direction in [Direction::Outbound, Direction::Inbound] {
            // A request without a priority removes all filters of the direction.
            let message = RouteNetlinkMessage::DelTrafficFilter(self.filter(port, direction)?);
            match self.request(message, NLM_F_REQUEST | NLM_F_ACK) {
                Err(error) if !matches!(os_error(&error), Some(libc::ENOENT | libc::EINVAL)) => {
                    return Err(error).with_context(|| format!("cannot remove the drop filter from {port}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn filter(&self, port: &str, direction: Direction) -> Result<TcMessage> {
        let mut filter = TcMessage::with_index(self.link(port)?.index as i32);
        filter.header.parent = match direction {
            Direction::Outbound => CLSACT_INGRESS.into(),
            Direction::Inbound => CLSACT_EGRESS.into(),
        };
        Ok(filter)
    }

    /// Sends one request and returns its replies: one message, an acknowledgement, or all messages of a dump.
    fn request(&self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.sequence += 1;
        let sequence = state.sequence;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        request.header.sequence_number = sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        state.socket.send(&bytes, 0).context("netlink send")?;

        let mut replies = Vec::new();
        loop {
            let (datagram, _) = state.socket.recv_from_full().context("netlink receive")?;
            let mut rest = datagram.as_slice();
            while rest.len() >= 16 {
                let reply =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).context("netlink decode")?;
                let length = (reply.header.length as usize).next_multiple_of(4).min(rest.len());
                rest = &rest[length..];
                if reply.header.sequence_number != sequence {
                    continue;
                }
                match reply.payload {
                    NetlinkPayload::Error(error) => match error.code.map(NonZeroI32::get) {
                        None => return Ok(replies),
                        Some(code) => return Err(anyhow!(std::io::Error::from_raw_os_error(-code))),
                    },
                    NetlinkPayload::Done(_) => return Ok(replies),
                    NetlinkPayload::InnerMessage(inner) => {
                        replies.push(inner);
                        if flags & (NLM_F_ACK | NLM_F_DUMP) == 0 {
                            return Ok(replies);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: false,
            operstate: State::Unknown,
            mac: [0; 6],
            mtu: 0,
            master: None,
            statistics: Stats64::default(),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::Carrier(carrier) => link.carrier = carrier != 0,
                LinkAttribute::OperState(state) => link.operstate = state,
                LinkAttribute::Address(mac) => link.mac = Mac::try_from(mac.as_slice()).unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(master) => link.master = Some(master),
                LinkAttribute::Stats64(statistics) => link.statistics = statistics,
                _ => {}
            }
        }
        link
    }
}

/// The options of a cls_bpf filter in direct-action mode that drops frames for which `load` gives more than `limit`.
fn drop_program(load: (u32, u32), limit: u32) -> Vec<u8> {
    let load = (libc::BPF_LD | load.0, 0, 0, load.1);
    let is_larger = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, 1, limit);
    let give = |verdict| (libc::BPF_RET | libc::BPF_K, 0, 0, verdict);
    let program = [load, is_larger, give(TC_ACT_SHOT), give(TC_ACT_OK)];
    let mut instructions = Vec::new();
    for (code, yes, no, value) in program {
        instructions.extend_from_slice(&(code as u16).to_ne_bytes());
        instructions.extend_from_slice(&[yes, no]);
        instructions.extend_from_slice(&value.to_ne_bytes());
    }
    let options = [
        DefaultNla::new(TCA_BPF_OPS_LEN, (program.len() as u16).to_ne_bytes().to_vec()),
        DefaultNla::new(TCA_BPF_OPS, instructions),
        DefaultNla::new(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes().to_vec()),
    ];
    let mut bytes = vec![0; options.as_slice().buffer_len()];
    options.as_slice().emit(&mut bytes);
    bytes
}

fn os_error(error: &anyhow::Error) -> Option<i32> {
    error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error)
}
