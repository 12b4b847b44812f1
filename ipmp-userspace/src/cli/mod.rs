//! `ipmpctl`: a verb a file, each making a request of its arguments; this module runs it and says what came of it.

pub mod address;
pub mod attach;
pub mod create;
pub mod destroy;
pub mod detach;
pub mod explain;
pub mod host;
pub mod monitor;
pub mod offline;
pub mod online;
pub mod output;
pub mod set;
pub mod show;
pub mod start;
pub mod target;
pub mod test_address;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::control::{self, Client, Request, Response, client, name, request, setting, socket};

/// How `ipmpctl` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// It was refused, or went wrong.
    Refused = 1,
    /// The command line cannot be understood, or holds a name, an address or a setting that cannot be.
    Usage = 2,
    /// No daemon answers, and none could be started.
    NoDaemon = 3,
    /// This user may not.
    NotPermitted = 4,
    /// The daemon has gone while it was listened to.
    DaemonGone = 5,
}

impl Exit {
    /// The status that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The word for it in `--json`, where the daemon gave none of its own.
    fn reason(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "failed",
            Self::Usage => "usage",
            Self::NoDaemon => "no-daemon",
            Self::NotPermitted => "not-permitted",
            Self::DaemonGone => "daemon-gone",
        }
    }
}

const AFTER_HELP: &str = "\
Exit status:
  0  done
  1  refused, or gone wrong; a refusal has changed nothing
  2  the command line cannot be understood, or holds a name, an address or a setting that cannot be
  3  no daemon answers, and none could be started
  4  not permitted: changes want root or a member of the group ipmp, anybody may look
  5  the daemon has gone while monitor listened to it

