//! Network cards with receive filters, whose drivers report link changes late: IPv6, multicast, a VLAN and DHCP work on a
//! group of two cards while both cables are plugged in, while each one is pulled, and after it is replugged. A card whose driver
//! is bound again is the same member.
//!
//! The cards exist in the virtual machine only; elsewhere the tests are ignored. `cargo xtask test` runs them there at its
//! end, `cargo xtask test --kernel 6.12 passes_the_cards` runs only them.

lab::lane!(alone, no_clsact = "runs in virtual machines, by clsact on Linux 6.1");

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ipmp::types::MemberState;
use lab::host::INTERFACE;
use lab::network::{DATA, DATA6};
use lab::ping;
use lab::process::idle_time;
use lab::production::GROUP;
use lab::{
    Cable, Lab, MS, MeasurementLock, Member, MemberKind, Production, SECOND, Stream, TIMEOUT, command,
    show_mac, wait_until,
};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

/// Outside the link-local block, which all hosts receive.
const MULTICAST: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const SUBNET_BROADCAST: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 255);
const VLAN: u16 = 20;
const VLAN_HOST: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 200);
const VLAN_PEER: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 22);
const VLAN_HOST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0x200);
const VLAN_PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0x22);
/// The addresses by which the peer reaches the host.
const ADDRESSES: [IpAddr; 4] =
    [IpAddr::V4(DATA), IpAddr::V6(DATA6), IpAddr::V4(VLAN_HOST), IpAddr::V6(VLAN_HOST6)];
/// The only address of the DHCP server.
const LEASE: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 50);
/// Multicast packets to wait for, and packets per second, few enough for an emulated machine.
const ENOUGH: u64 = 20;
const RATE: u64 = 50;
/// Frames of a measurement of CPU time, and how often each setting is measured.
const BROADCASTS: u64 = 2000;
const ROUNDS: usize = 5;

#[test]
#[ignore = "needs the network cards of the virtual machine"]
fn group_traffic_passes_the_cards_e1000() {
    lab::needs_root!();
    passes_the_cards("e1000");
}

#[test]
#[ignore = "needs the network cards of the virtual machine"]
fn group_traffic_passes_the_cards_virtio() {
    lab::needs_root!();
    passes_the_cards("virtio");
}

#[test]
#[ignore = "needs the network cards of the virtual machine"]
fn card_whose_driver_is_bound_again_rejoins_by_its_permanent_mac_e1000() {
    lab::needs_root!();
    rejoins_by_its_permanent_mac("e1000");
}

#[test]
#[ignore = "needs the network cards of the virtual machine"]
fn card_whose_driver_is_bound_again_rejoins_by_its_permanent_mac_virtio() {
    lab::needs_root!();
    rejoins_by_its_permanent_mac("virtio");
}

/// Neither name nor MAC are as before: an operator had set the MAC, which the driver does not know.
fn rejoins_by_its_permanent_mac(model: &'static str) {
    let lab = Lab::builder().members(2).kind(MemberKind::Nic(model)).build().unwrap();
    let (host, card) = (lab.host(), lab.member("e1000g0"));
    let permanent = show_mac(card.mac());
    host.ip("link set e1000g0 address 02:aa:00:00:00:01").unwrap();
    let production = Production::create(&lab).unwrap();
    production.daemon.ctl("set e1000g0 weight=3000").unwrap();
    let before = production.member("e1000g0").unwrap();
    assert_eq!(before.mac, "02:aa:00:00:00:01");

    let unbound = card.cable().unbind_driver().unwrap();
    production.wait_state("e1000g0", MemberState::Absent, TIMEOUT).unwrap();
    // Another interface with its name and MAC does not replace it.
    host.ip("link add e1000g0 address 02:aa:00:00:00:01 type veth peer name other0").unwrap();
    let refused = production.daemon.ctl_error(&format!("attach e1000g0 --group {GROUP}")).unwrap();
    println!("{refused}");
    assert!(refused.contains(&format!("recognised by the permanent MAC {permanent}")), "{refused}");
    host.ip("link del e1000g0").unwrap();

    let since = production.daemon.log().len();
    unbound.bind(host, "lan7").unwrap();
    let line = format!("IP interface lan7 of group {GROUP} has returned");
    println!("{}", production.daemon.wait_line(&line, since, TIMEOUT).unwrap());
    production.wait_usable(2).unwrap();
    let after = production.member("lan7").unwrap();
    assert_eq!((after.number, after.weight, after.slots), (before.number, 3000, before.slots));
    assert_eq!(after.mac, permanent);
    production.daemon.ctl("offline rge0").unwrap();
    let peer = lab.peer(0);
    let reached = || peer.ping(DATA.into(), 3, 10 * MS, SECOND).unwrap().answered == 3;
    assert!(wait_until(TIMEOUT, reached), "{}", production.show());
    println!("{model}: lan7 is member {} again, by {permanent}", after.number);
    production.assert_clean();
}

