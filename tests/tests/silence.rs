//! Path failures while all links are up: the cable between the switches is cut in one or both directions. The failure of the
//! members behind it must be detected in time, and each must be repaired by ten replies.
//!
//! The tests mostly wait, and run side by side. The limits allow for a machine that does other work; the measured times are
//! printed.

lab::lane!(side_by_side, seconds = 240, threads = 8);

use std::time::{Duration, Instant};

use ipmp::{
    core::probe::{FAILURES, REPAIRS},
    types::{Family, MemberState},
};
use lab::network::ROUTER;
use lab::percentile;
use lab::probe_capture::Message;
use lab::production::GROUP;
use lab::stream::Report;
use lab::{
    Cable, Change, Direction, Lab, Monitor, ProbeCapture, Production, Stream, TIMEOUT, clock, wait_until,
};
use serde_json::Value;

/// Tolerance of any time on a busy machine.
const SLACK: Duration = Duration::from_millis(300);
/// Tolerance of the median on a busy machine.
const MEDIAN_SLACK: Duration = Duration::from_millis(50);
/// Members behind the cable that is cut.
const BEHIND: [&str; 2] = ["e1000g0", "e1000g1"];
/// Packets per second, of [`FLOWS`] flows: at least half of them are transmitted by members behind the cable.
const RATE: u64 = 1_000;
const FLOWS: usize = 16;

/// The directions in which a cable is cut.
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

/// The result of one cut.
struct CutResult {
    cut: Cut,
    at: Instant,
    /// The failure detection time at the cut.
    fdt: Duration,
    /// The detection time of each member.
    detected: Vec<Duration>,
    /// The time from the end of the cut until the repair of each member.
    repaired: Vec<Duration>,
    /// The replies that each member received until its repair.
    replies: Vec<usize>,
}

/// The tutorial's network, with a test address on every member and the router as the only target.
struct Scene<'lab> {
    lab: &'lab Lab,
    production: Production<'lab>,
    monitor: Monitor,
    captures: Vec<ProbeCapture>,
    fdt: Duration,
}

