//! Senders on the group interface that are not data addresses use the cast member. When it changes, the daemon announces
//! them to peers.

lab::lane!(side_by_side, seconds = 5);

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use etherparse::{Icmpv6Type, PacketBuilder, icmpv6::NeighborAdvertisementHeader};
use lab::host::INTERFACE;
use lab::neighbour::arp_request;
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{Host, Lab, MS, Mac, MeasurementLock, Production, SECOND, TIMEOUT, filter, show_mac, wait_until};

/// A container behind the host, which sends ARP replies for it (proxy ARP).
const CONTAINER: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 250);
/// A sender on the group interface itself, by IPv6.
const SENDER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x178, 0, 0, 0, 0, 0, 0x250);
/// An address that was probed and never used.
const PROBED: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 251);
/// An address that was on the host and is on another machine now.
const MOVED: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 252);
/// An address that was a container's and is a data address now.
const PROMOTED: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 253);

fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let header = NeighborAdvertisementHeader { router: false, solicited: false, r#override: true };
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let payload = [&address.octets()[..], &[2, 1], &mac].concat();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, [0x33, 0x33, 0, 0, 0, 1])
        .ipv6(address.octets(), all_nodes.octets(), 255)
        .icmpv6(Icmpv6Type::NeighborAdvertisement(header))
        .write(&mut frame, &payload)
        .unwrap();
    frame
}

/// A namespace with [`CONTAINER`], reached through the host alone.
fn start_container(lab: &Lab) -> lab::Namespace {
    let (host, container) = (lab.host(), lab.namespace("container").unwrap());
    host.ip(&format!("link add c0 type veth peer name eth0 netns {}", container.name())).unwrap();
    host.ip("link set c0 up").unwrap();
    container.ip(&format!("addr add {CONTAINER}/24 dev eth0")).unwrap();
    container.ip("link set eth0 up").unwrap();
    host.ip(&format!("route add {CONTAINER}/32 dev c0")).unwrap();
    for key in ["net.ipv4.ip_forward", "net.ipv4.conf.production0.proxy_arp", "net.ipv4.conf.c0.proxy_arp"] {
        host.sysctl(key, "1").unwrap();
    }
    container
}

/// The peer's kernel sends no solicitations: it learns changes of neighbours from announcements only.
fn disable_reachability_probes(peer: &Host) {
    for family in ["ipv4", "ipv6"] {
        let key = format!("net.{family}.neigh.{INTERFACE}.base_reachable_time_ms");
        peer.namespace().sysctl(&key, "3600000").unwrap();
    }
}

/// Sender addresses of the ARP packets that a peer receives, until `enough` returns true.
fn receive_arp(
    socket: &PacketSocket,
    mut enough: impl FnMut(&[(Ipv4Addr, Mac)]) -> bool,
) -> Vec<(Ipv4Addr, Mac)> {
    let (mut senders, mut buffer, start) = (Vec::new(), [0; 128], Instant::now());
    while !enough(&senders) && start.elapsed() < TIMEOUT {
        let Some(seen) = socket.receive(&mut buffer, 20 * MS).unwrap() else { continue };
        if !seen.outgoing && buffer[12..14] == [8, 6] {
            let sender: [u8; 4] = buffer[28..32].try_into().unwrap();
            senders.push((sender.into(), buffer[22..28].try_into().unwrap()));
        }
    }
    senders
}

#[test]
fn unknown_senders_are_announced_with_the_cast_member() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let _container = start_container(&lab);
    let (peer, other) = (lab.peer(0), lab.peer(1));
    disable_reachability_probes(peer);
    let cast_mac = || lab.member(&production.cast().unwrap()).mac();
    let first = cast_mac();

    let reached = || peer.ping(CONTAINER.into(), 1, MS, SECOND).unwrap().answered == 1;
    assert!(wait_until(TIMEOUT, reached), "the container cannot be reached");
    assert_eq!(
        peer.neighbour(CONTAINER.into()).unwrap(),
        Some(first),
        "the cast member's MAC answers for it"
    );

    // From the group interface, as ipvlan and the like send.
    let own = lab.host().link(GROUP).unwrap().mac;
    let group = PacketSocket::open(lab.host(), Some(GROUP), &filter::ethertype(0x88b5)).unwrap();
    group.send(&advertisement(own, SENDER6)).unwrap();
    group.send(&arp_request(own, Ipv4Addr::UNSPECIFIED, PROBED).unwrap()).unwrap();
    for address in [MOVED, PROMOTED] {
        group.send(&arp_request(own, address, address).unwrap()).unwrap();
    }
    production.daemon.ctl(&format!("address add {PROMOTED}/24 --group {GROUP}")).unwrap();
    let line = format!("-6 neigh replace {SENDER6} dev {INTERFACE} lladdr {} nud reachable", show_mac(first));
    peer.namespace().ip(&line).unwrap();
    // The address moves to another machine, which announces it by broadcast.
    let remote = PacketSocket::open(other.namespace(), Some(INTERFACE), &filter::ethertype(0x88b5)).unwrap();
    remote.send(&arp_request(other.mac(), MOVED, MOVED).unwrap()).unwrap();
    let known = || other.neighbour(peer.v4().into()).unwrap().is_some();
    assert!(other.ping(peer.v4().into(), 1, MS, SECOND).unwrap().answered == 1 && known());

    let socket = PacketSocket::open(peer.namespace(), Some(INTERFACE), &filter::ethertype(0x0806)).unwrap();
    let promoted_by = lab.member(&production.inbound(PROMOTED).unwrap()).mac();
    let name = production.cast().unwrap();
    lab.member(&name).cable().pull().unwrap();
    // The second announcement follows two seconds later: by then all addresses have been announced once.
    let twice = |senders: &[(Ipv4Addr, Mac)]| senders.iter().filter(|(ip, _)| *ip == CONTAINER).count() >= 2;
    let senders = receive_arp(&socket, twice);
    let second = cast_mac();
    assert_ne!(second, first);
    assert!(twice(&senders), "the container is not announced: {senders:?}");
    for (ip, mac) in &senders {
        assert!(*ip != CONTAINER || *mac == second, "{ip} is announced with {}", show_mac(*mac));
        assert!(![PROBED, MOVED].contains(ip), "{ip} is announced, which is not of this host");
    }
    let inbound = [promoted_by, lab.member(&production.inbound(PROMOTED).unwrap()).mac()];
    let promoted: Vec<_> = senders.iter().filter(|(ip, _)| *ip == PROMOTED).collect();
    assert!(promoted.iter().all(|(_, mac)| inbound.contains(mac)), "{promoted:?}, and not of {inbound:02x?}");
    for address in [IpAddr::from(CONTAINER), SENDER6.into()] {
        let neighbour = peer.neighbour(address).unwrap();
        assert_eq!(neighbour, Some(second), "{address}: neighbour entry of the peer");
    }
    assert!(reached(), "the container cannot be reached by {}", show_mac(second));
    println!("{} ARP packets, the container's with {}", senders.len(), show_mac(second));
    lab.member(&name).cable().replug().unwrap();
    production.wait_usable(3).unwrap();
    production.assert_clean();
}
