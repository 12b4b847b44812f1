//! From what a group has become to what is to be done: only differences are worth an action.

use std::{collections::BTreeMap, net::IpAddr};

use ipmp_common::{
    maps::MemberStatus,
    steer::{MAX_MEMBERS, MemberSet, Preference},
};

use super::{Group, MIN_MTU};
use crate::core::{Action, Event, member::Member, slots::Slots};

/// What the caller has been told to do already.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) usable: MemberSet,
    pub(super) reserve: MemberSet,
    pub(super) slots: Slots,
    pub(super) cast: Preference,
    /// Name of the last cast member.
    pub(super) cast_holder: Option<String>,
    pub(super) inbound: BTreeMap<IpAddr, ToldAddress>,
    pub(super) states: [MemberStatus; MAX_MEMBERS],
    /// The members that are spares, as was said.
    pub(super) spares: MemberSet,
    pub(super) carrier: Option<bool>,
    pub(super) mtu: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct ToldAddress {
    pub(super) list: Preference,
    /// The member that it is announced with.
    pub(super) announced: Option<u8>,
    /// Name of its last inbound member.
    pub(super) holder: Option<String>,
}

/// Remembers who has a role now; from whom to whom it has moved, if it has. A role that nobody has now has not moved
/// yet, and who has it first has it from nobody worth a line.
fn moved(holder: &mut Option<String>, now: Option<String>) -> Option<(String, String)> {
    let now = now.filter(|now| holder.as_ref() != Some(now))?;
    let before = holder.replace(now.clone())?;
    Some((before, now))
}

impl Group {
    /// Everything that differs from what was told before: what stops losses first, what is for people last.
    pub(super) fn actions(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let mtu = self.members.iter().map(|member| member.mtu().max(MIN_MTU)).min();
        let new_mtu = mtu.filter(|_| mtu != self.told.mtu);
        let lowered = self.told.mtu.is_none_or(|told| new_mtu.is_some_and(|new| new < told));
        self.told.mtu = mtu.or(self.told.mtu);
        if let Some(mtu) = new_mtu.filter(|_| lowered) {
            actions.push(Action::SetMtu(mtu));
        }

        // Who leaves one of the two masks is in the other before.
        let reserve = self.reserve();
        let told = std::mem::replace(&mut self.told.reserve, reserve);
        let set_reserve = (told != reserve).then_some(Action::SetReserve(reserve));
        let grows = told.and(reserve) == told;
        let (before, after) = if grows { (set_reserve, None) } else { (None, set_reserve) };
        actions.extend(before);
        let usable = self.usable();
        if usable != self.told.usable {
            self.told.usable = usable;
            actions.push(Action::SetUsable(usable));
        }
        actions.extend(after);
        if self.slots != self.told.slots {
            self.told.slots = self.slots.clone();
            actions.push(Action::SetSlots(self.slots.to_lists()));
        }
        let numbers: Vec<u8> = self.members.iter().map(Member::number).collect();
        self.cast.refresh(&self.active, &numbers);
        if self.cast.list() != self.told.cast {
            self.told.cast = self.cast.list();
            actions.push(Action::SetCast(self.cast.list()));
        }
        self.tell_addresses(&numbers, &mut actions);

        let carrier = !self.active.is_empty();
        if self.told.carrier != Some(carrier) {
            self.told.carrier = Some(carrier);
            actions.push(Action::SetCarrier(carrier));
        }
        for member in &self.members {
            let told = &mut self.told.states[usize::from(member.number())];
            let state = member.state().into();
            if *told != state {
                *told = state;
                actions.push(Action::SetState { member: member.number(), state });
            }
        }
        if let Some(mtu) = new_mtu.filter(|_| !lowered) {
            actions.push(Action::SetMtu(mtu));
        }
        actions.append(&mut self.probes.wanted);
        actions.extend(self.probes.outcomes.drain(..).map(Action::ProbeOver));
        self.tell_spares();
        let now = self.name_of(self.cast.member());
        if let Some((from, to)) = moved(&mut self.told.cast_holder, now) {
            let why = self.why_moved(&from, &to);
            self.say_because(why, |group| Event::CastMoved { group, from: Some(from), to: Some(to) });
        }
        actions.extend(self.lines.drain(..).map(|(line, why)| Action::Report(line, why)));
        actions
    }

    /// Says who has become a spare, and who carries after having been one.
    fn tell_spares(&mut self) {
        let spares: MemberSet =
            self.members.iter().filter(|member| member.inactive()).map(Member::number).collect();
        let told = std::mem::replace(&mut self.told.spares, spares);
        for number in (0..MAX_MEMBERS as u8).filter(|&number| spares.has(number) != told.has(number)) {
            let Some(member) = self.member(number) else { continue };
            let (name, spare) = (member.name().to_owned(), member.inactive());
            if spare {
                self.say(|group| Event::Deactivated { member: name, group });
            } else if member.active() {
                self.say(|group| Event::Activated { member: name, group });
            }
        }
    }

    fn tell_addresses(&mut self, numbers: &[u8], actions: &mut Vec<Action>) {
        let before =
            |address: IpAddr| self.told.inbound.get(&address).map_or(Preference::EMPTY, |told| told.list);
        let mut lists = self.v4.lists(&self.active, numbers, before);
        lists.extend(self.v6.lists(&self.active, numbers, before));

        let mut known = std::mem::take(&mut self.told.inbound);
        let mut announcements = Vec::new();
        let new_mac = self.new_mac.take();
        for (address, member, list) in lists {
            let before = known.remove(&address);
            let unlike = before.as_ref().is_none_or(|before| before.list != list);
            let mut told = before.unwrap_or(ToldAddress { list, announced: None, holder: None });
            if unlike {
                told.list = list;
                actions.push(Action::SetInbound { address, inbound: list });
            }
            if told.announced != member || (member.is_some() && member == new_mac) {
                told.announced = member;
                announcements.push(match member {
                    Some(member) => Action::Announce { address, member },
                    None => Action::StopAnnouncing(address),
                });
            }
            if let Some((from, to)) = moved(&mut told.holder, self.name_of(member)) {
                let why = self.why_moved(&from, &to);
                self.say_because(why, |group| Event::AddressMoved {
                    address,
                    group,
                    from: Some(from),
                    to: Some(to),
                });
            }
            self.told.inbound.insert(address, told);
        }
        for (address, told) in known {
            if told.announced.is_some() {
                actions.push(Action::StopAnnouncing(address));
            }
            actions.push(Action::ForgetAddress(address));
        }
        actions.append(&mut announcements);
    }
}
