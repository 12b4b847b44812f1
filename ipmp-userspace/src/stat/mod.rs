//! `ipmpstat`: what the groups are at the moment, in the tables of the reference (section 6).
//!
//! A mode a file, each making rows of one report; [`table`] prints them. Every error has the text and the exit status of
//! the reference, and they are looked for in its order: options, fields, the daemon, data. What differs from it is
//! listed in `docs/ipmpstat.md`.

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
};

use names::Names;
use options::{Mode, Options};
use table::{Field, Table};

use crate::control::{Client, GroupReport, Request, Response, client, socket};

/// Lines to a header where no terminal says how many it has.
const PAGE: usize = 24;

/// Why nothing, or nothing more, is printed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is not understood.
    #[error(transparent)]
    Options(#[from] options::Error),
    /// The fields cannot be printed.
    #[error(transparent)]
    Table(#[from] table::Error),
    /// There is no such socket.
    #[error(transparent)]
    Socket(#[from] socket::Error),
    /// No daemon answers.
    #[error(transparent)]
    Contact(client::Error),
    /// The daemon does not say how things are.
    #[error("cannot snapshot IPMP state: {0}")]
    Snapshot(client::Error),
    /// `-p`, and no member is probed.
    #[error("probe-based failure detection is disabled")]
    NoProbes,
    /// `-p`, and the daemon probes, which this version knows nothing of.
    #[error("cannot show probes: ipmpd is newer than this ipmpstat; use the one that came with it")]
    UnknownProbes,
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Runs `ipmpstat` with these arguments, the program's name first, and returns its exit status. A reader that has closed
/// its end of `out` has seen enough, which is no error.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
    page: Option<usize>,
) -> u8 {
    let mut warn = |line: String| {
        // Nobody is left to tell that standard error cannot be written.
        let _ = err.write_all(clean(&format!("ipmpstat: warning: {line}\n")).as_bytes());
    };
    let result = carry_out(arguments, page.unwrap_or(PAGE), &mut warn).and_then(|printed| {
        match out.write_all(printed.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
            _ => Ok(()),
        }
    });
    let Err(error) = result else { return 0 };
    let line = clean(&format!("ipmpstat: {error}\n"));
    let complaint = match error {
        Error::Options(options::Error::Usage) => options::USAGE.into(),
        Error::Options(options::Error::Illegal(_) | options::Error::Argument(_)) => line + options::USAGE,
        _ => line,
    };
    let _ = err.write_all(complaint.as_bytes());
    1
}

/// What goes to standard output.
fn carry_out(
    arguments: impl IntoIterator<Item = OsString>,
    page: usize,
    warn: &mut dyn FnMut(String),
) -> Result<String, Error> {
    let options = Options::parse(arguments.into_iter().skip(1))?;
    let (table, warning) = Table::new(fields(options.mode), options.fields.as_deref(), options.parsable)?;
    warning.into_iter().for_each(&mut *warn);
    let path = socket::path(options.socket.as_deref(), options.netns.as_deref())?;
    let mut client = Client::connect(&path).map_err(Error::Contact)?;
    let groups = match client.call(&Request::Show { name: None }).map_err(Error::Snapshot)? {
        Response::Show(groups) => in_order(groups),
        Response::Done(_) | Response::Targets(_) => Vec::new(),
    };
    let rows = match options.mode {
        Mode::Groups => group::rows(&groups),
        Mode::Interfaces => interface::rows(&groups),
        Mode::Targets => target::rows(&groups),
        Mode::Probes => return Err(probe::refusal(&groups)),
        Mode::Addresses if options.numeric || !table.shows("ADDRESS") => {
            address::rows(&groups, &Names::default())
        }
        Mode::Addresses => {
            let addresses: Vec<_> = groups.iter().flat_map(|g| &g.addresses).map(|a| a.address).collect();
            let names = Names::of(&addresses, names::PATIENCE, names::resolve);
            if names.unanswered() > 0 {
                warn(format!(
                    "{} of {} names were not found within {} s, and the addresses are shown: -n asks for no names",
                    names.unanswered(),
                    addresses.len(),
                    names::PATIENCE.as_secs()
                ));
            }
            address::rows(&groups, &names)
        }
    };
    Ok(clean(&table.print(&rows, page)))
}

/// What a mode can print.
fn fields(mode: Mode) -> &'static [Field] {
    match mode {
        Mode::Addresses => &address::FIELDS,
        Mode::Groups => &group::FIELDS,
        Mode::Interfaces => &interface::FIELDS,
        Mode::Probes => &probe::FIELDS,
        Mode::Targets => &target::FIELDS,
    }
}

/// A report in the order of the reference (6.4): everything the other way round than it came to be, and no address
/// twice.
fn in_order(mut groups: Vec<GroupReport>) -> Vec<GroupReport> {
    // The kernel counts interfaces up; and a daemon that has just started finds them in this order, too.
    groups.sort_by_key(|group| std::cmp::Reverse(group.ifindex));
    for group in &mut groups {
        group.members.reverse();
        group.addresses.reverse();
        let all = std::mem::take(&mut group.addresses);
        for address in all {
            match group.addresses.iter_mut().find(|seen| seen.address == address.address) {
                // Of the two, the one that can be used is shown.
                Some(seen) if address.up && !seen.up => *seen = address,
                Some(_) => {}
                None => group.addresses.push(address),
            }
        }
    }
    groups
}

/// An interface may be called anything that is no space; a terminal should not obey its name.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests;
