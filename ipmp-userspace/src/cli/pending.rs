//! A change that is undone unless it is confirmed: `--confirm SECONDS`, `ipmpctl confirm` and `ipmpctl undo`.
//!
//! Before the change its record is on the disk and a process waits for the deadline. It is no child of the daemon, needs no
//! terminal, and starts the daemon if that does not run.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{
    connection::{Invocation, connect_or_start},
    error::Error,
    replace::Kernel,
    start,
};
use crate::{
    config::{files, save},
    control::{
        Client, Request, Response, client,
        pending::{HostStep, Pending, RecordedFile, ReplacedBond, Session, Store, VARIABLE},
    },
    types::Origin,
};

/// How often the waiting process checks the record.
const POLL: Duration = Duration::from_millis(200);
/// How often an undo at the deadline is tried, at first and later.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const LATE_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is tried until groups are removed without the daemon, if there were none before the change.
const ATTEMPTS: usize = 60;

/// A change that is undone unless it is confirmed.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The command, for messages.
    pub text: String,
    /// After how many seconds it is undone.
    pub seconds: u32,
    /// Directory of the configuration, whose files are restored.
    pub directory: PathBuf,
    /// The files of the directory are applied: before the change they were as they were applied last.
    pub applies_files: bool,
    /// Every member must reach the gateway afterwards.
    pub checks_gateways: bool,
    /// Further files that are restored.
    pub files: Vec<PathBuf>,
    /// What undoes changes of the host besides.
    pub steps: Vec<HostStep>,
    /// The bond that a group replaces.
    pub bond: Option<ReplacedBond>,
}

fn failed(store: &Store, error: &io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "; only root can confirm a change or have it undone",
        _ => "",
    };
    Error::Confirm(format!("cannot use {}: {error}{remedy}", store.path().display()))
}

/// Refuses a change while another one waits.
pub(super) fn refuse_if_pending(socket: &Path) -> Result<(), Error> {
    Store::of(socket).read().map_or(Ok(()), |pending| Err(Error::Confirm(pending.refusal())))
}

/// Makes a change by `make`, which is undone after a time unless it is confirmed. If it fails, it is undone at once.
pub(super) fn execute(
    invocation: &Invocation<'_>,
    change: Change,
    make: impl FnOnce(&mut Client) -> Result<Response, Error>,
) -> Result<Response, Error> {
    let store = Store::of(invocation.socket);
    let _lock = store.lock().map_err(|error| failed(&store, &error))?;
    refuse_if_pending(invocation.socket)?;
    let mut client = connect_or_start(invocation.socket, invocation.netns, true)?;
    let mut pending = Pending::new(change.text.clone(), change.seconds);
    pending.state = Some(client.record_state()?);
    pending.had_groups = !client.groups()?.is_empty();
    pending.files = recorded_files(&store, &mut client, &change)?;
    let checks_gateways = change.checks_gateways;
    pending.steps = change.steps;
    pending.bond = change.bond;
    store.write(&pending).map_err(|error| failed(&store, &error))?;
    if let Err(error) = arm(invocation, &pending.id) {
        store.remove().map_err(|error| failed(&store, &error))?;
        return Err(Error::Confirm(format!("cannot start the process that would undo it: {error}")));
    }
    let mut is_made = false;
    let made = make(&mut client).and_then(|response| {
        is_made = true;
        let is_changed = matches!(response, Response::Done { changed: true, .. });
        let checked = is_changed && checks_gateways;
        let more =
            if checked { client.call(&Request::CheckGateways {})? } else { Response::done(Vec::new()) };
        Ok((response, more))
    });
    match made {
        Ok((Response::Done { mut notes, changed: true }, more)) => {
            if let Response::Done { notes: more, .. } = more {
                notes.extend(more);
            }
            // A change that took long has its time, too.
            pending.begin();
            pending.process = None;
            store.write(&pending).map_err(|error| failed(&store, &error))?;
            notes.push(format!(
                "undone in {} s unless confirmed: open a new connection to this host, and enter there: ipmpctl confirm",
                pending.seconds
            ));
            Ok(Response::Done { notes, changed: true })
        }
        Ok((response, _)) => {
            store.remove().map_err(|error| failed(&store, &error))?;
            Ok(response)
        }
        // If what it has done cannot be undone now, the process that waits does it.
        Err(mut error) => {
            let why = format!("{}: it failed", pending.change);
            if !is_made {
                // The files can be corrected.
                pending.files.clear();
            }
            match undo_change(invocation, &store, &pending, &why) {
                Ok(_) => {
                    store.remove().map_err(|error| failed(&store, &error))?;
                    if let Error::Daemon(client::Error::Refused { message, .. }) = &mut error
                        && is_made
                    {
                        message.push_str("; everything was undone");
                    }
                }
                Err(other) => {
                    let seconds = pending.left().as_secs();
                    let text = format!("{error}; it is not undone now, but in {seconds} s: {other}");
                    return Err(Error::Confirm(text));
                }
            }
            Err(error)
        }
    }
}

