//! A group: its members' states, who carries what, and what is said about it.
//!
//! ```text
//!                       first live                         link down, or not live
//!   joined, link up ──► unknown ──────────────► ok ─────────────────────────────► failed ◄── joined, link down
//!                                               ▲                                   │
//!                                               └───────────────────────────────────┘
//!                                                  link up and live and not held down
//!
//!   any of them ── offline ──► offline ── online ──► what its link makes of it by then
//! ```
//!
//! [`super::member`] has the table of a member, link by link; this is what the group adds:
//!
//! | a member | other functioning members | said (reference 2.5, 2.8) | done |
//! |---|---|---|---|
//! | goes down | some | link down, failure | leaves the active list: its addresses and the cast role move |
//! | goes down | none | link down, all unusable | roles keep their lists, nobody is announced |
//! | goes down while failed or offline | any | link down | – |
//! | comes up | some | link up; flapping, if it is the third time in a minute | if it flaps, not usable |
//! | comes up | none | link up | never held down; others that are held down are let go |
//! | works, for the first time | any | at least one usable, if all were unusable | joins the active list's end |
//! | works again | any | repair; at least one usable, if all were unusable | joins the active list's end |
//! | is taken offline | some, or more members if all failed | offline | not usable, leaves the active list |
//! | is put online | any | online | usable; joins the active list's end if it works |
//! | has another's MAC | any | not unique | as offline |
//! | no longer has | any | unique | as online |
//!
//! `probing` has the same for members that are probed, `spare` for standbys and for who carries when nobody functions.

mod adopt;
mod probing;
mod spare;
mod told;
mod watch;

use std::{net::IpAddr, time::Duration};

use ipmp_common::{
    maps::MemberStatus,
    steer::{MAX_MEMBERS, MemberSet},
};

pub use adopt::Adopted;
use probing::Probes;
pub use probing::Slow;
use spare::Back;
use told::Told;

use super::{
    Action, Attachment, Cause, Event, Input, Refusal, Time,
    binding::Bindings,
    cast::Cast,
    flap,
    member::{Condition, Member, Turn},
    probe::fdt,
    slots::Slots,
};
use crate::types::{Family, GroupState, LinkState, OfflineCause, ProbePolicy};

/// Least MTU of a group in bytes: below it Linux would drop the group's IPv6 addresses for good (RFC 8200, 5).
pub const MIN_MTU: u32 = 1280;

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time within which [`flap::UPS`] link-ups are believed and another one is not.
    pub flap_window: Duration,
    /// The longest that flap protection holds a member down.
    pub longest_hold: Duration,
    /// Time within which a failure that no link shows is noticed, of members that are probed.
    pub fdt: Duration,
    /// Whether a repaired member carries traffic again, if nobody is missed.
    pub failback: bool,
    /// Whether members whose probes fail carry traffic while nobody else does, and are not blamed for targets that
    /// answer nobody.
    pub fail_open: bool,
    /// Whether members without a test address are probed.
    pub probe: ProbePolicy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flap_window: Duration::from_secs(60),
            longest_hold: Duration::from_secs(3600),
            fdt: fdt::DEFAULT,
            failback: true,
            fail_open: true,
            probe: ProbePolicy::Off,
        }
    }
}

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    name: String,
    settings: Settings,
    /// In the order in which they joined.
    members: Vec<Member>,
    /// Members that carry traffic, longest active first.
    active: Vec<u8>,
    slots: Slots,
    cast: Cast,
    v4: Bindings,
    v6: Bindings,
    /// "All unusable" has been said, and nothing else since.
    said_unusable: bool,
    probes: Probes,
    told: Told,
    /// The member whose MAC this event has changed.
    new_mac: Option<u8>,
    /// What this event has to say, each with its cause.
    lines: Vec<(Event, Cause)>,
    /// What makes happen what happens now.
    why: Cause,
}

impl Group {
    /// An empty group. The group interface is expected to have no carrier.
    pub fn new(name: impl Into<String>, settings: Settings) -> Self {
        Self {
            name: name.into(),
            settings,
            members: Vec::new(),
            active: Vec::new(),
            slots: Slots::new(),
            cast: Cast::default(),
            v4: Bindings::default(),
            v6: Bindings::default(),
            said_unusable: false,
            probes: Probes::new(&settings),
            told: Told { carrier: Some(false), ..Told::default() },
            new_mac: None,
            lines: Vec::new(),
            why: Cause::Trigger,
        }
    }

