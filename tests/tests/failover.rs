//! Cables pulled and replugged in turn while the host sends: nothing is lost but what died in the pulled ports.
//!
//! On veth members, frames reach the switch within the sender's call: they show order, and what died in a port is
//! counted there. On TAP members the carrier goes atomically: they show that nothing is lost at all. Their wires are
//! pumped by threads, each as late as it happens to be, so the order of a flow that moves is not theirs to keep.

lab::lane!(alone, clsact = "with_the_daemon_stopped");

use std::time::{Duration, Instant};

use lab::network::DATA;
use lab::stream::{self, Report};
use lab::{Bulk, Lab, MS, MeasurementLock, Member, MemberKind, Production, Stream, TIMEOUT, wait_until};

/// Pulls of a test.
const PULLS: usize = 20;
/// How long a cable stays out.
const OUT: Duration = Duration::from_millis(100);
/// A member that carries has moved so many frames in [`GLANCE`]: a tenth of its share of the stream.
const CARRIES: u64 = 30;
const GLANCE: Duration = Duration::from_millis(20);
/// Most frames that may die in a port at one pull, in the mean: what the whole stream sends in 5 ms. A port stops, the
/// kernel waits for everybody who may be using it, and only then its member loses the carrier.
const MOST_DIED: u64 = 250;
/// What is no measurement, since the machine did something else, is made again so often.
const TRIES: usize = 3;

/// How a test is made.
#[derive(Clone, Copy, Debug)]
struct Scene {
    members: MemberKind,
    /// The daemon is under SIGSTOP.
    stopped: bool,
}

/// What came of it.
struct Outcome {
    report: Report,
    /// Frames that died in the pulled ports, while they were pulled.
    died: u64,
    pulls: usize,
    /// Pulls of cables whose members carried.
    hits: usize,
}

/// Pulls a cable; gives the frames that died in the port meanwhile. What dies later has no excuse: the carrier is gone.
fn pull(member: &Member) -> u64 {
    let before = member.cable().port().unwrap().rx_dropped;
    member.cable().pull().unwrap();
    member.cable().port().unwrap().rx_dropped - before
}

/// Whether frames of a member arrive at its port, many of them.
fn carries(member: &Member) -> bool {
    let arrived = || member.cable().port().unwrap().rx_packets;
    let before = arrived();
    std::thread::sleep(GLANCE);
    arrived() - before >= CARRIES
}

fn wait_until_it_carries(member: &Member) {
    assert!(wait_until(TIMEOUT, || carries(member)), "{} does not carry again", member.name());
}

/// 50,000 packets/s of 8 sockets. Which member a socket's flow takes is chance: with one that has none, another try.
fn stream(lab: &Lab) -> stream::Running {
    let peer = lab.peer(0);
    for _ in 0..20 {
        let stream = Stream::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).flows(8).rate(50_000);
        let running = stream.start().unwrap();
        running.wait_received(10_000, TIMEOUT).unwrap();
        if lab.members().iter().all(carries) {
            return running;
        }
        running.stop().unwrap();
    }
    panic!("20 times 8 flows have left a member without any");
}

impl Scene {
    /// Makes the lab and its group, and judges what the pulls have done to a stream.
    fn judge(self, what: &str, pulls: impl Fn(&Lab, &Production<'_>) -> Outcome) {
        let _lock = MeasurementLock::acquire().unwrap();
        for number in 1.. {
            let lab = Lab::builder().kind(self.members).build().unwrap();
            let production = Production::create(&lab).unwrap();
            if self.stopped {
                production.daemon.stop().unwrap();
            }
            let result = pulls(&lab, &production);
            if self.stopped {
                production.daemon.resume().unwrap();
            }
            let Outcome { report, died, pulls, hits } = &result;
            println!(
                "{what}, {:?}: {pulls} pulls, {hits} of members that carried; {died} died in the pulled ports; {report}",
                self.members
            );
            if let Err(doubt) = report.ensure_valid()
                && number < TRIES
            {
                println!("{what}: again, since {doubt}");
                continue;
            }
            self.assert(what, &result);
            production.assert_clean();
            return;
        }
    }

    fn assert(self, what: &str, Outcome { report, died, pulls, .. }: &Outcome) {
        report.ensure_valid().unwrap();
        assert_eq!(report.duplicated(), 0, "{what}: {report}");
        assert_eq!(report.send_errors, 0, "{what}: {report}");
        match self.members {
            MemberKind::Tap => assert_eq!(report.lost(), 0, "{what}: {report}"),
            MemberKind::Veth => {
                assert_eq!(report.reordered(), 0, "{what}: {report}");
                assert!(
                    report.lost() <= *died,
                    "{what}: lost beyond the {died} that died in the ports: {report}"
                );
                assert!(
                    *died <= MOST_DIED * *pulls as u64,
                    "{what}: {died} died in the ports: too late to leave"
                );
            }
            MemberKind::Nic(_) => panic!("{what}: no scene is played on network cards"),
        }
    }

    /// Pulls and replugs the members' cables in turn, each of them while its member carries.
    fn in_turn(self, lab: &Lab, production: &Production<'_>) -> Outcome {
        let running = stream(lab);
        let (mut died, mut hits) = (0, 0);
        for turn in 0..PULLS {
            let member = &lab.members()[turn % lab.members().len()];
            hits += usize::from(carries(member));
            died += pull(member);
            std::thread::sleep(OUT);
            member.cable().replug().unwrap();
            self.restore(production, member);
        }
        assert_eq!(hits, PULLS, "a cable was pulled whose member did not carry");
        Outcome { report: running.stop().unwrap(), died, pulls: PULLS, hits }
    }

    /// Pulls two of three within 100 ms, in every order, at once and half of that apart.
    fn two_of_three(self, lab: &Lab, production: &Production<'_>) -> Outcome {
        let running = stream(lab);
        let (mut died, mut pulls, mut hits) = (0, 0, 0);
        for (first, second) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
            for pause in [Duration::ZERO, 50 * MS] {
                let (first, second) = (&lab.members()[first], &lab.members()[second]);
                hits += usize::from(carries(first)) + usize::from(carries(second));
                let start = Instant::now();
                died += pull(first);
                std::thread::sleep(pause);
                died += pull(second);
                let took = start.elapsed();
                assert!(took < 100 * MS, "this machine took {took:?} to pull two cables");
                pulls += 2;
                std::thread::sleep(OUT);
                for member in [first, second] {
                    member.cable().replug().unwrap();
                }
                for member in [first, second] {
                    self.restore(production, member);
                }
            }
        }
        assert_eq!(hits, pulls, "a cable was pulled whose member did not carry");
        Outcome { report: running.stop().unwrap(), died, pulls, hits }
    }

