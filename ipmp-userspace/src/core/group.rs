//! A group: the states of its members, the roles of the active ones, and the events that it reports.
//!
//! ```text
//!                       first live                         link down, or not live
//!   joined, link up ──► unknown ──────────────► ok ─────────────────────────────► failed ◄── joined, link down
//!                                               ▲                                   │
//!                                               └───────────────────────────────────┘
//!                                                link up and live and not in hold-down
//!
//!   any of them ── offline ──► offline ── online ──► the state of its link then
//! ```
//!
//! [`super::member`] has the table of one member; the group adds:
//!
//! | a member | other functioning members | events (docs/reference.md 2.5, 2.8) | actions |
//! |---|---|---|---|
//! | goes down | some | link down, failure | leaves the active list: its addresses and the cast role move |
//! | goes down | none | link down, all unusable | roles keep their lists, no address is announced |
//! | goes down while failed or offline | any | link down | – |
//! | comes up | some | link up; flapping, if it is the third time in a minute | if it flaps, not usable |
//! | comes up | none | link up | no hold-down; others are released from theirs |
//! | functions for the first time | any | at least one usable, if all were unusable | joins the end of the active list |
//! | functions again | any | repair; at least one usable, if all were unusable | joins the end of the active list |
//! | is set offline | some, or more members if all failed | offline | not usable, leaves the active list |
//! | is drained | some | draining; offline once its flows are idle | gets no new flows |
//! | is set online | any | online | usable; joins the end of the active list if it functions |
//! | becomes absent | some | absent, failure | as down, and not usable; its number, lists and settings stay |
//! | becomes absent | none | absent, all unusable | not usable; roles keep their lists, no address is announced |
//! | returns | any | returned, link up | as one whose link came up |
//! | loses its ingress program | some | failure | as down; repaired when the program is attached again |
//! | has the MAC of another one | any | not unique | as offline |
//! | no longer has it | any | unique | as online |
//!
//! | module | subject |
//! |---|---|
//! | `members` | the members |
//! | `roles` | the active list, and the roles of its members |
//! | `offline` | members out of service |
//! | `absence` | members whose device does not exist |
//! | `standby` | which functioning members are inactive |
//! | `program` | members whose ingress program is missing |
//! | `probing` | probers, targets and verdicts |
//! | `transition` | members whose flows move one by one |
//! | `published` | what the caller has applied already |
//! | `actions` | what is to be published now |
//! | `adopt` | a group that an earlier daemon left |

mod absence;
mod actions;
mod adopt;
mod members;
mod offline;
mod probing;
mod program;
mod published;
mod roles;
mod standby;
mod transition;

use std::{collections::BTreeMap, net::IpAddr};

use ipmp_common::steer::{MAX_MEMBERS, MemberSet, Preference};

pub use probing::Slow;

use super::{
    Action, Attachment, Cause, Event, Input, Refusal, Settings, Time, flap,
    member::{Condition, Member, Turn},
    probe::evidence::Witness,
    slots::Slots,
};
use crate::types::{Failback, Family, GroupState, LinkState};
use members::Members;
use probing::GroupProbing;
use published::Published;
use roles::Roles;
use standby::Origin;

/// Least MTU of a group in bytes: below it Linux would drop the group's IPv6 addresses for good (RFC 8200, 5).
pub const MIN_MTU: u32 = 1280;

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    name: String,
    settings: Settings,
    members: Members,
    roles: Roles,
    probing: GroupProbing,
    /// Time of the input that is handled.
    now: Time,
    /// When [`Input::Moving`] was expected last.
    moves_checked: Time,
    published: Published,
    /// "All unusable" was reported, and "at least one usable" was not since.
    reported_unusable: bool,
    /// The member whose MAC this input has changed.
    new_mac: Option<u8>,
    /// What this input reports.
    reports: Vec<(Event, Cause)>,
    /// [`Group::deadline`]: asked far more often than anything changes it.
    due: Option<Time>,
}

impl Group {
    /// An empty group. The group interface is expected to have no carrier.
    pub fn new(name: impl Into<String>, settings: Settings) -> Self {
        Self {
            name: name.into(),
            settings,
            members: Members::default(),
            roles: Roles::default(),
            probing: GroupProbing::new(&settings),
            now: Time::default(),
            moves_checked: Time::default(),
            published: Published::new(),
            reported_unusable: false,
            new_mac: None,
            reports: Vec::new(),
            due: None,
        }
    }

