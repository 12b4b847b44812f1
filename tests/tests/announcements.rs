//! Announcements of data addresses: which, when, and how many a port receives.

lab::lane!(side_by_side, seconds = 40);

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, atomic::AtomicBool};
use std::time::{Duration, Instant};

use lab::network::{DATA, DATA6};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{
    Host, Lab, Mac, MeasurementLock, MemberKind, Production, SECOND, Stream, TIMEOUT, Worker, filter, host,
    wait_until,
};

/// Data addresses beside [`DATA`].
const FURTHER: [u8; 5] = [210, 211, 212, 213, 214];

fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    FURTHER.into_iter().map(|last| Ipv4Addr::new(192, 168, 178, last)).chain([DATA])
}

/// An ARP announcement that a peer has received.
#[derive(Clone, Copy, Debug)]
struct Announcement {
    address: Ipv4Addr,
    mac: Mac,
    at: Instant,
}

/// Records the ARP announcements that a peer receives.
struct Recorder {
    seen: Arc<Mutex<Vec<Announcement>>>,
    _worker: Worker<()>,
}

impl Recorder {
    fn start(peer: &Host) -> Self {
        let arp = filter::ethertype(0x0806);
        let socket = PacketSocket::open(peer.namespace(), Some(host::INTERFACE), &arp).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let work = move |stop: &AtomicBool| {
            socket
                .receive_until(stop, |seen, frame| {
                    // An ARP request with equal sender and target addresses.
                    if !seen.outgoing && frame[20..22] == [0, 1] && frame[28..32] == frame[38..42] {
                        let address: [u8; 4] = frame[28..32].try_into().unwrap();
                        let mac = frame[22..28].try_into().unwrap();
                        let at = socket.received_at().unwrap();
                        record.lock().unwrap().push(Announcement { address: address.into(), mac, at });
                    }
                })
                .unwrap();
        };
        Self { seen, _worker: Worker::start("announcements", work).unwrap() }
    }

    fn clear(&self) {
        self.seen.lock().unwrap().clear();
    }

    fn seen(&self) -> Vec<Announcement> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until every address was announced with the MAC of its inbound member.
    fn wait_all(&self, lab: &Lab, production: &Production<'_>, what: &str) {
        let mut missing = BTreeSet::new();
        let all = wait_until(TIMEOUT, || {
            let report = production.report().unwrap();
            let holder = |address: Ipv4Addr| {
                let known = report.addresses.iter().find(|known| known.address == address)?;
                Some(lab.member(known.inbound.as_deref()?).mac())
            };
            let seen = self.seen();
            let is_announced = |address: &Ipv4Addr| {
                seen.iter().any(|one| one.address == *address && Some(one.mac) == holder(*address))
            };
            missing = addresses().filter(|address| !is_announced(address)).collect();
            missing.is_empty()
        });
        assert!(all, "{what}: not announced by their inbound members: {missing:?}");
    }
}

/// The highest number of announcements of one MAC within a second.
fn most_in_a_second(seen: &[Announcement]) -> usize {
    let within = |first: &Announcement| {
        let near = |one: &&Announcement| {
            // The capture may be late: a tenth less than a second.
            one.mac == first.mac && one.at >= first.at && one.at < first.at + SECOND * 9 / 10
        };
        seen.iter().filter(near).count()
    };
    seen.iter().map(within).max().unwrap_or(0)
}

#[test]
fn failed_member_lets_all_addresses_be_announced_within_the_rate() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production =
        Production::builder(&lab).settings("announce-count=1 announce-interval=60s").create().unwrap();
    let recorder = Recorder::start(lab.peer(0));
    let further: Vec<_> = FURTHER.iter().map(|last| format!("192.168.178.{last}/24")).collect();
    production.daemon.ctl(&format!("address add {} --group {GROUP}", further.join(" "))).unwrap();
    // DATA was announced before the capture has started.
    let added =
        || FURTHER.iter().all(|last| recorder.seen().iter().any(|one| one.address.octets()[3] == *last));
    assert!(wait_until(TIMEOUT, added), "{:?}", recorder.seen());

    let failed = lab.member("e1000g0");
    let moved: Vec<_> = addresses().filter(|&ip| production.inbound(ip).unwrap() == failed.name()).collect();
    recorder.clear();
    failed.cable().pull().unwrap();
    production.wait_usable(2).unwrap();
    recorder.wait_all(&lab, &production, "after a failure");
    println!("{moved:?} moved, announced: {}", recorder.seen().len());
    assert!(moved.len() < addresses().count());

    recorder.clear();
    production.daemon.ctl(&format!("set {GROUP} announce-interval=1s")).unwrap();
    recorder.wait_all(&lab, &production, "each in its turn");
    println!("in turn: {}", recorder.seen().len());

    production.daemon.ctl(&format!("set {GROUP} announce-rate=2 announce-interval=60s")).unwrap();
    recorder.clear();
    lab.member("e1000g1").cable().pull().unwrap();
    production.wait_usable(1).unwrap();
    recorder.wait_all(&lab, &production, "with announce-rate=2");
    let seen = recorder.seen();
    println!("at most {} announcements in a second: {}", most_in_a_second(&seen), seen.len());
    assert!(most_in_a_second(&seen) <= 2, "{seen:?}");
    production.assert_clean();
}

