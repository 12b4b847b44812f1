//! The tutorial's section on the failure detection time (1.9.4): `/etc/default/mpathd`, and a signal.

use std::fs;
use std::thread::sleep;

use anyhow::{Context as _, Result};
use lab::network::ROUTER;
use lab::packet::PacketSocket;
use lab::{Daemon, Lab, SECOND, filter};

use crate::page;
use crate::stage::{self, PROMPT, Stage};
use lab::tutorial;

/// `ETH_P_IP`.
const IPV4: u16 = 0x0800;

/// Plays the section, and returns the faults found.
pub fn play() -> Result<Vec<String>> {
    let (lab, before) = stage::build()?;
    page::heading("A shorter failure detection time (1.9.4)")?;
    let file = lab.directory().join("mpathd");
    fs::write(&file, tutorial::MPATHD)?;
    let path = file.to_str().context("the path of the file is not UTF-8")?;
    let daemon = Daemon::builder(&lab).argument("--config").argument(path).start()?;
    let pid = daemon.pid().context("ipmpd is not running")?;
    let mut stage = Stage::with(&lab, daemon)?;
    page::line("# cat /etc/default/mpathd")?;
    page::block(tutorial::MPATHD)?;
    stage.create_group()?;
    stage.operator.show(&format!("ip route add default via {ROUTER} dev production0"))?;
    for number in 0..lab.members().len() {
        stage.attach_probed(number)?;
    }
    let slow = probes(&mut stage, &lab, "10.00s")?;
    page::line("FAILURE_DETECTION_TIME is changed to 100, and the daemon is sent a HUP signal.")?;
    fs::write(&file, tutorial::MPATHD.replace("=10000", "=100"))?;
    stage.operator.run(&format!("kill -HUP {pid}"))?;
    page::beside(&format!("{PROMPT}pkill -HUP in.mpathd\n"), &format!("# kill -HUP {pid}\n"))?;
    let fast = probes(&mut stage, &lab, "0.10s")?;
    stage.expect(fast > 5 * slow.max(2), format!("{slow} packets in a second before, and {fast} after"));
    stage.tear_down()?;
    stage.finish(&before)
}

/// Waits for this failure detection time. Returns the packets on e1000g0 within a second: probes and their replies.
fn probes(stage: &mut Stage, lab: &Lab, fdt: &str) -> Result<u32> {
    let is_shown = || stage.operator.run("ipmpstat -g").is_ok_and(|text| text.contains(fdt));
    let reached = lab::wait_until(lab::TIMEOUT, is_shown);
    stage.operator.show("ipmpstat -g")?;
    stage.expect(reached, format!("FDT is not {fdt}"));
    let socket = PacketSocket::open(lab.host(), Some("e1000g0"), &filter::ethertype(IPV4))?;
    sleep(SECOND);
    let (count, _) = socket.statistics()?;
    page::line(&format!(
        "{count} packets on e1000g0 within a second, as `snoop -d e1000g0 -t a -r icmp` shows them"
    ))?;
    page::line("")?;
    Ok(count)
}
