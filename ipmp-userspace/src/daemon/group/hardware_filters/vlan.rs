//! The VLANs of the group at every member.

use std::collections::{BTreeMap, BTreeSet};

use super::Kind;
use crate::{
    daemon::group::{Context, RunningGroup},
    link::{Device, Links, vlan_filter_of},
};

/// What is to be changed at one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VlanDifference {
    /// VLANs that need a device.
    add: Vec<u16>,
    /// Devices that are not needed any more.
    pub remove: Vec<(u32, String)>,
    /// VLANs for which the member has a device of its own.
    own: Vec<(u16, String)>,
}

/// Compares the VLANs of a group with the VLAN devices of one of its members.
pub fn difference(wanted: &BTreeSet<u16>, member: u32, devices: &[Device]) -> VlanDifference {
    let mut difference = VlanDifference::default();
    let mut present = BTreeSet::new();
    for device in devices {
        if let Some((of, vlan)) = vlan_filter_of(device) {
            if of == member && !wanted.contains(&vlan) {
                difference.remove.push((device.ifindex, device.name.clone()));
            } else if of == member {
                present.insert(vlan);
            }
        } else if let (Some(vlan), Some(below)) = (device.vlan, device.below)
            && below == member
            && wanted.contains(&vlan)
        {
            present.insert(vlan);
            difference.own.push((vlan, device.name.clone()));
        }
    }
    difference.add = wanted.difference(&present).copied().collect();
    difference
}

/// Updates the filters of all members.
pub async fn update(groups: &mut BTreeMap<String, RunningGroup>, context: &Context<'_>) {
    if groups.values().all(|group| !group.filters.vlans) {
        return;
    }
    let devices = match context.links.devices() {
        Ok(devices) => devices,
        Err(error) => return log::warn!("{error}; the members' VLAN filters are not updated"),
    };
    for group in groups.values_mut().filter(|group| group.filters.vlans) {
        group.filters.vlans = false;
        update_group(group, context.links, &devices).await;
    }
}

async fn update_group(group: &mut RunningGroup, links: &Links, devices: &[Device]) {
    let (name, wanted) = (group.interface.name.clone(), group.vlans.ids());
    group.filters.missing.retain(|(_, kind), _| !matches!(kind, Kind::Vlan(vlan) if !wanted.contains(vlan)));
    for (number, member) in &group.members {
        let VlanDifference { add, remove, own } = difference(&wanted, member.ifindex, devices);
        for (vlan, device) in own {
            let message = format!(
                "{device} receives no IP while VLAN {vlan} belongs to {name}: remove {device}, or the VLAN of {name}"
            );
            group.filters.note(*number, Kind::Vlan(vlan), Some(message));
        }
        for vlan in add {
            let message = match links.add_vlan_filter(member.ifindex, &member.name, vlan, &name).await {
                Ok(()) => None,
                Err(error) if error.is_missing() => None,
                Err(error) => Some(format!("{} may not receive VLAN {vlan} of {name}: {error}", member.name)),
            };
            group.filters.note(*number, Kind::Vlan(vlan), message);
        }
        for (ifindex, device) in remove {
            match links.delete(ifindex, &device).await {
                Err(error) if !error.is_missing() => {
                    log::warn!(group = name.as_str(); "{error}; do it by hand")
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::device;

    fn vlan(ifindex: u32, name: &str, below: u32, vlan: u16) -> Device {
        Device { kind: "vlan".into(), below: Some(below), vlan: Some(vlan), ..device(ifindex, name) }
    }

    #[test]
    fn each_group_vlan_has_one_device_on_each_member() {
        let wanted = BTreeSet::from([20, 30, 40]);
        let devices = [
            device(3, "eth0"),
            vlan(11, "production0.20", 10, 20),
            vlan(12, "ipmp-3.20", 3, 20),
            vlan(13, "eth0.30", 3, 30),
            vlan(14, "ipmp-3.50", 3, 50),
            // Devices of another member, and a VLAN of the member that the group does not have.
            vlan(15, "ipmp-4.50", 4, 50),
            vlan(16, "eth1.40", 4, 40),
            vlan(17, "eth0.60", 3, 60),
        ];
        let expected = VlanDifference {
            add: vec![40],
            remove: vec![(14, "ipmp-3.50".into())],
            own: vec![(30, "eth0.30".into())],
        };
        assert_eq!(difference(&wanted, 3, &devices), expected);
        let done: Vec<_> = devices.iter().filter(|device| device.ifindex != 14).cloned().collect();
        let done = [&done[..], &[vlan(18, "ipmp-3.40", 3, 40)]].concat();
        let expected = VlanDifference { own: vec![(30, "eth0.30".into())], ..Default::default() };
        assert_eq!(difference(&wanted, 3, &done), expected, "applied twice");
        let all = difference(&BTreeSet::new(), 3, &done);
        assert_eq!(
            all.remove.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
            [12, 18],
            "without any VLAN"
        );
    }
}
