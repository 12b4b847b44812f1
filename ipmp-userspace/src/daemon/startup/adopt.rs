//! Taking over what an earlier daemon left: it was killed, or stopped, or is an older version. Traffic goes on
//! meanwhile; nothing here may interrupt it.

use std::collections::BTreeMap;

use ipmp_common::{maps::MemberStatus, steer::MemberSet};

use crate::daemon::{
    event_loop::{Engine, Error},
    group::hardware_filters,
    group::test_addresses,
    group::{Group, Member, WEIGHT, now},
};
use crate::{
    core::{self, Adopted, Attachment, Event, Input, probe::TestAddress},
    datapath,
    link::{Device, GroupInterface, sysctl},
    types::{Family, LinkState},
};

impl Engine {
    /// Takes over every group that has pins or is remembered. One that cannot be taken over does not keep the others
    /// from it.
    pub(in crate::daemon) async fn adopt(&mut self) -> Result<(), Error> {
        let mut names = self.datapath.pinned_groups()?;
        names.extend(
            self.file.state.groups.keys().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>(),
        );
        for name in names {
            match GroupInterface::existing(&self.links, &name).await? {
                Some(interface) => {
                    if let Err(error) = self.adopt_group(interface).await {
                        log::error!(group = name.as_str(); "cannot take over group {name}: {error}");
                    }
                }
                None => self.bury(&name).await?,
            }
        }
        Ok(())
    }

    async fn adopt_group(&mut self, interface: GroupInterface) -> Result<(), Error> {
        let name = interface.name.clone();
        let saved = self.file.state.groups.entry(name.clone()).or_default().clone();
        let groupname = if saved.groupname.is_empty() { name.clone() } else { saved.groupname.clone() };
        let mtu = self.links.device(interface.ifindex).await?.map_or(0, |device| device.mtu);
        let mut datapath = self.open_datapath(&interface)?;
        let pinned = datapath.members()?;

        // What the maps say, device by device.
        let mut members = Vec::new();
        let mut devices = Vec::new();
        let mut vanished = Vec::new();
        // From a test address; and by the policy, who has none.
        let mut tested = [MemberSet::EMPTY; 2];
        let mut tests = BTreeMap::new();
        let own = datapath.own_addresses()?;
        for (number, known) in &pinned {
            let here = self.links.device(known.device.ifindex).await?;
            let known_name = datapath::name_of(known);
            let weight = saved
                .members
                .values()
                .find(|member| member.number == *number)
                .map_or(WEIGHT, |member| member.weight);
            let attachment = Attachment {
                member: *number,
                name: here.as_ref().map_or(known_name, |device| device.name.clone()),
                mac: known.mac,
                mtu: here.as_ref().map_or(mtu, |device| device.mtu),
                weight,
                link: here.as_ref().map_or(LinkState::Down, Device::link),
            };
            match here {
                Some(device) => {
                    let kept = saved.members.get(&device.name).map(|member| member.test_addresses.clone());
                    let kept = kept.unwrap_or_default();
                    let addresses = self.links.addresses_of(device.ifindex).await?;
                    for (mask, is_tested) in tested.iter_mut().zip(test_addresses::probed(&kept, &addresses))
                    {
                        *mask = if is_tested { mask.with(*number) } else { *mask };
                    }
                    tests.insert(*number, test_addresses::Known::adopted(&kept));
                    let lower = self.links.below(&device).await?;
                    let spec = datapath::MemberSpec {
                        number: *number,
                        name: device.name.clone(),
                        ifindex: device.ifindex,
                        mac: device.mac,
                        lower: lower.clone(),
                    };
                    datapath.attach(&spec)?;
                    let member = Member {
                        ifindex: device.ifindex,
                        name: device.name.clone(),
                        lower,
                        // No address has this prefix length: each that is there is news, and one that is not is missed.
                        addresses: own
                            .iter()
                            .filter(|(_, owner)| owner == number)
                            .map(|(ip, _)| (*ip, u8::MAX))
                            .collect(),
                    };
                    devices.push((*number, member, device));
                }
                None => vanished.push((*number, attachment.name.clone())),
            }
            members.push((attachment, known.state));
        }
        // What is remembered and not in the maps: the pins are gone, with a BPF file system that was private.
        let forgotten: Vec<String> = saved
            .members
            .iter()
            .filter(|(_, member)| pinned.iter().all(|(number, _)| *number != member.number))
            .map(|(name, _)| name.clone())
            .collect();

        let adopted = Adopted {
            members,
            usable: datapath.usable(),
            reserve: datapath.reserve(),
            live: datapath.live(),
            slots: datapath.slots().into(),
            cast: datapath.cast(),
            inbound: datapath.inbound()?,
            probed: Family::ALL.map(|family| {
                let numbers = pinned.iter().map(|(number, _)| *number);
                let by_policy: MemberSet = numbers.filter(|_| saved.probing().probes(family)).collect();
                by_policy.or(tested[family as usize])
            }),
            standby: saved.standbys(),
        };
        let untested = Family::ALL.map(|family| {
            let probed = adopted.probed[family as usize].iter();
            probed.filter(|member| !tested[family as usize].has(*member)).collect::<MemberSet>()
        });
        let addresses: Vec<_> = adopted.inbound.iter().map(|(address, _)| *address).collect();
        let count = adopted.members.iter().filter(|(_, state)| *state != MemberStatus::Vacant).count();
        let settings = saved.core_settings(self.mpathd.defaults());
        let (core, actions) = core::Group::adopt(now(), name.as_str(), settings, adopted);
        let mut group = Group::new(core, datapath, interface, groupname, mtu);
        for (number, member, device) in devices {
            group.members.insert(number, member);
            group.link_adopted(number, device.link());
        }
        group.expect_addresses(addresses);
        group.tests = tests;
        self.teller.say(Some(&name), &Event::GroupAdopted { group: name.clone(), members: count });
        self.groups.insert(name.clone(), group);

        let (groups, mut hands) = self.with_hands();
        if let Some(group) = groups.get_mut(&name) {
            group.carry_out(&mut hands, actions).await;
            for family in Family::ALL {
                for member in untested[family as usize].iter() {
                    let address = TestAddress::None;
                    group.tell(&mut hands, Input::TestAddress { member, family, address }).await;
                }
            }
            for (number, _) in &vanished {
                group.leave(&mut hands, *number).await;
            }
        }
        for (_, member) in vanished {
            self.release_filters(&name, &member).await;
            self.forget_member(&name, &member);
        }
        for member in forgotten {
            self.rejoin(&name, &member).await;
        }
        self.instruct(&name).await;
        Ok(())
    }

