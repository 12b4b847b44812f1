//! The tutorial's network, and variants of it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::cable::{Cable, End};
use crate::cleanup::Cleanup;
use crate::command::{self, ip_batch};
use crate::host::Host;
use crate::namespace::Namespace;
use crate::netlink::{Link, State};
use crate::{Mac, TIMEOUT, show_mac, wait_until};

mod wiring;

use wiring::{build_host, build_switch, join_switches, lay_cable, member_index, mount_bpf, plug_member};

/// Number of labs built by this process.
static LABS: AtomicU32 = AtomicU32::new(0);

/// The router's address.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 1);
/// The data address of the tutorial, `hivemind-prod`. No host has it before the group.
pub const DATA: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 200);
/// The IPv6 data address.
pub const DATA6: Ipv6Addr = counterpart(DATA);

/// The IPv6 address that goes with an IPv4 address of the lab: `192.168.178.22` and `fd00:178::22`.
pub const fn counterpart(address: Ipv4Addr) -> Ipv6Addr {
    let last = address.octets()[3] as u16;
    // The decimal digits, as hexadecimal ones: both addresses end with the same digits.
    let digits = ((last / 100) << 8) | ((last / 10 % 10) << 4) | (last % 10);
    Ipv6Addr::new(0xfd00, 0x178, 0, 0, 0, 0, 0, digits)
}

/// A switch of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Switch {
    /// Connects e1000g0 and e1000g1.
    A,
    /// Connects rge0, the router and (by default) the peers.
    B,
}

/// The type of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// One end of a veth pair: fast, but its carrier goes down a moment after its port.
    Veth,
    /// A TAP device: its carrier goes down atomically.
    Tap,
    /// An emulated network card of this model (`"e1000"`), in a virtual machine that has such cards: see [`crate::nic`].
    Nic(&'static str),
}

/// A network interface of the host, with its cable.
#[derive(Debug)]
pub struct Member {
    name: String,
    mac: Mac,
    switch: Switch,
    cable: Cable,
}

impl Member {
    /// `e1000g0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// The switch it is connected to.
    pub fn switch(&self) -> Switch {
        self.switch
    }

    /// Its cable.
    pub fn cable(&self) -> &Cable {
        &self.cable
    }
}

/// The parameters of a lab: see [`Lab::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    members: Vec<(String, Switch)>,
    kind: MemberKind,
    one_switch: bool,
    peers: Vec<(Ipv4Addr, Switch)>,
    ageing: Option<Duration>,
    snooping: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            members: tutorial_members(3),
            kind: MemberKind::Veth,
            one_switch: false,
            peers: vec![
                (Ipv4Addr::new(192, 168, 178, 22), Switch::B),
                (Ipv4Addr::new(192, 168, 178, 114), Switch::B),
            ],
            ageing: None,
            snooping: false,
        }
    }
}

/// e1000g0, e1000g1 and so on in Switch A, and rge0, the last, in Switch B.
fn tutorial_members(count: usize) -> Vec<(String, Switch)> {
    let mut members: Vec<_> =
        (0..count.saturating_sub(1)).map(|n| (format!("e1000g{n}"), Switch::A)).collect();
    members.push(("rge0".into(), Switch::B));
    members
}

impl Builder {
    /// Sets the number of members, 1 to 20: `rge0` in Switch B, all others in Switch A. 3 by default.
    pub fn members(mut self, count: usize) -> Self {
        self.members = tutorial_members(count);
        self
    }

    /// Sets the type of the members: veth by default.
    pub fn kind(mut self, kind: MemberKind) -> Self {
        self.kind = kind;
        self
    }

    /// Connects everything to Switch A; there is no Switch B and no cable between the two.
    pub fn one_switch(mut self) -> Self {
        self.one_switch = true;
        self
    }

    /// Sets the peers and their switches. By default 192.168.178.22 and 192.168.178.114 in Switch B.
    pub fn peers(mut self, peers: &[(Ipv4Addr, Switch)]) -> Self {
        self.peers = peers.to_vec();
        self
    }

    /// Sets the ageing time of the switches, 300 s by default. Zero: they learn no address and flood all frames.
    pub fn ageing(mut self, ageing: Duration) -> Self {
        self.ageing = Some(ageing);
        self
    }

    /// Enables IGMP and MLD snooping and the querier in the switches (`mcast_snooping 1 mcast_querier 1`). Off by default.
    pub fn snooping(mut self, snooping: bool) -> Self {
        self.snooping = snooping;
        self
    }

