//! The tutorial's chapter on link-based failure detection (1.6, 1.6.1): a group is made, cables are pulled, and one that
//! nobody can notice.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::network::DATA;
use lab::{Oracle, Switch};

use crate::compare::{self, Cells, block};
use crate::page;
use crate::stage::{self, Stage};
use crate::traffic::{BLIND, Traffic};
use crate::tutorial;

/// What the tutorial does not pull: a cable more, and two at once. No link comes up a third time within a minute, after
/// which it would be held down for a while.
const FURTHER: [&[usize]; 2] = [&[2], &[1, 2]];

/// For how long cable 3 is zipped.
const MOMENT: Duration = Duration::from_millis(300);

/// Plays it, and returns what was not as it should be.
pub fn play() -> Result<Vec<String>> {
    let (lab, before) = stage::build()?;
    let mut stage = Stage::new(&lab)?;

    group(&mut stage)?;
    let mac = lab.host().link("production0")?.mac;
    let oracle = Oracle::watch(&lab, mac)?;
    members(&mut stage)?;
    cables(&mut stage)?;
    blindness(&mut stage)?;
    further(&mut stage)?;
    let ping = lab.router().ping(DATA.into(), 3, Duration::from_millis(10), Duration::from_secs(1))?;
    stage.expect(
        (ping.answered, ping.duplicates) == (3, 0),
        format!(
            "the router's 3 echo requests to {DATA} had {} answers and {} duplicates",
            ping.answered, ping.duplicates
        ),
    );
    stage.verdict(oracle, mac)?;

    page::heading("Everything as before (1.6.2, at its beginning)")?;
    stage.tear_down()?;
    stage.finish(&before)
}

/// A group without members: failed.
fn group(stage: &mut Stage) -> Result<()> {
    page::heading("New IPMP: the group (1.6)")?;
    stage.create_group()?;
    let block = |text: &str| block(text, "production0");
    stage.compare(tutorial::GROUP, "ipmpctl show production0", block)?;
    stage.compare(tutorial::JOINING[0], "ipmpstat -g", compare::table)
}

/// The members join one by one.
fn members(stage: &mut Stage) -> Result<()> {
    page::heading("Link-based failure detection: the members (1.6.1)")?;
    for (number, member) in stage.lab.members().iter().enumerate() {
        let name = member.name();
        let attach = format!("ipmpctl attach {name} --group production0");
        let said = stage.operator.asks(&attach)?;
        let theirs = format!(
            "jmoekamp@hivemind:/etc# ifconfig {name} plumb\n\
             jmoekamp@hivemind:/etc# ifconfig {name} -failover group production0 up"
        );
        page::beside(&theirs, &format!("# {attach}\n{said}"))?;
        // A link must have been good for a moment before it is trusted.
        stage.operator.wait_idle(number + 1, &[])?;
        stage.compare(tutorial::JOINING[number + 1], "ipmpstat -g", compare::table)?;
    }
    let shown = stage.operator.asks("ipmpctl show rge0")?;
    let own = compare::lines_of(&shown, "rge0").join("\n");
    let of_member = |text: &str| -> Cells { block(text, "rge0") };
    stage.compare_text(
        tutorial::RGE0,
        &format!("# ipmpctl show rge0   (of it, what ifconfig shows, too)\n{own}"),
        of_member,
    )?;
    page::line("And all that there is to know:")?;
    stage.operator.types("ipmpctl show")?;
    page::line("")?;
    stage.compare(tutorial::INITIAL, "ipmpstat -i", compare::table)
}

