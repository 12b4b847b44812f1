//! `ipmpctl`: one module per verb, which builds the request from its arguments and prints the reply.

pub mod address;
pub mod apply;
pub mod attach;
pub mod check;
pub mod confirm;
mod connection;
pub mod create;
pub mod destroy;
pub mod detach;
pub mod diff;
pub mod dns;
pub mod error;
pub mod explain;
mod files;
mod flow_table;
pub mod flows;
pub mod handover;
pub mod health;
pub mod hooks;
pub mod host;
pub mod if_mpadm;
pub mod import;
pub mod metrics;
pub mod monitor;
pub mod offline;
pub mod online;
mod output;
mod packets;
pub mod path;
mod pending;
mod preflight;
mod replace;
pub mod save;
pub mod set;
pub mod show;
pub mod simulate;
pub mod start;
pub mod target;
pub mod test_address;
pub mod timeline;
pub mod top;
pub mod undo;
mod verb;
pub mod wait_online;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

pub use error::{Error, Exit};
pub use output::one_line;
pub use verb::connect;

use crate::control::socket;
use output::Format;
use verb::{Command, Invocation, Outcome};

const EXAMPLES: &str = "\
Examples:
  ipmpctl attach eth0 eth1 --group production0   create the group and attach two interfaces
  ipmpctl show production0                       state, addresses, members and counters
  ipmpctl explain eth0                           why eth0 is in its state
  ipmpctl help attach                            help of one command";

const AFTER_HELP: &str = "\
Exit status:
  0  success
  1  refused or failed; a refused command has changed nothing
  2  invalid command line, name, address or setting
  3  ipmpd does not run and could not be started
  4  permission denied: changes require root or membership in the group ipmp; commands that only
     show something do not
  5  ipmpd ended during monitor
  10 diff --exit-code: the files differ from what runs
  health has exit statuses of its own: ipmpctl health --help; check, diff and apply have 1 if a file has a mistake

