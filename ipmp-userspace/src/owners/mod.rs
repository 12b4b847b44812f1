//! Which program of this host configures a NIC, by the files and processes that show it; without D-Bus, which does not run when
//! the first groups are created.
//!
//! | module | program |
//! |---|---|
//! | [`networkd`] | systemd-networkd |
//! | [`network_manager`] | NetworkManager |
//! | [`ifupdown`] | ifupdown: `/etc/network/interfaces` |
//! | [`ifcfg`] | wicked, and the network scripts of RHEL |
//! | [`connman`] | `ConnMan` |
//! | [`dhcp_client`] | a DHCP client of its own |
//! | [`netplan`], [`cloud_init`] | write the configuration of the former |
//! | [`root_file_system`] | none: the server of the root file system, which must not depend on `ipmpd` |

pub mod cloud_init;
pub mod connman;
pub mod dhcp_client;
pub mod ifcfg;
pub mod ifupdown;
pub mod netplan;
pub mod network_manager;
pub mod networkd;
pub mod root_file_system;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, Read},
    net::IpAddr,
    path::{Path, PathBuf},
};

use root_file_system::RootServer;

/// Names another root directory for the files of the other programs; for tests.
pub const ROOT_VARIABLE: &str = "IPMP_HOST_ROOT";
/// Where control groups are, of version 2 and 1.
const CONTROL_GROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"];
/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Longest list of files in a directory.
const MOST_FILES: usize = 4096;
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// The first process is in the network namespace of the programs that configure the host.
const INIT_NAMESPACE: &str = "/proc/1/ns/net";
/// Where named network namespaces are, see ip-netns(8).
const NAMED_NAMESPACES: &str = "/run/netns";

/// A NIC.
#[derive(Clone, Copy, Debug)]
pub struct Nic<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its index.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: [u8; 6],
}

/// The programs that configure NICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// systemd-networkd.
    Networkd,
    /// NetworkManager.
    NetworkManager,
    /// Others: what keeps them from a NIC is no file that could be added.
    Other,
}

/// A program that configures a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Which one.
    pub kind: Kind,
    /// Its name, with that of the program that writes its configuration.
    pub program: String,
    /// The file or the process that shows it.
    pub source: String,
    /// What to do, so that it leaves the NIC and its addresses alone.
    pub remedy: String,
}

impl Owner {
    /// The owner of a NIC, in one line.
    pub fn describe(&self, name: &str) -> String {
        let Self { program, source, remedy, .. } = self;
        format!("{name} is configured by {program} ({source}): {remedy}")
    }
}

