//! The tutorial's chapters on probe-based failure detection (1.6.2) and on what is logged (1.6.5): a repair that a lit
//! cable alone does not make, a dead path behind lit cables, and the lines of a failure of one and of all.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ipmp::{
    control::report::GroupReport,
    types::{LinkState, MemberState},
};
use lab::Oracle;
use lab::network::ROUTER;

use crate::compare;
use crate::page;
use crate::stage::{self, Stage};
use crate::traffic::Traffic;
use crate::tutorial;

/// The failure detection time of the tutorial, as `ipmpstat -g` prints it.
const FDT: &str = "10.00s";
/// How long a stream is watched that must not lose anything.
const WHOLE: Duration = Duration::from_secs(1);
/// How long packets that were sent before a failure was noticed may be on their way.
const STRAGGLERS: Duration = Duration::from_millis(300);

/// Plays it, and returns what was not as it should be. `quick`: probes find failures in half a second.
pub fn play(quick: bool) -> Result<Vec<String>> {
    let (lab, before) = stage::build()?;
    let mut stage = Stage::new(&lab)?;

    group(&mut stage)?;
    let mac = lab.host().link("production0")?.mac;
    let oracle = Oracle::watch(&lab, mac)?;
    members(&mut stage)?;
    if quick {
        page::line("To be quicker than the tutorial, as its 1.9.4 tells how to:")?;
        stage.operator.types("ipmpctl set production0 fdt=500ms")?;
    }
    repair(&mut stage)?;
    dead_path(&mut stage)?;
    log_of_one(&mut stage)?;
    log_of_all(&mut stage)?;
    stage.verdict(oracle, mac)?;
    page::heading("Everything as before")?;
    stage.tear_down()?;
    stage.finish(&before)
}

/// A group without members.
fn group(stage: &mut Stage) -> Result<()> {
    page::heading("Probe-based failure detection: the group (1.6.2)")?;
    stage.create_group()?;
    stage.compare(tutorial::JOINING[0], "ipmpstat -g", compare::table)?;
    page::line("The router is the next hop of the default route: that makes it the target of all probes.")?;
    stage.operator.types(&format!("ip route add default via {ROUTER} dev production0"))?;
    page::line("")
}

/// The members join one by one, each with its test address.
fn members(stage: &mut Stage) -> Result<()> {
    page::heading("The members, with test addresses (1.6.2)")?;
    for (number, member) in stage.lab.members().iter().enumerate() {
        let name = member.name();
        let address = stage.operator.test_address(number);
        let attach = format!("ipmpctl attach {name} --group production0 --test-address {address}");
        let said = stage.operator.asks(&attach)?;
        let theirs = format!(
            "jmoekamp@hivemind:/etc# ifconfig {name} plumb hivemind-prod-{name} -failover group\nproduction0 up"
        );
        page::beside(&theirs, &format!("# {attach}\n{said}"))?;
        stage.operator.wait_idle(number + 1, &[])?;
        let said = stage.operator.asks("ipmpstat -g")?;
        stage.compare_text(
            tutorial::JOINING[number + 1],
            &format!("# ipmpstat -g\n{said}"),
            compare::table,
        )?;
        stage.expect(said.contains(FDT), format!("with {name}, FDT is not {FDT}: {said}"));
    }
    stage.operator.types("ipmpctl show rge0")?;
    page::line("")?;
    stage.operator.types("ipmpstat -nt")?;
    page::line("")
}

/// Has a member carry multicast and broadcast, as in the tutorial's tables, which do not tell how it came to that.
fn give_cast(stage: &mut Stage, name: &str) -> Result<()> {
    page::line(&format!(
        "In the tutorial it is {name} now that carries multicast and broadcast (mb). So that it is here:"
    ))?;
    let others: Vec<&str> =
        stage.lab.members().iter().map(lab::Member::name).filter(|other| *other != name).collect();
    for verb in ["offline", "online"] {
        for other in &others {
            stage.operator.types(&format!("ipmpctl {verb} {other}"))?;
        }
    }
    page::line("")?;
    stage.operator.wait_idle(stage.lab.members().len(), &[])?;
    let cast = |group: &GroupReport| group.members.iter().any(|member| member.cast && member.name == name);
    stage.operator.wait(&format!("{name} carries multicast and broadcast"), cast)
}

/// Cable 1: a lit cable is not enough.
fn repair(stage: &mut Stage) -> Result<()> {
    page::heading("Playing around: cable 1, under load (1.6.2)")?;
    give_cast(stage, "rge0")?;
    stage.table()?;
    page::line("")?;
    let mut traffic = Traffic::start(stage.lab)?;
    page::step("cable 1 (e1000g0) pulled: its link says so at once")?;
    stage.pull(&[1])?;
    stage.compare(tutorial::PROBED_CABLE_1_OUT, "ipmpstat -i", compare::table)?;
    stage.account(&mut traffic)?;

    page::step("cable 1 (e1000g0) plugged in again: the link is up, and e1000g0 still failed")?;
    stage.lab.cable(1).replug()?;
    let start = Instant::now();
    let lit = |group: &GroupReport| {
        group.members.iter().any(|member| member.name == "e1000g0" && member.link == LinkState::Up)
    };
    stage.operator.wait("the link of e1000g0 is up", lit)?;
    stage.compare(tutorial::PROBED_CABLE_1_IN, "ipmpstat -i", compare::table)?;
    stage.operator.wait_idle(stage.lab.members().len(), &[])?;
    page::line(&format!(
        "Ten probes in a row were answered {:.1} s after the cable was plugged in, and e1000g0 is repaired. (The tutorial has \
         twenty here, and ten in 1.2.4.)",
        start.elapsed().as_secs_f64()
    ))?;
    page::line("")?;
    stage.compare(tutorial::PROBED_CABLE_1_REPAIRED, "ipmpstat -i", compare::table)?;
    stage.account(&mut traffic)?;
    let outcome = traffic.stop()?;
    page::step("all in all")?;
    outcome.summary()?;
    stage.faults.extend(outcome.faults());
    Ok(())
}

