//! keepalived with a virtual address on the group interface, and another keepalived on a peer that waits for its silence.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lab::network::{DATA, counterpart};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{
    FrameCounters, Lab, MS, Mac, Namespace, Production, Program, TIMEOUT, filter, show_mac, wait_until,
};

use crate::{data_addresses, shown, wait_answered, wait_gone};

/// The virtual addresses, one of each family.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 250);
const VIRTUAL6: Ipv6Addr = counterpart(VIRTUAL);
/// What VRRP over IPv6 needs besides (RFC 9568 section 8.2.3).
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x250);
/// Where advertisements go: 224.0.0.18.
const ADVERTISEMENTS: Mac = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12];
/// After so many seconds without an advertisement a waiting keepalived takes over: three, and up to one of skew.
const SILENCE: u64 = 4;

/// keepalived in a namespace, an instance for each family.
fn keepalived(lab: &Lab, namespace: &Namespace, interface: &str, priority: u8) -> Program {
    let path = |kind: &str| lab.directory().join(format!("keepalived-{priority}.{kind}"));
    let instance = |name: &str, number: u8, addresses: &str| {
        format!(
            "vrrp_instance {name} {{\n  state BACKUP\n  interface {interface}\n  virtual_router_id {number}\n  \
             priority {priority}\n  advert_int 1\n  garp_master_refresh 1\n  virtual_ipaddress {{\n{addresses}  }}\n}}\n"
        )
    };
    let text = format!(
        "global_defs {{\n  router_id {interface}\n}}\n{}{}",
        instance("four", 51, &format!("    {VIRTUAL}/24\n")),
        instance("six", 56, &format!("    {LINK_LOCAL}/64\n    {VIRTUAL6}/64\n")),
    );
    fs::write(path("conf"), text).unwrap();
    let mut command = namespace.command("keepalived");
    command.args(["--vrrp", "--dont-fork", "--log-console", "--log-detail"]);
    command.arg("--use-file").arg(path("conf"));
    command.arg("--pid").arg(path("pid")).arg("--vrrp_pid").arg(path("vrrp.pid"));
    Program::start(lab, command).unwrap()
}

/// Announcements of the virtual IPv4 address, as a third machine hears them.
struct Listener {
    socket: PacketSocket,
}

impl Listener {
    fn new(lab: &Lab) -> Self {
        let arp = filter::ethertype(0x0806);
        Self { socket: PacketSocket::open(lab.peer(1).namespace(), Some("eth0"), &arp).unwrap() }
    }

    /// Those since the last call: the MAC that each gives, and whether it is keepalived's own. It asks everybody for the
    /// MAC of the address, where `ipmpd` leaves that field empty.
    fn heard(&self) -> Vec<(Mac, bool)> {
        let mut buffer = [0; 128];
        let mut heard = Vec::new();
        while self.socket.receive(&mut buffer, MS).unwrap().is_some() {
            let mac = |at: usize| -> Mac { buffer[at..at + 6].try_into().expect("six bytes") };
            let virtual_address = VIRTUAL.octets();
            if buffer[28..32] == virtual_address && buffer[38..42] == virtual_address {
                assert_eq!(mac(6), mac(22), "an announcement of another's MAC");
                heard.push((mac(22), mac(32) == [0xff; 6]));
            }
        }
        heard
    }
}

/// Lines of a keepalived that tell of a change.
fn transitions(program: &Program, since: usize) -> Vec<String> {
    program.log().into_iter().skip(since).filter(|line| line.contains("Entering")).collect()
}

/// A peer comes to find the virtual addresses where they are, without asking again, and reaches them.
fn assert_reached(lab: &Lab, macs: &BTreeSet<Mac>, what: &str) {
    let peer = lab.peer(1);
    for address in [IpAddr::from(VIRTUAL), VIRTUAL6.into()] {
        let known = || peer.neighbour(address).unwrap();
        let right = || known().is_none_or(|mac| macs.contains(&mac));
        assert!(wait_until(TIMEOUT, right), "{what}: {address} is taken for {:?}", known().map(show_mac));
        let ping = peer.ping(address, 5, 10 * MS, TIMEOUT).unwrap();
        assert_eq!((ping.answered, ping.duplicates), (5, 0), "{what}: {address}");
        assert!(right(), "{what}: {address} is taken for {:?}", known().map(show_mac));
    }
}

