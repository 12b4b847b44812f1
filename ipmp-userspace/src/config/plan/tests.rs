//! Plans, compared by their result: a model makes the steps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{super::files, *};

/// The interfaces of the host: eth0 to eth3, with MACs and permanent MACs that end in 0 to 3.
fn devices() -> Vec<Device> {
    (0..4)
        .map(|number: u8| Device {
            mac: [2, 0, 0, 0, 0, number],
            permanent_mac: Some([2, 0, 0, 0, 1, number]),
            ..Device::sample(&format!("eth{number}"), 10 + u32::from(number))
        })
        .collect()
}

pub(in crate::config) fn host() -> Running {
    Running { devices: devices(), ..Running::default() }
}

pub(in crate::config) fn read(text: &str) -> Configuration {
    let (configuration, findings) = files::parse(&[("ipmp.toml".into(), text.into())]);
    let is_error = |finding: &&super::super::Finding| finding.severity == super::super::Severity::Error;
    assert_eq!(findings.iter().find(is_error), None, "{text}");
    configuration
}

fn steps(text: &str, running: &Running) -> Vec<String> {
    plan(&read(text), true, running).unwrap().steps.iter().map(Step::to_string).collect()
}

impl Running {
    fn group(&mut self, name: &str) -> &mut RunningGroup {
        self.groups.iter_mut().find(|group| group.name == name).unwrap()
    }

    fn add(&mut self, name: &str, addresses: &[DataAddress], origin: Origin) {
        for address in addresses {
            let (ip, prefix) = (address.address(), address.prefix());
            let on = |groups: &[RunningGroup]| {
                groups
                    .iter()
                    .any(|group| group.name != name && group.addresses.iter().any(|known| known.0 == ip))
            };
            assert!(!on(&self.groups), "{ip} is on another group");
            self.group(name).addresses.push((ip, prefix, origin));
        }
    }

    fn attach(&mut self, name: &str, new: &NewMember, ifindex: Option<u32>) {
        let is_member = |member: &RunningMember| ifindex.is_some() && member.ifindex == ifindex;
        assert!(!self.groups.iter().any(|group| group.members.iter().any(is_member)), "{new:?} twice");
        let device = self.devices.iter().find(|device| Some(device.ifindex) == ifindex);
        let member = RunningMember {
            name: new.name.clone(),
            ifindex,
            permanent_mac: device.map_or(new.permanent_mac, |device| device.permanent_mac),
            mac: device.map_or(new.mac, |device| Some(device.mac)),
            settings: new.settings.clone(),
            test_addresses: new.test_addresses.clone(),
            inbound: Vec::new(),
            offline: false,
        };
        let (moved, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.addresses).into_iter().partition(|(index, ip, _)| {
                let is_test =
                    |test: &TestAddressSpec| test.address().is_some_and(|test| test.address() == *ip);
                Some(*index) == ifindex && !new.test_addresses.iter().any(is_test)
            });
        self.addresses = stay;
        let group = self.group(name);
        group.members.push(member);
        group.addresses.extend(moved.into_iter().map(|(_, ip, prefix)| (ip, prefix, Origin::Moved)));
    }

    /// Makes a step. It fails where the daemon would refuse it.
    fn make(&mut self, step: &Step) {
        match step.clone() {
            Step::CreateGroup { group, groupname } => {
                self.groups.push(RunningGroup { name: group, groupname, ..RunningGroup::default() });
            }
            Step::SetGroup { group, settings, .. } => {
                let known = &mut self.group(&group).settings;
                known.retain(|setting| matches!(setting, Setting::Targets(_)));
                known.extend(settings);
            }
            Step::SetTargets { group, targets } => {
                let known = &mut self.group(&group).settings;
                known.retain(|setting| !matches!(setting, Setting::Targets(_)));
                known.extend((!targets.is_empty()).then_some(Setting::Targets(targets)));
            }
            Step::SetDisabledTargets { group, targets } => self.group(&group).disabled_targets = targets,
            Step::SetOffline { group, member, offline } => {
                let known = self.member(&group, &member);
                assert_ne!(known.offline, offline, "{step}");
                known.offline = offline;
            }
            Step::AddAddresses { group, addresses } => self.add(&group, &addresses, Origin::File),
            Step::Attach { group, member } => {
                let device = self.devices.iter().find(|device| device.name == member.name).unwrap();
                let ifindex = device.ifindex;
                self.attach(&group, &member, Some(ifindex));
            }
            Step::Expect { group, member } => self.attach(&group, &member, None),
            Step::SetMember { group, member, settings, .. } => {
                self.member(&group, &member).settings = settings
            }
            Step::SetInbound { group, inbound, .. } => {
                let members = &mut self.group(&group).members;
                for (_, name) in &inbound {
                    assert!(members.iter().any(|member| member.name == *name), "{name} is no member");
                }
                for member in members {
                    let of_it = inbound.iter().filter(|(_, name)| *name == member.name);
                    member.inbound = of_it.map(|(ip, _)| *ip).collect();
                }
            }
            Step::AddTestAddress { member, address } => {
                self.member_of_any(&member).test_addresses.push(address)
            }
            Step::RemoveTestAddress { member, address } => {
                self.member_of_any(&member).test_addresses.retain(|known| *known != address);
            }
            Step::AddRoute { group, route } => self.group(&group).routes.push((route, Origin::File)),
            Step::RemoveRoute { group, route } => {
                self.group(&group).routes.retain(|(known, _)| !known.is_same(&route));
            }
            Step::RemoveAddresses { group, addresses } => {
                let is_removed = |(ip, prefix, _): &(IpAddr, u8, Origin)| {
                    addresses.iter().any(|address| (address.address(), address.prefix()) == (*ip, *prefix))
                };
                self.group(&group).addresses.retain(|known| !is_removed(known));
            }
            Step::Detach { group, member } => {
                self.member(&group, &member);
                self.group(&group).members.retain(|known| known.name != member);
            }
            Step::Return { .. } | Step::Dissolve { .. } => unreachable!("no plan has {step}"),
            Step::RemoveGroup { group } => self.groups.retain(|known| known.name != group),
        }
    }

