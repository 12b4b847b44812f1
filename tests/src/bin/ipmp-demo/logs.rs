//! The tutorial's section on log messages (1.6.5): the messages of a failure of one interface, and of all.

use anyhow::Result;
use ipmp::{control::report::GroupReport, types::MemberState};
use lab::log_file::parts;
use lab::network::ROUTER;

use crate::page;
use crate::stage::{self, Stage};
use lab::tutorial;
use lab::tutorial::compare;

/// Plays the section, and returns the faults found.
pub fn play() -> Result<Vec<String>> {
    let (lab, before) = stage::build()?;
    let mut stage = Stage::new(&lab)?;
    page::heading("Monitoring the actions of IPMP in the log (1.6.5)")?;
    page::line(
        "The group of 1.6.2. Its failure detection time is half a second, so that repairs take a second:",
    )?;
    stage.create_group()?;
    stage.operator.show(&format!("ip route add default via {ROUTER} dev production0"))?;
    stage.operator.show("ipmpctl set production0 fdt=500ms")?;
    page::line("")?;
    for number in 0..lab.members().len() {
        stage.attach_probed(number)?;
    }
    wait_ok(&stage)?;
    log_of_one(&mut stage)?;
    log_of_all(&mut stage)?;
    stage.tear_down()?;
    stage.finish(&before)
}

fn wait_ok(stage: &Stage) -> Result<()> {
    let ok = |group: &GroupReport| group.members.iter().all(|member| member.state == MemberState::Ok);
    stage.operator.wait("every member is ok", ok)
}

/// The log when one interface fails and is repaired.
fn log_of_one(stage: &mut Stage) -> Result<()> {
    page::heading("Log messages: failure and repair of a single interface (1.6.5)")?;
    let since = stage.operator.log().len();
    stage.pull(&[3])?;
    stage.replug(&[3])?;
    stage.operator.wait_line("repair detected on rge0", since)?;
    let about = ["The link has", "IP interface failure", "IP interface repair"];
    compare_log(stage, tutorial::LOG_OF_ONE, since, &about)
}

/// The log when all interfaces fail and one is repaired; then the others are repaired.
fn log_of_all(stage: &mut Stage) -> Result<()> {
    page::heading("Log messages: failure of all interfaces, repair of one (1.6.5)")?;
    let (since, members) = (stage.operator.log().len(), stage.lab.members().len());
    stage.pull(&[1, 2, 3])?;
    stage.operator.show("ipmpstat -g")?;
    page::line("")?;
    stage.lab.cable(3).replug()?;
    stage.operator.wait_unusable(members, &["e1000g0", "e1000g1"])?;
    stage.operator.wait_line("At least 1 IP interface", since)?;
    compare_log(stage, tutorial::LOG_OF_ALL, since, &["All IP interfaces", "At least 1 IP interface"])?;
    stage.replug(&[1, 2])?;
    wait_ok(stage)
}

/// Shows the log lines since `since` that begin with one of these texts beside the tutorial's.
fn compare_log(stage: &mut Stage, printed: &str, since: usize, about: &[&str]) -> Result<()> {
    let lines = stage.operator.log().into_iter().skip(since);
    let (chosen, others): (Vec<String>, Vec<String>) =
        lines.partition(|line| about.iter().any(|begin| parts(line).1.starts_with(begin)));
    stage.compare_text(printed, &chosen.join("\n"), compare::log)?;
    // There are some only if rge0 had a role.
    if let Some(first) = others.first() {
        page::line(&format!(
            "{} further log lines that the tutorial does not show, for example:",
            others.len()
        ))?;
        page::line(&format!("  {first}"))?;
    }
    page::line("")
}
