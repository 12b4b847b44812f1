//! `ipmpctl import BOND --apply`: a group in place of a bond that runs, and the way back (docs/import.md).
//!
//! The bond is renamed and becomes a member of the group, which takes its addresses and routes as those of any card. So at each
//! step either the bond or the group has them, and transmits.

mod plan;

use std::{
    io::{self, ErrorKind, Read},
    net::{IpAddr, Ipv4Addr},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;

use super::error::Error;
use crate::{
    announce::{self, sender::link_layer},
    control::{
        Client, GroupReport, LastMember, Request, Response, name, pending::ReplacedBond,
        request::ConfigurationFile,
    },
    import::running::Running,
    link::{self, Device, Links, Mac},
    owners::{self, Nic},
    probe::frame::arp_probe,
};

/// How long a link or a member may take until it works.
const LINK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a gateway may take to reply.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(4);
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(20);

/// Requests to the kernel.
pub(super) struct Kernel {
    runtime: Runtime,
    links: Links,
}

impl Kernel {
    pub(super) fn open() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::Import(format!("cannot start the runtime: {error}")))?;
        let links = runtime.block_on(async { Links::open() }).map_err(failed)?;
        Ok(Self { runtime, links })
    }

    /// The bond of this name.
    pub(super) fn read(&self, name: &str) -> Result<Running, Error> {
        self.runtime
            .block_on(Running::read(&self.links, name))
            .map_err(|error| Error::Import(error.to_string()))
    }

    fn run<T>(&self, request: impl Future<Output = Result<T, link::Error>>) -> Result<T, Error> {
        self.runtime.block_on(request).map_err(failed)
    }

    fn device(&self, ifindex: u32) -> Result<Device, Error> {
        let device = self.run(self.links.device(ifindex))?;
        device.ok_or_else(|| Error::Import(format!("interface {ifindex} was deleted by another program")))
    }

    fn wait_link(&self, ifindex: u32) -> Result<(), Error> {
        let device = self.device(ifindex)?;
        self.run(self.links.set_up(&device, true))?;
        wait(LINK_TIMEOUT, || self.device(ifindex).map(|device| device.carrier))?.then_some(()).ok_or_else(
            || Error::Import(format!("{}: no link after {} s", device.name, LINK_TIMEOUT.as_secs())),
        )
    }

    /// Takes a port out of the bond.
    fn release(&self, port: u32) -> Result<String, Error> {
        let device = self.device(port)?;
        self.run(self.links.leave_master(port, &device.name))?;
        Ok(device.name)
    }

    /// Makes an interface a port of the bond.
    fn enter(&self, port: u32, bond: u32) -> Result<(), Error> {
        let device = self.device(port)?;
        self.run(self.links.set_up(&device, false))?;
        self.run(self.links.enter_master(port, &device.name, bond))
    }
}

fn failed(error: link::Error) -> Error {
    Error::Import(error.to_string())
}

/// Waits until something holds; whether it does.
fn wait(limit: Duration, mut holds: impl FnMut() -> Result<bool, Error>) -> Result<bool, Error> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > limit {
            return Ok(false);
        }
        thread::sleep(POLL);
    }
    Ok(true)
}