/// How a member fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The interface is set down.
    HostSide,
    /// The switch port is set down.
    FarEnd,
    /// The carrier of a TAP device goes down.
    Tap,
}

/// The inbound member of [`DATA`] fails: it is announced `count` times, with the MAC of the next one, and then no more.
fn assert_announced_exactly(failure: Failure, count: usize) {
    let kind = if failure == Failure::Tap { MemberKind::Tap } else { MemberKind::Veth };
    let lab = Lab::builder().kind(kind).build().unwrap();
    let settings = format!("announce-count={count} announce-interval=3600s");
    let production = Production::builder(&lab).settings(&settings).create().unwrap();
    let recorder = Recorder::start(lab.peer(0));
    // Those of the new address end first: one every two seconds.
    let interval = 2 * SECOND;
    std::thread::sleep(interval * count as u32);
    recorder.clear();
    let failed = production.inbound(DATA).unwrap();
    match failure {
        Failure::HostSide => drop(lab.host().ip(&format!("link set {failed} down")).unwrap()),
        Failure::FarEnd | Failure::Tap => drop(lab.member(&failed).cable().pull().unwrap()),
    }
    production.wait_usable(2).unwrap();
    let holder = lab.member(&production.inbound(DATA).unwrap()).mac();
    assert!(wait_until(TIMEOUT, || recorder.seen().len() >= count), "{:?}", recorder.seen());
    std::thread::sleep(2 * interval);
    let seen: Vec<_> = recorder.seen().iter().map(|one| (one.address, one.mac)).collect();
    println!("{failure:?}, announce-count={count}: {seen:02x?}");
    assert_eq!(seen, vec![(DATA, holder); count], "{failure:?}");
    production.assert_clean();
}

#[test]
fn failover_is_announced_exactly_as_often_as_set() {
    lab::needs_root!();
    std::thread::scope(|scope| {
        for (failure, count) in [(Failure::HostSide, 1), (Failure::FarEnd, 3), (Failure::Tap, 2)] {
            scope.spawn(move || assert_announced_exactly(failure, count));
        }
    });
}

/// MACs in Neighbour Advertisements for an address that a peer receives, while `work` runs.
fn advertised(peer: &Host, address: Ipv6Addr, work: impl FnOnce()) -> Vec<Mac> {
    let socket =
        PacketSocket::open(peer.namespace(), Some(host::INTERFACE), &filter::ethertype(0x86dd)).unwrap();
    work();
    let mut found = Vec::new();
    socket
        .receive_for(SECOND / 10, |seen, frame| {
            // Ethernet, IPv6 without extension headers, type, flags, target, option with the MAC.
            if !seen.outgoing && frame.len() >= 86 && frame[54] == 136 && frame[62..78] == address.octets() {
                found.push(frame[80..86].try_into().unwrap());
            }
        })
        .unwrap();
    found
}

#[test]
fn ipv6_address_is_announced_after_detection_and_never_if_another_host_has_it() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let (owner, peer) = (lab.peer(0), lab.peer(1));
    let taken = owner.v6();
    let members: Vec<Mac> = lab.members().iter().map(lab::Member::mac).collect();
    let add = |address: Ipv6Addr| lab.host().ip(&format!("-6 addr add {address}/64 dev {GROUP}")).unwrap();

    let is_duplicate = || {
        let report = production.report().unwrap();
        report.addresses.iter().any(|known| known.address == taken && known.duplicate && !known.up)
    };
    let macs = advertised(peer, taken, || {
        add(taken);
        assert!(wait_until(TIMEOUT, is_duplicate), "{}", production.show());
    });
    assert!(macs.iter().all(|mac| !members.contains(mac)), "{taken} was announced by the group: {macs:02x?}");
    let line =
        format!("Data address {taken} of group {GROUP} is not used: another host has the same address");
    assert_eq!(production.daemon.log_matches(&line, 0).len(), 1);
    assert!(
        production.show().contains("inbound none, duplicate: another host has it"),
        "{}",
        production.show()
    );
    production.daemon.ctl(&format!("address del {taken}/64 --group {GROUP}")).unwrap();
    assert!(!is_duplicate());

    let free = Ipv6Addr::new(0xfd00, 0x178, 0, 0, 0, 0, 0, 0x55);
    let macs = advertised(peer, free, || {
        add(free);
        assert!(wait_until(TIMEOUT, || production.inbound(free).is_ok()), "{}", production.show());
    });
    let inbound = lab.member(&production.inbound(free).unwrap()).mac();
    println!("{taken}: duplicate; {free}: announced by {}", lab::show_mac(inbound));
    assert!(macs.contains(&inbound), "{macs:02x?}");
    production.assert_clean();
}

