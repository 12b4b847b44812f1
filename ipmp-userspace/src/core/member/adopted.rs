//! A member as an earlier daemon left it in the kernel.

use ipmp_common::maps::MemberStatus;

use super::{Condition, Member, MemberProbing};
use crate::{
    core::{Adopted, Attachment, Settings, Time, flap::Flap},
    types::{Failback, Family, LinkState, OfflineCause},
};

impl Member {
    /// The member as it was when the map was written; its link of today is an input afterwards.
    pub(in crate::core) fn adopted(
        now: Time,
        attachment: &Attachment,
        state: MemberStatus,
        adopted: &Adopted,
        settings: &Settings,
    ) -> Self {
        let (number, link) = (attachment.member, attachment.link);
        let standby = adopted.standby.has(number);
        // A standby that flows leave is inactive, unless the operator drains it.
        let leaves = adopted.usable.leaving.has(number) && standby && !adopted.draining.contains_key(&number);
        let usable = adopted.usable.all().has(number) && !leaves;
        let attachment = Attachment { link: LinkState::Unknown, ..attachment.clone() };
        let mut member = Self { standby, ..Self::new(Time::default(), attachment) };
        if adopted.absent.has(number) {
            member.absent = true;
            member.set_down();
            member.offline = (state == MemberStatus::Offline).then_some(OfflineCause::Operator);
            return member;
        }
        match state {
            MemberStatus::Ok => {
                member.live = true;
                member.condition = Condition::Ok;
                // Members that are no standby are inactive only where repaired members do not fail back.
                member.inactive = !usable && (standby || settings.failback == Failback::No);
            }
            // With `Idle` it was kept out without a hold-down.
            MemberStatus::Failed if !usable && settings.failback != Failback::Idle => {
                member.condition = Condition::Held;
                member.flap = Flap::adopted(now, settings);
            }
            MemberStatus::Failed => member.set_down(),
            MemberStatus::Offline => {
                member.offline = Some(OfflineCause::Operator);
                if link == LinkState::Down {
                    member.set_down();
                }
            }
            MemberStatus::Unknown | MemberStatus::Vacant => {}
        }
        if state == MemberStatus::Failed {
            member.adopt_failure(adopted);
        }
        member
    }

    /// A failed member was probed: only ten replies disprove that, not its link or a time.
    fn adopt_failure(&mut self, adopted: &Adopted) {
        let number = self.number();
        let probed = |family: &Family| adopted.probed[family.index()].has(number);
        let probing = MemberProbing::adopted_as_failed(Family::ALL.into_iter().filter(probed));
        if !probing.failed() {
            return;
        }
        self.probing = probing;
        self.flap = Flap::default();
        if adopted.live.has(number) {
            self.live = true;
            self.condition = Condition::Ok;
            self.attachment.link = LinkState::Unknown;
        } else {
            self.live = false;
            self.set_down();
        }
    }

    fn set_down(&mut self) {
        self.attachment.link = LinkState::Down;
        self.condition = Condition::Down;
    }
}