/// Cable 4: the fault that no link shows.
fn dead_path(stage: &mut Stage) -> Result<()> {
    page::heading("A dead path behind lit cables: cable 4, under load (1.6.2)")?;
    give_cast(stage, "e1000g0")?;
    stage.compare(tutorial::PROBED_INITIAL, "ipmpstat -i", compare::table)?;
    let members = stage.lab.members().len();
    let mut traffic = Traffic::start(stage.lab)?;
    page::step("cable 4 (between the switches) pulled: nothing happens at first")?;
    stage.table()?;
    let start = Instant::now();
    stage.lab.cable(4).pull()?;
    stage.operator.wait_idle(members, &["e1000g0", "e1000g1"])?;
    let blind = start.elapsed();
    page::line(&format!(
        "Five probes in a row were lost on e1000g0 and e1000g1: they have failed after {:.2} s.",
        blind.as_secs_f64()
    ))?;
    sleep(STRAGGLERS);
    traffic.account()?;
    let lost = traffic.lost();
    page::line("")?;
    stage.compare(tutorial::PROBED_CABLE_4_OUT, "ipmpstat -i", compare::table)?;
    sleep(WHOLE);
    stage.table()?;
    traffic.account()?;
    let lost = traffic.lost() - lost;
    stage.expect(lost == 0, format!("{lost} packets were lost after the dead paths had been noticed"));
    traffic.wait_tcp()?;

    page::step("cable 4 plugged in again: nothing happens at first")?;
    stage.lab.cable(4).replug()?;
    let start = Instant::now();
    stage.compare(tutorial::PROBED_CABLE_4_IN, "ipmpstat -i", compare::table)?;
    stage.operator.wait_idle(members, &[])?;
    page::line(&format!("Repaired after {:.1} s.", start.elapsed().as_secs_f64()))?;
    page::line("")?;
    stage.compare(tutorial::PROBED_CABLE_4_REPAIRED, "ipmpstat -i", compare::table)?;
    stage.account(&mut traffic)?;
    let outcome = traffic.stop()?;
    page::step("all in all")?;
    outcome.summary_of_dead_paths(blind)?;
    stage.faults.extend(outcome.faults_of_dead_paths(blind));
    Ok(())
}

/// One interface fails and is repaired.
fn log_of_one(stage: &mut Stage) -> Result<()> {
    page::heading("What is logged: failure and repair of a single interface (1.6.5)")?;
    let since = stage.operator.log().len();
    stage.pull(&[3])?;
    stage.replug(&[3])?;
    stage.operator.wait_line("repair detected on rge0", since)?;
    let about = ["The link has", "IP interface failure", "IP interface repair"];
    compare_log(stage, tutorial::LOG_OF_ONE, since, &about)
}

/// All fail, and one is repaired; then the others are.
fn log_of_all(stage: &mut Stage) -> Result<()> {
    page::heading("What is logged: failure of all interfaces, repair of one (1.6.5)")?;
    let (since, members) = (stage.operator.log().len(), stage.lab.members().len());
    stage.pull(&[1, 2, 3])?;
    stage.operator.types("ipmpstat -g")?;
    page::line("")?;
    stage.lab.cable(3).replug()?;
    stage.operator.wait_idle(members, &["e1000g0", "e1000g1"])?;
    stage.operator.wait_line("At least 1 IP interface", since)?;
    compare_log(stage, tutorial::LOG_OF_ALL, since, &["All IP interfaces", "At least 1 IP interface"])?;
    stage.replug(&[1, 2])?;
    let ok = |group: &GroupReport| group.members.iter().all(|member| member.state == MemberState::Ok);
    stage.operator.wait("every member is ok", ok)
}

/// The lines of the daemon since then that begin so, beside the tutorial's.
fn compare_log(stage: &mut Stage, printed: &str, since: usize, about: &[&str]) -> Result<()> {
    let lines = stage.operator.log().into_iter().skip(since);
    let (chosen, others): (Vec<String>, Vec<String>) =
        lines.partition(|line| about.iter().any(|begin| sentence(line).starts_with(begin)));
    stage.compare_text(printed, &chosen.join("\n"), compare::log)?;
    let first = others.first().context("the daemon has said nothing else")?;
    page::line(&format!("And, of what the tutorial does not show, {} lines, as:", others.len()))?;
    page::line(&format!("  {first}"))?;
    page::line("")
}

fn sentence(line: &str) -> &str {
    line.strip_prefix("ipmpd: ").unwrap_or(line)
}