#[test]
fn ipv4_address_of_another_host_is_not_announced_and_claims_are_answered_once() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::builder(&lab)
        .settings("announce-count=1 announce-interval=60s address-detection=yes")
        .create()
        .unwrap();
    let (owner, peer) = (lab.peer(0), lab.peer(1));
    let recorder = Recorder::start(peer);
    let members: Vec<Mac> = lab.members().iter().map(lab::Member::mac).collect();
    let of = |address: Ipv4Addr| {
        let seen = recorder.seen().into_iter();
        seen.filter(|one| one.address == address && members.contains(&one.mac)).count()
    };
    let free = Ipv4Addr::new(192, 168, 178, 210);
    let taken = owner.v4();
    production.daemon.ctl(&format!("address add {free}/24 {taken}/24 --group {GROUP}")).unwrap();
    assert!(wait_until(TIMEOUT, || of(free) == 1), "{:?}", recorder.seen());
    let owned = format!("Another host ({}) has data address {taken}", lab::show_mac(owner.mac()));
    production.daemon.wait_line(&owned, 0, TIMEOUT).unwrap();
    assert_eq!(of(taken), 0, "{:?}", recorder.seen());
    let report = production.report().unwrap();
    let duplicates: Vec<_> = report.addresses.iter().filter(|known| known.duplicate).collect();
    assert!(matches!(duplicates[..], [one] if one.address == taken), "{duplicates:?}");

    // As arping -U: a burst of claims is reported and answered once.
    let rival =
        PacketSocket::open(peer.namespace(), Some(host::INTERFACE), &filter::ethertype(0x88b5)).unwrap();
    for _ in 0..20 {
        rival.send(&lab::neighbour::arp_request(peer.mac(), free, free).unwrap()).unwrap();
        std::thread::sleep(SECOND / 100);
    }
    let claimed = format!("Another host ({}) claims data address {free}", lab::show_mac(peer.mac()));
    production.daemon.wait_line(&claimed, 0, TIMEOUT).unwrap();
    assert!(wait_until(TIMEOUT, || of(free) == 2), "{:?}", recorder.seen());
    std::thread::sleep(SECOND / 2);
    assert_eq!(of(free), 2, "{:?}", recorder.seen());
    assert_eq!(production.daemon.log_matches(&claimed, 0).len(), 1);
    println!("{owned}; {claimed}");
    production.assert_clean();
}

#[test]
fn ipv6_address_claimed_by_advertisement_is_reported_and_announced_once() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production =
        Production::builder(&lab).settings("announce-count=1 announce-interval=60s").create().unwrap();
    let peer = lab.peer(1);
    let rival =
        PacketSocket::open(peer.namespace(), Some(host::INTERFACE), &filter::ethertype(0x88b5)).unwrap();
    let claim = lab::neighbour::unsolicited_advertisement(peer.mac(), DATA6).unwrap();
    let claimed = format!("Another host ({}) claims data address {DATA6}", lab::show_mac(peer.mac()));
    let macs = advertised(peer, DATA6, || {
        for _ in 0..20 {
            rival.send(&claim).unwrap();
            std::thread::sleep(SECOND / 100);
        }
        production.daemon.wait_line(&claimed, 0, TIMEOUT).unwrap();
        std::thread::sleep(SECOND / 2);
    });
    let inbound = lab.member(&production.inbound(DATA6).unwrap()).mac();
    println!("{claimed}; announced by {macs:02x?}");
    assert_eq!(macs, [inbound]);
    assert_eq!(production.daemon.log_matches(&claimed, 0).len(), 1);
    production.assert_clean();
}

