//! ARP requests and neighbour solicitations before, during and after failovers get one reply each, from the inbound member.
//! There are no duplicates, and the switches learn the port of the inbound member.

lab::lane!(alone);

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lab::network::{DATA, DATA6};
use lab::percentile;
use lab::production::GROUP;
use lab::resolver::Request;
use lab::{
    Lab, MS, Mac, MeasurementLock, Member, Namespace, Production, Program, Resolver, SECOND, Stream, Switch,
    multicast, show_mac, wait_until,
};

const FAILOVERS: usize = 20;
const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(DATA), IpAddr::V6(DATA6)];
/// In the range that every switch floods.
const MULTICAST: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 178);
/// Requests for each address while a carrier goes down.
const REQUESTS_DURING: usize = 3;
/// Maximum time until a reply, and until a member is live again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The permitted replies to a request.
#[derive(Debug)]
struct Expected {
    request: usize,
    what: String,
    /// 0 if the request may have been dropped by the port.
    min: usize,
    from: Vec<Mac>,
}

impl Expected {
    fn check(&self, request: &Request) {
        let what = format!("{}: {} requested {}", self.what, request.sender, request.target);
        let replies: Vec<_> =
            request.replies.iter().map(|reply| (show_mac(reply.mac), show_mac(reply.source))).collect();
        assert!((self.min..=1).contains(&replies.len()), "{what}: replies {replies:?}");
        for reply in &request.replies {
            assert!(self.from.contains(&reply.mac), "{what}: reply with {}", show_mac(reply.mac));
            assert_eq!(reply.mac, reply.source, "{what}: the frame was sent by another member");
        }
    }
}

/// The MACs that answer for [`ADDRESSES`].
fn inbound(lab: &Lab, production: &Production<'_>) -> [Mac; 2] {
    ADDRESSES.map(|address| lab.member(&production.inbound(address).unwrap()).mac())
}

/// Waits until both switches have learned the port of a member. Returns the time since `since`.
fn wait_learned(lab: &Lab, member: &Member, since: Instant) -> Duration {
    for switch in [Switch::A, Switch::B] {
        let port = lab.port_to(switch, member);
        let place = || lab.learned_port(switch, member.mac()).unwrap();
        let known = wait_until(PATIENCE, || place().as_deref() == Some(port));
        assert!(known, "{} is at {port} of {switch:?}, which has learned {:?}", member.name(), place());
    }
    since.elapsed()
}