    /// Handles an input; the actions are to be applied in this order. Only [`Input::Offline`], [`Input::Drain`] and
    /// [`Input::Online`] can be refused; inputs about a member that has left have no effect.
    pub fn handle(&mut self, now: Time, input: Input) -> Result<Vec<Action>, Refusal> {
        self.check(&input)?;
        self.now = now;
        self.expire_hold_downs(now);
        let is_deadline = input == Input::Deadline;
        match input {
            Input::Joined(attachment) => self.join(now, attachment),
            Input::Expected(attachment) => self.expect(now, attachment),
            Input::Left { member } => self.leave(member),
            Input::Absent { member } => self.set_absent(member),
            Input::Returned { member, mac, mtu, link } => self.set_returned(now, member, mac, mtu, link),
            Input::Link { member, link } => self.set_link(now, member, link),
            Input::Live(live) => self.set_live(now, live),
            Input::Program { member, attached } => self.set_program(member, attached),
            Input::Mtu { member, mtu } => {
                if let Some(member) = self.members.get_mut(member) {
                    member.set_mtu(mtu);
                }
            }
            Input::Mac { member, mac } => self.set_mac(member, mac),
            Input::Weight { member, weight } => {
                if let Some(member) = self.members.get_mut(member) {
                    member.set_weight(weight);
                    self.roles.rebuild_slots(&self.members);
                }
            }
            Input::Offline { member } => self.set_offline(member, &Cause::Trigger),
            Input::Drain { member, limit } => self.drain(member, limit),
            Input::Moving(moving) => self.end_transitions(moving),
            Input::Online { member } => self.set_online(member),
            Input::AddressAdded(address) => {
                self.roles.add_address(address);
                self.probing.mark_stale();
            }
            Input::AddressRemoved(address) => {
                self.roles.remove_address(address);
                self.probing.mark_stale();
            }
            Input::Addresses(changes) => {
                for (address, is_added) in changes {
                    if is_added {
                        self.roles.add_address(address);
                    } else {
                        self.roles.remove_address(address);
                    }
                }
                self.probing.mark_stale();
            }
            Input::Prefer(preferences) => {
                preferences.into_iter().for_each(|(address, member)| self.roles.prefer(address, member));
                self.roles.return_to_preferred();
            }
            Input::Settings(settings) => self.set(settings),
            Input::Standby { member, standby } => {
                if self.members.set_standby(member, standby) {
                    self.reconcile(&Cause::Trigger);
                }
            }
            Input::TestAddress { member, family, address } => self.set_test_address(member, family, address),
            Input::Targets(targets) => self.probing.set_targets(targets),
            Input::DisabledTargets(targets) => self.probing.set_disabled_targets(targets),
            Input::Discover => self.probing.discover(&self.members),
            Input::Routes { family, hosts, routers, default } => {
                self.probing.set_routes(family, hosts, routers, default);
            }
            Input::Host(address) => self.probing.host_answered(address),
            Input::Neighbour { address, mac } => self.probing.set_neighbour(now, address, mac),
            Input::Sent { member, family, sequence, cookie } => {
                self.sent(now, member, family, sequence, cookie);
            }
            Input::Answer { member, target, proof, at } => self.answered(now, member, target, proof, at),
            Input::ControlAnswer { member, target, at } => self.control_answered(now, member, target, at),
            Input::TestFrame { member, source, from, to, sequence, bytes } => {
                self.receive_test_frame(member, source, (from, to), sequence, bytes);
            }
            Input::TcpTimeout { sender, inbound, sent, remote, local_port } => {
                self.timed_out(now, sender, inbound, sent, Witness::Connection { remote, local_port });
            }
            Input::TcpSegments(lost) => self.count_segments(now, &lost),
            Input::InboundSilence { member, since } => self.became_silent(now, member, since),
            Input::Deadline => self.judge(now),
        }
        self.follow_transitions(is_deadline);
        self.update_probing(now);
        if is_deadline {
            self.probe_round(now);
        }
        Ok(self.actions())
    }

    /// When [`Input::Deadline`] is due: at the end of a hold-down, for a probe, or while members are in transition. After [`Input::Deadline`] it is in the
    /// future.
    pub fn deadline(&self) -> Option<Time> {
        debug_assert_eq!(self.due, self.next_deadline());
        self.due
    }

    fn next_deadline(&self) -> Option<Time> {
        let own = self.members.iter().filter_map(Member::held_until);
        own.chain(self.probe_deadline()).chain(self.transition_deadline()).min()
    }

    /// Name of the group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The group interface has another name.
    pub fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Interfaces of members have other names, by number: all at once, since two may have swapped theirs.
    pub fn rename_members(&mut self, names: &BTreeMap<u8, String>) {
        let before = |number: &u8| Some((self.members.name(Some(*number))?, names[number].clone()));
        self.published.rename(&names.keys().filter_map(before).collect());
        for (number, name) in names {
            if let Some(member) = self.members.get_mut(*number) {
                member.set_name(name);
            }
        }
    }

    /// State of the group.
    pub fn state(&self) -> GroupState {
        match self.members.state() {
            GroupState::Ok | GroupState::Degraded if self.probing.is_split() => GroupState::Split,
            state => state,
        }
    }

