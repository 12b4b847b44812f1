//! One member: the state of its link.
//!
//! A link has two observers. Netlink reports what the kernel announces, sometimes late; `live` is what the datapath
//! itself trusts. A member is down as soon as *either* reports it down, and is back when *both* report it up:
//!
//! | condition | state | link down | `live` lost | link up | `live` gained | hold-down over |
//! |---|---|---|---|---|---|---|
//! | new | unknown | **down** | – | – | **ok** | – |
//! | ok | ok | **down** | **down** | – | – | – |
//! | down | failed | – | – | came up, if netlink had reported down | came up, if netlink does not report down | – |
//! | returning | failed | **down** | – | – | **ok**, repaired | – |
//! | held | failed | **down** | **down** | – | – | **ok** if live, repaired; else **returning** |
//!
//! *Came up* leads to **held** if the link flaps and others can transmit, else to **ok**, repaired, if the member is live,
//! else to **returning**. A link up that is no change, while the datapath does not trust the member, is an old report
//! and no link-up.
//!
//! Offline covers all this: the link of an offline member is still tracked, and decides its state when it is online again.
//! A member whose device does not exist is absent, whatever else it is; its condition is **down** until the device returns.
//!
//! Probes ([`super::probe`]) are independent of it: a member functions if its link is good *and* its probes have not failed.
//! A link that goes down fails them, too, so that a member which is probed is repaired by ten replies and not by its link.

mod adopted;
mod flaw;
mod flow_moves;
mod probing;

pub use flaw::{Hole, Loss};
pub use flow_moves::Transition;
pub use probing::{FullFrame, MemberProbing};

use std::net::IpAddr;

use super::{
    Attachment, Time,
    flap::Flap,
    probe::{TestAddress, prober::Prober},
};
use crate::types::{Family, LinkState, MemberState, OfflineCause, ProbeState};

/// The condition of a member by its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Joined with a link, and the datapath has not trusted it yet.
    New,
    /// Its link is good.
    Ok,
    /// Its link is down.
    Down,
    /// Its link is back, and the datapath does not trust it yet.
    Returning,
    /// Its link is back, and waits for the end of a hold-down because it flaps.
    Held,
}

/// A change of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its link was lost.
    LinkDown {
        /// Condition before.
        from: Condition,
    },
    /// Its link came up; `Member::settle` decides the condition.
    CameUp,
    /// It functions.
    Functions {
        /// It had failed; otherwise it is new.
        repaired: bool,
    },
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    attachment: Attachment,
    condition: Condition,
    live: bool,
    offline: Option<OfflineCause>,
    /// Its device does not exist here. Its condition is then [`Condition::Down`].
    absent: bool,
    flap: Flap,
    standby: bool,
    /// Functions, but does not transmit: a standby, or repaired without `failback`.
    inactive: bool,
    /// Its ingress program is attached; without it, the group receives nothing through the member.
    receives: bool,
    /// Must not transmit, since others do and it does not function or is inactive.
    kept_out: bool,
    /// Flows move to it, or leave it.
    transition: Option<Transition>,
    hole: Option<Hole>,
    /// The default router that it does not reach while others do, and that matters.
    unreached_router: Option<IpAddr>,
    /// It loses far more than others.
    loss: Option<Loss>,
    probing: MemberProbing,
}

impl Member {
    /// A new member: considered good until its link is down.
    pub(super) fn new(now: Time, attachment: Attachment) -> Self {
        Self {
            attachment,
            condition: Condition::New,
            live: false,
            offline: None,
            absent: false,
            flap: Flap::default(),
            standby: false,
            inactive: false,
            receives: true,
            kept_out: false,
            transition: None,
            hole: None,
            unreached_router: None,
            loss: None,
            probing: MemberProbing::new(now),
        }
    }

    /// Number of the member in its group.
    pub fn number(&self) -> u8 {
        self.attachment.member
    }