#[test]
fn a_virtual_address_stays_whatever_cable_is_out_and_goes_when_its_keeper_does() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    // The peer finds nobody else, and takes the addresses.
    let mut waiting = keepalived(&lab, lab.peer(0).namespace(), "eth0", 100);
    let production = Production::create(&lab).unwrap();
    for instance in ["four", "six"] {
        waiting.wait_line(&format!("({instance}) Entering MASTER STATE"), 0, TIMEOUT).unwrap();
    }
    let (listener, adverts) =
        (Listener::new(&lab), FrameCounters::start(&lab, &filter::to(ADVERTISEMENTS)).unwrap());
    let mut keeper = keepalived(&lab, lab.host(), GROUP, 150);
    for instance in ["four", "six"] {
        // Both hear each other: the host the peer, which is of less worth, and the peer the host.
        let heard = format!("({instance}) received lower priority (100) advert");
        keeper.wait_line(&heard, 0, TIMEOUT).unwrap();
        keeper.wait_line(&format!("({instance}) Entering MASTER STATE"), 0, TIMEOUT).unwrap();
        waiting.wait_line(&format!("({instance}) Entering BACKUP STATE"), 0, TIMEOUT).unwrap();
    }
    let inbound = wait_answered(&production, VIRTUAL.into());
    let inbound6 = wait_answered(&production, VIRTUAL6.into());
    wait_answered(&production, LINK_LOCAL.into());
    let members: BTreeSet<Mac> = lab.members().iter().map(|member| member.mac()).collect();
    assert_reached(&lab, &members, "taken over");
    // What was said before there was an inbound member, the cast member said; keepalived says it again every second.
    listener.heard();
    let mac = lab.member(&inbound).mac();
    let mut heard = Vec::new();
    let repeated = wait_until(TIMEOUT, || {
        heard.extend(listener.heard());
        heard.iter().any(|(_, own)| *own)
    });
    assert!(repeated, "keepalived does not announce {VIRTUAL} again: {heard:?}");
    assert!(heard.iter().all(|(told, _)| *told == mac), "{inbound} answers for {VIRTUAL}: {heard:?}");
    println!("{VIRTUAL} is on the group, inbound member {inbound}; {VIRTUAL6}, inbound member {inbound6}");

    // All cables that matter to it, until one member is left.
    let (kept, waited) = (keeper.log().len(), waiting.log().len());
    let out: BTreeSet<String> = [inbound, production.cast().unwrap()].into();
    for name in &out {
        lab.member(name).cable().pull().unwrap();
    }
    let moved = || !out.contains(&wait_answered(&production, VIRTUAL.into()));
    assert!(wait_until(TIMEOUT, moved), "{out:?} are out:\n{}", shown(&production));
    assert_reached(
        &lab,
        &production.macs_without(&out.iter().cloned().collect::<Vec<_>>()).into_iter().collect(),
        "pulled",
    );
    // The peer would have taken over by now, had it not heard of the host.
    let before = adverts.on(lab.peer(0).cable().name());
    let heard = || adverts.on(lab.peer(0).cable().name()) - before;
    assert!(wait_until(TIMEOUT, || heard() > SILENCE), "{} advertisements", heard());
    for name in &out {
        lab.member(name).cable().replug().unwrap();
    }
    production.wait_usable(lab.members().len()).unwrap();
    assert_reached(&lab, &members, "plugged in again");
    let changed = [transitions(&keeper, kept), transitions(&waiting, waited)].concat();
    assert!(changed.is_empty(), "{changed:?}");
    println!("{out:?} were out, and nobody noticed: {} advertisements", heard());

    keeper.terminate().unwrap();
    for instance in ["four", "six"] {
        waiting.wait_line(&format!("({instance}) Entering MASTER STATE"), waited, TIMEOUT).unwrap();
    }
    for address in [IpAddr::from(VIRTUAL), VIRTUAL6.into(), LINK_LOCAL.into()] {
        wait_gone(&production, address);
    }
    assert!(data_addresses(&production).iter().any(|known| known.address == IpAddr::from(DATA)));
    let peer = BTreeSet::from([lab.peer(0).mac()]);
    assert_reached(&lab, &peer, "given up");
    production.assert_clean();
}
