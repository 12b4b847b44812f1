//! 256 data addresses on four members: their inbound members are balanced after every failure and repair, all of them are
//! announced in small batches, and outbound failover is as fast as with one address. Thousands of addresses are added and
//! removed in linear time, up to a limit.

lab::lane!(alone);

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use lab::inbound_failover::{BURST, PACKETS_PER_S};
use lab::network::{DATA, DATA6};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{
    Host, Lab, MS, Mac, MeasurementLock, Member, MemberKind, Namespace, Production, SECOND, Stream, TIMEOUT,
    Worker, clock, command, filter, host, percentile, show_mac, wait_until,
};

const MEMBERS: usize = 4;
/// Number of IPv4 data addresses.
const ADDRESSES: usize = 256;
/// Addresses per request.
const PER_REQUEST: usize = 64;
/// Maximum announcements sent per millisecond.
const MAX_SENT: usize = 32;
/// Maximum announcements received per millisecond: a busy machine may merge two batches. All at once would be 256.
const MAX_RECEIVED: usize = 2 * MAX_SENT;
/// Attempts, if batches were merged because the machine was busy.
const ATTEMPTS: usize = 3;
/// Time between two announcements of an address.
const SPACING: Duration = Duration::from_secs(2);
/// Pulls per measurement.
const PULLS: usize = 5;
/// An outage that begins later after a pull has another cause.
const WINDOW: Duration = Duration::from_millis(20);

/// Addresses that another program adds; also four times as many.
const FEW: usize = 1000;
/// Most addresses of a group and its members.
const LIMIT: usize = 4096;
/// Maximum time for thousands of addresses.
const PATIENCE: Duration = Duration::from_secs(120);

/// A data address of the group by number: 1 and more.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 178, (number / 250) as u8, (number % 250) as u8 + 1)
}

/// Adds all of them to the group.
fn add_addresses(production: &Production<'_>) {
    let further: Vec<_> = (1..ADDRESSES).map(|number| format!("{}/16", address(number))).collect();
    for some in further.chunks(PER_REQUEST) {
        production.daemon.ctl(&format!("address add {} --group {GROUP}", some.join(" "))).unwrap();
    }
}

/// The number of IPv4 addresses of each inbound member.
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

/// Checks that every address has an inbound member, and that they are balanced.
fn assert_balanced(production: &Production<'_>, members: usize, what: &str) {
    production.wait_usable(members).unwrap();
    let shares = shares(production);
    println!("{what}: {shares:?}");
    assert_eq!((shares.len(), shares.values().sum::<usize>()), (members, ADDRESSES), "{what}: {shares:?}");
    let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
    assert!(most - least <= 1, "{what}: {shares:?}");
}

/// An ARP announcement that a peer has received.
#[derive(Clone, Copy, Debug)]
struct Announcement {
    address: Ipv4Addr,
    mac: Mac,
    at: Instant,
}

/// Starts to capture ARP announcements on the cable of a peer.
fn capture(peer: &Host) -> Worker<Vec<Announcement>> {
    let arp = filter::ethertype(0x0806);
    let socket = PacketSocket::open(peer.namespace(), Some(host::INTERFACE), &arp).unwrap();
    socket.set_buffer(8 << 20).unwrap();
    let work = move |stop: &AtomicBool| {
        clock::use_realtime_priority();
        let mut found = Vec::new();
        let missed = socket.receive_until(stop, |seen, frame| {
            let at = socket.received_at().unwrap();
            // An ARP request with equal sender and target addresses.
            if !seen.outgoing && frame[20..22] == [0, 1] && frame[28..32] == frame[38..42] {
                let address: [u8; 4] = frame[28..32].try_into().unwrap();
                let mac = frame[22..28].try_into().unwrap();
                assert_eq!(frame[6..12], mac, "sent by another member than {}", show_mac(mac));
                found.push(Announcement { address: address.into(), mac, at });
            }
        });
        assert_eq!(missed.unwrap(), 0, "the capture missed frames");
        found
    };
    Worker::start("announcements", work).unwrap()
}

#[test]
fn inbound_members_are_balanced_and_announced_in_batches() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().members(MEMBERS).build().unwrap();
    let production = Production::create(&lab).unwrap();
    add_addresses(&production);
    assert_balanced(&production, MEMBERS, "initially");
    for member in lab.members() {
        member.cable().pull().unwrap();
        assert_balanced(&production, MEMBERS - 1, &format!("without {}", member.name()));
        production.replug(member).unwrap();
        assert_balanced(&production, MEMBERS, &format!("{} is back", member.name()));
    }
    let (some, others) = lab.members().split_at(2);
    for member in some {
        member.cable().pull().unwrap();
    }
    assert_balanced(&production, MEMBERS - some.len(), "without two");
    for member in others {
        member.cable().pull().unwrap();
    }
    production.wait_usable(0).unwrap();

    let most = (1..=ATTEMPTS)
        .map(|_| all_announced(&lab, &production, &others[0]))
        .find(|most| *most <= MAX_RECEIVED);
    assert!(most.is_some(), "{ATTEMPTS} times more than {MAX_RECEIVED} announcements in a millisecond");
    assert_balanced(&production, 1, "one member");
    production.assert_clean();
}

