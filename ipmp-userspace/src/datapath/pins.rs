//! The pins: where they are, and whether a pinned map has the layout that this version expects.
//!
//! `/sys/fs/bpf/ipmp/v<layout>/<netns cookie>/<group>/{maps,programs,links,clsact}/…`; what all groups of a daemon
//! share is beside the groups, in a directory whose name is too long for an interface. Format of the maps: `docs/maps.md`.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use aya::maps::{Map, MapData, MapType};
use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    mount::{MsFlags, mount},
    sys::statfs::statfs,
    unistd::{AccessFlags, faccessat},
};

use super::Error;

/// Mount point of the BPF file system.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Where a service has our directory of it mounted: [`BPFFS`] belongs to root.
const OF_SERVICE: &str = "/run/ipmp/bpf";
/// Directory of the sentinel: longer than any interface name.
pub const SENTINEL: &str = "sentinel-of-all-groups";
/// `SO_NETNS_COOKIE` of `asm-generic/socket.h`.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The pins of one network namespace.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The pins of the calling thread's network namespace. Mounts the BPF file system where there is none.
    ///
    /// # Errors
    /// [`Error::NoBpffs`] or [`Error::Pin`], if there is none or it is read-only.
    pub fn open() -> Result<Self, Error> {
        if !is_bpffs(Path::new(OF_SERVICE)) && !is_bpffs(Path::new(BPFFS)) {
            mount(
                Some("bpf"),
                BPFFS,
                Some("bpf"),
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
                Some("mode=700"),
            )
            .map_err(|error| Error::NoBpffs { path: BPFFS, source: error.into() })?;
        }
        let root = root_of(ipmp_common::LAYOUT, netns_cookie()?);
        make_directory(&root)?;
        // Checked now, not halfway through an adoption.
        faccessat(AT_FDCWD, &root, AccessFlags::W_OK, AtFlags::AT_EACCESS)
            .map_err(|error| Error::Pin { path: root.clone(), source: error.into() })?;
        Ok(Self { root })
    }

    /// The directory that contains them.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Directory of a group.
    pub fn group(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Directory of the sentinel.
    pub fn sentinel(&self) -> PathBuf {
        self.root.join(SENTINEL)
    }

    /// Names of the groups that have pins.
    ///
    /// # Errors
    /// [`Error::Pin`] if the directory cannot be read.
    pub fn groups(&self) -> Result<Vec<String>, Error> {
        let pin = |source| Error::Pin { path: self.root.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(pin)? {
            let name = entry.map_err(pin)?.file_name().to_string_lossy().into_owned();
            if name != SENTINEL {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Moves the pins of groups that have another name now, in two steps: two may have swapped theirs. A group without pins is
    /// skipped.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn rename_groups(&self, names: &[(String, String)]) -> Result<(), Error> {
        // Longer than any interface name.
        let meanwhile = |name: &str| self.root.join(format!("renamed-from-group-{name}"));
        let rename = |from: PathBuf, to: PathBuf| match fs::rename(&from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|source| Error::Pin { path: from, source }),
        };
        names.iter().try_for_each(|(before, _)| rename(self.group(before), meanwhile(before)))?;
        names.iter().try_for_each(|(before, now)| rename(meanwhile(before), self.group(now)))
    }

    /// Removes the directories of this namespace if they are empty.
    pub fn remove_if_empty(&self) {
        for directory in self.root.ancestors().take(3) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

/// Our directory of the BPF file system.
fn directory() -> PathBuf {
    let of_service = Path::new(OF_SERVICE);
    if is_bpffs(of_service) { of_service.into() } else { Path::new(BPFFS).join("ipmp") }
}

pub(super) fn root_of(layout: u32, cookie: u64) -> PathBuf {
    directory().join(format!("v{layout}")).join(cookie.to_string())
}

/// The pins of the calling thread's network namespace in other layouts than ours, by the version of the layout.
///
/// # Errors
/// [`Error::System`].
pub fn of_other_layouts() -> Result<Vec<(u32, Pins)>, Error> {
    let cookie = netns_cookie()?;
    let mut found: Vec<_> = fs::read_dir(directory())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix('v')?.parse().ok())
        .filter(|layout| *layout != ipmp_common::LAYOUT)
        .map(|layout| (layout, Pins { root: root_of(layout, cookie) }))
        .filter(|(_, pins)| pins.root.is_dir())
        .collect();
    found.sort_by_key(|(layout, _)| *layout);
    Ok(found)
}

/// The pins of every network namespace, by its cookie, in every layout.
pub fn of_all_namespaces() -> Vec<(u64, PathBuf)> {
    let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
    entries(&directory())
        .flat_map(|layout| entries(&layout.path()))
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect()
}

/// The cookie of the network namespace: unique until the host reboots.
///
/// # Errors
/// [`Error::System`].
pub fn netns_cookie() -> Result<u64, Error> {
    let system = |call| move |source| Error::System { call, source };
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .or_else(|_| std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)))
        .map_err(system("cannot open a socket"))?;
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `length` bytes into the cookie.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(system("getsockopt(SO_NETNS_COOKIE), which needs Linux 5.14")(io::Error::last_os_error()))
    }
}

