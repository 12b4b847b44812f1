//! The path of the control socket, and how a daemon binds it.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Directory of the sockets.
pub const DIRECTORY: &str = "/run/ipmp";
/// Name of the socket of a daemon that was given no network namespace, without its `.sock`.
pub const DEFAULT_NAME: &str = "ipmpd";
/// Environment variable that names the socket.
pub const VARIABLE: &str = "IPMP_SOCKET";

/// Why the socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    /// The name would lead to another directory, or to the default socket.
    #[error("{0:?} cannot name a network namespace: give the name that `ip netns list` shows")]
    Namespace(String),
    /// Another daemon has it.
    #[error("ipmpd is already running on {}: stop it, or give this one a --socket of its own", .0.display())]
    Running(PathBuf),
    /// The path exists and is not a socket.
    #[error("{} exists and is not a socket: remove it, or give another --socket", .0.display())]
    InTheWay(PathBuf),
    /// The file system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
}

/// Path of the control socket: `--socket`, else that of `--netns`, else `IPMP_SOCKET`, else the default. Arguments
/// override the environment.
pub fn path(socket: Option<&Path>, netns: Option<&str>) -> Result<PathBuf, Error> {
    resolve(socket, netns, std::env::var_os(VARIABLE).map(PathBuf::from))
}

fn resolve(
    socket: Option<&Path>,
    netns: Option<&str>,
    environment: Option<PathBuf>,
) -> Result<PathBuf, Error> {
    // Also with --socket: the daemon could not enter the namespace.
    if let Some(name) = netns {
        let other = name.is_empty() || matches!(name, "." | ".." | DEFAULT_NAME);
        if other || name.contains(['/', '\0']) {
            return Err(Error::Namespace(name.into()));
        }
    }
    Ok(match (socket, netns, environment) {
        (Some(path), ..) => path.into(),
        (None, Some(name), _) => Path::new(DIRECTORY).join(format!("{name}.sock")),
        (None, None, Some(path)) if !path.as_os_str().is_empty() => path,
        _ => Path::new(DIRECTORY).join(format!("{DEFAULT_NAME}.sock")),
    })
}

/// A bound control socket; removed on drop.
#[derive(Debug)]
pub struct Listening {
    path: PathBuf,
    listener: UnixListener,
    _lock: Flock<File>,
}

impl Listening {
    /// Creates the directory, removes the socket of a killed daemon, binds the socket, and permits every user to connect,
    /// since every user may read. A lock beside it, `PATH.lock`, decides between two daemons that start at once.
    pub fn new(path: &Path) -> Result<Self, Error> {
        let file = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { what, path, source }
        };
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(file("create the directory", directory))?;
        }
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(file("open", &lock_path))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => Error::Running(path.into()),
            errno => Error::File { what: "lock", path: lock_path.clone(), source: errno.into() },
        })?;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(file("inspect", path)(error)),
            Ok(there) if !std::os::unix::fs::FileTypeExt::is_socket(&there.file_type()) => {
                return Err(Error::InTheWay(path.into()));
            }
            // Another program that does not use the lock may listen there.
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(Error::Running(path.into())),
            Ok(_) => fs::remove_file(path).map_err(file("remove", path))?,
        }
        let listener = UnixListener::bind(path).map_err(file("bind", path))?;
        fs::set_permissions(path, Permissions::from_mode(0o666))
            .map_err(file("set the permissions of", path))?;
        Ok(Self { path: path.into(), listener, _lock: lock })
    }

    /// A handle on the listener, to serve it.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // The lock file stays: removing it would let two daemons lock two files of the same name.
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: Result<PathBuf, Error>) -> String {
        path.map_or_else(|e| e.to_string(), |p| p.display().to_string())
    }

    #[test]
    fn arguments_override_environment() {
        let typed = Some(Path::new("/a"));
        let environment = || Some(PathBuf::from("/b"));
        assert_eq!(text(resolve(typed, Some("blue"), environment())), "/a");
        assert_eq!(text(resolve(None, Some("blue"), environment())), "/run/ipmp/blue.sock");
        assert_eq!(text(resolve(None, None, environment())), "/b");
        assert_eq!(text(resolve(None, None, Some("".into()))), "/run/ipmp/ipmpd.sock");
        assert_eq!(text(resolve(None, None, None)), "/run/ipmp/ipmpd.sock");
    }

    #[test]
    fn namespace_names_outside_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "ipmpd"] {
            assert_eq!(
                text(resolve(Some(Path::new("/a")), Some(name), None)),
                format!("{name:?} cannot name a network namespace: give the name that `ip netns list` shows")
            );
        }
    }

    #[test]
    fn second_daemon_is_refused_and_killed_one_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/ipmpd.sock");
        let first = Listening::new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert_eq!(
            Listening::new(&path).unwrap_err().to_string(),
            format!(
                "ipmpd is already running on {}: stop it, or give this one a --socket of its own",
                path.display()
            )
        );
        UnixStream::connect(&path).expect("the first daemon still has its socket");
        drop(first);
        assert!(!path.exists());

        // A killed daemon leaves its socket behind.
        drop(UnixListener::bind(&path).unwrap());
        let second = Listening::new(&path).unwrap();
        UnixStream::connect(second.path()).unwrap();
    }

    #[test]
    fn existing_file_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert_eq!(
            Listening::new(&path).unwrap_err().to_string(),
            format!("{} exists and is not a socket: remove it, or give another --socket", path.display())
        );
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn socket_of_another_program_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ipmpd.sock");
        let _other = UnixListener::bind(&path).unwrap();
        assert!(matches!(Listening::new(&path), Err(Error::Running(_))));
    }
}
