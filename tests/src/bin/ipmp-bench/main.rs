//! `ipmp-bench`: what steering costs, how quick failover is, what goes through a group, and what idle groups and probes
//! take.
//!
//! Figures are compared within one run only, and only by medians of rounds in turn: machines differ, and so do the
//! minutes of one machine.
//!
//! | module | what |
//! |---|---|
//! | [`steering`], [`cases`], [`program`] | nanoseconds a packet, by BPF_PROG_TEST_RUN |
//! | [`outbound`] | a stream from the host while cables are pulled |
//! | [`inbound`] | a stream to a data address whose inbound member loses its carrier |
//! | [`throughput`], [`flood`], [`segment`] | TCP bulk and small packets through the group and beside it |
//! | [`idle`] | many groups that carry nothing |
//! | [`silence`] | cables that are cut silently |
//! | [`probing`] | many groups that are probed |
//! | [`spread`], [`times`] | medians and quartiles; percentiles |
//! | [`report`] | what `--json` prints |

mod cases;
mod flood;
mod idle;
mod inbound;
mod outbound;
mod probing;
mod program;
mod report;
mod segment;
mod silence;
mod spread;
mod steering;
mod throughput;
mod times;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use lab::Alone;

use report::Report;

/// Measure what steering costs, how quick failover is, what goes through a group, and what idle groups and probes take
///
/// All measurements are made unless one is named. Everything happens in network namespaces of its own, which are
/// removed at the end, also after Ctrl-C. Needs root.
#[derive(Parser)]
#[command(name = "ipmp-bench", after_long_help = report::JSON_HELP)]
struct Bench {
    /// Measure less: good for seeing that it works, not for figures
    #[arg(long, global = true)]
    quick: bool,
    /// Write the results as JSON to a file, or to standard output: `-` (the table then goes to standard error)
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    only: Option<Only>,
}

#[derive(Clone, Copy, Subcommand)]
enum Only {
    /// Nanoseconds a packet: an empty program, a bare redirect, ours by policy and feature
    Steering {
        /// Rounds; every program runs once in each [default: 11, quick: 5]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: Option<u32>,
        /// Packets a run [default: 1000000, quick: 100000]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
        repeat: Option<u32>,
    },
    /// 50,000 packets/s from the host while cables are pulled: what is lost
    Outbound {
        /// Pulls, of the members' cables in turn [default: 20, quick: 6]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        pulls: Option<u32>,
    },
    /// 20,000 packets/s to a data address whose inbound member loses its carrier: how long nothing comes
    Inbound {
        /// Pulls of the inbound member's cable [default: 200, quick: 20]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        pulls: Option<u32>,
    },
    /// TCP bulk and small UDP packets through a group and through a bare veth, both ways
    Throughput {
        /// Rounds; every way is taken once in each [default: 61, quick: 7]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: Option<u32>,
    },
    /// Groups of two members that carry nothing: processor and memory of daemon and sentinel
    Idle {
        /// Groups [default: 64, quick: 8]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=250))]
        groups: Option<u32>,
        /// For how long [default: 20, quick: 3]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: Option<u32>,
    },
    /// Cables cut silently, with failure detection times of 10 ms, 100 ms and 1 s: after how long it is noticed, and a repair
    Silence {
        /// Cuts with the longest time; five times as many with 100 ms, twenty times with 10 ms [default: 10, quick: 1]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        cuts: Option<u32>,
    },
    /// Groups of two members that are probed five times a second each: processor and memory, and false failures
    Probing {
        /// Groups [default: 64, quick: 8]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=250))]
        groups: Option<u32>,
        /// For how long [default: 60, quick: 3]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: Option<u32>,
    },
}

fn main() -> ExitCode {
    match run(Bench::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipmp-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(bench: Bench) -> Result<()> {
    let to_stdout = bench.json.as_ref().is_some_and(|path| path.as_os_str() == "-");
    eprintln!("ipmp-bench: waiting until nobody else measures on this machine");
    let _alone = Alone::wait()?;
    let mut report = Report::of_this_machine(bench.quick)?;
    let show = |text: String| {
        use std::io::Write as _;
        // A reader that has gone away is no reason to stop measuring.
        let _ = if to_stdout {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    };
    show(report.to_string());
    let (quick, only) = (bench.quick, bench.only);
    let default = |given: Option<u32>, full, short| given.unwrap_or(if quick { short } else { full });

    if matches!(only, None | Some(Only::Steering { .. })) {
        let (rounds, repeat) = match only {
            Some(Only::Steering { rounds, repeat }) => (rounds, repeat),
            _ => (None, None),
        };
        let result = steering::measure(default(rounds, 11, 5), default(repeat, 1_000_000, 100_000))
            .context("cannot measure steering")?;
        show(format!("\n{result}"));
        report.steering = Some(result);
    }
    if matches!(only, None | Some(Only::Outbound { .. })) {
        let pulls = if let Some(Only::Outbound { pulls }) = only { pulls } else { None };
        let result = outbound::measure(default(pulls, 20, 6)).context("cannot measure outbound failover")?;
        show(format!("\n{result}"));
        report.outbound = Some(result);
    }
    if matches!(only, None | Some(Only::Inbound { .. })) {
        let pulls = if let Some(Only::Inbound { pulls }) = only { pulls } else { None };
        let result = inbound::measure(default(pulls, 200, 20)).context("cannot measure inbound failover")?;
        show(format!("\n{result}"));
        report.inbound = Some(result);
    }
    if matches!(only, None | Some(Only::Throughput { .. })) {
        let rounds = if let Some(Only::Throughput { rounds }) = only { rounds } else { None };
        let result = throughput::measure(default(rounds, 61, 7)).context("cannot measure throughput")?;
        show(format!("\n{result}"));
        report.throughput = Some(result);
    }
    if matches!(only, None | Some(Only::Idle { .. })) {
        let (groups, seconds) = match only {
            Some(Only::Idle { groups, seconds }) => (groups, seconds),
            _ => (None, None),
        };
        let result = idle::measure(default(groups, 64, 8), default(seconds, 20, 3))
            .context("cannot measure idle groups")?;
        show(format!("\n{result}"));
        report.idle = Some(result);
    }
    if matches!(only, None | Some(Only::Silence { .. })) {
        let cuts = if let Some(Only::Silence { cuts }) = only { cuts } else { None };
        let result = silence::measure(default(cuts, 10, 1)).context("cannot measure silent failures")?;
        show(format!("\n{result}"));
        report.silence = Some(result);
    }
    if matches!(only, None | Some(Only::Probing { .. })) {
        let (groups, seconds) = match only {
            Some(Only::Probing { groups, seconds }) => (groups, seconds),
            _ => (None, None),
        };
        let result = probing::measure(default(groups, 64, 8), default(seconds, 60, 3))
            .context("cannot measure probing")?;
        show(format!("\n{result}"));
        report.probing = Some(result);
    }
    match bench.json {
        Some(path) => report.write(&path),
        None => Ok(()),
    }
}