    /// Its interface, as it joined and as it changed since.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        &self.attachment.name
    }

    /// MAC.
    pub fn mac(&self) -> [u8; 6] {
        self.attachment.mac
    }

    /// MTU in bytes.
    pub fn mtu(&self) -> u32 {
        self.attachment.mtu
    }

    /// Weight of its slots.
    pub fn weight(&self) -> u32 {
        self.attachment.weight
    }

    /// Link, as netlink reported it last.
    pub fn link(&self) -> LinkState {
        self.attachment.link
    }

    /// Whether the datapath trusts its link.
    pub fn live(&self) -> bool {
        self.live
    }

    /// Condition of its link.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Why it is offline, if it is.
    pub fn offline(&self) -> Option<OfflineCause> {
        self.offline
    }

    /// Whether the operator has set it offline.
    pub fn is_offline_by_operator(&self) -> bool {
        self.offline == Some(OfflineCause::Operator)
    }

    /// Whether its device does not exist here.
    pub fn absent(&self) -> bool {
        self.absent
    }

    /// End of its hold-down, if flap protection has started one.
    pub fn held_until(&self) -> Option<Time> {
        self.flap.until()
    }

    /// Whether the operator made it a standby.
    pub fn standby(&self) -> bool {
        self.standby
    }

    /// Whether it functions, but does not transmit.
    pub fn inactive(&self) -> bool {
        self.inactive
    }

    /// Its test address in a family.
    pub fn test_address(&self, family: Family) -> TestAddress {
        self.probing.address(family)
    }

    /// Its prober in a family, if it has one.
    pub fn prober(&self, family: Family) -> Option<&Prober> {
        self.probing.prober(family)
    }

    /// Whether it is probed, or would be with a target.
    pub fn is_probed(&self) -> bool {
        self.probing.enabled()
    }

    /// Whether its probes have failed, or its link while it was probed, and ten replies in a row are still missing.
    pub fn probes_failed(&self) -> bool {
        self.probing.failed()
    }

    /// The state that is reported (docs/reference.md 1.7).
    pub fn state(&self) -> MemberState {
        match (self.offline, self.condition) {
            _ if self.absent => MemberState::Absent,
            (Some(_), _) => MemberState::Offline,
            (None, Condition::New) => MemberState::Unknown,
            (None, Condition::Ok) if self.probing.failed() || !self.receives => MemberState::Failed,
            (None, Condition::Ok) if self.lacks_targets() => MemberState::Unknown,
            (None, Condition::Ok) => MemberState::Ok,
            (None, Condition::Down | Condition::Returning | Condition::Held) => MemberState::Failed,
        }
    }

    /// The PROBE column (docs/reference.md 1.7).
    pub fn probe_column(&self) -> ProbeState {
        if !self.probing.enabled() {
            ProbeState::Disabled
        } else if matches!(self.state(), MemberState::Failed | MemberState::Absent) {
            ProbeState::Failed
        } else if self.lacks_targets() {
            ProbeState::Unknown
        } else {
            ProbeState::Ok
        }
    }

    fn lacks_targets(&self) -> bool {
        self.probing.enabled() && !self.probing.probers().any(Prober::capable)
    }

    /// Whether its link is good and it is not offline: only then it is probed.
    pub(super) fn in_service(&self) -> bool {
        self.offline.is_none() && self.condition == Condition::Ok
    }

    /// Whether it is in service and has not failed: what the reference calls functioning and usable.
    pub fn functions(&self) -> bool {
        self.in_service() && !self.probing.failed() && self.receives
    }

    /// Whether its ingress program is attached.
    pub fn receives(&self) -> bool {
        self.receives
    }

    /// Whether it transmits: what the reference calls active. A failed member does while none functions and the group
    /// fails open.
    pub fn active(&self) -> bool {
        self.usable() && self.condition == Condition::Ok
    }

    /// Whether the daemon allows it to transmit.
    ///
    /// A failed link alone is no reason not to: the datapath fails over by itself, and returns without the daemon.
    pub fn usable(&self) -> bool {
        !self.absent && self.offline.is_none() && self.flap.until().is_none() && !self.kept_out
    }

    /// Whether it is in a hold-down, and not offline.
    pub(super) fn is_in_hold_down(&self) -> bool {
        self.offline.is_none() && self.flap.until().is_some()
    }

    /// Whether it must not transmit, since others do and it does not function or is inactive.
    pub(super) fn kept_out(&self) -> bool {
        self.kept_out
    }

    /// Its probing in both families.
    pub fn probing(&self) -> &MemberProbing {
        &self.probing
    }

    pub(super) fn probing_mut(&mut self) -> &mut MemberProbing {
        &mut self.probing
    }

    pub(super) fn flap_mut(&mut self) -> &mut Flap {
        &mut self.flap
    }

    pub(super) fn set_name(&mut self, name: &str) {
        name.clone_into(&mut self.attachment.name);
    }

    pub(super) fn set_mac(&mut self, mac: [u8; 6]) {
        self.attachment.mac = mac;
    }

    pub(super) fn set_mtu(&mut self, mtu: u32) {
        self.attachment.mtu = mtu;
    }

    pub(super) fn set_weight(&mut self, weight: u32) {
        self.attachment.weight = weight;
    }

    /// Makes it a standby, or no longer; whether that is a change. A member that is no standby is not inactive.
    pub(super) fn set_standby(&mut self, standby: bool) -> bool {
        let is_change = std::mem::replace(&mut self.standby, standby) != standby;
        self.inactive &= standby || !is_change;
        is_change
    }

    pub(super) fn set_inactive(&mut self, inactive: bool) {
        self.inactive = inactive;
    }

    pub(super) fn set_kept_out(&mut self, kept_out: bool) {
        self.kept_out = kept_out;
    }

    pub(super) fn set_receives(&mut self, receives: bool) {
        self.receives = receives;
    }

    /// Takes it out of service.
    pub(super) fn set_offline(&mut self, cause: OfflineCause) {
        self.offline = Some(cause);
        self.inactive = false;
    }

    /// Changes why it is offline, if it is.
    pub(super) fn set_offline_cause(&mut self, cause: OfflineCause) {
        self.offline = self.offline.and(Some(cause));
    }

    /// Takes it back into service; earlier link-ups do not count.
    pub(super) fn set_online(&mut self) -> Option<Turn> {
        self.offline = None;
        self.flap.forget();
        self.settle()
    }

    /// Its device does not exist any more.
    pub(super) fn set_absent(&mut self) -> Option<Turn> {
        self.absent = true;
        self.set_link(LinkState::Down)
    }

    /// Its device exists again; its link is reported afterwards.
    pub(super) fn set_returned(&mut self, mac: [u8; 6], mtu: u32) {
        (self.absent, self.live, self.receives) = (false, false, true);
        (self.attachment.mac, self.attachment.mtu) = (mac, mtu);
    }

    /// The member as it was before its condition changed.
    pub(super) fn with_condition(&self, condition: Condition) -> Self {
        Self { condition, ..self.clone() }
    }

    /// Handles a netlink report of its link.
    pub(super) fn set_link(&mut self, link: LinkState) -> Option<Turn> {
        let before = std::mem::replace(&mut self.attachment.link, link);
        match (link, self.condition) {
            (LinkState::Down, Condition::Down) => None,
            (LinkState::Down, from) => {
                self.condition = Condition::Down;
                Some(Turn::LinkDown { from })
            }
            (_, Condition::Down) if before == LinkState::Down => Some(self.came_up()),
            _ => None,
        }
    }

    /// Handles a change of its bit in `live`.
    pub(super) fn set_live(&mut self, live: bool) -> Option<Turn> {
        if std::mem::replace(&mut self.live, live) == live {
            return None;
        }
        match (live, self.condition) {
            (false, from @ (Condition::Ok | Condition::Held)) => {
                self.condition = Condition::Down;
                Some(Turn::LinkDown { from })
            }
            (true, Condition::Down) if self.link() != LinkState::Down => Some(self.came_up()),
            (true, Condition::New | Condition::Returning) => self.settle(),
            _ => None,
        }
    }

    fn came_up(&mut self) -> Turn {
        self.condition = Condition::Returning;
        Turn::CameUp
    }

    /// Decides the condition after its link came up, or its hold-down began or ended.
    pub(super) fn settle(&mut self) -> Option<Turn> {
        let repaired = match self.condition {
            Condition::Ok | Condition::Down => return None,
            Condition::New => false,
            Condition::Returning | Condition::Held => true,
        };
        if repaired && self.flap.until().is_some() {
            self.condition = Condition::Held;
            return None;
        }
        if !self.live {
            if repaired {
                self.condition = Condition::Returning;
            }
            return None;
        }
        self.condition = Condition::Ok;
        if repaired {
            self.flap.repaired();
        }
        Some(Turn::Functions { repaired })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::Settings;

    #[derive(Clone, Copy, Debug)]
    enum Input {
        LinkDown,
        LiveLost,
        LinkUp,
        LiveGained,
        HoldOver,
    }
    use Input::*;

    const NOW: Time = Time(Duration::from_secs(1000));
    const DOWN: fn(Condition) -> Option<Turn> = |from| Some(Turn::LinkDown { from });
    const WORKS: Option<Turn> = Some(Turn::Functions { repaired: false });
    const REPAIRED: Option<Turn> = Some(Turn::Functions { repaired: true });
    const UP: Option<Turn> = Some(Turn::CameUp);

    fn member(condition: Condition, link: LinkState, live: bool, held: bool) -> Member {
        let attachment =
            Attachment { member: 0, name: "eth0".to_owned(), mac: [2; 6], mtu: 1500, weight: 1, link };
        let flap = if held { Flap::adopted(NOW, &Settings::default()) } else { Flap::default() };
        Member { condition, live, flap, ..Member::new(NOW, attachment) }
    }

    fn tell(member: &mut Member, event: Input, up: LinkState) -> Option<Turn> {
        match event {
            LinkDown => member.set_link(LinkState::Down),
            LinkUp => member.set_link(up),
            LiveLost => member.set_live(false),
            LiveGained => member.set_live(true),
            HoldOver => {
                member.flap.release();
                member.settle()
            }
        }
    }

    /// The table of the module's documentation, for every possible state.
    #[test]
    fn every_condition_and_input_matches_the_table() {
        use Condition::*;
        type Start = (Condition, bool, bool, bool);
        type Row = (Start, [(Condition, Option<Turn>); 5]);
        // Condition, netlink reports down, live, held; then the result of link down, live lost, link up, live gained
        // and the end of the hold-down.
        #[rustfmt::skip]
        let table: [Row; 9] = [
            ((New, false, false, false), [(Down, DOWN(New)), (New, None), (New, None), (Ok, WORKS), (New, None)]),
            ((Ok, false, true, false), [(Down, DOWN(Ok)), (Down, DOWN(Ok)), (Ok, None), (Ok, None), (Ok, None)]),
            // Netlink and the datapath agree; netlink was first; the datapath was first.
            ((Down, true, false, false), [(Down, None), (Down, None), (Returning, UP), (Down, None), (Down, None)]),
            ((Down, true, true, false), [(Down, None), (Down, None), (Returning, UP), (Down, None), (Down, None)]),
            ((Down, false, false, false), [(Down, None), (Down, None), (Down, None), (Returning, UP), (Down, None)]),
            ((Down, true, false, true), [(Down, None), (Down, None), (Returning, UP), (Down, None), (Down, None)]),
            ((Returning, false, false, false),
                [(Down, DOWN(Returning)), (Returning, None), (Returning, None), (Ok, REPAIRED), (Returning, None)]),
            ((Held, false, false, true),
                [(Down, DOWN(Held)), (Held, None), (Held, None), (Held, None), (Returning, None)]),
            ((Held, false, true, true),
                [(Down, DOWN(Held)), (Down, DOWN(Held)), (Held, None), (Held, None), (Ok, REPAIRED)]),
        ];
        for up in [LinkState::Up, LinkState::Unknown] {
            for ((condition, down, live, held), expected) in table {
                let events = [LinkDown, LiveLost, LinkUp, LiveGained, HoldOver];
                for (event, (then, turn)) in events.into_iter().zip(expected) {
                    let start = member(condition, if down { LinkState::Down } else { up }, live, held);
                    let mut member = start.clone();
                    let seen = tell(&mut member, event, up);
                    assert_eq!((member.condition, seen), (then, turn), "{event:?} in {start:?}");
                }
            }
        }
    }

    #[test]
    fn settle_depends_on_live_and_hold_down() {
        for (live, held, condition, turn) in [
            (true, false, Condition::Ok, REPAIRED),
            (false, false, Condition::Returning, None),
            (true, true, Condition::Held, None),
            (false, true, Condition::Held, None),
        ] {
            let mut member = member(Condition::Returning, LinkState::Up, live, held);
            assert_eq!((member.settle(), member.condition), (turn, condition), "live {live}, held {held}");
        }
    }

    #[test]
    fn offline_member_tracks_its_link() {
        let mut member = member(Condition::Ok, LinkState::Up, true, false);
        member.offline = Some(OfflineCause::Operator);
        assert_eq!((member.state(), member.usable()), (MemberState::Offline, false));
        assert_eq!(member.set_link(LinkState::Down), DOWN(Condition::Ok));
        member.offline = None;
        assert_eq!((member.state(), member.usable()), (MemberState::Failed, true));
    }
}