    /// Takes an event, and says what is to be done, in this order. Refuses nothing but [`Input::Offline`] and
    /// [`Input::Online`]; what concerns a member that has left meanwhile is of no effect.
    pub fn handle(&mut self, now: Time, event: Input) -> Result<Vec<Action>, Refusal> {
        self.refusal(&event)?;
        self.expire(now);
        self.why = Cause::Trigger;
        let deadline = event == Input::Deadline;
        match event {
            Input::Joined(attachment) => self.join(now, attachment),
            Input::Left { member } => self.leave(member),
            Input::Link { member, link } => self.set_link(now, member, link),
            Input::Live(live) => self.set_live(now, live),
            Input::Mtu { member, mtu } => {
                if let Some(member) = self.member_mut(member) {
                    member.attachment.mtu = mtu;
                }
            }
            Input::Mac { member, mac } => self.set_mac(member, mac),
            Input::Weight { member, weight } => {
                if let Some(member) = self.member_mut(member) {
                    member.attachment.weight = weight;
                    self.rebuild();
                }
            }
            Input::Offline { member } => self.offline(member),
            Input::Online { member } => self.online(member),
            Input::AddressAdded(address) => {
                let active = self.active.clone();
                self.family(address).add(address, &active);
                self.probes.stale = true;
            }
            Input::AddressRemoved(address) => {
                let active = self.active.clone();
                self.family(address).remove(address, &active);
                self.probes.stale = true;
            }
            Input::Settings(settings) => self.set(settings),
            Input::Standby { member, standby } => self.set_standby(member, standby),
            Input::TestAddress { member, family, address } => self.set_test_address(member, family, address),
            Input::Targets(targets) => self.set_targets(targets),
            Input::DisabledTargets(targets) => self.set_disabled_targets(targets),
            Input::Discover => self.discover(),
            Input::Routes { family, hosts, routers } => self.set_routes(family, hosts, routers),
            Input::Host(address) => self.host_answered(address),
            Input::Neighbour { address, mac } => self.set_neighbour(now, address, mac),
            Input::Sent { member, family, sequence, cookie } => {
                self.sent(now, member, family, sequence, cookie);
            }
            Input::Answer { member, target, proof, at } => self.answered(now, member, target, proof, at),
            Input::Deadline => self.judge(now),
        }
        self.attend(now);
        if deadline {
            self.probe_round(now);
        }
        Ok(self.actions())
    }

    /// When [`Input::Deadline`] is wanted: at the end of a hold-down, or for a probe. It is in the future, once the
    /// last one has been told.
    pub fn deadline(&self) -> Option<Time> {
        self.members.iter().filter_map(Member::held_until).chain(self.probe_deadline()).min()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state.
    pub fn state(&self) -> GroupState {
        match self.members.iter().filter(|member| member.functions()).count() {
            0 => GroupState::Failed,
            all if all == self.members.len() => GroupState::Ok,
            _ => GroupState::Degraded,
        }
    }

    /// Its members, in the order in which they joined.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this number.
    pub fn member(&self, number: u8) -> Option<&Member> {
        self.members.iter().find(|member| member.number() == number)
    }

    /// The member with this interface name.
    pub fn member_named(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name() == name)
    }

    /// The members that carry traffic, longest active first.
    pub fn active(&self) -> &[u8] {
        &self.active
    }

    /// The members that the daemon lets carry traffic.
    pub fn usable(&self) -> MemberSet {
        self.members.iter().filter(|member| member.usable()).map(Member::number).collect()
    }

    /// The cast member.
    pub fn cast(&self) -> Option<u8> {
        self.cast.member()
    }

    /// The inbound member of a data address.
    pub fn inbound(&self, address: IpAddr) -> Option<u8> {
        if address.is_ipv4() { self.v4.member(address) } else { self.v6.member(address) }
    }

