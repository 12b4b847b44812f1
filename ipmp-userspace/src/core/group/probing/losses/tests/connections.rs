//! Losses of TCP connections, seeded: the sweeps of `core::probe::segments` over connections that lose segments at random. No
//! probe is lost unless said.

use std::collections::HashMap;

use super::*;
use crate::core::probe::segments::{Connection, SWEEP, Sweeps};

/// Number of the group in sweeps.
const GROUP: u32 = 7;

/// A connection, and the share that it loses whatever its member.
struct Sender {
    state: Connection,
    share: f64,
}

/// The connections of a group, and its network.
struct Traffic {
    wire: Wire,
    sweeps: Sweeps,
    senders: Vec<Sender>,
    /// The share that each member loses.
    losses: BTreeMap<u8, f64>,
    random: u64,
}

impl Traffic {
    fn new(members: u8, seed: u64, settings: Settings) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let wire = wire(members, seed, settings);
        Self { wire, sweeps: Sweeps::default(), senders: Vec::new(), losses: BTreeMap::new(), random }
    }

    fn draw(&mut self) -> f64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as f64 / f64::from(1u32 << 31)
    }

    /// Connections to an address, each of which the kernel gives a member at random, and which lose this share.
    fn connect(&mut self, count: usize, remote: [u8; 4], share: f64) {
        let members = self.wire.group.members().len() as f64;
        for _ in 0..count {
            let member = (self.draw() * members) as u8;
            let hash = (self.draw() * f64::from(u32::MAX)) as u32;
            let remote = IpAddr::from(remote);
            let state =
                Connection { group: GROUP, member, hash, remote, sent: 0, retransmitted: 0, duplicates: 0 };
            self.senders.push(Sender { state, share });
        }
    }

    /// Ten seconds: each connection sends a few dozen segments, then they are counted.
    fn sweep(&mut self) {
        for place in 0..self.senders.len() {
            let Sender { state, share } = &self.senders[place];
            let of_member = self.losses.get(&state.member).copied().unwrap_or_default();
            let share = 1.0 - (1.0 - share) * (1.0 - of_member);
            let segments = 10 + (self.draw() * 40.0) as u32;
            let lost = (0..segments).filter(|_| self.draw() < share).count() as u32;
            // Sent again without need, as the other end reports.
            let twice = u32::from(self.draw() < 0.2);
            let state = &mut self.senders[place].state;
            state.sent += segments + lost + twice;
            state.retransmitted += lost + twice;
            state.duplicates += twice;
        }
        self.wire.run(SWEEP);
        let found: HashMap<u64, Connection> = (1..).zip(self.senders.iter().map(|of| of.state)).collect();
        let peers = self.wire.group.loss_peers();
        if let Some(lost) = self.sweeps.compare(found, |_| peers).remove(&GROUP) {
            self.wire.tell(Input::TcpSegments(lost));
        }
        self.wire.actions.clear();
        self.wire.probes.clear();
        self.wire.large.clear();
    }

    fn degraded(&self) -> Vec<u8> {
        degraded(&self.wire)
    }

    /// Time until members are degraded, at most `limit`.
    fn until_degraded(&mut self, limit: Duration) -> Option<Duration> {
        let start = self.wire.now;
        while self.wire.now - start < limit {
            self.sweep();
            if !self.degraded().is_empty() {
                return Some(self.wire.now - start);
            }
        }
        None
    }
}

/// One member of three loses this share of what its connections send; all lose some in the network.
fn name_lossy_member(share: f64, connections: usize, limit: Duration, count: u64) {
    let mut times = Vec::new();
    for seed in 0..count {
        let (mut traffic, lossy) = (Traffic::new(3, seed, Settings::default()), (seed % 3) as u8);
        traffic.connect(connections, [192, 0, 2, 1], 0.002);
        traffic.sweep();
        traffic.losses.insert(lossy, share);
        let took = traffic.until_degraded(limit);
        assert_eq!(traffic.degraded(), [lossy], "seed {seed}");
        times.push(took.expect("it is degraded"));
        for _ in 0..12 {
            traffic.sweep();
            assert_eq!(traffic.degraded(), [lossy], "seed {seed}");
        }
        let loss = traffic.wire.group.member(lossy).and_then(Member::loss).expect("a loss");
        assert_eq!(loss.of, LossEvidence::Segments);
    }
    times.sort();
    let at = |percentile: usize| times[(times.len() - 1) * percentile / 100].as_secs();
    println!(
        "{}% loss on one of three members, {connections} connections: the right one in {count} of {count} runs, after {} s (p50), {} s (p99), \
         {} s (max)",
        share * 100.0,
        at(50),
        at(99),
        at(100)
    );
}

#[test]
fn member_whose_connections_lose_5_percent_is_named() {
    name_lossy_member(0.05, 60, 5 * MINUTE, FEW_RUNS);
}

#[test]
#[ignore = "soak: more runs"]
fn soak_member_whose_connections_lose_5_percent_is_named() {
    name_lossy_member(0.05, 60, 5 * MINUTE, RUNS);
}

#[test]
#[ignore = "soak: takes minutes"]
fn soak_member_whose_connections_lose_2_percent_is_named() {
    name_lossy_member(0.02, 60, HOUR, RUNS);
    name_lossy_member(0.02, 480, HOUR, RUNS);
    name_lossy_member(0.30, 60, HOUR, RUNS);
}

