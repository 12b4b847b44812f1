//! Neighbours: what the kernel knows of who else is on a link.

use std::net::IpAddr;

use futures_util::StreamExt;
use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    },
};

use super::{Error, Links, Mac, dump::dump};

/// An entry of the kernel's neighbour tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface that it is on.
    pub ifindex: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC, unless the kernel knows none (any more).
    pub mac: Option<Mac>,
    /// Whether it has answered lately, or is there by the operator's word.
    pub confirmed: bool,
}

impl Neighbour {
    /// Reads a message; `None` if it is about anything but an IP neighbour: bridges report their ports in the same words.
    pub fn parse(message: &NeighbourMessage) -> Option<Self> {
        if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
            return None;
        }
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
            _ => None,
        })?;
        let state = message.header.state;
        let valid =
            !matches!(state, NeighbourState::None | NeighbourState::Incomplete | NeighbourState::Failed);
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => Mac::try_from(mac.as_slice()).ok(),
            _ => None,
        });
        Some(Self {
            ifindex: message.header.ifindex,
            address,
            mac: mac.filter(|_| valid),
            confirmed: matches!(state, NeighbourState::Reachable | NeighbourState::Permanent),
        })
    }
}

impl Links {
    /// Makes the kernel resolve a neighbour, as if it had a packet for it, and returns the present entry. A later result
    /// is a change. A valid entry is verified after a while.
    pub async fn resolve_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<Option<Neighbour>, Error> {
        let what = || format!("look for neighbour {address} on interface {ifindex}");
        let request = self.handle.neighbours().add(ifindex, address).replace();
        let request = request.state(NeighbourState::None).flags(NeighbourFlags::Use);
        request.execute().await.map_err(|error| Error::kernel(what(), error))?;

        Ok(self.neighbour_entry(ifindex, address).await?.as_ref().and_then(Neighbour::parse))
    }

    /// Makes the kernel ask a neighbour that it believes in whether it is still there; until then nothing confirms it. What
    /// an operator has set stays.
    pub async fn doubt_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<(), Error> {
        let entry = self.neighbour_entry(ifindex, address).await?;
        let believed = [NeighbourState::Reachable, NeighbourState::Stale, NeighbourState::Delay];
        if entry.is_some_and(|entry| believed.contains(&entry.header.state)) {
            let what = || format!("have neighbour {address} on interface {ifindex} asked");
            let request =
                self.handle.neighbours().add(ifindex, address).replace().state(NeighbourState::Probe);
            request.execute().await.map_err(|error| Error::kernel(what(), error))?;
        }
        Ok(())
    }

    /// Copies the neighbours that one interface knows to another one on the same link, so that the first packet to each leaves at
    /// once instead of waiting for an answer. The kernel verifies those that it has learnt itself when it uses them. Returns
    /// the static ones, which an operator has set.
    ///
    /// # Errors
    ///
    /// The kernel does not list its neighbours. An entry that it refuses is left out: it is learnt again.
    pub async fn copy_neighbours(&self, from: u32, to: u32) -> Result<Vec<IpAddr>, Error> {
        let entry = |object| match object {
            RouteNetlinkMessage::NewNeighbour(entry) => Some(entry),
            _ => None,
        };
        let entries = dump(&RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), entry)
            .map_err(|source| Error::Kernel { what: "list neighbours".into(), source })?;
        let mut fixed = Vec::new();
        for entry in entries {
            let Some(neighbour) = Neighbour::parse(&entry).filter(|known| known.ifindex == from) else {
                continue;
            };
            // The kernel calculates those of multicast groups.
            let Some(mac) = neighbour.mac.filter(|_| entry.header.state != NeighbourState::Noarp) else {
                continue;
            };
            let is_static = entry.header.state == NeighbourState::Permanent;
            let request = self.handle.neighbours().add(to, neighbour.address).link_layer_address(&mac);
            // An IPv6 router that lost this flag would lose the routes that it has advertised.
            let request = request.flags(entry.header.flags & NeighbourFlags::Router);
            let request = if is_static { request.replace() } else { request.state(NeighbourState::Stale) };
            match request.execute().await {
                Ok(()) if is_static => fixed.push(neighbour.address),
                Ok(()) => {}
                Err(error) => log::debug!("neighbour {} is not copied: {error}", neighbour.address),
            }
        }
        Ok(fixed)
    }

    /// Removes a neighbour. That there is none is no error.
    pub async fn delete_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<(), Error> {
        let Some(entry) = self.neighbour_entry(ifindex, address).await? else { return Ok(()) };
        let what = || format!("remove neighbour {address} from interface {ifindex}");
        self.handle.neighbours().del(entry).execute().await.map_err(|error| Error::kernel(what(), error))
    }

    /// The kernel's entry of a neighbour, if it has one.
    async fn neighbour_entry(
        &self,
        ifindex: u32,
        address: IpAddr,
    ) -> Result<Option<NeighbourMessage>, Error> {
        let what = || format!("look for neighbour {address} on interface {ifindex}");
        let mut message = NeighbourMessage::default();
        message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.ifindex = ifindex;
        message.attributes.push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        }));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(message));
        request.header.flags = NLM_F_REQUEST;
        let mut handle = self.handle.clone();
        let mut answers = handle.request(request).map_err(|error| Error::kernel(what(), error))?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) => {
                    return Ok(Some(entry));
                }
                // Removed again already.
                NetlinkPayload::Error(_) => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }
}
