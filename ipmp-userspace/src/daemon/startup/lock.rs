//! One daemon per network namespace: two would write the same maps.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Where the locks of all network namespaces are.
pub(super) const DIRECTORY: &str = "/run/ipmp";

/// Cause the lock cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds it.
    #[error("another ipmpd{} already serves this network namespace; stop it first", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Taken {
        /// Its process.
        pid: Option<u32>,
    },
    /// An I/O error.
    #[error("cannot lock {}: {source}; ipmpd must be able to write there", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// The lock, held while this exists.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of the network namespace with this cookie.
    pub fn take(cookie: u64) -> Result<Self, Error> {
        Self::take_at(Path::new(DIRECTORY).join(format!("{cookie}.lock")))
    }

    fn take_at(path: PathBuf) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.clone(), source };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o644).open(&path);
            let mut file = match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let mut pid = String::new();
                    let _ = file.read_to_string(&mut pid);
                    return Err(Error::Taken { pid: pid.trim().parse().ok() });
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            // The last holder may have removed the file after it was opened here.
            let ours = file.metadata().map_err(failed)?.ino();
            if fs::metadata(&path).is_ok_and(|present| present.ino() == ours) {
                file.set_len(0).map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_exclusive() {
        let path = std::env::temp_dir().join(format!("ipmp-lock-{}", std::process::id()));
        let lock = Lock::take_at(path.clone()).unwrap();
        let error = Lock::take_at(path.clone()).unwrap_err().to_string();
        let expected = format!(
            "another ipmpd (pid {}) already serves this network namespace; stop it first",
            std::process::id()
        );
        assert_eq!(error, expected);
        drop(lock);
        assert!(!path.exists());
        drop(Lock::take_at(path).unwrap());
    }
}
