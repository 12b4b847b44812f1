//! Errors of the datapath: one line each, with the remedy.

use std::{io, path::PathBuf};

/// An error of the datapath.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks a capability.
    #[error(
        "missing capability {capability}: run ipmpd as root, or give it {capability} (it needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW)"
    )]
    Capability {
        /// Its name.
        capability: &'static str,
    },
    /// The kernel exposes no BTF.
    #[error("cannot read {path}: {source}; ipmp needs a kernel with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf {
        /// Its path.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The kernel's BTF lacks a field.
    #[error(
        "{path} does not contain the fields of struct net_device and sk_buff that ipmp reads; this kernel is not supported"
    )]
    BadBtf {
        /// Its path.
        path: &'static str,
    },
    /// There is no BPF file system, and none could be mounted.
    #[error("no BPF file system at {path}: {source}; mount it: mount -t bpf bpf {path}")]
    NoBpffs {
        /// Its path.
        path: &'static str,
        /// Why it could not be mounted.
        source: io::Error,
    },
    /// The unified hierarchy of cgroups is not mounted.
    #[error("no cgroup2 file system is mounted; mount it: mount -t cgroup2 cgroup2 /sys/fs/cgroup")]
    NoCgroup,
    /// A pin could not be made or removed.
    #[error("cannot write {}: {source}; ipmpd pins its programs there and needs a writable BPF file system", path.display())]
    Pin {
        /// The pin.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A pin of another program or version.
    #[error("{} was not pinned by this version of ipmpd ({what}); stop the other program, or run ipmpd --teardown", path.display())]
    ForeignPin {
        /// The pin.
        path: PathBuf,
        /// The difference.
        what: String,
    },
    /// Groups of a later version.
    #[error(
        "{} has groups of a newer ipmpd (map layout {layout}; this ipmpd has {}): start that one, or run its ipmpd --teardown first",
        path.display(),
        ipmp_common::LAYOUT
    )]
    NewerLayout {
        /// Their pins.
        path: PathBuf,
        /// The version of their maps' layout.
        layout: u32,
    },
    /// Groups of a version that is too old.
    #[error(
        "{} has groups of an older ipmpd (map layout {layout}), which this ipmpd cannot continue: run ipmpd --teardown, then attach again",
        path.display()
    )]
    UnreadLayout {
        /// Their pins.
        path: PathBuf,
        /// The version of their maps' layout.
        layout: u32,
    },
    /// The kernel rejected a program.
    #[error("the kernel rejected the {program} program: {reason}")]
    Load {
        /// Its name.
        program: &'static str,
        /// The last line of the verifier's log.
        reason: String,
    },
    /// A program could not be attached.
    #[error("cannot attach the {program} program to {interface}: {reason}")]
    Attach {
        /// Its name.
        program: &'static str,
        /// The interface.
        interface: String,
        /// Why not, one line.
        reason: String,
    },
    /// A map could not be read or written.
    #[error("cannot use the map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A device was deleted or moved to another network namespace.
    #[error("interface {name} (index {ifindex}) is no longer in this network namespace")]
    Vanished {
        /// Its name.
        name: String,
        /// Its index.
        ifindex: u32,
    },
    /// All group indices are taken.
    #[error("cannot create a group: there are {max} already, the maximum for one ipmpd")]
    TooManyGroups {
        /// The maximum.
        max: usize,
    },
    /// A system call failed.
    #[error("{call}: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// An error's first line, with the first lines of its causes: a verifier log is long.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let full = error.to_string();
        let line = full.lines().next().unwrap_or_default().trim_end_matches(':');
        if !text.contains(line) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(line);
        }
        next = error.source();
    }
    text
}

/// The error of a pin of this path.
pub(super) fn pin_error(path: PathBuf) -> impl FnOnce(aya::pin::PinError) -> Error {
    move |error| Error::Pin { path, source: io::Error::other(one_line(&error)) }
}

/// The error of a map.
pub(super) fn map_error(map: &'static str) -> impl Fn(aya::maps::MapError) -> Error {
    move |error| {
        let source = match error {
            aya::maps::MapError::SyscallError(error) => error.io_error,
            other => io::Error::other(one_line(&other)),
        };
        Error::Map { map, source }
    }
}
