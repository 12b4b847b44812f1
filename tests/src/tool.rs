//! Ordinary tools that run beside a test, and what they say of it at the end.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock;
use crate::namespace::Namespace;
use crate::network::Lab;

/// How long a tool may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running tool. Dropping it kills it.
#[derive(Debug)]
pub struct Tool {
    words: String,
    child: Child,
    output: PathBuf,
}

impl Tool {
    /// Starts `WORDS`, separated by spaces, in a namespace of a lab.
    pub fn start(lab: &Lab, namespace: &Namespace, words: &str) -> Result<Self> {
        let mut split = words.split_whitespace();
        let program = split.next().context("no tool is named")?;
        let name = words.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        // A file, since a pipe that nobody reads fills up.
        let output = lab.directory().join(format!("{}-{name}.out", namespace.name()));
        let file = File::create(&output).with_context(|| format!("cannot make {}", output.display()))?;
        let mut command = namespace.command(program);
        command.args(split).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child =
            command.spawn().with_context(|| format!("cannot start `{words}`: is {program} installed?"))?;
        let this = Self { words: words.to_owned(), child, output };
        lab.remains().process(this.child.id())?;
        Ok(this)
    }

    /// Ends it as Ctrl-C does, and gives all that it said.
    pub fn interrupt(mut self) -> Result<String> {
        let running = self.child.try_wait()?.is_none();
        if running {
            kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT)
                .with_context(|| format!("cannot interrupt `{}`", self.words))?;
            let ended = clock::wait_until(PATIENCE, || !matches!(self.child.try_wait(), Ok(None)));
            ensure!(ended, "`{}` does not end when interrupted", self.words);
        }
        let said = fs::read_to_string(&self.output)?;
        ensure!(running, "`{}` ended before its time; it said:\n{said}", self.words);
        Ok(said)
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
