//! What a member is recognised by when its device returns (docs/design/identity-of-members.md).

use serde::{Deserialize, Serialize};

use super::SavedMember;
use crate::{
    control::Setting,
    link::{Device, Mac, show_mac},
    types::MatchBy,
};

/// What is known of the device of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct SavedIdentity {
    /// The MAC that the device stores, if it has one.
    pub permanent_mac: Option<Mac>,
    /// The MAC that it had last. `None`: unknown, in a record of an earlier version.
    pub mac: Option<Mac>,
    /// Its kind, as [`Device::kind`].
    pub kind: Option<String>,
    /// Its VLAN, if it is a VLAN device.
    pub vlan: Option<u16>,
    /// Of a device that never existed: the name that a file demands besides a MAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_name: Option<String>,
}

impl SavedIdentity {
    /// What is known of this device.
    pub fn of(device: &Device) -> Self {
        Self {
            permanent_mac: device.permanent_mac,
            mac: Some(device.mac),
            kind: Some(device.kind.clone()),
            vlan: device.vlan,
            required_name: None,
        }
    }

    /// Whether a device has the name that a file demands.
    fn has_required_name(&self, device: &Device) -> bool {
        let is_it = |name: &String| device.name == *name || device.altnames.contains(name);
        self.required_name.as_ref().is_none_or(is_it)
    }

    /// Whether a device with the index of this one can be this one.
    pub fn can_be(&self, device: &Device) -> bool {
        match (self.permanent_mac, device.permanent_mac, self.mac) {
            (Some(mine), Some(its), _) => mine == its,
            (_, _, Some(mac)) => mac == device.mac,
            _ => true,
        }
    }

    fn is_of_kind_of(&self, device: &Device) -> bool {
        self.kind.as_ref().is_none_or(|kind| (kind, self.vlan) == (&device.kind, device.vlan))
    }
}

/// A member whose device does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedAbsence {
    /// Its name when its device disappeared: another interface may have it now.
    pub name: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether the operator has set it offline.
    pub offline: bool,
}

impl SavedMember {
    /// By what it is recognised, as the operator has set it.
    pub fn match_by(&self) -> MatchBy {
        let by = |setting: &Setting| match setting {
            Setting::Match(by) => Some(*by),
            _ => None,
        };
        self.chosen.iter().rev().find_map(by).unwrap_or_default()
    }

    /// By what it is recognised, for operators.
    pub fn recognised_by(&self) -> String {
        let identity = &self.identity;
        let name = || format!("the name {}", self.absent.as_ref().map_or(&self.name, |absent| &absent.name));
        let mac = || identity.mac.map(|mac| format!("the MAC {}", show_mac(mac)));
        let permanent = || identity.permanent_mac.map(|mac| format!("the permanent MAC {}", show_mac(mac)));
        match self.match_by() {
            MatchBy::PermanentMac => permanent().unwrap_or_else(name),
            MatchBy::Mac => mac().unwrap_or_else(name),
            MatchBy::Name => name(),
            MatchBy::Auto => permanent().unwrap_or_else(|| match mac() {
                Some(mac) => format!("{mac} or {}", name()),
                None => name(),
            }),
        }
    }

    /// Whether this device is recognised as this absent member by `step`.
    fn recognises(&self, device: &Device, step: MatchBy) -> bool {
        let identity = &self.identity;
        let permanent = || identity.permanent_mac.is_some() && identity.permanent_mac == device.permanent_mac;
        let mac = || identity.mac == Some(device.mac);
        let name = || self.absent.as_ref().is_some_and(|absent| absent.name == device.name);
        let is_virtual = identity.permanent_mac.is_none() && device.permanent_mac.is_none();
        match (self.match_by(), step) {
            _ if !identity.has_required_name(device) => false,
            (MatchBy::Auto, _) if !identity.is_of_kind_of(device) => false,
            (MatchBy::Auto, MatchBy::Mac) => {
                mac() && (identity.permanent_mac.is_none() || device.permanent_mac.is_none())
            }
            (MatchBy::Auto, MatchBy::Name) => is_virtual && name(),
            (by, step) if by != MatchBy::Auto && by != step => false,
            (_, MatchBy::PermanentMac) => permanent(),
            (_, MatchBy::Mac) => mac(),
            (_, MatchBy::Name) => name(),
            (_, MatchBy::Auto) => false,
        }
    }

    /// Whether this device may be this absent member.
    pub fn may_be(&self, device: &Device) -> bool {
        self.absent.is_some() && STEPS.iter().any(|step| self.recognises(device, *step))
    }
}

/// From the surest to the least sure.
const STEPS: [MatchBy; 3] = [MatchBy::PermanentMac, MatchBy::Mac, MatchBy::Name];

