//! The display: blocks with the numbers and names of flags of the reference (docs/reference.md 1.6 and 7.2).

use std::{fmt::Write as _, net::IpAddr};

use rtnetlink::packet_route::link::LinkFlags;

use super::{classic, grammar::Show, host::Host};
use crate::{
    control::report::{GroupReport, MemberReport},
    link::Device,
    types::network,
};

/// The flags, in the order of their bits.
const FLAGS: [(&str, u64); 19] = [
    ("UP", 0x1),
    ("BROADCAST", 0x2),
    ("LOOPBACK", 0x8),
    ("POINTOPOINT", 0x10),
    ("RUNNING", 0x40),
    ("NOARP", 0x80),
    ("PROMISC", 0x100),
    ("ALLMULTI", 0x200),
    ("MULTICAST", 0x800),
    ("DEPRECATED", 0x4_0000),
    (IPV4, 0x100_0000),
    (IPV6, 0x200_0000),
    ("NOFAILOVER", 0x800_0000),
    ("FAILED", 0x1000_0000),
    ("STANDBY", 0x2000_0000),
    ("INACTIVE", 0x4000_0000),
    ("OFFLINE", 0x8000_0000),
    (VIRTUAL, 0x20_0000_0000),
    ("IPMP", 0x80_0000_0000),
];

/// What an interface without an IPv4 address has.
const NO_ADDRESS: (IpAddr, u8) = (IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8);

const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";
/// An interface without hardware that is no IPMP interface: the loopback interface.
const VIRTUAL: &str = "VIRTUAL";

/// The flags of the kernel, by name.
const OF_KERNEL: [(&str, LinkFlags); 8] = [
    ("UP", LinkFlags::Up),
    ("BROADCAST", LinkFlags::Broadcast),
    ("LOOPBACK", LinkFlags::Loopback),
    ("POINTOPOINT", LinkFlags::Pointopoint),
    ("RUNNING", LinkFlags::Running),
    ("NOARP", LinkFlags::Noarp),
    ("PROMISC", LinkFlags::Promisc),
    ("MULTICAST", LinkFlags::Multicast),
];

/// An interface without a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("status: SIOCGLIFFLAGS: {0}: no such interface")]
pub struct Missing(String);

/// The blocks of a host. `root`: hardware addresses are shown.
///
/// # Errors
/// The host does not have the interface.
pub fn show(what: &Show, host: &Host, root: bool) -> Result<String, Missing> {
    let mut text = String::new();
    for v6 in [false, true] {
        if what.v6.is_some_and(|only| only != v6) {
            continue;
        }
        for device in host.devices.iter().filter(|device| is_wanted(what, host, device)) {
            block(&mut text, what, host, (device, v6, root));
        }
    }
    match &what.interface {
        Some(interface) if text.is_empty() => {
            let number =
                if interface.logical > 0 { format!(":{}", interface.logical) } else { String::new() };
            Err(Missing(format!("{}{number}", interface.name)))
        }
        _ => Ok(text),
    }
}

/// Of all interfaces those that are up or have an address.
fn is_wanted(what: &Show, host: &Host, device: &Device) -> bool {
    let is_up = device.flags.contains(LinkFlags::Up);
    match &what.interface {
        Some(interface) => interface.name == device.name,
        None => {
            let has_address = host.addresses.iter().any(|(index, _)| *index == device.ifindex);
            (is_up || has_address) && what.up.is_none_or(|up| up == is_up)
        }
    }
}

/// A logical interface as it is shown.
struct Entry {
    number: u16,
    address: IpAddr,
    /// `None`: the netmask is 0.
    prefix: Option<u8>,
    mtu: u32,
    flags: String,
}