#[test]
#[ignore = "needs the network cards of the virtual machine"]
fn early_drop_is_refused_by_the_driver_of_e1000() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().members(2).kind(MemberKind::Nic("e1000")).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let refused = production.daemon.ctl_error("set rge0 xdp=driver").unwrap();
    assert!(refused.contains("to rge0: its driver has no XDP"), "{refused}");
    assert_eq!(production.member("rge0").unwrap().xdp, None);
    production.daemon.ctl("set rge0 xdp=auto").unwrap();
    let why = || production.member("rge0").unwrap().xdp.and_then(|xdp| xdp.why).unwrap_or_default();
    let is_shown = wait_until(TIMEOUT, || why().contains("its driver has no XDP"));
    assert!(is_shown, "{}", production.show());
    production.assert_clean();
}

#[test]
#[ignore = "needs the network cards of the virtual machine"]
fn early_drop_drops_copies_in_the_driver_of_virtio() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().members(2).kind(MemberKind::Nic("virtio")).build().unwrap();
    let production = Production::create(&lab).unwrap();
    for member in lab.members() {
        production.daemon.ctl(&format!("set {} xdp=driver", member.name())).unwrap();
        production.wait_usable(2).unwrap();
    }
    let peer = lab.peer(0);
    let stream = Stream::new(peer.namespace(), lab.host(), SUBNET_BROADCAST);
    let running = stream.source(peer.v4()).rate(RATE).start().unwrap();
    let received = running.wait_received(ENOUGH, TIMEOUT);
    let report = running.stop().unwrap();
    println!("broadcast: {report}");
    received.unwrap();
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    let cast = production.cast().unwrap();
    for member in production.report().unwrap().members {
        let xdp = member.xdp.unwrap();
        println!("{}: {xdp:?}", member.name);
        assert!(xdp.attached, "{xdp:?}");
        assert_eq!(xdp.other_copy >= report.received(), member.name != cast, "{}: {xdp:?}", member.name);
    }
    for mode in ["off", "driver"].repeat(ROUNDS) {
        println!("xdp={mode}: {:?} of CPU time a frame", broadcast_cost(&lab, &production, mode));
    }
    production.assert_clean();
}

/// CPU time of the machine for each broadcast frame, from its sender to both members: of an emulated processor, to compare only.
fn broadcast_cost(lab: &Lab, production: &Production<'_>, mode: &str) -> Duration {
    for member in lab.members() {
        production.daemon.ctl(&format!("set {} xdp={mode}", member.name())).unwrap();
        production.wait_usable(2).unwrap();
    }
    let peer = lab.peer(0);
    let stream = Stream::new(peer.namespace(), lab.host(), SUBNET_BROADCAST);
    let (idle, began) = (idle_time().unwrap(), Instant::now());
    let running = stream.source(peer.v4()).rate(BROADCASTS / 4).start().unwrap();
    running.wait_received(BROADCASTS, TIMEOUT).unwrap();
    let report = running.stop().unwrap();
    let cpus = std::thread::available_parallelism().unwrap().get() as u32;
    let busy = (began.elapsed() * cpus).saturating_sub(idle_time().unwrap() - idle);
    busy / report.sent() as u32
}

fn passes_the_cards(model: &'static str) {
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().members(2).kind(MemberKind::Nic(model)).build().unwrap();
    let mut production = Production::create(&lab).unwrap();
    let scene = Scene::new(&lab, &production);
    scene.works(&format!("{model}, both cables plugged in"));
    let mut times = Times::default();
    for number in 1..=2 {
        times.fall(lab.cable(number));
        production.wait_usable(1).unwrap();
        scene.wait_learned(&lab.members()[2 - number]);
        scene.works(&format!("{model}, cable {number} pulled"));
        times.rise(lab.cable(number));
        production.clear_flap_history(&lab.members()[number - 1]).unwrap();
        production.wait_usable(2).unwrap();
    }
    scene.works(&format!("{model}, both cables replugged"));
    // More samples for the percentiles.
    for _ in 0..pulls() {
        times.fall(lab.cable(1));
        times.rise(lab.cable(1));
    }
    times.print(model);
    drop(scene);
    vlan_filters_follow_group(&lab, &mut production);
    production.assert_clean();
}

