//! Where log lines go: to the journal, with their fields, if that is where standard error leads; else to standard
//! error, as `ipmpd: TEXT`. A daemon that `ipmpctl` started outlives the reader of its standard error, and goes on in
//! the journal, or in syslog where there is no journal.

use std::{
    io::{self, Write},
    os::unix::{fs::MetadataExt, net::UnixDatagram},
};

use log::{LevelFilter, Log, Metadata, Record};

use crate::daemon::events::journal::{Journal, severity};

/// Where syslog takes lines (RFC 3164).
const SYSLOG: &str = "/dev/log";
/// Facility `daemon`, in the place where a priority carries it.
const FACILITY: u8 = 3 << 3;

/// Sets the logger of the process. `RUST_LOG` says what is logged; without it, everything from `info` up.
pub fn init() {
    let filter = env_logger::Builder::new().filter_level(LevelFilter::Info).parse_default_env().build();
    let level = filter.filter();
    let logger = Logger {
        journal: Journal::connect(),
        syslog: connect(SYSLOG),
        journal_first: stderr_is_journal(),
        filter,
    };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

/// Whether standard error is the stream that systemd has connected to the journal (systemd.exec(5), `JOURNAL_STREAM`).
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

fn connect(path: &str) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(path).ok()?;
    Some(socket)
}

struct Logger {
    /// It only says what is wanted; it writes nothing.
    filter: env_logger::Logger,
    journal: Option<Journal>,
    syslog: Option<UnixDatagram>,
    journal_first: bool,
}

impl Logger {
    fn to_journal(&self, record: &Record<'_>) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.send(record).is_ok())
    }

    fn to_syslog(&self, record: &Record<'_>) -> bool {
        self.syslog.as_ref().is_some_and(|syslog| syslog.send(&line(record)).is_ok())
    }

    fn to_stderr(record: &Record<'_>) -> bool {
        // In one piece: another process may write there, too.
        io::stderr().write_all(format!("ipmpd: {}\n", record.args()).as_bytes()).is_ok()
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        // Each stands in for the other. Whoever started the daemon may have closed the other end of its standard error.
        let taken = self.journal_first && self.to_journal(record) || Self::to_stderr(record);
        if !taken && !self.to_journal(record) {
            self.to_syslog(record);
        }
    }

    fn flush(&self) {}
}

/// A record as a line of syslog, on one line.
fn line(record: &Record<'_>) -> Vec<u8> {
    let text = record.args().to_string().replace(|c: char| c.is_control(), " ");
    format!("<{}>ipmpd[{}]: {text}", FACILITY | severity(record.level()), std::process::id()).into_bytes()
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    #[test]
    fn a_line_of_syslog_is_one_line() {
        let record = Record::builder().level(Level::Warn).args(format_args!("one\ntwo")).build();
        assert_eq!(line(&record), format!("<28>ipmpd[{}]: one two", std::process::id()).into_bytes());
    }
}
