//! The demo: plays chapters of the tutorial in a lab, and prints the tutorial's output beside ours.
//!
//! All programs are the real ones: `ipmpd`, `ipmpctl`, `ipmpstat`, and the kernel's interfaces. The network is removed
//! at the end. The exit status is 1 if the output differs from the tutorial in a way that is not permitted, if packets
//! were lost without need, reordered or duplicated, if a frame on any cable contained the group's MAC, or if the
//! configuration of the host was not restored.
//!
//! | module | contents |
//! |---|---|
//! | [`link`] | the chapter on link-based failure detection |
//! | [`probe`] | the chapter on probe-based failure detection |
//! | [`persist`] | the sections on boot files |
//! | [`aggregate`] | the section on link aggregation |
//! | [`logs`] | the section on log messages |
//! | [`classic`] | the chapter on classic IPMP |
//! | [`targets`] | the sections on test addresses and targets |
//! | [`fdt`] | the section on the failure detection time |
//! | [`stage`] | shared by the chapters: lab, operator, faults |
//! | [`operator`] | runs commands |
//! | [`traffic`], [`table`] | the streams, and the traffic of each member |
//! | [`page`] | formatted output |

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use lab::MeasurementLock;

mod aggregate;
mod classic;
mod fdt;
mod link;
mod logs;
mod operator;
mod page;
mod persist;
mod probe;
mod stage;
mod table;
mod targets;
mod traffic;

/// Play chapters of the tutorial in network namespaces, and compare the output with that of the tutorial
///
/// Plays all chapters unless one is named. Needs root; changes no interface of this machine. Example: ipmp-demo --quick
#[derive(Parser)]
#[command(name = "ipmp-demo")]
struct Demo {
    /// Play only this chapter
    #[arg(long, value_enum)]
    chapter: Option<Chapter>,
    /// Use a failure detection time of 0.5 s instead of 10 s, set as in the tutorial's 1.9.4
    #[arg(long)]
    quick: bool,
}

/// A chapter of the tutorial.
#[derive(Clone, Copy, ValueEnum)]
enum Chapter {
    /// Link-based failure detection (1.6, 1.6.1): cables are pulled, one of them without a link failure
    Link,
    /// Probe-based failure detection (1.6.2): a path failure while the link is up
    Probe,
    /// Boot files (1.6.3, 1.7.4): the daemon starts with each set of them
    Persist,
    /// Link aggregation (1.6.4): a bond as a member; needs a kernel that has bonds
    Aggregate,
    /// Log messages (1.6.5): failures of one interface and of all
    Logs,
    /// Classic IPMP (1.7.2, 1.7.3): its commands and its display
    Classic,
    /// Test addresses in a private network, and host routes as targets (1.9.1, 1.9.2)
    Targets,
    /// The failure detection time in /etc/default/mpathd (1.9.4)
    Fdt,
}

/// What was played.
enum Outcome {
    /// The chapters, with the faults found.
    Played(Vec<String>),
    /// The chapter on aggregates was not: this kernel has no bonds.
    NoBonds,
}

/// Exit status if the chapter that was named needs another kernel; `cargo xtask demo` then boots one.
const NO_BONDS: u8 = 77;

fn main() -> ExitCode {
    match run(Demo::parse()) {
        Ok(Outcome::Played(faults)) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(Outcome::Played(_)) => ExitCode::FAILURE,
        Ok(Outcome::NoBonds) => ExitCode::from(NO_BONDS),
        Err(error) => {
            eprintln!("ipmp-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the chapters.
fn run(demo: Demo) -> Result<Outcome> {
    let _lock = MeasurementLock::acquire()?;
    let start = Instant::now();
    let mut faults = Vec::new();
    for chapter in demo.chapter.as_ref().map_or(Chapter::value_variants(), std::slice::from_ref) {
        faults.extend(match chapter {
            Chapter::Link => link::play()?,
            Chapter::Probe => probe::play(demo.quick)?,
            Chapter::Persist => persist::play()?,
            Chapter::Aggregate => match aggregate::play()? {
                Some(faults) => faults,
                // Named, it must not look as if it had been played.
                None if demo.chapter.is_some() => return Ok(Outcome::NoBonds),
                None => Vec::new(),
            },
            Chapter::Logs => logs::play()?,
            Chapter::Classic => classic::play()?,
            Chapter::Targets => targets::play()?,
            Chapter::Fdt => fdt::play()?,
        });
    }
    page::heading("Summary")?;
    if faults.is_empty() {
        page::line("All output was as in the tutorial, and no packet was lost without need.")?;
    }
    faults.iter().try_for_each(|fault| page::line(&format!("FAULT: {fault}")))?;
    page::line(&format!("Duration: {:.0} s.", start.elapsed().as_secs_f64()))?;
    Ok(Outcome::Played(faults))
}
