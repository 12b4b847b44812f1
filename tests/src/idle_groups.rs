//! CPU time and memory of the daemon and the sentinel with many groups without traffic, with and without probes.
//!
//! [`Load`] measures any daemon; [`IdleGroups`] are groups of two members, [`crate::many_groups`] further ones of a daemon.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData};
use ipmp::control::report::GroupReport;
use ipmp::datapath::pins::SENTINEL;
use ipmp_common::maps::{Clock, ClockSettings};
use serde_json::Value;

use crate::command::ip_batch;
use crate::daemon::Daemon;
use crate::kernel_memory::KernelMemory;
use crate::many_groups::veth_pairs;
use crate::network::Lab;
use crate::process::{Memory, cpu_time, memory, wake_ups};
use crate::{Namespace, TIMEOUT, wait_until};

/// Members of each group.
pub const MEMBERS: usize = 2;
/// Last byte of the address of a group's probe target.
const TARGET: u8 = 254;
/// Pause before a measurement, until earlier work has ended.
const SETTLE: Duration = Duration::from_secs(2);

/// Groups of one daemon, with two veth members and one data address each.
#[derive(Debug)]
pub struct IdleGroups<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    groups: usize,
    /// The namespace of the members' peer devices.
    _far: Namespace,
}

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its duration.
    pub time: Duration,
    /// CPU time of the daemon.
    pub daemon: Duration,
    /// How often threads of the daemon were woken up.
    pub wake_ups: u64,
    /// CPU time of the sentinel's ticks: the program, without the interrupt that it runs in.
    pub sentinel: Duration,
    /// Ticks of the sentinel.
    pub ticks: u64,
    /// Memory of the daemon.
    pub memory: Memory,
    /// Memory of all maps and programs that are pinned for the groups and the sentinel.
    pub kernel: KernelMemory,
}

impl<'lab> IdleGroups<'lab> {
    /// Creates groups in a lab, and waits until all their members are usable.
    pub fn create(lab: &'lab Lab, groups: usize) -> Result<Self> {
        Self::make(lab, groups, None)
    }

    /// The same with a test address on every member, a target in every group, and this failure detection time. Waits for
    /// replies to all probes.
    pub fn create_probed(lab: &'lab Lab, groups: usize, fdt: Duration) -> Result<Self> {
        Self::make(lab, groups, Some(fdt))
    }

    fn make(lab: &'lab Lab, groups: usize, fdt: Option<Duration>) -> Result<Self> {
        ensure!((1..=250).contains(&groups), "the number of groups must be 1 to 250, not {groups}");
        let far = lab.namespace("idle")?;
        far.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        let names: Vec<String> = (0..groups).flat_map(members_of).collect();
        veth_pairs(lab.host(), &far, &names)?;
        if fdt.is_some() {
            let bridges: Vec<String> = (0..groups).flat_map(bridge_of).collect();
            ip_batch(Some(&far), &bridges)?;
        }
        let idle = Self { lab, daemon: Daemon::start_in(lab)?, groups, _far: far };
        for number in 0..groups {
            let address = address_of(number, 1);
            idle.daemon.ctl(&format!("create idle{number} --address {address}/24"))?;
            let Some(fdt) = fdt else {
                idle.daemon.ctl(&format!("attach {} --group idle{number}", members_of(number).join(" ")))?;
                continue;
            };
            let target = address_of(number, TARGET);
            idle.daemon.ctl(&format!("set idle{number} fdt={}ms targets={target}", fdt.as_millis()))?;
            for (member, last) in members_of(number).iter().zip(11..) {
                let test = address_of(number, last);
                idle.daemon.ctl(&format!("attach {member} --group idle{number} --test-address {test}/24"))?;
            }
        }
        let ready = wait_until(TIMEOUT, || idle.usable().is_ok_and(|members| members == MEMBERS * groups));
        ensure!(ready, "{} of {} members are usable after {TIMEOUT:?}", idle.usable()?, MEMBERS * groups);
        let answered = || {
            idle.probings().is_ok_and(|all| {
                all.iter().filter(|one| one["replies"].as_u64() > Some(0)).count() == MEMBERS * groups
            })
        };
        ensure!(
            fdt.is_none() || wait_until(TIMEOUT, answered),
            "no replies to some probes after {TIMEOUT:?}"
        );
        Ok(idle)
    }

