//! What the caller has applied already: only differences become actions.

use std::{collections::BTreeMap, net::IpAddr};

use ipmp_common::{
    maps::MemberStatus,
    steer::{MAX_MEMBERS, MemberSet, Preference},
    transition::Usable,
};

use super::members::Members;
use crate::core::{Action, Adopted, Cause, member::Member, slots::Slots};

/// What was published last.
#[derive(Clone, Debug)]
pub(super) struct Published {
    usable: Usable,
    reserve: MemberSet,
    slots: Slots,
    cast: Preference,
    /// Name of the last cast member.
    cast_holder: Option<String>,
    inbound: BTreeMap<IpAddr, PublishedAddress>,
    states: [MemberStatus; MAX_MEMBERS],
    active: MemberSet,
    /// Inactive members, as reported.
    inactive: MemberSet,
    /// Inactive members now, and why each of them, or of those that no longer are, changed.
    inactive_now: MemberSet,
    inactive_causes: BTreeMap<u8, Cause>,
    carrier: Option<bool>,
    mtu: Option<u32>,
}

#[derive(Clone, Debug)]
struct PublishedAddress {
    list: Preference,
    /// The member that was the first of the list before the present one.
    from: Option<u8>,
    /// The member with whose MAC it is announced.
    announced: Option<u8>,
    /// Name of its last inbound member.
    holder: Option<String>,
}

/// A role that moved: the names of its previous and of its new holder.
pub(super) type Move = (String, String);

/// Records the holder of a role; the move, if there is one. While no member holds the role, it has not moved yet, and
/// its first holder has it from none.
fn moved(holder: &mut Option<String>, now: Option<String>) -> Option<Move> {
    let now = now.filter(|now| holder.as_ref() != Some(now))?;
    let before = holder.replace(now.clone())?;
    Some((before, now))
}

/// Replaces a value; the action that publishes it, if it differs.
fn publish<T: PartialEq + Clone>(
    published: &mut T,
    now: T,
    action: impl FnOnce(T) -> Action,
) -> Option<Action> {
    if *published == now {
        return None;
    }
    *published = now.clone();
    Some(action(now))
}

impl Published {
    /// An empty group, whose interface has no carrier.
    pub(super) fn new() -> Self {
        Self {
            usable: Usable::default(),
            reserve: MemberSet::EMPTY,
            slots: Slots::new(),
            cast: Preference::EMPTY,
            cast_holder: None,
            inbound: BTreeMap::new(),
            states: [MemberStatus::Vacant; MAX_MEMBERS],
            active: MemberSet::EMPTY,
            inactive: MemberSet::EMPTY,
            inactive_now: MemberSet::EMPTY,
            inactive_causes: BTreeMap::new(),
            carrier: Some(false),
            mtu: None,
        }
    }

    /// What an earlier daemon left in the maps. Announcements and the carrier are unknown.
    pub(super) fn adopted(adopted: &Adopted, members: &Members) -> Self {
        let holder = |list: Preference| members.get(list.first()).map(|member| member.name().to_owned());
        let mut states = [MemberStatus::Vacant; MAX_MEMBERS];
        let present = adopted.members.iter().filter(|(member, _)| !adopted.absent.has(member.member));
        for (attachment, state) in present {
            if let Some(published) = states.get_mut(usize::from(attachment.member)) {
                *published = *state;
            }
        }
        let inbound = adopted.inbound.iter().map(|&(address, list)| {
            (address, PublishedAddress { list, from: None, announced: None, holder: holder(list) })
        });
        let inactive = members.set(Member::inactive);
        Self {
            usable: adopted.usable,
            reserve: adopted.reserve,
            slots: adopted.slots.clone(),
            cast: adopted.cast,
            cast_holder: holder(adopted.cast),
            inbound: inbound.collect(),
            states,
            inactive,
            inactive_now: inactive,
            carrier: None,
            ..Self::new()
        }
    }

    /// Members have other names, by the ones before.
    pub(super) fn rename(&mut self, names: &BTreeMap<String, String>) {
        let holders = self.inbound.values_mut().map(|published| &mut published.holder);
        for holder in holders.chain([&mut self.cast_holder]).flatten() {
            if let Some(name) = names.get(holder) {
                holder.clone_from(name);
            }
        }
    }

    /// A member has left or is absent: its entry in the map is vacant.
    pub(super) fn forget_member(&mut self, number: u8) {
        self.states[usize::from(number)] = MemberStatus::Vacant;
    }

    /// The MTU of the group interface, and whether it was lowered.
    pub(super) fn mtu(&mut self, members: &Members) -> Option<(u32, bool)> {
        let mtu = members.mtu()?;
        let before = self.mtu.replace(mtu);
        (before != Some(mtu)).then_some((mtu, before.is_none_or(|before| mtu < before)))
    }

