//! `ipmp-bench`: measures the cost of steering, failover times, throughput, and the load of idle groups and probes.
//!
//! Figures are comparable only within one run, as medians of interleaved rounds: the speed of one machine varies over
//! time.
//!
//! | module | contents |
//! |---|---|
//! | [`steering`], [`cases`], [`program`] | nanoseconds per packet, by BPF_PROG_TEST_RUN |
//! | [`outbound`] | a stream from the host while cables are pulled |
//! | [`inbound`] | a stream to a data address whose inbound member loses its carrier |
//! | [`carrier`] | the same while nothing else happens, by what makes the sentinel check links |
//! | [`throughput`], [`veth`], [`flood`], [`segment`] | TCP bulk transfers and small packets, with and without a group |
//! | [`idle`] | many groups without traffic |
//! | [`scale`] | many groups, members and addresses |
//! | [`evidence`] | the program that watches TCP connections |
//! | [`detection`] | cables that are cut while their carrier stays up |
//! | [`probing`] | many groups that are probed |
//! | [`early_drop`] | frames that a member drops by XDP, and by tc |
//! | [`storm`] | a broadcast storm |
//! | [`echo`] | replies to probes |
//! | [`peers`] | failures, beside bonds, teams and ECMP |
//! | [`spread`], [`times`] | medians and quartiles; percentiles |
//! | [`report`] | the output of `--json` |
//! | [`page`] | `docs/benchmarks.md` |

mod carrier;
mod cases;
mod detection;
mod early_drop;
mod echo;
mod evidence;
mod flood;
mod idle;
mod inbound;
mod outbound;
mod page;
mod peers;
mod probing;
mod program;
mod report;
mod scale;
mod segment;
mod spread;
mod steering;
mod storm;
mod throughput;
mod times;
mod veth;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{FromArgMatches as _, Parser, Subcommand};
use lab::MeasurementLock;

use report::Report;