    /// The members, in the order in which they joined.
    pub fn members(&self) -> &[Member] {
        self.members.as_slice()
    }

    /// The member with this number.
    pub fn member(&self, number: u8) -> Option<&Member> {
        self.members.get(number)
    }

    /// The member with this interface name.
    pub fn member_named(&self, name: &str) -> Option<&Member> {
        self.members.named(name)
    }

    /// The members that transmit, longest active first.
    pub fn active(&self) -> &[u8] {
        self.roles.active()
    }

    /// The members that the daemon allows to transmit.
    pub fn usable(&self) -> MemberSet {
        self.members.set(Member::usable)
    }

    /// The members that transmit before a packet is lost.
    pub fn reserve(&self) -> MemberSet {
        self.members.reserve(&self.settings)
    }

    /// The cast member.
    pub fn cast(&self) -> Option<u8> {
        self.roles.cast().member()
    }

    /// The list of the members for multicast and broadcast.
    pub fn cast_list(&self) -> Preference {
        self.roles.cast().list()
    }

    /// The inbound member of a data address.
    pub fn inbound(&self, address: IpAddr) -> Option<u8> {
        self.roles.inbound(address)
    }

    /// The member that a data address prefers.
    pub fn preferred(&self, address: IpAddr) -> Option<u8> {
        self.roles.preferred(address)
    }

    /// Name of the last inbound member of a data address.
    pub fn last_inbound(&self, address: IpAddr) -> Option<&str> {
        self.published.holder(address)
    }

