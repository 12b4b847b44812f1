//! Where log lines go: to the journal, with their fields, if standard error is connected to it; else to standard error, as
//! `ipmpd: TEXT`, on a terminal with the time. A daemon that `ipmpctl` started outlives the reader of its standard error;
//! from then on it logs to the journal, or to syslog where there is no journal.

use std::{
    io::{self, IsTerminal, Write},
    os::unix::{fs::MetadataExt, net::UnixDatagram},
};

use log::{LevelFilter, Log, Metadata, Record};

use crate::daemon::events::journal::{Journal, severity};

/// The socket of syslog (RFC 3164).
const SYSLOG: &str = "/dev/log";
/// Facility `daemon`, as part of a priority.
const FACILITY: u8 = 3 << 3;

/// Sets the logger of the process. `RUST_LOG` selects what is logged; the default is `info`.
pub fn init() {
    let filter = env_logger::Builder::new()
        .filter_level(LevelFilter::Info)
        .parse_default_env()
        .format(|buffer, record| writeln!(buffer, "{} ipmpd: {}", buffer.timestamp_millis(), record.args()))
        .build();
    let level = filter.filter();
    let logger = Logger {
        journal: Journal::connect(),
        syslog: connect(SYSLOG),
        journal_first: stderr_is_journal(),
        is_terminal: io::stderr().is_terminal(),
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
    /// Selects what is logged, and writes it to a terminal.
    filter: env_logger::Logger,
    journal: Option<Journal>,
    syslog: Option<UnixDatagram>,
    journal_first: bool,
    is_terminal: bool,
}

impl Logger {
    fn to_journal(&self, record: &Record<'_>) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.send(record).is_ok())
    }

    fn to_syslog(&self, record: &Record<'_>) -> bool {
        self.syslog.as_ref().is_some_and(|syslog| syslog.send(&line(record)).is_ok())
    }

    fn to_stderr(&self, record: &Record<'_>) -> bool {
        if self.is_terminal {
            self.filter.log(record);
            return true;
        }
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
        // Each is the fallback of the other: the other end of standard error may have been closed.
        let is_logged = self.journal_first && self.to_journal(record) || self.to_stderr(record);
        if !is_logged && !self.to_journal(record) {
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
    fn syslog_line_has_no_line_breaks() {
        let record = Record::builder().level(Level::Warn).args(format_args!("one\ntwo")).build();
        assert_eq!(line(&record), format!("<28>ipmpd[{}]: one two", std::process::id()).into_bytes());
    }
}