/// Has a neighbour know an address under this MAC.
fn set_neighbour(peer: &Host, address: IpAddr, mac: Mac, nud: &str) {
    let (mac, dev) = (lab::show_mac(mac), host::INTERFACE);
    peer.namespace().ip(&format!("neigh replace {address} lladdr {mac} dev {dev} nud {nud}")).unwrap();
}

/// A neighbour that has the MAC of another member than the inbound member is corrected.
fn assert_corrected(production: &Production<'_>, peer: &Host, address: IpAddr, inbound: Mac, wrong: Mac) {
    assert_eq!(peer.ping(address, 2, SECOND / 100, TIMEOUT).unwrap().answered, 2);
    set_neighbour(peer, address, wrong, "reachable");
    let start = Instant::now();
    let mut known = None;
    // Without a correction, Linux resolves it again after 20 s.
    while known != Some(inbound) && start.elapsed() < 10 * SECOND {
        peer.ping(address, 50, SECOND / 200, TIMEOUT).unwrap();
        known = peer.neighbour(address).unwrap();
    }
    println!("{address}: corrected after {:.1} s", start.elapsed().as_secs_f32());
    assert_eq!(known, Some(inbound), "{}", production.show());
}

/// A neighbour that has the MAC of this member for ever is sent three corrections, and is listed.
fn assert_listed(production: &Production<'_>, peer: &Host, inbound: Mac, wrong: &lab::Member) {
    let address = IpAddr::from(DATA);
    set_neighbour(peer, address, wrong.mac(), "permanent");
    let replies =
        PacketSocket::open(peer.namespace(), Some(host::INTERFACE), &filter::ethertype(0x0806)).unwrap();
    let mac = lab::show_mac(peer.mac());
    let line = format!(
        "Neighbour {mac} still sends packets for data address {DATA} of group {GROUP} to the MAC of {}",
        wrong.name()
    );
    let is_logged = || {
        peer.ping(address, 50, SECOND / 200, TIMEOUT).unwrap();
        !production.daemon.log_matches(&line, 0).is_empty()
    };
    assert!(wait_until(TIMEOUT, is_logged), "{}", production.daemon.log().join("\n"));
    peer.ping(address, 300, SECOND / 200, TIMEOUT).unwrap();
    let mut corrections = 0;
    replies
        .receive_for(SECOND / 10, |seen, frame| {
            let is_correction = frame[20..22] == [0, 2] && frame[22..28] == inbound;
            corrections += usize::from(!seen.outgoing && is_correction && frame[..6] == peer.mac());
        })
        .unwrap();
    assert_eq!((corrections, production.daemon.log_matches(&line, 0).len()), (3, 1));
    assert_eq!(peer.neighbour(address).unwrap(), Some(wrong.mac()));
    let listed = format!("neighbour {mac}: still sends packets for {DATA} to the MAC of {}", wrong.name());
    assert!(production.show().contains(&listed), "{}", production.show());
    println!("{line}");
}

#[test]
fn neighbour_that_missed_announcements_is_corrected_and_static_one_is_listed() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    // Later announcements do not correct it.
    let production =
        Production::builder(&lab).settings("announce-count=1 announce-interval=3600s").create().unwrap();
    let inbound = |address: IpAddr| lab.member(&production.inbound(address).unwrap()).mac();
    let wrong = |address| lab.members().iter().find(|member| member.mac() != inbound(address)).unwrap();
    std::thread::scope(|scope| {
        let address = IpAddr::from(DATA);
        let (mac, other) = (inbound(address), wrong(address));
        let (lab, production) = (&lab, &production);
        scope.spawn(move || assert_listed(production, lab.peer(1), mac, other));
        for address in [address, DATA6.into()] {
            assert_corrected(production, lab.peer(0), address, inbound(address), wrong(address).mac());
        }
    });
    production.assert_clean();
}

/// Bridges that forget a MAC after 15 s and do not flood: addresses are received without any traffic of their own.
#[test]
#[ignore = "waits longer than the ageing time of the bridges"]
fn soak_bridges_with_ageing_of_15_s_and_without_flooding_lose_no_inbound_packet() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().ageing(Duration::from_secs(15)).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let peer = lab.peer(0);
    assert_eq!(peer.ping(DATA.into(), 2, SECOND / 100, 5 * SECOND).unwrap().answered, 2);
    for (_, port) in lab.ports() {
        port.namespace.ip(&format!("link set {} type bridge_slave flood off", port.interface)).unwrap();
    }
    let running = Stream::inbound(&lab).rate(20).start().unwrap();
    std::thread::sleep(Duration::from_secs(40));
    let report = running.stop().unwrap();
    println!("{report}");
    assert_eq!(report.lost(), 0, "{report}");
    production.assert_clean();
}
