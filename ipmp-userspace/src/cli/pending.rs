//! A change that is undone unless it is confirmed: `--confirm SECONDS`, `ipmpctl confirm` and `ipmpctl undo`.
//!
//! Before the change its record is on the disk and a process waits for the deadline. It is no child of the daemon, needs no
//! terminal, and starts the daemon if that does not run.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    io::Write,
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    fcntl::{Flock, FlockArg},
    time::{ClockId, clock_gettime},
};

use super::{
    connection::{Invocation, connect_or_start},
    error::Error,
    replace::{Kernel, Replaced},
};
use crate::control::{Client, GroupReport, LastMember, Request, Response, client};

/// Names the directory of the records.
pub(super) const VARIABLE: &str = "IPMP_STATE_DIR";
const DIRECTORY: &str = "/var/lib/ipmp";
const VERSION: u32 = 2;
/// How often the waiting process checks the record.
const POLL: Duration = Duration::from_millis(200);
/// How often and how long an undo at the deadline is tried.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 60;

/// A change that waits for its confirmation.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Pending {
    version: u32,
    /// Another one for each change.
    id: String,
    /// The change, in words.
    change: String,
    /// When it is undone: milliseconds of `CLOCK_BOOTTIME`, and the boot in which that counts.
    deadline: u64,
    boot: String,
    session: Session,
    group: String,
    /// The change has created the group.
    is_new: bool,
    /// What was attached, in this order.
    interfaces: Vec<String>,
    /// The bond that the group replaces.
    bond: Option<Replaced>,
}

impl Pending {
    /// A change of this session, without what it changes.
    fn new(change: String, seconds: u32) -> Self {
        Self {
            version: VERSION,
            id: format!("{}-{}", std::process::id(), uptime()),
            change,
            deadline: deadline(seconds),
            boot: boot(),
            session: Session::present(),
            group: String::new(),
            is_new: false,
            interfaces: Vec::new(),
            bond: None,
        }
    }

    /// Time until the deadline.
    fn left(&self) -> Duration {
        Duration::from_millis(self.deadline.saturating_sub(uptime()))
    }
}

/// What distinguishes one login from another.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Session {
    ssh: Option<String>,
    /// Of the audit system, which `sudo` keeps.
    login: Option<String>,
    /// The scope of systemd-logind, which `sudo` keeps.
    scope: Option<String>,
    terminal: i32,
}

impl Session {
    fn present() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let login = read("/proc/self/sessionid").trim().to_owned();
        let cgroup = read("/proc/self/cgroup");
        let is_scope = |part: &&str| part.starts_with("session-");
        Self {
            ssh: env::var("SSH_CONNECTION").ok(),
            login: Some(login).filter(|login| !login.is_empty() && *login != u32::MAX.to_string()),
            scope: cgroup.split(['/', '\n']).find(is_scope).map(Into::into),
            terminal: nix::unistd::getsid(None).map_or(0, nix::unistd::Pid::as_raw),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        let same = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
        same(&self.ssh, &other.ssh)
            || same(&self.login, &other.login)
            || same(&self.scope, &other.scope)
            || self.terminal == other.terminal
    }
}

/// The record of the change that waits, of one daemon.
pub(super) struct Store {
    directory: PathBuf,
    path: PathBuf,
}

impl Store {
    /// The record of the daemon with this socket.
    pub(super) fn of(socket: &Path) -> Self {
        let directory = env::var_os(VARIABLE).map_or_else(|| DIRECTORY.into(), PathBuf::from);
        let socket = std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
        let name = format!("pending{}", socket.display().to_string().replace('/', "-"));
        Self { path: directory.join(name), directory }
    }

