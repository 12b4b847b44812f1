//! The tutorial's section on link aggregation (1.6.4): an aggregate of two cables and a card in one group.

use anyhow::Result;
use lab::Lab;
use lab::network::DATA;
use lab::tutorial::compare;

use crate::page;
use crate::stage::{self, Stage};
use lab::tutorial;

/// The prompt of the section.
const PROMPT: &str = "jmoeekamp@hivemind:~# ";
/// `dladm create-aggr` makes an aggregate without LACP, which distributes by addresses and ports.
const OPTIONS: &str = "type bond mode balance-xor xmit_hash_policy layer3+4 miimon 100";
/// What the driver prints of the aggregate and of its ports, in place of `dladm show-aggr -x`.
const SHOW: &str = "grep -e Interface -e Status -e Speed -e Duplex -e HW /proc/net/bonding/aggregate0";
/// The tables of the group.
const TABLES: [&str; 2] = ["ipmpstat -i", "ipmpstat -g"];

/// Plays the section, and returns the faults found. `None`: this kernel has no bonds.
pub fn play() -> Result<Option<Vec<String>>> {
    let (lab, before) = stage::build()?;
    page::heading("IPMP and link aggregation (1.6.4)")?;
    if lab.host().ip(&format!("link add aggregate0 {OPTIONS}")).is_err() {
        page::line("Not played: this kernel has no bonding driver. In a virtual machine with Linux 6.12:")?;
        page::line("  cargo xtask demo --chapter aggregate")?;
        return Ok(None);
    }
    lab.host().ip("link del aggregate0")?;
    let mut stage = Stage::new(&lab)?;
    page::line("The group of 1.6.3; then both cables are unplugged.")?;
    let members = ["e1000g0", "e1000g1", "rge0"];
    stage.create_group()?;
    for (number, name) in members.iter().enumerate() {
        let line = format!("ifconfig {name} -failover group production0 up");
        stage.attach(number, &[&format!("ifconfig {name} plumb"), &line])?;
    }
    lab.cable(1).pull()?;
    lab.cable(2).pull()?;
    stage.operator.wait_unusable(3, &["e1000g0", "e1000g1"])?;
    create(&mut stage)?;
    join(&mut stage)?;
    lose(&mut stage)?;
    page::heading("Removing the group and the aggregate")?;
    stage.tear_down()?;
    stage.operator.show("ip link del aggregate0")?;
    for name in ["e1000g0", "e1000g1"] {
        stage.operator.show(&format!("ip link set {name} up"))?;
    }
    untrunk(&lab)?;
    stage.finish(&before).map(Some)
}

/// Creates the aggregate, and plugs its cables in.
fn create(stage: &mut Stage) -> Result<()> {
    stage.type_in(PROMPT, &["ifconfig e1000g0 unplumb", "ifconfig e1000g1 unplumb"])?;
    trunk(stage.lab)?;
    let lines = [
        format!("ip link add aggregate0 {OPTIONS}"),
        "ip link set e1000g0 down".into(),
        "ip link set e1000g0 master aggregate0".into(),
        "ip link set e1000g1 down".into(),
        "ip link set e1000g1 master aggregate0".into(),
        "ip link set aggregate0 up".into(),
    ];
    for line in &lines {
        stage.operator.run(line)?;
    }
    page::beside(
        &format!("{PROMPT}dladm create-aggr -l e1000g0 -l e1000g1 aggregate0\n"),
        &lines.map(|line| format!("# {line}\n")).concat(),
    )?;
    show(stage, "MII Status: down", 3, 0)?;
    page::step("both cables plugged in")?;
    stage.lab.cable(1).replug()?;
    stage.lab.cable(2).replug()?;
    show(stage, "MII Status: up", 3, 1)
}