impl<'lab> Scene<'lab> {
    fn build(lab: &'lab Lab, fdt: &str) -> Self {
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

    /// Waits for an event of a kind about a member, after the first `since` events. Returns its time.
    fn wait_for(&self, kind: &str, member: &str, since: usize) -> Instant {
        let mut found = None;
        let event = |event: &Value| event["kind"] == kind && event["member"] == member;
        wait_until(TIMEOUT.max(4 * self.fdt), || {
            found = self.monitor.events().into_iter().skip(since).find(event);
            found.is_some()
        });
        let found = found.unwrap_or_else(|| panic!("no event {kind} of {member}:\n{}", self.dump()));
        clock::monotonic(found["monotonic_ns"].as_u64().unwrap())
    }

    fn dump(&self) -> String {
        format!("{:#}\n{}", self.production.report_json().unwrap(), self.production.daemon.log().join("\n"))
    }

    /// The current failure detection time, which a slow machine raises; and for each member behind the cable its state and
    /// its number of probe rounds without a result, because the daemon was late.
    fn status(&self) -> (Duration, [(MemberState, u32); 2]) {
        let group = self.production.report_json().unwrap();
        let members = BEHIND.map(|name| {
            let member =
                group["members"].as_array().unwrap().iter().find(|member| member["name"] == name).unwrap();
            let count = |counter: &str| member["probing"][0]["counters"][counter].as_u64().unwrap() as u32;
            let state = serde_json::from_value(member["state"].clone()).unwrap();
            (state, count("discarded") + count("missed") + count("unsent"))
        });
        (self.fdt.max(Duration::from_millis(group["fdt_ms"].as_u64().unwrap())), members)
    }

    /// Cuts the cable until both members have failed, and waits until they are repaired.
    fn cut(&self, cut: Cut) -> CutResult {
        let cable = self.lab.cable(4);
        let (_, before) = self.status();
        let since = self.monitor.events().len();
        let change = cut.make(cable);
        let failed = BEHIND.map(|member| self.wait_for("failed", member, since));
        let detected = failed.map(|at| at.saturating_duration_since(change.before)).to_vec();
        let (fdt, after) = self.status();
        for (number, member) in BEHIND.into_iter().enumerate() {
            let (state, empty) = (after[number].0, after[number].1 - before[number].1);
            let bound = fdt + fdt / FAILURES * (1 + empty) + SLACK;
            assert!(
                detected[number] <= bound,
                "{member} failed {:?} after {}, later than {bound:?} ({empty} empty rounds)\n{}",
                detected[number],
                cut.name(),
                self.dump()
            );
            assert_eq!(state, MemberState::Failed, "{member}");
        }
        for capture in &self.captures {
            capture.read(Duration::ZERO).unwrap();
        }
        let since = self.monitor.events().len();
        let end = cable.restore().unwrap();
        let back = BEHIND.map(|member| self.wait_for("repaired", member, since));
        let replies = self.captures.iter().zip(back).map(|(capture, back)| {
            let frames = capture.read(Duration::ZERO).unwrap();
            let replies = frames.iter().filter(|frame| {
                frame.at <= back && matches!(frame.message, Message::Echo { reply: true, .. })
            });
            replies.count()
        });
        let replies: Vec<usize> = replies.collect();
        for (member, replies) in BEHIND.into_iter().zip(&replies) {
            assert!(
                *replies >= REPAIRS as usize,
                "{member} was repaired by {replies} replies\n{}",
                self.dump()
            );
        }
        let repaired = back.map(|at| at.saturating_duration_since(end.before)).to_vec();
        CutResult { cut, at: change.before, fdt, detected, repaired, replies }
    }

    /// Runs cuts during a stream, at different points of the probe interval.
    fn run(&self, rounds: usize) {
        let stream = Stream::outbound(self.lab);
        let stream = stream.flows(FLOWS).rate(RATE).start().unwrap();
        stream.wait_received(RATE / 10, TIMEOUT).unwrap();
        let mut results = Vec::new();
        for round in 0..rounds {
            // The round-trip time of a target is reset by a failure: after one reply its deadline is short again.
            std::thread::sleep(self.interval() * (24 + round as u32 * 7 % 20) / 20);
            results.push(self.cut(Cut::ALL[round % 3]));
        }
        let report = stream.stop().unwrap();
        self.print(&results, &report);

        let mut detected: Vec<Duration> = results.iter().flat_map(|result| result.detected.clone()).collect();
        detected.sort();
        let fdt = results.iter().map(|result| result.fdt).max().unwrap_or(self.fdt);
        let half = fdt + fdt / FAILURES + MEDIAN_SLACK;
        assert!(percentile(&detected, 50.0) <= half, "the median is later than {half:?}: {detected:?}");
        // Exactly ten replies, unless some were late or lost.
        let replies: Vec<usize> = results.iter().flat_map(|result| result.replies.clone()).collect();
        let exact = replies.iter().filter(|replies| **replies == REPAIRS as usize).count();
        assert!(2 * exact > replies.len(), "repaired by {replies:?} replies");
        // No other member has failed.
        let false_failure = |event: &Value| event["kind"] == "failed" && event["member"] == "rge0";
        assert!(!self.monitor.events().iter().any(false_failure), "{}", self.dump());
    }

    fn print(&self, results: &[CutResult], report: &Report) {
        println!("FDT {:?}, {RATE} packets/s of {FLOWS} flows: {report}", self.fdt);
        println!(
            "  cut                n   detected after min/p50/max ms   repaired after min/p50/max ms   replies   outage of a flow p50/max ms   lost p50/max"
        );
        for cut in Cut::ALL {
            let results: Vec<&CutResult> = results.iter().filter(|result| result.cut == cut).collect();
            if results.is_empty() {
                continue;
            }
            let three = |times: Vec<Duration>| {
                let ms = |percent| percentile(&times, percent).as_secs_f64() * 1e3;
                format!("{:.1}/{:.1}/{:.1}", ms(0.0), ms(50.0), ms(100.0))
            };
            let all = |of: fn(&CutResult) -> &Vec<Duration>| {
                results.iter().flat_map(|result| of(result).clone()).collect()
            };
            let replies = results.iter().flat_map(|result| &result.replies);
            let (least, most) = (replies.clone().min().unwrap(), replies.max().unwrap());
            let lost: Vec<(Duration, u64)> = results.iter().map(|result| lost(report, result)).collect();
            let outages: Vec<Duration> = lost.iter().map(|(outage, _)| *outage).collect();
            let mut counts: Vec<u64> = lost.iter().map(|(_, lost)| *lost).collect();
            counts.sort_unstable();
            let ms = |percent| percentile(&outages, percent).as_secs_f64() * 1e3;
            println!(
                "  {:16} {:3}   {:28}   {:29}   {:7}   {:27}   {}/{}",
                cut.name(),
                results.len(),
                three(all(|result| &result.detected)),
                three(all(|result| &result.repaired)),
                format!("{least}-{most}"),
                format!("{:.0}/{:.0}", ms(50.0), ms(100.0)),
                counts[counts.len() / 2],
                counts[counts.len() - 1],
            );
        }
    }
}

/// The longest outage of a flow by a cut, and the packets lost by all flows.
fn lost(report: &Report, result: &CutResult) -> (Duration, u64) {
    let until = result.at + result.detected.iter().max().copied().unwrap_or_default();
    let runs = report.flows.iter().flat_map(|flow| &flow.lost).filter(|lost| lost.overlaps(result.at, until));
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
fn path_failure_with_link_up_is_detected_within_100_ms() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let scene = Scene::build(&lab, "100ms");
    scene.run(60);

    // A cable plugged into a port that drops all frames: the link is up, the path has failed.
    let member = lab.member("e1000g0");
    let since = scene.monitor.events().len();
    member.cable().cut().unwrap();
    scene.wait_for("failed", "e1000g0", since);
    member.cable().pull().unwrap();
    scene.wait_for("link-down", "e1000g0", since);
    member.cable().replug().unwrap();
    scene.wait_for("link-up", "e1000g0", since);
    let live = || scene.production.member("e1000g0").is_ok_and(|member| member.live);
    assert!(wait_until(TIMEOUT, live), "{}", scene.dump());
    // Twice the time of ten replies.
    std::thread::sleep(2 * REPAIRS * scene.interval());
    let now = scene.production.member("e1000g0").unwrap();
    assert_eq!((now.state, now.live), (MemberState::Failed, true));
    let restored = member.cable().restore().unwrap();
    let repaired = scene.wait_for("repaired", "e1000g0", since);
    assert!(repaired > restored.before, "repaired by the link alone");
    println!("replugged into a port that drops all frames: failed until the port forwards");
    scene.production.assert_clean();
}

#[test]
fn path_failure_with_link_up_is_detected_within_1_s() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let scene = Scene::build(&lab, "1s");
    scene.run(20);
    scene.production.assert_clean();
}

#[test]
fn path_failure_with_link_up_is_detected_within_10_s() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let scene = Scene::build(&lab, "10s");
    scene.run(3);
    scene.production.assert_clean();
}
