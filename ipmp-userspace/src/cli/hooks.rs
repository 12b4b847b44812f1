//! `ipmpctl hooks`: runs the executables of a directory for each event.
//!
//! A program of its own and not part of the daemon: a hook that hangs delays no failover, and the daemon starts no programs.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{self, Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, geteuid},
};

use super::{
    error::Error,
    monitor,
    output::{Content, Format, error_line},
    verb::{Command, Invocation, Outcome},
};
use crate::control::{duration::Span, monitor::EventRecord};

/// Between two checks whether a hook has ended.
const INTERVAL: Duration = Duration::from_millis(10);

/// Run executables on events: failures, repairs, address moves, operator commands
///
/// Runs those of /etc/ipmp/hooks.d for each event, until it is interrupted, as ipmp-hooks.service does. They run one after the other,
/// in the order of their names.
/// Each receives the event on standard input, as `ipmpctl monitor --json` prints it, and in part in environment variables:
/// IPMP_EVENT (the kind), IPMP_SEVERITY, IPMP_GROUP, IPMP_MEMBER and IPMP_MESSAGE, which are empty if the event has none. One that does
/// not end in time is killed. Each connection to ipmpd begins with an event of kind watching: after one, read the state with
/// ipmpctl show, since events of the time before may be missing.
///
/// An executable runs only if it, and the directory, belong to root or to the user of this command, and only they may write to it.
/// Hidden files, and those that editors and package managers leave, are skipped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl hooks --check                       which executables would run, and why others would not
  ipmpctl hooks --directory ./hooks --timeout 5s")]
pub struct Hooks {
    /// The directory of the executables
    #[arg(long, value_name = "PATH", default_value = "/etc/ipmp/hooks.d")]
    directory: PathBuf,
    /// Kill an executable that has not ended after this time, for example 30s or 500ms
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    timeout: Span,
    /// Only print what would run, and what would not; exit status 1 if there is a file that would not
    #[arg(long)]
    check: bool,
}

fn time(text: &str) -> Result<Span, String> {
    Span::read(text)
        .filter(|span| !span.duration().is_zero())
        .ok_or_else(|| "expected a time with a unit, for example 30s or 500ms".into())
}

impl Command for Hooks {
    /// Without `check` it does not end.
    fn execute(&self, invocation: &Invocation<'_>, out: &mut dyn Write) -> Result<Outcome, Error> {
        let found = Found::read(&self.directory)?;
        if self.check {
            let hooks = found.hooks.iter().map(|path| format!("{} runs", path.display()));
            let notes: Vec<String> = hooks.chain(found.refused.iter().cloned()).collect();
            let printed = super::output::notes(&notes, false, invocation.format);
            return match found.refused.len() {
                0 => Ok(Outcome::done(printed)),
                count => {
                    out.write_all(printed.as_bytes()).map_err(Error::Output)?;
                    Err(Error::Hooks(format!(
                        "{count} of the files of {} would not run",
                        self.directory.display()
                    )))
                }
            };
        }
        let mut warned = BTreeSet::new();
        // The daemon keeps events for a client that does not read for a while, and reports how many it has dropped.
        monitor::follow(invocation.socket, |event| self.run_all(event, &mut warned))
    }
}

impl Hooks {
    /// Runs what the directory contains now. What does not run is reported once.
    fn run_all(&self, event: &EventRecord, warned: &mut BTreeSet<String>) {
        let found = match Found::read(&self.directory) {
            Ok(found) => found,
            Err(error) => return warn(&error.to_string()),
        };
        let new = found.refused.into_iter().filter(|line| warned.insert(line.clone()));
        new.for_each(|line| warn(&line));
        for hook in &found.hooks {
            if let Err(error) = run(hook, event, self.timeout.duration()) {
                warn(&format!("{}: {error}", hook.display()));
            }
        }
    }
}

/// The journal has it, or the terminal.
fn warn(line: &str) {
    // An error on standard error cannot be reported anywhere.
    let _ = io::stderr().write_all(error_line(line).as_bytes());
}

/// What a directory contains.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// What runs, in order.
    hooks: Vec<PathBuf>,
    /// What does not, a line each.
    refused: Vec<String>,
}

impl Found {
    fn read(directory: &Path) -> Result<Self, Error> {
        let shown = directory.display();
        let failed = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => format!(": mkdir -p {shown}"),
                _ => String::new(),
            };
            Error::Hooks(format!("cannot read the hooks of {shown}: {error}{remedy}"))
        };
        if let Some(fault) = Fault::of(&fs::metadata(directory).map_err(failed)?) {
            return Err(Error::Hooks(format!("the hooks of {shown} do not run: {}", fault.line(directory))));
        }
        let entries = fs::read_dir(directory).map_err(failed)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<BTreeSet<_>>>();
        let mut found = Self::default();
        for path in paths.map_err(failed)? {
            if is_left_over(&path) {
                continue;
            }
            match fs::metadata(&path) {
                Ok(of) if !of.is_file() => found.refused.push(format!("{} is no file", path.display())),
                Ok(of) => match Fault::of(&of).or_else(|| Fault::of_file(&of)) {
                    Some(fault) => found.refused.push(fault.line(&path)),
                    None => found.hooks.push(path),
                },
                Err(error) => found.refused.push(format!("{}: {error}", path.display())),
            }
        }
        Ok(found)
    }
}

