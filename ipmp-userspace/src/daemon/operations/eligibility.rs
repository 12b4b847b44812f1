//! Whether an interface can join a group (docs/reference.md 1.4). Each refusal names the interface and the remedy.

use ipmp_common::steer::MAX_MEMBERS;
use rtnetlink::packet_route::link::LinkFlags;

use crate::{
    control::request::{Refused, reason},
    link::{Device, GroupInterface},
};

/// The configuration around an interface.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The group that it joins.
    pub group: &'a str,
    /// The group that it is a member of already.
    pub member_of: Option<&'a str>,
    /// Whether it is a group interface.
    pub is_group: bool,
    /// Its master, if it has one.
    pub master: Option<&'a Device>,
}

/// Refuses an interface that cannot be a member.
pub fn check(device: &Device, around: Surroundings<'_>) -> Result<(), Refused> {
    let name = &device.name;
    let unsuitable = |text: String| Err(Refused::new(reason::UNSUITABLE, text));
    if around.is_group {
        return unsuitable(format!(
            "{name} is a group interface, which cannot be a member: attach the NICs themselves to {}",
            around.group
        ));
    }
    if let Some(other) = around.member_of {
        let text = if other == around.group {
            format!("{name} is a member of {other} already")
        } else {
            format!("{name} is a member of {other}: detach it there first (ipmpctl detach {name})")
        };
        return Err(Refused::new(reason::ALREADY_MEMBER, text));
    }
    if GroupInterface::is_far_end(device) {
        return unsuitable(format!("{name} is the far end of a group interface, which must not be used"));
    }
    if device.kind == "vrf" {
        return unsuitable(format!(
            "{name} is a VRF, which cannot be a member: put the group interface into it after attach"
        ));
    }
    if device.flags.contains(LinkFlags::Loopback) {
        return unsuitable(format!(
            "{name} is a loopback interface: only Ethernet interfaces can be members"
        ));
    }
    if device.flags.contains(LinkFlags::Pointopoint) {
        return unsuitable(format!(
            "{name} is a point-to-point interface: only Ethernet interfaces can be members"
        ));
    }
    if !device.ethernet {
        return unsuitable(format!("{name} is not an Ethernet interface, as every member must be"));
    }
    if device.flags.contains(LinkFlags::Noarp) {
        return unsuitable(format!("{name} does no ARP, which a member must do: ip link set {name} arp on"));
    }
    if device.unmonitored_bond {
        return unsuitable(format!(
            "{name} is a bond that does not monitor the links of its ports, and stays up when all of them have failed: ip link \
             set {name} type bond miimon 100"
        ));
    }
    if let Some(index) = device.master {
        let (master, kind) = around.master.map_or_else(
            || (format!("interface {index}"), "master"),
            |master| {
                (master.name.clone(), if master.kind.is_empty() { "master" } else { master.kind.as_str() })
            },
        );
        return Err(Refused::new(
            reason::IN_USE,
            format!("{name} belongs to {master} ({kind}): take it out first (ip link set {name} nomaster)"),
        ));
    }
    Ok(())
}

/// Refuses an interface for which a group with these members, names and MACs, has no place.
pub fn check_place(device: &Device, group: &str, members: &[(String, [u8; 6])]) -> Result<(), Refused> {
    let name = &device.name;
    if let Some((twin, _)) = members.iter().find(|(_, mac)| *mac == device.mac) {
        return Err(Refused::new(
            reason::DUPLICATE_MAC,
            format!(
                "{name} has the hardware address of {twin}, which a group can have only once: give it another (ip link set \
                 {name} address …)"
            ),
        ));
    }
    if members.len() >= MAX_MEMBERS {
        return Err(Refused::new(
            reason::FULL,
            format!(
                "{name} cannot join {}: a group has {MAX_MEMBERS} members at most; attach it to another group, or \
                 detach a member first",
                group
            ),
        ));
    }
    Ok(())
}

/// What a device is to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The interface of this group, or stands for it.
    Group(String),
    /// A member of this group, or about to be.
    Member(String),
}

