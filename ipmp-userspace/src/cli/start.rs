//! Starts `ipmpd` for a verb that changes something, as `ifconfig` of OpenSolaris starts `in.mpathd`.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::control::{Client, client, socket};

const PROGRAM: &str = "ipmpd";
/// Where unit files of systemd are: see systemd.unit(5).
const UNITS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// Time for the daemon to load its eBPF programs and adopt existing groups.
const LIMIT: Duration = Duration::from_secs(10);
/// Interval between attempts to connect.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Bytes that are kept of the end of its standard error.
const MAX_STDERR: usize = 16 * 1024;

/// Why the daemon could not be started.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    /// It is started by systemd, which supervises it, and is not running.
    #[error(
        "ipmpd is not running, and only systemd starts it here: systemctl start {0} (systemctl status {0} shows why it ended)"
    )]
    Service(String),
    /// The program does not exist.
    #[error("cannot start {}: not found; install it beside ipmpctl or in PATH", .0.display())]
    Missing(PathBuf),
    /// `execve` failed.
    #[error("cannot start {}: {source}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    /// It exited before it replied on its socket.
    #[error("cannot start ipmpd: {0}")]
    Ended(String),
    /// It runs, but does not reply.
    #[error("ipmpd (pid {pid}) does not reply on {} after {} s; check its log", path.display(), LIMIT.as_secs())]
    Late { pid: u32, path: PathBuf },
    /// Its socket cannot be used.
    #[error(transparent)]
    Client(#[from] client::Error),
}

/// The program that is installed beside this one, else the one on the `PATH`.
pub(super) fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|path| path.with_file_name(PROGRAM));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PROGRAM.into())
}

/// A daemon to be started.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    socket: PathBuf,
    netns: Option<String>,
    limit: Duration,
}

impl Daemon {
    /// The daemon that is installed beside this program, else the one on the `PATH`.
    ///
    /// # Errors
    /// [`Error::Service`] where systemd starts it.
    pub fn new(socket: &Path, netns: Option<&str>) -> Result<Self, Error> {
        if let Some(unit) = service(Path::new("/"), socket, netns) {
            return Err(Error::Service(unit));
        }
        Self::with_program(&program(), socket, netns)
    }

    fn with_program(program: &Path, socket: &Path, netns: Option<&str>) -> Result<Self, Error> {
        // The daemon changes its working directory.
        let socket =
            std::path::absolute(socket).map_err(|source| Error::Spawn { program: program.into(), source })?;
        Ok(Self { program: program.into(), socket, netns: netns.map(Into::into), limit: LIMIT })
    }

    /// Starts it, detached from the session of this command, and waits until it replies on its socket. The error of a daemon
    /// that exits before that is the last line of its standard error.
    pub fn start(&self) -> Result<Client, Error> {
        let mut child = self.spawn()?;
        let deadline = Instant::now() + self.limit;
        let mut stderr = Stderr::of(&mut child);
        let mut pending = None;
        loop {
            let ended = child.try_wait();
            // This daemon, or one that another process started at the same time.
            if let Some(client) = self.connect(&mut pending)? {
                return Ok(client);
            }
            stderr.read();
            match ended {
                Ok(Some(status)) if pending.is_none() => {
                    return Err(Error::Ended(stderr.error(&status.to_string())));
                }
                _ if Instant::now() > deadline => {
                    return Err(Error::Late { pid: child.id(), path: self.socket.clone() });
                }
                _ => thread::sleep(RETRY_INTERVAL),
            }
        }
    }