    /// Builds the network, and waits until every member has its carrier.
    pub fn build(self) -> Result<Lab> {
        Lab::build(self)
    }
}

/// A network. Dropping it removes everything.
///
/// Fields are dropped in order: sockets and wires first, `cleanup` last.
#[derive(Debug)]
pub struct Lab {
    members: Vec<Member>,
    between: Option<Cable>,
    router: Host,
    peers: Vec<Host>,
    host: Namespace,
    switches: HashMap<Switch, Namespace>,
    one_switch: bool,
    cleanup: Cleanup,
}

impl Lab {
    /// The parameters of the tutorial's network.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The tutorial's network, with veth members.
    pub fn tutorial() -> Result<Self> {
        Self::builder().build()
    }

    fn build(plan: Builder) -> Result<Self> {
        ensure!(
            (1..=20).contains(&plan.members.len()),
            "a lab has 1 to 20 members, not {}",
            plan.members.len()
        );
        mount_bpf()?;
        let cleanup = Cleanup::new(&format!("{}-{}", std::process::id(), LABS.fetch_add(1, Relaxed)))?;

        let place = |switch: Switch| if plan.one_switch { Switch::A } else { switch };
        let name = |part: &str| format!("ipmp-lab-{}-{part}", cleanup.id());
        let mut parts = vec!["host".to_owned(), "switcha".into(), "router".into()];
        if !plan.one_switch {
            parts.push("switchb".into());
        }
        parts.extend((1..=plan.peers.len()).map(|n| format!("peer{n}")));
        let mut lines = Vec::new();
        for part in &parts {
            cleanup.namespace(&name(part))?;
            lines.push(format!("netns add {}", name(part)));
        }
        ip_batch(None, &lines)?;
        let open = |part: &str| Namespace::open(&name(part));

        let mut switches = HashMap::from([(Switch::A, open("switcha")?)]);
        if !plan.one_switch {
            switches.insert(Switch::B, open("switchb")?);
        }
        for switch in switches.values() {
            build_switch(switch, &plan)?;
        }
        let between = match switches.get(&Switch::B) {
            Some(b) => Some(join_switches(&switches[&Switch::A], b, plan.members.len() + 1)?),
            None => None,
        };

        let host = open("host")?;
        cleanup.pins(host.cookie()?)?;
        host.ip("link set lo up")?;
        let mut members = Vec::new();
        for (number, (name, switch)) in plan.members.iter().enumerate() {
            let switch = place(*switch);
            members.push(plug_member(&host, &switches[&switch], name, number, switch, plan.kind)?);
        }

        let router = build_host(open("router")?, &switches[&place(Switch::B)], "router", 0xc0, ROUTER)?;
        router.namespace.sysctl("net.ipv4.ip_forward", "1")?;
        let mut peers = Vec::new();
        for (n, (address, switch)) in plan.peers.iter().enumerate() {
            let namespace = open(&format!("peer{}", n + 1))?;
            let switch = &switches[&place(*switch)];
            peers.push(build_host(namespace, switch, &format!("peer{}", n + 1), 0xb0 + n as u8, *address)?);
        }
        let lab =
            Self { members, between, router, peers, host, switches, one_switch: plan.one_switch, cleanup };
        lab.wait_forwarding()?;
        Ok(lab)
    }

    /// The directory of the lab, for sockets, logs and other files. It is removed with the lab.
    pub fn directory(&self) -> &std::path::Path {
        self.cleanup.directory()
    }

    /// The namespace of the host, with the members and `ipmpd`.
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The namespace of a switch. With one switch, both are the same.
    pub fn switch(&self, switch: Switch) -> &Namespace {
        &self.switches[&if self.one_switch { Switch::A } else { switch }]
    }

    /// The port at which a switch has learned an Ethernet address, from `bridge fdb`.
    pub fn learned_port(&self, switch: Switch, mac: Mac) -> Result<Option<String>> {
        let namespace = self.switch(switch);
        let table = command::run(namespace.command("bridge").args(["fdb", "show", "br", "br0"]))?;
        let mac = show_mac(mac);
        let mut entries = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        // MAC dev PORT master br0; permanent entries were not learned.
        let learned =
            entries.find(|words| words.first() == Some(&mac.as_str()) && !words.contains(&"permanent"));
        Ok(learned.and_then(|words| words.get(2).map(|port| (*port).to_owned())))
    }

