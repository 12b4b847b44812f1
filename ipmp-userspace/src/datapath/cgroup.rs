//! The root of the cgroups, to which programs are attached that follow the sockets of all processes.

use std::{
    fs::{self, File},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
};

use aya::programs::CgroupAttachMode;

use super::Error;

/// How programs are attached: by a link, for which the kernel allows other programs beside it in any mode.
pub const MODE: CgroupAttachMode = CgroupAttachMode::Single;

const MOUNTS: &str = "/proc/self/mountinfo";

/// The open root.
pub struct Cgroup {
    path: PathBuf,
    directory: File,
}

impl Cgroup {
    /// Opens it, to attach this program.
    ///
    /// # Errors
    /// [`Error::NoCgroup`] or [`Error::Attach`].
    pub fn root(program: &'static str) -> Result<Self, Error> {
        let mounts = fs::read_to_string(MOUNTS)
            .map_err(|error| refused(PathBuf::from(MOUNTS), program, error.to_string()))?;
        let path = root_of(&mounts).ok_or(Error::NoCgroup)?;
        let directory =
            File::open(&path).map_err(|error| refused(path.clone(), program, error.to_string()))?;
        Ok(Self { path, directory })
    }

    /// The error of a program that is not attached.
    pub fn refused(&self, program: &'static str, reason: String) -> Error {
        refused(self.path.clone(), program, reason)
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn refused(path: PathBuf, program: &'static str, reason: String) -> Error {
    Error::Attach { program, interface: format!("the cgroup {}", path.display()), reason }
}

/// Where the root of the unified hierarchy is mounted, by `/proc/self/mountinfo` (proc_pid_mountinfo(5)): in a container, that of its
/// own part.
fn root_of(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let [root, directory] = mount.split(' ').skip(3).take(2).collect::<Vec<_>>()[..] else { return None };
        // Spaces and other special characters are octal numbers there; a mount at such a place is not the system's.
        let is_root =
            file_system.split(' ').next() == Some("cgroup2") && root == "/" && !directory.contains('\\');
        is_root.then(|| directory.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_in_unified_and_hybrid_hierarchies() {
        let root = |mounts: &str| root_of(mounts);
        assert_eq!(
            root("30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"),
            Some("/sys/fs/cgroup".into())
        );
        assert_eq!(
            root(
                "32 24 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                 33 32 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                 35 32 0:31 /user.slice /srv/part rw - cgroup2 cgroup rw\n\
                 34 32 0:30 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup rw\n"
            ),
            Some("/sys/fs/cgroup/unified".into())
        );
        assert_eq!(root("33 32 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
        assert_eq!(root("\n30 23 0:26 /\n"), None);
    }
}