fn is_bpffs(path: &Path) -> bool {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
    statfs(path).is_ok_and(|info| info.filesystem_type().0 as u64 == BPF_FS_MAGIC)
}

/// Makes a directory and those above it.
pub fn make_directory(path: &Path) -> Result<(), Error> {
    // A daemon in another namespace may remove the parent directory, empty until now, in between: that it exists, or that it
    // does not, may no longer be true.
    const ATTEMPTS: usize = 100;
    let is_passing =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists);
    let mut result = fs::create_dir_all(path);
    for _ in 1..ATTEMPTS {
        if !result.as_ref().is_err_and(is_passing) {
            break;
        }
        result = fs::create_dir_all(path);
    }
    result.map_err(|source| Error::Pin { path: path.to_owned(), source })
}

/// Removes a pin, if it exists.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Pin { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Removes a directory with every pin in it, if it exists.
pub fn remove_all(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Pin { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The layout of a map.
pub struct Shape {
    /// Its name, which is also the pin's.
    pub name: &'static str,
    /// Its type.
    pub kind: MapType,
    /// Bytes of a key.
    pub key: usize,
    /// Bytes of a value.
    pub value: usize,
    /// Number of entries.
    pub entries: usize,
}

impl Shape {
    /// Rejects a pinned map with another layout, which aya does not check. A map that is not pinned yet passes.
    ///
    /// # Errors
    /// [`Error::ForeignPin`].
    pub fn check(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(self.name);
        if !path.exists() {
            return Ok(());
        }
        let foreign = |what: String| Error::ForeignPin { path: path.clone(), what };
        let map = MapData::from_pin(&path).map_err(|error| foreign(super::error::one_line(&error)))?;
        let info = map.info().map_err(|error| foreign(super::error::one_line(&error)))?;
        let kind = info.map_type().unwrap_or(MapType::Unspecified);
        let found = (kind, info.key_size() as usize, info.value_size() as usize, info.max_entries() as usize);
        let expected = (self.kind, self.key, self.value, self.entries);
        if found == expected {
            Ok(())
        } else {
            Err(foreign(format!(
                "a map with type, key size, value size and entries {found:?}, expected {expected:?}"
            )))
        }
    }
}

/// Opens a pinned map.
///
/// # Errors
/// [`Error::Map`].
pub fn open_map(directory: &Path, name: &'static str) -> Result<MapData, Error> {
    MapData::from_pin(directory.join(name)).map_err(super::error::map_error(name))
}

/// Opens a pinned map as a typed one.
///
/// # Errors
/// [`Error::Map`].
pub fn typed<T: TryFrom<Map, Error = aya::maps::MapError>>(
    directory: &Path,
    name: &'static str,
    variant: fn(MapData) -> Map,
) -> Result<T, Error> {
    T::try_from(variant(open_map(directory, name)?)).map_err(super::error::map_error(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_made_while_another_namespace_removes_its_own() {
        let bpffs = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for cookie in ["1", "2"] {
                let pins = Pins { root: bpffs.path().join("ipmp/v1").join(cookie) };
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        make_directory(pins.root()).unwrap();
                        pins.remove_if_empty();
                    }
                });
            }
        });
    }
}