#[test]
fn one_reply_before_during_and_after_each_of_twenty_failovers() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let (one, two) = (lab.peer(0), lab.peer(1));
    let _memberships = multicast::join(lab.host(), GROUP, &[MULTICAST.into()]).unwrap();
    let stream = Stream::new(two.namespace(), lab.host(), MULTICAST).source(two.v4()).start().unwrap();
    stream.wait_received(100, PATIENCE).unwrap();
    let start = |namespace: &Namespace, program: &str, arguments: &[&str]| {
        let mut command = namespace.command(program);
        command.args(arguments);
        Program::start(&lab, command).unwrap()
    };
    let arping = start(two.namespace(), "arping", &["-b", "-I", "eth0", &DATA.to_string()]);
    let pings =
        ADDRESSES.map(|address| start(one.namespace(), "ping", &["-n", "-i", "0.02", &address.to_string()]));
    let taken: Vec<_> = lab.peers().iter().map(|peer| peer.v4().into()).collect();
    let resolver = Resolver::open(one, &taken).unwrap();

    let (mut expected, mut known_after) = (Vec::new(), Vec::new());
    let mut inbound_macs = Vec::new();
    for turn in 0..FAILOVERS {
        let address = ADDRESSES[turn % 2];
        let before = inbound(&lab, &production);
        let member = lab.member(&production.inbound(address).unwrap());
        let what = |when: &str| format!("failover {turn} of {}, {when}", member.name());
        for (address, mac) in ADDRESSES.into_iter().zip(before) {
            let request = resolver.request(address).unwrap();
            resolver.wait_reply(request, PATIENCE).unwrap();
            expected.push(Expected { request, what: what("before"), min: 1, from: vec![mac] });
        }
        for switch in [Switch::A, Switch::B] {
            lab.switch(switch).ip("link set br0 type bridge fdb_flush").unwrap();
        }
        let start = Instant::now();
        let meanwhile = std::thread::scope(|scope| {
            let requester = scope.spawn(|| {
                let mut numbers = Vec::new();
                for _ in 0..REQUESTS_DURING {
                    numbers.extend(ADDRESSES.map(|address| resolver.request(address).unwrap()));
                    std::thread::sleep(MS);
                }
                numbers
            });
            member.cable().pull().unwrap();
            requester.join().unwrap()
        });
        // The carrier is down: another member replies, whether the daemon has processed the event or not.
        let after = ADDRESSES.map(|address| resolver.request(address).unwrap());
        let moved = || inbound(&lab, &production).iter().all(|mac| *mac != member.mac());
        assert!(wait_until(PATIENCE, moved), "{} is still the inbound member", member.name());
        let now = inbound(&lab, &production);
        let new_inbound = lab.members().iter().find(|other| other.mac() == now[turn % 2]).unwrap();
        known_after.push(wait_learned(&lab, new_inbound, start));
        for (number, request) in after.into_iter().enumerate() {
            resolver.wait_reply(request, PATIENCE).unwrap();
            expected.push(Expected { request, what: what("after"), min: 1, from: vec![now[number]] });
        }
        for (number, request) in meanwhile.into_iter().enumerate() {
            let from = vec![before[number % 2], now[number % 2]];
            expected.push(Expected { request, what: what("during"), min: 0, from });
        }
        inbound_macs.extend([before[0], now[0]]);
        production.replug(member).unwrap();
    }

    let [arping, ping, ping6] = [arping]
        .into_iter()
        .chain(pings)
        .map(|tool| tool.interrupt().unwrap().join("\n"))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let report = stream.stop().unwrap();
    let requests = resolver.close();
    for expected in &expected {
        expected.check(&requests[expected.request]);
    }
    // The times include those of external commands, which a busy machine may start late: only the median is checked.
    let [half, slowest] = [50.0, 100.0].map(|percent| percentile(&known_after, percent));
    let answers: usize = requests.iter().map(|request| request.replies.len()).sum();
    println!(
        "{FAILOVERS} failovers: {} requests, {answers} replies, all correct; the switches learned the port of the \
         inbound member after {half:?} (p50), {slowest:?} at most; multicast: {report}",
        requests.len()
    );
    assert_eq!(expected.len(), requests.len());
    assert!(half < SECOND, "the switches learn the port of the inbound member too late: {known_after:?}");
    assert_eq!(report.duplicated(), 0, "{report}");
    assert!(report.lost() * 10 < report.sent(), "{report}");
    for output in [ping, ping6] {
        let last: Vec<_> = output.lines().rev().take(2).collect();
        println!("{}", last.join("; "));
        assert!(!output.contains("DUP!"), "{output}");
        assert!(output.matches("bytes from").count() > 5 * FAILOVERS, "{output}");
    }
    check_arping(&arping, &inbound_macs);
    production.assert_clean();
}

/// Checks the output of `arping`: at most one reply to each request, from the inbound members in their order.
fn check_arping(output: &str, inbound_macs: &[Mac]) {
    let count = |what: &str| -> usize {
        let line = output
            .lines()
            .find(|line| line.starts_with(what))
            .unwrap_or_else(|| panic!("no {what}: {output}"));
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    let (sent, received) = (count("Sent"), count("Received"));
    println!("arping: {sent} sent, {received} received");
    assert!(received <= sent && received * 2 > sent, "{output}");
    let macs: Vec<_> = output.lines().filter_map(|line| line.split(['[', ']']).nth(1)).collect();
    assert_eq!(macs.len(), received, "{output}");
    let mut turns = inbound_macs.iter().map(|mac| show_mac(*mac).to_uppercase()).peekable();
    for mac in macs {
        // The members were inbound in this order; between two requests there may have been more than one.
        while turns.next_if(|turn| turn != mac).is_some() {}
        assert!(turns.peek().is_some(), "reply from {mac}, which was not the inbound member: {output}");
    }
}