impl ReplacedBond {
    /// Checks that a bond can be replaced now, and changes nothing.
    ///
    /// # Errors
    /// What is in the way, with the remedy.
    pub(super) fn of(kernel: &Kernel, running: &Running) -> Result<Self, Error> {
        let bond = &running.device;
        let refused = |text: String| Error::Import(format!("{} cannot be replaced: {text}", bond.name));
        if !nix::unistd::geteuid().is_root() {
            return Err(refused("only root can change interfaces".into()));
        }
        let Some(options) = &running.options else {
            return Err(refused(
                "teamd would configure it again: only a bond can be; import the file of the team".into(),
            ));
        };
        if running.addresses.iter().any(|address| address.is_global() && address.lifetime.is_some()) {
            let text = "an address of it has a lifetime: its DHCP client or a router would add it again; configure a static one";
            return Err(refused(text.into()));
        }
        if let Some(host) = owners::Host::of_this_namespace() {
            for device in std::iter::once(bond).chain(running.ports()) {
                let nic = Nic { name: &device.name, ifindex: device.ifindex, mac: device.mac };
                if let Some(owner) = host.owner(&nic) {
                    return Err(refused(owner.describe(&device.name)));
                }
            }
        }
        let mut ports = Vec::new();
        for port in running.ports().filter(|port| port.carrier) {
            let mac = kernel.run(kernel.links.mac_outside_bond(port.ifindex))?;
            ports.push((port.ifindex, mac.unwrap_or(port.mac)));
        }
        if ports.len() < 2 {
            let text = "fewer than two of its ports have a link, and one must transmit while another one is released";
            return Err(refused(text.into()));
        }
        // That which transmits first. Released, none may have the MAC of the bond while the bond transmits with it.
        let owner = ports.iter().position(|(_, mac)| *mac == bond.mac);
        let active = ports.iter().position(|(port, _)| options.active == Some(*port));
        let first = owner.or(active).unwrap_or(0);
        ports.swap(0, first);
        let selects = options.active.is_some_and(|active| active != ports[0].0);
        for port in running.ports().filter(|port| !port.carrier) {
            ports.push((port.ifindex, port.mac));
        }
        let is_free = |name: &String| {
            name::check_interface(name).is_ok() && !running.others.iter().any(|other| other.name == *name)
        };
        let candidates = std::iter::once(format!("{}-old", bond.name))
            .chain((0..).map(|number| format!("old-bond{number}")));
        let kept = candidates.into_iter().find(is_free).unwrap_or_default();
        Ok(Self { name: bond.name.clone(), kept, ifindex: bond.ifindex, mac: bond.mac, ports, selects })
    }

    /// Puts a group in place of the bond; `text` is its configuration. What fails is undone by [`Self::restore_addresses`] and
    /// [`Self::restore_links`].
    pub(super) fn replace(
        &self,
        client: &mut Client,
        kernel: &Kernel,
        text: &str,
        gateways: &[IpAddr],
    ) -> Result<Vec<String>, Error> {
        let mut notes = Vec::new();
        let (first, backup) = (self.ports[0].0, self.ports[1].0);
        if self.selects {
            kernel.run(kernel.links.select_bond_port(self.ifindex, &self.name, first))?;
        }
        let name = kernel.release(backup)?;
        kernel.wait_link(backup)?;
        // Before anything moves. That the group reaches them is checked later.
        for gateway in gateways {
            if let IpAddr::V4(v4) = gateway
                && !replies_to_arp(&kernel.device(backup)?, *v4)
                    .map_err(|error| Error::Import(format!("cannot send ARP through {name}: {error}")))?
            {
                return Err(unreachable(*gateway, &name));
            }
        }
        kernel.run(kernel.links.rename(self.ifindex, &self.name, &self.kept)).map_err(|error| {
            Error::Import(format!("{error}; an interface that is up can be renamed since Linux 6.2"))
        })?;
        self.attach(client, &name)?;
        self.attach(client, &self.kept)?;
        notes.extend(self.reach(client, kernel, &name, gateways)?);
        call(client, &Request::Detach { interface: self.kept.clone(), last: None })?;
        for (port, _) in self.ports.iter().filter(|(port, _)| *port != backup) {
            let name = kernel.release(*port)?;
            self.attach_unless_down(client, kernel, *port, &name)?;
        }
        let device = kernel.device(self.ifindex)?;
        kernel.run(kernel.links.set_up(&device, false))?;
        let files = vec![ConfigurationFile { path: format!("import {}", self.name), text: text.to_owned() }];
        notes.extend(call(
            client,
            &Request::Apply { files, complete: false, dry_run: false, accept_firewall: true },
        )?);
        notes.push(format!(
            "bond {} is now {}, down, until this is confirmed; remove its configuration and enter ipmpctl save before the next \
             reboot",
            self.name, self.kept
        ));
        Ok(notes)
    }