/// The cards have a filter for the group's VLAN while it exists and they are members.
fn vlan_filters_follow_group(lab: &Lab, production: &mut Production<'_>) {
    let host = lab.host();
    let cards = || {
        let text = host.ip("-o link show type vlan").unwrap();
        text.lines()
            .filter(|line| !line.contains(&format!(": vlan{VLAN}@")))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let expect = |count: usize, when: &str| {
        let reached = wait_until(TIMEOUT, || cards().len() == count);
        assert!(reached, "{when}: {count} VLAN devices expected on the cards: {:?}", cards());
    };
    expect(2, "a VLAN on the group");
    production.daemon.ctl("detach e1000g0").unwrap();
    expect(1, "one member detached");
    host.ip(&format!("link del vlan{VLAN}")).unwrap();
    expect(0, "no VLAN on the group");
    host.ip(&format!("link add link {GROUP} name vlan{VLAN} type vlan id {VLAN}")).unwrap();
    expect(1, "a VLAN on the group again");
    production.daemon.terminate().unwrap();
    production.daemon.teardown().unwrap();
    expect(0, "torn down");
}

/// Further pulls, timed only; more of them in a soak.
fn pulls() -> usize {
    lab::of_lane(1, 20)
}

/// A multicast listener and VLANs on the host, and a DHCP server on the peer.
struct Scene<'lab> {
    lab: &'lab Lab,
    production: &'lab Production<'lab>,
    server: Child,
    _listener: Socket,
}

