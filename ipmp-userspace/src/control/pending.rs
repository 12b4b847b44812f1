//! The record of a change that is undone unless it is confirmed (docs/confirm.md).
//!
//! It belongs to root, which writes it before the change and removes it afterwards. The daemon reads it: while it exists, only
//! the process that makes or undoes the change can change anything.

use std::{
    env, fs, io,
    io::{Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    fcntl::{Flock, FlockArg},
    time::{ClockId, clock_gettime},
    unistd::geteuid,
};
use serde::{Deserialize, Serialize};

/// Names the directory of the records.
pub const VARIABLE: &str = "IPMP_STATE_DIR";
const DIRECTORY: &str = "/var/lib/ipmp";
const VERSION: u32 = 2;
/// Ending of a file that an undo has replaced.
const REPLACED: &str = "unconfirmed";

/// A change that waits for its confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    version: u32,
    /// Another one for each change.
    pub id: String,
    /// The change, in words.
    pub change: String,
    /// After how many seconds it is undone.
    pub seconds: u32,
    /// When it is undone: milliseconds of `CLOCK_BOOTTIME`, and the boot in which that counts.
    pub deadline: u64,
    boot: String,
    /// Where it was made.
    pub session: Session,
    /// The process that makes or undoes it now; `None`: it is made.
    pub process: Option<u32>,
    /// The groups before the change, as the daemon has reported them; `None`: it is being recorded.
    pub state: Option<String>,
    /// There were groups before the change.
    pub had_groups: bool,
    /// Files before the change.
    pub files: Vec<RecordedFile>,
    /// What undoes changes of the host.
    pub steps: Vec<HostStep>,
    /// The bond that a group replaces.
    pub bond: Option<ReplacedBond>,
}

impl Pending {
    /// A change of this process that begins now.
    pub fn new(change: String, seconds: u32) -> Self {
        let process = std::process::id();
        let mut pending = Self {
            version: VERSION,
            id: format!("{process}-{}", uptime()),
            change,
            seconds,
            deadline: 0,
            boot: boot(),
            session: Session::present(),
            process: Some(process),
            state: None,
            had_groups: true,
            files: Vec::new(),
            steps: Vec::new(),
            bond: None,
        };
        pending.begin();
        pending
    }

    /// Its time begins now.
    pub fn begin(&mut self) {
        self.deadline = uptime() + u64::from(self.seconds) * 1000;
    }

    /// Time until the deadline.
    pub fn left(&self) -> Duration {
        Duration::from_millis(self.deadline.saturating_sub(uptime()))
    }

    /// Whether it was made since the host was started.
    pub fn is_of_this_boot(&self) -> bool {
        self.boot == boot()
    }

    /// Why another change is refused.
    pub fn refusal(&self) -> String {
        let change = &self.change;
        let state = match self.left().as_secs() {
            0 => "was not confirmed in time".to_owned(),
            seconds => format!("is undone in {seconds} s"),
        };
        format!("nothing is changed now: {change} {state}; ipmpctl confirm keeps it, ipmpctl undo undoes it")
    }

    /// Restores the files as they were before the change. Those that it replaces stay, with `.unconfirmed` at their names.
    ///
    /// # Errors
    /// The file that cannot be restored.
    pub fn restore_files(&self) -> Result<(), (PathBuf, io::Error)> {
        self.files.iter().try_for_each(|file| file.restore().map_err(|error| (file.path.clone(), error)))
    }
}

/// A file before the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Its path.
    pub path: PathBuf,
    /// Its mode and its content; `None`: it did not exist.
    pub content: Option<(u32, Vec<u8>)>,
}

impl RecordedFile {
    /// The file as it is now.
    ///
    /// # Errors
    /// It exists and cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let content = match fs::read(path) {
            Ok(content) => Some((fs::metadata(path)?.permissions().mode() & 0o7777, content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), content })
    }

    fn restore(&self) -> io::Result<()> {
        let now = Self::of(&self.path)?;
        if now == *self {
            return Ok(());
        }
        let beside = |ending: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(".");
            name.push(ending);
            PathBuf::from(name)
        };
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        if let Some((mode, content)) = &now.content {
            replace(&beside(REPLACED), content, *mode)?;
        }
        match &self.content {
            Some((mode, content)) => {
                fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
                // A link stays one.
                let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
                replace(&path, content, *mode)?;
            }
            None => fs::remove_file(&self.path)?,
        }
        fs::File::open(directory)?.sync_all()
    }
}

/// What undoes a change of the host that is not one of a group, as a renamed interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStep {
    /// Before the groups are restored, not afterwards.
    pub first: bool,
    /// Program and arguments. It must succeed if it is repeated.
    pub command: Vec<String>,
}

/// A bond that a group replaces. Indexes stay the same as long as the host runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedBond {
    /// Its name, which the group gets.
    pub name: String,
    /// The name that it gets.
    pub kept: String,
    /// Its index.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: [u8; 6],
    /// Indexes of its ports, that first which transmits, and the MACs that they have when they leave.
    pub ports: Vec<(u32, [u8; 6])>,
    /// The first one does not transmit yet.
    pub selects: bool,
}

/// What distinguishes one login from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    ssh: Option<String>,
    /// Of the audit system, which `sudo` keeps.
    login: Option<String>,
    /// The scope of systemd-logind, which `sudo` keeps.
    scope: Option<String>,
    terminal: i32,
}

impl Session {
    /// That of this process.
    pub fn present() -> Self {
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

    /// Whether both are one login.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
        same(&self.ssh, &other.ssh)
            || same(&self.login, &other.login)
            || same(&self.scope, &other.scope)
            || self.terminal == other.terminal
    }
}

