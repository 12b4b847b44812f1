//! The members' hardware filters: a NIC takes no frame for a multicast group, a VLAN or a MAC that it was not told of,
//! and the group interface, which applications tell, is no NIC. So each member is told what the group interface is
//! (design 4.5):
//!
//! | the group interface | its members |
//! |---|---|
//! | its multicast MACs | all: the same MACs, by `SIOCADDMULTI`; all multicast where one is refused |
//! | its VLANs | all: a VLAN device that stays down |
//! | its own MAC, which a DHCP server answers to | the cast member: as a further unicast MAC |
//!
//! Nothing of it dies with the daemon. What is ours is in the state file before it is done, so that it can be taken
//! back, and nothing else is: what an operator has asked for by hand stays. What cannot be had is said by `show`.
//!
//! The kernel tells nobody of a device's multicast list. It is read when the datapath has seen a membership report
//! leave, when an address has come, and every three seconds for what is not reported: packet sockets, and groups of the host
//! alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::daemon::state_file::SavedMember;
use crate::daemon::{
    event_loop::Engine,
    group::{Group, now},
};
use crate::{
    core::Time,
    link::{Device, Links, Mac, multicast, vlan_filter_of},
};

/// Between two looks at the multicast lists when nothing has happened.
const PERIOD: Duration = Duration::from_secs(3);
/// Between two looks at the least: an application that joins and leaves all the time keeps nobody busy.
const SPACING: Duration = Duration::from_millis(20);

/// What we have put into the filters of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filters {
    /// Multicast MACs.
    pub multicast: BTreeSet<Mac>,
    /// Whether it takes all multicast on our word.
    pub all_multicast: bool,
    /// The further unicast MAC.
    pub unicast: Option<Mac>,
}

/// Which filter could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Multicast,
    Vlan(u16),
    Unicast,
}

/// What is known of the filters of a group's members.
#[derive(Debug)]
pub struct GroupFilters {
    /// Something has happened that may have changed the multicast list.
    look: bool,
    /// The cast role, or a member's device.
    roles: bool,
    /// The VLANs, or a member.
    vlans: bool,
    /// A sentence for each filter that could not be had, by member.
    missing: BTreeMap<(u8, Kind), String>,
}

impl Default for GroupFilters {
    /// Everything is to be looked at.
    fn default() -> Self {
        Self { look: true, roles: true, vlans: true, missing: BTreeMap::new() }
    }
}

impl GroupFilters {
    /// The multicast list may have changed.
    pub fn multicast_changed(&mut self) {
        self.look = true;
    }

    /// The cast member is another, or is another device.
    pub fn roles_changed(&mut self) {
        self.roles = true;
    }

    /// The VLANs of the group, or those of a member, have changed.
    pub fn vlans_changed(&mut self) {
        self.vlans = true;
    }

    /// A member has come: it is to have everything.
    pub fn joined(&mut self) {
        (self.look, self.roles, self.vlans) = (true, true, true);
    }

    /// A member has left.
    pub fn left(&mut self, number: u8) {
        self.missing.retain(|(member, _), _| *member != number);
    }

    /// What could not be had, a sentence each.
    pub fn missing(&self) -> impl Iterator<Item = String> {
        self.missing.values().cloned()
    }

    fn is_stale(&self) -> bool {
        self.look || self.roles || self.vlans
    }

    fn note(&mut self, number: u8, kind: Kind, sentence: Option<String>) {
        match sentence {
            None => drop(self.missing.remove(&(number, kind))),
            Some(sentence) => {
                if self.missing.get(&(number, kind)) != Some(&sentence) {
                    log::warn!("{sentence}");
                }
                self.missing.insert((number, kind), sentence);
            }
        }
    }
}

/// What is to be done about the multicast MACs of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Difference {
    /// To be asked for, and ours then.
    add: BTreeSet<Mac>,
    /// To be taken back: ours, and wanted no more.
    remove: BTreeSet<Mac>,
}

/// Compares what a member should let in with what was asked for there, by anybody and by us.
fn difference(wanted: &BTreeSet<Mac>, requested: &BTreeSet<Mac>, ours: &BTreeSet<Mac>) -> Difference {
    Difference {
        add: wanted.difference(requested).copied().collect(),
        remove: ours.difference(wanted).copied().collect(),
    }
}

/// What is to be done about the VLANs of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct VlanDifference {
    /// VLANs that need a device.
    add: Vec<u16>,
    /// Devices that nobody needs any more.
    remove: Vec<(u32, String)>,
    /// VLANs that the member has a device of its own for.
    own: Vec<(u16, String)>,
}

