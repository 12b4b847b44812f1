//! Paths that die silently: every carrier stays, and frames vanish. The cable between the switches is cut in both
//! directions or in one, again and again, and the members behind it must be noticed in time, and be repaired by ten
//! answers.
//!
//! The tests wait most of the time, and run side by side. What is asserted has room for a machine that does other work;
//! what is printed is what it took.

lab::lane!(side_by_side, seconds = 240, threads = 8);

use std::time::{Duration, Instant};

use ipmp::{
    core::probe::{FAILURES, REPAIRS},
    types::{Family, MemberState},
};
use lab::network::{DATA, ROUTER};
use lab::percentile;
use lab::probe_capture::Message;
use lab::production::GROUP;
use lab::stream::Report;
use lab::{
    Cable, Change, Direction, Lab, Monitor, ProbeCapture, Production, Stream, TIMEOUT, clock, wait_until,
};
use serde_json::Value;

/// What a machine that does other work may add to any time here.
const SLACK: Duration = Duration::from_millis(300);
/// What it may add to the half of all times.
const USUAL_SLACK: Duration = Duration::from_millis(50);
/// Members behind the cable that is cut.
const BEHIND: [&str; 2] = ["e1000g0", "e1000g1"];
/// Packets a second, of [`FLOWS`] flows: half or more of them leave through members behind the cable.
const RATE: u64 = 1_000;
const FLOWS: usize = 16;

/// How a cable is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Both,
    One(Direction),
}

impl Cut {
    const ALL: [Self; 3] = [Self::Both, Self::One(Direction::Outbound), Self::One(Direction::Inbound)];

    fn name(self) -> &'static str {
        match self {
            Self::Both => "both directions",
            Self::One(Direction::Outbound) => "outbound only",
            Self::One(Direction::Inbound) => "inbound only",
        }
    }

    fn make(self, cable: &Cable) -> Change {
        match self {
            Self::Both => cable.cut(),
            Self::One(direction) => cable.cut_direction(direction),
        }
        .unwrap()
    }
}

/// What was seen of one cut.
struct Seen {
    cut: Cut,
    at: Instant,
    /// The failure detection time then.
    fdt: Duration,
    /// Until each member had failed.
    noticed: Vec<Duration>,
    /// From its end until each was repaired.
    repaired: Vec<Duration>,
    /// Replies that each received meanwhile.
    answers: Vec<usize>,
}

/// The tutorial's network with a test address on every member, and the router as only target.
struct Scene<'lab> {
    lab: &'lab Lab,
    production: Production<'lab>,
    monitor: Monitor,
    captures: Vec<ProbeCapture>,
    fdt: Duration,
}

impl<'lab> Scene<'lab> {
    fn set(lab: &'lab Lab, fdt: &str) -> Self {
        let settings = format!("fdt=500ms targets={ROUTER}");
        let production = Production::create_probed(lab, &[Family::V4], &settings).unwrap();
        production.wait_answered().unwrap();
        production.daemon.ctl(&format!("set {GROUP} fdt={fdt}")).unwrap();
        let fdt = Duration::from_millis(production.report().unwrap().fdt_ms.unwrap());
        let monitor = Monitor::start(&production.daemon, "--json").unwrap();
        let captures = BEHIND.map(|name| ProbeCapture::on(lab.host(), name).unwrap()).into();
        Self { lab, production, monitor, captures, fdt }
    }

    fn interval(&self) -> Duration {
        self.fdt / FAILURES
    }

    /// Waits until a member has had an event of a kind, among those after the first `since`. When that was.
    fn wait_for(&self, kind: &str, member: &str, since: usize) -> Instant {
        let mut found = None;
        let event = |event: &Value| event["kind"] == kind && event["member"] == member;
        wait_until(TIMEOUT.max(4 * self.fdt), || {
            found = self.monitor.events().into_iter().skip(since).find(event);
            found.is_some()
        });
        let found = found.unwrap_or_else(|| panic!("{member} has not {kind}:\n{}", self.shown()));
        clock::monotonic(found["monotonic_ns"].as_u64().unwrap())
    }

    fn shown(&self) -> String {
        format!("{:#}\n{}", self.production.report_json().unwrap(), self.production.daemon.log().join("\n"))
    }

