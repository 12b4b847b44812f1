//! Loads, pins, attaches and updates the eBPF programs and their maps.
//!
//! | module | what |
//! |---|---|
//! | [`btf`] | offsets of kernel structures |
//! | [`pins`] | where programs, links and maps are pinned |
//! | [`objects`] | the compiled programs and their constants |
//! | `devices` | addresses of devices in the kernel |
//! | [`attach`] | tcx and clsact |
//! | [`order`] | where our program is among those at its hook |
//! | [`sentinel`] | the timer that monitors links and captures |
//! | [`interval`] | time between its ticks |
//! | [`preparation`] | programs that are loaded before they are attached |
//! | [`probe_replies`] | replies to probes, from ingress |
//! | [`tcp_timeouts`] | timeouts of the host's TCP connections |
//! | [`tcp_connections`] | the host's TCP connections with their counters |
//! | [`source_spread`] | source addresses of the host's TCP connections |
//! | `cgroup` | the root of the cgroups, where timeouts and source addresses have their programs |
//! | [`group`] | the programs and maps of one group |
//! | `upgrade` | groups whose maps have an older layout |
//! | `mapped` | maps that both sides access while packets flow |
//! | `syscall` | `bpf(2)`, for what aya has no function for |

pub mod attach;
pub mod btf;
mod cgroup;
mod devices;
mod error;
pub mod group;
pub mod interval;
mod mapped;
pub mod objects;
pub mod order;
pub mod pins;
pub mod preparation;
pub mod probe_replies;
pub mod sentinel;
pub mod source_spread;
mod syscall;
pub mod tcp_connections;
pub mod tcp_timeouts;
#[cfg(test)]
mod tests;
mod upgrade;

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

pub use attach::{AttachKind, other_filters};
pub use error::Error;
pub use group::{Group, GroupSpec, MemberSpec, ProgramOrder, StaleReport, name_of};
pub use interval::Interval;
use ipmp_common::maps::MAX_GROUPS;
pub use order::{program_name, tcx_programs_of};
pub use preparation::{Loader, Preparation, Prepared};
pub use probe_replies::ProbeReplies;
pub use sentinel::{Hints, Liveness};
pub use source_spread::SourceSpread;
pub use tcp_connections::TcpConnections;
pub use tcp_timeouts::TcpTimeouts;
pub use upgrade::Upgraded;

use self::{
    btf::Kernel,
    devices::DeviceFinder,
    pins::Pins,
    preparation::Waiting,
    sentinel::{Intervals, Sentinel},
};

/// Shared by all groups of a daemon.
struct Host {
    pins: Pins,
    kernel: Kernel,
    finder: DeviceFinder,
    sentinel: Sentinel,
    kind: AttachKind,
    /// Whether the programs that log are loaded.
    log: bool,
    /// Programs that are loaded and not attached yet.
    waiting: RefCell<Waiting>,
}

impl Host {
    /// The lowest index that no pinned group has.
    fn free_index(&self) -> Result<u32, Error> {
        let mut taken = Vec::new();
        for name in self.pins.groups()? {
            taken.extend(group::pinned_index(&self.pins.group(&name))?);
        }
        (0..MAX_GROUPS as u32)
            .find(|index| !taken.contains(index))
            .ok_or(Error::TooManyGroups { max: MAX_GROUPS })
    }
}

/// The datapath of this network namespace.
pub struct Datapath {
    host: Rc<RefCell<Host>>,
    /// Pins of older layouts, with their versions.
    older: Vec<(u32, Pins)>,
    upgraded: Vec<Upgraded>,
}

impl Datapath {
    /// In the calling thread's network namespace; `log` loads the programs that log.
    ///
    /// # Errors
    /// A missing capability or kernel feature, with the remedy.
    pub fn open(log: bool) -> Result<Self, Error> {
        Self::open_with(log, Interval::default())
    }

