//! Cables are pulled and replugged in turn while the host sends. Only frames dropped by the pulled ports may be lost.
//!
//! On veth members, frames reach the switch within the sender's call: these tests check order, and the ports count the
//! frames that they drop. On TAP members the carrier goes down atomically: these tests check that no frame is lost.
//! Their wires are threads with varying delay, so the order of a flow that moves is not checked.

lab::lane!(alone, clsact = "with_the_daemon_stopped");

use std::time::{Duration, Instant};

use lab::network::DATA;
use lab::stream::{self, Report};
use lab::{Bulk, Lab, MS, MeasurementLock, Member, MemberKind, Production, Stream, TIMEOUT, wait_until};

/// Pulls per test: two of each cable, and in a soak more.
fn pulls() -> usize {
    lab::of_lane(6, 20)
}

/// How long a cable stays unplugged.
const UNPLUGGED: Duration = Duration::from_millis(100);
/// A member transmits if it sends this number of frames within [`INTERVAL`]: a tenth of its share of the stream.
const TRANSMITS: u64 = 30;
const INTERVAL: Duration = Duration::from_millis(20);
/// Maximum frames dropped by a port per pull, on average: those of the whole stream in 5 ms. The kernel stops the port,
/// waits for all CPUs that may be using it, and only then sets the carrier of the member down.
const MAX_DROPPED: u64 = 250;
/// Enough to dampen every member but the last.
const DAMPENING_PULLS: usize = 12;
/// Attempts, if a measurement is not valid because the machine was busy.
const ATTEMPTS: usize = 3;

/// The parameters of a test.
#[derive(Clone, Copy, Debug)]
struct Scene {
    members: MemberKind,
    /// Whether the daemon is stopped by SIGSTOP.
    stopped: bool,
}

/// The result of a test.
struct Outcome {
    report: Report,
    /// Frames dropped by the ports while they were pulled.
    dropped: u64,
    pulls: usize,
    /// Pulls of cables whose members were transmitting.
    transmitting: usize,
}

/// Pulls a cable and returns the frames that the port dropped until the carrier was down. Frames lost later are faults.
fn pull(member: &Member) -> u64 {
    let before = member.cable().port().unwrap().rx_dropped;
    member.cable().pull().unwrap();
    member.cable().port().unwrap().rx_dropped - before
}

/// Whether a member transmits at least [`TRANSMITS`] frames within [`INTERVAL`].
fn is_transmitting(member: &Member) -> bool {
    let arrived = || member.cable().port().unwrap().rx_packets;
    let before = arrived();
    std::thread::sleep(INTERVAL);
    arrived() - before >= TRANSMITS
}

fn wait_transmitting(member: &Member) {
    assert!(wait_until(TIMEOUT, || is_transmitting(member)), "{} does not transmit again", member.name());
}

/// Starts a stream of 50,000 packets/s from 8 sockets. The member of each flow is random, so it is restarted until every
/// member transmits.
fn stream(lab: &Lab) -> stream::Running {
    for _ in 0..20 {
        let stream = Stream::outbound(lab).flows(8).rate(50_000);
        let running = stream.start().unwrap();
        running.wait_received(10_000, TIMEOUT).unwrap();
        if lab.members().iter().all(is_transmitting) {
            return running;
        }
        running.stop().unwrap();
    }
    panic!("no flow on some member in 20 attempts with 8 flows");
}

impl Scene {
    /// Builds the lab and its group, runs the pulls, and checks the stream.
    fn run(self, what: &str, pulls: impl Fn(Self, &Lab, &Production<'_>) -> Outcome) {
        let _lock = MeasurementLock::acquire().unwrap();
        for number in 1.. {
            let lab = Lab::builder().kind(self.members).build().unwrap();
            let production = Production::create(&lab).unwrap();
            if self.stopped {
                production.daemon.stop().unwrap();
            }
            let result = pulls(self, &lab, &production);
            if self.stopped {
                production.daemon.resume().unwrap();
            }
            let Outcome { report, dropped, pulls, transmitting } = &result;
            println!(
                "{what}, {:?}: {pulls} pulls, {transmitting} of transmitting members; {dropped} dropped by the pulled ports; {report}",
                self.members
            );
            if let Err(reason) = report.ensure_valid()
                && number < ATTEMPTS
            {
                println!("{what}: repeated, because {reason}");
                continue;
            }
            self.assert(what, &result);
            production.assert_clean();
            return;
        }
    }

    fn assert(self, what: &str, Outcome { report, dropped, pulls, .. }: &Outcome) {
        report.ensure_valid().unwrap();
        assert_eq!(report.duplicated(), 0, "{what}: {report}");
        assert_eq!(report.send_errors, 0, "{what}: {report}");
        match self.members {
            MemberKind::Tap => assert_eq!(report.lost(), 0, "{what}: {report}"),
            MemberKind::Veth => {
                assert_eq!(report.reordered(), 0, "{what}: {report}");
                assert!(
                    report.lost() <= *dropped,
                    "{what}: more lost than the {dropped} dropped by the ports: {report}"
                );
                assert!(
                    *dropped <= MAX_DROPPED * *pulls as u64,
                    "{what}: {dropped} dropped by the ports: failover too late"
                );
            }
            MemberKind::Nic(_) => panic!("{what}: not supported on network cards"),
        }
    }

    /// Pulls and replugs the members' cables in turn, each while its member is transmitting.
    fn in_turn(self, lab: &Lab, production: &Production<'_>) -> Outcome {
        let running = stream(lab);
        let (mut dropped, mut transmitting) = (0, 0);
        let pulls = pulls();
        for turn in 0..pulls {
            let member = &lab.members()[turn % lab.members().len()];
            transmitting += usize::from(is_transmitting(member));
            dropped += pull(member);
            std::thread::sleep(UNPLUGGED);
            member.cable().replug().unwrap();
            self.restore(production, member);
        }
        assert_eq!(transmitting, pulls, "a cable was pulled whose member was not transmitting");
        Outcome { report: running.stop().unwrap(), dropped, pulls, transmitting }
    }

    /// Pulls two of three cables within 100 ms, in every order, at the same time or 50 ms apart; in a soak both.
    fn two_of_three(self, lab: &Lab, production: &Production<'_>) -> Outcome {
        let running = stream(lab);
        let (mut dropped, mut pulls, mut transmitting) = (0, 0, 0);
        let orders = [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)];
        let pauses = [Duration::ZERO, 50 * MS];
        for turn in 0..orders.len() * lab::of_lane(1, pauses.len()) {
            let (round, order) = (turn / orders.len(), turn % orders.len());
            let ((first, second), pause) = (orders[order], pauses[(order + round) % pauses.len()]);
            let (first, second) = (&lab.members()[first], &lab.members()[second]);
            transmitting += usize::from(is_transmitting(first)) + usize::from(is_transmitting(second));
            let start = Instant::now();
            dropped += pull(first);
            std::thread::sleep(pause);
            dropped += pull(second);
            let took = start.elapsed();
            assert!(took < 100 * MS, "this machine took {took:?} to pull two cables");
            pulls += 2;
            std::thread::sleep(UNPLUGGED);
            for member in [first, second] {
                member.cable().replug().unwrap();
            }
            for member in [first, second] {
                self.restore(production, member);
            }
        }
        assert_eq!(transmitting, pulls, "a cable was pulled whose member was not transmitting");
        Outcome { report: running.stop().unwrap(), dropped, pulls, transmitting }
    }