    /// Attaches an interface, and waits until it can transmit.
    fn attach(&self, client: &mut Client, interface: &str) -> Result<(), Error> {
        self.join(client, interface)?;
        let is_usable = wait(LINK_TIMEOUT, || {
            let group = self.group(client)?;
            Ok(group.is_some_and(|group| {
                group.members.iter().any(|member| member.name == interface && member.usable && member.live)
            }))
        })?;
        is_usable.then_some(()).ok_or_else(|| {
            Error::Import(format!(
                "{interface} cannot transmit as a member after {} s",
                LINK_TIMEOUT.as_secs()
            ))
        })
    }

    fn join(&self, client: &mut Client, interface: &str) -> Result<(), Error> {
        let request = Request::Attach {
            group: self.name.clone(),
            interfaces: vec![interface.to_owned()],
            standby: false,
            test_addresses: Vec::new(),
            dry_run: false,
            accept_firewall: true,
        };
        call(client, &request).map(drop)
    }

    /// Attaches a port of the bond; one without a link is not waited for.
    fn attach_unless_down(
        &self,
        client: &mut Client,
        kernel: &Kernel,
        port: u32,
        name: &str,
    ) -> Result<(), Error> {
        let had_link = self.ports[0].0 == port;
        if had_link {
            kernel.wait_link(port)?;
            return self.attach(client, name);
        }
        self.join(client, name)
    }

    /// Has the group transmit without the bond, and waits until its routers reply.
    fn reach(
        &self,
        client: &mut Client,
        kernel: &Kernel,
        through: &str,
        gateways: &[IpAddr],
    ) -> Result<Option<String>, Error> {
        let Some(group) = self.group(client)? else {
            return Err(Error::Import(format!("group {} was removed by another program", self.name)));
        };
        call(client, &Request::Offline { interface: self.kept.clone() })?;
        for gateway in gateways {
            kernel.run(kernel.links.resolve_neighbour(group.ifindex, *gateway))?;
            kernel.run(kernel.links.doubt_neighbour(group.ifindex, *gateway))?;
            let replies = wait(GATEWAY_TIMEOUT, || {
                let entry = kernel.run(kernel.links.resolve_neighbour(group.ifindex, *gateway))?;
                Ok(entry.is_some_and(|entry| entry.confirmed))
            })?;
            if !replies {
                // The bond transmits again at once, not only at the end of the undo.
                call(client, &Request::Online { interface: self.kept.clone() })?;
                return Err(unreachable(*gateway, through));
            }
        }
        Ok(gateways
            .is_empty()
            .then(|| format!("{} has no gateway: the path through {through} is not checked", self.name)))
    }

    fn group(&self, client: &mut Client) -> Result<Option<GroupReport>, Error> {
        Ok(client.groups()?.into_iter().find(|group| group.name == self.name))
    }

    /// The links of the bond as they were: its name, and its ports. It can be repeated.
    pub(super) fn restore_links(&self, kernel: &Kernel) -> Result<(), Error> {
        let device = kernel.device(self.ifindex)?;
        if device.name != self.name {
            kernel.run(kernel.links.rename(self.ifindex, &device.name, &self.name))?;
        }
        for (port, _) in &self.ports {
            if kernel.device(*port)?.master != Some(self.ifindex) {
                kernel.enter(*port, self.ifindex)?;
            }
        }
        kernel.run(kernel.links.set_up(&device, true))
    }

