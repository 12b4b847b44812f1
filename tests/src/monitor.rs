//! A running `ipmpctl monitor`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::daemon::binary;
use crate::{Daemon, TIMEOUT, wait_until};

/// A running `ipmpctl monitor`. It ends when this is dropped.
#[derive(Debug)]
pub struct Monitor {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts it, and waits for its first line, which reports that it has subscribed.
    pub fn start(daemon: &Daemon<'_>, arguments: &str) -> Result<Self> {
        let mut command = Command::new(binary("ipmpctl")?);
        command.arg("--socket").arg(daemon.socket()).arg("monitor").args(arguments.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start ipmpctl")?;
        let output = BufReader::new(child.stdout.take().context("a child without standard output")?);
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let for_thread = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| locked(&for_thread).push(line));
        });
        let monitor = Self { child, lines, reader: Some(reader) };
        ensure!(
            wait_until(TIMEOUT, || !locked(&monitor.lines).is_empty()),
            "`ipmpctl monitor {arguments}` prints nothing"
        );
        Ok(monitor)
    }

    /// With `--json`: the events so far, without the error at the end.
    pub fn events(&self) -> Vec<Value> {
        let lines = locked(&self.lines);
        let objects = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        objects.filter_map(|mut object| object.get_mut("event").map(Value::take)).collect()
    }

    /// Waits for its end. Returns its exit status, its standard error and its lines.
    pub fn end(mut self) -> Result<(ExitStatus, String, Vec<String>)> {
        let mut status = None;
        wait_until(TIMEOUT, || {
            status = self.child.try_wait().unwrap_or_default();
            status.is_some()
        });
        let status = status.context("`ipmpctl monitor` does not end with the daemon")?;
        if let Some(reader) = self.reader.take() {
            ensure!(reader.join().is_ok(), "the thread that reads `ipmpctl monitor` panicked");
        }
        let mut message = String::new();
        let errors = self.child.stderr.as_mut().context("a child without standard error")?;
        errors.read_to_string(&mut message)?;
        let lines = locked(&self.lines).clone();
        Ok((status, message, lines))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn locked(lines: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}