    /// The two masks. A member that leaves one of them enters the other one first.
    pub(super) fn masks(&mut self, usable: Usable, reserve: MemberSet) -> impl Iterator<Item = Action> {
        let grows = self.reserve.and(reserve) == self.reserve;
        let reserve = publish(&mut self.reserve, reserve, Action::SetReserve);
        let usable = publish(&mut self.usable, usable, Action::SetUsable);
        let order = if grows { [reserve, usable] } else { [usable, reserve] };
        order.into_iter().flatten()
    }

    pub(super) fn slots(&mut self, slots: &Slots) -> Option<Action> {
        publish(&mut self.slots, slots.clone(), |slots| Action::SetSlots(slots.to_lists()))
    }

    pub(super) fn cast(&mut self, list: Preference) -> Option<Action> {
        publish(&mut self.cast, list, Action::SetCast)
    }

    pub(super) fn carrier(&mut self, carrier: bool) -> Option<Action> {
        publish(&mut self.carrier, Some(carrier), |_| Action::SetCarrier(carrier))
    }

    pub(super) fn states(&mut self, members: &Members) -> Vec<Action> {
        let set = |member: &Member| {
            let published = &mut self.states[usize::from(member.number())];
            publish(published, member.state().into(), |state| Action::SetState {
                member: member.number(),
                state,
            })
        };
        members.iter().filter(|member| !member.absent()).filter_map(set).collect()
    }

    /// The move of the cast role.
    pub(super) fn cast_holder(&mut self, now: Option<String>) -> Option<Move> {
        moved(&mut self.cast_holder, now)
    }

    /// The data addresses with their members and lists: map entries go to `actions`, announcements after them. Returns
    /// the moves. The addresses of `new_mac` are announced again.
    pub(super) fn addresses(
        &mut self,
        members: &Members,
        lists: Vec<(IpAddr, Option<u8>, Preference)>,
        new_mac: Option<u8>,
        actions: &mut Vec<Action>,
    ) -> Vec<(IpAddr, Move)> {
        let mut removed = std::mem::take(&mut self.inbound);
        let (mut announcements, mut moves) = (Vec::new(), Vec::new());
        for (address, member, list) in lists {
            let before = removed.remove(&address);
            let differs = before.as_ref().is_none_or(|before| before.list != list);
            let new = PublishedAddress { list, from: None, announced: None, holder: None };
            let mut published = before.unwrap_or(new);
            if differs {
                let last = std::mem::replace(&mut published.list, list);
                if last != Preference::EMPTY && last.first() != list.first() {
                    published.from = Some(last.first());
                }
                actions.push(Action::SetInbound { address, inbound: list, from: published.from });
            }
            if published.announced != member || (member.is_some() && member == new_mac) {
                published.announced = member;
                announcements.push(match member {
                    Some(member) => Action::Announce { address, member },
                    None => Action::StopAnnouncing(address),
                });
            }
            moves.extend(moved(&mut published.holder, members.name(member)).map(|moved| (address, moved)));
            self.inbound.insert(address, published);
        }
        for (address, published) in removed {
            if published.announced.is_some() {
                actions.push(Action::StopAnnouncing(address));
            }
            actions.push(Action::ForgetAddress(address));
        }
        actions.append(&mut announcements);
        moves
    }

    /// The members that transmit; [`Action::AnnounceAll`], if one of them no longer does and another one is left.
    pub(super) fn active(&mut self, active: &[u8]) -> Option<Action> {
        let now: MemberSet = active.iter().copied().collect();
        let before = std::mem::replace(&mut self.active, now);
        let is_lost = before.and(now) != before;
        (is_lost && now != MemberSet::EMPTY).then_some(Action::AnnounceAll)
    }

    /// The word `usable` that was published.
    pub(super) fn usable(&self) -> Usable {
        self.usable
    }

    /// The list that was published for a data address.
    pub(super) fn inbound(&self, address: IpAddr) -> Preference {
        self.inbound.get(&address).map_or(Preference::EMPTY, |published| published.list)
    }

    /// Name of the last inbound member of a data address.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&str> {
        self.inbound.get(&address)?.holder.as_deref()
    }

    /// Records why members became inactive or active, until [`Self::inactive`] reports it.
    pub(super) fn record_inactive(&mut self, now: MemberSet, cause: &Cause) {
        let before = std::mem::replace(&mut self.inactive_now, now);
        for number in differing(before, now) {
            self.inactive_causes.insert(number, cause.clone());
        }
    }

    /// The members that became inactive or active, and why.
    pub(super) fn inactive(&mut self) -> Vec<(u8, Cause)> {
        let before = std::mem::replace(&mut self.inactive, self.inactive_now);
        let mut causes = std::mem::take(&mut self.inactive_causes);
        differing(before, self.inactive_now)
            .map(|number| (number, causes.remove(&number).unwrap_or(Cause::Trigger)))
            .collect()
    }
}

fn differing(one: MemberSet, other: MemberSet) -> impl Iterator<Item = u8> {
    (0..MAX_MEMBERS as u8).filter(move |&number| one.has(number) != other.has(number))
}
