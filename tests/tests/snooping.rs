//! With IGMP and MLD snooping in the switches, IPv6 neighbour discovery and multicast work with every pair of inbound and
//! cast member, before and after moves.

lab::lane!(side_by_side, seconds = 40);

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lab::network::{DATA, DATA6};
use lab::ping;
use lab::production::GROUP;
use lab::{FrameCounters, Lab, MS, Mac, Production, SECOND, Stream, TIMEOUT, filter, multicast, wait_until};

/// One data address of each family for every member.
const FURTHER: [&str; 4] =
    ["192.168.178.210/24", "192.168.178.211/24", "fd00:178::210/64", "fd00:178::211/64"];
/// Multicast groups that the host has joined.
const WANTED: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(239, 178, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0x178, 1))];
/// Multicast groups without members.
const UNWANTED: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(239, 178, 0, 2)), IpAddr::V6(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0x178, 2))];
const UNWANTED_MACS: [Mac; 2] = [[0x01, 0x00, 0x5e, 0x32, 0, 2], [0x33, 0x33, 0x01, 0x78, 0, 2]];
/// Packets of a stream to wait for.
const ENOUGH: u64 = 100;

/// Multicast packets are received by the host once each.
fn assert_received_once(lab: &Lab, what: &str) {
    let peer = lab.peer(0);
    let running = WANTED.map(|group| {
        let source: IpAddr = if group.is_ipv4() { peer.v4().into() } else { peer.v6().into() };
        (group, Stream::new(peer.namespace(), lab.host(), group).source(source).start().unwrap())
    });
    for (group, stream) in running {
        let received = stream.wait_received(ENOUGH, 5 * SECOND);
        let report = stream.stop().unwrap();
        received.unwrap_or_else(|error| panic!("{what}, to {group}: {error}"));
        assert_eq!((report.lost(), report.duplicated()), (0, 0), "{what}, to {group}: {report}");
    }
}

/// Waits until multicast to groups without members reaches no cable of a member.
fn wait_snooping(lab: &Lab) {
    let peer = lab.peer(0);
    for (group, mac) in UNWANTED.into_iter().zip(UNWANTED_MACS) {
        let source: IpAddr = if group.is_ipv4() { peer.v4().into() } else { peer.v6().into() };
        let snooping = wait_until(TIMEOUT, || {
            let counters = FrameCounters::start(lab, &filter::to(mac)).unwrap();
            let stream = Stream::new(peer.namespace(), lab.host(), group).source(source).start().unwrap();
            let sent = wait_until(SECOND, || stream.sent() >= ENOUGH);
            let report = stream.stop().unwrap();
            assert!(sent && counters.on("cable of peer1") >= ENOUGH, "{group}: {report}");
            lab.members().iter().all(|member| counters.on(member.cable().name()) == 0)
        });
        assert!(snooping, "multicast to {group}, which has no members, reaches the members' cables");
    }
}

/// Checks resolution and multicast, and records the inbound and cast members.
fn check(lab: &Lab, production: &Production<'_>, what: &str, seen: &mut BTreeSet<(String, String)>) {
    let cast = production.cast().unwrap();
    let addresses: Vec<IpAddr> =
        production.report().unwrap().addresses.into_iter().map(|known| known.address).collect();
    for address in addresses.into_iter().filter(|address| !is_link_local(address)) {
        let inbound = production.inbound(address).unwrap();
        let what = format!("{what}: {address} by {inbound}, multicast by {cast}");
        let peer = lab.peer(1);
        peer.flush_neighbours().unwrap();
        assert_eq!(peer.neighbour(address).unwrap(), None, "{what}");
        let reached = peer.ping(address, 2, 5 * MS, 5 * SECOND).unwrap();
        assert_eq!((reached.answered, reached.duplicates), (2, 0), "{what}: {reached:?}");
        assert_eq!(peer.neighbour(address).unwrap(), Some(lab.member(&inbound).mac()), "{what}");
        seen.insert((inbound, cast.clone()));
    }
    // The other direction: the host has no neighbour entries.
    lab.host().ip(&format!("neigh flush dev {GROUP}")).unwrap();
    let peer = lab.peer(0);
    for (from, to) in [(DATA.into(), peer.v4().into()), (IpAddr::from(DATA6), IpAddr::from(peer.v6()))] {
        let reached = ping(lab.host(), Some(from), to, 2, 5 * MS, 5 * SECOND).unwrap();
        assert_eq!((reached.answered, reached.duplicates), (2, 0), "{what}, from {from}: {reached:?}");
    }
    assert_received_once(lab, what);
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// How roles are moved.
#[derive(Clone, Copy, Debug)]
enum Move {
    Offline,
    Cable,
}

/// Moves the cast role to every member in turn, and checks before, while the old cast member has failed, and after it is
/// restored, until every pair of inbound and cast member was checked.
fn check_all_pairs(way: Move) {
    let lab = Lab::builder().snooping(true).build().unwrap();
    let production = Production::create(&lab).unwrap();
    production.daemon.ctl(&format!("address add {} --group {GROUP}", FURTHER.join(" "))).unwrap();
    production.wait_usable(3).unwrap();
    let _memberships = multicast::join(lab.host(), GROUP, &WANTED).unwrap();
    wait_snooping(&lab);
    let mut seen = BTreeSet::new();
    check(&lab, &production, &format!("{way:?}, at first"), &mut seen);
    for turn in 0..lab.members().len() {
        let cast = production.cast().unwrap();
        let member = lab.member(&cast);
        let what = format!("{way:?} {turn}, {cast}");
        match way {
            Move::Offline => drop(production.daemon.ctl(&format!("offline {cast}")).unwrap()),
            Move::Cable => drop(member.cable().pull().unwrap()),
        }
        let moved = || production.cast().is_ok_and(|now| now != cast);
        assert!(wait_until(TIMEOUT, moved), "{what} is still the cast member");
        check(&lab, &production, &format!("{what} out"), &mut seen);
        match way {
            Move::Offline => drop(production.daemon.ctl(&format!("online {cast}")).unwrap()),
            Move::Cable => {
                production.replug(member).unwrap();
            }
        }
        production.wait_usable(3).unwrap();
        check(&lab, &production, &format!("{what} back"), &mut seen);
    }
    wait_snooping(&lab);
    println!("{way:?}: checked pairs of inbound and cast member: {seen:?}");
    assert_eq!(seen.len(), lab.members().len().pow(2), "not every pair was checked: {seen:?}");
    production.assert_clean();
}

#[test]
fn resolution_and_multicast_work_when_members_are_taken_offline() {
    lab::needs_root!();
    check_all_pairs(Move::Offline);
}

#[test]
fn resolution_and_multicast_work_when_cables_are_pulled() {
    lab::needs_root!();
    check_all_pairs(Move::Cable);
}