#[test]
fn hundred_addresses_on_eight_members_are_answered_while_members_go_and_return() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().members(8).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let sixth = |number: usize| Ipv6Addr::new(0xfd00, 0x178, 0, 0, 0, 0, 1, number as u16);
    let both = |number| [(IpAddr::from(address(number)), 16), (sixth(number).into(), 64)];
    let further: Vec<(IpAddr, u8)> = (1..50).flat_map(both).collect();
    let words: Vec<_> = further.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
    production.daemon.ctl(&format!("address add {} --group {GROUP}", words.join(" "))).unwrap();
    let peer = lab.peer(0);
    peer.namespace().ip(&format!("route add 10.178.0.0/16 dev {}", host::INTERFACE)).unwrap();
    let all: Vec<IpAddr> =
        further.iter().map(|(address, _)| *address).chain([DATA.into(), DATA6.into()]).collect();
    let check = |members: usize, what: &str| {
        production.wait_usable(members).unwrap();
        let mut shares = BTreeMap::new();
        for known in production.report().unwrap().addresses {
            *shares.entry((known.address.is_ipv6(), known.inbound.unwrap())).or_insert(0) += 1;
        }
        println!("{what}: {shares:?}");
        // The group's link-local address is one more.
        let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
        assert_eq!(
            (shares.len(), shares.values().sum::<usize>()),
            (2 * members, all.len() + 1),
            "{what}: {shares:?}"
        );
        assert!(most - least <= 1, "{what}: {shares:?}");
        for address in &all {
            let is_answered = || peer.ping(*address, 1, MS, SECOND).is_ok_and(|ping| ping.answered == 1);
            assert!(
                wait_until(TIMEOUT, is_answered),
                "{what}: {address} is not answered\n{}",
                production.show()
            );
        }
    };
    check(8, "initially");
    // All but one go, two in each turn, then all return at once.
    let (last, others) = lab.members().split_last().unwrap();
    let mut left = lab.members().len();
    for pulled in others.chunks(2) {
        for member in pulled {
            member.cable().pull().unwrap();
        }
        left -= pulled.len();
        check(left, &format!("{left} members left"));
    }
    assert_eq!(production.inbound(DATA).unwrap(), last.name());
    for member in others {
        member.cable().replug().unwrap();
    }
    check(8, "all are back");
    production.assert_clean();
}