    fn member(&mut self, group: &str, member: &str) -> &mut RunningMember {
        self.group(group).members.iter_mut().find(|known| known.name == member).unwrap()
    }

    fn member_of_any(&mut self, member: &str) -> &mut RunningMember {
        let mut all = self.groups.iter_mut().flat_map(|group| &mut group.members);
        all.find(|known| known.name == member).unwrap()
    }

    /// Applies files.
    pub(in crate::config) fn apply(&mut self, configuration: &Configuration) -> usize {
        let plan = plan(configuration, true, self).unwrap();
        for step in &plan.steps {
            self.make(step);
        }
        for group in &configuration.groups {
            self.group(&group.name.value).origin = Origin::File;
        }
        plan.steps.len()
    }

    /// What files describe of it, without order and without what other programs added.
    fn described(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let text = |setting: &Setting| setting.to_string();
        let sorted = |mut texts: Vec<String>| {
            texts.sort_unstable();
            texts
        };
        let group = |group: &RunningGroup| {
            let own = group
                .addresses
                .iter()
                .filter(|(_, _, origin)| matches!(origin, Origin::Command | Origin::File));
            let members = group.members.iter().map(|member| {
                let settings = member.settings.iter().filter(|setting| !matches!(setting, Setting::Match(_)));
                let tests = member.test_addresses.iter().map(ToString::to_string);
                let inbound = member.inbound.iter().map(|ip| format!("inbound {ip}"));
                let offline = member.offline.then(|| "offline".to_owned());
                format!(
                    "{} {:?}",
                    member.name,
                    sorted(settings.map(text).chain(tests).chain(inbound).chain(offline).collect())
                )
            });
            (
                sorted(own.map(|(ip, prefix, _)| format!("{ip}/{prefix}")).collect()),
                sorted(group.routes.iter().map(|(route, _)| route.shortest().to_string()).collect()),
                sorted(group.settings.iter().map(text).collect()),
                sorted(members.collect()),
            )
        };
        self.groups.iter().map(|known| (known.name.clone(), group(known))).collect::<BTreeMap<_, _>>()
    }
}