/// The blocks of an interface in a family, one for each address. IPv4 without an address has a block too.
fn block(text: &mut String, what: &Show, host: &Host, (device, v6, root): (&Device, bool, bool)) {
    let group = host.group(&device.name);
    let membership = host.membership(&device.name);
    let is_classic = |group: &GroupReport| what.classic || group.classic;
    if what.interface.is_none() && group.is_some_and(|group| is_classic(group) && !group.members.is_empty()) {
        return;
    }
    let entries = match membership {
        Some((group, member)) if is_classic(group) => classic_entries(device, group, member, v6),
        _ => entries(device, host, group, membership.map(|(_, member)| member), v6),
    };
    let broadcast = device.flags.contains(LinkFlags::Broadcast);
    let groupname = group.or(membership.map(|(group, _)| group)).map(|group| &group.groupname);
    for Entry { number, address, prefix, mtu, flags } in entries {
        if what.interface.as_ref().is_some_and(|one| one.logical > 0 && one.logical != number) {
            continue;
        }
        let name = if number == 0 { device.name.clone() } else { format!("{}:{number}", device.name) };
        let _ = writeln!(text, "{name}: flags={flags} mtu {mtu} index {}", device.ifindex);
        match (address, prefix) {
            (IpAddr::V4(v4), Some(prefix)) => {
                let mask = u32::from(network::netmask(prefix));
                let _ = write!(text, "\tinet {v4} netmask {mask:x}");
                if broadcast {
                    let _ = write!(text, " broadcast {}", std::net::Ipv4Addr::from(u32::from(v4) | !mask));
                }
                text.push('\n');
            }
            (IpAddr::V4(v4), None) => {
                let _ = writeln!(text, "\tinet {v4} netmask 0");
            }
            (IpAddr::V6(v6), prefix) => {
                let _ = writeln!(text, "\tinet6 {v6}/{}", prefix.unwrap_or_default());
            }
        }
        if number > 0 {
            continue;
        }
        if let Some(groupname) = groupname {
            let _ = writeln!(text, "\tgroupname {groupname}");
        }
        if root && group.is_none() && device.ethernet && !device.flags.contains(LinkFlags::Loopback) {
            let [a, b, c, d, e, f] = device.mac;
            let _ = writeln!(text, "\tether {a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x}");
        }
    }
}

/// The addresses that are on an interface, in their order.
fn entries(
    device: &Device,
    host: &Host,
    group: Option<&GroupReport>,
    member: Option<&MemberReport>,
    v6: bool,
) -> Vec<Entry> {
    let own = group.map(|group| &group.addresses).or(member.map(|member| &member.addresses));
    let mut addresses: Vec<(IpAddr, u8)> = match own {
        Some(reported) => reported.iter().map(|known| (known.address, known.prefix)).collect(),
        None => {
            let own = host.addresses.iter().filter(|(index, _)| *index == device.ifindex);
            own.map(|(_, address)| (address.ip, address.prefix)).collect()
        }
    };
    addresses.retain(|(address, _)| address.is_ipv6() == v6);
    if addresses.is_empty() && !v6 {
        addresses.push(NO_ADDRESS);
    }
    let flags = flags(device, group.map(|group| &group.flags).or(member.map(|member| &member.flags)), v6);
    let entry = |(number, (address, prefix))| Entry {
        number,
        address,
        prefix: Some(prefix),
        mtu: device.mtu,
        flags: flags.clone(),
    };
    (0..).zip(addresses).map(entry).collect()
}

/// The logical interfaces of a member of classic IPMP. Only test addresses are deprecated and stay.
fn classic_entries(device: &Device, group: &GroupReport, member: &MemberReport, v6: bool) -> Vec<Entry> {
    let placed = classic::place(group, v6);
    let without = |removed: &[&str]| {
        let kept = member.flags.iter().filter(|flag| !removed.contains(&flag.as_str()));
        flags(device, Some(&kept.cloned().collect()), v6)
    };
    let of_data = without(&["DEPRECATED", "NOFAILOVER"]);
    let mut entries = Vec::new();
    if !v6 && !placed.iter().any(|one| one.member == member.name && one.number == 0) {
        let (address, prefix) = NO_ADDRESS;
        entries.push(if classic::is_base_away(group, &member.name, &placed, v6) {
            let flags = without(&["UP", "DEPRECATED"]);
            Entry { number: 0, address, prefix: None, mtu: 0, flags }
        } else {
            Entry { number: 0, address, prefix: Some(prefix), mtu: device.mtu, flags: of_data.clone() }
        });
    }
    for one in placed.iter().filter(|one| one.member == member.name) {
        entries.push(Entry {
            number: one.number,
            address: one.address.address,
            prefix: Some(one.address.prefix),
            mtu: device.mtu,
            flags: if one.is_data { of_data.clone() } else { without(&[]) },
        });
    }
    entries
}

/// Number and names of the flags of an interface in a family: those that the daemon reports, else those of the kernel.
fn flags(device: &Device, reported: Option<&Vec<String>>, v6: bool) -> String {
    let is_set = |name: &str| match (name, reported) {
        (IPV4, _) => !v6,
        (IPV6, _) => v6,
        (VIRTUAL, _) => device.flags.contains(LinkFlags::Loopback),
        (_, Some(reported)) => reported.iter().any(|flag| flag == name),
        _ => OF_KERNEL.iter().any(|(known, flag)| *known == name && device.flags.contains(*flag)),
    };
    let set: Vec<(&str, u64)> = FLAGS.into_iter().filter(|(name, _)| is_set(name)).collect();
    let number = set.iter().fold(0, |sum, (_, bit)| sum | bit);
    let names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
    format!("{number:x}<{}>", names.join(","))
}

#[cfg(test)]
mod tests;
