//! The tutorial's sections on boot files (1.6.3, 1.7.4): a start with each set of them.

use anyhow::Result;
use lab::Daemon;
use lab::network::DATA;
use lab::tutorial::compare::{Cells, block};
use lab::tutorial::files::{self, Files};

use crate::page;
use crate::stage::{self, Stage};
use lab::tutorial;

/// A set of files, what `ifconfig` then shows, with these arguments, and the number of members.
type Start = (&'static str, Files, &'static str, &'static str, usize);

const STARTS: [Start; 4] = [
    ("Link-based (1.6.3)", files::LINK_BASED, tutorial::ALL_LINK_BASED, "ifconfig -a4", 3),
    ("Probe-based (1.6.3)", files::PROBE_BASED, tutorial::ALL_PROBE_BASED, "ifconfig -a4", 3),
    (
        "Link-based classic IPMP (1.7.4)",
        files::CLASSIC_LINK_BASED,
        tutorial::CLASSIC_LINK_BOOTED,
        "ifconfig -a4 --classic",
        2,
    ),
    (
        "Probe-based classic IPMP (1.7.4)",
        files::CLASSIC_PROBE_BASED,
        tutorial::CLASSIC_PROBE_BOOTED,
        "ifconfig -a4 --classic",
        2,
    ),
];

/// Plays the sections, and returns the faults found.
pub fn play() -> Result<Vec<String>> {
    let (lab, before) = stage::build()?;
    let directory = files::directory(&lab)?;
    let argument = directory.display().to_string();
    let mut faults = Vec::new();
    // All daemons of the lab write to one log file.
    let mut since = 0;
    for (title, files, printed, line, members) in STARTS {
        page::heading(&format!("Boot files: {title}"))?;
        files::write(&directory, files)?;
        for (interface, text) in files {
            page::line(&format!("# cat /etc/hostname.{interface}"))?;
            page::block(text)?;
        }
        page::line("# ipmpd --hostname-dir /etc")?;
        let daemon = Daemon::builder(&lab).argument("--hostname-dir").argument(&argument).start()?;
        let executed = format!("{} lines of hostname files executed, 0 of them failed", files.len());
        let mut stage = Stage::with(&lab, daemon)?;
        stage.operator.wait_line(&executed, since)?;
        stage.operator.wait_unusable(members, &[])?;
        stage.operator.wait("the data address has an inbound member", |group| {
            group.addresses.iter().any(|data| data.address == DATA && data.inbound.is_some())
        })?;
        stage.compare(printed, line, blocks)?;
        stage.tear_down()?;
        since = stage.operator.log().len();
        faults.extend(stage.finish(&before)?);
    }
    Ok(faults)
}

/// The blocks of the group and of its members.
fn blocks(text: &str) -> Cells {
    let interfaces = ["production0", "e1000g0", "e1000g0:1", "e1000g1", "rge0"];
    let is_group = |interface: &&&str| **interface != "rge0" || text.contains("production0: flags");
    interfaces.iter().filter(is_group).flat_map(|interface| block(text, interface)).collect()
}
