//! Who has the address? Peers ask before, during and after failovers, and are answered once, by the inbound member. Nobody
//! hears anything twice, and the switches know where the inbound member is.

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
/// Of the block that every switch floods.
const MULTICAST: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 178);
/// Requests for each address while a carrier goes.
const MEANWHILE: usize = 3;
/// How long an answer may take, and a member to carry again, before that is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a request may be answered.
#[derive(Debug)]
struct Expected {
    request: usize,
    what: String,
    /// It may have been lost in the port.
    at_least: usize,
    by: Vec<Mac>,
}

impl Expected {
    fn check(&self, request: &Request) {
        let what = format!("{}: {} asked for {}", self.what, request.sender, request.target);
        let told: Vec<_> =
            request.replies.iter().map(|told| (show_mac(told.mac), show_mac(told.source))).collect();
        assert!((self.at_least..=1).contains(&told.len()), "{what}: answers {told:?}");
        for told in &request.replies {
            assert!(self.by.contains(&told.mac), "{what}: told {}", show_mac(told.mac));
            assert_eq!(told.mac, told.source, "{what}: the frame is another member's");
        }
    }
}

/// The MACs that answer for [`ADDRESSES`].
fn inbound(lab: &Lab, production: &Production<'_>) -> [Mac; 2] {
    ADDRESSES.map(|address| lab.member(&production.inbound(address).unwrap()).mac())
}

/// Both switches learn where a member is. Gives how long after `since`.
fn learnt(lab: &Lab, member: &Member, since: Instant) -> Duration {
    for switch in [Switch::A, Switch::B] {
        let port = lab.port_to(switch, member);
        let place = || lab.learned_port(switch, member.mac()).unwrap();
        let known = wait_until(PATIENCE, || place().as_deref() == Some(port));
        assert!(known, "{} is at {port} of {switch:?}, which believes in {:?}", member.name(), place());
    }
    since.elapsed()
}

#[test]
fn one_answer_before_during_and_after_each_of_twenty_failovers() {
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
    let mut answered_by = Vec::new();
    for turn in 0..FAILOVERS {
        let address = ADDRESSES[turn % 2];
        let before = inbound(&lab, &production);
        let member = lab.member(&production.inbound(address).unwrap());
        let what = |when: &str| format!("failover {turn} of {}, {when}", member.name());
        for (address, mac) in ADDRESSES.into_iter().zip(before) {
            let request = resolver.request(address).unwrap();
            resolver.wait_reply(request, PATIENCE).unwrap();
            expected.push(Expected { request, what: what("before"), at_least: 1, by: vec![mac] });
        }
        for switch in [Switch::A, Switch::B] {
            lab.switch(switch).ip("link set br0 type bridge fdb_flush").unwrap();
        }
        let start = Instant::now();
        let meanwhile = std::thread::scope(|scope| {
            let asker = scope.spawn(|| {
                let mut asked = Vec::new();
                for _ in 0..MEANWHILE {
                    asked.extend(ADDRESSES.map(|address| resolver.request(address).unwrap()));
                    std::thread::sleep(MS);
                }
                asked
            });
            member.cable().pull().unwrap();
            asker.join().unwrap()
        });
        // The carrier is gone: whether the daemon knows or not, another member answers.
        let after = ADDRESSES.map(|address| resolver.request(address).unwrap());
        let moved = || inbound(&lab, &production).iter().all(|mac| *mac != member.mac());
        assert!(wait_until(PATIENCE, moved), "{} still answers", member.name());
        let now = inbound(&lab, &production);
        let heir = lab.members().iter().find(|other| other.mac() == now[turn % 2]).unwrap();
        known_after.push(learnt(&lab, heir, start));
        for (number, request) in after.into_iter().enumerate() {
            resolver.wait_reply(request, PATIENCE).unwrap();
            expected.push(Expected { request, what: what("after"), at_least: 1, by: vec![now[number]] });
        }
        for (number, request) in meanwhile.into_iter().enumerate() {
            let by = vec![before[number % 2], now[number % 2]];
            expected.push(Expected { request, what: what("during"), at_least: 0, by });
        }
        answered_by.extend([before[0], now[0]]);
        member.cable().replug().unwrap();
        // Who asks for a link is told of its carrier at once.
        member.cable().wait_carrier(true, PATIENCE).unwrap();
        production.clear_flap_history(member).unwrap();
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
    // Asked by tools, which a busy machine may start late: half of the times count.
    let [half, slowest] = [50.0, 100.0].map(|percent| percentile(&known_after, percent));
    let answers: usize = requests.iter().map(|request| request.replies.len()).sum();
    println!(
        "{FAILOVERS} failovers: {} requests, {answers} answers, none to another or twice; the switches knew the inbound \
         member's place after {half:?} (p50), {slowest:?} at most; multicast: {report}",
        requests.len()
    );
    assert_eq!(expected.len(), requests.len());
    assert!(half < SECOND, "the switches know late where the inbound member is: {known_after:?}");
    assert_eq!(report.duplicated(), 0, "{report}");
    assert!(report.lost() * 10 < report.sent(), "{report}");
    for said in [ping, ping6] {
        let last: Vec<_> = said.lines().rev().take(2).collect();
        println!("{}", last.join("; "));
        assert!(!said.contains("DUP!"), "{said}");
        assert!(said.matches("bytes from").count() > 5 * FAILOVERS, "{said}");
    }
    arping_is_answered_once(&arping, &answered_by);
    production.assert_clean();
}

/// What `arping` has heard: an answer to each request at most, and each from a member whose turn it was.
fn arping_is_answered_once(said: &str, answered_by: &[Mac]) {
    let count = |what: &str| -> usize {
        let line =
            said.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("no {what}: {said}"));
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    let (sent, received) = (count("Sent"), count("Received"));
    println!("arping: {sent} sent, {received} received");
    assert!(received <= sent && received * 2 > sent, "{said}");
    let told: Vec<_> = said.lines().filter_map(|line| line.split(['[', ']']).nth(1)).collect();
    assert_eq!(told.len(), received, "{said}");
    let mut turns = answered_by.iter().map(|mac| show_mac(*mac).to_uppercase()).peekable();
    for mac in told {
        // The members took turns in this order; between two requests there may have been more than one.
        while turns.next_if(|turn| turn != mac).is_some() {}
        assert!(turns.peek().is_some(), "{mac} answered out of turn: {said}");
    }
}