impl<'lab> Scene<'lab> {
    fn new(lab: &'lab Lab, production: &'lab Production<'lab>) -> Self {
        let (host, peer) = (lab.host(), lab.peer(0).namespace());
        let ends = [
            (host, GROUP, VLAN_HOST, VLAN_HOST6), //
            (peer, INTERFACE, VLAN_PEER, VLAN_PEER6),
        ];
        for (namespace, below, v4, v6) in ends {
            let name = format!("vlan{VLAN}");
            namespace.ip(&format!("link add link {below} name {name} type vlan id {VLAN}")).unwrap();
            namespace.ip(&format!("link set {name} up")).unwrap();
            namespace.ip(&format!("addr add {v4}/24 dev {name}")).unwrap();
            namespace.ip(&format!("addr add {v6}/64 dev {name} nodad")).unwrap();
        }
        let index = host.link(GROUP).unwrap().index;
        let listener = host.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.join_multicast_v4_n(&MULTICAST, &InterfaceIndexOrAddress::Index(index)).unwrap();
            socket
        });
        Self { lab, production, server: serve_dhcp(lab), _listener: listener }
    }

    /// All traffic passes, once each.
    fn works(&self, when: &str) {
        let start = Instant::now();
        for address in ADDRESSES {
            self.assert_resolved(address, when);
        }
        self.multicast_received_once(when);
        self.dhcp(when);
        println!(
            "{when}: IPv4 and IPv6, also in VLAN {VLAN}, multicast and DHCP work ({:.1} s)",
            start.elapsed().as_secs_f32()
        );
    }

    /// A peer without a neighbour entry resolves an address and reaches it.
    fn assert_resolved(&self, address: IpAddr, when: &str) {
        let peer = self.lab.peer(0);
        let send_pings = |count| ping(peer.namespace(), None, address, count, 10 * MS, 5 * SECOND).unwrap();
        // The daemon changes the filters of the cards after the event.
        let flush = || peer.namespace().ip(&format!("neigh flush to {address}")).unwrap();
        let answered = wait_until(TIMEOUT, || {
            flush();
            send_pings(1).answered == 1
        });
        assert!(answered, "{when}: {address} is not reached after {TIMEOUT:?}");
        flush();
        let reached = send_pings(5);
        assert_eq!((reached.answered, reached.duplicates), (5, 0), "{when}: {address}: {reached:?}");
        let neighbour = peer.neighbour(address).unwrap();
        let known = self.lab.members().iter().any(|member| neighbour == Some(member.mac()));
        assert!(known, "{when}: {address} is at {:?}", neighbour.map(show_mac));
    }

    /// A peer that solicits nothing learns from announcements that the remaining member receives for all addresses.
    fn wait_learned(&self, remaining: &Member) {
        for address in ADDRESSES {
            let neighbour = || self.lab.peer(0).neighbour(address).unwrap();
            let learned = wait_until(TIMEOUT, || neighbour() == Some(remaining.mac()));
            assert!(
                learned,
                "{address} is not at {} but at {:?}",
                remaining.name(),
                neighbour().map(show_mac)
            );
        }
    }

    fn multicast_received_once(&self, when: &str) {
        let peer = self.lab.peer(0);
        let stream = || {
            let stream = Stream::new(peer.namespace(), self.lab.host(), MULTICAST);
            stream.source(peer.v4()).rate(RATE).start().unwrap()
        };
        let first = stream();
        first.wait_received(1, TIMEOUT).unwrap_or_else(|error| panic!("{when}: {MULTICAST}: {error}"));
        first.stop().unwrap();
        let running = stream();
        let received = running.wait_received(ENOUGH, TIMEOUT);
        let report = running.stop().unwrap();
        received.unwrap_or_else(|error| panic!("{when}: {MULTICAST}: {error}"));
        assert_eq!((report.lost(), report.duplicated()), (0, 0), "{when}: {MULTICAST}: {report}");
    }

    /// A DHCP client on the group interface gets an address, which becomes a data address at once; then it is deleted.
    fn dhcp(&self, when: &str) {
        let host = self.lab.host();
        let script = self.lab.directory().join("udhcpc.sh");
        let text = format!("#!/bin/sh\n[ \"$1\" != bound ] || ip addr add $ip/24 dev {GROUP}\n");
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        let mut client = host.command("busybox");
        client.args(["udhcpc", "-f", "-n", "-q", "-i", GROUP, "-t", "10", "-T", "2", "-s"]).arg(&script);
        let output = command::run(&mut client);
        let output = output.unwrap_or_else(|error| panic!("{when}: no lease: {error:#}"));
        let known = wait_until(TIMEOUT, || self.production.inbound(LEASE).is_ok());
        assert!(known, "{when}: {LEASE} is no data address; udhcpc printed: {output}");
        self.assert_resolved(LEASE.into(), when);
        host.ip(&format!("addr del {LEASE}/24 dev {GROUP}")).unwrap();
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        // The lab's cleanup process would do it too.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A DHCP server on the peer. It answers a client that has no address yet by unicast, to the MAC of the group.
fn serve_dhcp(lab: &Lab) -> Child {
    let directory = lab.directory().display();
    let configuration = format!(
        "interface {INTERFACE}\nstart {LEASE}\nend {LEASE}\nmax_leases 1\nlease_file {directory}/leases\n\
         pidfile {directory}/udhcpd.pid\noption subnet 255.255.255.0\noption lease 3600\n"
    );
    let file = lab.directory().join("udhcpd.conf");
    fs::write(&file, configuration).unwrap();
    fs::write(lab.directory().join("leases"), "").unwrap();
    let mut server = lab.peer(0).namespace().command("busybox");
    // It probes for 100 ms whether another host uses the address.
    server.args(["udhcpd", "-f", "-a", "100"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
    server.stderr(Stdio::null()).spawn().unwrap()
}

/// Milliseconds from a change of a cable until the carrier bit changes.
#[derive(Default)]
struct Times {
    falls: Vec<f32>,
    rises: Vec<f32>,
}

impl Times {
    fn fall(&mut self, cable: &Cable) {
        let change = cable.pull().unwrap();
        cable.wait_carrier(false, TIMEOUT).unwrap();
        self.falls.push(change.before.elapsed().as_secs_f32() * 1e3);
    }

    fn rise(&mut self, cable: &Cable) {
        let change = cable.replug().unwrap();
        cable.wait_carrier(true, TIMEOUT).unwrap();
        self.rises.push(change.before.elapsed().as_secs_f32() * 1e3);
    }

    fn print(&mut self, model: &str) {
        for (what, times) in [("cable pulled", &mut self.falls), ("cable replugged", &mut self.rises)] {
            times.sort_by(f32::total_cmp);
            let (median, max) = (times[times.len() / 2], times[times.len() - 1]);
            println!(
                "{model}: {what} to carrier bit: p50 {median:.0} ms, max {max:.0} ms of {} times",
                times.len()
            );
        }
    }
}