/// The files before the change.
fn recorded_files(store: &Store, client: &mut Client, change: &Change) -> Result<Vec<RecordedFile>, Error> {
    let read = |path: &PathBuf| {
        RecordedFile::of(path)
            .map_err(|error| Error::Confirm(format!("cannot read {}: {error}", path.display())))
    };
    let found = files::found_in(&change.directory).map_err(|finding| Error::Confirm(finding.to_string()))?;
    let main = change.directory.join("ipmp.toml");
    let mut recorded: Vec<RecordedFile> = found.iter().map(read).collect::<Result<_, _>>()?;
    if !found.contains(&main) {
        recorded.push(read(&main)?);
    }
    if change.applies_files {
        // The files have changed since they were applied: what ran until now shows how they were.
        let mut groups = client.groups()?;
        groups.retain(|group| group.configuration.origin == Origin::File);
        let mut texts = store.read_applied().unwrap_or_default();
        texts.retain(|(path, _)| {
            let parent = path.parent();
            *path == main || parent == Some(&change.directory.join("ipmp.d"))
        });
        let saved = save::save(&texts, &main, &groups).map_err(Error::Save)?;
        for (path, text) in saved.files {
            match texts.iter_mut().find(|(other, _)| *other == path) {
                Some((_, known)) => *known = text,
                None => texts.push((path, text)),
            }
        }
        for file in &mut recorded {
            file.content = None;
        }
        for (path, text) in texts {
            let mode = read(&path)?.content.map_or(0o644, |(mode, _)| mode);
            recorded.retain(|file| file.path != path);
            recorded.push(RecordedFile { path, content: Some((mode, text.into_bytes())) });
        }
    }
    for path in &change.files {
        recorded.push(read(path)?);
    }
    Ok(recorded)
}

/// Starts the process that waits for the deadline: under systemd as a unit of its own, since the end of a login may end all
/// processes of it (KillUserProcesses in logind.conf(5)).
fn arm(invocation: &Invocation<'_>, id: &str) -> io::Result<()> {
    let program = env::current_exe()?;
    let is_systemd = Path::new("/run/systemd/system").is_dir();
    let mut command = Command::new(if is_systemd { OsStr::new("systemd-run") } else { program.as_os_str() });
    if is_systemd {
        command.args(["--quiet", "--collect", "--property=Restart=on-failure", "--property=RestartSec=1"]);
        command.arg(format!("--unit=ipmp-undo-{id}"));
        if let Ok(directory) = env::var(VARIABLE) {
            command.arg(format!("--setenv={VARIABLE}={directory}"));
        }
        command.arg("--").arg(&program);
    }
    command.arg("--socket").arg(std::path::absolute(invocation.socket)?);
    if let Some(netns) = invocation.netns {
        command.args(["--netns", netns]);
    }
    command.args(["undo", "--at-deadline", id]).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if is_systemd {
        let status = command.status()?;
        return if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("systemd-run: {status}")))
        };
    }
    // SAFETY: setsid is async-signal-safe and touches no memory of this process.
    unsafe {
        command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?));
    }
    command.spawn().map(drop)
}

