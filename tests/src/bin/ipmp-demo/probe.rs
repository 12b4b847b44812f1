//! The tutorial's chapter on probe-based failure detection (1.6.2): a repair that needs probes, and a path failure while all
//! links are up.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use ipmp::{control::report::GroupReport, types::LinkState};
use lab::Oracle;
use lab::network::ROUTER;

use crate::page;
use crate::stage::{self, Stage};
use crate::traffic::{Outcome, Traffic};
use lab::tutorial;
use lab::tutorial::compare;

/// The failure detection time of the tutorial, as `ipmpstat -g` prints it.
const FDT: &str = "10.00s";
/// How long a stream that must not lose a packet is checked.
const CHECK: Duration = Duration::from_secs(1);
/// Maximum delay of packets that were sent before a failure was detected.
const IN_FLIGHT: Duration = Duration::from_millis(300);

/// Plays the chapter, and returns the faults found. `quick`: a failure detection time of half a second.
pub fn play(quick: bool) -> Result<Vec<String>> {
    let (lab, before) = stage::build()?;
    let mut stage = Stage::new(&lab)?;

    group(&mut stage)?;
    let mac = lab.host().link("production0")?.mac;
    let oracle = Oracle::watch(&lab, mac)?;
    members(&mut stage)?;
    if quick {
        page::line("A shorter failure detection time than in the tutorial, set as in its 1.9.4:")?;
        stage.operator.show("ipmpctl set production0 fdt=500ms")?;
    }
    repair(&mut stage)?;
    let fast = path_failure(&mut stage)?;
    let even = path_failure_with_even_probes(&mut stage)?;
    beside(&mut stage, [&fast, &even], quick)?;
    stage.verdict(oracle, mac)?;
    page::heading("Removing the group")?;
    stage.tear_down()?;
    stage.finish(&before)
}

/// Creates a group without members.
fn group(stage: &mut Stage) -> Result<()> {
    page::heading("Probe-based failure detection: the group (1.6.2)")?;
    stage.create_group()?;
    stage.compare(tutorial::JOINING[0], "ipmpstat -g", compare::table)?;
    page::line("The router is the next hop of the default route, so it is the target of all probes.")?;
    stage.operator.show(&format!("ip route add default via {ROUTER} dev production0"))?;
    page::line("")
}

/// Attaches the members one by one, each with a test address.
fn members(stage: &mut Stage) -> Result<()> {
    page::heading("The members, with test addresses (1.6.2)")?;
    for (number, member) in stage.lab.members().iter().enumerate() {
        let name = member.name();
        stage.attach_probed(number)?;
        let output = stage.operator.run("ipmpstat -g")?;
        stage.compare_text(
            tutorial::JOINING[number + 1],
            &format!("# ipmpstat -g\n{output}"),
            compare::table,
        )?;
        stage.expect(output.contains(FDT), format!("with {name}, FDT is not {FDT}: {output}"));
    }
    stage.operator.show("ipmpctl show rge0")?;
    page::line("")?;
    stage.operator.show("ipmpstat -nt")?;
    page::line("")
}

/// Makes a member the cast member, as in the tutorial's tables.
fn set_cast_member(stage: &mut Stage, name: &str) -> Result<()> {
    page::line(&format!(
        "In the tutorial, {name} is now used for multicast and broadcast (mb). To make it so here:"
    ))?;
    let others: Vec<&str> =
        stage.lab.members().iter().map(lab::Member::name).filter(|other| *other != name).collect();
    for verb in ["offline", "online"] {
        for other in &others {
            stage.operator.show(&format!("ipmpctl {verb} {other}"))?;
        }
    }
    page::line("")?;
    stage.operator.wait_unusable(stage.lab.members().len(), &[])?;
    let cast = |group: &GroupReport| group.members.iter().any(|member| member.cast && member.name == name);
    stage.operator.wait(&format!("{name} is the cast member"), cast)
}

/// Pulls cable 1: after a link failure, a repair needs probes.
fn repair(stage: &mut Stage) -> Result<()> {
    page::heading("Playing around: cable 1, with traffic (1.6.2)")?;
    set_cast_member(stage, "rge0")?;
    stage.table()?;
    page::line("")?;
    let mut traffic = Traffic::start(stage.lab)?;
    page::step("cable 1 (e1000g0) pulled: detected by its link at once")?;
    stage.pull(&[1])?;
    stage.compare(tutorial::PROBED_CABLE_1_OUT, "ipmpstat -i", compare::table)?;
    stage.account(&mut traffic)?;

    page::step("cable 1 (e1000g0) plugged in again: the link is up, and e1000g0 still failed")?;
    stage.lab.cable(1).replug()?;
    let start = Instant::now();
    let link_up = |group: &GroupReport| {
        group.members.iter().any(|member| member.name == "e1000g0" && member.link == LinkState::Up)
    };
    stage.operator.wait("the link of e1000g0 is up", link_up)?;
    stage.compare(tutorial::PROBED_CABLE_1_IN, "ipmpstat -i", compare::table)?;
    stage.operator.wait_unusable(stage.lab.members().len(), &[])?;
    page::line(&format!(
        "e1000g0 is repaired {:.1} s after the cable was plugged in, by ten probes answered in a row. (The tutorial has \
         twenty here, and ten in 1.2.4.)",
        start.elapsed().as_secs_f64()
    ))?;
    page::line("")?;
    stage.compare(tutorial::PROBED_CABLE_1_REPAIRED, "ipmpstat -i", compare::table)?;
    stage.account(&mut traffic)?;
    stage.finish_traffic(traffic)
}

