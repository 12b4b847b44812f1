//! Taking up a group that a daemon before this one has left in the kernel.

use std::net::IpAddr;

use ipmp_common::{
    maps::MemberStatus,
    steer::{MemberSet, Preference},
};

use super::{Group, Settings, told::ToldAddress};
use crate::{
    core::{
        Action, Attachment, Time,
        cast::Cast,
        flap::Flap,
        member::{Condition, Member},
        probe::{TestAddress, prober::Prober},
        slots::Slots,
    },
    types::{Family, LinkState, MemberState, OfflineCause},
};

/// What a restarted daemon finds in the kernel.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The members in the order of their numbers: attachment with the link as it is now, and the state that the map
    /// shows.
    pub members: Vec<(Attachment, MemberStatus)>,
    /// The `usable` mask.
    pub usable: MemberSet,
    /// The `reserve` mask.
    pub reserve: MemberSet,
    /// The `live` mask as it is now.
    pub live: MemberSet,
    /// The slots.
    pub slots: Slots,
    /// The cast role.
    pub cast: Preference,
    /// The data addresses and their inbound roles.
    pub inbound: Vec<(IpAddr, Preference)>,
    /// The members that were probed, in IPv4 and in IPv6. Where one of them had failed, it stays so until its probes
    /// are answered; the caller tells their test addresses afterwards.
    pub probed: [MemberSet; 2],
    /// The members that are standbys.
    pub standby: MemberSet,
}

impl Group {
    /// The group that the maps describe, and what is to be done to bring the kernel up to now.
    ///
    /// It is taken up as the maps have it, and only then told of today's links: what happened while no daemon ran is
    /// an ordinary event, with its log lines. A role that the kernel has passed on stays where it is. Verdicts stand
    /// until something disproves them: an offline member stays offline, one that was held down is held down for a
    /// full window. Every address is announced again, since a killed daemon may not have finished.
    pub fn adopt(
        now: Time,
        name: impl Into<String>,
        settings: Settings,
        adopted: Adopted,
    ) -> (Self, Vec<Action>) {
        let mut group = Self::new(name, settings);
        let links: Vec<(u8, LinkState)> =
            adopted.members.iter().map(|(at, _)| (at.member, at.link)).collect();
        for (attachment, state) in adopted.members {
            let number = attachment.member;
            group.adopt_member(now, attachment, state, adopted.usable, adopted.standby.has(number));
            if state == MemberStatus::Failed {
                group.adopt_failure(number, adopted.live.has(number), adopted.probed);
            }
        }
        for at in 0..group.members.len() {
            let cause = if group.has_twin(&group.members[at]) {
                OfflineCause::DuplicateMac
            } else {
                OfflineCause::Operator
            };
            let offline = &mut group.members[at].offline;
            *offline = offline.and(Some(cause));
        }
        // The cast list has the active members in the order in which they became active.
        group.keep_out();
        let functioning = group.members.iter().filter(|member| member.active());
        let mut functioning: Vec<u8> = functioning.map(Member::number).collect();
        let order: Vec<u8> = adopted.cast.members().collect();
        functioning.sort_by_key(|member| order.iter().position(|other| other == member));
        group.active = functioning;
        group.said_unusable = !group.anybody_functions()
            && group.members.iter().any(|member| member.state() == MemberState::Failed);
        group.slots = adopted.slots;
        group.cast = Cast::adopted(adopted.cast, &group.active);
        let mask = group.active.iter().copied().collect();
        for (address, list) in adopted.inbound {
            let member = list.first_in(mask);
            group.family(address).restore(address, member);
            let holder = group.member(list.first()).map(|member| member.name().to_owned());
            group.told.inbound.insert(address, ToldAddress { list, announced: None, holder });
        }
        group.told.spares =
            group.members.iter().filter(|member| member.inactive()).map(Member::number).collect();
        group.told.usable = adopted.usable;
        group.told.reserve = adopted.reserve;
        group.told.slots = group.slots.clone();
        group.told.cast = adopted.cast;
        group.told.cast_holder = group.member(adopted.cast.first()).map(|member| member.name().to_owned());
        group.told.carrier = None;

        for (member, link) in links {
            group.set_link(now, member, link);
        }
        group.set_live(now, adopted.live);
        group.refresh(false);
        group.rebuild();
        let actions = group.actions();
        (group, actions)
    }

    fn adopt_member(
        &mut self,
        now: Time,
        attachment: Attachment,
        state: MemberStatus,
        usable: MemberSet,
        standby: bool,
    ) {
        let (number, link) = (attachment.member, attachment.link);
        // As it was when the map was written: its link is told afterwards.
        let mut member = Member::new(Time::default(), Attachment { link: LinkState::Unknown, ..attachment });
        member.standby = standby;
        match state {
            MemberStatus::Ok => {
                member.live = true;
                member.condition = Condition::Ok;
                // Others are spares only where repaired members are not taken back.
                member.inactive = !usable.has(number) && (standby || !self.settings.failback);
            }
            MemberStatus::Failed if !usable.has(number) => {
                member.condition = Condition::Held;
                member.flap = Flap::adopted(now, &self.settings);
            }
            MemberStatus::Failed => {
                member.attachment.link = LinkState::Down;
                member.condition = Condition::Down;
            }
            MemberStatus::Offline => {
                member.offline = Some(OfflineCause::Operator);
                if link == LinkState::Down {
                    member.attachment.link = LinkState::Down;
                    member.condition = Condition::Down;
                }
            }
            MemberStatus::Unknown | MemberStatus::Vacant => {}
        }
        self.told.states[usize::from(number)] = state;
        self.members.push(member);
    }

    /// A failed member was probed: it takes ten answers, and not a link alone or a time, to disprove that.
    fn adopt_failure(&mut self, number: u8, live: bool, probed: [MemberSet; 2]) {
        let Some(member) = self.member_mut(number) else { return };
        for family in Family::ALL.into_iter().filter(|family| probed[family.index()].has(number)) {
            member.probing.addresses[family.index()] = TestAddress::Awaited;
            member.probing.probers[family.index()] = Some(Prober::new(Time::default(), true));
            member.probing.failed = true;
        }
        if member.probing.failed {
            member.flap = Flap::default();
            member.live = live;
            member.condition = if live { Condition::Ok } else { Condition::Down };
            member.attachment.link = if live { LinkState::Unknown } else { LinkState::Down };
        }
    }
}
