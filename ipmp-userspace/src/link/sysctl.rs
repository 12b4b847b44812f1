//! Settings of interfaces under `/proc/sys/net`: set deliberately, remembered, and put back.
//!
//! These files speak of the network namespace of the thread that opens them, whatever is mounted at `/sys`.

use std::{
    fs::{self, File},
    io::{self, Read},
};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::priority::at_normal_priority;

/// What a group interface needs. It answers for its addresses by the inbound member alone, whatever address a packet
/// was sent from, and keeps its neighbours when it has no carrier for a moment. When an address is removed, the others of
/// its network stay: the kernel would take them for its secondaries, and remove them with it.
const GROUP: &[(&str, &str, &str)] = &[
    ("ipv4", "arp_announce", "2"),
    ("ipv4", "arp_evict_nocarrier", "0"),
    ("ipv4", "promote_secondaries", "1"),
    ("ipv6", "ndisc_evict_nocarrier", "0"),
];

/// What a member needs: to answer for its own addresses alone, to keep the others of a network when one is removed or
/// changed, to take what its route would not, and to invent no IPv6 addresses. Existing ones stay, also while it is set
/// down.
const MEMBER: &[(&str, &str, &str)] = &[
    ("ipv4", "arp_ignore", "1"),
    ("ipv4", "promote_secondaries", "1"),
    ("ipv4", "rp_filter", "2"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "autoconf", "0"),
    ("ipv6", "addr_gen_mode", "1"),
    ("ipv6", "keep_addr_on_down", "1"),
];

/// Of which the kernel takes the maximum of all interfaces and one (`IN_DEV_ARP_IGNORE` in `include/linux/inetdevice.h`), and
/// a higher value than a member's does harm: from 2 on, no ARP requests from other subnets are answered.
const ALL: &[(&str, &str, &str)] = &[("ipv4", "arp_ignore", "1")];

/// In place of an interface: the settings of all.
pub const ALL_INTERFACES: &str = "all";

/// What the far end of a veth group interface needs: to say nothing.
const FAR_END: &[(&str, &str, &str)] = &[("ipv6", "disable_ipv6", "1")];

/// Whether packets are sent from the addresses of the interface alone.
const OWN_SOURCES: &str = "use_oif_addrs_only";

/// Most bytes of a value: a number.
const MAX_VALUE: usize = 64;

/// What an interface is, to its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A group interface.
    Group,
    /// A member.
    Member,
    /// The far end of a group interface that is a veth.
    FarEnd,
}

/// A setting that was changed, and what it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Name of the setting.
    pub setting: String,
    /// Value before.
    pub before: String,
    /// Value that we gave it.
    pub ours: String,
}

impl Saved {
    /// The setting of an interface as the command `sysctl` names it. Slashes, as `sysctl` accepts them, if the interface has a
    /// dot in its name.
    pub fn name(&self, interface: &str) -> String {
        let separator = if interface.contains('.') { "/" } else { "." };
        ["net", &self.family, "conf", interface, &self.setting].join(separator)
    }
}

fn path(family: &str, interface: &str, setting: &str) -> String {
    format!("/proc/sys/net/{family}/conf/{interface}/{setting}")
}

/// What has to change for an interface to have the settings of its role, and what it has now. A setting that this
/// kernel does not have is left out.
pub fn plan(interface: &str, role: Role) -> Result<Vec<Saved>, Error> {
    let wanted = match role {
        Role::Group => GROUP,
        Role::Member => MEMBER,
        Role::FarEnd => FAR_END,
    };
    differences(interface, wanted)
}

/// Where [`set_own_sources`] was called with `true`: what has to change for that to be in force.
pub fn plan_own_sources(interface: &str) -> Result<Vec<Saved>, Error> {
    differences(interface, &[("ipv6", OWN_SOURCES, "1")])
}

/// The settings of all interfaces that override those of members.
pub fn plan_all() -> Result<Vec<Saved>, Error> {
    let is_higher = |saved: &Saved| {
        let [found, ours] =
            [&saved.before, &saved.ours].map(|value| value.parse::<i32>().unwrap_or_default());
        found > ours
    };
    Ok(differences(ALL_INTERFACES, ALL)?.into_iter().filter(is_higher).collect())
}

fn differences(interface: &str, wanted: &[(&str, &str, &str)]) -> Result<Vec<Saved>, Error> {
    let mut plan = Vec::new();
    for &(family, setting, ours) in wanted {
        let path = path(family, interface, setting);
        match read(&path).map(|text| text.trim().to_owned()) {
            Ok(before) if before == ours => {}
            Ok(before) => {
                plan.push(Saved {
                    family: family.into(),
                    setting: setting.into(),
                    before,
                    ours: ours.into(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Sysctl { what: "read", path, source }),
        }
    }
    Ok(plan)
}

/// Reads a value. For some settings the kernel repeats the call while another thread holds the lock of the network configuration, also
/// for this.
fn read(path: &str) -> io::Result<String> {
    at_normal_priority(|| {
        let mut bytes = [0; MAX_VALUE];
        // All of the value comes at once, or not at all.
        let length = File::open(path)?.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    })
}

/// Writes a value, likewise.
fn write(path: &str, value: &str) -> io::Result<()> {
    at_normal_priority(|| fs::write(path, value))
}

/// Changes what was planned; on an error everything is put back.
pub fn apply(interface: &str, plan: &[Saved]) -> Result<(), Error> {
    for saved in plan {
        let path = path(&saved.family, interface, &saved.setting);
        if let Err(source) = write(&path, &saved.ours) {
            restore(interface, plan);
            return Err(Error::Sysctl { what: "write", path, source });
        }
    }
    Ok(())
}

/// Restores the settings except those that another program has changed since. A missing interface has none.
pub fn restore(interface: &str, saved: &[Saved]) {
    for Saved { family, setting, before, ours } in saved.iter().rev() {
        let path = path(family, interface, setting);
        let now = read(&path).or_else(|_| read(&path));
        if now.is_ok_and(|now| now.trim() == ours)
            && let Err(error) = write(&path, before).or_else(|_| write(&path, before))
        {
            log::warn!("cannot put {path} back to {before}: {error}; do it by hand");
        }
    }
}

/// Whether IPv6 packets that leave by the interface are sent from its own addresses alone, where the sender has not
/// chosen one. Without this the kernel takes any address of the host before a link-local one.
pub fn set_own_sources(interface: &str, only: bool) -> Result<(), Error> {
    let path = path("ipv6", interface, OWN_SOURCES);
    write(&path, if only { "1" } else { "0" }).map_err(|source| Error::Sysctl { what: "write", path, source })
}

/// Whether the host forwards IPv6 packets that arrive on the interface.
pub fn forwards_ipv6(interface: &str) -> bool {
    read(&path("ipv6", interface, "forwarding")).is_ok_and(|text| text.trim() != "0")
}