/// Keeps the change that waits. Returns what was confirmed, or would be.
pub(super) fn confirm(invocation: &Invocation<'_>, force: bool, dry_run: bool) -> Result<String, Error> {
    let store = Store::of(invocation.socket);
    let _lock = store.lock().map_err(|error| failed(&store, &error))?;
    let Some(pending) = store.read() else {
        let why = "nothing waits for a confirmation; a change that is not confirmed in time is undone";
        return Err(Error::Confirm(why.into()));
    };
    if !force && pending.session.is_same(&Session::present()) {
        return Err(Error::Confirm(format!(
            "{} is not confirmed: this session existed before it and does not show that a new connection works; confirm \
             from a new connection, or add --force",
            pending.change
        )));
    }
    if dry_run {
        return Ok(pending.change);
    }
    store.remove().map_err(|error| failed(&store, &error))?;
    if let Some(bond) = &pending.bond {
        bond.delete(&Kernel::open()?)?;
    }
    Ok(pending.change)
}

/// Undoes the change that waits. Returns what was undone, and notes; `None`: nothing waits.
pub(super) fn undo(invocation: &Invocation<'_>) -> Result<Option<(String, Vec<String>)>, Error> {
    let store = Store::of(invocation.socket);
    let _lock = store.lock().map_err(|error| failed(&store, &error))?;
    let Some(pending) = store.read() else { return Ok(None) };
    let why = format!("{}: by ipmpctl undo", pending.change);
    let notes = undo_change(invocation, &store, &pending, &why)?;
    store.remove().map_err(|error| failed(&store, &error))?;
    Ok(Some((pending.change, notes)))
}

/// What would be undone, and how, a line each; `None`: nothing waits.
pub(super) fn plan_undo(invocation: &Invocation<'_>) -> Result<Option<(String, Vec<String>)>, Error> {
    let Some(pending) = Store::of(invocation.socket).read() else { return Ok(None) };
    let state = pending.state.clone().unwrap_or_default();
    let request = Request::plan(Request::RestoreState { state, why: pending.change.clone() });
    let mut client = connect_or_start(invocation.socket, invocation.netns, true)?;
    let Response::Done { notes, .. } = client.call(&request)? else { return Ok(None) };
    let (first, last): (Vec<&HostStep>, Vec<&HostStep>) = pending.steps.iter().partition(|step| step.first);
    let line = |step: &HostStep| format!("run: {}", step.command.join(" "));
    let mut lines: Vec<String> = first.into_iter().map(line).collect();
    lines.extend(notes);
    lines.extend(last.into_iter().map(line));
    lines.extend(pending.bond.iter().map(|bond| format!("restore bond {} with its addresses", bond.name)));
    let differs = |file: &&RecordedFile| RecordedFile::of(&file.path).ok().as_ref() != Some(*file);
    let files = pending.files.iter().filter(differs);
    lines.extend(files.map(|file| match file.content {
        Some(_) => format!("restore {}", file.path.display()),
        None => format!("remove {}", file.path.display()),
    }));
    Ok(Some((pending.change, lines)))
}

/// Restores the files of a change that was not confirmed before the host was started again. Returns the change.
pub(super) fn undo_of_earlier_boot(invocation: &Invocation<'_>) -> Result<Option<String>, Error> {
    let store = Store::of(invocation.socket);
    store
        .undo_of_earlier_boot()
        .map_err(|(path, error)| Error::Confirm(format!("cannot restore {}: {error}", path.display())))
}