/// Measure the cost of steering, failover times, throughput, and the load of idle groups and probes
///
/// Runs all measurements unless one is named; `scale` only if it is named, since it takes many minutes. All of them run in network
/// namespaces, which are removed at the end, also
/// after Ctrl-C. Needs root. Example: ipmp-bench --quick outbound
#[derive(Parser)]
#[command(name = "ipmp-bench", after_long_help = report::JSON_HELP)]
struct Bench {
    /// Run a short test; its figures are not meaningful
    #[arg(long, global = true)]
    quick: bool,
    /// Write the results as JSON to a file, or to standard output: `-` (the table then goes to standard error)
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    #[command(flatten)]
    Measure(Measurement),
    /// Write docs/benchmarks.md and its plots, from the results in docs/benchmarks; measures nothing
    Page {
        /// The documentation [default: that of the source of this program]
        directory: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Measurement {
    /// Nanoseconds per packet: an empty program, a redirect, and the datapath with each policy and feature
    Steering {
        /// Number of rounds; each program runs once per round [default: 11, quick: 5]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: Option<u32>,
        /// Packets per run [default: 1000000, quick: 100000]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
        repeat: Option<u32>,
        /// Directory with eBPF objects of another version, measured in the same rounds
        #[arg(long, value_name = "DIR")]
        against: Option<PathBuf>,
    },
    /// Loss of a stream of 50,000 packets/s from the host while cables are pulled
    Outbound {
        /// Number of pulls, of the members' cables in turn [default: 20, quick: 6]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        pulls: Option<u32>,
    },
    /// Outages of a stream of 20,000 packets/s to a data address whose inbound member loses its carrier
    Inbound {
        /// Number of pulls of the inbound member's cable [default: 200, quick: 20]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        pulls: Option<u32>,
    },
    /// Outages of a stream to a data address whose inbound member loses its carrier while nothing else happens: with carrier events of
    /// the kernel, with messages of netlink, and with a fixed interval of 500 µs
    Carrier {
        /// Number of rounds; each mode is measured once per round [default: 3, quick: 1]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: Option<u32>,
        /// Number of pulls per round and mode [default: 10, quick: 2]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        pulls: Option<u32>,
        /// Only this; may be given several times
        #[arg(long = "mode", value_name = "MODE")]
        modes: Vec<carrier::Mode>,
    },
    /// CPU time of the program that watches TCP connections: when they are established, and while segments arrive and are lost
    Evidence {
        /// Number of connections that are opened one after another [default: 2000, quick: 100]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        connections: Option<u32>,
        /// Duration of the transmissions in seconds [default: 10, quick: 1]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: Option<u32>,
        /// Percentage of the frames that all members lose in the last one
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
        loss: u8,
    },
    /// Throughput of TCP and of small UDP packets through a group and through a plain veth pair: as they are, with GRO, and with
    /// several queues
    Throughput {
        /// Number of rounds; each path is measured once per round [default: 31, quick: 3]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: Option<u32>,
        /// Duration of a transfer in milliseconds [default: 150, quick: 40]
        #[arg(long, value_parser = clap::value_parser!(u32).range(10..=60_000))]
        milliseconds: Option<u32>,
    },
    /// CPU time and memory of daemon and sentinel with groups of two members without traffic
    Idle {
        /// Number of groups [default: 64, quick: 8]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=250))]
        groups: Option<u32>,
        /// Duration in seconds [default: 20, quick: 3]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: Option<u32>,
    },
    /// Detection and repair times of path failures while the link is up, with failure detection times of 10 ms to 1 s
    Detection {
        /// Number of cuts with 1 s; five times as many with 100 ms, twenty times with 10 ms [default: 10, quick: 1]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        cuts: Option<u32>,
    },
    /// CPU time, memory and false failures with groups of two members that are probed five times per second
    Probing {
        /// Number of groups [default: 64, quick: 8]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=250))]
        groups: Option<u32>,
        /// Duration in seconds [default: 60, quick: 3]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: Option<u32>,
    },
    /// CPU time of frames that a member receives and the group does not want, with and without xdp=driver
    EarlyDrop {
        /// Number of rounds [default: 11, quick: 3]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: Option<u32>,
        /// Frames per run [default: 40000, quick: 2000]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        frames: Option<u32>,
    },
    /// CPU time and wanted packets lost during a broadcast storm at four members, with and without xdp=driver
    Storm {
        /// Number of rounds; each rate is measured with both settings once per round [default: 11, quick: 1]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: Option<u32>,
        /// Duration of each storm in milliseconds [default: 1000, quick: 300]
        #[arg(long, value_parser = clap::value_parser!(u32).range(100..=60_000))]
        milliseconds: Option<u32>,
        /// Only this number of broadcast frames per second [default: 20000, 50000, 100000, 200000 and 500000]
        #[arg(long, value_parser = clap::value_parser!(u64).range(10_000..=10_000_000))]
        rate: Option<u64>,
    },
    /// Packets lost, outages and flows moved by faults of NICs, beside bonds, teams and ECMP; --kernel 6.12 has all of these
    Peers {
        /// Number of faults of each kind in which cables are pulled [default: 10, quick: 1]
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1000))]
        pulls: Option<u32>,
        /// Number of faults of each other kind [default: 5, quick: 0]
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1000))]
        cuts: Option<u32>,
        /// Rounds of throughput and CPU time, compared with one NIC [default: 21, quick: 1]
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1000))]
        rounds: Option<u32>,
        /// Packets per second in each direction
        #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(100..=100_000))]
        rate: u64,
        /// Only those whose names contain this: ipmp, ECMP, 'team loadbalance'; may be given several times
        #[arg(long = "only", value_name = "TEXT")]
        names: Vec<String>,
        /// Only this fault; may be given several times
        #[arg(long = "fault", value_name = "FAULT")]
        faults: Vec<peers::fault::Fault>,
    },
    /// Failover, attaching, reports, restarts, memory and CPU time with up to 256 groups of four members, 16 members, 10,000 addresses
    /// and 500,000 routes. Without any number of groups, members, addresses of a group, and routes: all of these
    Scale {
        /// Number of groups; may be given several times, ascending [default: 2 16 64 256, quick: 2 8]
        #[arg(long, value_parser = clap::value_parser!(u32).range(2..=256))]
        groups: Vec<u32>,
        /// Number of data addresses of all these groups together, in a last measurement
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        addresses: u32,
        /// Number of members of a group; may be given several times, ascending [default: 2 4 8 16, quick: 2 4]
        #[arg(long, value_parser = clap::value_parser!(u32).range(2..=16))]
        members: Vec<u32>,
        /// Number of IPv4 addresses of one group; may be given several times, ascending [default: 1 100 1000 4000, quick: 1 100]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_095))]
        group_addresses: Vec<u32>,
        /// Number of routes through a group; may be given several times, ascending [default: 0 500000, quick: 0 1000]
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=2_000_000))]
        routes: Vec<u32>,
        /// Number of pulls of a cable in each direction, each time [default: 20, quick: 2]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        pulls: Option<u32>,
        /// Duration without traffic in seconds, each time [default: 10, quick: 1]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: Option<u32>,
        /// Number of NICs that are attached at once, unless the number of members grows [default: 8, quick: 2]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16))]
        nics: Option<u32>,
        /// How often NICs are attached and the report is requested, each time [default: 5, quick: 1]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
        repeat: Option<u32>,
    },
    /// CPU time of a target that answers 1,000 probes per second
    Echo {
        /// Number of echo requests [default: 20000, quick: 500]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        requests: Option<u32>,
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
    let measurements = match bench.verb {
        Some(Verb::Page { directory }) => return page::write(&directory.unwrap_or_else(page::documentation)),
        Some(Verb::Measure(named)) => vec![named],
        None => all()?,
    };
    let to_stdout = bench.json.as_ref().is_some_and(|path| path.as_os_str() == "-");
    eprintln!("ipmp-bench: waiting for the measurement lock of this machine");
    let _lock = MeasurementLock::acquire()?;
    let mut report = Report::of_this_machine(bench.quick)?;
    let show = |text: &dyn Display| {
        use std::io::Write as _;
        // A closed output does not stop the measurement.
        let _ = if to_stdout {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    };
    show(&report);
    let default = |given: Option<u32>, full, short| given.unwrap_or(if bench.quick { short } else { full });
    for measurement in measurements {
        match measurement {
            Measurement::Steering { rounds, repeat, against } => {
                let (rounds, repeat) = (default(rounds, 11, 5), default(repeat, 1_000_000, 100_000));
                let result = steering::measure(rounds, repeat, against.as_deref());
                keep(&mut report.steering, result.context("cannot measure steering")?, show);
            }
            Measurement::Outbound { pulls } => {
                let result = outbound::measure(default(pulls, 20, 6));
                keep(&mut report.outbound, result.context("cannot measure outbound failover")?, show);
            }
            Measurement::Inbound { pulls } => {
                let result = inbound::measure(default(pulls, 200, 20));
                keep(&mut report.inbound, result.context("cannot measure inbound failover")?, show);
            }
            Measurement::Carrier { rounds, pulls, modes } => {
                let result = carrier::measure(default(rounds, 3, 1), default(pulls, 10, 2), &modes);
                keep(&mut report.carrier, result.context("cannot measure carrier events")?, show);
            }
            Measurement::Evidence { connections, seconds, loss } => {
                let (connections, seconds) = (default(connections, 2000, 100), default(seconds, 10, 1));
                let result = evidence::measure(connections, seconds, loss);
                keep(&mut report.evidence, result.context("cannot measure the cost of evidence")?, show);
            }
            Measurement::Throughput { rounds, milliseconds } => {
                let time = Duration::from_millis(default(milliseconds, 150, 40).into());
                let result = throughput::measure(default(rounds, 31, 3), time);
                keep(&mut report.throughput, result.context("cannot measure throughput")?, show);
            }
            Measurement::Idle { groups, seconds } => {
                let result = idle::measure(default(groups, 64, 8), default(seconds, 20, 3));
                keep(&mut report.idle, result.context("cannot measure idle groups")?, show);
            }
            Measurement::Detection { cuts } => {
                let result = detection::measure(default(cuts, 10, 1));
                keep(&mut report.detection, result.context("cannot measure detection times")?, show);
            }
            Measurement::Probing { groups, seconds } => {
                let result = probing::measure(default(groups, 64, 8), default(seconds, 60, 3));
                keep(&mut report.probing, result.context("cannot measure probing")?, show);
            }
            Measurement::EarlyDrop { rounds, frames } => {
                let result = early_drop::measure(default(rounds, 11, 3), default(frames, 40_000, 2_000));
                keep(&mut report.early_drop, result.context("cannot measure the early drop")?, show);
            }
            Measurement::Storm { rounds, milliseconds, rate } => {
                let time = Duration::from_millis(default(milliseconds, 1000, 300).into());
                let result = storm::measure(default(rounds, 11, 1), time, rate);
                keep(&mut report.storm, result.context("cannot measure a broadcast storm")?, show);
            }
            Measurement::Peers { pulls, cuts, rounds, rate, names, faults } => {
                let (pulls, cuts) = (default(pulls, 10, 1) as usize, default(cuts, 5, 0) as usize);
                let plan = peers::Plan { rate, pulls, cuts, rounds: default(rounds, 21, 1), names, faults };
                let result = peers::measure(&plan);
                keep(&mut report.peers, result.context("cannot measure peers")?, show);
            }
            Measurement::Scale {
                groups,
                addresses,
                members,
                group_addresses,
                routes,
                pulls,
                seconds,
                nics,
                repeat,
            } => {
                let (pulls, seconds) = (default(pulls, 20, 2), default(seconds, 10, 1));
                let (nics, repeat) = (default(nics, 8, 2), default(repeat, 5, 1));
                let mut plan = scale::Plan {
                    groups,
                    addresses,
                    members,
                    group_addresses,
                    routes,
                    pulls,
                    seconds,
                    nics,
                    repeat,
                };
                plan.complete(bench.quick);
                let result = scale::measure(&plan);
                keep(&mut report.scale, result.context("cannot measure many groups")?, show);
            }
            Measurement::Echo { requests } => {
                let result = echo::measure(default(requests, 20_000, 500));
                keep(&mut report.echo, result.context("cannot measure echo replies")?, show);
            }
        }
    }
    match bench.json {
        Some(path) => report.write(&path),
        None => Ok(()),
    }
}

/// Shows a result and keeps it for the report.
fn keep<T: Display>(place: &mut Option<T>, result: T, show: impl Fn(&dyn Display)) {
    show(&format_args!("\n{result}"));
    *place = Some(result);
}

/// What runs if no measurement is named, with default arguments.
fn all() -> Result<Vec<Measurement>> {
    let command = Measurement::augment_subcommands(clap::Command::new("all").no_binary_name(true));
    let names: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let named = names.iter().filter(|name| *name != "scale");
    let parsed =
        named.map(|name| Measurement::from_arg_matches(&command.clone().try_get_matches_from([name])?));
    parsed.collect::<Result<_, clap::Error>>().context("a measurement has no default arguments")
}