/// Compares the VLANs of a group with the VLAN devices of one of its members.
fn vlan_difference(wanted: &BTreeSet<u16>, member: u32, devices: &[Device]) -> VlanDifference {
    let mut difference = VlanDifference::default();
    let mut there = BTreeSet::new();
    for device in devices {
        if let Some((of, vlan)) = vlan_filter_of(device) {
            if of == member && !wanted.contains(&vlan) {
                difference.remove.push((device.ifindex, device.name.clone()));
            } else if of == member {
                there.insert(vlan);
            }
        } else if let (Some(vlan), Some(below)) = (device.vlan, device.below)
            && below == member
            && wanted.contains(&vlan)
        {
            there.insert(vlan);
            difference.own.push((vlan, device.name.clone()));
        }
    }
    difference.add = wanted.difference(&there).copied().collect();
    difference
}

/// Takes back what we have put into the filters of an interface; it may be gone, and its VLAN devices left behind in
/// this namespace.
pub(in crate::daemon) async fn release(links: &Links, name: &str, saved: &SavedMember) {
    let mut errors = Vec::new();
    if let Ok(Some(_)) = links.device(saved.ifindex).await {
        for mac in &saved.filters.multicast {
            errors.extend(multicast::refuse(saved.ifindex, *mac).err());
        }
        if saved.filters.all_multicast {
            errors.extend(links.set_all_multicast(saved.ifindex, name, false).await.err());
        }
        if let Some(mac) = saved.filters.unicast {
            errors.extend(links.refuse_mac(saved.ifindex, name, mac).await.err());
        }
    }
    match links.devices().await {
        Ok(devices) => {
            for (ifindex, name) in vlan_difference(&BTreeSet::new(), saved.ifindex, &devices).remove {
                errors.extend(links.delete(ifindex, &name).await.err().filter(|error| !error.is_gone()));
            }
        }
        Err(error) => errors.push(error),
    }
    for error in errors {
        log::warn!(member = name; "{error}; do it by hand");
    }
}

impl Engine {
    /// When the filters are to be looked at next.
    pub(in crate::daemon) fn filters_due(&self) -> Option<Time> {
        let stale = self.groups.values().any(|group| group.filters.is_stale());
        let members = self.groups.values().any(|group| !group.members.is_empty());
        members.then(|| self.filtered + if stale { SPACING } else { PERIOD })
    }

    /// Brings the filters of all members in line with their groups.
    pub(in crate::daemon) async fn filter(&mut self) {
        self.filtered = now();
        self.filter_multicast().await;
        self.filter_unicast().await;
        self.filter_vlans().await;
    }

    /// The multicast MACs of the group interface at every member.
    async fn filter_multicast(&mut self) {
        let lists = match multicast::lists() {
            Ok(lists) => lists,
            Err(error) => return log::error!("{error}; multicast is not let in by the members' filters"),
        };
        let nothing = multicast::Multicast::default();
        let list = |ifindex| lists.get(&ifindex).unwrap_or(&nothing);
        // First what will be ours is written down, then it is done; what is taken back is forgotten last.
        let mut work = Vec::new();
        let mut news = false;
        for group in self.groups.values_mut() {
            group.filters.look = false;
            let wanted = &list(group.interface.ifindex).all;
            let Some(saved) = self.file.state.groups.get_mut(&group.interface.name) else { continue };
            for member in saved.members.values_mut().filter(|saved| group.members.contains_key(&saved.number))
            {
                let requested = &list(member.ifindex).requested;
                let Difference { add, remove } = difference(wanted, requested, &member.filters.multicast);
                if add.is_empty() && remove.is_empty() {
                    continue;
                }
                news |= !add.is_subset(&member.filters.multicast);
                member.filters.multicast.extend(&add);
                work.push((group.interface.name.clone(), member.number, add, remove));
            }
        }
        if news {
            self.save();
        }
        let mut news = false;
        let Self { groups, file, links, .. } = &mut *self;
        for (name, number, add, remove) in work {
            let (Some(group), Some(saved)) = (groups.get_mut(&name), file.state.groups.get_mut(&name)) else {
                continue;
            };
            let members = saved.members.values_mut();
            let Some(member) = members.into_iter().find(|saved| saved.number == number) else { continue };
            let mut refused = None;
            let asked = !add.is_empty();
            for mac in add {
                if let Err(error) = multicast::accept(member.ifindex, mac) {
                    (refused, news) = (Some(error), true);
                    member.filters.multicast.remove(&mac);
                }
            }
            for mac in remove {
                news = true;
                match multicast::refuse(member.ifindex, mac) {
                    Ok(()) => drop(member.filters.multicast.remove(&mac)),
                    Err(error) => log::warn!(group = name.as_str(); "{error}"),
                }
            }
            let device = group.members.get(&number).map_or("", |member| member.name.as_str()).to_owned();
            match refused.filter(|error| !error.is_gone()) {
                None if asked => group.filters.note(number, Kind::Multicast, None),
                None => {}
                Some(error) => {
                    let fallback = links.set_all_multicast(member.ifindex, &device, true).await;
                    member.filters.all_multicast |= fallback.is_ok();
                    let sentence = match fallback {
                        Ok(()) => format!(
                            "{device} takes all multicast, as it cannot be told what to take: {error}"
                        ),
                        Err(_) => format!("{device} may not receive the multicast of {name}: {error}"),
                    };
                    group.filters.note(number, Kind::Multicast, Some(sentence));
                }
            }
        }
        if news {
            self.save();
        }
    }