    fn failed(&self, error: &io::Error) -> Error {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "; only root can confirm a change or have it undone",
            _ => "",
        };
        Error::Confirm(format!("cannot use {}: {error}{remedy}", self.path.display()))
    }

    /// One command at a time changes, confirms or undoes.
    fn lock(&self) -> Result<Flock<fs::File>, Error> {
        let create = || {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.directory)?;
            let mut options = fs::OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags(libc::O_NOFOLLOW).open(self.path.with_extension("lock"))
        };
        let file = create().map_err(|error| self.failed(&error))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| self.failed(&error.into()))
    }

    /// The change that waits in this boot. A reboot has undone those before it: nothing is saved meanwhile.
    fn read(&self) -> Option<Pending> {
        let pending: Pending = serde_json::from_str(&fs::read_to_string(&self.path).ok()?).ok()?;
        (pending.boot == boot() && pending.version == VERSION).then_some(pending)
    }

    fn write(&self, pending: &Pending) -> io::Result<()> {
        let new = self.path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The directory may belong to the daemon's user: no link of it is followed.
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
        file.write_all(&serde_json::to_vec(pending)?)?;
        file.sync_all()?;
        fs::rename(new, &self.path)?;
        fs::File::open(&self.directory)?.sync_all()
    }

    fn remove(&self) -> Result<(), Error> {
        let remove = || {
            fs::remove_file(&self.path)?;
            fs::File::open(&self.directory)?.sync_all()
        };
        remove().map_err(|error| self.failed(&error))
    }

    /// Refuses a change while another one waits.
    pub(super) fn refuse_if_pending(&self) -> Result<(), Error> {
        let Some(pending) = self.read() else { return Ok(()) };
        let change = &pending.change;
        let state = match pending.left().as_secs() {
            0 => "was not confirmed in time".to_owned(),
            seconds => format!("is undone in {seconds} s"),
        };
        Err(Error::Confirm(format!(
            "nothing is changed now: {change} {state}; ipmpctl confirm keeps it, ipmpctl undo undoes it"
        )))
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Milliseconds since the boot.
fn uptime() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Makes a change that is undone after `seconds` unless it is confirmed.
pub(super) fn execute(
    invocation: &Invocation<'_>,
    request: &Request,
    seconds: u32,
) -> Result<Response, Error> {
    let Request::Attach { group, interfaces, .. } = request else {
        return Err(Error::Usage("only attach has --confirm".into()));
    };
    let change = format!("attach {} --group {group}", interfaces.join(" "));
    let record = |groups: &[GroupReport]| {
        let known = groups.iter().find(|known| known.is_named(group));
        let is_member =
            |name: &String| known.is_some_and(|known| known.members.iter().any(|m| m.name == *name));
        Pending {
            group: known.map_or(group, |known| &known.name).clone(),
            is_new: known.is_none(),
            interfaces: interfaces.iter().filter(|name| !is_member(name)).cloned().collect(),
            ..Pending::new(change, seconds)
        }
    };
    make(invocation, seconds, record, |client| Ok(client.call(request)?))
}

/// The same of a group that replaces a bond.
pub(super) fn replace(
    invocation: &Invocation<'_>,
    bond: &Replaced,
    seconds: u32,
    change: impl FnOnce(&mut Client) -> Result<Response, Error>,
) -> Result<Response, Error> {
    let text = format!("import {} --apply", bond.name);
    let record = |_: &[GroupReport]| Pending { bond: Some(bond.clone()), ..Pending::new(text, seconds) };
    make(invocation, seconds, record, change)
}

fn make(
    invocation: &Invocation<'_>,
    seconds: u32,
    record: impl FnOnce(&[GroupReport]) -> Pending,
    change: impl FnOnce(&mut Client) -> Result<Response, Error>,
) -> Result<Response, Error> {
    let store = Store::of(invocation.socket);
    let _lock = store.lock()?;
    store.refuse_if_pending()?;
    let mut client = connect_or_start(invocation.socket, invocation.netns, true)?;
    let mut pending = record(&client.groups()?);
    store.write(&pending).map_err(|error| store.failed(&error))?;
    if let Err(error) = arm(invocation, &pending.id) {
        store.remove()?;
        return Err(Error::Confirm(format!("cannot start the process that would undo it: {error}")));
    }
    match change(&mut client) {
        Ok(Response::Done { mut notes, changed: true }) => {
            // A change that took long has its time, too.
            pending.deadline = deadline(seconds);
            store.write(&pending).map_err(|error| store.failed(&error))?;
            notes.push(format!(
                "undone in {seconds} s unless confirmed: open a new connection to this host, and enter there: ipmpctl confirm"
            ));
            Ok(Response::Done { notes, changed: true })
        }
        Ok(response) => store.remove().map(|()| response),
        // The daemon has changed nothing.
        Err(error @ Error::Daemon(client::Error::Refused { .. })) if pending.bond.is_none() => {
            store.remove()?;
            Err(error)
        }
        // What it has done is unknown. If this fails, the process that waits does it.
        Err(error) => match undo_change(invocation, &pending) {
            Ok(_) => store.remove().and(Err(error)),
            Err(other) => Err(Error::Confirm(format!("{error}; it is not undone yet: {other}"))),
        },
    }
}

/// A deadline in milliseconds since the boot.
fn deadline(seconds: u32) -> u64 {
    uptime() + u64::from(seconds) * 1000
}

/// Starts the process that waits for the deadline: under systemd as a unit of its own, since the end of a login may end all
/// processes of it (KillUserProcesses in logind.conf(5)).
fn arm(invocation: &Invocation<'_>, id: &str) -> io::Result<()> {
    let program = env::current_exe()?;
    let is_systemd = Path::new("/run/systemd/system").is_dir();
    let mut command = Command::new(if is_systemd { OsStr::new("systemd-run") } else { program.as_os_str() });
    if is_systemd {
        command.args(["--quiet", "--collect"]).arg(format!("--unit=ipmp-undo-{id}"));
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

/// Keeps the change that waits. Returns what was confirmed.
pub(super) fn confirm(invocation: &Invocation<'_>, force: bool) -> Result<String, Error> {
    let store = Store::of(invocation.socket);
    let _lock = store.lock()?;
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
    store.remove()?;
    if let Some(bond) = &pending.bond {
        bond.delete(&Kernel::open()?)?;
    }
    Ok(pending.change)
}

/// Undoes the change that waits. Returns what was undone, and notes; `None`: nothing waits.
pub(super) fn undo(invocation: &Invocation<'_>) -> Result<Option<(String, Vec<String>)>, Error> {
    let store = Store::of(invocation.socket);
    let _lock = store.lock()?;
    let Some(pending) = store.read() else { return Ok(None) };
    let notes = undo_change(invocation, &pending)?;
    store.remove()?;
    Ok(Some((pending.change, notes)))
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
        let _lock = store.lock()?;
        // The command has changed the deadline, or it was confirmed.
        let Some(pending) = waiting() else { break };
        if !pending.left().is_zero() {
            continue;
        }
        match undo_change(invocation, &pending) {
            Ok(_) => return store.remove(),
            Err(error) if attempts == ATTEMPTS => return Err(error),
            Err(_) => attempts += 1,
        }
        thread::sleep(RETRY_INTERVAL);
    }
    Ok(())
}

/// Detaches what the change has attached; what came from an interface returns to it.
fn undo_change(invocation: &Invocation<'_>, pending: &Pending) -> Result<Vec<String>, Error> {
    let mut client = connect_or_start(invocation.socket, invocation.netns, true)?;
    if let Some(bond) = &pending.bond {
        return bond.restore(&mut client, &Kernel::open()?).map(|()| Vec::new());
    }
    let mut all = Vec::new();
    for interface in pending.interfaces.iter().rev() {
        let Some(members) = members(&mut client, &pending.group)? else { return Ok(all) };
        if !members.contains(interface) {
            continue;
        }
        let is_last = pending.is_new && members.len() == 1;
        let last = if is_last { LastMember::Restore } else { LastMember::MoveBack };
        let request = Request::Detach { interface: interface.clone(), last: Some(last) };
        if let Response::Done { notes, .. } = client.call(&request)? {
            all.extend(notes);
        }
    }
    // The daemon was killed before an interface joined.
    if pending.is_new && members(&mut client, &pending.group)?.is_some_and(|members| members.is_empty()) {
        client.call(&Request::Destroy { group: pending.group.clone() })?;
    }
    Ok(all)
}

/// Members of a group, `None`: it does not exist.
fn members(client: &mut Client, group: &str) -> Result<Option<Vec<String>>, Error> {
    let groups = client.groups()?;
    let group = groups.into_iter().find(|known| known.name == group);
    Ok(group.map(|group| group.members.into_iter().map(|member| member.name).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_is_same_if_login_scope_connection_or_terminal_is() {
        let session = |ssh: &str, login: &str, scope: &str, terminal| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Session { ssh: some(ssh), login: some(login), scope: some(scope), terminal }
        };
        let first = session("10.0.0.9 4711 10.0.0.1 22", "3", "session-3.scope", 100);
        for (other, is_same) in [
            (session("10.0.0.9 4712 10.0.0.1 22", "4", "session-4.scope", 101), false),
            (session("", "", "", 101), false),
            (session("10.0.0.9 4711 10.0.0.1 22", "", "", 101), true),
            // Below sudo, which has a terminal of its own.
            (session("", "3", "", 101), true),
            (session("", "", "session-3.scope", 101), true),
            (session("", "", "", 100), true),
        ] {
            assert_eq!(first.is_same(&other), is_same, "{other:?}");
        }
        let none = session("", "", "", 1);
        assert!(!none.is_same(&session("", "", "", 2)));
    }
}
