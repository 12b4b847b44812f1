//! The tutorial's sections on test addresses in a private network (1.9.1) and on target systems (1.9.2).

use anyhow::Result;
use ipmp::{control::report::GroupReport, types::MemberState};
use lab::Lab;
use lab::network::ROUTER;

use crate::page;
use crate::stage::{self, PROMPT, Stage};
use lab::tutorial;
use lab::tutorial::compare;

/// Plays the sections, and returns the faults found.
pub fn play() -> Result<Vec<String>> {
    let (lab, before) = stage::build()?;
    let mut stage = Stage::new(&lab)?;
    private_network(&mut stage, &lab)?;
    host_routes(&mut stage, &lab)?;
    stage.tear_down()?;
    stage.finish(&before)
}

/// Test addresses that are not routed, and a router with an additional address.
fn private_network(stage: &mut Stage, lab: &Lab) -> Result<()> {
    page::heading("Test addresses in a private network (1.9.1)")?;
    let router = lab.router().namespace();
    router.ip("address add 192.168.1.1/24 dev eth0")?;
    router.sysctl("net.ipv4.icmp_echo_ignore_broadcasts", "0")?;
    page::line("The router has the additional address 192.168.1.1.")?;
    stage.create_group()?;
    for (number, member) in lab.members().iter().enumerate() {
        let name = member.name();
        let line = format!("ifconfig {name} 192.168.1.20{}/24 -failover group production0 up", number + 1);
        stage.attach(number, &[&line])?;
    }
    wait_targets(stage, "192.168.1.1")?;
    for member in lab.members() {
        stage.operator.show(&format!("ifconfig {} unplumb", member.name()))?;
    }
    page::line("")
}

/// A host route is a target, before routers.
fn host_routes(stage: &mut Stage, lab: &Lab) -> Result<()> {
    page::heading("Explicitly configuring target systems (1.9.2)")?;
    stage.operator.show(&format!("ip route add default via {ROUTER} dev production0"))?;
    for number in 0..lab.members().len() {
        stage.attach_probed(number)?;
    }
    wait_targets(stage, &ROUTER.to_string())?;
    page::line("The tutorial's 192.168.178.2 is the peer 192.168.178.22 here.")?;
    typed(
        stage,
        "route add -host 192.168.178.2 192.168.178.2 -static",
        "ipmpctl target route 192.168.178.22",
    )?;
    wait_targets(stage, "192.168.178.22")?;
    stage.operator.show("ipmpctl target list --group production0")?;
    page::line("")?;
    stage.operator.show("ipmpctl target route --remove 192.168.178.22")?;
    page::line("")?;
    page::line(
        "The service is ipmp-target@ADDRESS.service here; these are the lines that systemd executes:",
    )?;
    typed(stage, "svcadm enable ipmptargets:target1", "ipmpctl target route 192.168.178.1")?;
    stage.compare(tutorial::ROUTES[0], "ip route", compare::routes)?;
    wait_targets(stage, "192.168.178.1")?;
    typed(stage, "svcadm disable ipmptargets:target1", "ipmpctl target route --remove 192.168.178.1")?;
    stage.compare(tutorial::ROUTES[1], "ip route", compare::routes)
}

/// Runs our command beside that of the tutorial.
fn typed(stage: &Stage, tutorial: &str, here: &str) -> Result<()> {
    let output = stage.operator.run(here)?;
    page::beside(&format!("{PROMPT}{tutorial}\n"), &format!("# {here}\n{output}"))
}

/// Waits until every member is probed by this target, and shows the targets.
fn wait_targets(stage: &mut Stage, target: &str) -> Result<()> {
    let ok = |group: &GroupReport| group.members.iter().all(|member| member.state == MemberState::Ok);
    stage.operator.wait("every member is ok", ok)?;
    let operator = &stage.operator;
    let has_all = || {
        let is_row = |row: &str| row.split_whitespace().any(|word| word == target);
        operator.run("ipmpstat -nt").is_ok_and(|text| text.lines().skip(1).all(is_row))
    };
    let reached = lab::wait_until(lab::TIMEOUT, has_all);
    stage.operator.show("ipmpstat -nt")?;
    page::line("")?;
    stage.expect(reached, format!("{target} is not the target of every member"));
    Ok(())
}
