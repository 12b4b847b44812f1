//! Where log lines go: to the journal, with their fields, if standard error is connected to it; else to standard error, as
//! `ipmpd: TEXT`, `ipmpd: warning: TEXT` or `ipmpd: error: TEXT`, on a terminal with the time. A daemon that `ipmpctl`
//! started outlives the reader of its standard error; from then on it logs to the journal, or to syslog where there is no
//! journal.
//!
//! A thread of its own writes them: a reader that stops, as a terminal after Ctrl-S, must not stop the daemon. At most
//! [`QUEUE`] lines wait for it; further ones are counted, and their number is logged once it goes on.

use std::{
    io::{self, IsTerminal, Write},
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use caps::CapSet;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::{
    control::monitor::rfc3339,
    daemon::events::journal::{Journal, entry, severity},
};

/// Lines that wait to be written, at most.
const QUEUE: usize = 1024;
/// How long the end of the process waits for the lines before it, at most.
const LAST_LINES: Duration = Duration::from_millis(500);
/// The socket of syslog (RFC 3164).
const SYSLOG: &str = "/dev/log";
/// Facility `daemon`, as part of a priority.
const FACILITY: u8 = 3 << 3;

/// Sets the logger of the process. `RUST_LOG` selects what is logged; the default is `info`. `log::logger().flush()` waits
/// for what has been logged, for a limited time.
///
/// # Errors
/// No thread can be started.
pub fn init() -> io::Result<()> {
    let filter = env_logger::Builder::new().filter_level(LevelFilter::Info).parse_default_env().build();
    let level = filter.filter();
    let mut outputs = Outputs {
        journal: Journal::connect(),
        syslog: connect(SYSLOG),
        journal_first: stderr_is_journal(),
        is_terminal: io::stderr().is_terminal(),
        stderr: io::stderr(),
    };
    let logger = Logger { filter, queue: Queue::start(move |line| outputs.write(line))? };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
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

/// A line of the log.
#[derive(Debug)]
struct Line {
    /// Since 1970.
    time: Duration,
    level: Level,
    text: String,
    /// The same as an entry of the journal, with its fields.
    entry: Vec<u8>,
}

impl Line {
    fn new(record: &Record<'_>) -> Self {
        Self {
            time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            level: record.level(),
            text: record.args().to_string(),
            entry: entry(record),
        }
    }

    /// As a line of syslog, on one line.
    fn syslog(&self) -> Vec<u8> {
        let text = self.text.replace(|c: char| c.is_control(), " ");
        format!("<{}>ipmpd[{}]: {text}", FACILITY | severity(self.level), std::process::id()).into_bytes()
    }
}

/// Where lines are written to. Each write may block.
struct Outputs<W> {
    journal: Option<Journal>,
    syslog: Option<UnixDatagram>,
    journal_first: bool,
    is_terminal: bool,
    stderr: W,
}

impl<W: Write> Outputs<W> {
    fn write(&mut self, line: &Line) {
        // Each is the fallback of the other: the other end of standard error may have been closed.
        let is_logged = self.journal_first && self.send_journal(line) || self.write_stderr(line);
        if !is_logged && !self.send_journal(line) {
            self.send_syslog(line);
        }
    }

    fn send_journal(&self, line: &Line) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.send(&line.entry).is_ok())
    }

    fn send_syslog(&self, line: &Line) -> bool {
        self.syslog.as_ref().is_some_and(|syslog| syslog.send(&line.syslog()).is_ok())
    }

    fn write_stderr(&mut self, line: &Line) -> bool {
        let time = if self.is_terminal { rfc3339(line.time) + " " } else { String::new() };
        let severity = match line.level {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info | Level::Debug | Level::Trace => "",
        };
        // In one piece: another process may write there, too.
        self.stderr.write_all(format!("{time}ipmpd: {severity}{}\n", line.text).as_bytes()).is_ok()
    }
}