    /// The addresses and routes of the group return to the bond, from any state in between. It can be repeated.
    pub(super) fn restore_addresses(&self, client: &mut Client, kernel: &Kernel) -> Result<(), Error> {
        let Some(group) = self.group(client)? else { return Ok(()) };
        let members: Vec<&str> = group.members.iter().map(|member| member.name.as_str()).collect();
        let detach = |client: &mut Client, interface: &str, last| {
            call(client, &Request::Detach { interface: interface.to_owned(), last }).map(drop)
        };
        let is_link_local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let is_used = group.addresses.iter().any(|address| !is_link_local(address.address));
        if !is_used && !members.contains(&self.kept.as_str()) {
            // The bond has its addresses.
            return members.iter().try_for_each(|member| detach(client, member, Some(LastMember::Restore)));
        }
        let mut is_empty = true;
        for (port, _) in &self.ports {
            is_empty &= kernel.device(*port)?.master != Some(self.ifindex);
        }
        if is_empty {
            let (port, _) = self.ports[0];
            let name = kernel.device(port)?.name;
            if members.contains(&name.as_str()) {
                detach(client, &name, None)?;
            }
            kernel.run(kernel.links.change_mac(self.ifindex, &self.kept, self.mac))?;
            kernel.enter(port, self.ifindex)?;
        }
        kernel.wait_link(self.ifindex)?;
        if members.contains(&self.kept.as_str()) {
            call(client, &Request::Online { interface: self.kept.clone() })?;
        }
        self.attach(client, &self.kept)?;
        let Some(group) = self.group(client)? else { return Ok(()) };
        for member in group.members.iter().filter(|member| member.name != self.kept) {
            detach(client, &member.name, None)?;
        }
        detach(client, &self.kept, Some(LastMember::Restore))
    }

    /// Deletes the bond, which the group has replaced for good. One that another program has renamed stays.
    pub(super) fn delete(&self, kernel: &Kernel) -> Result<(), Error> {
        let device = kernel.run(kernel.links.device(self.ifindex))?;
        match device.filter(|device| device.kind == "bond" && device.name == self.kept) {
            Some(device) => kernel.run(kernel.links.delete(device.ifindex, &device.name)),
            None => Ok(()),
        }
    }
}

fn unreachable(gateway: IpAddr, through: &str) -> Error {
    Error::Import(format!(
        "gateway {gateway} does not reply through {through} within {} s: check the switch port of {through}",
        GATEWAY_TIMEOUT.as_secs()
    ))
}

/// Sends ARP probes (RFC 5227) to a router through an interface without an address, until it replies; whether it does.
fn replies_to_arp(device: &Device, router: Ipv4Addr) -> io::Result<bool> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.bind(&link_layer(device.ifindex, (libc::ETH_P_ARP as u16).to_be(), &[]))?;
    socket.set_read_timeout(Some(POLL))?;
    let probe = arp_probe(device.mac, [0xff; 6], router);
    let sender = announce::Sender::open()?;
    let mut buffer = [0; 128];
    let start = Instant::now();
    while start.elapsed() < GATEWAY_TIMEOUT {
        sender.send_frame(device.ifindex, &probe)?;
        let sent = Instant::now();
        while sent.elapsed() < PROBE_INTERVAL {
            match (&socket).read(&mut buffer) {
                Ok(length) if is_arp_reply(&buffer[..length], device.mac, router) => return Ok(true),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(false)
}

/// Whether a frame is the ARP reply of this host to a MAC.
fn is_arp_reply(frame: &[u8], to: Mac, from: Ipv4Addr) -> bool {
    frame.len() >= 42
        && frame[..6] == to
        && frame[12..14] == [8, 6]
        && frame[20..22] == [0, 2]
        && frame[28..32] == from.octets()
}

/// The notes of the reply.
fn call(client: &mut Client, request: &Request) -> Result<Vec<String>, Error> {
    Ok(match client.call(request)? {
        Response::Done { notes, .. } => notes,
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arp_reply_of_the_router_to_this_interface_is_one() {
        let (own, router) = ([2, 0, 0, 0, 0, 7], Ipv4Addr::new(192, 0, 2, 1));
        let mut reply = vec![0; 60];
        reply[..6].copy_from_slice(&own);
        reply[12..14].copy_from_slice(&[8, 6]);
        reply[21] = 2;
        reply[28..32].copy_from_slice(&router.octets());
        assert!(is_arp_reply(&reply, own, router));
        assert!(!is_arp_reply(&reply[..41], own, router));
        for at in [0, 13, 21, 31] {
            let mut other = reply.clone();
            other[at] ^= 1;
            assert!(!is_arp_reply(&other, own, router), "{at}");
        }
        assert!(!is_arp_reply(&arp_probe(own, [0xff; 6], router), own, router));
    }
}
