//! 256 data addresses over four members: they are shared evenly, whoever fails and comes back; every one is announced, a few
//! at a time; and outbound traffic leaves a lost member as soon as with a single address.

lab::lane!(alone);

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::inbound_failover::{BURST, PACKETS_PER_S};
use lab::network::DATA;
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{
    Host, Lab, MS, Mac, MeasurementLock, Member, MemberKind, Production, SECOND, Stream, TIMEOUT, clock,
    filter, host, percentile, show_mac, wait_until,
};

const MEMBERS: usize = 4;
/// IPv4 data addresses, with the one that the group has from the beginning.
const ADDRESSES: usize = 256;
/// Addresses in one request.
const AT_ONCE: usize = 64;
/// Most announcements in a millisecond.
const SCHEDULED: usize = 32;
/// The same on arrival: two bursts may meet on their way through a busy machine. All at once would be 256.
const MERGED: usize = 2 * SCHEDULED;
/// What arrives together, since the machine did something else, is looked at again so often.
const TRIES: usize = 3;
/// Between two announcements of an address.
const SPACING: Duration = Duration::from_secs(2);
/// Pulls of a comparison.
const PULLS: usize = 5;
/// An outage begins so soon after the pull, or is none of the pull's.
const BEGINS: Duration = Duration::from_millis(20);

/// A data address of the group by number: 1 and more.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 178, (number / 250) as u8, (number % 250) as u8 + 1)
}

/// Gives the group all of them.
fn add_addresses(production: &Production<'_>) {
    let further: Vec<_> = (1..ADDRESSES).map(|number| format!("{}/16", address(number))).collect();
    for some in further.chunks(AT_ONCE) {
        production.daemon.ctl(&format!("address add {} --group {GROUP}", some.join(" "))).unwrap();
    }
}

/// How many IPv4 addresses every active member answers for.
fn shares(production: &Production<'_>) -> BTreeMap<String, usize> {
    let report = production.report().unwrap();
    let active = report.members.iter().filter(|member| member.active).map(|member| (member.name.clone(), 0));
    let mut shares: BTreeMap<_, _> = active.collect();
    for address in report.addresses.iter().filter(|known| known.address.is_ipv4()) {
        if let Some(inbound) = &address.inbound {
            *shares.entry(inbound.clone()).or_default() += 1;
        }
    }
    shares
}

/// Every address is answered for, by as many members as carry, and evenly.
fn even(production: &Production<'_>, members: usize, what: &str) {
    production.wait_usable(members).unwrap();
    let shares = shares(production);
    println!("{what}: {shares:?}");
    assert_eq!((shares.len(), shares.values().sum::<usize>()), (members, ADDRESSES), "{what}: {shares:?}");
    let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
    assert!(most - least <= 1, "{what}: {shares:?}");
}

fn replug(production: &Production<'_>, member: &Member) {
    member.cable().replug().unwrap();
    // Who asks for a link is told of its carrier at once.
    member.cable().wait_carrier(true, TIMEOUT).unwrap();
    production.clear_flap_history(member).unwrap();
}

/// An ARP announcement, as a peer has received it.
#[derive(Clone, Copy, Debug)]
struct Announced {
    address: Ipv4Addr,
    mac: Mac,
    at: Instant,
}

/// Announcements on the cable of a peer.
struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Announced>>,
}

impl Capture {
    fn start(peer: &Host) -> Self {
        let socket =
            PacketSocket::open(peer.namespace(), Some(host::INTERFACE), &filter::ethertype(0x0806)).unwrap();
        socket.set_buffer(8 << 20).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = stop.clone();
        Self { stop, thread: std::thread::spawn(move || capture(&socket, &theirs)) }
    }

    fn stop(self) -> Vec<Announced> {
        self.stop.store(true, SeqCst);
        self.thread.join().unwrap()
    }
}

fn capture(socket: &PacketSocket, stop: &AtomicBool) -> Vec<Announced> {
    clock::use_realtime_priority();
    let mut buffer = [0; 64];
    let mut found = Vec::new();
    loop {
        let stopping = stop.load(SeqCst);
        let timeout = if stopping { Duration::ZERO } else { 20 * MS };
        let Some(seen) = socket.receive(&mut buffer, timeout).unwrap() else {
            if stopping {
                assert_eq!(socket.statistics().unwrap().1, 0, "frames were missed by the capture");
                return found;
            }
            continue;
        };
        let at = socket.received_at().unwrap();
        // An ARP request from an address for itself.
        if !seen.outgoing && buffer[20..22] == [0, 1] && buffer[28..32] == buffer[38..42] {
            let v4 = |at: usize| Ipv4Addr::new(buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]);
            let mac = buffer[22..28].try_into().unwrap();
            assert_eq!(buffer[6..12], mac, "{} announces another member's address", show_mac(mac));
            found.push(Announced { address: v4(28), mac, at });
        }
    }
}