/// What a path failure cost with one setting of `confirm`.
struct PathFailure {
    confirm: &'static str,
    detection: Duration,
    streams: Outcome,
}

/// Pulls cable 4, and waits until the members behind it have failed. Returns how long that took.
fn pull_cable_4(stage: &mut Stage) -> Result<Duration> {
    let start = Instant::now();
    stage.lab.cable(4).pull()?;
    stage.operator.wait_unusable(stage.lab.members().len(), &["e1000g0", "e1000g1"])?;
    Ok(start.elapsed())
}

/// Pulls cable 4: a failure without a carrier change on any member.
fn path_failure(stage: &mut Stage) -> Result<PathFailure> {
    page::heading("A path failure while all links are up: cable 4, with traffic (1.6.2)")?;
    set_cast_member(stage, "e1000g0")?;
    stage.compare(tutorial::PROBED_INITIAL, "ipmpstat -i", compare::table)?;
    let members = stage.lab.members().len();
    let mut traffic = Traffic::start(stage.lab)?;
    page::step("cable 4 (between the switches) pulled: no reaction at first")?;
    stage.table()?;
    let detection = pull_cable_4(stage)?;
    page::line(&format!(
        "Five probes in a row were lost on e1000g0 and e1000g1: detected as failed after {:.2} s.",
        detection.as_secs_f64()
    ))?;
    sleep(IN_FLIGHT);
    traffic.account()?;
    let lost = traffic.lost();
    page::line("")?;
    stage.compare(tutorial::PROBED_CABLE_4_OUT, "ipmpstat -i", compare::table)?;
    sleep(CHECK);
    stage.table()?;
    traffic.account()?;
    let lost = traffic.lost() - lost;
    stage.expect(lost == 0, format!("{lost} packets were lost after the failure was detected"));
    traffic.wait_tcp()?;

    page::step("cable 4 plugged in again: no reaction at first")?;
    stage.lab.cable(4).replug()?;
    let start = Instant::now();
    stage.compare(tutorial::PROBED_CABLE_4_IN, "ipmpstat -i", compare::table)?;
    stage.operator.wait_unusable(members, &[])?;
    page::line(&format!("Repaired after {:.1} s.", start.elapsed().as_secs_f64()))?;
    page::line("")?;
    stage.compare(tutorial::PROBED_CABLE_4_REPAIRED, "ipmpstat -i", compare::table)?;
    stage.account(&mut traffic)?;
    page::step("total")?;
    let streams = stage.finish_traffic_after_path_failure(traffic, detection)?;
    Ok(PathFailure { confirm: "fast", detection, streams })
}

/// The same with the probes of in.mpathd, which are evenly spaced.
fn path_failure_with_even_probes(stage: &mut Stage) -> Result<PathFailure> {
    page::heading("The same path failure with the probes of the tutorial's system: confirm=even")?;
    stage.operator.show("ipmpctl set production0 confirm=even")?;
    let mut traffic = Traffic::start(stage.lab)?;
    page::step("cable 4 pulled")?;
    let detection = pull_cable_4(stage)?;
    page::line(&format!("Detected after {:.2} s.", detection.as_secs_f64()))?;
    stage.account(&mut traffic)?;
    traffic.wait_tcp()?;
    page::step("cable 4 plugged in again")?;
    stage.lab.cable(4).replug()?;
    stage.operator.wait_unusable(stage.lab.members().len(), &[])?;
    stage.account(&mut traffic)?;
    page::step("total")?;
    let streams = stage.finish_traffic_after_path_failure(traffic, detection)?;
    stage.operator.show("ipmpctl set production0 confirm=fast")?;
    Ok(PathFailure { confirm: "even", detection, streams })
}

/// Prints what the same failure cost with each setting.
fn beside(stage: &mut Stage, failures: [&PathFailure; 2], quick: bool) -> Result<()> {
    page::heading("Both settings beside each other")?;
    page::line("confirm  detected after  UDP packets lost  of sent      TCP stalled")?;
    for PathFailure { confirm, detection, streams } in failures {
        page::line(&format!(
            "{confirm:<7}  {:<14}  {:<16}  {:<11}  {:.1} s",
            format!("{:.2} s", detection.as_secs_f64()),
            page::number(streams.lost()),
            page::number(streams.sent()),
            streams.longest_stall().as_secs_f64()
        ))?;
    }
    // With a short failure detection time they are much the same.
    let [fast, even] = failures;
    stage.expect(
        quick || (fast.detection < even.detection && fast.streams.lost() < even.streams.lost()),
        "confirm=fast was not faster than confirm=even",
    );
    page::line("")
}