/// The files of a host.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The host with its files below this directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The host whose NICs this thread sees. `None`: it is in another network namespace, and the files describe the NICs of the
    /// host's.
    pub fn of_this_namespace() -> Option<Self> {
        if let Some(root) = std::env::var_os(ROOT_VARIABLE) {
            return Some(Self::new(root));
        }
        is_namespace_of_host().then(|| Self::new("/"))
    }

    /// The program that configures a NIC; none: nothing shows one.
    pub fn owner(&self, nic: &Nic<'_>) -> Option<Owner> {
        networkd::owner(self, nic)
            .or_else(|| network_manager::owner(self, nic))
            .or_else(|| ifupdown::owner(self, nic))
            .or_else(|| ifcfg::owner(self, nic))
            .or_else(|| connman::owner(self, nic))
            .or_else(|| dhcp_client::owner(self, nic))
    }

    /// The DHCP client that was started for a NIC: the service does not see it, which sees no processes of others.
    pub fn dhcp_client(&self, nic: &Nic<'_>) -> Option<Owner> {
        dhcp_client::owner(self, nic)
    }

    /// Whether a program runs and has decided not to configure a NIC. NetworkManager's files do not show this decision, only that
    /// there is none to configure it.
    pub fn has_left(&self, kind: Kind, nic: &Nic<'_>) -> bool {
        match kind {
            Kind::Networkd => networkd::has_left(self, nic),
            Kind::NetworkManager => network_manager::has_left(self, nic),
            Kind::Other => false,
        }
    }

    /// Whether systemd-networkd configures an interface of the host; `None`: it has not decided about all of them yet.
    pub fn networkd_has_links(&self) -> Option<bool> {
        networkd::has_links(self)
    }

    /// The server of the root file system, if it is reached through a NIC with these addresses.
    pub fn root_through(&self, nic: &Nic<'_>, addresses: &[IpAddr]) -> Option<RootServer> {
        root_file_system::through(self, nic, addresses)
    }

    /// The text of a file, its beginning if it is large; `None`: there is none, or it cannot be read.
    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = path.as_ref();
        match self.read_bytes(path) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                log::warn!("cannot read {}: {error}; the owner of a NIC may remain unknown", path.display());
                None
            }
        }
    }

    /// The same of a file that only names the author of a configuration, and may be readable by root only.
    fn read_if_permitted(&self, path: impl AsRef<Path>) -> Option<String> {
        self.read_bytes(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn read_bytes(&self, path: impl AsRef<Path>) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(path))?.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The files of a directory whose names end with this, in order, as absolute paths of the host.
    fn files(&self, directory: &str, suffix: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path(directory)) else { return Vec::new() };
        let names = entries.take(MOST_FILES).filter_map(|entry| Some(entry.ok()?.file_name()));
        let mut names: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with(suffix)).collect();
        names.sort();
        names.iter().map(|name| Path::new(directory).join(name)).collect()
    }

    fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// Whether a program runs, as a service of systemd or otherwise: files of a program that has been stopped configure nothing.
    ///
    /// The control group of a service exists while it runs; its processes may be hidden (`ProtectProc=`).
    fn runs(&self, program: &str) -> bool {
        // The kernel keeps 15 bytes of the name.
        let name = &program[..program.len().min(15)];
        let is_name = |comm: String| comm.trim_end() == name;
        CONTROL_GROUPS.iter().any(|place| self.exists(format!("{place}/system.slice/{program}.service")))
            || self
                .processes()
                .any(|process| self.read_if_permitted(format!("/proc/{process}/comm")).is_some_and(is_name))
    }

    /// The processes, by number.
    fn processes(&self) -> impl Iterator<Item = String> {
        let entries = fs::read_dir(self.path("/proc")).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Whether a process is in the network namespace of this thread, as far as that can be read.
    fn is_process_here(&self, process: &str) -> bool {
        let other = namespace(self.path(format!("/proc/{process}/ns/net")).as_os_str());
        other.is_none() || other == namespace(OWN_NAMESPACE.as_ref())
    }

    /// Where a file of the host is.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Whether this thread is in the network namespace of the first process.
fn is_namespace_of_host() -> bool {
    let named = fs::read_dir(NAMED_NAMESPACES).into_iter().flatten();
    let named = named.filter_map(|entry| namespace(entry.ok()?.path().as_os_str()));
    is_same(namespace(OWN_NAMESPACE.as_ref()), namespace(INIT_NAMESPACE.as_ref()), named)
}

/// Whether the own namespace is that of the first process. That of the first process is readable with the capabilities of root
/// only; without them every namespace without a name counts as that one.
fn is_same(
    own: Option<Namespace>,
    first: Option<Namespace>,
    mut named: impl Iterator<Item = Namespace>,
) -> bool {
    match first {
        Some(_) => own == first,
        None => !named.any(|named| own == Some(named)),
    }
}

/// What identifies a namespace: device and inode.
type Namespace = (u64, u64);

/// What identifies the namespace of a file.
fn namespace(path: &OsStr) -> Option<Namespace> {
    use std::os::unix::fs::MetadataExt as _;
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// The value of a key in a file of `KEY=VALUE` lines, the last one if there are several; without white space around it.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim())
    });
    values.next_back().filter(|value| !value.is_empty())
}