/// Refuses an interface that is stacked on a group or a member, and one with devices on it that would receive nothing more
/// (docs/attach.md).
pub fn check_stacking(
    device: &Device,
    devices: &[Device],
    role: impl Fn(u32) -> Option<Role>,
) -> Result<(), Refused> {
    let name = &device.name;
    for lower in lower_devices(device, devices) {
        match role(lower.ifindex) {
            Some(Role::Group(group)) => {
                let text = format!(
                    "{name} is stacked on group interface {}: its packets would loop; attach the NICs themselves to \
                     {group}",
                    lower.name
                );
                return Err(Refused::new(reason::UNSUITABLE, text));
            }
            // Frames with a VLAN tag pass by the group.
            Some(Role::Member(group)) if device.kind != "vlan" => {
                let text = format!(
                    "{name} is stacked on {}, which is a member of {group}: detach {} first (ipmpctl detach {})",
                    lower.name, lower.name, lower.name
                );
                return Err(Refused::new(reason::IN_USE, text));
            }
            _ => {}
        }
    }
    // ipvlan_addr_lookup() of the kernel: packets to other addresses stay on the interface below.
    if matches!(device.kind.as_str(), "ipvlan" | "ipvtap") {
        let below = devices.iter().find(|lower| device.below == Some(lower.ifindex));
        let below = below.map_or("the NIC below it", |lower| lower.name.as_str());
        let text = format!(
            "{name} is an {} device, which receives only packets to its own addresses: attach {below} itself, without {name} \
             (ip link del {name})",
            device.kind
        );
        return Err(Refused::new(reason::UNSUITABLE, text));
    }
    let shares = |upper: &&Device| {
        upper.below == Some(device.ifindex)
            && matches!(upper.kind.as_str(), "macvlan" | "macvtap" | "ipvlan" | "ipvtap")
    };
    if let Some(upper) = devices.iter().find(shares) {
        let text = format!(
            "{name} has the {} device {} on it, which would receive no ARP, Neighbour Discovery and broadcast any more: \
             delete it first (ip link del {})",
            upper.kind, upper.name, upper.name
        );
        return Err(Refused::new(reason::IN_USE, text));
    }
    Ok(())
}