    /// Waits until a replugged member carries again. A running daemon is made to forget that it was ever gone: flap
    /// protection would soon hold it back.
    fn restore(self, production: &Production<'_>, member: &Member) {
        if !self.stopped {
            production.clear_flap_history(member).unwrap();
        }
        wait_until_it_carries(member);
    }
}

#[test]
fn twenty_pulls_lose_nothing() {
    lab::needs_root!();
    let scene = Scene { members: MemberKind::Veth, stopped: false };
    scene.judge("20 pulls", |lab, production| scene.in_turn(lab, production));
}

#[test]
fn twenty_pulls_of_atomic_carriers_lose_nothing_at_all() {
    lab::needs_root!();
    let scene = Scene { members: MemberKind::Tap, stopped: false };
    scene.judge("20 pulls", |lab, production| scene.in_turn(lab, production));
}

#[test]
fn twenty_pulls_lose_nothing_with_the_daemon_stopped() {
    lab::needs_root!();
    let scene = Scene { members: MemberKind::Veth, stopped: true };
    scene.judge("20 pulls, daemon stopped", |lab, production| scene.in_turn(lab, production));
}

#[test]
fn twenty_pulls_of_atomic_carriers_lose_nothing_at_all_with_the_daemon_stopped() {
    lab::needs_root!();
    let scene = Scene { members: MemberKind::Tap, stopped: true };
    scene.judge("20 pulls, daemon stopped", |lab, production| scene.in_turn(lab, production));
}

#[test]
fn two_of_three_within_a_hundred_milliseconds_lose_nothing() {
    lab::needs_root!();
    let scene = Scene { members: MemberKind::Veth, stopped: false };
    scene.judge("two of three", |lab, production| scene.two_of_three(lab, production));
}

#[test]
fn two_of_three_atomic_carriers_within_a_hundred_milliseconds_lose_nothing_at_all() {
    lab::needs_root!();
    let scene = Scene { members: MemberKind::Tap, stopped: false };
    scene.judge("two of three", |lab, production| scene.two_of_three(lab, production));
}

/// Nobody forgives the members: flap protection holds them down, all but the last, and it is the last that is pulled.
#[test]
fn members_held_down_for_flapping_carry_before_a_packet_is_lost() {
    lab::needs_root!();
    let scene = Scene { members: MemberKind::Tap, stopped: false };
    scene.judge("20 pulls, flap protection in force", |lab, production| {
        let running = stream(lab);
        let (mut died, mut hits) = (0, 0);
        for turn in 0..PULLS {
            let member = &lab.members()[turn % lab.members().len()];
            hits += usize::from(carries(member));
            died += pull(member);
            std::thread::sleep(OUT);
            member.cable().replug().unwrap();
            // Longer than `updelay` and the second that the kernel may take to tell of a carrier.
            std::thread::sleep(1_300 * MS);
        }
        let held = production.report().unwrap().members.iter().filter(|member| !member.usable).count();
        assert!(held > 0, "nobody is held down: {}", production.daemon.ctl("show").unwrap());
        Outcome { report: running.stop().unwrap(), died, pulls: PULLS, hits }
    });
}

#[test]
fn a_bulk_transfer_survives_twenty_pulls() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let peer = lab.peer(0);
    let running = Bulk::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).start().unwrap();
    running.wait_received(1 << 20, TIMEOUT).unwrap();
    let mut hits = 0;
    for turn in 0..PULLS {
        // Every other time the member that has the connection, else the one that has its acknowledgements.
        let member = if turn % 2 == 0 {
            lab.members().iter().find(|member| carries(member)).expect("a member that carries")
        } else {
            lab.member(&production.inbound(DATA).unwrap())
        };
        hits += usize::from(carries(member));
        member.cable().pull().unwrap();
        std::thread::sleep(OUT);
        member.cable().replug().unwrap();
        production.clear_flap_history(member).unwrap();
    }
    let report = running.stop().unwrap();
    println!("bulk: {PULLS} pulls, {hits} of the member that carried; {report}");
    assert!(report.error.is_none() && report.intact, "{report}");
    // The first retransmission timeout is 200 ms at least; a second one in a row makes 600 of it.
    assert!(report.longest_stall < 500 * MS, "{report}");
    production.assert_clean();
}