    /// The data addresses and their inbound members.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, Option<u8>)> {
        self.roles.addresses()
    }

    /// The steering slots.
    pub fn slots(&self) -> &Slots {
        self.roles.slots()
    }

    /// The number for the next member, if the group is not full.
    pub fn free_number(&self) -> Option<u8> {
        self.slots().free_number(self.members.set(|_| true))
    }

    fn join(&mut self, now: Time, attachment: Attachment) {
        let number = attachment.member;
        if self.member(number).is_some() || usize::from(number) >= MAX_MEMBERS {
            debug_assert!(false, "member number {number} of group {} is not free", self.name);
            return;
        }
        let (name, link) = (attachment.name.clone(), attachment.link);
        self.report(Cause::Trigger, |group| Event::Joined { member: name, group });
        self.members.add(Member::new(now, Attachment { link: LinkState::Unknown, ..attachment }));
        self.probing.mark_stale();
        self.roles.rebuild_slots(&self.members);
        self.refuse_duplicate_mac(number);
        // A link that is down is reported and judged as a link that was lost (docs/reference.md 2.2).
        let turn = self.members.get_mut(number).and_then(|member| member.set_link(link));
        self.turned(number, turn, None, Cause::Trigger);
    }

    fn leave(&mut self, number: u8) {
        let Some(left) = self.members.remove(number) else { return };
        self.members.replace(&left);
        self.reconcile(&Cause::Trigger);
        self.probing.mark_stale();
        self.published.forget_member(number);
        self.roles.forget_member(number);
        self.report(Cause::Trigger, |group| Event::Left { member: left.name().to_owned(), group });
        self.accept_unique_macs();
        self.roles.rebuild_slots(&self.members);
        self.refresh(left.functions(), &Cause::Trigger);
    }

    fn set_link(&mut self, now: Time, number: u8, link: LinkState) {
        let member = self.members.get_mut(number).filter(|member| !member.absent());
        let turn = member.and_then(|member| member.set_link(link));
        self.turned(number, turn, Some(now), Cause::Trigger);
    }

    fn set_live(&mut self, now: Time, live: MemberSet) {
        // Losses first: the order of numbers must not decide whether a loss is the last one.
        let (kept, lost): (Vec<u8>, Vec<u8>) =
            self.members.numbers().into_iter().partition(|&number| live.has(number));
        let lost = lost.into_iter().map(|number| (number, false));
        for (number, live) in lost.chain(kept.into_iter().map(|number| (number, true))) {
            let Some(member) = self.members.get_mut(number) else { continue };
            let turn = member.set_live(live);
            let cause = Cause::UpdelayPassed { member: member.name().to_owned() };
            self.turned(number, turn, Some(now), cause);
        }
    }

    fn set_mac(&mut self, number: u8, mac: [u8; 6]) {
        let Some(member) = self.members.get_mut(number) else { return };
        if member.mac() == mac {
            return;
        }
        member.set_mac(mac);
        // It is announced even if no address moves.
        self.new_mac = Some(number);
        self.refuse_duplicate_mac(number);
        self.accept_unique_macs();
    }

    /// A member functions now.
    fn came_back(&mut self, number: u8, from: Origin, cause: &Cause) {
        self.members.came_back(number, from, &self.settings);
        self.reconcile(cause);
        if self.settings.failback == Failback::Idle && from != Origin::Joined {
            self.begin_return(number, cause);
        }
    }

    /// The operator enables failback: members that are inactive without it transmit again.
    fn fail_back(&mut self) {
        for number in self.members.without_failback() {
            self.came_back(number, Origin::Online, &Cause::Trigger);
        }
    }

    /// Handles the change of a member's state. `now` is set if its link changed just now; `cause` is what made a
    /// member function that was not down.
    fn turned(&mut self, number: u8, turn: Option<Turn>, now: Option<Time>, cause: Cause) {
        let (Some(turn), Some(member)) = (turn, self.members.get_mut(number)) else { return };
        let (name, is_offline) = (member.name().to_owned(), member.offline().is_some());
        match turn {
            Turn::LinkDown { from } => {
                let failed = member.probing().failed();
                let before = member.with_condition(from);
                member.probing_mut().link_down();
                member.set_inactive(false);
                let cause = if member.absent() {
                    Cause::MemberAbsent { member: name.clone() }
                } else {
                    let cause = Cause::LinkLost { member: name.clone() };
                    self.report(cause.clone(), |_| Event::LinkDown { member: name.clone() });
                    cause
                };
                self.members.replace(&before);
                self.reconcile(&cause);
                if matches!(from, Condition::New | Condition::Ok) && !failed {
                    if self.members.any_can_replace() {
                        self.report(cause.clone(), |group| Event::MemberFailed { member: name, group });
                    }
                    self.refresh(!is_offline, &cause);
                }
            }
            Turn::CameUp => {
                let cause = Cause::LinkRestored { member: name.clone() };
                self.report(cause.clone(), |_| Event::LinkUp { member: name.clone() });
                if let Some(now) = now {
                    self.check_flapping(now, number, name);
                }
                let turn = self.members.get_mut(number).and_then(Member::settle);
                self.turned(number, turn, now, cause);
            }
            Turn::Functions { .. } if member.probing().failed() => self.reconcile(&cause),
            Turn::Functions { repaired } => {
                // The datapath may have trusted the link long before netlink reported it.
                let cause = match cause {
                    Cause::LinkRestored { member } => Cause::UpdelayPassed { member },
                    cause => cause,
                };
                if repaired {
                    self.report(cause.clone(), |group| Event::MemberRepaired { member: name, group });
                }
                if !is_offline {
                    let from = if repaired { Origin::Repaired } else { Origin::Joined };
                    self.came_back(number, from, &cause);
                }
                self.refresh(false, &cause);
            }
        }
    }

    /// Starts the hold-down of a member whose link came up too often, unless no other one functions.
    fn check_flapping(&mut self, now: Time, number: u8, name: String) {
        let alone = !self.members.any_functions();
        let Some(member) = self.members.get_mut(number) else { return };
        if member.probing().enabled() || !member.flap_mut().link_up(now, &self.settings) {
            return;
        }
        if alone {
            member.flap_mut().release();
        } else if member.flap_mut().is_unreported() {
            let cause = Cause::Flapping { member: name.clone() };
            self.report(cause, |_| Event::Flapping { member: name, ups: flap::UPS });
        }
    }

    fn expire_hold_downs(&mut self, now: Time) {
        for number in self.members.numbers() {
            let Some(member) = self.members.get_mut(number) else { continue };
            if member.flap_mut().expire(now) {
                let cause = Cause::HoldDownExpired { member: member.name().to_owned() };
                let turn = member.settle();
                self.turned(number, turn, None, cause);
            }
        }
    }

    /// Reports whether the group has become unusable or usable. `lost`: a member was lost just now.
    fn refresh(&mut self, lost: bool, cause: &Cause) {
        if !self.members.any_functions() {
            self.probing.forget_hosts(Family::ALL);
            // A bad link is better than none: all are released from their hold-downs.
            for number in self.members.numbers() {
                let Some(member) = self.members.get_mut(number) else { continue };
                if member.held_until().is_some() {
                    member.flap_mut().release();
                    let cause = Cause::NoOtherMember { member: member.name().to_owned() };
                    let turn = member.settle();
                    self.turned(number, turn, None, cause);
                }
            }
        }
        match self.members.iter().find(|member| member.functions()).map(|member| member.name().to_owned()) {
            Some(member) if self.reported_unusable => {
                self.reported_unusable = false;
                self.report(cause.clone(), |group| Event::GroupUsable { member, group });
            }
            None if lost && !self.reported_unusable && !self.members().is_empty() => {
                self.reported_unusable = true;
                self.report(cause.clone(), |group| Event::GroupUnusable { group });
            }
            _ => {}
        }
        self.reconcile(cause);
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
