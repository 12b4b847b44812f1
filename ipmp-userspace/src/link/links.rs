//! Requests to the kernel: interfaces, addresses and routes of one network namespace.

use std::{collections::BTreeSet, net::IpAddr};

use futures_util::{Stream, StreamExt, TryStreamExt, pin_mut};
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec,
    packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        address::AddressMessage,
        link::{LinkAttribute, LinkExtentMask, LinkMessage},
        route::{RouteFlags, RouteMessage},
    },
};

use super::{
    Address, Device, Error, Route,
    dump::dump,
    request_socket::RequestSocket,
    route,
    route_dump::{read_routes_beside, read_routes_through},
};

/// Most devices below a stacked one that are looked for.
const MAX_BELOW: usize = ipmp_common::maps::MAX_LOWER;

/// A connection for requests. It belongs to the network namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub struct Links {
    pub(super) handle: Handle,
}

impl Links {
    /// Opens the connection and spawns its task on the current runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) =
            rtnetlink::new_connection_with_socket::<RequestSocket>().map_err(Error::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The interface of this index; `None` if it does not exist (any more).
    ///
    /// The kernel batches link events, and delivers a second interface's up to a second late; this request makes it
    /// deliver them at once, to every listener (docs/design/sentinel.md).
    pub async fn device(&self, ifindex: u32) -> Result<Option<Device>, Error> {
        self.get(self.handle.link().get().match_index(ifindex).execute(), || {
            format!("look up interface {ifindex}")
        })
        .await
    }

    /// The interface of this name or alternative name.
    pub async fn device_named(&self, name: &str) -> Result<Option<Device>, Error> {
        self.get(self.handle.link().get().match_name(name).execute(), || format!("look up {name}")).await
    }

    async fn get(
        &self,
        answers: impl Stream<Item = Result<LinkMessage, rtnetlink::Error>>,
        what: impl FnOnce() -> String,
    ) -> Result<Option<Device>, Error> {
        pin_mut!(answers);
        match answers.try_next().await {
            Ok(message) => Ok(message.as_ref().map(Device::parse)),
            Err(error) => match Error::kernel(what(), error) {
                error if error.is_missing() => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Every interface of the namespace. While interfaces are created and deleted all the time, one may be missing: confirm an
    /// absence by [`Self::device`]. The call blocks.
    pub fn devices(&self) -> Result<Vec<Device>, Error> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let device = |object| match object {
            RouteNetlinkMessage::NewLink(link) => Some(Device::parse(&link)),
            _ => None,
        };
        dump(&RouteNetlinkMessage::GetLink(request), device)
            .map_err(|source| Error::Kernel { what: "list interfaces".into(), source })
    }

    /// Indexes of the devices that a stacked device lies on, nearest first.
    pub async fn below(&self, device: &Device) -> Result<Vec<u32>, Error> {
        let mut indexes = Vec::new();
        let mut next = device.below;
        while let (Some(ifindex), true) = (next, indexes.len() < MAX_BELOW) {
            indexes.push(ifindex);
            next = self.device(ifindex).await?.and_then(|device| device.below);
        }
        Ok(indexes)
    }

    /// Sets the interface administratively up or down.
    pub async fn set_up(&self, device: &Device, up: bool) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(device.ifindex);
        let message = if up { message.up() } else { message.down() };
        self.set(message.build(), || format!("set {} {}", device.name, if up { "up" } else { "down" })).await
    }

    /// Sets the MTU of an interface, in bytes.
    pub async fn set_mtu(&self, ifindex: u32, name: &str, mtu: u32) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).mtu(mtu).build();
        self.set(message, || format!("set the MTU of {name} to {mtu}")).await
    }