/// Waits until the driver prints this so many times, and compares.
fn show(stage: &mut Stage, text: &str, times: usize, number: usize) -> Result<()> {
    let operator = &stage.operator;
    let is_shown = || operator.run(SHOW).is_ok_and(|shown| shown.matches(text).count() == times);
    anyhow::ensure!(
        lab::wait_until(lab::TIMEOUT, is_shown),
        "not {times} times {text:?}: {}",
        operator.run(SHOW)?
    );
    stage.compare(tutorial::AGGREGATES[number], SHOW, compare::aggregate)
}

/// Attaches it, and the card.
fn join(stage: &mut Stage) -> Result<()> {
    page::line("The tutorial forgets to remove production0, which still exists:")?;
    stage.type_in(PROMPT, &["ifconfig rge0 unplumb"])?;
    stage.operator.show("ifconfig production0 unplumb")?;
    page::line("")?;
    let lines = [
        "ifconfig production0 ipmp hivemind-prod up",
        "ifconfig aggregate0 plumb",
        "ifconfig aggregate0 -failover group production0 up",
        "ifconfig rge0 plumb",
        "ifconfig rge0 -failover group production0 up",
    ];
    stage.type_in(PROMPT, &lines[..3])?;
    stage.operator.wait_unusable(1, &[])?;
    stage.type_in(PROMPT, &lines[3..])?;
    stage.operator.wait_unusable(2, &[])?;
    tables(stage, tutorial::WITH_AGGREGATE)
}

fn tables(stage: &mut Stage, printed: [&str; 2]) -> Result<()> {
    for (printed, line) in printed.iter().zip(TABLES) {
        stage.compare(printed, line, compare::table)?;
    }
    let reached =
        || stage.lab.peer(0).ping(DATA.into(), 1, lab::MS, lab::SECOND).is_ok_and(|ping| ping.answered == 1);
    let reached = lab::wait_until(lab::TIMEOUT, reached);
    stage.expect(reached, format!("{DATA} does not answer"));
    Ok(())
}

/// Unplugs its cables one by one, and plugs them in again.
fn lose(stage: &mut Stage) -> Result<()> {
    page::step("cable 2 (e1000g1) pulled: the group is not affected")?;
    stage.lab.cable(2).pull()?;
    show(stage, "MII Status: up", 2, 2)?;
    tables(stage, tutorial::WITH_AGGREGATE)?;
    page::step("cable 1 (e1000g0) pulled: the aggregate has lost its last port")?;
    stage.lab.cable(1).pull()?;
    stage.operator.wait_unusable(2, &["aggregate0"])?;
    tables(stage, tutorial::WITHOUT_LEGS)?;
    show(stage, "MII Status: down", 3, 3)?;
    page::step("cable 1 plugged in again")?;
    stage.lab.cable(1).replug()?;
    show(stage, "MII Status: up", 2, 4)?;
    stage.operator.wait_unusable(2, &[])?;
    stage.compare(tutorial::WITH_ONE_LEG_AGAIN, TABLES[0], compare::table)?;
    page::step("cable 2 plugged in again: nothing changes for the group")?;
    stage.lab.cable(2).replug()?;
    show(stage, "MII Status: up", 3, 5)
}

/// Lets Switch A take cables 1 and 2 as one link, as the administrator of a real one has to.
fn trunk(lab: &Lab) -> Result<()> {
    let switch = &lab.cable(1).far().namespace;
    switch.ip(&format!("link add trunk0 {OPTIONS}"))?;
    for number in [1, 2] {
        let port = &lab.cable(number).far().interface;
        switch.ip(&format!("link set {port} nomaster"))?;
        switch.ip(&format!("link set {port} down"))?;
        switch.ip(&format!("link set {port} master trunk0"))?;
        // The cable is still unplugged.
        switch.ip(&format!("link set {port} down"))?;
    }
    switch.ip("link set trunk0 master br0 up").map(drop)
}

/// Takes them as two links again.
fn untrunk(lab: &Lab) -> Result<()> {
    let switch = &lab.cable(1).far().namespace;
    switch.ip("link del trunk0")?;
    for number in [1, 2] {
        switch.ip(&format!("link set {} master br0 up", lab.cable(number).far().interface))?;
    }
    Ok(())
}