    /// The time that the group has now, since a machine that is slow itself makes it longer; and of each member behind the
    /// cable its state, and its rounds that say nothing, since the daemon was late for them.
    fn look(&self) -> (Duration, [(MemberState, u32); 2]) {
        let group = self.production.report_json().unwrap();
        let members = BEHIND.map(|name| {
            let member =
                group["members"].as_array().unwrap().iter().find(|member| member["name"] == name).unwrap();
            let count = |counter: &str| member["probing"][0]["counters"][counter].as_u64().unwrap() as u32;
            let state = serde_json::from_value(member["state"].clone()).unwrap();
            (state, count("void") + count("missed") + count("unsent"))
        });
        (self.fdt.max(Duration::from_millis(group["fdt_ms"].as_u64().unwrap())), members)
    }

    /// Cuts the cable until both members have failed, and waits until they are repaired.
    fn cut(&self, cut: Cut) -> Seen {
        let cable = self.lab.cable(4);
        let (_, before) = self.look();
        let since = self.monitor.events().len();
        let change = cut.make(cable);
        let failed = BEHIND.map(|member| self.wait_for("failed", member, since));
        let noticed = failed.map(|at| at.saturating_duration_since(change.before)).to_vec();
        let (fdt, after) = self.look();
        for (number, member) in BEHIND.into_iter().enumerate() {
            let (state, empty) = (after[number].0, after[number].1 - before[number].1);
            let bound = fdt + fdt / FAILURES * (1 + empty) + SLACK;
            assert!(
                noticed[number] <= bound,
                "{member} failed {:?} after {}, later than {bound:?} ({empty} empty rounds)\n{}",
                noticed[number],
                cut.name(),
                self.shown()
            );
            assert_eq!(state, MemberState::Failed, "{member}");
        }
        for capture in &self.captures {
            capture.read(Duration::ZERO).unwrap();
        }
        let since = self.monitor.events().len();
        let end = cable.restore().unwrap();
        let back = BEHIND.map(|member| self.wait_for("repaired", member, since));
        let answers = self.captures.iter().zip(back).map(|(capture, back)| {
            let heard = capture.read(Duration::ZERO).unwrap();
            let replies = heard.iter().filter(|heard| {
                heard.at <= back && matches!(heard.message, Message::Echo { reply: true, .. })
            });
            replies.count()
        });
        let answers: Vec<usize> = answers.collect();
        for (member, answers) in BEHIND.into_iter().zip(&answers) {
            assert!(
                *answers >= REPAIRS as usize,
                "{member} was repaired by {answers} answers\n{}",
                self.shown()
            );
        }
        let repaired = back.map(|at| at.saturating_duration_since(end.before)).to_vec();
        Seen { cut, at: change.before, fdt, noticed, repaired, answers }
    }

    /// So many cuts under a stream, at all places of the interval.
    fn play(&self, rounds: usize) {
        let peer = self.lab.peer(0);
        let stream = Stream::new(self.lab.host(), peer.namespace(), peer.v4()).source(DATA);
        let stream = stream.flows(FLOWS).rate(RATE).start().unwrap();
        stream.wait_received(RATE / 10, TIMEOUT).unwrap();
        let mut seen = Vec::new();
        for round in 0..rounds {
            // What a target takes is forgotten with a failure: one answer after the repair, and its deadline is short again.
            std::thread::sleep(self.interval() * (24 + round as u32 * 7 % 20) / 20);
            seen.push(self.cut(Cut::ALL[round % 3]));
        }
        let report = stream.stop().unwrap();
        self.print(&seen, &report);

        let mut noticed: Vec<Duration> = seen.iter().flat_map(|seen| seen.noticed.clone()).collect();
        noticed.sort();
        let fdt = seen.iter().map(|seen| seen.fdt).max().unwrap_or(self.fdt);
        let half = fdt + fdt / FAILURES + USUAL_SLACK;
        assert!(percentile(&noticed, 50.0) <= half, "half of them later than {half:?}: {noticed:?}");
        // Where no answer was late or lost, it is ten and not one more.
        let answers: Vec<usize> = seen.iter().flat_map(|seen| seen.answers.clone()).collect();
        let exact = answers.iter().filter(|answers| **answers == REPAIRS as usize).count();
        assert!(2 * exact > answers.len(), "repaired by {answers:?} answers");
        // Nobody else was blamed.
        let blamed = |event: &Value| event["kind"] == "failed" && event["member"] == "rge0";
        assert!(!self.monitor.events().iter().any(blamed), "{}", self.shown());
    }

