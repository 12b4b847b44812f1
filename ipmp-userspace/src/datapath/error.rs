//! What can go wrong between the daemon and the kernel's BPF side: one line each, with the remedy.

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
    /// The kernel shows no BTF.
    #[error("cannot read {path}: {source}; ipmp needs a kernel with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf {
        /// Where it should be.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The kernel's BTF lacks a field.
    #[error(
        "{path} does not describe struct net_device and sk_buff as ipmp knows them; this kernel is not supported"
    )]
    BadBtf {
        /// Where it is.
        path: &'static str,
    },
    /// There is no BPF file system, and none could be mounted.
    #[error("no BPF file system at {path}: {source}; mount it: mount -t bpf bpf {path}")]
    NoBpffs {
        /// Where it should be.
        path: &'static str,
        /// Why it could not be mounted.
        source: io::Error,
    },
    /// A pin could not be made or removed.
    #[error("cannot write {}: {source}; ipmpd keeps its programs there, the BPF file system must be writable for it", path.display())]
    Pin {
        /// The pin.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Pins of another program or version are in the way.
    #[error("{} is not what this ipmpd would have left there ({what}); stop the other program, or run ipmpd --teardown", path.display())]
    ForeignPin {
        /// The pin.
        path: PathBuf,
        /// In what it differs.
        what: String,
    },
    /// A program was refused by the kernel.
    #[error("the kernel refused the {program} program: {reason}")]
    Load {
        /// Its name.
        program: &'static str,
        /// The kernel's words, one line.
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
    /// A device is not there any more.
    #[error("interface {name} (index {ifindex}) has vanished from this network namespace")]
    Vanished {
        /// Its name.
        name: String,
        /// Its index.
        ifindex: u32,
    },
    /// All group indices are taken.
    #[error("there are {max} groups already: that is the most that one ipmpd serves")]
    TooManyGroups {
        /// How many there may be.
        max: usize,
    },
    /// A system call failed.
    #[error("{call}: {source}")]
    System {
        /// What was called.
        call: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// An error's first line, with the first lines of its causes: what the verifier says is long.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let words = error.to_string();
        let line = words.lines().next().unwrap_or_default().trim_end_matches(':');
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