/// Waits for the deadline of a change and undoes it, unless it is confirmed or undone before.
pub(super) fn undo_at_deadline(invocation: &Invocation<'_>, id: &str) -> Result<(), Error> {
    let store = Store::of(invocation.socket);
    let waiting = || store.read().filter(|pending| pending.id == id);
    let mut attempts = 0;
    while let Some(pending) = waiting() {
        let left = pending.left();
        if !left.is_zero() {
            thread::sleep(left.min(POLL));
            continue;
        }
        let lock = store.lock().map_err(|error| failed(&store, &error))?;
        // The command has changed the deadline, or it was confirmed.
        let Some(pending) = waiting() else { break };
        if !pending.left().is_zero() {
            continue;
        }
        attempts += 1;
        let why = format!("{}: not confirmed within {} s", pending.change, pending.seconds);
        let mut undone = undo_change(invocation, &store, &pending, &why).map(drop);
        if undone.is_err() && attempts >= ATTEMPTS && !pending.had_groups {
            undone = remove_all_groups(invocation).and_then(|()| restore_host(&store, &pending));
        }
        if undone.is_ok() {
            return store.remove().map_err(|error| failed(&store, &error));
        }
        drop(lock);
        thread::sleep(if attempts < ATTEMPTS { RETRY_INTERVAL } else { LATE_RETRY_INTERVAL });
    }
    Ok(())
}

/// Restores groups, host and files to what they were before the change.
fn undo_change(
    invocation: &Invocation<'_>,
    store: &Store,
    pending: &Pending,
    why: &str,
) -> Result<Vec<String>, Error> {
    let mut client = connect_or_start(invocation.socket, invocation.netns, true)?;
    // The daemon executes the requests of this process only.
    let mut mine = pending.clone();
    mine.process = Some(std::process::id());
    store.write(&mine).map_err(|error| failed(store, &error))?;
    pending.steps.iter().filter(|step| step.first).try_for_each(run)?;
    if let Some(bond) = &pending.bond {
        bond.restore_addresses(&mut client, &Kernel::open()?)?;
    }
    let state = pending.state.clone().unwrap_or_default();
    let notes = match client.call(&Request::RestoreState { state, why: why.to_owned() })? {
        Response::Done { notes, .. } => notes,
        _ => Vec::new(),
    };
    restore_host(store, pending)?;
    Ok(notes)
}

/// What follows the groups: the steps after them, and the files.
fn restore_host(store: &Store, pending: &Pending) -> Result<(), Error> {
    pending.steps.iter().filter(|step| !step.first).try_for_each(run)?;
    if let Some(bond) = &pending.bond {
        bond.restore_links(&Kernel::open()?)?;
    }
    pending
        .restore_files()
        .map_err(|(path, error)| Error::Confirm(format!("cannot restore {}: {error}", path.display())))?;
    let directory = pending.files.first().and_then(|file| file.path.parent());
    let is_toml = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    let texts = pending.files.iter().filter(|file| is_toml(&file.path)).filter_map(|file| {
        let (_, content) = file.content.clone()?;
        Some((file.path.clone(), String::from_utf8(content).ok()?))
    });
    if directory.is_some() {
        store.write_applied(&texts.collect::<Vec<_>>()).map_err(|error| failed(store, &error))?;
    }
    Ok(())
}

fn run(step: &HostStep) -> Result<(), Error> {
    let Some((program, arguments)) = step.command.split_first() else { return Ok(()) };
    let line = step.command.join(" ");
    let failed =
        |why: &dyn std::fmt::Display| Error::Confirm(format!("cannot undo the change: {line}: {why}"));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(&error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(&format!("{} {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}

/// Removes all groups without a daemon: the change has created them.
fn remove_all_groups(invocation: &Invocation<'_>) -> Result<(), Error> {
    let mut command = vec![start::program().display().to_string(), "--teardown".to_owned()];
    if let Some(netns) = invocation.netns {
        command.extend(["--netns".to_owned(), netns.to_owned()]);
    }
    run(&HostStep { first: true, command })
}