    /// A client, once the daemon has replied to it; `pending` until then.
    fn connect(&self, pending: &mut Option<Client>) -> Result<Option<Client>, Error> {
        let mut client = match pending.take() {
            Some(client) => client,
            None => match Client::connect(&self.socket) {
                Ok(mut client) => {
                    if client.greet().is_err() {
                        return Ok(None);
                    }
                    client
                }
                Err(client::Error::Contact { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        match client.is_greeted(RETRY_INTERVAL) {
            Ok(true) => Ok(Some(client)),
            Ok(false) => {
                *pending = Some(client);
                Ok(None)
            }
            // That daemon has exited.
            Err(_) => Ok(None),
        }
    }

    fn spawn(&self) -> Result<Child, Error> {
        let mut command = Command::new(&self.program);
        if let Some(netns) = &self.netns {
            command.args([OsStr::new("--netns"), netns.as_ref()]);
        }
        command
            .args([OsStr::new("--socket"), self.socket.as_ref()])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // SAFETY: between fork and exec only async-signal-safe system calls are made.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                // Files inherited from the shell, such as a lock file, must not stay open in the daemon. Before Linux 5.11
                // there is no CLOSE_RANGE_CLOEXEC, and they do.
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
                Ok(())
            });
        }
        command.spawn().map_err(|source| {
            let program = self.program.clone();
            if source.kind() == io::ErrorKind::NotFound {
                Error::Missing(program)
            } else {
                Error::Spawn { program, source }
            }
        })
    }
}

/// The unit that starts the daemon of this socket, where systemd is the service manager and has one.
fn service(root: &Path, socket: &Path, netns: Option<&str>) -> Option<String> {
    // As sd_booted(3) does.
    let is_booted = root.join("run/systemd/system").is_dir();
    let is_default = socket::path(None, netns).is_ok_and(|default| default == socket);
    let (file, unit) = match netns {
        Some(name) => ("ipmpd@.service", format!("ipmpd@{name}.service")),
        None => ("ipmpd.service", "ipmpd.service".to_owned()),
    };
    let is_installed = || UNITS.iter().any(|directory| root.join(directory).join(file).is_file());
    (is_booted && is_default && is_installed()).then_some(unit)
}

/// The end of the daemon's standard error.
struct Stderr {
    pipe: Option<ChildStderr>,
    bytes: Vec<u8>,
}

impl Stderr {
    fn of(child: &mut Child) -> Self {
        let pipe = child.stderr.take().filter(|stderr| {
            // Without O_NONBLOCK reading would block; unread, a full pipe would block the daemon.
            fcntl(stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok()
        });
        Self { pipe, bytes: Vec::new() }
    }

    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        // EAGAIN when the pipe is empty; what was read is in the buffer.
        let _ = pipe.take(1 << 20).read_to_end(&mut self.bytes);
        let surplus = self.bytes.len().saturating_sub(MAX_STDERR);
        self.bytes.drain(..surplus);
    }

    /// The daemon's error, else its last line.
    fn error(&self, status: &str) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let error = lines.clone().rfind(|line| line.starts_with("ipmpd: "));
        match error.or_else(|| lines.next_back()) {
            Some(line) => line.strip_prefix("ipmpd: ").unwrap_or(line).into(),
            None => format!("{status}, without an error message"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{BufRead, BufReader, Write},
        os::unix::net::UnixListener,
    };

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn daemon_is_started_by_systemd_where_its_unit_is_installed() {
        let root = TempDir::new().unwrap();
        let default = socket::path(None, None).unwrap();
        let blue = socket::path(None, Some("blue")).unwrap();
        let of = |socket: &Path, netns| service(root.path(), socket, netns);
        let units = root.path().join("usr/lib/systemd/system");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join("ipmpd.service"), "").unwrap();
        assert_eq!(of(&default, None), None, "systemd does not run");
        fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        assert_eq!(of(&default, None).as_deref(), Some("ipmpd.service"));
        assert_eq!(of(Path::new("/tmp/other.sock"), None), None);
        assert_eq!(of(&blue, Some("blue")), None);
        fs::write(units.join("ipmpd@.service"), "").unwrap();
        assert_eq!(of(&blue, Some("blue")).as_deref(), Some("ipmpd@blue.service"));
    }

    /// A shell script in place of ipmpd.
    fn daemon(directory: &TempDir, script: &str) -> Daemon {
        let program = directory.path().join("ipmpd");
        // Written by another process: a child that another test forks meanwhile would inherit our descriptor, and execve of a
        // file that is open for writing fails with ETXTBSY.
        let mut writer = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .args([program.as_os_str(), script.as_ref()])
            .spawn()
            .unwrap();
        assert!(writer.wait().unwrap().success());
        let mut daemon = Daemon::with_program(&program, &directory.path().join("s"), Some("blue")).unwrap();
        daemon.limit = Duration::from_secs(5);
        daemon
    }