/// Cables 1 and 3, under load.
fn cables(stage: &mut Stage) -> Result<()> {
    page::heading("Playing around: cables 1 and 3, under load (1.6.1)")?;
    stage.table()?;
    page::line("")?;
    let mut traffic = Traffic::start(stage.lab)?;
    page::step("all cables plugged in")?;
    stage.account(&mut traffic)?;

    page::step("cable 1 (e1000g0) pulled: mb moves to e1000g1")?;
    stage.pull(&[1])?;
    stage.compare(tutorial::CABLE_1_OUT, "ipmpstat -i", compare::table)?;
    stage.account(&mut traffic)?;

    page::step("cable 1 (e1000g0) plugged in again: mb stays where it is")?;
    stage.replug(&[1])?;
    stage.compare(tutorial::CABLE_1_IN, "ipmpstat -i", compare::table)?;
    stage.account(&mut traffic)?;

    page::step("cable 3 (rge0) zipped for a moment: mb must be on a member in Switch A")?;
    stage.pull(&[3])?;
    std::thread::sleep(MOMENT);
    stage.replug(&[3])?;
    stage.operator.types("ipmpstat -i")?;
    page::line("")?;
    stage.account(&mut traffic)?;
    let group = stage.operator.group()?;
    let cast = group.members.iter().find(|member| member.cast).context("nobody carries multicast")?;
    let is_in_a = stage.lab.member(&cast.name).switch() == Switch::A;
    stage.expect(is_in_a, format!("cable 3 was zipped, and {} carries multicast and broadcast", cast.name));

    let outcome = traffic.stop()?;
    page::step("all in all")?;
    outcome.summary()?;
    stage.faults.extend(outcome.faults());
    Ok(())
}

/// Cable 4: a fault that no link shows.
fn blindness(stage: &mut Stage) -> Result<()> {
    page::heading("The problem with link-based failure detection: cable 4 (1.6.1)")?;
    let mut traffic = Traffic::start(stage.lab)?;
    page::step("cable 4 (between the switches) pulled: nobody notices")?;
    stage.table()?;
    stage.lab.cable(4).pull()?;
    let tcp = traffic.account_missing()?;
    stage.table()?;
    page::line("")?;
    stage.compare(tutorial::CABLE_4_OUT, "ipmpstat -i", compare::table)?;
    let group = stage.operator.group()?;
    let inbound = group.addresses.iter().find(|data| data.address == DATA);
    let inbound = inbound.and_then(|data| data.inbound.clone()).context("nobody answers")?;
    let ping =
        stage.lab.router().ping(DATA.into(), 3, Duration::from_millis(10), Duration::from_millis(300))?;
    page::line(&format!(
        "The lights of cables 1 and 2 are lit, so e1000g0 and e1000g1 are \"ok\", and go on carrying two thirds of the \
         flows: into a switch from which there is no way to the router or to any peer. What rge0 carries arrives. {inbound} \
         answers for {DATA}, and nobody beyond Switch A hears it: {} of the router's 3 echo requests were answered.",
        ping.answered
    ))?;
    page::line(
        "A link says that there is something at the other end of a cable, not what is behind it. Only probes find this: \
         packets that somebody beyond the switches answers (1.6.2).",
    )?;
    stage.expect(ping.answered == 0, "the router reached the host although cable 4 was out");
    stage.expect(!tcp, "TCP went on although cable 4 was out");

    page::step("cable 4 plugged in again")?;
    stage.lab.cable(4).replug()?;
    traffic.wait_tcp()?;
    stage.table()?;
    let outcome = traffic.stop()?;
    outcome.summary_of_dead_paths(BLIND)?;
    stage.faults.extend(outcome.faults_of_dead_paths(BLIND));
    Ok(())
}

/// What the tutorial does not pull.
fn further(stage: &mut Stage) -> Result<()> {
    page::heading("What the tutorial does not pull")?;
    stage.table()?;
    page::line("")?;
    let mut traffic = Traffic::start(stage.lab)?;
    for cables in FURTHER {
        let list: Vec<String> =
            cables.iter().map(|number| stage.lab.cable(*number).name().to_owned()).collect();
        let list = list.join(" and ");
        page::step(&format!("{list} pulled"))?;
        stage.pull(cables)?;
        stage.account(&mut traffic)?;
        page::step(&format!("{list} plugged in again"))?;
        stage.replug(cables)?;
        stage.account(&mut traffic)?;
    }
    let outcome = traffic.stop()?;
    page::step("all in all")?;
    outcome.summary()?;
    page::line("")?;
    stage.faults.extend(outcome.faults());
    Ok(())
}
