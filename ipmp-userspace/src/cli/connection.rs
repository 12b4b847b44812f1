//! Where the daemon is, and how a command reaches it.

use std::path::Path;

use super::{error::Error, output::Format, start};
use crate::control::{Client, client};

/// Where the daemon is, and how results are printed.
#[derive(Debug)]
pub(super) struct Invocation<'a> {
    pub socket: &'a Path,
    pub netns: Option<&'a str>,
    pub format: Format,
}

/// Connects to the daemon, which is started for a change if it does not run.
pub(super) fn connect_or_start(socket: &Path, netns: Option<&str>, changes: bool) -> Result<Client, Error> {
    match Client::connect(socket) {
        Err(client::Error::Contact { .. }) if changes => Ok(start::Daemon::new(socket, netns)?.start()?),
        other => Ok(other?),
    }
}