const FILE: &str = "
    [group.a0]
    addresses = [\"10.0.0.1/24\"]
    gateways = [\"10.0.0.254\"]
    fdt = \"1s\"
    targets = [\"10.0.0.9\"]
    [group.a0.members]
    eth0 = {}
    b = { match = { permanent-mac = \"02:00:00:00:01:01\" }, standby = true, test-addresses = [\"10.0.0.2/24\"] }
    c = { match = { name = \"eth9\" }, weight = 3 }
";

#[test]
fn new_group_is_created_in_the_order_that_loses_nothing() {
    let mut running = host();
    running.addresses = vec![(10, "10.0.0.7".parse().unwrap(), 24), (11, "10.0.0.2".parse().unwrap(), 24)];
    assert_eq!(
        steps(FILE, &running),
        [
            "create group a0",
            "a0: set fdt=1s",
            "a0: add 10.0.0.1/24",
            "a0: attach eth0",
            "a0: attach eth1 with standby=on, test address 10.0.0.2/24",
            "a0: add the absent member eth9 with weight=3",
            "a0: set targets=10.0.0.9",
            "a0: add route default via 10.0.0.254",
        ]
    );
    assert_eq!(running.apply(&read(FILE)), 8);
    assert_eq!(steps(FILE, &running), [""; 0]);
    // The address that came with eth0 is not in the files, and stays.
    let text =
        FILE.replace("\"10.0.0.1/24\"", "\"10.0.0.7/24\", \"10.0.0.3/24\"").replace("eth0 = {}", "eth2 = {}");
    assert_eq!(
        steps(&text, &running),
        ["a0: add 10.0.0.3/24", "a0: attach eth2", "a0: detach eth0", "a0: remove 10.0.0.1/24"]
    );
}

#[test]
fn address_of_joining_interface_moves_and_external_addresses_are_left_alone() {
    let mut running = host();
    running.addresses = vec![(10, "10.0.0.1".parse().unwrap(), 24), (11, "10.0.0.5".parse().unwrap(), 16)];
    let text = "[group.a0]\naddresses = [\"10.0.0.1/24\", \"10.0.0.5/24\"]\n[group.a0.members]\neth0 = {}\neth1 = {}";
    assert_eq!(
        steps(text, &running),
        ["create group a0", "a0: attach eth0", "a0: attach eth1", "a0: add 10.0.0.5/24"]
    );
    running.apply(&read(text));
    assert_eq!(steps(text, &running), [""; 0]);
    let mut external = running.clone();
    external.add("a0", &["10.0.0.8/24".parse().unwrap()], Origin::Command);
    let text = "[group.a0]\naddresses = \"external\"\n[group.a0.members]\neth0 = {}\neth1 = {}";
    assert_eq!(steps(text, &external), [""; 0]);
}

#[test]
fn interfaces_and_addresses_that_change_their_group_leave_the_other_first() {
    let mut running = host();
    running.apply(&read(FILE));
    let text = "[group.b0]\naddresses = [\"10.0.0.1/24\"]\n[group.b0.members]\neth0 = {}\n[group.a0.members]\neth1 = { test-addresses = [\"10.0.0.2/24\"] }";
    assert_eq!(
        steps(text, &running),
        [
            "a0: detach eth0",
            "a0: detach eth9",
            "a0: remove 10.0.0.1/24",
            "create group b0",
            "a0: set fdt=default",
            "b0: add 10.0.0.1/24",
            "b0: attach eth0",
            "a0: set targets=auto",
            "a0: set standby=default of eth1",
            "a0: remove route default via 10.0.0.254",
        ]
    );
    // The group as a whole.
    let text = "[group.b0]\naddresses = [\"10.0.0.1/24\"]\n[group.b0.members]\neth0 = {}";
    assert_eq!(
        steps(text, &running),
        ["remove group a0", "create group b0", "b0: add 10.0.0.1/24", "b0: attach eth0"]
    );
    // One that only commands made is left alone.
    running.group("a0").origin = Origin::Command;
    assert_eq!(steps("[defaults]\nfdt = \"1s\"", &running), [""; 0]);
}

#[test]
fn preferred_inbound_members_are_set_after_members_and_addresses() {
    let mut running = host();
    let text = "[group.a0]\naddresses = [\"10.0.0.1/24\"]\n[group.a0.members]\neth0 = {}\nb = { match = { name = \
                \"eth1\" }, inbound = [\"10.0.0.1\"] }";
    let set = "a0: set inbound of 10.0.0.1 to eth1";
    assert_eq!(
        steps(text, &running),
        ["create group a0", "a0: add 10.0.0.1/24", "a0: attach eth0", "a0: attach eth1", set]
    );
    running.apply(&read(text));
    assert_eq!(steps(text, &running), [""; 0]);
    let other = text
        .replace("eth0 = {}", "eth0 = { inbound = [\"10.0.0.1\"] }")
        .replace(", inbound = [\"10.0.0.1\"] }", " }");
    assert_eq!(steps(&other, &running), ["a0: set inbound of 10.0.0.1 to eth0"]);
    let none = other.replace("inbound = [\"10.0.0.1\"]", "");
    assert_eq!(steps(&none, &running), ["a0: set inbound of 10.0.0.1 to none"]);
}

#[test]
fn offline_member_and_disabled_target_follow_and_stay_without_their_keys() {
    let mut running = host();
    let text = "[group.a0]\naddresses = [\"10.0.0.1/24\"]\ntargets = [\"10.0.0.8\", \"10.0.0.9\"]\n\
                disabled-targets = [\"10.0.0.9\"]\n[group.a0.members]\neth0 = { offline = true }\neth1 = {}";
    assert_eq!(
        steps(text, &running)[4..],
        [
            "a0: set targets=10.0.0.8, 10.0.0.9",
            "a0: disable the targets 10.0.0.9, and no others",
            "a0: take eth0 offline"
        ]
    );
    running.apply(&read(text));
    assert_eq!(steps(text, &running), [""; 0]);
    let without = text.replace("{ offline = true }", "{}").replace("disabled-targets = [\"10.0.0.9\"]\n", "");
    assert_eq!(steps(&without, &running), [""; 0]);
    let back = text.replace("offline = true", "offline = false").replace("[\"10.0.0.9\"]\n[", "[]\n[");
    assert_eq!(steps(&back, &running), ["a0: enable all targets", "a0: take eth0 online"]);
}

#[test]
fn dns_is_no_step_of_the_daemon_and_other_groupname_is_refused() {
    let mut running = host();
    running.apply(&read("[group.a0]"));
    let plan = |text: &str| plan(&read(text), true, &running);
    let plan_of_dns = plan("[group.a0]\ndns = { servers = [\"10.0.0.53\"] }").unwrap();
    assert!(plan_of_dns.steps.is_empty());
    let refused = plan("[group.a0]\ngroupname = \"other\"").unwrap_err();
    assert!(refused.contains("a0 has the group name a0, which cannot be changed to other"), "{refused}");
}

/// A file with up to two groups, each interface in one of them at most.
pub(in crate::config) fn text() -> impl Strategy<Value = String> {
    let member = prop_oneof![
        Just(String::new()),
        Just("standby = true".to_owned()),
        Just("inbound = [\"10.0.1.NUMBER\"]".to_owned()),
        (1..4).prop_map(|weight| format!("weight = {weight}")),
    ];
    let members = proptest::collection::vec((0..3_usize, member, any::<bool>()), 5);
    let group = (
        proptest::sample::subsequence(vec!["fdt = \"1s\"", "failback = false", "hash = \"flow\""], 0..=3),
        proptest::sample::subsequence(vec![1, 2, 3], 0..=3),
        any::<bool>(),
    );
    (members, group.clone(), group, 0..3_usize).prop_map(|(members, one, other, count)| {
        let mut text = String::new();
        for (at, (settings, addresses, has_gateway)) in [one, other].into_iter().enumerate().take(count) {
            text += &format!("[group.g{at}]\n");
            // Those of the second group may be those of the first in another file.
            let addresses: Vec<String> = addresses
                .iter()
                .filter(|last| (**last == 3) == (at == 1))
                .map(|last| format!("\"10.0.0.{last}/24\""))
                .collect();
            text += &format!("addresses = [{}]\n{}\n", addresses.join(", "), settings.join("\n"));
            if has_gateway && !addresses.is_empty() {
                text += "gateways = [\"10.0.0.254\"]\n";
            }
            text += &format!("[group.g{at}.members]\n");
            for (number, (group, settings, by_mac)) in members.iter().enumerate() {
                // eth4 does not exist.
                let matching = format!("match = {{ permanent-mac = \"02:00:00:00:01:0{number}\" }}");
                let settings = settings.replace("NUMBER", &number.to_string());
                let keys: Vec<&str> = [settings.as_str(), if *by_mac { &matching } else { "" }]
                    .into_iter()
                    .filter(|key| !key.is_empty())
                    .collect();
                if *group == at {
                    text += &format!("eth{number} = {{ {} }}\n", keys.join(", "));
                }
            }
        }
        text
    })
}

proptest! {
    /// Whatever runs, and whether files or commands made it: after an apply the files describe it, and another apply changes
    /// nothing. What other programs added stays.
    #[test]
    fn apply_reaches_the_state_of_the_files_from_every_other(before in text(), after in text(), by_commands: bool) {
        let (before, after) = (read(&before), read(&after));
        let mut running = host();
        running.apply(&before);
        let foreign = "10.0.0.99".parse().unwrap();
        for group in &mut running.groups {
            if by_commands {
                group.origin = Origin::Command;
                group.addresses.iter_mut().for_each(|address| address.2 = Origin::Command);
            }
        }
        let mut expected = host();
        if by_commands {
            // Groups that only commands made are not removed.
            let is_left = |group: &RunningGroup| !after.groups.iter().any(|other| other.name.value == group.name);
            let wanted: Vec<&RunningGroup> = running.groups.iter().filter(|group| is_left(group)).collect();
            // Their members and addresses may be those of other groups now.
            prop_assume!(wanted.is_empty());
        }
        expected.apply(&after);
        if let Some(group) = running.groups.first_mut() {
            group.addresses.push((foreign, 24, Origin::Other));
        }
        running.apply(&after);
        prop_assert_eq!(running.apply(&after), 0);
        prop_assert_eq!(running.described(), expected.described());
        let first = before.groups.first().filter(|first| after.groups.iter().any(|group| group.name.value == first.name.value));
        if let Some(first) = first {
            prop_assert!(running.group(&first.name.value).addresses.iter().any(|(ip, _, _)| *ip == foreign));
        }
    }
}