Output of --json, one object per line on standard output:
  {\"version\":1,\"groups\":[...]}                         show, show GROUP
  {\"version\":1,\"group\":\"NAME\",\"member\":{...}}          show MEMBER
  {\"version\":1,\"explanation\":{...}}                    explain
  {\"version\":1,\"path\":{...}}                           path
  {\"version\":1,\"observed\":{...}}                       path --watch
  {\"version\":1,\"transitions\":[...]}                    timeline
  {\"version\":1,\"flows\":{...}}                          flows
  {\"version\":1,\"simulation\":{...},\"traffic\":[...]}    simulate
  {\"version\":1,\"event\":{...}}                          monitor, one line per event
  {\"version\":1,\"targets\":[...]}                        target list, target discover
  {\"version\":1,\"health\":{\"status\":...,\"message\":...}}  health
  {\"version\":1,\"metrics\":\"...\"}                        metrics: the text of Prometheus
  {\"version\":1,\"findings\":[...]}                       check, and diff and apply if a file has a mistake:
                                                         file, line, column, severity, message
  {\"version\":1,\"changed\":...,\"notes\":[...]}            every other command; notes: side effects and hints, a sentence each
  {\"version\":1,\"error\":{\"reason\":...,\"message\":...}}   errors, in addition to the message on standard error
The Varlink interface net.ipmp.Manager documents the fields. The version changes when a field is removed or changes its
meaning; new fields do not change it.

A command whose result holds already succeeds: attach of a member, offline of an offline member, address add of an address
of the group, set of the same value. It changes nothing, a note reports it, and with --json changed is false.

Every command that changes something prints with --dry-run what it would change, a step on each line, and changes nothing; what
refuses the command refuses this, too. With --json, changed is true if there is any step. import prints a configuration file instead,
unless it has --apply.

Commands that change something start ipmpd if it does not run; show, explain, path, simulate, flows, timeline, monitor, top, target list, health,
hooks, metrics, wait-online, check, diff, apply --dry-run, dns, handover, save and import do not. Where ipmpd.service is installed,
systemd alone starts it, and its socket starts it for every command.
Every ADDRESS may be a host name from /etc/hosts or DNS instead: node1/24, or node1 as a target.

Environment:
  IPMP_SOCKET     socket of ipmpd; --socket and --netns have precedence
  IPMP_STATE_DIR  directory of the records of --confirm [default: /var/lib/ipmp]";

/// Administer IP multipathing groups
#[derive(Debug, Parser)]
#[command(name = "ipmpctl", version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{AFTER_HELP}"))]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verbs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Print JSON, one object per line; ipmpctl --help describes it
    #[arg(long, global = true)]
    json: bool,
    /// Socket of ipmpd [default: $IPMP_SOCKET, else /run/ipmp/ipmpd.sock]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Use the ipmpd of this network namespace, on /run/ipmp/NAME.sock
    #[arg(long, global = true, value_name = "NAME")]
    netns: Option<String>,
}

/// Declares the verbs, in the order of the help: a variant and a module each.
macro_rules! verbs {
    ($($module:ident::$verb:ident),* $(,)?) => {
        #[derive(Debug, Subcommand)]
        enum Verbs {
            $($verb($module::$verb)),*
        }

        impl Verbs {
            fn get(&self) -> &dyn Command {
                match self {
                    $(Self::$verb(verb) => verb),*
                }
            }
        }
    };
}

verbs! {
    create::Create,
    attach::Attach,
    detach::Detach,
    handover::Handover,
    confirm::Confirm,
    undo::Undo,
    address::Address,
    target::Target,
    test_address::TestAddress,
    offline::Offline,
    online::Online,
    destroy::Destroy,
    set::Set,
    show::Show,
    explain::Explain,
    path::Path,
    simulate::Simulate,
    flows::Flows,
    timeline::Timeline,
    monitor::Monitor,
    top::Top,
    health::Health,
    metrics::Metrics,
    hooks::Hooks,
    wait_online::WaitOnline,
    check::Check,
    diff::Diff,
    apply::Apply,
    dns::Dns,
    save::Save,
    import::Import,
}

/// The command line of `ipmpctl`, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `ipmpctl` with these arguments, the program's name first. A broken pipe on `out` is no error.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let (exit, printed, error_line) = execute(arguments, out);
    // An error on standard error cannot be reported anywhere.
    let _ = err.write_all(error_line.as_bytes());
    match out.write_all(printed.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(err, "ipmpctl: cannot write to standard output: {error}");
            if exit == Exit::Done { Exit::Refused } else { exit }
        }
        _ => exit,
    }
}

/// Returns the exit status and what remains to be printed on standard output and standard error. Verbs that print
/// continuously write to `out` themselves.
fn execute(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> (Exit, String, String) {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                return (Exit::Done, error.render().to_string(), String::new());
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                return (Exit::Usage, String::new(), error.render().to_string());
            }
            _ => {
                let message = usage(&error.render().to_string());
                return (Exit::Usage, String::new(), output::error_line(&message));
            }
        },
    };
    let format = if arguments.global.json { Format::Json } else { Format::Text };
    match run_verb(&arguments, format, out) {
        Ok(Outcome { exit, printed }) => (exit, printed, String::new()),
        Err(error) => {
            let message = error.to_string();
            (error.exit(), output::error(error.reason(), &message, format), output::error_line(&message))
        }
    }
}

/// clap's error message in one line: its first paragraph, and the command whose help to read.
fn usage(rendered: &str) -> String {
    let paragraph = rendered.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.replace("the following required arguments were not provided", "missing arguments");
    let usage = rendered.split_once("\nUsage: ").map_or("ipmpctl", |(_, usage)| usage);
    let is_verb = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    let command = usage.split_whitespace().take_while(is_verb).collect::<Vec<_>>().join(" ");
    format!("{} (see {command} --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

fn run_verb(arguments: &Arguments, format: Format, out: &mut dyn Write) -> Result<Outcome, Error> {
    let Global { socket, netns, .. } = &arguments.global;
    let socket = socket::path(socket.as_deref(), netns.as_deref())?;
    arguments.verb.get().execute(&Invocation { socket: &socket, netns: netns.as_deref(), format }, out)
}

#[cfg(test)]
mod tests;