    fn shown(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.daemon.ctl("show --json")?)?)
    }

    /// The probe reports of all members.
    fn probings(&self) -> Result<Vec<Value>> {
        let shown = self.shown()?;
        let of = |value: &Value, name| value[name].as_array().cloned().unwrap_or_default();
        let members = of(&shown, "groups").into_iter().flat_map(|group| of(&group, "members"));
        Ok(members.flat_map(|member| of(&member, "probing")).collect())
    }

    /// A counter of all probes together: `sent`, `lost`.
    pub fn count(&self, counter: &str) -> Result<u64> {
        let counts = self.probings()?.into_iter().map(|probing| probing["counters"][counter].as_u64());
        counts.sum::<Option<u64>>().with_context(|| format!("`show --json` has no counter {counter}"))
    }

    /// Number of failures that the daemon has logged.
    pub fn failures(&self) -> usize {
        self.daemon.log().iter().filter(|line| line.contains("failure detected")).count()
    }

    /// Usable and live members of all groups.
    fn usable(&self) -> Result<usize> {
        let mut shown = self.shown()?;
        let groups: Vec<GroupReport> = serde_json::from_value(shown["groups"].take())?;
        let members = groups.iter().flat_map(|group| &group.members);
        Ok(members.filter(|member| member.usable && member.live).count())
    }

    /// Measures for this time.
    pub fn measure(&self, time: Duration) -> Result<Load> {
        let load = Load::measure(self.lab, &self.daemon, time)?;
        let members = self.usable()?;
        ensure!(
            members == MEMBERS * self.groups,
            "only {members} members are usable: the measurement is not valid"
        );
        Ok(load)
    }
}

/// The counters of the sentinel.
fn sentinel(lab: &Lab) -> Result<ClockSettings> {
    let path = pins(lab)?.join(SENTINEL).join("clock");
    let data = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let clock: Array<_, Clock> = Map::Array(data).try_into()?;
    Ok(clock.get(&0, 0)?.settings)
}

fn pins(lab: &Lab) -> Result<PathBuf> {
    let root = Path::new("/sys/fs/bpf/ipmp").join(format!("v{}", ipmp_common::LAYOUT));
    Ok(root.join(lab.host().cookie()?.to_string()))
}

impl Load {
    /// Measures a daemon of the lab's host for this time.
    pub fn measure(lab: &Lab, daemon: &Daemon<'_>, time: Duration) -> Result<Self> {
        let pid = daemon.pid().context("the daemon has ended")?;
        std::thread::sleep(SETTLE);
        let (began, used, ticked) = (Instant::now(), cpu_time(pid)?, sentinel(lab)?);
        let before = wake_ups(pid)?;
        std::thread::sleep(time);
        let wake_ups = wake_ups(pid)? - before;
        let (used_after, ticked_after) = (cpu_time(pid)?, sentinel(lab)?);
        let time = began.elapsed();
        Ok(Self {
            time,
            daemon: used_after - used,
            wake_ups,
            sentinel: Duration::from_nanos(ticked_after.spent_ns - ticked.spent_ns),
            ticks: ticked_after.ticks - ticked.ticks,
            memory: memory(pid)?,
            kernel: KernelMemory::pinned(pins(lab)?)?,
        })
    }

    /// Share of one CPU, in percent, of the daemon and of the sentinel.
    pub fn percent(&self) -> (f64, f64) {
        let share = |used: Duration| 100.0 * used.as_secs_f64() / self.time.as_secs_f64();
        (share(self.daemon), share(self.sentinel))
    }
}

/// 10.64.GROUP.LAST
fn address_of(group: usize, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 64, group as u8, last)
}

/// The switch of a group, which replies to its probes.
fn bridge_of(group: usize) -> Vec<String> {
    let mut lines =
        vec![format!("link add s{group} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")];
    lines.extend(members_of(group).iter().map(|member| format!("link set {member} master s{group}")));
    lines.push(format!("link set s{group} up"));
    lines.push(format!("addr add {}/24 dev s{group}", address_of(group, TARGET)));
    lines
}

fn members_of(group: usize) -> Vec<String> {
    (0..MEMBERS).map(|member| format!("i{group}m{member}")).collect()
}