    /// The same, with another time between ticks of the sentinel.
    ///
    /// # Errors
    /// As [`Datapath::open`].
    pub fn open_with(log: bool, interval: Interval) -> Result<Self, Error> {
        check_capabilities()?;
        let older = upgrade::older()?;
        let kernel = Kernel::running()?;
        let pins = Pins::open()?;
        let mut finder = DeviceFinder::load(&kernel)?;
        let namespace = if finder.reads_kernel_memory() { Some(finder.namespace()?) } else { None };
        let sentinel = Sentinel::open(pins.sentinel(), &kernel, namespace, interval)?;
        let kind = AttachKind::of_this_host();
        let mut host = Host { pins, kernel, finder, sentinel, kind, log, waiting: RefCell::default() };
        let upgraded = upgrade::run(&mut host, &older)?;
        Ok(Self { host: Rc::new(RefCell::new(host)), older, upgraded })
    }

    /// The groups that had an older layout of the maps. Their programs do not use the present maps before the group is loaded and
    /// its members are attached; [`Datapath::finish_upgrade`] then removes what they used.
    pub fn upgraded(&self) -> &[Upgraded] {
        &self.upgraded
    }

    /// All groups are loaded, and their members attached: ends the sentinels of older layouts.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn finish_upgrade(&mut self) -> Result<(), Error> {
        upgrade::finish(&std::mem::take(&mut self.older))
    }

    /// Names of the groups whose pins exist: a starting daemon adopts them.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn pinned_groups(&self) -> Result<Vec<String>, Error> {
        self.host.borrow().pins.groups()
    }

    /// Moves the pins of groups that have another name now, all at once: two may have swapped theirs.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn rename_groups(&mut self, names: &[(String, String)]) -> Result<(), Error> {
        self.host.borrow().pins.rename_groups(names)
    }

    /// Loads a group, or adopts it.
    ///
    /// # Errors
    /// Any [`Error`]; a new group then leaves nothing.
    pub fn group(&mut self, spec: &GroupSpec) -> Result<Group, Error> {
        Group::open(Rc::clone(&self.host), spec)
    }

    /// The programs of a group without members, to be loaded before [`Datapath::group`].
    ///
    /// # Errors
    /// [`Error::Pin`] or [`Error::TooManyGroups`].
    pub fn prepare_group(&self, spec: &GroupSpec, has_far_end: bool) -> Result<Vec<Preparation>, Error> {
        Group::prepare(&self.host.borrow(), spec, has_far_end)
    }

    /// Those of these programs that must be loaded before they are attached: neither one that waits, nor one that an earlier daemon has
    /// loaded and pinned.
    pub fn missing(&self, programs: Vec<Preparation>) -> Vec<Preparation> {
        self.host.borrow().waiting.borrow().missing(programs)
    }

    /// Keeps a loaded program until it is attached.
    pub fn keep(&mut self, prepared: Prepared) {
        self.host.borrow().waiting.borrow_mut().keep(prepared);
    }

    /// The programs that groups need and that are not loaded. Each is returned once; [`Datapath::finish_load`] gets its result.
    pub fn take_wanted(&mut self) -> Vec<Preparation> {
        self.host.borrow().waiting.borrow_mut().take_wanted()
    }

    /// Such a program is loaded; `None`: it could not be. Whether it was the last one.
    pub fn finish_load(&mut self, preparation: Preparation, program: Option<Prepared>) -> bool {
        self.host.borrow().waiting.borrow_mut().finish(preparation, program)
    }

    /// Discards loaded programs that have not been attached, as after an error.
    pub fn discard_prepared(&mut self) {
        self.host.borrow().waiting.borrow_mut().discard();
    }

    /// The hints, for one reader.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn hints(&self) -> Result<Hints, Error> {
        self.host.borrow().sentinel.hints()
    }

    /// The replies to probes that arrive from now on, for one reader.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn probe_replies(&self) -> Result<ProbeReplies, Error> {
        self.host.borrow().sentinel.probe_replies()
    }

    /// Sets the ICMP identifier of the daemon's echo requests: ingress delivers replies with this one and counts others
    /// ([`Group::reply_counters`]). Until it is set for the first time, ingress delivers any; it persists across restarts.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_echo_id(&mut self, identifier: u16) -> Result<(), Error> {
        self.host.borrow().sentinel.set_echo_id(identifier)
    }

    /// Whether the sentinel runs; `now_ns` is `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn sentinel_liveness(&self, now_ns: u64) -> Result<Liveness, Error> {
        self.host.borrow().sentinel.liveness(now_ns)
    }

    /// Starts the sentinel again. If that fails, it is refused from then on.
    ///
    /// # Errors
    /// [`Error::Load`] with the reason.
    pub fn restart_sentinel(&mut self) -> Result<(), Error> {
        self.host.borrow_mut().sentinel.restart()
    }

    /// Makes the sentinel check links at once, and frequently for a while: something has changed.
    pub fn request_tick(&self) {
        self.host.borrow().sentinel.request_tick();
    }

    /// Whether the sentinel can run.
    pub fn sentinel_runs(&self) -> bool {
        self.host.borrow().sentinel.refused().is_none()
    }

    /// Which checks are in force and which are unavailable, a sentence each.
    pub fn status(&self) -> Vec<String> {
        let host = self.host.borrow();
        let carrier = if host.finder.reads_kernel_memory() {
            "carrier and identity of the member are read for every packet"
        } else {
            "carriers are not read per packet (kernel lockdown forbids programs to read kernel memory): failover waits for netlink"
        };
        let sentinel = match host.sentinel.refused() {
            None => {
                let Intervals { frequent, frequent_at_most, idle } = host.sentinel.intervals();
                let mut line = format!("the sentinel checks links every {frequent}");
                if frequent_at_most != frequent {
                    line += &format!(" to {frequent_at_most}");
                }
                if idle != frequent {
                    line += &format!(" for 1 s after a change, else every {idle}");
                }
                if host.sentinel.has_carrier_events() {
                    line += ", and when the kernel changes a carrier";
                }
                line
            }
            Some(reason) => format!(
                "no sentinel ({reason}): the daemon monitors links by netlink; captures on the group interface show \
                 outbound packets only with capture=on"
            ),
        };
        vec![format!("programs are attached by {}", host.kind), carrier.to_owned(), sentinel]
    }

    /// Removes the pins of a group whose interface was deleted, without opening it.
    ///
    /// # Errors
    /// [`Error::Map`] or [`Error::Pin`].
    pub fn remove_group(&mut self, name: &str) -> Result<(), Error> {
        let host = self.host.borrow();
        let directory = host.pins.group(name);
        // The pins are removed in any case: a group that the sentinel still watches has no devices any more.
        if let Ok(Some(index)) = group::pinned_index(&directory) {
            host.sentinel.remove_group(index);
        }
        group::remove_pinned(&directory)
    }

    /// Removes every program and pin of this network namespace, in older layouts as well. Returns the names of the removed groups.
    ///
    /// # Errors
    /// [`Error::NewerLayout`], [`Error::Map`] or [`Error::Pin`].
    pub fn teardown() -> Result<Vec<String>, Error> {
        check_capabilities()?;
        let older = upgrade::removable()?;
        let pins = Pins::open()?;
        let mut groups = pins.groups()?;
        for (_, pins) in &older {
            for name in pins.groups()? {
                group::remove_pinned(&pins.group(&name))?;
                groups.push(name);
            }
        }
        upgrade::finish(&older)?;
        groups.sort();
        groups.dedup();
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

/// Cookies of all network namespaces of the host; `None` if they cannot be read, as with `lockdown=confidentiality`.
///
/// # Errors
/// A missing capability or kernel feature, with the remedy.
pub fn living_namespaces() -> Result<Option<BTreeSet<u64>>, Error> {
    check_capabilities()?;
    DeviceFinder::load(&Kernel::running()?)?.namespaces()
}

/// The capabilities that the datapath needs, by number (`linux/capability.h`).
const CAPABILITIES: [(&str, u8); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// Fails now instead of halfway through an attach.
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