    /// A member that the maps have lost joins again. Its settings are as the earlier daemon made them.
    async fn rejoin(&mut self, group_name: &str, name: &str) {
        let Some(saved) =
            self.file.state.groups.get(group_name).and_then(|group| group.members.get(name)).cloned()
        else {
            return;
        };
        let device = match self.links.device_named(name).await {
            Ok(Some(device)) if device.ifindex == saved.ifindex => device,
            _ => return self.forget_member(group_name, name),
        };
        let lower = self.links.below(&device).await.unwrap_or_default();
        let (groups, mut hands) = self.with_hands();
        let Some(group) = groups.get_mut(group_name) else { return };
        let number = saved.number;
        let member =
            Member { ifindex: device.ifindex, name: name.to_owned(), lower, addresses: Default::default() };
        group.members.insert(number, member);
        let Some(spec) = group.spec(number, &device) else { return };
        if let Err(error) = group.datapath.attach(&spec) {
            group.members.remove(&number);
            log::error!(group = group_name, member = name; "{error}");
            return;
        }
        let attachment = Attachment {
            member: number,
            name: name.to_owned(),
            mac: device.mac,
            mtu: device.mtu,
            weight: saved.weight,
            link: device.link(),
        };
        group.tests.insert(number, test_addresses::Known::adopted(&saved.test_addresses));
        group.joined(&mut hands, attachment).await;
        group.filters.joined();
    }

    /// The interface of a group has gone while no daemon ran.
    async fn bury(&mut self, name: &str) -> Result<(), Error> {
        self.teller.say(Some(name), &Event::GroupInterfaceDeleted { group: name.to_owned() });
        self.datapath.remove_group(name)?;
        let Some(saved) = self.file.state.groups.remove(name) else { return Ok(()) };
        for (member, state) in &saved.members {
            state.test_addresses.lift(&self.links, member, state.ifindex).await;
            hardware_filters::release(&self.links, member, state).await;
            sysctl::restore(member, &state.settings);
        }
        for (from, configuration) in &saved.moved {
            if let Some(device) = self.links.device_named(from).await?
                && let Err(error) =
                    configuration.furnish(&self.links, (&device).into(), (&device).into()).await
            {
                log::error!(group = name, member = from.as_str(); "{error}");
            }
        }
        self.save();
        Ok(())
    }
}
