//! The tutorial's chapter on link-based failure detection (1.6, 1.6.1): a group is created and cables are pulled, one of
//! them without a carrier change on any member.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::network::DATA;
use lab::{Oracle, Switch};

use crate::page;
use crate::stage::{self, Stage};
use crate::traffic::{MISSING, Traffic};
use lab::tutorial;
use lab::tutorial::compare::{self, Cells, block};

/// Pulls that are not in the tutorial. No link comes up a third time within a minute: that would start flap dampening.
const FURTHER: [&[usize]; 2] = [&[2], &[1, 2]];

/// How long cable 3 is unplugged.
const SHORT_PULL: Duration = Duration::from_millis(300);

/// Plays the chapter, and returns the faults found.
pub fn play() -> Result<Vec<String>> {
    let (lab, before) = stage::build()?;
    let mut stage = Stage::new(&lab)?;

    group(&mut stage)?;
    let mac = lab.host().link("production0")?.mac;
    let oracle = Oracle::watch(&lab, mac)?;
    members(&mut stage)?;
    cables(&mut stage)?;
    undetected_failure(&mut stage)?;
    further(&mut stage)?;
    let ping = lab.router().ping(DATA.into(), 3, Duration::from_millis(10), Duration::from_secs(1))?;
    stage.expect(
        (ping.answered, ping.duplicates) == (3, 0),
        format!(
            "the router received {} replies and {} duplicates for 3 echo requests to {DATA}",
            ping.answered, ping.duplicates
        ),
    );
    stage.verdict(oracle, mac)?;

    page::heading("Removing the group (1.6.2, at its beginning)")?;
    stage.tear_down()?;
    stage.finish(&before)
}

/// Creates a group without members, which is failed.
fn group(stage: &mut Stage) -> Result<()> {
    page::heading("New IPMP: the group (1.6)")?;
    stage.create_group()?;
    let block = |text: &str| block(text, "production0");
    stage.compare(tutorial::GROUP, "ifconfig production0", block)?;
    stage.compare(tutorial::JOINING[0], "ipmpstat -g", compare::table)
}

/// Attaches the members one by one.
fn members(stage: &mut Stage) -> Result<()> {
    page::heading("Link-based failure detection: the members (1.6.1)")?;
    for (number, member) in stage.lab.members().iter().enumerate() {
        let name = member.name();
        let lines =
            [format!("ifconfig {name} plumb"), format!("ifconfig {name} -failover group production0 up")];
        stage.attach(number, &[&lines[0], &lines[1]])?;
        stage.compare(tutorial::JOINING[number + 1], "ipmpstat -g", compare::table)?;
    }
    let of_member = |text: &str| -> Cells { block(text, "rge0") };
    stage.compare(tutorial::RGE0, "ifconfig rge0", of_member)?;
    page::line("And the complete report:")?;
    stage.operator.show("ipmpctl show")?;
    page::line("")?;
    stage.compare(tutorial::INITIAL, "ipmpstat -i", compare::table)
}

/// Pulls cables 1 and 3, with traffic.
fn cables(stage: &mut Stage) -> Result<()> {
    page::heading("Playing around: cables 1 and 3, with traffic (1.6.1)")?;
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

    page::step("cable 3 (rge0) pulled for a moment: mb must be on a member in Switch A")?;
    stage.pull(&[3])?;
    std::thread::sleep(SHORT_PULL);
    stage.replug(&[3])?;
    stage.operator.show("ipmpstat -i")?;
    page::line("")?;
    stage.account(&mut traffic)?;
    let group = stage.operator.group()?;
    let cast = group.members.iter().find(|member| member.cast).context("no cast member")?;
    let is_in_a = stage.lab.member(&cast.name).switch() == Switch::A;
    stage.expect(is_in_a, format!("cable 3 was pulled, but {} is the cast member", cast.name));

    stage.finish_traffic(traffic)
}

/// Pulls cable 4: a failure without a carrier change on any member.
fn undetected_failure(stage: &mut Stage) -> Result<()> {
    page::heading("The problem with link-based failure detection: cable 4 (1.6.1)")?;
    let mut traffic = Traffic::start(stage.lab)?;
    page::step("cable 4 (between the switches) pulled: not detected")?;
    stage.table()?;
    stage.lab.cable(4).pull()?;
    let tcp = traffic.account_missing()?;
    stage.table()?;
    page::line("")?;
    stage.compare(tutorial::CABLE_4_OUT, "ipmpstat -i", compare::table)?;
    let group = stage.operator.group()?;
    let inbound = group.addresses.iter().find(|data| data.address == DATA);
    let inbound = inbound.and_then(|data| data.inbound.clone()).context("no inbound member")?;
    let ping =
        stage.lab.router().ping(DATA.into(), 3, Duration::from_millis(10), Duration::from_millis(300))?;
    page::line(&format!(
        "The links of cables 1 and 2 are up, so e1000g0 and e1000g1 are \"ok\" and still transmit two thirds of the flows: into \
         a switch that is no longer connected to the router and the peers. Flows on rge0 arrive. {inbound} is the inbound \
         member of {DATA}, and hosts beyond Switch A do not receive its replies: {} of the router's 3 echo requests were \
         answered.",
        ping.answered
    ))?;
    page::line(
        "The link state covers only the cable to the next switch. Failures behind that switch are detected only by probes, \
         which hosts beyond the switches answer (1.6.2).",
    )?;
    stage.expect(ping.answered == 0, "the router reached the host although cable 4 was pulled");
    stage.expect(!tcp, "TCP continued although cable 4 was pulled");

    page::step("cable 4 plugged in again")?;
    stage.lab.cable(4).replug()?;
    traffic.wait_tcp()?;
    stage.table()?;
    stage.finish_traffic_after_path_failure(traffic, MISSING).map(drop)
}

/// Pulls that are not in the tutorial.
fn further(stage: &mut Stage) -> Result<()> {
    page::heading("Pulls that are not in the tutorial")?;
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
    stage.finish_traffic(traffic)?;
    page::line("")?;
    Ok(())
}