    /// Takes the interface out of its master.
    pub async fn leave_master(&self, ifindex: u32, name: &str) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).nocontroller().build();
        self.set(message, || format!("take {name} out of its master")).await
    }

    /// Gives the interface a second name.
    pub async fn add_name(&self, ifindex: u32, name: &str, second: &str) -> Result<(), Error> {
        let request = self.handle.link().property_add(ifindex).alt_ifname(&[second]);
        request
            .execute()
            .await
            .map_err(|error| Error::kernel(format!("give {name} the second name {second}"), error))
    }

    /// Deletes the interface.
    pub async fn delete(&self, ifindex: u32, name: &str) -> Result<(), Error> {
        let request = self.handle.link().del(ifindex);
        request.execute().await.map_err(|error| Error::kernel(format!("delete {name}"), error))
    }

    pub(super) async fn set(&self, message: LinkMessage, what: impl FnOnce() -> String) -> Result<(), Error> {
        self.handle.link().set(message).execute().await.map_err(|error| Error::kernel(what(), error))
    }

    /// Every address of the namespace, with the index of its interface. The call blocks.
    pub fn addresses(&self) -> Result<Vec<(u32, Address)>, Error> {
        list_addresses(AddressMessage::default(), || "list addresses".into())
    }

    /// The addresses of one interface; none if it does not exist. The call blocks.
    pub fn addresses_of(&self, ifindex: u32) -> Result<Vec<Address>, Error> {
        let mut request = AddressMessage::default();
        request.header.index = ifindex;
        match list_addresses(request, || format!("list the addresses of interface {ifindex}")) {
            // Without strict checking the kernel lists all.
            Ok(all) => {
                let ours = all.into_iter().filter(|(index, _)| *index == ifindex);
                Ok(ours.map(|(_, address)| address).collect())
            }
            Err(error) if error.is_missing() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Gives an interface an address. That it has it already is no error.
    pub async fn add_address(&self, ifindex: u32, name: &str, address: &Address) -> Result<(), Error> {
        let mut request = self.handle.address().add(ifindex, address.ip, address.prefix);
        *request.message_mut() = address.message(ifindex);
        match request.execute().await {
            Ok(()) => Ok(()),
            Err(error) => match Error::kernel(format!("add {address} to {name}"), error) {
                error if error.errno() == Some(libc::EEXIST) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Removes an address from an interface. It is no error if it does not exist.
    pub async fn delete_address(&self, ifindex: u32, name: &str, address: &Address) -> Result<(), Error> {
        match self.handle.address().del(address.message(ifindex)).execute().await {
            Ok(()) => Ok(()),
            Err(error) => match Error::kernel(format!("remove {address} from {name}"), error) {
                error if error.is_missing() || error.errno() == Some(libc::EADDRNOTAVAIL) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// The configured routes of both families that lead through an interface, in every table. The call blocks.
    pub fn routes_of(&self, ifindex: u32) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        read_routes_through(&BTreeSet::from([ifindex]), |route| routes.push(route))?;
        routes.retain(|route| !route.is_broadcast());
        Ok(routes)
    }

    /// The configured routes to the same destinations as these, in the same tables, through any interface. The call blocks.
    pub fn routes_beside(&self, routes: &[Route]) -> Result<Vec<Route>, Error> {
        read_routes_beside(routes)
    }

    /// The interface through which packets from an address of this host to another host leave, and the route in the table that
    /// they follow; `None`: there is no route.
    pub async fn route_towards(&self, to: IpAddr, from: IpAddr) -> Result<Option<(u32, Route)>, Error> {
        let found = self.lookup(to, route::lookup(to, from)).await?;
        let Some(interface) = found.as_ref().and_then(route::interface_of) else { return Ok(None) };
        let mut exact = route::lookup(to, from);
        exact.header.flags |= RouteFlags::FibMatch;
        Ok(self.lookup(to, exact).await?.map(|entry| (interface, Route::from(entry))))
    }

    /// The reply to the request for the route to another host; `None`: there is none.
    async fn lookup(&self, to: IpAddr, request: RouteMessage) -> Result<Option<RouteMessage>, Error> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(request));
        request.header.flags = NLM_F_REQUEST;
        let failed = |error| Error::kernel(format!("read the route to {to}"), error);
        let mut answers = self.handle.clone().request(request).map_err(failed)?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(found)) => {
                    return Ok(Some(found));
                }
                NetlinkPayload::Error(error) => {
                    let error = failed(rtnetlink::Error::NetlinkError(error));
                    return match error.errno() {
                        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => Ok(None),
                        _ => Err(error),
                    };
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Installs a route in the place of the one to the same destination, in one step: no packet sees neither.
    pub async fn replace_route(&self, route: &Route) -> Result<(), Error> {
        let request = self.handle.route().add(route.message()).replace();
        request.execute().await.map_err(|error| Error::kernel(format!("install route {route}"), error))
    }

    /// Adds a route beside others to the same destination with the same metric: before them or after them. It is no error
    /// if it exists.
    pub async fn add_route_beside(&self, route: &Route, first: bool) -> Result<(), Error> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(route.message()));
        let position = if first { 0 } else { NLM_F_APPEND };
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | position;
        let failed = |error| Error::kernel(format!("install route {route}"), error);
        let mut answers = self.handle.clone().request(request).map_err(failed)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                let error = failed(rtnetlink::Error::NetlinkError(error));
                if error.errno() != Some(libc::EEXIST) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Removes a route. It is no error if it does not exist.
    pub async fn delete_route(&self, route: &Route) -> Result<(), Error> {
        self.remove_route(route).await.map(drop)
    }

    /// The same; returns whether it existed.
    pub async fn remove_route(&self, route: &Route) -> Result<bool, Error> {
        match self.handle.route().del(route.message()).execute().await {
            Ok(()) => Ok(true),
            Err(error) => match Error::kernel(format!("remove route {route}"), error) {
                error if error.is_missing() || error.errno() == Some(libc::ESRCH) => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Creates an interface.
    pub(super) async fn create(&self, message: LinkMessage, name: &str) -> Result<(), Error> {
        let request = self.handle.link().add(message);
        request
            .execute()
            .await
            .map_err(|error| Error::kernel(format!("create the group interface {name}"), error))
    }
}

fn list_addresses(
    request: AddressMessage,
    what: impl FnOnce() -> String,
) -> Result<Vec<(u32, Address)>, Error> {
    let address = |object| match object {
        RouteNetlinkMessage::NewAddress(address) => Address::parse(&address),
        _ => None,
    };
    dump(&RouteNetlinkMessage::GetAddress(request), address)
        .map_err(|source| Error::Kernel { what: what(), source })
}
