//! With the daemon stopped or killed and the inbound and cast members failed, a peer without neighbour entries resolves the
//! host and reaches it, and receives broadcast once.

lab::lane!(side_by_side, seconds = 20);

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lab::network::{DATA, DATA6};
use lab::ping;
use lab::production::GROUP;
use lab::{Lab, MS, MeasurementLock, Production, SECOND, Stream, multicast, show_mac};

/// The broadcast address of the lab's network.
const BROADCAST: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 255);
/// In the range that every switch floods.
const MULTICAST: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 178);
const MULTICAST6: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x178);
/// Packets of a broadcast stream to wait for.
const ENOUGH: u64 = 200;

/// The state of the daemon while the cables are pulled.
#[derive(Clone, Copy, Debug)]
enum Absence {
    Stopped,
    Killed,
}

/// Broadcast and multicast packets of a peer are received once each.
fn assert_received_once(lab: &Lab, what: &str) {
    let peer = lab.peer(1);
    let streams: [(IpAddr, IpAddr); 3] = [
        (BROADCAST.into(), peer.v4().into()),
        (MULTICAST.into(), peer.v4().into()),
        (MULTICAST6.into(), peer.v6().into()),
    ];
    for (destination, source) in streams {
        let stream = Stream::new(peer.namespace(), lab.host(), destination).source(source);
        let running = stream.start().unwrap();
        let received = running.wait_received(ENOUGH, 5 * SECOND);
        let report = running.stop().unwrap();
        received.unwrap_or_else(|error| panic!("{what}, to {destination}: {error}"));
        report.ensure_valid().unwrap();
        assert_eq!((report.lost(), report.duplicated()), (0, 0), "{what}, to {destination}: {report}");
    }
}

/// Pulls the inbound member and the cast member; peers must still resolve and reach the data address.
fn resolves_without_daemon(absence: Absence) {
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let mut production = Production::create(&lab).unwrap();
    let groups = [MULTICAST.into(), MULTICAST6.into()];
    let _memberships = multicast::join(lab.host(), GROUP, &groups).unwrap();
    for address in [IpAddr::from(DATA), DATA6.into()] {
        let mut pulled = vec![production.inbound(address).unwrap(), production.cast().unwrap()];
        pulled.dedup();
        let left = production.macs_without(&pulled);
        let what = format!("{address}, {absence:?}, pulled {}", pulled.join(" and "));
        // The switches have learned the ports of the old members and must learn those of the new ones.
        assert_eq!(lab.peer(0).ping(address, 1, MS, SECOND).unwrap().answered, 1, "{what}");
        match absence {
            Absence::Stopped => production.daemon.stop().unwrap(),
            Absence::Killed => production.daemon.kill().unwrap(),
        }
        for name in &pulled {
            lab.member(name).cable().pull().unwrap();
        }

        for host in [lab.peer(0), lab.peer(1), lab.router()] {
            host.flush_neighbours().unwrap();
            assert_eq!(host.neighbour(address).unwrap(), None, "{what}");
            let replies = host.resolve(address, 200 * MS).unwrap();
            let macs: Vec<_> = replies.iter().map(|reply| reply.mac).collect();
            assert_eq!(macs.len(), 1, "{what}: replies from {macs:02x?}");
            assert!(left.contains(&macs[0]), "{what}: reply from {}", show_mac(macs[0]));
            let reached = host.ping(address, 5, 10 * MS, SECOND).unwrap();
            assert_eq!((reached.answered, reached.duplicates), (5, 0), "{what}: {reached:?}");
            let neighbour = host.neighbour(address).unwrap();
            assert!(neighbour.is_some_and(|mac| left.contains(&mac)), "{what}: {neighbour:02x?}");
        }
        // The other direction: the host has no neighbour entries.
        lab.host().ip("neigh flush dev production0").unwrap();
        let peer = lab.peer(0);
        let other = if address.is_ipv4() { peer.v4().into() } else { peer.v6().into() };
        let reached = ping(lab.host(), Some(address), other, 5, 10 * MS, SECOND).unwrap();
        assert_eq!((reached.answered, reached.duplicates), (5, 0), "{what}, from the host: {reached:?}");
        assert_received_once(&lab, &what);
        println!("{what}: resolved, reached, received once");

        for name in &pulled {
            lab.member(name).cable().replug().unwrap();
        }
        match absence {
            Absence::Stopped => production.daemon.resume().unwrap(),
            Absence::Killed => production.daemon.start().unwrap(),
        }
        production.wait_usable(3).unwrap();
        assert_received_once(&lab, "all members restored");
    }
    production.assert_clean();
}

#[test]
fn host_is_resolved_with_the_daemon_stopped() {
    lab::needs_root!();
    resolves_without_daemon(Absence::Stopped);
}

#[test]
fn host_is_resolved_with_the_daemon_killed() {
    lab::needs_root!();
    resolves_without_daemon(Absence::Killed);
}