    /// The group's own MAC at the cast member.
    async fn filter_unicast(&mut self) {
        let wanted = |group: &Group, saved: &SavedMember| match group.core.cast() {
            Some(cast) => cast == saved.number,
            // While nobody has the role, whoever had it last keeps the filter.
            None => saved.filters.unicast.is_some(),
        };
        let mut news = false;
        for group in self.groups.values().filter(|group| group.filters.roles) {
            let Some(saved) = self.file.state.groups.get_mut(group.name()) else { continue };
            for member in saved.members.values_mut() {
                if member.filters.unicast.is_none() && wanted(group, member) {
                    member.filters.unicast = Some(group.interface.mac);
                    news = true;
                }
            }
        }
        if news {
            self.save();
        }
        let mut news = false;
        let Self { groups, file, links, .. } = &mut *self;
        for group in groups.values_mut().filter(|group| group.filters.roles) {
            group.filters.roles = false;
            let (name, mac) = (group.interface.name.clone(), group.interface.mac);
            let Some(saved) = file.state.groups.get_mut(&name) else { continue };
            for member in saved.members.values_mut().filter(|member| member.filters.unicast.is_some()) {
                let Some(device) = group.members.get(&member.number) else { continue };
                let result = if wanted(group, member) {
                    links.accept_mac(device.ifindex, &device.name, mac).await
                } else {
                    (member.filters.unicast, news) = (None, true);
                    links.refuse_mac(device.ifindex, &device.name, mac).await
                };
                let sentence = result.err().filter(|error| !error.is_gone()).map(|error| {
                    (member.filters.unicast, news) = (None, true);
                    format!(
                        "{} may not receive what is sent to the MAC of {name}, as answers to a DHCP client are: {error}",
                        device.name
                    )
                });
                group.filters.note(member.number, Kind::Unicast, sentence);
            }
        }
        if news {
            self.save();
        }
    }