/// Which of these devices are which of these absent members: pairs of their positions. Of several devices with one MAC, the
/// one with the name of the member is taken, or none.
pub fn recognise(members: &[&SavedMember], devices: &[&Device]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for step in STEPS {
        for (at, member) in members.iter().enumerate() {
            let is_free = |device: &usize| found.iter().all(|(_, taken)| taken != device);
            if found.iter().any(|(member, _)| *member == at) {
                continue;
            }
            let candidates: Vec<usize> = (0..devices.len())
                .filter(|device| is_free(device) && member.recognises(devices[*device], step))
                .collect();
            let named = |device: &&usize| {
                member.absent.as_ref().is_some_and(|absent| absent.name == devices[**device].name)
            };
            let chosen = match candidates[..] {
                [only] => Some(only),
                _ => candidates.iter().find(named).copied(),
            };
            found.extend(chosen.map(|device| (at, device)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing;

    const NIC: Option<u8> = Some(0xaa);

    /// A device with the last byte of its MAC and of its permanent MAC.
    fn device(ifindex: u32, name: &str, mac: u8, permanent: Option<u8>) -> Device {
        Device {
            mac: [2, 0, 0, 0, 0, mac],
            permanent_mac: permanent.map(|last| [0, 0, 0, 0, 0, last]),
            ..testing::device(ifindex, name)
        }
    }

    fn absent(device: &Device, settings: &[&str]) -> SavedMember {
        SavedMember {
            number: 0,
            name: device.name.clone(),
            ifindex: device.ifindex,
            weight: 1,
            speed: None,
            settings: Vec::new(),
            was_down: false,
            chosen: settings.iter().map(|text| text.parse().unwrap()).collect(),
            test_addresses: Default::default(),
            filters: Default::default(),
            identity: SavedIdentity::of(device),
            drained_until_ms: None,
            absent: Some(SavedAbsence { name: device.name.clone(), mtu: 1500, offline: false }),
        }
    }

    #[test]
    fn member_is_recognised_by_permanent_mac_else_mac_else_name() {
        let nic = device(3, "eth0", 1, NIC);
        let veth = device(3, "eth0", 1, None);
        for (was, settings, is, expected) in [
            (&nic, "", device(9, "lan0", 7, NIC), true),
            (&nic, "", device(3, "eth0", 1, Some(0xbb)), false),
            (&nic, "", device(9, "lan0", 1, None), true),
            (&nic, "", device(3, "eth0", 7, None), false),
            (&veth, "", device(9, "lan0", 1, None), true),
            (&veth, "", device(9, "eth0", 7, None), true),
            (&veth, "", device(9, "eth0", 7, NIC), false),
            (&veth, "", device(9, "lan0", 7, None), false),
            (&veth, "", Device { kind: "macvlan".into(), ..device(9, "eth0", 1, None) }, false),
            (&veth, "", Device { vlan: Some(5), ..device(9, "eth0", 1, None) }, false),
            (&nic, "match=permanent-mac", device(9, "lan0", 7, NIC), true),
            (&nic, "match=permanent-mac", device(9, "eth0", 1, None), false),
            (&nic, "match=mac", device(9, "lan0", 1, Some(0xbb)), true),
            (&nic, "match=mac", device(9, "eth0", 7, NIC), false),
            (&nic, "match=name", device(9, "eth0", 7, Some(0xbb)), true),
            (&nic, "match=name", device(9, "lan0", 1, NIC), false),
        ] {
            let settings: Vec<&str> = settings.split_whitespace().collect();
            let member = absent(was, &settings);
            assert_eq!(
                recognise(&[&member], &[&is]).len(),
                usize::from(expected),
                "{was:?} {settings:?} {is:?}"
            );
            assert_eq!(member.may_be(&is), expected, "{was:?} {settings:?} {is:?}");
        }
    }

    #[test]
    fn name_that_a_file_demands_must_hold_besides_the_mac() {
        let nic = device(3, "eth0", 1, NIC);
        let mut member = absent(&nic, &["match=permanent-mac"]);
        member.identity.required_name = Some("lan0".into());
        assert!(!member.may_be(&nic));
        assert!(member.may_be(&Device { name: "lan0".into(), ..nic.clone() }));
        assert!(member.may_be(&Device { altnames: vec!["lan0".into()], ..nic }));
    }

    #[test]
    fn members_that_return_with_swapped_names_keep_their_macs() {
        let (one, other) = (device(3, "eth0", 1, None), device(4, "eth1", 2, None));
        let members = [absent(&one, &[]), absent(&other, &[])];
        let devices = [device(7, "eth0", 2, None), device(8, "eth1", 1, None)];
        let found = recognise(&[&members[0], &members[1]], &[&devices[0], &devices[1]]);
        assert_eq!(found, [(0, 1), (1, 0)]);
    }

    #[test]
    fn ambiguous_mac_is_decided_by_name_or_not_at_all() {
        let member = absent(&device(3, "eth0", 1, None), &[]);
        let twins = |names: [&str; 2]| names.map(|name| device(7, name, 1, None));
        let [one, other] = twins(["lan0", "lan1"]);
        assert_eq!(recognise(&[&member], &[&one, &other]), []);
        let [one, other] = twins(["lan0", "eth0"]);
        assert_eq!(recognise(&[&member], &[&one, &other]), [(0, 1)]);
    }

    #[test]
    fn record_of_earlier_version_is_recognised_by_name() {
        let member =
            SavedMember { identity: SavedIdentity::default(), ..absent(&device(3, "eth0", 1, None), &[]) };
        assert!(member.may_be(&device(9, "eth0", 7, None)));
        assert!(!member.may_be(&device(9, "lan0", 1, None)));
        assert_eq!(member.recognised_by(), "the name eth0");
    }

    #[test]
    fn identity_is_stored_with_kebab_case_keys() {
        let identity = SavedIdentity::of(&device(3, "eth0", 1, NIC));
        let text = serde_json::to_string(&identity).unwrap();
        assert!(text.starts_with("{\"permanent-mac\":["), "{text}");
        assert_eq!(serde_json::from_str::<SavedIdentity>(&text).unwrap(), identity);
    }
}