    /// The port of a switch that leads to a member: its own, or the one to the other switch.
    pub fn port_to<'a>(&'a self, switch: Switch, member: &'a Member) -> &'a str {
        match &self.between {
            Some(between) if member.switch != switch => {
                if switch == Switch::A {
                    &between.near().interface
                } else {
                    &between.far().interface
                }
            }
            _ => &member.cable.far().interface,
        }
    }

    /// The router, 192.168.178.1.
    pub fn router(&self) -> &Host {
        &self.router
    }

    /// The peers, in the order of [`Builder::peers`].
    pub fn peers(&self) -> &[Host] {
        &self.peers
    }

    /// A peer by number, from 0.
    pub fn peer(&self, number: usize) -> &Host {
        &self.peers[number]
    }

    /// The members, in the order of their cables.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A member by name.
    ///
    /// # Panics
    /// When the lab has no such member.
    pub fn member(&self, name: &str) -> &Member {
        let member = self.members.iter().find(|member| member.name == name);
        member.unwrap_or_else(|| panic!("this lab has no member {name}"))
    }

    /// A cable by its number in the figure: 1 to 3 for e1000g0, e1000g1 and rge0, 4 between the switches. In a lab of N
    /// members, 1 to N for the members and N + 1 between the switches.
    ///
    /// # Panics
    /// When there is no such cable.
    pub fn cable(&self, number: usize) -> &Cable {
        let cable = match number.checked_sub(1) {
            Some(index) if index < self.members.len() => Some(&self.members[index].cable),
            Some(index) if index == self.members.len() => self.between.as_ref(),
            _ => None,
        };
        cable.unwrap_or_else(|| panic!("this lab has no cable {number}"))
    }

    /// All cables: the members', the one between the switches, the router's, the peers'.
    pub fn cables(&self) -> impl Iterator<Item = &Cable> {
        let members = self.members.iter().map(|member| &member.cable);
        let hosts = std::iter::once(&self.router).chain(&self.peers).map(|host| &host.cable);
        members.chain(self.between.as_ref()).chain(hosts)
    }

    /// All ports of the switches, each with its cable. The cable between the switches has two.
    pub fn ports(&self) -> impl Iterator<Item = (&Cable, &End)> {
        let far = self.cables().map(|cable| (cable, cable.far()));
        far.chain(self.between.iter().map(|cable| (cable, cable.near())))
    }

    /// Creates a further namespace that is not connected. It is removed with the lab.
    pub fn namespace(&self, part: &str) -> Result<Namespace> {
        let name = format!("ipmp-lab-{}-{part}", self.cleanup.id());
        self.cleanup.namespace(&name)?;
        ip_batch(None, &[format!("netns add {name}")])?;
        let namespace = Namespace::open(&name)?;
        self.cleanup.pins(namespace.cookie()?)?;
        Ok(namespace)
    }

    /// Recreates a deleted veth member, with the same name, interface index, Ethernet address and cable.
    pub fn recreate_member(&self, name: &str) -> Result<()> {
        let number = self.members.iter().take_while(|member| member.name != name).count();
        self.recreate(name, name, Some(member_index(number)))?;
        self.member(name).cable.wait_carrier(true, TIMEOUT)
    }

    /// Recreates a deleted veth member with another interface index and this name: the same Ethernet address and cable.
    pub fn recreate_member_as(&self, member: &str, name: &str) -> Result<()> {
        self.recreate(member, name, None)
    }

    fn recreate(&self, member: &str, name: &str, index: Option<u32>) -> Result<()> {
        let member = self.member(member);
        ensure!(member.cable.is_veth(), "{} is not a veth member: it cannot be recreated", member.name);
        let far = member.cable.far();
        lay_cable(&self.host, name, member.mac, &far.namespace, &far.interface, index)
    }

    /// For registering what must be removed with the lab.
    pub(crate) fn cleanup(&self) -> &Cleanup {
        &self.cleanup
    }

    /// Waits until every cable has a carrier and every port forwards.
    fn wait_forwarding(&self) -> Result<()> {
        for end in self.cables().flat_map(|cable| [cable.near(), cable.far()]) {
            let link = || end.namespace.link(&end.interface);
            let up = |link: Link| link.carrier && link.operstate == State::Up;
            if !wait_until(TIMEOUT, || link().is_ok_and(up)) {
                bail!(
                    "{} of {} is not up after {TIMEOUT:?}: {:?}",
                    end.interface,
                    end.namespace.name(),
                    link()?
                );
            }
        }
        Ok(())
    }
}