    fn error_of(script: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let error = daemon(&directory, script).start().map(drop).unwrap_err().to_string();
        error.replace(&directory.path().display().to_string(), "DIR")
    }

    #[test]
    fn daemon_that_exits_reports_its_last_error() {
        assert_eq!(
            error_of(
                "echo '[INFO] starting' >&2; echo 'ipmpd: no BTF in this kernel' >&2; echo bye >&2; exit 1"
            ),
            "cannot start ipmpd: no BTF in this kernel"
        );
        assert_eq!(error_of("echo 'cannot load' >&2; exit 1"), "cannot start ipmpd: cannot load");
        assert_eq!(error_of("exit 3"), "cannot start ipmpd: exit status: 3, without an error message");
        assert_eq!(
            error_of("kill -9 $$"),
            "cannot start ipmpd: signal: 9 (SIGKILL), without an error message"
        );
        assert_eq!(
            error_of(
                "head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'ipmpd: too chatty' >&2; exit 1"
            ),
            "cannot start ipmpd: too chatty"
        );
    }

    #[test]
    fn daemon_that_exits_after_bind_reports_its_error() {
        let directory = tempfile::tempdir().unwrap();
        let daemon = daemon(&directory, "sleep 0.3; echo 'ipmpd: no BTF' >&2; exit 1");
        let listener = UnixListener::bind(&daemon.socket).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (connection, _) = listener.accept().unwrap();
                thread::sleep(Duration::from_millis(100));
                fs::remove_file(&daemon.socket).unwrap();
                drop(connection);
            });
            assert_eq!(daemon.start().unwrap_err().to_string(), "cannot start ipmpd: no BTF");
        });
    }

    #[test]
    fn missing_daemon_reports_where_to_install_it() {
        let daemon = Daemon::with_program(Path::new("/nonexistent/ipmpd"), Path::new("/s"), None).unwrap();
        assert_eq!(
            daemon.start().unwrap_err().to_string(),
            "cannot start /nonexistent/ipmpd: not found; install it beside ipmpctl or in PATH"
        );
    }

    #[test]
    fn daemon_that_does_not_reply_times_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut daemon = daemon(&directory, "echo $$ > $4.pid; exec sleep 60");
        daemon.limit = Duration::from_millis(300);
        let Err(Error::Late { pid, .. }) = daemon.start() else { panic!("it has no socket") };
        assert_eq!(fs::read_to_string(directory.path().join("s.pid")).unwrap().trim(), pid.to_string());
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    #[test]
    fn daemon_gets_socket_and_own_session() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo \"$@\" > $4.arguments; cut -d' ' -f6 /proc/$$/stat > $4.session; \
                      ls -l /proc/self/fd > $4.files; exec sleep 30";
        let mut daemon = daemon(&directory, script);
        daemon.limit = Duration::from_secs(20);
        let socket = daemon.socket.clone();
        let file = |extension: &str| fs::read_to_string(format!("{}.{extension}", socket.display()));
        // Without close-on-exec, as a shell opens files.
        let lock = fs::File::create(directory.path().join("a-lock")).unwrap();
        fcntl(&lock, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let deadline = Instant::now() + Duration::from_secs(20);
                while !file("files").is_ok_and(|files| !files.is_empty()) {
                    assert!(Instant::now() < deadline, "the daemon was not started");
                    thread::sleep(RETRY_INTERVAL);
                }
                let listener = UnixListener::bind(&socket).unwrap();
                let (mut stream, _) = listener.accept().unwrap();
                // A connection that is closed before the greeting is a daemon that has exited.
                let greeting = BufReader::new(&stream).split(0).next().unwrap().unwrap();
                assert!(!greeting.is_empty());
                stream.write_all(b"{\"parameters\":{}}\0").unwrap();
            });
            daemon.start().unwrap();
        });
        assert_eq!(file("arguments").unwrap().trim(), format!("--netns blue --socket {}", socket.display()));
        let session: i32 = file("session").unwrap().trim().parse().unwrap();
        assert_ne!(session, nix::unistd::getsid(None).unwrap().as_raw());
        let files = file("files").unwrap();
        assert!(!files.contains("a-lock"), "{files}");
        assert_eq!(files.matches("/dev/null").count(), 1, "{files}");
    }
}
