//! Tests against the kernel, each in a network namespace of its own that dies with its thread.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use nix::sched::{CloneFlags, unshare};
use std::net::{Ipv4Addr, Ipv6Addr};

use rtnetlink::{
    LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{AddressFamily, RouteNetlinkMessage, link::LinkLayerType, route::RouteMessage},
};

use super::{Device, Links, Route, dump::dump};

/// Runs the test on a thread of its own, in a network namespace of its own, and passes its panic on. Tests need root.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(Links) -> F + Send + 'static) {
    in_namespace_then(test, || async {});
}

/// The same, and cleans up after the test, whether or not it panics: what outlives the namespace.
pub fn in_namespace_then<F, G>(test: impl FnOnce(Links) -> F + Send + 'static, clean: fn() -> G)
where
    F: Future<Output = ()>,
    G: Future<Output = ()> + 'static,
{
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root: cannot make a network namespace");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result =
            catch_unwind(AssertUnwindSafe(|| runtime.block_on(async { test(Links::open().unwrap()).await })));
        runtime.block_on(clean());
        if let Err(panic) = result {
            resume_unwind(panic);
        }
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// An Ethernet interface that is up, and nothing else.
pub fn device(ifindex: u32, name: &str) -> Device {
    let mut message = LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).name(name).up().build();
    message.header.link_layer_type = LinkLayerType::Ether;
    Device::parse(&message)
}

impl Links {
    /// Every configured route of both families, in every table.
    pub fn routes(&self) -> Vec<Route> {
        let mut routes = Vec::new();
        for address_family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = address_family;
            let route = |object| match object {
                RouteNetlinkMessage::NewRoute(route) => Route::parse(route),
                _ => None,
            };
            routes.extend(dump(&RouteNetlinkMessage::GetRoute(request), route).unwrap());
        }
        routes
    }

    /// A veth pair, both ends up.
    pub async fn add_pair(&self, name: &str, peer: &str) -> (Device, Device) {
        self.handle.link().add(LinkVeth::new(name, peer).build()).execute().await.unwrap();
        for end in [name, peer] {
            let device = self.need(end).await;
            self.set_up(&device, true).await.unwrap();
        }
        (self.need(name).await, self.need(peer).await)
    }

    /// The interface, which the test knows to exist.
    pub async fn need(&self, name: &str) -> Device {
        self.device_named(name).await.unwrap().unwrap_or_else(|| panic!("{name} does not exist"))
    }

    /// Makes an interface a port of another.
    pub async fn put_under(&self, device: &Device, master: &Device) {
        let message =
            LinkMessageBuilder::<LinkUnspec>::new().index(device.ifindex).controller(master.ifindex).build();
        self.set(message, || format!("enslave {}", device.name)).await.unwrap();
    }

    /// Gives an interface another MAC.
    pub async fn set_mac(&self, device: &Device, mac: [u8; 6]) {
        let message =
            LinkMessageBuilder::<LinkUnspec>::new().index(device.ifindex).address(mac.to_vec()).build();
        self.set(message, || format!("set the MAC of {}", device.name)).await.unwrap();
    }

    /// A bridge.
    pub async fn add_bridge(&self, name: &str) {
        self.handle.link().add(LinkBridge::new(name).build()).execute().await.unwrap();
    }

    /// Default routes of both families, as an administrator adds them.
    pub async fn add_default_routes(&self, device: &Device) {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(Ipv4Addr::new(192, 168, 178, 1))
            .output_interface(device.ifindex)
            .priority(100);
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))
            .output_interface(device.ifindex);
        for message in [v4.build(), v6.build()] {
            self.handle.route().add(message).execute().await.unwrap();
        }
    }
}
