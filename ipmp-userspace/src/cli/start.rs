//! Starting `ipmpd` when a changing verb finds none, as `ifconfig` of the reference did.

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

use crate::control::{Client, client};

/// Name of the daemon's program.
const PROGRAM: &str = "ipmpd";
/// How long a daemon may take to load its programs and adopt what it finds.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at the socket.
const PAUSE: Duration = Duration::from_millis(10);
/// How much of what the daemon says is kept: its last words.
const MAX_WORDS: usize = 16 * 1024;

/// Why no daemon could be started.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    /// There is no program of this name.
    #[error("cannot find {}: install it beside ipmpctl or on the PATH, or start it yourself", .0.display())]
    Missing(PathBuf),
    /// The kernel does not run it.
    #[error("cannot start {}: {source}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    /// It ended before its socket answered.
    #[error("ipmpd does not start: {0}")]
    Ended(String),
    /// It runs, and does not answer.
    #[error("ipmpd, process {pid}, has not answered on {} for {} s: look at its log", path.display(), LIMIT.as_secs())]
    Late { pid: u32, path: PathBuf },
    /// Its socket answers, but not us.
    #[error(transparent)]
    Client(#[from] client::Error),
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
    pub fn new(socket: &Path, netns: Option<&str>) -> Result<Self, Error> {
        let beside = std::env::current_exe().ok().map(|path| path.with_file_name(PROGRAM));
        let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| PROGRAM.into());
        Self::with_program(&program, socket, netns)
    }

    fn with_program(program: &Path, socket: &Path, netns: Option<&str>) -> Result<Self, Error> {
        // The daemon's directory is not ours.
        let socket =
            std::path::absolute(socket).map_err(|source| Error::Spawn { program: program.into(), source })?;
        Ok(Self { program: program.into(), socket, netns: netns.map(Into::into), limit: LIMIT })
    }

    /// Starts it, detached from the session that typed the command, and waits until its socket answers. One that ends
    /// before that has said why on standard error.
    pub fn start(&self) -> Result<Client, Error> {
        let mut child = self.spawn()?;
        let deadline = Instant::now() + self.limit;
        let mut words = Words::of(&mut child);
        let mut greeted = None;
        loop {
            let ended = child.try_wait();
            // Ours, or one that was started at the same time and won.
            if let Some(client) = self.look(&mut greeted)? {
                return Ok(client);
            }
            words.listen();
            match ended {
                Ok(Some(status)) if greeted.is_none() => {
                    return Err(Error::Ended(words.last(&status.to_string())));
                }
                _ if Instant::now() > deadline => {
                    return Err(Error::Late { pid: child.id(), path: self.socket.clone() });
                }
                _ => thread::sleep(PAUSE),
            }
        }
    }

    /// Looks once: a client of the daemon as soon as that has answered it.
    fn look(&self, greeted: &mut Option<Client>) -> Result<Option<Client>, Error> {
        let mut client = match greeted.take() {
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
        match client.is_greeted(PAUSE) {
            Ok(true) => Ok(Some(client)),
            Ok(false) => {
                *greeted = Some(client);
                Ok(None)
            }
            // That daemon is gone.
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
        // SAFETY: between fork and exec only system calls are made, which are safe there.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                // A shell's other files, a lock's among them, would stay open as long as the daemon runs. Before Linux
                // 5.11 they do.
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

/// What the daemon says while it starts.
struct Words {
    from: Option<ChildStderr>,
    heard: Vec<u8>,
}

impl Words {
    fn of(child: &mut Child) -> Self {
        let from = child.stderr.take().filter(|stderr| {
            // Its log must neither fill the pipe, which would stop it, nor hold us.
            fcntl(stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok()
        });
        Self { from, heard: Vec::new() }
    }

    fn listen(&mut self) {
        let Some(from) = &mut self.from else { return };
        // It ends with an error when there is nothing to hear yet; what it had is in the buffer.
        let _ = from.take(1 << 20).read_to_end(&mut self.heard);
        let surplus = self.heard.len().saturating_sub(MAX_WORDS);
        self.heard.drain(..surplus);
    }

    /// The daemon's error, or at least something of what it said.
    fn last(&self, status: &str) -> String {
        let text = String::from_utf8_lossy(&self.heard);
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let error = lines.clone().rfind(|line| line.starts_with("ipmpd: "));
        match error.or_else(|| lines.next_back()) {
            Some(line) => line.strip_prefix("ipmpd: ").unwrap_or(line).into(),
            None => format!("it ended with {status} and did not say why"),
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

    /// A daemon that is a shell script.
    fn daemon(directory: &TempDir, script: &str) -> Daemon {
        let program = directory.path().join("ipmpd");
        // By another process: a child that another test forks meanwhile would keep our file open, and the kernel runs no
        // file that is open for writing.
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
    fn a_daemon_that_ends_has_the_last_word() {
        assert_eq!(
            error_of(
                "echo '[INFO] starting' >&2; echo 'ipmpd: no BTF in this kernel' >&2; echo bye >&2; exit 1"
            ),
            "ipmpd does not start: no BTF in this kernel"
        );
        assert_eq!(error_of("echo 'cannot load' >&2; exit 1"), "ipmpd does not start: cannot load");
        assert_eq!(
            error_of("exit 3"),
            "ipmpd does not start: it ended with exit status: 3 and did not say why"
        );
        assert_eq!(
            error_of("kill -9 $$"),
            "ipmpd does not start: it ended with signal: 9 (SIGKILL) and did not say why"
        );
        assert_eq!(
            error_of(
                "head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'ipmpd: too chatty' >&2; exit 1"
            ),
            "ipmpd does not start: too chatty"
        );
    }

    #[test]
    fn a_daemon_that_has_its_socket_and_cannot_go_on() {
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
            assert_eq!(daemon.start().unwrap_err().to_string(), "ipmpd does not start: no BTF");
        });
    }

    #[test]
    fn a_daemon_that_is_not_there() {
        let daemon = Daemon::with_program(Path::new("/nonexistent/ipmpd"), Path::new("/s"), None).unwrap();
        assert_eq!(
            daemon.start().unwrap_err().to_string(),
            "cannot find /nonexistent/ipmpd: install it beside ipmpctl or on the PATH, or start it yourself"
        );
    }

    #[test]
    fn a_daemon_that_never_answers() {
        let directory = tempfile::tempdir().unwrap();
        let mut daemon = daemon(&directory, "echo $$ > $4.pid; exec sleep 60");
        daemon.limit = Duration::from_millis(300);
        let Err(Error::Late { pid, .. }) = daemon.start() else { panic!("it has no socket") };
        assert_eq!(fs::read_to_string(directory.path().join("s.pid")).unwrap().trim(), pid.to_string());
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_daemon_is_given_its_socket_and_detached() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo \"$@\" > $4.arguments; cut -d' ' -f6 /proc/$$/stat > $4.session; \
                      ls -l /proc/self/fd > $4.files; exec sleep 30";
        let mut daemon = daemon(&directory, script);
        daemon.limit = Duration::from_secs(20);
        let socket = daemon.socket.clone();
        let file = |extension: &str| fs::read_to_string(format!("{}.{extension}", socket.display()));
        // Without close-on-exec, as files that a shell opened are.
        let lock = fs::File::create(directory.path().join("a-lock")).unwrap();
        fcntl(&lock, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let deadline = Instant::now() + Duration::from_secs(20);
                while !file("files").is_ok_and(|files| !files.is_empty()) {
                    assert!(Instant::now() < deadline, "the daemon was not started");
                    thread::sleep(PAUSE);
                }
                let listener = UnixListener::bind(&socket).unwrap();
                let (mut stream, _) = listener.accept().unwrap();
                // Closed before it is greeted, it would be a daemon that is gone.
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