    /// Its data addresses and their inbound members.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, Option<u8>)> {
        self.v4.iter().chain(self.v6.iter())
    }

    /// Its steering slots.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The number for the next member, if there is room for one.
    pub fn free_number(&self) -> Option<u8> {
        self.slots.free_number(self.members.iter().map(Member::number).collect())
    }

    fn join(&mut self, now: Time, attachment: Attachment) {
        let number = attachment.member;
        if self.member(number).is_some() || usize::from(number) >= MAX_MEMBERS {
            debug_assert!(false, "member number {number} of group {} is not free", self.name);
            return;
        }
        let (name, link) = (attachment.name.clone(), attachment.link);
        self.say(|group| Event::Joined { member: name, group });
        self.members.push(Member::new(now, Attachment { link: LinkState::Unknown, ..attachment }));
        self.probes.stale = true;
        self.rebuild();
        self.refuse_twin(number);
        // A link that is down is a link that went down: said and judged as one (reference 2.2).
        let turn = self.member_mut(number).and_then(|member| member.set_link(link));
        self.turned(number, turn, None);
    }

    fn leave(&mut self, number: u8) {
        let Some(at) = self.members.iter().position(|member| member.number() == number) else { return };
        let left = self.members.remove(at);
        self.lost_one(&left);
        let lost = left.functions();
        self.probes.stale = true;
        self.told.states[usize::from(number)] = MemberStatus::Vacant;
        self.say(|group| Event::Left { member: left.name().to_owned(), group });
        self.accept_twins();
        self.rebuild();
        self.refresh(lost);
    }

    fn rebuild(&mut self) {
        let weights: Vec<(u8, u32)> =
            self.members.iter().map(|member| (member.number(), member.weight())).collect();
        self.slots = self.slots.rebuild(&weights);
    }

    fn set_link(&mut self, now: Time, number: u8, link: LinkState) {
        let turn = self.member_mut(number).and_then(|member| member.set_link(link));
        self.turned(number, turn, Some(now));
    }

    fn set_live(&mut self, now: Time, live: MemberSet) {
        // Losses first: whether the last one is gone must not depend on the order of numbers.
        let numbers: Vec<u8> = self.members.iter().map(Member::number).collect();
        let (kept, lost): (Vec<u8>, Vec<u8>) = numbers.iter().partition(|&&number| live.has(number));
        for (number, live) in lost.into_iter().map(|n| (n, false)).chain(kept.into_iter().map(|n| (n, true)))
        {
            let turn = self.member_mut(number).and_then(|member| member.set_live(live));
            if let (Some(Turn::Functions { .. }), Some(member)) = (turn, self.name_of(Some(number))) {
                self.why = Cause::UpdelayPassed { member };
            }
            self.turned(number, turn, Some(now));
        }
    }

    fn set_mac(&mut self, number: u8, mac: [u8; 6]) {
        let Some(member) = self.member_mut(number) else { return };
        if member.mac() == mac {
            return;
        }
        member.attachment.mac = mac;
        // The network must hear of it even if nobody else takes over.
        self.new_mac = Some(number);
        self.refuse_twin(number);
        self.accept_twins();
    }

    /// Offlines a member whose MAC another one has (reference 2.11).
    fn refuse_twin(&mut self, number: u8) {
        let Some(member) = self.member(number) else { return };
        if member.offline.is_some() || !self.has_twin(member) {
            return;
        }
        let name = member.name().to_owned();
        let twin = self.members.iter().find(|other| other.number() != number && other.mac() == member.mac());
        let other = twin.map_or_else(String::new, |twin| twin.name().to_owned());
        let why = Cause::DuplicateMac { member: name.clone(), other };
        self.say_because(why, |group| Event::DuplicateMac { member: name, group });
        let lost = self.take_out(number, OfflineCause::DuplicateMac);
        self.refresh(lost);
    }

    /// Onlines the members whose MAC nobody else has any more.
    fn accept_twins(&mut self) {
        let numbers: Vec<u8> = self.members.iter().map(Member::number).collect();
        for number in numbers {
            let Some(member) = self.member(number) else { continue };
            if member.offline == Some(OfflineCause::DuplicateMac) && !self.has_twin(member) {
                let name = member.name().to_owned();
                let why = Cause::UniqueMac { member: name.clone() };
                self.say_because(why, |group| Event::UniqueMac { member: name, group });
                self.put_back(number);
            }
        }
    }

    fn has_twin(&self, member: &Member) -> bool {
        self.members.iter().any(|other| {
            other.number() != member.number() && other.offline.is_none() && other.mac() == member.mac()
        })
    }

    /// Why an event is refused, if it is. Minimum redundancy is one, as if_mpadm asks for it (reference 2.12).
    fn refusal(&self, event: &Input) -> Result<(), Refusal> {
        let (Input::Offline { member } | Input::Online { member }) = event else { return Ok(()) };
        let Some(member) = self.member(*member) else { return Ok(()) };
        let name = || member.name().to_owned();
        if matches!(event, Input::Online { .. }) {
            return match member.offline {
                None => Err(Refusal::NotOffline(name())),
                Some(OfflineCause::DuplicateMac) => Err(Refusal::DuplicateMac(name())),
                Some(OfflineCause::Operator) if self.has_twin(member) => Err(Refusal::DuplicateMac(name())),
                Some(OfflineCause::Operator) => Ok(()),
            };
        }
        if member.offline.is_some() {
            return Err(Refusal::AlreadyOffline(name()));
        }
        let mut others = self.members.iter().filter(|other| other.number() != member.number());
        let enough = match self.state() {
            GroupState::Failed => others.any(|other| other.offline.is_none()),
            GroupState::Ok | GroupState::Degraded => others.any(Member::functions),
        };
        if enough { Ok(()) } else { Err(Refusal::LastFunctioning(name())) }
    }

    fn offline(&mut self, number: u8) {
        let Some(member) = self.name_of(Some(number)) else { return };
        self.say(|group| Event::Offline { member, group });
        let lost = self.take_out(number, OfflineCause::Operator);
        self.accept_twins();
        self.refresh(lost);
    }

    fn online(&mut self, number: u8) {
        let Some(member) = self.name_of(Some(number)) else { return };
        self.say(|group| Event::Online { member, group });
        self.put_back(number);
    }

    fn take_out(&mut self, number: u8, cause: OfflineCause) -> bool {
        let Some(member) = self.member_mut(number) else { return false };
        let before = member.clone();
        member.offline = Some(cause);
        member.inactive = false;
        self.probes.stale = true;
        self.lost_one(&before);
        before.functions()
    }

    fn put_back(&mut self, number: u8) {
        self.probes.stale = true;
        let Some(member) = self.member_mut(number) else { return };
        member.offline = None;
        member.flap.forget();
        let turn = member.settle();
        if turn.is_none() && self.member(number).is_some_and(Member::functions) {
            self.came_back(number, Back::Online);
            self.refresh(false);
        }
        self.turned(number, turn, None);
        if turn.is_some() && self.member(number).is_some_and(Member::functions) {
            // Its link had come back while it was offline, but it comes from there.
            self.came_back(number, Back::Online);
        }
        self.reconcile();
    }

    /// Acts on what has become of a member. `now` is when its link turned, if it is its link that turned.
    fn turned(&mut self, number: u8, turn: Option<Turn>, now: Option<Time>) {
        let (Some(turn), Some(member)) = (turn, self.member(number)) else { return };
        let (name, offline) = (member.name().to_owned(), member.offline.is_some());
        match turn {
            Turn::WentDown { from } => {
                let failed = member.probing.failed;
                let before = Member { condition: from, ..member.clone() };
                self.why = Cause::LinkLost { member: name.clone() };
                self.say(|_| Event::LinkDown { member: name.clone() });
                let Some(member) = self.member_mut(number) else { return };
                member.probing.link_down();
                member.inactive = false;
                self.lost_one(&before);
                if matches!(from, Condition::New | Condition::Ok) && !failed {
                    if self.anybody_functions() || self.members.iter().any(Self::could_be_let_go) {
                        self.say(|group| Event::MemberFailed { member: name, group });
                    }
                    self.refresh(!offline);
                }
            }
            Turn::CameUp => {
                self.why = Cause::LinkRestored { member: name.clone() };
                self.say(|_| Event::LinkUp { member: name.clone() });
                let (settings, alone) = (self.settings, !self.anybody_functions());
                let Some(member) = self.member_mut(number) else { return };
                if let Some(now) = now
                    && !member.probing.enabled()
                    && member.flap.link_up(now, &settings)
                {
                    if alone {
                        member.flap.release();
                    } else if member.flap.say() {
                        let why = Cause::Flapping { member: name.clone() };
                        self.say_because(why, |_| Event::Flapping { member: name, ups: flap::UPS });
                    }
                }
                let turn = self.member_mut(number).and_then(Member::settle);
                self.turned(number, turn, now);
            }
            Turn::Functions { .. } if member.probing.failed => self.reconcile(),
            Turn::Functions { repaired } => {
                // The kernel may tell of a link last that the datapath has trusted for long.
                if matches!(self.why, Cause::LinkRestored { .. }) {
                    self.why = Cause::UpdelayPassed { member: name.clone() };
                }
                if repaired {
                    self.say(|group| Event::MemberRepaired { member: name, group });
                }
                if !offline {
                    self.came_back(number, if repaired { Back::Repaired } else { Back::Joined });
                }
                self.refresh(false);
            }
        }
    }

    /// Whether a member is kept out by flap protection alone.
    fn could_be_let_go(member: &Member) -> bool {
        member.offline.is_none() && member.condition == Condition::Held && member.live
    }

    fn anybody_functions(&self) -> bool {
        self.members.iter().any(Member::functions)
    }

    fn expire(&mut self, now: Time) {
        let numbers: Vec<u8> = self.members.iter().map(Member::number).collect();
        for number in numbers {
            let Some(member) = self.member_mut(number) else { continue };
            if member.flap.expire(now) {
                let (turn, name) = (member.settle(), member.name().to_owned());
                self.why = Cause::HoldDownExpired { member: name };
                self.turned(number, turn, None);
            }
        }
    }

    fn activate(&mut self, number: u8) {
        self.active.push(number);
        self.v4.activate(number, &self.active);
        self.v6.activate(number, &self.active);
    }

    fn deactivate(&mut self, number: u8) -> bool {
        let Some(at) = self.active.iter().position(|&active| active == number) else { return false };
        self.active.remove(at);
        self.v4.deactivate(number, &self.active);
        self.v6.deactivate(number, &self.active);
        true
    }

    /// Looks whether the group has become unusable or usable. `lost`: a member has just been lost.
    fn refresh(&mut self, lost: bool) {
        if !self.anybody_functions() {
            self.forget_hosts(Family::ALL);
            // Nobody is held down while nobody else carries: a bad link is better than none.
            for number in self.members.iter().map(Member::number).collect::<Vec<_>>() {
                let Some(member) = self.member_mut(number) else { continue };
                if member.flap.until().is_some() {
                    member.flap.release();
                    let (turn, name) = (member.settle(), member.name().to_owned());
                    let before = std::mem::replace(&mut self.why, Cause::NoOtherMember { member: name });
                    self.turned(number, turn, None);
                    self.why = before;
                }
            }
        }
        match self.members.iter().find(|member| member.functions()).map(|member| member.name().to_owned()) {
            Some(member) if self.said_unusable => {
                self.said_unusable = false;
                self.say(|group| Event::GroupUsable { member, group });
            }
            None if lost && !self.said_unusable && !self.members.is_empty() => {
                self.said_unusable = true;
                self.say(|group| Event::GroupUnusable { group });
            }
            _ => {}
        }
        self.reconcile();
    }

    fn member_mut(&mut self, number: u8) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.number() == number)
    }

    fn family(&mut self, address: IpAddr) -> &mut Bindings {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }

    fn name_of(&self, number: Option<u8>) -> Option<String> {
        number.and_then(|number| self.member(number)).map(|member| member.name().to_owned())
    }

    fn say(&mut self, line: impl FnOnce(String) -> Event) {
        self.say_because(self.why.clone(), line);
    }

    fn say_because(&mut self, why: Cause, line: impl FnOnce(String) -> Event) {
        self.lines.push((line(self.name.clone()), why));
    }

    /// Why a role goes from one member to another.
    fn why_moved(&self, from: &str, to: &str) -> Cause {
        let (before, member) = (self.member_named(from), from.to_owned());
        match before {
            None => Cause::MemberLeft { member },
            Some(before) if before.offline.is_some() => Cause::MemberOffline { member },
            Some(before) if before.functions() => Cause::Balance { member: to.to_owned() },
            Some(_) => Cause::MemberFailed { member },
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod wire;
