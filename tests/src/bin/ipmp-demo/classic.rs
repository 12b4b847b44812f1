//! The tutorial's chapter on classic IPMP (1.7.2, 1.7.3): its commands, and its blocks before and after a failure.

use anyhow::Result;
use lab::network::DATA;

use crate::page;
use crate::stage::{self, Stage};
use lab::tutorial;
use lab::tutorial::compare::{Cells, block};

/// The prompt of the chapter.
const PROMPT: &str = "bash-3.00# ";
/// Shows groups as classic IPMP does.
const ALL: &str = "ifconfig -a4 --classic";

/// Plays the chapter, and returns the faults found.
pub fn play() -> Result<Vec<String>> {
    let (lab, before) = stage::build()?;
    let mut stage = Stage::new(&lab)?;

    page::heading("Link based classic IPMP (1.7.2)")?;
    stage.type_in(
        PROMPT,
        &[
            "ifconfig e1000g0 plumb",
            "ifconfig e1000g1 plumb",
            "ifconfig e1000g0 vhivemind-prod netmask + broadcast + group production0 up",
            "ifconfig e1000g1 group production0 up",
        ],
    )?;
    fail_and_repair(&mut stage, tutorial::CLASSIC_LINK, tutorial::CLASSIC_LINK_CABLE_1_OUT)?;
    stage.tear_down()?;

    page::heading("Probe based classic IPMP (1.7.3)")?;
    stage.type_in(
        PROMPT,
        &[
            "ifconfig e1000g0 plumb",
            "ifconfig e1000g1 plumb",
            "ifconfig e1000g0 vhidmind-e1000g0 deprecated -failover netmask + broadcast + group production0 up",
            "ifconfig e1000g0 addif vhidmind-prod netmask + broadcast + up",
            "ifconfig e1000g1 vhidmind-e1000g1 deprecated -failover netmask + broadcast + group production0 up",
        ],
    )?;
    fail_and_repair(&mut stage, tutorial::CLASSIC_PROBE, tutorial::CLASSIC_PROBE_CABLE_1_OUT)?;
    stage.tear_down()?;
    stage.finish(&before)
}

/// Shows the members, pulls cable 1, shows them again, and plugs it in.
fn fail_and_repair(stage: &mut Stage, whole: &str, failed: &str) -> Result<()> {
    stage.operator.wait_unusable(2, &[])?;
    wait_inbound(stage, "e1000g0")?;
    stage.compare(whole, ALL, blocks)?;
    page::step("cable 1 (e1000g0) pulled: the data address is on e1000g1")?;
    stage.lab.cable(1).pull()?;
    stage.operator.wait_unusable(2, &["e1000g0"])?;
    wait_inbound(stage, "e1000g1")?;
    stage.compare(failed, ALL, blocks)?;
    stage.lab.cable(1).replug()?;
    Ok(())
}

fn wait_inbound(stage: &Stage, member: &str) -> Result<()> {
    stage.operator.wait(&format!("{DATA} is on {member}"), |group| {
        let data = group.addresses.iter().find(|data| data.address == DATA);
        data.is_some_and(|data| data.inbound.as_deref() == Some(member))
    })
}

/// The blocks of the members.
fn blocks(text: &str) -> Cells {
    let interfaces = ["e1000g0", "e1000g0:1", "e1000g1", "e1000g1:1"];
    interfaces.iter().flat_map(|interface| block(text, interface)).collect()
}