/// Hidden, or left by an editor or a package manager.
fn is_left_over(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name.ends_with('~') || name.contains(".dpkg-") || name.contains(".rpm")
}

/// Why a file does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Owner(u32),
    Writable,
    NotExecutable,
}

impl Fault {
    fn of(metadata: &fs::Metadata) -> Option<Self> {
        let owner = metadata.uid();
        if owner != 0 && owner != geteuid().as_raw() {
            return Some(Self::Owner(owner));
        }
        (metadata.permissions().mode() & 0o022 != 0).then_some(Self::Writable)
    }

    fn of_file(metadata: &fs::Metadata) -> Option<Self> {
        (metadata.permissions().mode() & 0o111 == 0).then_some(Self::NotExecutable)
    }

    /// The fault of this path, with the remedy.
    fn line(self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Owner(uid) => format!("{path} belongs to user {uid}: chown root {path}"),
            Self::Writable => format!("others may write to {path}: chmod go-w {path}"),
            Self::NotExecutable => format!("{path} is not executable: chmod +x {path}"),
        }
    }
}

/// Why a hook has failed.
enum Failure {
    Start(io::Error),
    Status(ExitStatus),
    Late(Duration),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "cannot be run: {error}"),
            Self::Status(status) => status.fmt(f),
            Self::Late(limit) => write!(f, "killed, since it had not ended after {limit:?}"),
        }
    }
}

fn run(hook: &Path, event: &EventRecord, limit: Duration) -> Result<(), Failure> {
    let mut child = process::Command::new(hook)
        .env("IPMP_EVENT", &event.kind)
        .env("IPMP_SEVERITY", event.severity.as_str())
        .env("IPMP_GROUP", event.group.as_deref().unwrap_or_default())
        .env("IPMP_MEMBER", event.member.as_deref().unwrap_or_default())
        .env("IPMP_MESSAGE", &event.message)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(Failure::Start)?;
    // An event is smaller than the buffer of a pipe, and a hook need not read it.
    let text = Content::Event { event }.print(Format::Json, String::new);
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(text.as_bytes()));
    match wait(&mut child, limit).map_err(Failure::Start)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Failure::Status(status)),
        None => Err(Failure::Late(limit)),
    }
}

/// The exit status of a hook; `None`: it was killed, with the programs that it had started.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            let group = i32::try_from(child.id()).map_err(io::Error::other)?;
            killpg(Pid::from_raw(group), Signal::SIGKILL)?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_executables_that_no_other_user_may_change_run() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["20-second", "10-first", ".hidden", "old~", "x.dpkg-old", "x.rpmsave"] {
            write(&at(name), "", 0o755);
        }
        write(&at("30-open"), "", 0o775);
        write(&at("40-data"), "", 0o644);
        fs::create_dir(at("50-directory")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("60-link")).unwrap();
        let shown = directory.path().display();
        let refused = [
            format!("others may write to {shown}/30-open: chmod go-w {shown}/30-open"),
            format!("{shown}/40-data is not executable: chmod +x {shown}/40-data"),
            format!("{shown}/50-directory is no file"),
            format!("{shown}/60-link: No such file or directory (os error 2)"),
        ];
        let expected = Found { hooks: vec![at("10-first"), at("20-second")], refused: refused.to_vec() };
        assert_eq!(Found::read(directory.path()).unwrap(), expected);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Found::read(directory.path()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("others may write to {shown}: chmod go-w {shown}")), "{error}");
        let error = Found::read(&at("missing")).unwrap_err().to_string();
        assert!(error.ends_with(&format!(": mkdir -p {shown}/missing")), "{error}");
    }

    #[test]
    fn hook_that_does_not_read_or_end_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let hook = directory.path().join("hook");
        let event = crate::control::monitor::sample();
        let limit = Duration::from_millis(300);
        write(&hook, "#!/bin/sh\nexit 3\n", 0o755);
        let said = |result: Result<(), Failure>| result.err().map(|failure| failure.to_string());
        assert_eq!(said(run(&hook, &event, Duration::from_secs(60))), Some("exit status: 3".into()));
        let pid = directory.path().join("pid");
        write(&hook, &format!("#!/bin/sh\nsleep 1000 &\necho $! > {}\nwait\n", pid.display()), 0o755);
        let late = Some("killed, since it had not ended after 300ms".into());
        assert_eq!(said(run(&hook, &event, limit)), late);
        let child = fs::read_to_string(pid).unwrap();
        let has_ended = || !Path::new("/proc").join(child.trim()).join("cwd").exists();
        let start = Instant::now();
        while !has_ended() && start.elapsed() < Duration::from_secs(10) {
            thread::sleep(INTERVAL);
        }
        assert!(has_ended(), "{child}");
    }
}