/// The record of the change that waits, of one daemon.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    path: PathBuf,
    applied: PathBuf,
}

impl Store {
    /// The record of the daemon with this socket.
    pub fn of(socket: &Path) -> Self {
        Self::in_directory(&env::var_os(VARIABLE).map_or_else(|| DIRECTORY.into(), PathBuf::from), socket)
    }

    fn in_directory(directory: &Path, socket: &Path) -> Self {
        let socket = std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
        let name = socket.display().to_string().replace('/', "-");
        Self {
            path: directory.join(format!("pending{name}")),
            applied: directory.join(format!("applied{name}")),
            directory: directory.to_owned(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One command at a time changes, confirms or undoes.
    ///
    /// # Errors
    /// The lock cannot be used.
    pub fn lock(&self) -> io::Result<Flock<fs::File>> {
        self.create_directory()?;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW).open(self.path.with_extension("lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    fn create_directory(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.directory)
    }

    /// The change that waits in this boot.
    pub fn read(&self) -> Option<Pending> {
        self.read_any().filter(Pending::is_of_this_boot)
    }

    /// The change that waits, of this boot or an earlier one. Root uses its own record only: the directory can belong to the
    /// daemon's user.
    pub fn read_any(&self) -> Option<Pending> {
        let mut file =
            fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&self.path).ok()?;
        let owner = file.metadata().ok()?.uid();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let pending: Pending = serde_json::from_slice(&bytes).ok()?;
        (pending.version == VERSION && (owner == 0 || owner == geteuid().as_raw())).then_some(pending)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// It is not on the disk.
    pub fn write(&self, pending: &Pending) -> io::Result<()> {
        self.create_directory()?;
        replace(&self.path, &serde_json::to_vec(pending)?, 0o644)?;
        fs::File::open(&self.directory)?.sync_all()
    }

    /// Removes the record.
    ///
    /// # Errors
    /// It is still there.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        fs::File::open(&self.directory)?.sync_all()
    }

    /// Undoes a change that an earlier boot did not confirm: its groups do not exist any more, its files do. Returns the change.
    ///
    /// # Errors
    /// The file that cannot be restored; the record stays.
    pub fn undo_of_earlier_boot(&self) -> Result<Option<String>, (PathBuf, io::Error)> {
        let Some(pending) = self.read_any().filter(|pending| !pending.is_of_this_boot()) else {
            return Ok(None);
        };
        pending.restore_files()?;
        self.remove().map_err(|error| (self.path.clone(), error))?;
        Ok(Some(pending.change))
    }

    /// Keeps the texts of all configuration files as they were applied, for the undo of a later `apply`.
    ///
    /// # Errors
    /// They are not on the disk.
    pub fn write_applied(&self, texts: &[(PathBuf, String)]) -> io::Result<()> {
        if self.read_applied().as_deref() == Some(texts) {
            return Ok(());
        }
        self.create_directory()?;
        replace(&self.applied, &serde_json::to_vec(texts)?, 0o600)
    }

    /// The texts of all configuration files as they were applied last; `None`: unknown.
    pub fn read_applied(&self) -> Option<Vec<(PathBuf, String)>> {
        serde_json::from_slice(&fs::read(&self.applied).ok()?).ok()
    }
}

/// Replaces a file as a whole: after a crash it is the old or the new one.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().as_bytes().to_vec();
    name.extend(b".new");
    let new = PathBuf::from(std::ffi::OsString::from(std::ffi::OsStr::from_bytes(&name)));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // No link is followed in a directory that belongs to another user.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(new, path)
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Milliseconds since the boot.
fn uptime() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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

    #[test]
    fn reboot_before_confirmation_restores_files_byte_for_byte() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::in_directory(&directory.path().join("state"), Path::new("/run/s.sock"));
        let path = |name: &str| directory.path().join("etc").join(name);
        fs::create_dir(directory.path().join("etc")).unwrap();
        fs::write(path("ipmp.toml"), b"# old \xff\n").unwrap();
        fs::set_permissions(path("ipmp.toml"), fs::Permissions::from_mode(0o640)).unwrap();
        let mut pending = Pending::new("apply".into(), 60);
        pending.files = ["ipmp.toml", "new.toml"].map(|name| RecordedFile::of(&path(name)).unwrap()).to_vec();
        store.write(&pending).unwrap();
        fs::write(path("ipmp.toml"), "new").unwrap();
        fs::write(path("new.toml"), "new").unwrap();
        assert_eq!(store.undo_of_earlier_boot().unwrap(), None, "it is of this boot");
        assert_eq!(store.read(), Some(pending.clone()));

        pending.boot = "another".into();
        store.write(&pending).unwrap();
        assert_eq!(store.read(), None);
        assert_eq!(store.undo_of_earlier_boot().unwrap().as_deref(), Some("apply"));
        assert_eq!(fs::read(path("ipmp.toml")).unwrap(), b"# old \xff\n");
        assert_eq!(fs::metadata(path("ipmp.toml")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read(path("ipmp.toml.unconfirmed")).unwrap(), b"new");
        assert!(!path("new.toml").exists() && path("new.toml.unconfirmed").exists());
        assert!(store.read_any().is_none());
        assert_eq!(store.undo_of_earlier_boot().unwrap(), None);
    }

    #[test]
    fn applied_texts_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::in_directory(&directory.path().join("state"), Path::new("/run/s.sock"));
        assert_eq!(store.read_applied(), None);
        let texts = vec![(PathBuf::from("/etc/ipmp/ipmp.toml"), "[group.g0]\n".to_owned())];
        store.write_applied(&texts).unwrap();
        assert_eq!(store.read_applied(), Some(texts));
    }
}
