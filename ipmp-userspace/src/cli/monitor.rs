//! `ipmpctl monitor`: every event as a line, with its cause, until it is interrupted or the daemon goes.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use super::{Error, output};
use crate::control::{
    Client, Request,
    monitor::{Event, Observer, Severity},
    name,
};

/// Tell what happens, and why, as it happens: failures, repairs, addresses that move, what operators do
///
/// Runs until it is interrupted. A line each: when (UTC), how bad, what in one word, the line of the log, and in brackets
/// what made it happen; of what began with a link also how long it took from then until the network was told.
#[derive(Debug, clap::Args)]
pub struct Monitor {
    /// Name or group name of a group, or name of a member; every group without it
    name: Option<String>,
}

impl Monitor {
    pub(super) fn request(&self) -> Result<Request, Error> {
        if let Some(name) = &self.name {
            name::check_groupname(name)?;
        }
        Ok(Request::Monitor { name: self.name.clone() })
    }
}

/// Prints events until there are no more: that is always an error, unless nobody reads any more.
pub(super) fn follow(
    client: Client,
    name: Option<String>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let (mut events, mut event) = client.monitor(name)?;
    loop {
        let line = if json { output::json_event(&event) } else { output::clean(&text(&event)) };
        // Whoever reads waits for this line, not for the next thousand.
        match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(Error::Output)?,
        }
        event = events.next(&event)?;
    }
}

/// An event as a line.
pub fn text(event: &Event) -> String {
    let severity = match event.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
        Severity::Debug => "debug",
    };
    let Event { time, kind, message, because, .. } = event;
    let mut line = format!("{time} {severity} {kind}: {message} ({because}");
    if let (Some(took), Some(observer)) = (event.took_ns, event.seen_by) {
        let observer = match observer {
            Observer::Datapath => "the datapath saw it",
            Observer::Netlink => "the kernel told of it",
        };
        let milliseconds = Duration::from_nanos(took).as_secs_f64() * 1000.0;
        write!(line, "; {milliseconds:.1} ms after {observer}").expect("a string grows");
    }
    line.push_str(")\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::monitor::sample;

    #[test]
    fn a_line_says_what_why_and_how_long_it_took() {
        assert_eq!(
            text(&sample()),
            "2010-01-08T20:01:06.042Z info moved: Data address 192.168.178.200 of group production0 has moved from \
             e1000g0 to e1000g1 (e1000g0 has failed; 0.8 ms after the datapath saw it)\n"
        );
        let event = Event {
            kind: "offline".into(),
            severity: Severity::Warning,
            message: "IP interface e1000g0 of group production0 is now offline".into(),
            because: "uid 0, pid 7 requested Offline".into(),
            took_ns: None,
            ..sample()
        };
        assert_eq!(
            text(&event),
            "2010-01-08T20:01:06.042Z warning offline: IP interface e1000g0 of group production0 is now offline (uid 0, \
             pid 7 requested Offline)\n"
        );
    }
}
