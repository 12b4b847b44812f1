//! Removes what daemons left of network namespaces that no longer exist: pins and run files, with the cookie of the namespace
//! in their names.
//!
//! Whether a namespace exists is read from the kernel's own list. Neither a daemon nor a process nor a device in it is needed
//! for that: a group whose daemon was killed stays for the next one. Cookies are not used again (`net_gen_cookie` in
//! `net/core/net_namespace.c`), so what is removed is never that of a new namespace.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::lock;
use crate::{
    core::Event,
    datapath::{self, pins},
};

/// How many namespaces one start cleans up after at most; the next one continues.
const AT_ONCE: usize = 256;

/// Removes the pins and run files of network namespaces that no longer exist. Errors are logged. `None`: nothing was removed.
pub fn remove() -> Option<Event> {
    // Daemons of several namespaces may start at once; one of them is enough.
    let directory = File::open(lock::DIRECTORY).ok()?;
    let _lock = Flock::lock(directory, FlockArg::LockExclusiveNonblock).ok()?;
    let own = pins::netns_cookie().ok()?;
    let mut left = BTreeMap::<u64, Vec<PathBuf>>::new();
    for (cookie, path) in pins::of_all_namespaces().into_iter().chain(run_files(Path::new(lock::DIRECTORY))) {
        left.entry(cookie).or_default().push(path);
    }
    left.remove(&own);
    if left.is_empty() {
        return None;
    }
    // After the files, so that the list contains a namespace that was created meanwhile.
    let living = match datapath::living_namespaces() {
        Ok(living) => living?,
        Err(error) => {
            log::warn!(
                "cannot list the network namespaces: {error}; files of those that no longer exist stay"
            );
            return None;
        }
    };
    let dead = left.iter().filter(|(cookie, _)| !living.contains(cookie)).take(AT_ONCE);
    let count = dead.filter(|(_, paths)| paths.iter().all(|path| remove_path(path))).count();
    (count > 0).then_some(Event::DeadNamespacesRemoved { count })
}

/// Directories of state files and locks, by the cookie of their namespace.
fn run_files(directory: &Path) -> impl Iterator<Item = (u64, PathBuf)> {
    fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?;
        Some((name.strip_suffix(".lock").unwrap_or(name).parse().ok()?, entry.path()))
    })
}

/// Removes a file, or a directory with its content; false after an error, which is logged.
fn remove_path(path: &Path) -> bool {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("cannot remove {}, whose network namespace no longer exists: {error}", path.display());
            false
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_cookie_are_run_files_of_a_namespace() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["17", "18.lock", "ipmpd.sock", "19.sock", "blue", "blue.lock", "-1"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let mut cookies: Vec<u64> = run_files(directory.path()).map(|(cookie, _)| cookie).collect();
        cookies.sort_unstable();
        assert_eq!(cookies, [17, 18]);
    }
}
