//! Every decoder of ipmp, as a function that takes any bytes at all.
//!
//! | target | what it decodes | where that comes from |
//! |---|---|---|
//! | `frame` | Ethernet, ARP, IP, Neighbour Discovery, answers to probes, frames between members | the network |
//! | `call` | calls on the control socket | local users |
//! | `reply` | replies and events on the control socket | the process on the daemon's socket |
//! | `text` | addresses, names, settings, times, options | command lines, calls and files |
//! | `ifconfig` | lines of `ipmp-ifconfig`, netmasks and routes | command lines, a file, the kernel |
//! | `hostname` | `hostname.*` and `hosts` files, and their import | the operator |
//! | `import` | bonds and teams of networkd, netplan, ifupdown, NetworkManager and teamd, and their import | the operator |
//! | `mpathd` | `/etc/default/mpathd` | the operator |
//! | `state` | the file of what there was before | an earlier daemon |
//! | `netlink` | links, addresses, routes, neighbours | the kernel |
//! | `proc` | multicast groups and MACs in `/proc` | the kernel |
//! | `owners` | configuration and state of network managers, command lines of DHCP clients | other programs of the host |
//! | `firewall` | rules of nftables and of the older iptables | the kernel |
//! | `btf` | offsets of structures | the kernel |
//!
//! Each says whether it accepted the bytes, and panics where something is wrong: where a decoder does, where what was decoded
//! is not the same when it has been written and read again, or where two decoders disagree.
//!
//! `corpus/NAME` keeps what has been found interesting for the target of that name, and every input that ever was a fault.
//! The tests here replay it, and play with it for seconds; `cargo xtask fuzz` lets libFuzzer loose on it for as long as one
//! likes.

mod guarded;
pub mod mutate;
mod targets;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use targets::TARGETS;

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its corpus too.
    pub name: &'static str,
    /// Longest input that makes sense, in bytes.
    pub longest: usize,
    /// Decodes; whether it accepted the bytes.
    pub run: fn(&[u8]) -> bool,
}

impl Target {
    /// The target of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Directory of its corpus.
    pub fn directory(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }

    /// Its corpus: the names of the files in their order, and what is in them.
    ///
    /// # Errors
    /// What the file system says.
    pub fn corpus(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut inputs = Vec::new();
        for entry in fs::read_dir(self.directory())? {
            let entry = entry?;
            inputs.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
        }
        inputs.sort();
        Ok(inputs)
    }
}