fn lose_on_all_members(seeds: std::ops::Range<u64>, time: Duration) {
    for (members, share) in [(2, 0.05), (3, 0.01), (3, 0.05), (3, 0.2), (8, 0.05)] {
        for seed in seeds.clone() {
            let mut traffic = Traffic::new(members, seed, Settings::default());
            traffic.connect(16 * usize::from(members), [192, 0, 2, 1], share);
            let named = traffic.until_degraded(time);
            assert_eq!(
                (named, traffic.degraded()),
                (None, vec![]),
                "{members} members, {share}, seed {seed}"
            );
        }
    }
}

#[test]
fn connections_of_all_members_that_lose_alike_degrade_none() {
    lose_on_all_members(0..1, HOUR / 4);
}

#[test]
#[ignore = "soak: takes minutes"]
fn soak_connections_of_all_members_that_lose_alike_degrade_none() {
    lose_on_all_members(0..20, HOUR);
}

/// Clients that lose very much: one in its own network, one among others in theirs, and one connection of many behind one address.
fn slow_clients(seeds: std::ops::Range<u64>, time: Duration) {
    for seed in seeds {
        let mut traffic = Traffic::new(3, seed, Settings::default());
        traffic.connect(6, [198, 51, 100, 1], 0.4);
        traffic.connect(2, [203, 0, 113, 66], 0.4);
        for client in 0..40 {
            traffic.connect(1, [203, 0, 113, client], 0.001);
        }
        traffic.connect(40, [192, 0, 2, 1], 0.001);
        traffic.connect(1, [192, 0, 2, 1], 0.4);
        let named = traffic.until_degraded(time);
        assert_eq!((named, traffic.degraded()), (None, vec![]), "seed {seed}");
    }
}

#[test]
fn slow_clients_degrade_no_member() {
    slow_clients(0..4, HOUR / 2);
}

#[test]
#[ignore = "soak: takes minutes"]
fn soak_slow_clients_degrade_no_member() {
    slow_clients(0..50, 2 * HOUR);
}

#[test]
fn member_whose_connections_lose_no_more_is_in_order_again() {
    let mut traffic = Traffic::new(3, 5, Settings::default());
    traffic.connect(60, [192, 0, 2, 1], 0.001);
    traffic.sweep();
    traffic.losses.insert(1, 0.05);
    traffic.until_degraded(5 * MINUTE).expect("it is degraded");
    let lines = traffic.wire.said();
    assert!(lines.iter().any(|line| line.contains("of its TCP segments in ")), "{lines:?}");
    traffic.losses.clear();
    let start = traffic.wire.now;
    while !traffic.degraded().is_empty() {
        traffic.sweep();
        assert!(traffic.wire.now - start < 5 * MINUTE);
    }
    println!("in order again after {:?}", traffic.wire.now - start);
    for _ in 0..60 {
        traffic.sweep();
        assert_eq!(traffic.degraded(), NONE);
    }
}

/// With `loss-fail` its connections have other members.
#[test]
fn member_without_connections_is_in_order_again_by_its_probes() {
    let settings = Settings { loss_fail: percent("2%"), ..Settings::default() };
    let mut traffic = Traffic::new(3, 9, settings);
    traffic.connect(60, [192, 0, 2, 1], 0.001);
    traffic.sweep();
    traffic.losses.insert(2, 0.3);
    traffic.until_degraded(5 * MINUTE).expect("it is degraded");
    while traffic.wire.usable() != [0, 1] {
        traffic.sweep();
    }
    traffic.senders.retain(|of| of.state.member != 2);
    let start = traffic.wire.now;
    while !traffic.degraded().is_empty() {
        traffic.sweep();
        assert!(traffic.wire.now - start < HOUR);
    }
    println!("in order again by its probes after {:?}", traffic.wire.now - start);
    assert_eq!(traffic.wire.usable(), [0, 1, 2]);
}

/// Replies to probes are lost on the way in; segments arrive.
#[test]
fn connections_that_lose_nothing_do_not_end_what_probes_show() {
    let mut traffic = Traffic::new(3, 7, Settings::default());
    traffic.connect(96, [192, 0, 2, 1], 0.0);
    traffic.wire.losses.insert(1, 0.3);
    traffic.until_degraded(HOUR).expect("it is degraded");
    for _ in 0..60 {
        traffic.sweep();
        assert_eq!(traffic.degraded(), [1]);
    }
}

#[test]
fn evidence_off_and_loss_warn_off_forget_connections() {
    for settings in [
        Settings { evidence: false, ..Settings::default() },
        Settings { loss_warn: None, ..Settings::default() },
    ] {
        let mut traffic = Traffic::new(3, 5, Settings::default());
        traffic.connect(60, [192, 0, 2, 1], 0.001);
        traffic.losses.insert(1, 0.05);
        traffic.sweep();
        traffic.sweep();
        let kept = |traffic: &Traffic| {
            traffic.wire.group.probing.losses.members.values().filter(|of| of.segments.is_some()).count()
        };
        assert_eq!(kept(&traffic), 3);
        assert!(traffic.wire.group.counts_segments());
        traffic.wire.tell(Input::Settings(settings));
        assert!(!traffic.wire.group.counts_segments());
        assert_eq!(kept(&traffic), 0);
    }
}