    /// The VLANs of the group at every member.
    async fn filter_vlans(&mut self) {
        let Self { groups, links, .. } = &mut *self;
        if groups.values().all(|group| !group.filters.vlans) {
            return;
        }
        let devices = match links.devices().await {
            Ok(devices) => devices,
            Err(error) => return log::warn!("{error}; VLANs are not let in by the members' filters"),
        };
        for group in groups.values_mut().filter(|group| group.filters.vlans) {
            group.filters.vlans = false;
            let (name, wanted) = (group.interface.name.clone(), group.vlan_ids());
            group
                .filters
                .missing
                .retain(|(_, kind), _| !matches!(kind, Kind::Vlan(vlan) if !wanted.contains(vlan)));
            for (number, member) in &group.members {
                let VlanDifference { add, remove, own } = vlan_difference(&wanted, member.ifindex, &devices);
                for (vlan, device) in own {
                    let sentence = format!(
                        "{device} receives no IP while VLAN {vlan} is {name}'s: remove {device}, or the VLAN of {name}"
                    );
                    group.filters.note(*number, Kind::Vlan(vlan), Some(sentence));
                }
                for vlan in add {
                    let sentence =
                        match links.add_vlan_filter(member.ifindex, &member.name, vlan, &name).await {
                            Ok(()) => None,
                            Err(error) if error.is_gone() => None,
                            Err(error) => Some(format!(
                                "{} may not receive VLAN {vlan} of {name}: {error}",
                                member.name
                            )),
                        };
                    group.filters.note(*number, Kind::Vlan(vlan), sentence);
                }
                for (ifindex, device) in remove {
                    match links.delete(ifindex, &device).await {
                        Err(error) if !error.is_gone() => {
                            log::warn!(group = name.as_str(); "{error}; do it by hand")
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Takes back what a member's filters were given, when it is a member no more.
    pub(in crate::daemon) async fn release_filters(&mut self, group: &str, member: &str) {
        let saved = self.file.state.groups.get_mut(group).and_then(|group| group.members.get_mut(member));
        let Some(saved) = saved else { return };
        release(&self.links, member, saved).await;
        saved.filters = Filters::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::device;

    fn macs(lasts: &[u8]) -> BTreeSet<Mac> {
        lasts.iter().map(|last| [0x33, 0x33, 0, 0, 0, *last]).collect()
    }

    /// Every state that one MAC can be in.
    #[test]
    fn a_multicast_mac_is_asked_for_once_and_only_ours_is_taken_back() {
        let one = macs(&[1]);
        let none = macs(&[]);
        for (wanted, requested, ours, add, remove, what) in [
            (&one, &none, &none, &one, &none, "new"),
            (&one, &one, &one, &none, &none, "as it should be"),
            (&one, &one, &none, &none, &none, "asked for by the operator: needed, and not ours"),
            (&one, &none, &one, &one, &none, "ours, and taken away by somebody"),
            (&none, &one, &one, &none, &one, "wanted no more"),
            (&none, &none, &one, &none, &one, "wanted no more, and gone already"),
            (&none, &one, &none, &none, &none, "the operator's"),
            (&none, &none, &none, &none, &none, "nothing"),
        ] {
            let expected = Difference { add: add.clone(), remove: remove.clone() };
            assert_eq!(difference(wanted, requested, ours), expected, "{what}");
        }
    }

    fn vlan(ifindex: u32, name: &str, below: u32, vlan: u16) -> Device {
        Device { kind: "vlan".into(), below: Some(below), vlan: Some(vlan), ..device(ifindex, name) }
    }

    #[test]
    fn each_vlan_of_the_group_has_one_device_on_each_member() {
        let wanted = BTreeSet::from([20, 30, 40]);
        let devices = [
            device(3, "eth0"),
            vlan(11, "production0.20", 10, 20),
            vlan(12, "ipmp-3.20", 3, 20),
            vlan(13, "eth0.30", 3, 30),
            vlan(14, "ipmp-3.50", 3, 50),
            // Those of another member, and a VLAN of the member's that is none of the group's.
            vlan(15, "ipmp-4.50", 4, 50),
            vlan(16, "eth1.40", 4, 40),
            vlan(17, "eth0.60", 3, 60),
        ];
        let expected = VlanDifference {
            add: vec![40],
            remove: vec![(14, "ipmp-3.50".into())],
            own: vec![(30, "eth0.30".into())],
        };
        assert_eq!(vlan_difference(&wanted, 3, &devices), expected);
        let done: Vec<_> = devices.iter().filter(|device| device.ifindex != 14).cloned().collect();
        let done = [&done[..], &[vlan(18, "ipmp-3.40", 3, 40)]].concat();
        let expected = VlanDifference { own: vec![(30, "eth0.30".into())], ..Default::default() };
        assert_eq!(vlan_difference(&wanted, 3, &done), expected, "done twice");
        let all = vlan_difference(&BTreeSet::new(), 3, &done);
        assert_eq!(all.remove.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [12, 18], "at the end");
    }

    #[test]
    fn what_could_not_be_had_is_said_until_it_can_be() {
        let mut filters = GroupFilters::default();
        filters.note(0, Kind::Vlan(20), Some("eth0 may not receive VLAN 20".into()));
        filters.note(1, Kind::Unicast, Some("eth1 may not".into()));
        assert_eq!(filters.missing().count(), 2);
        filters.note(0, Kind::Vlan(20), None);
        filters.left(1);
        assert_eq!(filters.missing().count(), 0);
    }

    /// A state file of before there were filters is read.
    #[test]
    fn filters_are_empty_in_an_older_file() {
        let old = r#"{"number":3,"ifindex":9,"weight":1000,"speed":null,"settings":[],"was_down":false}"#;
        let member: SavedMember = serde_json::from_str(old).unwrap();
        assert_eq!(member.filters, Filters::default());
        let filters = Filters { multicast: macs(&[1, 2]), all_multicast: true, unicast: Some([2; 6]) };
        let text = serde_json::to_string(&filters).unwrap();
        assert_eq!(serde_json::from_str::<Filters>(&text).unwrap(), filters);
    }
}