#[test]
fn shared_evenly_and_announced_a_few_at_a_time() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().members(MEMBERS).build().unwrap();
    let production = Production::create(&lab).unwrap();
    add_addresses(&production);
    even(&production, MEMBERS, "at first");
    for member in lab.members() {
        member.cable().pull().unwrap();
        even(&production, MEMBERS - 1, &format!("without {}", member.name()));
        replug(&production, member);
        even(&production, MEMBERS, &format!("{} is back", member.name()));
    }
    let (some, others) = lab.members().split_at(2);
    for member in some {
        member.cable().pull().unwrap();
    }
    even(&production, MEMBERS - some.len(), "without two");
    for member in others {
        member.cable().pull().unwrap();
    }
    production.wait_usable(0).unwrap();

    let most = (1..=TRIES).map(|_| all_announced(&lab, &production, &others[0])).find(|most| *most <= MERGED);
    assert!(most.is_some(), "{TRIES} times more than {MERGED} announcements in a millisecond");
    even(&production, 1, "one alone");
    production.assert_clean();
}

/// Nobody carries. Who comes back first answers for everything, and has to say so, twice in the time that is looked at. Gives
/// the most announcements that arrived within a millisecond.
fn all_announced(lab: &Lab, production: &Production<'_>, first: &Member) -> usize {
    first.cable().pull().unwrap();
    production.wait_usable(0).unwrap();
    let capture = Capture::start(lab.peer(0));
    first.cable().replug().unwrap();
    first.cable().wait_carrier(true, TIMEOUT).unwrap();
    production.wait_usable(1).unwrap();
    std::thread::sleep(SPACING + SECOND);
    let announced = capture.stop();
    let all: BTreeSet<Ipv4Addr> = (1..ADDRESSES).map(address).chain([DATA]).collect();
    let mut times: BTreeMap<Ipv4Addr, Vec<Instant>> = BTreeMap::new();
    for one in &announced {
        assert_eq!(one.mac, first.mac(), "{} announced by another", one.address);
        times.entry(one.address).or_default().push(one.at);
    }
    let missing: Vec<_> = all.iter().filter(|address| !times.contains_key(address)).collect();
    assert!(missing.is_empty() && times.len() == all.len(), "not announced: {missing:?}");
    let once: Vec<_> = times.iter().filter(|(_, times)| times.len() < 2).collect();
    assert!(once.is_empty(), "announced once, and not again after {SPACING:?}: {once:?}");
    let within = |first: &Announced| {
        announced.iter().filter(|one| one.at >= first.at && one.at < first.at + MS).count()
    };
    let most = announced.iter().map(within).max().unwrap();
    let firsts: Vec<_> = times.values().map(|times| times[0]).collect();
    let took = *firsts.iter().max().unwrap() - *firsts.iter().min().unwrap();
    println!(
        "{} announcements of {ADDRESSES} addresses, the first ones within {took:?}, at most {most} in a millisecond",
        announced.len()
    );
    assert!(took < SECOND, "{took:?} until every address was announced");
    most
}

/// The member that carries a stream of one flow.
fn carrying(lab: &Lab, glance: Duration) -> Option<&Member> {
    let carried = |member: &Member| member.cable().wire().map_or(0, |wire| wire.forwarded().outbound);
    let before: Vec<u64> = lab.members().iter().map(carried).collect();
    std::thread::sleep(glance);
    let enough = (PACKETS_PER_S as f64 * glance.as_secs_f64() / 2.0) as u64;
    let grown = |(member, before): &(&Member, u64)| carried(member) - before > enough;
    lab.members().iter().zip(before).find(grown).map(|(member, _)| member)
}

/// For how long nothing arrives at a peer, when the member that the stream leaves through is pulled; perhaps with the daemon
/// stopped meanwhile.
fn outages(lab: &Lab, production: &Production<'_>, stopped: bool) -> Vec<Duration> {
    let peer = lab.peer(0);
    let stream = Stream::new(lab.host(), peer.namespace(), peer.v4()).source(DATA);
    let running = stream.rate(PACKETS_PER_S).burst(BURST).gaps(BURST).start().unwrap();
    running.wait_received(PACKETS_PER_S / 5, TIMEOUT).unwrap();
    let mut pulled = Vec::new();
    for _ in 0..PULLS {
        let mut member = None;
        assert!(wait_until(TIMEOUT, || {
            member = carrying(lab, 10 * MS);
            member.is_some()
        }));
        let member = member.unwrap();
        if stopped {
            production.daemon.stop().unwrap();
        }
        pulled.push(member.cable().pull().unwrap());
        std::thread::sleep(2 * BEGINS);
        if stopped {
            production.daemon.resume().unwrap();
        }
        replug(production, member);
    }
    let report = running.stop().unwrap();
    println!("{report}");
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    pulled.iter().map(|at| report.outage(at.before, at.after + BEGINS - at.before).max(BURST)).collect()
}

#[test]
fn outbound_traffic_leaves_a_lost_member_as_soon_as_with_one_address() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().members(MEMBERS).kind(MemberKind::Tap).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let half = |stopped| percentile(&outages(&lab, &production, stopped), 50.0);
    let one = half(false);
    add_addresses(&production);
    even(&production, MEMBERS, "before the pulls");
    // Each packet decides for itself, so no address is looked at. What is longer with the daemon than without is the time for
    // which it and its announcements have a processor of two.
    let (many, without) = (half(false), half(true));
    println!(
        "outbound outage, p50 of {PULLS} pulls: {one:?} with 1 address, {many:?} with {ADDRESSES}, {without:?} with these and \
         the daemon stopped"
    );
    // Told one by one they would take ten times as long.
    for outage in [many, without] {
        assert!(outage < 10 * one.max(MS), "{outage:?} with {ADDRESSES} addresses, {one:?} with one");
    }
    production.assert_clean();
}
