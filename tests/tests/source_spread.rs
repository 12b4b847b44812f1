//! Sources of TCP connections that the host opens: with `source-spread=on` the replies arrive by all members.

lab::lane!(side_by_side, seconds = 30);

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use ipmp::types::Family;
use lab::network::ROUTER;
use lab::production::GROUP;
use lab::{Lab, Production, TIMEOUT, wait_until};

const CONNECTIONS: usize = 120;
/// Bytes that arrive on each of them.
const BYTES: usize = 100_000;
const SPREAD: &str = "the sources of TCP connections to";

/// A host to which the group's host connects.
struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    fn start(lab: &Lab, address: impl Into<IpAddr>) -> Self {
        let address = SocketAddr::new(address.into(), 0);
        let peer = &lab.peers()[0];
        let listener = peer.namespace().run(|| TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// Receives `BYTES` by a new connection; returns its source.
    fn download(&self, lab: &Lab) -> IpAddr {
        let mut connection = lab.host().run(|| TcpStream::connect(self.address)).unwrap();
        let (mut served, from) = self.listener.accept().unwrap();
        let sender = std::thread::spawn(move || served.write_all(&vec![0; BYTES]).unwrap());
        let mut received = Vec::new();
        connection.read_to_end(&mut received).unwrap();
        sender.join().unwrap();
        assert_eq!(received.len(), BYTES);
        from.ip()
    }

    /// The sources of many connections, and the share of their bytes that each member received, in percent.
    fn downloads(&self, lab: &Lab) -> (BTreeSet<IpAddr>, Vec<u64>) {
        let received = || {
            let bytes =
                |member: &lab::network::Member| lab.host().link(member.name()).unwrap().statistics.rx_bytes;
            lab.members().iter().map(bytes).collect::<Vec<_>>()
        };
        let before = received();
        let sources = (0..CONNECTIONS).map(|_| self.download(lab)).collect();
        let bytes: Vec<u64> = received().iter().zip(before).map(|(after, before)| after - before).collect();
        let total: u64 = bytes.iter().sum();
        (sources, bytes.iter().map(|bytes| bytes * 100 / total).collect())
    }
}

fn wait_shown(production: &Production<'_>, text: &str) {
    assert!(wait_until(TIMEOUT, || production.show().contains(text)), "{text}: {}", production.show());
}

#[test]
fn replies_to_connections_of_the_host_arrive_by_all_members() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    for last in 210..215 {
        production.daemon.ctl(&format!("address add 192.168.178.{last}/24 --group {GROUP}")).unwrap();
        production.daemon.ctl(&format!("address add fd00:178::{last}/64 --group {GROUP}")).unwrap();
    }
    let peer = &lab.peers()[0];
    let no_address_is_tentative = || !lab.host().ip("-6 address show").unwrap().contains("tentative");
    assert!(wait_until(TIMEOUT, no_address_is_tentative));
    for address in [IpAddr::V4(peer.v4()), IpAddr::V6(peer.v6())] {
        let server = Server::start(&lab, address);
        production.daemon.ctl(&format!("set {GROUP} source-spread=off")).unwrap();
        // A thread of its own, which may be reading, takes the programs away.
        let sources_differ = || (0..20).map(|_| server.download(&lab)).collect::<BTreeSet<_>>().len() > 1;
        assert!(wait_until(TIMEOUT, || !sources_differ()));
        let (sources, shares) = server.downloads(&lab);
        println!("{address}, off: {} sources, received by the members: {shares:?} %", sources.len());
        assert_eq!(sources.len(), 1);
        assert!(shares.iter().any(|share| *share > 90), "{shares:?}");
        production.daemon.ctl(&format!("set {GROUP} source-spread=on")).unwrap();
        wait_shown(&production, SPREAD);
        let (sources, shares) = server.downloads(&lab);
        println!("{address}, on: {} sources, received by the members: {shares:?} %", sources.len());
        assert_eq!(sources.len(), 6, "{sources:?}");
        // Six addresses on three members, at random.
        assert!(shares.iter().all(|share| (5..70).contains(share)), "{shares:?}");
    }
    production.assert_clean();
}

#[test]
fn routes_rules_and_addresses_decide_which_sources_are_spread() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create_probed(&lab, &[Family::V4], "source-spread=on").unwrap();
    let server = Server::start(&lab, lab.peers()[0].v4());
    let sources = || (0..20).map(|_| server.download(&lab)).collect::<BTreeSet<_>>();
    let wait_sources = |number: usize| {
        assert!(wait_until(TIMEOUT, || sources().len() == number), "{:?} {}", sources(), production.show());
    };
    wait_shown(&production, "are not spread: no network is reached");
    production.daemon.ctl(&format!("address add 192.168.178.210/24 --group {GROUP}")).unwrap();
    // The rules of test addresses are no obstacle.
    wait_shown(&production, SPREAD);
    wait_sources(2);
    let to = format!("{}/32", server.address.ip());
    lab.host().ip(&format!("route add {to} dev {GROUP} src 192.168.178.210")).unwrap();
    wait_sources(1);
    assert_eq!(sources(), BTreeSet::from(["192.168.178.210".parse().unwrap()]));
    lab.host().ip(&format!("route replace {to} via {ROUTER} dev {GROUP}")).unwrap();
    wait_sources(2);
    lab.host().ip(&format!("route del {to}")).unwrap();
    lab.host().ip("rule add to 10.0.0.0/8 lookup 100").unwrap();
    wait_shown(&production, "not spread: rules lead connections to other routing tables");
    wait_sources(1);
    lab.host().ip("rule del to 10.0.0.0/8 lookup 100").unwrap();
    wait_sources(2);
    production.daemon.ctl(&format!("address del 192.168.178.210/24 --group {GROUP}")).unwrap();
    wait_sources(1);
    production.assert_clean();
}