/// Starts without a usable member. The first one that returns becomes the inbound member of all addresses and must announce
/// each twice. Returns the maximum number of announcements received within a millisecond.
fn all_announced(lab: &Lab, production: &Production<'_>, first: &Member) -> usize {
    first.cable().pull().unwrap();
    production.wait_usable(0).unwrap();
    let capture = capture(lab.peer(0));
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
    assert!(once.is_empty(), "announced only once within {SPACING:?}: {once:?}");
    let within = |first: &Announcement| {
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

/// The member that transmits a stream of one flow.
fn transmitting(lab: &Lab, glance: Duration) -> Option<&Member> {
    let carried = |member: &Member| member.cable().wire().map_or(0, |wire| wire.forwarded().outbound);
    let before: Vec<u64> = lab.members().iter().map(carried).collect();
    std::thread::sleep(glance);
    let enough = (PACKETS_PER_S as f64 * glance.as_secs_f64() / 2.0) as u64;
    let grown = |(member, before): &(&Member, u64)| carried(member) - before > enough;
    lab.members().iter().zip(before).find(grown).map(|(member, _)| member)
}

/// The outages at a peer when the cable of the transmitting member is pulled, with the daemon running or stopped.
fn outages(lab: &Lab, production: &Production<'_>, stopped: bool) -> Vec<Duration> {
    let stream = Stream::outbound(lab);
    let running = stream.rate(PACKETS_PER_S).burst(BURST).gaps(BURST).start().unwrap();
    running.wait_received(PACKETS_PER_S / 5, TIMEOUT).unwrap();
    let mut pulled = Vec::new();
    for _ in 0..PULLS {
        let mut member = None;
        assert!(wait_until(TIMEOUT, || {
            member = transmitting(lab, 10 * MS);
            member.is_some()
        }));
        let member = member.unwrap();
        if stopped {
            production.daemon.stop().unwrap();
        }
        pulled.push(member.cable().pull().unwrap());
        std::thread::sleep(2 * WINDOW);
        if stopped {
            production.daemon.resume().unwrap();
        }
        production.replug(member).unwrap();
    }
    let report = running.stop().unwrap();
    println!("{report}");
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    pulled.iter().map(|at| report.outage(at.before, at.after + WINDOW - at.before).max(BURST)).collect()
}

#[test]
fn outbound_failover_is_as_fast_as_with_one_address() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().members(MEMBERS).kind(MemberKind::Tap).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let half = |stopped| percentile(&outages(&lab, &production, stopped), 50.0);
    let one = half(false);
    add_addresses(&production);
    assert_balanced(&production, MEMBERS, "before the pulls");
    // The datapath decides for each packet, without a lookup of addresses. With the daemon running, its announcements also
    // need CPU time.
    let (many, without) = (half(false), half(true));
    println!(
        "outbound outage, p50 of {PULLS} pulls: {one:?} with 1 address, {many:?} with {ADDRESSES}, {without:?} with these and \
         the daemon stopped"
    );
    // A loop over all addresses would take ten times as long.
    for outage in [many, without] {
        assert!(outage < 10 * one.max(MS), "{outage:?} with {ADDRESSES} addresses, {one:?} with one");
    }
    production.assert_clean();
}

/// An address that another program adds to the group interface, by number.
fn of_other_program(number: usize) -> Ipv4Addr {
    let [.., third, fourth] = (number as u32).to_be_bytes();
    Ipv4Addr::new(10, 180, third, fourth)
}

/// Adds or removes addresses by `ip`, and waits for the message about the last one. Returns the time that this took.
fn change_addresses(
    production: &Production<'_>,
    host: &Namespace,
    verb: &str,
    numbers: std::ops::Range<usize>,
    message: &str,
) -> Duration {
    let last = of_other_program(numbers.end - 1);
    let change = |number| format!("address {verb} {}/32 dev {GROUP}", of_other_program(number));
    let lines: Vec<_> = numbers.map(change).collect();
    let since = production.daemon.log().len();
    let start = Instant::now();
    command::ip_batch(Some(host), &lines).unwrap();
    production.daemon.wait_line(&format!("Data address {last} {message}"), since, PATIENCE).unwrap();
    start.elapsed()
}

#[test]
fn thousands_of_addresses_take_linear_time_and_those_over_limit_are_reported() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let change = |verb, numbers, message| change_addresses(&production, lab.host(), verb, numbers, message);
    let both = |count| {
        let added = change("add", 0..count, "has been added");
        (added, change("del", 0..count, "has been removed"))
    };
    let (few, many) = (both(FEW), both(4 * FEW));
    println!("{FEW} addresses added and removed in {few:?}, {} in {many:?}", 4 * FEW);
    for (few, many) in [(few.0, many.0), (few.1, many.1)] {
        // Linear is 4, quadratic 16. A short time is mostly that of `ip` and of the log; announcements share the thread.
        assert!(many < 8 * few.max(SECOND), "{many:?} for {}, {few:?} for {FEW}", 4 * FEW);
    }

    let report = production.report().unwrap();
    let present = report.addresses.len() + report.members.iter().map(|of| of.addresses.len()).sum::<usize>();
    let (room, over) = (LIMIT - present, 10);
    let since = production.daemon.log().len();
    let message =
        format!("of group {GROUP} is not used: the group and its members already have {LIMIT} addresses");
    change("add", 0..room + over, &message);
    let reported = production.daemon.log_matches(&message, since);
    assert_eq!(reported.len(), over, "{reported:?}");
    let first = of_other_program(room);
    let shown = production.show();
    let what = format!("data address {first}/32 and {} others: not used", over - 1);
    assert!(shown.contains(&what), "no `{what}` in the checks");
    let refused = production.daemon.ctl_error(&format!("address add 10.181.0.1/32 --group {GROUP}")).unwrap();
    assert!(refused.contains(&format!("cannot add 10.181.0.1/32 to {GROUP}")), "{refused}");
    println!("{refused}");
    let peer = lab.peer(0);
    peer.namespace().ip(&format!("route add 10.180.0.0/16 dev {}", host::INTERFACE)).unwrap();
    for number in [0, room / 2, room - 1] {
        let address = of_other_program(number);
        let ping = peer.ping(address.into(), 1, MS, TIMEOUT).unwrap();
        assert_eq!(ping.answered, 1, "{address} is not answered: {ping:?}");
    }
    // One that is removed makes room for another.
    change("del", 0..1, "has been removed");
    production.daemon.wait_line(&format!("Data address {first} has been added"), since, TIMEOUT).unwrap();
    production.assert_clean();
}
