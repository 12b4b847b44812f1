//! What every verb does: build a request, and print the reply.

use std::{io::Write, path::Path};

pub(super) use super::connection::Invocation;
use super::{
    connection,
    error::{Error, Exit},
    output::{self, Format},
    pending, preflight,
};
use crate::{
    config,
    control::{Client, Request, Response, pending::HostStep},
};

/// What a verb that has not failed prints, and its exit status.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub exit: Exit,
    pub printed: String,
}

impl Outcome {
    pub(super) fn done(printed: String) -> Self {
        Self { exit: Exit::Done, printed }
    }
}

/// Connects to the daemon. A request that changes something starts it if it does not run.
///
/// # Errors
/// Also if it changes something while another change waits for its confirmation.
pub fn connect(socket: &Path, netns: Option<&str>, changes: bool) -> Result<Client, Error> {
    if changes {
        pending::refuse_if_pending(socket)?;
    }
    connection::connect_or_start(socket, netns, changes)
}

/// What every command has that changes something.
#[derive(Debug, clap::Args)]
pub(super) struct DryRun {
    /// Print what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// A command with its arguments.
pub(super) trait Command {
    /// Checks the arguments and does what the command does.
    fn execute(&self, invocation: &Invocation<'_>, out: &mut dyn Write) -> Result<Outcome, Error>;

    /// The request of a command that is one verb of the control interface.
    #[cfg(test)]
    fn request(&self) -> Option<Result<Request, Error>> {
        None
    }
}

/// Checks the arguments, connects to the daemon, sends the request and prints the reply. A verb that changes something starts
/// the daemon if it does not run.
impl<V: Verb> Command for V {
    fn execute(&self, invocation: &Invocation<'_>, out: &mut dyn Write) -> Result<Outcome, Error> {
        // Invalid arguments are rejected before a daemon is contacted or started.
        let request = Verb::request(self)?;
        request.check()?;
        let request = if self.is_dry_run() { Request::plan(request) } else { request };
        if request.is_dry_run() {
            // Also while another change waits for its confirmation.
            let mut client = connection::connect_or_start(invocation.socket, invocation.netns, true)?;
            let response = self.plan(&mut client, &request)?;
            let response = preflight::with_line(&client, &request, response);
            return Ok(Outcome::done(self.print(response, invocation.format)));
        }
        if let Some((text, seconds)) = self.confirm() {
            let directory = config::directory(invocation.netns);
            let steps = self.undo_steps()?;
            let checks_gateways = matches!(request, Request::Attach { .. });
            let change = pending::Change {
                text,
                seconds,
                directory,
                steps,
                checks_gateways,
                ..pending::Change::default()
            };
            let response = pending::execute(invocation, change, |client| {
                let note = preflight::check(client, &request, invocation.format, out)?;
                Ok(preflight::with_note(self.send(client, &request)?, note))
            })?;
            return Ok(Outcome::done(self.print(response, invocation.format)));
        }
        let client = connect(invocation.socket, invocation.netns, request.changes())?;
        self.run(client, request, invocation.format, out).map(Outcome::done)
    }

    #[cfg(test)]
    fn request(&self) -> Option<Result<Request, Error>> {
        Some(Verb::request(self))
    }
}

/// A command that is one verb of the control interface.
pub(super) trait Verb {
    /// Checks the arguments.
    fn request(&self) -> Result<Request, Error>;

    /// The command in words, and after how many seconds the change is undone unless it is confirmed; `None`: it stays.
    fn confirm(&self) -> Option<(String, u32)> {
        None
    }

    /// Whether only what would change is to be printed.
    fn is_dry_run(&self) -> bool {
        false
    }

    /// Sends the request of a plan; returns what is to be printed.
    fn plan(&self, client: &mut Client, request: &Request) -> Result<Response, Error> {
        self.send(client, request)
    }

    /// What undoes the changes of the host that are made with the request.
    fn undo_steps(&self) -> Result<Vec<HostStep>, Error> {
        Ok(Vec::new())
    }

    /// Sends the request; returns what is to be printed.
    fn run(
        &self,
        mut client: Client,
        request: Request,
        format: Format,
        _out: &mut dyn Write,
    ) -> Result<String, Error> {
        let response = self.send(&mut client, &request)?;
        Ok(self.print(response, format))
    }

    /// Sends the request, and changes of the host with it.
    fn send(&self, client: &mut Client, request: &Request) -> Result<Response, Error> {
        Ok(client.call(request)?)
    }

    /// What is printed of the reply: the notes, unless the verb has a reply of its own.
    fn print(&self, response: Response, format: Format) -> String {
        match response {
            Response::Done { notes, changed } => output::notes(&notes, changed, format),
            // The client returns the reply that belongs to the request.
            _ => String::new(),
        }
    }
}
