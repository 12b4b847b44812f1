//! `ipmp-ifconfig`: the part of `ifconfig` of Solaris that administers IPMP (docs/solaris.md).
//!
//! [`grammar`] reads a line, [`plan`] says what it changes on a [`host`], [`mod@display`] shows interfaces. Nothing is changed before
//! the whole line is known to be valid.

pub mod classic;
pub mod display;
pub mod grammar;
pub mod host;
pub mod hostname;
pub mod import;
pub mod netmask;
pub mod plan;
pub mod resolve;

use std::{ffi::OsString, io::Write, path::Path};

use crate::{
    cli,
    control::{Client, Request, Response, client, request, socket},
};
use grammar::{Change, Line, Show};
use host::Host;
use hostname::Place;
use plan::{Action, Plan, Wish};
use resolve::Names;

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    #[error(transparent)]
    Grammar(#[from] grammar::Error),
    #[error(transparent)]
    Plan(#[from] plan::Error),
    #[error(transparent)]
    Missing(#[from] display::Missing),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Command(#[from] cli::Error),
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    #[error(transparent)]
    Files(#[from] hostname::Error),
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        Self::Command(error.into())
    }
}

impl From<socket::Error> for Error {
    fn from(error: socket::Error) -> Self {
        Self::Command(error.into())
    }
}

/// Runs the command with these arguments, the program's name first. Returns the exit status: 0, or 1 after an error.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let mut words = arguments.into_iter().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().map_or("ifconfig".into(), |name| name.to_string_lossy());
    let mut notes = Vec::new();
    let result = execute(&words.collect::<Vec<_>>(), &mut notes);
    for note in &notes {
        let _ = writeln!(err, "{program}: {}", cli::one_line(note));
    }
    match result {
        Ok(printed) => {
            let _ = out.write_all(printed.as_bytes());
            0
        }
        Err(error) => {
            let _ = writeln!(err, "{program}: {}", cli::one_line(&error.to_string()));
            1
        }
    }
}

/// Returns what is to be printed.
fn execute(words: &[String], notes: &mut Vec<String>) -> Result<String, Error> {
    match grammar::parse(words)? {
        Line::Show(what) => display(&what),
        Line::Change(change) => {
            let wish = resolve::resolve(change, &Names::of_host(), notes)?;
            let mut client = cli::connect(&socket::path(None, None)?, None, true)?;
            execute_wish(&mut client, &wish, notes)
        }
    }
}

/// Executes a change, and returns what is to be printed.
fn execute_wish(client: &mut Client, wish: &Wish, notes: &mut Vec<String>) -> Result<String, Error> {
    let plan = plan::plan(wish, &Host::read(Some(client))?)?;
    apply(client, &plan, notes)?;
    Ok(plan.printed)
}

/// Creates the groups of the hostname files in a directory, as a start of Solaris does, through the socket of the daemon. Does
/// nothing if there is a group: then it is no start of the host. A line that fails is logged, and the others are executed.
pub fn start(directory: &Path, socket: &Path) {
    if let Err(error) = execute_files(directory, socket) {
        log::error!("{error}");
    }
}

fn execute_files(directory: &Path, socket: &Path) -> Result<(), Error> {
    let mut client = Client::connect(socket)?;
    if !client.groups()?.is_empty() {
        log::info!("hostname files of {} are not read: there are groups already", directory.display());
        return Ok(());
    }
    let files = hostname::read(directory)?;
    let (mut failed, mut missing) = (0, Vec::new());
    for (place, line) in &files.lines {
        let mut notes = Vec::new();
        let result = execute_line(&mut client, line, &files.names, &mut notes);
        notes.iter().for_each(|note| log::info!("{place}: {}", cli::one_line(note)));
        if let Err(error) = result {
            if matches!(error, Error::Plan(plan::Error::NoInterface(_))) {
                missing.push((place, line));
            }
            failed += 1;
            log::error!("{place}: {}", cli::one_line(&error.to_string()));
        }
    }
    // When all groups exist: the data addresses of an interface that does not exist are of use without it.
    for (place, line) in missing {
        if let Ok(change) = line
            && let Err(error) = add_addresses_of_missing(&mut client, place, change, &files.names)
        {
            log::error!("{place}: {}", cli::one_line(&error.to_string()));
        }
    }
    let count = files.lines.len();
    log::info!("{}: {count} lines of hostname files executed, {failed} of them failed", directory.display());
    Ok(())
}

/// Adds the data addresses of an interface that does not exist to its group, as a start of Solaris does.
fn add_addresses_of_missing(
    client: &mut Client,
    place: &Place,
    change: &Change,
    names: &Names,
) -> Result<(), Error> {
    let wish = resolve::resolve(change.clone(), names, &mut Vec::new())?;
    let addresses = wish.data_addresses();
    let groups = client.groups()?;
    let group = groups.iter().find(|group| change.group.as_ref() == Some(&group.groupname));
    let Some(group) = group.filter(|_| !addresses.is_empty()) else { return Ok(()) };
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let group = group.name.clone();
    log::info!("{place}: added to {group} without {}: {}", change.interface.name, list.join(", "));
    client.call(&Request::AddAddress { group, addresses, inbound: None, logical: None })?;
    Ok(())
}

fn execute_line(
    client: &mut Client,
    line: &Result<Change, hostname::LineError>,
    names: &Names,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let change = line.as_ref().map_err(|error| hostname::Error::Line(error.clone()))?;
    let wish = resolve::resolve(change.clone(), names, notes)?;
    execute_wish(client, &wish, notes).map(drop)
}

/// Without a daemon there are no groups to show.
fn display(what: &Show) -> Result<String, Error> {
    let mut client = match Client::connect(&socket::path(None, None)?) {
        Ok(client) => Some(client),
        Err(client::Error::Contact { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let host = Host::read(client.as_mut())?;
    Ok(display::show(what, &host, nix::unistd::geteuid().is_root())?)
}

/// Does what is planned. After an error what was done is undone.
fn apply(client: &mut Client, plan: &Plan, notes: &mut Vec<String>) -> Result<(), Error> {
    let mut done = Vec::new();
    for (action, undo) in &plan.steps {
        match act(client, action, notes) {
            Ok(changed) => done.extend(undo.as_ref().filter(|_| changed)),
            Err(error) => {
                notes.clear();
                for undo in done.iter().rev() {
                    if let Err(error) = client.call(undo)
                        && !has_no_group(&error)
                    {
                        notes.push(format!("cannot undo what was done before: {error}"));
                    }
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The group was removed with its last member.
fn has_no_group(error: &client::Error) -> bool {
    matches!(error, client::Error::Refused { reason, .. } if reason == request::reason::NO_SUCH_GROUP)
}

/// Does one step. Returns whether it changed anything.
fn act(client: &mut Client, action: &Action, notes: &mut Vec<String>) -> Result<bool, Error> {
    match action {
        Action::Request(request) => {
            request.check().map_err(cli::Error::from)?;
            match client.call(request)? {
                Response::Done { notes: more, changed } => {
                    notes.extend(more);
                    Ok(changed)
                }
                _ => Ok(false),
            }
        }
        Action::Link { interface, up } => {
            let host = Host::read(None)?;
            let device = host.device(interface).ok_or_else(|| plan::Error::NoInterface(interface.clone()))?;
            host::set_up(device, *up)?;
            Ok(true)
        }
    }
}
