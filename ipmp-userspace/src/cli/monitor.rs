//! `ipmpctl monitor`: a line per event, with its cause, until it is interrupted or the daemon ends.

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::Path,
    thread,
    time::Duration,
};

use super::{
    error::Error,
    output::{Content, Format},
    verb::Verb,
};
use crate::{
    control::{Client, Request, client, monitor::EventRecord},
    types::Observer,
};

/// Print events and their causes as they happen: failures, repairs, address moves, operator commands
///
/// Runs until it is interrupted. Each line has the time (UTC), severity, kind and log message of an event and, in
/// parentheses, its cause; for events caused by a link change also the time in ms from the change to the announcement.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ipmpctl monitor production0\n  ipmpctl monitor --json | jq -r .event.kind"
)]
pub struct Monitor {
    /// Group interface, group name or member [default: all groups]
    name: Option<String>,
}

impl Verb for Monitor {
    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Monitor { name: self.name.clone() })
    }

    /// Ends with an error when the daemon ends, and without one when `out` is closed.
    fn run(
        &self,
        client: Client,
        _request: Request,
        format: Format,
        out: &mut dyn Write,
    ) -> Result<String, Error> {
        let (mut events, mut event) = client.monitor(self.name.clone())?;
        loop {
            let line = Content::Event { event: &event }.print(format, || text(&event));
            match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(String::new()),
                written => written.map_err(Error::Output)?,
            }
            event = events.next(&event)?;
        }
    }
}

/// Until a daemon that has ended is contacted again.
const PAUSE: Duration = Duration::from_secs(1);

/// Handles events for ever, of one daemon after another. The first one of each says that monitoring has begun.
pub(super) fn follow(socket: &Path, mut handle: impl FnMut(&EventRecord)) -> ! {
    loop {
        let ended = follow_one(socket, &mut handle);
        if let Err(error) = ended {
            log::debug!("{error}; contacted again in {PAUSE:?}");
        }
        thread::sleep(PAUSE);
    }
}

fn follow_one(socket: &Path, handle: &mut impl FnMut(&EventRecord)) -> Result<(), client::Error> {
    let (mut events, mut event) = Client::connect(socket)?.monitor(None)?;
    loop {
        handle(&event);
        event = events.next(&event)?;
    }
}

/// An event as a line.
pub fn text(event: &EventRecord) -> String {
    let EventRecord { time, severity, kind, message, because, .. } = event;
    let mut line = format!("{time} {severity} {kind}: {message} ({because}");
    if let (Some(took), Some(observer)) = (event.took_ns, event.seen_by) {
        let start = match observer {
            Observer::Datapath => "detection in the datapath",
            Observer::Netlink => "the netlink notification",
        };
        let milliseconds = Duration::from_nanos(took).as_secs_f64() * 1000.0;
        write!(line, "; {milliseconds:.1} ms after {start}").expect("a string grows");
    }
    line.push_str(")\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::monitor::sample, types::Severity};

    #[test]
    fn text_has_message_cause_and_latency() {
        assert_eq!(
            text(&sample()),
            "2010-01-08T20:01:06.042Z info moved: Data address 192.168.178.200 of group production0 has moved from \
             e1000g0 to e1000g1 (e1000g0 has failed; 0.8 ms after detection in the datapath)\n"
        );
        let event = EventRecord {
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
