//! Members whose device does not exist: deleted, or in another network namespace. They keep their number, lists and settings
//! (docs/design/identity-of-members.md).

use ipmp_common::steer::MAX_MEMBERS;

use super::Group;
use crate::{
    core::{Attachment, Cause, Event, Time, member::Member},
    types::LinkState,
};

impl Group {
    /// The device of a member does not exist any more.
    pub(super) fn set_absent(&mut self, number: u8) {
        let Some(member) = self.members.get_mut(number).filter(|member| !member.absent()) else { return };
        let turn = member.set_absent();
        let name = member.name().to_owned();
        self.report(Cause::Trigger, |group| Event::MemberAbsent { member: name.clone(), group });
        self.turned(number, turn, None, Cause::Trigger);
        self.published.forget_member(number);
        self.accept_unique_macs();
        // Its link may have been down already.
        self.reconcile(&Cause::MemberAbsent { member: name });
    }

    /// A member whose device does not exist yet.
    pub(super) fn expect(&mut self, now: Time, attachment: Attachment) {
        let number = attachment.member;
        if self.member(number).is_some() || usize::from(number) >= MAX_MEMBERS {
            debug_assert!(false, "member number {number} of group {} is not free", self.name);
            return;
        }
        let name = attachment.name.clone();
        let mut member = Member::new(now, Attachment { link: LinkState::Unknown, ..attachment });
        let turn = member.set_absent();
        self.members.add(member);
        self.report(Cause::Trigger, |group| Event::MemberExpected { member: name.clone(), group });
        self.probing.mark_stale();
        self.roles.rebuild_slots(&self.members);
        self.turned(number, turn, None, Cause::Trigger);
        self.reconcile(&Cause::MemberAbsent { member: name });
    }

    /// The device of an absent member is back. It is used again as one whose link came up: once the datapath trusts the link,
    /// or its probes are answered.
    pub(super) fn set_returned(&mut self, now: Time, number: u8, mac: [u8; 6], mtu: u32, link: LinkState) {
        let Some(member) = self.members.get_mut(number).filter(|member| member.absent()) else { return };
        member.set_returned(mac, mtu);
        let name = member.name().to_owned();
        self.report(Cause::Trigger, |group| Event::MemberReturned { member: name, group });
        self.published.forget_member(number);
        self.refuse_duplicate_mac(number);
        self.set_link(now, number, link);
        self.reconcile(&Cause::Trigger);
    }
}
