//! `ipmpstat`: the state of the groups, in the tables of OpenSolaris (docs/reference.md 6).
//!
//! One module per mode makes the rows of one report; [`table`] formats them. Errors have the texts, exit status and order of
//! the reference: options, fields, daemon, data. `docs/ipmpstat.md` lists the differences.

pub mod address;
pub mod group;
pub mod interface;
pub mod names;
pub mod options;
pub mod probe;
pub mod table;
pub mod target;

use std::{
    ffi::OsString,
    io::{self, Write},
    net::IpAddr,
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

use names::Names;
use options::{Mode, Options};
use table::{Field, Table};

use crate::control::{Client, GroupReport, client, probes::ProbeUpdate, socket};

/// Lines per header where standard output is not a terminal.
const PAGE: usize = 24;

/// Why `ipmpstat` ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid command line.
    #[error(transparent)]
    Options(#[from] options::Error),
    /// Invalid fields.
    #[error(transparent)]
    Table(#[from] table::Error),
    /// Invalid `--netns`.
    #[error(transparent)]
    Socket(#[from] socket::Error),
    /// The daemon cannot be contacted.
    #[error(transparent)]
    Contact(client::Error),
    /// The daemon did not send a report.
    #[error("cannot snapshot IPMP state: {0}")]
    Snapshot(client::Error),
    /// `-p` while no member is probed.
    #[error("probe-based failure detection is disabled")]
    NoProbes,
    /// The daemon ended during `-p`.
    #[error("lost the stream of probes: {0}")]
    Probes(client::Error),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Runs `ipmpstat` with these arguments, the program's name first, and returns its exit status. A broken pipe on `out` is
/// no error. `page`: lines of the terminal.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
    page: Option<usize>,
) -> u8 {
    let mut warn = |line: String| {
        // An error on standard error cannot be reported anywhere.
        let _ = err.write_all(clean(&format!("ipmpstat: warning: {line}\n")).as_bytes());
    };
    let result = execute(arguments, page.unwrap_or(PAGE), out, &mut warn);
    let Err(error) = result else { return 0 };
    let line = clean(&format!("ipmpstat: {error}\n"));
    let message = match error {
        Error::Options(options::Error::Help) => {
            let help = [options::PURPOSE, options::USAGE, options::NOTES].concat();
            let Err(error) = print(out, &help) else { return 0 };
            format!("ipmpstat: {error}\n")
        }
        Error::Options(options::Error::Usage) => options::USAGE.into(),
        Error::Options(options::Error::Illegal(_) | options::Error::Argument(_)) => line + options::USAGE,
        _ => line,
    };
    let _ = err.write_all(message.as_bytes());
    1
}

/// Prints the table.
fn execute(
    arguments: impl IntoIterator<Item = OsString>,
    page: usize,
    out: &mut dyn Write,
    warn: &mut dyn FnMut(String),
) -> Result<(), Error> {
    let start = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    let options = Options::parse(arguments.into_iter().skip(1))?;
    let (table, warning) = Table::new(fields(options.mode), options.fields.as_deref(), options.parsable)?;
    warning.into_iter().for_each(&mut *warn);
    let path = socket::path(options.socket.as_deref(), options.netns.as_deref())?;
    let mut client = Client::connect(&path).map_err(Error::Contact)?;
    let groups = in_order(client.groups().map_err(Error::Snapshot)?);
    let has_names = |field| !options.numeric && table.shows(field);
    let rows = match options.mode {
        Mode::Groups => group::rows(&groups),
        Mode::Interfaces => interface::rows(&groups),
        Mode::Targets => {
            let resolves = has_names("TESTADDR") || has_names("TARGETS");
            let addresses = if resolves { target::addresses(&groups) } else { Vec::new() };
            target::rows(&groups, &names_of(&addresses, warn))
        }
        Mode::Addresses => {
            let addresses = groups.iter().flat_map(|group| &group.addresses).map(|data| data.address);
            let addresses = if has_names("ADDRESS") { addresses.collect() } else { Vec::new() };
            address::rows(&groups, &names_of(&addresses, warn))
        }
        Mode::Probes if probe::is_any_probed(&groups) => {
            let probes = client.probes(None).map_err(Error::Snapshot)?;
            return follow(
                probes,
                &Live { table: &table, page, start, names: has_names("TARGET") },
                out,
                warn,
            );
        }
        Mode::Probes => return Err(Error::NoProbes),
    };
    print(out, &clean(&table.print(&rows, page))).map(drop)
}

/// The names of these addresses, with a warning if the resolver timed out.
fn names_of(addresses: &[IpAddr], warn: &mut dyn FnMut(String)) -> Names {
    let names = Names::of(addresses, names::TIME_LIMIT, names::resolve);
    if names.unanswered() > 0 {
        warn(format!(
            "{} of {} names not resolved within {} s, addresses shown instead; use -n to skip name resolution",
            names.unanswered(),
            addresses.len(),
            names::TIME_LIMIT.as_secs()
        ));
    }
    names
}

/// Options of `-p`.
struct Live<'a> {
    table: &'a Table,
    page: usize,
    /// Start of this program on `CLOCK_MONOTONIC`.
    start: Duration,
    /// Whether targets are shown by name.
    names: bool,
}

/// Prints probes until the daemon ends or `out` is closed.
fn follow(
    mut probes: client::Probes,
    live: &Live<'_>,
    out: &mut dyn Write,
    warn: &mut dyn FnMut(String),
) -> Result<(), Error> {
    let (mut lines, mut names) = (0, Names::default());
    loop {
        let ProbeUpdate { probe, lost } = probes.wait().map_err(Error::Probes)?;
        if let Some(lost) = lost {
            warn(format!("{lost} probes skipped: output is too slow"));
        }
        let Some(probe) = probe else { continue };
        if live.names && names.learn(probe.target, names::TIME_LIMIT, names::resolve) {
            warn(format!(
                "name of {} not resolved within {} s, address shown instead; use -n to skip name resolution",
                probe.target,
                names::TIME_LIMIT.as_secs()
            ));
        }
        let row = probe::row(&probe, live.start, |target| names.name(target));
        let Some(row) = row else { continue };
        let line = live.table.print_next(&row, live.page, &mut lines);
        if !print(out, &clean(&line))? {
            return Ok(());
        }
    }
}

/// Returns false on a broken pipe.
fn print(out: &mut dyn Write, text: &str) -> Result<bool, Error> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).map_err(Error::Output),
    }
}

/// The fields of a mode.
fn fields(mode: Mode) -> &'static [Field] {
    match mode {
        Mode::Addresses => &address::FIELDS,
        Mode::Groups => &group::FIELDS,
        Mode::Interfaces => &interface::FIELDS,
        Mode::Probes => &probe::FIELDS,
        Mode::Targets => &target::FIELDS,
    }
}

/// Sorts a report as docs/reference.md 6.4 demands: newest first, and every address once.
fn in_order(mut groups: Vec<GroupReport>) -> Vec<GroupReport> {
    // The kernel assigns ascending indexes, so this is the reverse order of creation, also after a restart of the daemon.
    groups.sort_by_key(|group| std::cmp::Reverse(group.ifindex));
    for group in &mut groups {
        group.members.reverse();
        group.addresses.reverse();
        let all = std::mem::take(&mut group.addresses);
        for address in all {
            match group.addresses.iter_mut().find(|seen| seen.address == address.address) {
                // Show the usable one of two.
                Some(seen) if address.up && !seen.up => *seen = address,
                Some(_) => {}
                None => group.addresses.push(address),
            }
        }
    }
    groups
}

/// Replaces control characters, which interface names may contain and a terminal would interpret.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests;
