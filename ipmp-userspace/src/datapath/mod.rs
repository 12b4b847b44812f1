//! The datapath seen from user space: loads, pins, attaches and updates the eBPF side.
//!
//! | module | what |
//! |---|---|
//! | [`btf`] | offsets of kernel structures |
//! | [`pins`] | where things are pinned |
//! | [`objects`] | the compiled programs and their constants |
//! | `devices` | where a device is in the kernel |
//! | [`attach`] | tcx and clsact |
//! | [`sentinel`] | the timer that watches links and captures |
//! | [`interval`] | how often |
//! | [`probe_replies`] | what ingress says of answers to probes |
//! | [`group`] | the programs and maps of one group |
//! | `mapped` | words that both sides touch |

pub mod attach;
pub mod btf;
mod devices;
mod error;
pub mod group;
pub mod interval;
mod mapped;
pub mod objects;
pub mod pins;
pub mod probe_replies;
pub mod sentinel;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, rc::Rc};

pub use attach::AttachKind;
pub use error::Error;
pub use group::{Group, GroupSpec, MemberSpec, name_of};
pub use interval::Interval;
use ipmp_common::maps::MAX_GROUPS;
pub use probe_replies::ProbeReplies;
pub use sentinel::Hints;

use self::{btf::Kernel, devices::DeviceFinder, pins::Pins, sentinel::Sentinel};

/// What all groups of a daemon share.
struct Host {
    pins: Pins,
    kernel: Kernel,
    finder: DeviceFinder,
    sentinel: Sentinel,
    kind: AttachKind,
    /// Whether programs may read kernel memory.
    reads_devices: bool,
    /// Whether the programs that log are loaded.
    log: bool,
}

impl Host {
    /// The lowest index that no pinned group has.
    fn free_index(&self) -> Result<u32, Error> {
        let taken: Vec<u32> = self
            .pins
            .groups()?
            .iter()
            .filter_map(|name| group::pinned_index(&self.pins.group(name)))
            .collect();
        (0..MAX_GROUPS as u32)
            .find(|index| !taken.contains(index))
            .ok_or(Error::TooManyGroups { max: MAX_GROUPS })
    }
}

/// The datapath of this network namespace.
pub struct Datapath {
    host: Rc<RefCell<Host>>,
}

impl Datapath {
    /// In the calling thread's network namespace; `log` loads the programs that log.
    ///
    /// # Errors
    /// What the kernel or this process lacks, with the remedy.
    pub fn open(log: bool) -> Result<Self, Error> {
        Self::open_with(log, Interval::default())
    }

    /// The same, with another time between the looks of the sentinel.
    ///
    /// # Errors
    /// As [`Datapath::open`].
    pub fn open_with(log: bool, interval: Interval) -> Result<Self, Error> {
        check_capabilities()?;
        let kernel = Kernel::running()?;
        let pins = Pins::open()?;
        let finder = DeviceFinder::load(&kernel)?;
        let sentinel = Sentinel::open(pins.sentinel(), &kernel, interval)?;
        let reads_devices = sentinel.refused().is_none_or(|reason| !reason.contains("probe_read"));
        let kind = AttachKind::of_this_host();
        let host = Host { pins, kernel, finder, sentinel, kind, reads_devices, log };
        Ok(Self { host: Rc::new(RefCell::new(host)) })
    }

    /// Names of the groups whose pins exist: what a starting daemon takes over.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn pinned_groups(&self) -> Result<Vec<String>, Error> {
        self.host.borrow().pins.groups()
    }

    /// Loads a group, or takes it over.
    ///
    /// # Errors
    /// Any of [`Error`]'s; a new group then leaves nothing.
    pub fn group(&mut self, spec: &GroupSpec) -> Result<Group, Error> {
        Group::open(Rc::clone(&self.host), spec)
    }

    /// The hints, for one reader.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn hints(&self) -> Result<Hints, Error> {
        self.host.borrow().sentinel.hints()
    }

    /// The answers to probes, for one reader: those that arrive from now on.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn probe_replies(&self) -> Result<ProbeReplies, Error> {
        self.host.borrow().sentinel.probe_replies()
    }

    /// Lets ingress hand over echo replies of this ICMP identifier only: that of the daemon's requests. Others are counted
    /// as strange ([`Group::answering`]). Any will do until this is told for the first time; what an earlier daemon told
    /// holds until it is told anew.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_echo_id(&mut self, identifier: u16) -> Result<(), Error> {
        self.host.borrow().sentinel.set_echo_id(identifier)
    }

    /// Which checks are in force, and what could not be had, a sentence each.
    pub fn status(&self) -> Vec<String> {
        let host = self.host.borrow();
        let mut status = vec![format!("programs are attached by {}", host.kind)];
        status.push(if host.reads_devices {
            "carrier and identity of the member are read for every packet".to_owned()
        } else {
            "carriers are not read per packet (the kernel forbids reading its memory): failover waits for netlink".to_owned()
        });
        status.push(match host.sentinel.refused() {
            None => format!("the sentinel watches links every {}", host.sentinel.between_looks()),
            Some(reason) => format!(
                "no sentinel ({reason}): the daemon watches links by netlink, and nobody watches for captures, which \
                 are shown what leaves with capture=on alone"
            ),
        });
        status
    }

    /// Removes what is pinned of a group whose interface has gone, without opening it.
    ///
    /// # Errors
    /// [`Error::Map`] or [`Error::Pin`].
    pub fn remove_group(&mut self, name: &str) -> Result<(), Error> {
        let host = self.host.borrow();
        let directory = host.pins.group(name);
        if let Some(index) = group::pinned_index(&directory) {
            host.sentinel.forget(index);
        }
        group::remove_pinned(&directory)
    }

    /// Removes every program and pin of this network namespace, whether or not a daemon left them. Returns the names of
    /// the groups that were removed.
    ///
    /// # Errors
    /// [`Error::Map`] or [`Error::Pin`].
    pub fn teardown() -> Result<Vec<String>, Error> {
        check_capabilities()?;
        let pins = Pins::open()?;
        let groups = pins.groups()?;
        for name in &groups {
            group::remove_pinned(&pins.group(name))?;
        }
        if pins.sentinel().exists() {
            sentinel::stop_pinned(&pins.sentinel())?;
            pins::remove_all(&pins.sentinel())?;
        }
        pins.remove_if_empty();
        Ok(groups)
    }
}

/// Capabilities by number (`linux/capability.h`) that the datapath cannot do without.
const CAPABILITIES: [(&str, u8); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// Refuses to begin without the capabilities that are needed later.
fn check_capabilities() -> Result<(), Error> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    match CAPABILITIES.iter().rev().find(|(_, number)| effective >> number & 1 == 0) {
        Some(&(capability, _)) => Err(Error::Capability { capability }),
        None => Ok(()),
    }
}