/// The devices that a device lies on, and its ports, and theirs.
fn lower_devices<'a>(device: &Device, devices: &'a [Device]) -> Vec<&'a Device> {
    let mut found: Vec<&Device> = Vec::new();
    let mut open = vec![device];
    while let Some(upper) = open.pop() {
        let is_lower =
            |lower: &&Device| upper.below == Some(lower.ifindex) || lower.master == Some(upper.ifindex);
        for lower in devices.iter().filter(is_lower) {
            if lower.ifindex != device.ifindex && found.iter().all(|known| known.ifindex != lower.ifindex) {
                found.push(lower);
                open.push(lower);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic() -> Device {
        Device::sample("eth0", 3)
    }

    fn around() -> Surroundings<'static> {
        Surroundings { group: "production0", member_of: None, is_group: false, master: None }
    }

    fn refusal(change: impl Fn(&mut Device)) -> Refused {
        let mut device = nic();
        change(&mut device);
        check(&device, around()).unwrap_err()
    }

    #[test]
    fn nic_is_accepted() {
        assert_eq!(check(&nic(), around()), Ok(()));
        assert_eq!(check_place(&nic(), "production0", &[("eth1".into(), [2, 0, 0, 0, 0, 4])]), Ok(()));
    }

    #[test]
    fn other_interfaces_are_unsuitable() {
        for (change, text) in [
            (
                (|device| device.flags |= LinkFlags::Loopback) as fn(&mut Device),
                "eth0 is a loopback interface",
            ),
            (|device| device.flags |= LinkFlags::Pointopoint, "eth0 is a point-to-point interface"),
            (|device| device.ethernet = false, "eth0 is not an Ethernet interface"),
            (|device| device.flags |= LinkFlags::Noarp, "eth0 does no ARP"),
            (
                |device| device.unmonitored_bond = true,
                "eth0 is a bond that does not monitor the links of its ports",
            ),
            (
                |device| {
                    device.kind = "veth".into();
                    device.name = "ipmpfar-000000".into();
                },
                "ipmpfar-000000 is the far end",
            ),
        ] {
            let refused = refusal(change);
            assert_eq!(refused.reason, reason::UNSUITABLE);
            assert!(refused.message.starts_with(text), "{}", refused.message);
        }
    }

    #[test]
    fn refusal_names_the_owner_of_the_interface() {
        let mut device = nic();
        device.master = Some(9);
        let bridge = Device { name: "br0".into(), kind: "bridge".into(), ..nic() };
        let refused = check(&device, Surroundings { master: Some(&bridge), ..around() }).unwrap_err();
        assert_eq!(
            refused.message,
            "eth0 belongs to br0 (bridge): take it out first (ip link set eth0 nomaster)"
        );
        let member = Surroundings { member_of: Some("other0"), ..around() };
        assert_eq!(
            check(&nic(), member).unwrap_err().message,
            "eth0 is a member of other0: detach it there first (ipmpctl detach eth0)"
        );
        let member = Surroundings { member_of: Some("production0"), ..around() };
        assert_eq!(check(&nic(), member).unwrap_err().message, "eth0 is a member of production0 already");
        let group = Surroundings { is_group: true, ..around() };
        assert_eq!(check(&nic(), group).unwrap_err().reason, reason::UNSUITABLE);
    }

    #[test]
    fn stacked_interface_is_refused_where_it_would_loop_or_go_deaf() {
        let group = Device { ifindex: 10, name: "production0".into(), kind: "dummy".into(), ..nic() };
        let eth1 = Device { ifindex: 4, name: "eth1".into(), ..nic() };
        let on = |name: &str, kind: &str, below| Device {
            ifindex: 20,
            name: name.into(),
            kind: kind.into(),
            below,
            ..nic()
        };
        let role = |ifindex| match ifindex {
            10 => Some(Role::Group("production0".into())),
            4 => Some(Role::Member("production0".into())),
            _ => None,
        };
        let check = |device: &Device, others: &[&Device]| {
            let mut devices = vec![group.clone(), eth1.clone(), nic(), device.clone()];
            devices.extend(others.iter().map(|&other| other.clone()));
            check_stacking(device, &devices, role).map_err(|refused| refused.message)
        };
        for kind in ["macvlan", "macvtap", "ipvlan", "vlan"] {
            let refused = check(&on("up0", kind, Some(10)), &[]).unwrap_err();
            assert!(
                refused.starts_with("up0 is stacked on group interface production0"),
                "{kind}: {refused}"
            );
            let refused = check(&on("up0", kind, Some(4)), &[]);
            assert_eq!(refused.is_err(), kind != "vlan", "{kind}: {refused:?}");
            let elsewhere = check(&on("up0", kind, Some(3)), &[]);
            if kind == "ipvlan" {
                assert_eq!(
                    elsewhere.unwrap_err(),
                    "up0 is an ipvlan device, which receives only packets to its own addresses: attach eth0 itself, \
                     without up0 (ip link del up0)"
                );
            } else {
                assert_eq!(elsewhere, Ok(()), "{kind} on another NIC");
            }
            let below = check(&nic(), &[&on("up0", kind, Some(3))]);
            assert_eq!(below.is_err(), kind != "vlan", "{kind} on the NIC: {below:?}");
        }
        // By a port, over two levels.
        let (bridge, bond) = (on("br0", "bridge", None), on("bond0", "bond", None));
        let port = Device { ifindex: 21, master: Some(20), ..on("production0.20", "vlan", Some(10)) };
        for master in [&bridge, &bond] {
            assert_eq!(check(master, &[]), Ok(()));
            let refused = check(master, &[&port]).unwrap_err();
            assert!(refused.contains("is stacked on group interface production0"), "{refused}");
        }
        let vrf = Device { flags: nic().flags | LinkFlags::Noarp, ..on("red", "vrf", None) };
        assert!(super::check(&vrf, around()).unwrap_err().message.starts_with("red is a VRF"));
    }

    #[test]
    fn duplicate_mac_and_seventeenth_member_are_refused() {
        let twin = [("eth1".to_owned(), nic().mac)];
        assert_eq!(check_place(&nic(), "production0", &twin).unwrap_err().reason, reason::DUPLICATE_MAC);
        let sixteen: Vec<_> = (0..16).map(|n| (format!("eth{}", n + 1), [2, 0, 0, 0, 1, n])).collect();
        assert_eq!(check_place(&nic(), "production0", &sixteen[..15]), Ok(()));
        assert_eq!(check_place(&nic(), "production0", &sixteen).unwrap_err().reason, reason::FULL);
    }
}