enum Job {
    Write(Line),
    /// Everything before it is written.
    Flush(SyncSender<()>),
}

/// The lines that wait for the thread that writes them.
struct Queue {
    jobs: SyncSender<Job>,
    /// Lines that found the queue full, since the last that did not.
    lost: AtomicU64,
}

impl Queue {
    fn start(mut write: impl FnMut(&Line) + Send + 'static) -> io::Result<Self> {
        let (jobs, receiver): (_, Receiver<Job>) = sync_channel(QUEUE);
        thread::Builder::new().name("log".into()).spawn(move || {
            // It needs none: capabilities belong to a thread, and those of the others are dropped later.
            for set in [CapSet::Effective, CapSet::Permitted] {
                let _ = caps::clear(None, set);
            }
            for job in receiver {
                match job {
                    Job::Write(line) => write(&line),
                    Job::Flush(done) => drop(done.send(())),
                }
            }
        })?;
        Ok(Self { jobs, lost: AtomicU64::new(0) })
    }

    /// Never blocks.
    fn push(&self, line: Line) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && self.jobs.try_send(Job::Write(lost_lines(lost))).is_ok() {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        if self.lost.load(Ordering::Relaxed) > 0 || self.jobs.try_send(Job::Write(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        let start = Instant::now();
        let mut job = Job::Flush(done);
        while let Err(TrySendError::Full(back)) = self.jobs.try_send(job) {
            if start.elapsed() >= LAST_LINES {
                return;
            }
            job = back;
            thread::sleep(Duration::from_millis(5));
        }
        let _ = is_done.recv_timeout(LAST_LINES.saturating_sub(start.elapsed()));
    }
}

fn lost_lines(count: u64) -> Line {
    let text = format_args!("{count} lines of the log were lost: their reader did not accept them");
    // The arguments live as long as the statement.
    Line::new(&Record::builder().level(Level::Warn).args(text).build())
}

struct Logger {
    /// Selects what is logged.
    filter: env_logger::Logger,
    queue: Queue,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.filter.matches(record) {
            self.queue.push(Line::new(record));
        }
    }

    fn flush(&self) {
        self.queue.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;

    fn line(text: &str) -> Line {
        Line::new(&Record::builder().level(Level::Warn).args(format_args!("{text}")).build())
    }

    #[test]
    fn syslog_line_has_no_line_breaks() {
        let expected = format!("<28>ipmpd[{}]: one two", std::process::id()).into_bytes();
        assert_eq!(line("one\ntwo").syslog(), expected);
    }

    #[test]
    fn stopped_reader_stops_no_logging_and_lost_lines_are_counted() {
        let (go_on, gate) = mpsc::channel::<()>();
        let (stopped, has_stopped) = mpsc::channel::<()>();
        let written = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&written);
        let mut is_open = false;
        let queue = Queue::start(move |line| {
            if !is_open {
                stopped.send(()).unwrap();
                gate.recv().unwrap();
                is_open = true;
            }
            copy.lock().unwrap().push(line.text.clone());
        })
        .unwrap();
        let total = 3 * QUEUE;
        let start = Instant::now();
        queue.push(line("0"));
        // Now the queue is empty, and nothing leaves it.
        has_stopped.recv().unwrap();
        for number in 1..total {
            queue.push(line(&number.to_string()));
        }
        queue.flush();
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!(*written.lock().unwrap(), [""; 0]);
        go_on.send(()).unwrap();
        queue.flush();
        // The number is logged before the next line.
        queue.push(line("after"));
        queue.flush();
        let written = written.lock().unwrap();
        let [.., lost, last] = written.as_slice() else { panic!("{written:?}") };
        let lines = written.len() - 2;
        assert_eq!(lines, QUEUE + 1);
        assert_eq!(
            *lost,
            format!("{} lines of the log were lost: their reader did not accept them", total - lines)
        );
        assert_eq!(last, "after");
    }
}