    /// Waits until a replugged member transmits again. With a running daemon, clears its flap history.
    fn restore(self, production: &Production<'_>, member: &Member) {
        if !self.stopped {
            production.clear_flap_history(member).unwrap();
        }
        wait_transmitting(member);
    }
}

#[test]
fn pulls_lose_only_frames_dropped_by_ports() {
    lab::needs_root!();
    Scene { members: MemberKind::Veth, stopped: false }.run("each pulled in turn", Scene::in_turn);
}

#[test]
fn atomic_carrier_losses_lose_nothing() {
    lab::needs_root!();
    Scene { members: MemberKind::Tap, stopped: false }.run("each pulled in turn", Scene::in_turn);
}

#[test]
fn pulls_lose_only_frames_dropped_by_ports_with_the_daemon_stopped() {
    lab::needs_root!();
    Scene { members: MemberKind::Veth, stopped: true }
        .run("each pulled in turn, daemon stopped", Scene::in_turn);
}

#[test]
fn atomic_carrier_losses_lose_nothing_with_the_daemon_stopped() {
    lab::needs_root!();
    Scene { members: MemberKind::Tap, stopped: true }
        .run("each pulled in turn, daemon stopped", Scene::in_turn);
}

#[test]
fn two_pulls_within_100_ms_lose_only_frames_dropped_by_ports() {
    lab::needs_root!();
    Scene { members: MemberKind::Veth, stopped: false }.run("two of three", Scene::two_of_three);
}

#[test]
fn two_atomic_carrier_losses_within_100_ms_lose_nothing() {
    lab::needs_root!();
    Scene { members: MemberKind::Tap, stopped: false }.run("two of three", Scene::two_of_three);
}

/// Without clearing the flap history: all members but the last are dampened, and the cable of the last is pulled.
#[test]
fn dampened_members_transmit_before_a_packet_is_lost() {
    lab::needs_root!();
    let scene = Scene { members: MemberKind::Tap, stopped: false };
    scene.run("pulls, flap dampening active", |_, lab, production| {
        let running = stream(lab);
        let (mut dropped, mut transmitting) = (0, 0);
        for turn in 0..DAMPENING_PULLS {
            let member = &lab.members()[turn % lab.members().len()];
            transmitting += usize::from(is_transmitting(member));
            dropped += pull(member);
            std::thread::sleep(UNPLUGGED);
            member.cable().replug().unwrap();
            // Longer than `updelay` and the second by which the kernel may delay a carrier event.
            std::thread::sleep(1_300 * MS);
        }
        let dampened = production.report().unwrap().members.iter().filter(|member| !member.usable).count();
        assert!(dampened > 0, "no member is dampened: {}", production.show());
        Outcome { report: running.stop().unwrap(), dropped, pulls: DAMPENING_PULLS, transmitting }
    });
}

#[test]
fn bulk_transfer_survives_pulls() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let peer = lab.peer(0);
    let running = Bulk::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).start().unwrap();
    running.wait_received(1 << 20, TIMEOUT).unwrap();
    let mut transmitting = 0;
    for turn in 0..pulls() {
        // In turn the member that transmits the data and the inbound member, which receives the acknowledgements.
        let member = if turn % 2 == 0 {
            lab.members().iter().find(|member| is_transmitting(member)).expect("a transmitting member")
        } else {
            lab.member(&production.inbound(DATA).unwrap())
        };
        transmitting += usize::from(is_transmitting(member));
        member.cable().pull().unwrap();
        std::thread::sleep(UNPLUGGED);
        member.cable().replug().unwrap();
        production.clear_flap_history(member).unwrap();
    }
    let report = running.stop().unwrap();
    println!("bulk: {} pulls, {transmitting} of a transmitting member; {report}", pulls());
    assert!(report.error.is_none() && report.intact, "{report}");
    // One retransmission timeout is at least 200 ms; two in a row are 600 ms.
    assert!(report.longest_stall < 500 * MS, "{report}");
    production.assert_clean();
}
