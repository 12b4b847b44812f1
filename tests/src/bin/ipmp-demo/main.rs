//! The demo: chapters of the tutorial, played in a lab of namespaces, with what it printed beside what we print.
//!
//! Everything is real: `ipmpd`, `ipmpctl`, `ipmpstat`, the kernel's interfaces. The network goes with the demo. The exit
//! status is 1 if anything printed differs from the tutorial in a way that is not meant, if anything was lost that need
//! not be, reordered or duplicated, if a frame on any wire carried the group's MAC, or if the host is not in the end as
//! it was.
//!
//! | module | what |
//! |---|---|
//! | [`link`] | the chapter on link-based failure detection |
//! | [`probe`] | the chapters on probe-based failure detection, and on the log |
//! | [`stage`] | what chapters share: a lab, somebody at its shell, faults |
//! | [`tutorial`] | what the tutorial printed |
//! | [`compare`], [`permitted`] | what differs from it, and what may |
//! | [`operator`] | types commands |
//! | [`traffic`], [`table`] | what flows meanwhile, and who carries it |
//! | [`page`] | what is printed |

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use lab::MeasurementLock;

mod compare;
mod link;
mod operator;
mod page;
mod permitted;
mod probe;
mod stage;
mod table;
mod traffic;
mod tutorial;

/// Play chapters of the tutorial in a network of namespaces, and compare what is printed with what it printed
///
/// All chapters are played unless one is named. Needs root; touches no interface of this machine.
#[derive(Parser)]
#[command(name = "ipmp-demo")]
struct Demo {
    /// Only this chapter
    #[arg(long, value_enum)]
    chapter: Option<Chapter>,
    /// Let probes find failures in half a second instead of ten, as the tutorial's 1.9.4 tells how to
    #[arg(long)]
    quick: bool,
}

/// A chapter of the tutorial.
#[derive(Clone, Copy, ValueEnum)]
enum Chapter {
    /// Link-based failure detection (1.6, 1.6.1): cables are pulled under load, and one that nobody can notice
    Link,
    /// Probe-based failure detection (1.6.2, 1.6.5): a dead path behind a lit cable is noticed; what the log says
    Probe,
}

fn main() -> ExitCode {
    match run(Demo::parse()) {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ipmp-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays what was asked for, and returns what was not as it should be.
fn run(demo: Demo) -> Result<Vec<String>> {
    let _lock = MeasurementLock::acquire()?;
    let start = Instant::now();
    let mut faults = Vec::new();
    for chapter in demo.chapter.as_ref().map_or(Chapter::value_variants(), std::slice::from_ref) {
        faults.extend(match chapter {
            Chapter::Link => link::play()?,
            Chapter::Probe => probe::play(demo.quick)?,
        });
    }
    page::heading("Summary")?;
    if faults.is_empty() {
        page::line("Everything was as in the tutorial, and nothing was lost that need not be.")?;
    }
    faults.iter().try_for_each(|fault| page::line(&format!("NOT GOOD: {fault}")))?;
    page::line(&format!("It took {:.0} s.", start.elapsed().as_secs_f64()))?;
    Ok(faults)
}