    fn print(&self, seen: &[Seen], report: &Report) {
        println!("FDT {:?}, {RATE} packets/s of {FLOWS} flows: {report}", self.fdt);
        println!(
            "  cut                n   noticed after min/p50/max ms   repaired after min/p50/max ms   answers   outage of a flow p50/max ms   lost p50/max"
        );
        for cut in Cut::ALL {
            let seen: Vec<&Seen> = seen.iter().filter(|seen| seen.cut == cut).collect();
            if seen.is_empty() {
                continue;
            }
            let three = |times: Vec<Duration>| {
                let ms = |percent| percentile(&times, percent).as_secs_f64() * 1e3;
                format!("{:.1}/{:.1}/{:.1}", ms(0.0), ms(50.0), ms(100.0))
            };
            let all =
                |of: fn(&Seen) -> &Vec<Duration>| seen.iter().flat_map(|seen| of(seen).clone()).collect();
            let answers = seen.iter().flat_map(|seen| &seen.answers);
            let (least, most) = (answers.clone().min().unwrap(), answers.max().unwrap());
            let lost: Vec<(Duration, u64)> = seen.iter().map(|seen| lost(report, seen)).collect();
            let outages: Vec<Duration> = lost.iter().map(|(outage, _)| *outage).collect();
            let mut counts: Vec<u64> = lost.iter().map(|(_, lost)| *lost).collect();
            counts.sort_unstable();
            let ms = |percent| percentile(&outages, percent).as_secs_f64() * 1e3;
            println!(
                "  {:16} {:3}   {:28}   {:29}   {:7}   {:27}   {}/{}",
                cut.name(),
                seen.len(),
                three(all(|seen| &seen.noticed)),
                three(all(|seen| &seen.repaired)),
                format!("{least}-{most}"),
                format!("{:.0}/{:.0}", ms(50.0), ms(100.0)),
                counts[counts.len() / 2],
                counts[counts.len() - 1],
            );
        }
    }
}

/// The longest time that a flow was without packets by a cut, and how many packets of all were lost.
fn lost(report: &Report, seen: &Seen) -> (Duration, u64) {
    let until = seen.at + seen.noticed.iter().max().copied().unwrap_or_default();
    let runs = report.flows.iter().flat_map(|flow| &flow.lost).filter(|lost| lost.overlaps(seen.at, until));
    let (mut outage, mut count) = (Duration::ZERO, 0);
    for run in runs {
        count += run.count;
        if let (Some(before), Some(after)) = (run.before, run.after) {
            outage = outage.max(after.saturating_duration_since(before));
        }
    }
    (outage, count)
}

#[test]
fn a_path_that_dies_silently_is_noticed_within_100_ms() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let scene = Scene::set(&lab, "100ms");
    scene.play(60);

    // A cable that is plugged into a port that drops everything has a link, and no path.
    let member = lab.member("e1000g0");
    let since = scene.monitor.events().len();
    member.cable().cut().unwrap();
    scene.wait_for("failed", "e1000g0", since);
    member.cable().pull().unwrap();
    scene.wait_for("link-down", "e1000g0", since);
    member.cable().replug().unwrap();
    scene.wait_for("link-up", "e1000g0", since);
    let live = || scene.production.member("e1000g0").is_ok_and(|member| member.live);
    assert!(wait_until(TIMEOUT, live), "{}", scene.shown());
    // Twice what ten answers take.
    std::thread::sleep(2 * REPAIRS * scene.interval());
    let now = scene.production.member("e1000g0").unwrap();
    assert_eq!((now.state, now.live), (MemberState::Failed, true));
    let restored = member.cable().restore().unwrap();
    let repaired = scene.wait_for("repaired", "e1000g0", since);
    assert!(repaired > restored.before, "repaired by a link alone");
    println!("replugged into a port that drops everything: failed until it forwards");
    scene.production.assert_clean();
}

#[test]
fn a_path_that_dies_silently_is_noticed_within_1_s() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let scene = Scene::set(&lab, "1s");
    scene.play(20);
    scene.production.assert_clean();
}

#[test]
fn a_path_that_dies_silently_is_noticed_within_10_s() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let scene = Scene::set(&lab, "10s");
    scene.play(3);
    scene.production.assert_clean();
}
