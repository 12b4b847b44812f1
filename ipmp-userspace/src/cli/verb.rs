//! What every verb does: build a request, and print the reply.

use std::{io::Write, path::Path};

pub(super) use super::connection::Invocation;
use super::{
    connection,
    error::{Error, Exit},
    output::{self, Format},
    pending,
};
use crate::{
    config,
    control::{Client, Request, Response},
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
        if let Some((text, seconds)) = self.confirm() {
            let directory = config::directory(invocation.netns);
            let checks_gateways = matches!(request, Request::Attach { .. });
            let change =
                pending::Change { text, seconds, directory, checks_gateways, ..pending::Change::default() };
            let response = pending::execute(invocation, change, |client| Ok(client.call(&request)?))?;
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

    /// Sends the request; returns what is to be printed.
    fn run(
        &self,
        mut client: Client,
        request: Request,
        format: Format,
        _out: &mut dyn Write,
    ) -> Result<String, Error> {
        let response = client.call(&request)?;
        Ok(self.print(response, format))
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