With --json, on standard output:
  {\"version\":1,\"groups\":[...]}   of show: groups as the Varlink interface net.ipmp.Manager documents them
  {\"version\":1,\"explanation\":{...}}   of explain: as that interface documents it
  {\"version\":1,\"event\":{...}}    of monitor, a line each: events as that interface documents them
  {\"version\":1,\"targets\":[...]}  of target list and discover: targets as that interface documents them
  {\"version\":1,\"notes\":[...]}    of every other command: what it did beyond its word, a sentence each
  {\"version\":1,\"error\":{\"reason\":...,\"message\":...}}   when it is not done, beside the line on standard error
The version grows when a field goes or changes its meaning. New fields do not change it.

The commands that change something start ipmpd if it does not run; show, explain, monitor and target list never do.
Wherever an address is wanted, a name that the hosts file or the DNS knows will do: node1/24, or node1 of a target.";

/// Administer IP multipathing groups.
#[derive(Debug, Parser)]
#[command(name = "ipmpctl", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Print one line of JSON; ipmpctl --help says what is in it
    #[arg(long, global = true)]
    json: bool,
    /// Socket of the daemon, instead of that of --netns, of IPMP_SOCKET or /run/ipmp/ipmpd.sock
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The daemon of this network namespace, at /run/ipmp/NAME.sock
    #[arg(long, global = true, value_name = "NAME")]
    netns: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::Create),
    Attach(attach::Attach),
    Detach(detach::Detach),
    Address(address::Address),
    Target(target::Target),
    TestAddress(test_address::TestAddress),
    Offline(offline::Offline),
    Online(online::Online),
    Destroy(destroy::Destroy),
    Set(set::Set),
    Show(show::Show),
    Explain(explain::Explain),
    Monitor(monitor::Monitor),
}

impl Verb {
    fn request(&self) -> Result<Request, Error> {
        match self {
            Self::Create(verb) => verb.request(),
            Self::Attach(verb) => verb.request(),
            Self::Detach(verb) => verb.request(),
            Self::Address(verb) => verb.request(),
            Self::Target(verb) => verb.request(),
            Self::TestAddress(verb) => verb.request(),
            Self::Offline(verb) => verb.request(),
            Self::Online(verb) => verb.request(),
            Self::Destroy(verb) => verb.request(),
            Self::Set(verb) => verb.request(),
            Self::Show(verb) => verb.request(),
            Self::Explain(verb) => verb.request(),
            Self::Monitor(verb) => verb.request(),
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its text was not understood.
    #[error("{0}")]
    Usage(String),
    /// A name cannot be.
    #[error(transparent)]
    Name(#[from] name::Error),
    /// An address cannot be.
    #[error(transparent)]
    Address(#[from] host::Error),
    /// A test address cannot be.
    #[error(transparent)]
    TestAddress(#[from] control::test_address::Error),
    /// A setting cannot be.
    #[error(transparent)]
    Setting(#[from] setting::Error),
    /// There is no such socket.
    #[error(transparent)]
    Socket(#[from] socket::Error),
    /// The daemon did not do it.
    #[error(transparent)]
    Daemon(#[from] client::Error),
    /// The daemon could not be started.
    #[error(transparent)]
    Start(#[from] start::Error),
    /// Nobody takes what is printed.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
}

impl Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Name(_) | Self::TestAddress(_) | Self::Setting(_) | Self::Socket(_) => {
                Exit::Usage
            }
            Self::Address(error) if error.is_lookup() => Exit::Refused,
            Self::Address(_) => Exit::Usage,
            Self::Daemon(client::Error::NotPermitted(_)) => Exit::NotPermitted,
            Self::Daemon(client::Error::Contact { .. } | client::Error::Unreachable { .. })
            | Self::Start(_) => Exit::NoDaemon,
            Self::Daemon(client::Error::Stopped(_) | client::Error::Gone(_)) => Exit::DaemonGone,
            Self::Daemon(_) | Self::Output(_) => Exit::Refused,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Daemon(client::Error::Refused { reason, .. }) => reason,
            Self::Name(_) => request::reason::BAD_NAME,
            Self::Address(_) | Self::TestAddress(_) => request::reason::BAD_ADDRESS,
            Self::Setting(_) => request::reason::BAD_SETTING,
            other => other.exit().reason(),
        }
    }
}

/// The command line of `ipmpctl`, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `ipmpctl` with these arguments, the program's name first. A reader that has closed its end of `out` has seen
/// enough, which is no error.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let (exit, printed, complaint) = carry_out(arguments, out);
    // Nobody is left to tell that standard error cannot be written.
    let _ = err.write_all(complaint.as_bytes());
    match out.write_all(printed.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(err, "ipmpctl: cannot write to standard output: {error}");
            if exit == Exit::Done { Exit::Refused } else { exit }
        }
        _ => exit,
    }
}

/// What goes to standard output in the end, and what to standard error. What is printed as it happens goes to `out`.
fn carry_out(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> (Exit, String, String) {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                return (Exit::Done, error.render().to_string(), String::new());
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                return (Exit::Usage, String::new(), error.render().to_string());
            }
            _ => return (Exit::Usage, String::new(), output::complaint(&usage(&error.render().to_string()))),
        },
    };
    let json = arguments.global.json;
    match execute(&arguments, out) {
        Ok(None) => (Exit::Done, String::new(), String::new()),
        Ok(Some(response)) if json => (Exit::Done, output::json(&response), String::new()),
        Ok(Some(response)) => (Exit::Done, output::text(&response), String::new()),
        Err(error) => {
            let message = error.to_string();
            let printed = if json { output::json_error(error.reason(), &message) } else { String::new() };
            (error.exit(), printed, output::complaint(&message))
        }
    }
}

/// clap's complaint in one line: its first paragraph, and where to read on.
fn usage(rendered: &str) -> String {
    let paragraph = rendered.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{} (see ipmpctl --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

/// Runs the verb; nothing is left to print of what was printed as it happened.
fn execute(arguments: &Arguments, out: &mut dyn Write) -> Result<Option<Response>, Error> {
    let Arguments { global: Global { socket, netns, json }, verb } = arguments;
    // Before anybody is asked anything: what cannot be needs no daemon to be refused.
    let request = verb.request()?;
    let path = socket::path(socket.as_deref(), netns.as_deref())?;
    let mut client = match Client::connect(&path) {
        Err(client::Error::Contact { .. }) if request.changes() => {
            start::Daemon::new(&path, netns.as_deref())?.start()?
        }
        other => other?,
    };
    if let Request::Monitor { name } = request {
        return monitor::follow(client, name, *json, out).map(|()| None);
    }
    let response = client.call(&request)?;
    Ok(Some(match request {
        Request::DiscoverTargets { group } => target::discovered(&mut client, group)?,
        _ => response,
    }))
}

#[cfg(test)]
mod tests;
