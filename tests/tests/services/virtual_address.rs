//! keepalived with a virtual address on the group interface, and a backup keepalived on a peer.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lab::network::{DATA, counterpart};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{
    FrameCounters, Lab, MS, Mac, Namespace, Production, Program, TIMEOUT, filter, show_mac, wait_until,
};

use crate::{data_addresses, wait_inbound, wait_removed};

/// The virtual addresses, one of each family.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 250);
const VIRTUAL6: Ipv6Addr = counterpart(VIRTUAL);
/// The link-local address that VRRP over IPv6 requires (RFC 9568 section 8.2.3).
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x250);
/// The MAC of 224.0.0.18, the destination of advertisements.
const ADVERTISEMENTS: Mac = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12];
/// Seconds without an advertisement until the backup becomes master: three, and up to one of skew.
const MASTER_DOWN_S: u64 = 4;

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

/// Captures announcements of the virtual IPv4 address on a third host.
struct Listener {
    socket: PacketSocket,
}

impl Listener {
    fn new(lab: &Lab) -> Self {
        let arp = filter::ethertype(0x0806);
        Self { socket: PacketSocket::open(lab.peer(1).namespace(), Some("eth0"), &arp).unwrap() }
    }

    /// The announcements since the last call: the MAC of each, and whether keepalived sent it. keepalived sets the target
    /// MAC to broadcast, `ipmpd` sets it to zero.
    fn announcements(&self) -> Vec<(Mac, bool)> {
        let mut buffer = [0; 128];
        let mut announcements = Vec::new();
        while self.socket.receive(&mut buffer, MS).unwrap().is_some() {
            let mac = |at: usize| -> Mac { buffer[at..at + 6].try_into().expect("six bytes") };
            let virtual_address = VIRTUAL.octets();
            if buffer[28..32] == virtual_address && buffer[38..42] == virtual_address {
                assert_eq!(mac(6), mac(22), "an announcement with the MAC of another member");
                announcements.push((mac(22), mac(32) == [0xff; 6]));
            }
        }
        announcements
    }
}

/// State transitions in the log of a keepalived.
fn transitions(program: &Program, since: usize) -> Vec<String> {
    program.log().into_iter().skip(since).filter(|line| line.contains("Entering")).collect()
}

/// Waits until a peer reaches the virtual addresses, and has the right MACs of them. While they move, it may still ask the host that
/// has had them.
fn assert_reached(lab: &Lab, macs: &BTreeSet<Mac>, what: &str) {
    let peer = lab.peer(1);
    for address in [IpAddr::from(VIRTUAL), VIRTUAL6.into()] {
        let known = || peer.neighbour(address).unwrap();
        let ping = || peer.ping(address, 5, 10 * MS, TIMEOUT).unwrap();
        let is_reached = || {
            let ping = ping();
            (ping.answered, ping.duplicates) == (5, 0) && known().is_some_and(|mac| macs.contains(&mac))
        };
        assert!(
            wait_until(TIMEOUT, is_reached),
            "{what}: {address} is at {:?}, {:?}",
            known().map(show_mac),
            ping()
        );
    }
}

#[test]
fn virtual_address_stays_while_cables_are_pulled_and_moves_when_keepalived_ends() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    // The peer is the only router, and becomes master.
    let mut backup = keepalived(&lab, lab.peer(0).namespace(), "eth0", 100);
    let production = Production::create(&lab).unwrap();
    for instance in ["four", "six"] {
        backup.wait_line(&format!("({instance}) Entering MASTER STATE"), 0, TIMEOUT).unwrap();
    }
    let (listener, adverts) =
        (Listener::new(&lab), FrameCounters::start(&lab, &filter::to(ADVERTISEMENTS)).unwrap());
    let mut keeper = keepalived(&lab, lab.host(), GROUP, 150);
    for instance in ["four", "six"] {
        // Both receive the advertisements of each other; the peer has the lower priority.
        let announcements = format!("({instance}) received lower priority (100) advert");
        keeper.wait_line(&announcements, 0, TIMEOUT).unwrap();
        keeper.wait_line(&format!("({instance}) Entering MASTER STATE"), 0, TIMEOUT).unwrap();
        backup.wait_line(&format!("({instance}) Entering BACKUP STATE"), 0, TIMEOUT).unwrap();
    }
    let inbound = wait_inbound(&production, VIRTUAL.into());
    let inbound6 = wait_inbound(&production, VIRTUAL6.into());
    wait_inbound(&production, LINK_LOCAL.into());
    let members: BTreeSet<Mac> = lab.members().iter().map(|member| member.mac()).collect();
    assert_reached(&lab, &members, "host is master");
    // Announcements before there was an inbound member were sent by the cast member; keepalived repeats them every second.
    listener.announcements();
    let mac = lab.member(&inbound).mac();
    let mut announcements = Vec::new();
    let repeated = wait_until(TIMEOUT, || {
        announcements.extend(listener.announcements());
        announcements.iter().any(|(_, own)| *own)
    });
    assert!(repeated, "keepalived does not announce {VIRTUAL} again: {announcements:?}");
    assert!(
        announcements.iter().all(|(announced, _)| *announced == mac),
        "{inbound} is the inbound member of {VIRTUAL}: {announcements:?}"
    );
    println!("{VIRTUAL} is on the group, inbound member {inbound}; {VIRTUAL6}, inbound member {inbound6}");

    // Pull the cables of the inbound and the cast member.
    let (kept, waited) = (keeper.log().len(), backup.log().len());
    let out: BTreeSet<String> = [inbound, production.cast().unwrap()].into();
    for name in &out {
        lab.member(name).cable().pull().unwrap();
    }
    let moved = || !out.contains(&wait_inbound(&production, VIRTUAL.into()));
    assert!(wait_until(TIMEOUT, moved), "{out:?} are unplugged:\n{}", production.show());
    assert_reached(
        &lab,
        &production.macs_without(&out.iter().cloned().collect::<Vec<_>>()).into_iter().collect(),
        "pulled",
    );
    // Without advertisements the peer would become master within this time.
    let before = adverts.on(lab.peer(0).cable().name());
    let count = || adverts.on(lab.peer(0).cable().name()) - before;
    assert!(wait_until(TIMEOUT, || count() > MASTER_DOWN_S), "{} advertisements", count());
    for name in &out {
        lab.member(name).cable().replug().unwrap();
    }
    production.wait_usable(lab.members().len()).unwrap();
    assert_reached(&lab, &members, "plugged in again");
    let changed = [transitions(&keeper, kept), transitions(&backup, waited)].concat();
    assert!(changed.is_empty(), "{changed:?}");
    println!("{out:?} were pulled without a change of the master: {} advertisements", count());

    keeper.terminate().unwrap();
    for instance in ["four", "six"] {
        backup.wait_line(&format!("({instance}) Entering MASTER STATE"), waited, TIMEOUT).unwrap();
    }
    for address in [IpAddr::from(VIRTUAL), VIRTUAL6.into(), LINK_LOCAL.into()] {
        wait_removed(&production, address);
    }
    assert!(data_addresses(&production).iter().any(|known| known.address == IpAddr::from(DATA)));
    let peer = BTreeSet::from([lab.peer(0).mac()]);
    assert_reached(&lab, &peer, "peer is master");
    production.assert_clean();
}
