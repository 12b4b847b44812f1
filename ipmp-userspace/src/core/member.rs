//! One member: what its link does, and what that makes of it.
//!
//! Two observers speak about a link. Netlink tells what the kernel announces, sometimes late; `live` is what the
//! datapath itself trusts. A member is down as soon as *either* says so, and is back when *both* do:
//!
//! | condition | shown | link down | `live` lost | link up | `live` gained | hold-down over |
//! |---|---|---|---|---|---|---|
//! | new | unknown | **down** | – | – | **ok** | – |
//! | ok | ok | **down** | **down** | – | – | – |
//! | down | failed | – | – | came up, if netlink had said down | came up, if netlink does not say down | – |
//! | returning | failed | **down** | – | – | **ok**, repaired | – |
//! | held | failed | **down** | **down** | – | – | **ok** if live, repaired; else **returning** |
//!
//! *Came up* leads to **held** if the link flaps and others can carry the traffic, else to **ok**, repaired, if the
//! member is live, else to **returning**. A link up that is not news, while the datapath still distrusts the member,
//! is an old report and no link-up.
//!
//! Offline lies over all this: an offline member's link is followed, and it comes back as what it then is.
//!
//! Probes ([`super::probe`]) lie beside it: a member functions if its link is good *and* its probes have not failed. A
//! link that goes down fails them, too, so that a member which is probed comes back by ten answers and not by its link.

use super::{
    Attachment, Time,
    flap::Flap,
    probe::{TestAddress, prober::Prober},
};
use crate::types::{Family, LinkState, MemberState, OfflineCause, ProbeState};

/// What a member's link makes of it.
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
    /// Its link is back, and has come and gone too often to be believed yet.
    Held,
}

/// What has become of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its link went down.
    WentDown {
        /// What it was before.
        from: Condition,
    },
    /// Its link came up; `Member::settle` says what that makes of it.
    CameUp,
    /// It may carry traffic.
    Functions {
        /// It had failed, rather than never been seen working.
        repaired: bool,
    },
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub(super) attachment: Attachment,
    pub(super) condition: Condition,
    pub(super) live: bool,
    pub(super) offline: Option<OfflineCause>,
    pub(super) flap: Flap,
    pub(super) standby: bool,
    /// Functions, and is kept as a spare.
    pub(super) inactive: bool,
    /// Does not function, or is a spare, and somebody else carries: it shall not.
    pub(super) kept_out: bool,
    pub(super) probing: Probing,
}

/// What probing makes of a member, in both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probing {
    /// When the member joined.
    pub(super) joined: Time,
    pub(super) addresses: [TestAddress; 2],
    pub(super) probers: [Option<Prober>; 2],
    /// The verdict over both families.
    pub(super) failed: bool,
    /// The test address that somebody else in the group has, too, as was said.
    pub(super) duplicate: [bool; 2],
    /// Since when it has no test address although others have.
    pub(super) without: Option<Time>,
    /// That was said.
    pub(super) reported_without: bool,
}

impl Probing {
    /// Those that there are.
    pub(super) fn all(&self) -> impl Iterator<Item = &Prober> {
        self.probers.iter().flatten()
    }

    /// Those that there are.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Prober> {
        self.probers.iter_mut().flatten()
    }

    /// Whether the member is probed, or would be with targets.
    pub(super) fn enabled(&self) -> bool {
        self.all().any(Prober::enabled)
    }

    /// What the families together say: those that have targets, and if none has, all.
    pub(super) fn verdict(&self) -> bool {
        let mut capable = self.all().filter(|prober| prober.capable()).peekable();
        match capable.peek() {
            Some(_) => capable.any(Prober::failed),
            None => self.all().any(Prober::failed),
        }
    }

    /// The link is down: what was answered before says nothing, and much has to be answered after.
    pub(super) fn link_down(&mut self) {
        self.all_mut().filter(|prober| prober.enabled()).for_each(|prober| {
            prober.fail();
            prober.rest();
        });
        self.failed = self.verdict();
    }
}

impl Member {
    /// A newcomer: taken as good until its link says otherwise.
    pub(super) fn new(now: Time, attachment: Attachment) -> Self {
        Self {
            attachment,
            condition: Condition::New,
            live: false,
            offline: None,
            flap: Flap::default(),
            standby: false,
            inactive: false,
            kept_out: false,
            probing: Probing { joined: now, ..Probing::default() },
        }
    }

    /// Its number.
    pub fn number(&self) -> u8 {
        self.attachment.member
    }

    /// Its interface's name.
    pub fn name(&self) -> &str {
        &self.attachment.name
    }

    /// Its MAC.
    pub fn mac(&self) -> [u8; 6] {
        self.attachment.mac
    }

    /// Its MTU in bytes.
    pub fn mtu(&self) -> u32 {
        self.attachment.mtu
    }

    /// Its weight.
    pub fn weight(&self) -> u32 {
        self.attachment.weight
    }

    /// Its link, as netlink reported it last.
    pub fn link(&self) -> LinkState {
        self.attachment.link
    }

    /// Whether the datapath trusts its link.
    pub fn live(&self) -> bool {
        self.live
    }

    /// What its link makes of it.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Who took it out, if it is offline.
    pub fn offline(&self) -> Option<OfflineCause> {
        self.offline
    }

    /// Until when flap protection holds it down, if it does.
    pub fn held_until(&self) -> Option<Time> {
        self.flap.until()
    }

    /// Whether it is a standby.
    pub fn standby(&self) -> bool {
        self.standby
    }

    /// Whether it functions, and is kept as a spare.
    pub fn inactive(&self) -> bool {
        self.inactive
    }

    /// What is known of its test address.
    pub fn test_address(&self, family: Family) -> TestAddress {
        self.probing.addresses[family.index()]
    }

    /// Its probing in a family, if there is any.
    pub fn prober(&self, family: Family) -> Option<&Prober> {
        self.probing.probers[family.index()].as_ref()
    }

    /// Whether its probes have failed, or its link since it is probed, and ten answers in a row are not there yet.
    pub fn probes_failed(&self) -> bool {
        self.probing.failed
    }

    /// The state that is shown (reference 1.7).
    pub fn state(&self) -> MemberState {
        match (self.offline, self.condition) {
            (Some(_), _) => MemberState::Offline,
            (None, Condition::New) => MemberState::Unknown,
            (None, Condition::Ok) if self.probing.failed => MemberState::Failed,
            (None, Condition::Ok) if self.lacks_targets() => MemberState::Unknown,
            (None, Condition::Ok) => MemberState::Ok,
            (None, Condition::Down | Condition::Returning | Condition::Held) => MemberState::Failed,
        }
    }

    /// The PROBE column (reference 1.7).
    pub fn probe_column(&self) -> ProbeState {
        if !self.probing.enabled() {
            ProbeState::Disabled
        } else if self.state() == MemberState::Failed {
            ProbeState::Failed
        } else if self.lacks_targets() {
            ProbeState::Unknown
        } else {
            ProbeState::Ok
        }
    }

    fn lacks_targets(&self) -> bool {
        self.probing.enabled() && !self.probing.all().any(Prober::capable)
    }

    /// Whether its link is good, and nobody has taken it out: only then it is probed.
    pub(super) fn in_service(&self) -> bool {
        self.offline.is_none() && self.condition == Condition::Ok
    }

    /// Whether it is in service and works: what the reference calls functioning and usable.
    pub fn functions(&self) -> bool {
        self.in_service() && !self.probing.failed
    }

    /// Whether it carries traffic: what the reference calls active. A member that has failed does when nobody functions
    /// and the group fails open.
    pub fn active(&self) -> bool {
        self.usable() && self.condition == Condition::Ok
    }

    /// Whether the daemon lets it carry traffic.
    ///
    /// A failed link alone is no reason not to: the datapath steps aside by itself, and comes back without the daemon.
    pub fn usable(&self) -> bool {
        self.offline.is_none() && self.flap.until().is_none() && !self.kept_out
    }

    /// Whether it is held down, and nobody has taken it out.
    pub(super) fn is_held_down(&self) -> bool {
        self.offline.is_none() && self.flap.until().is_some()
    }

    /// Netlink reports its link.
    pub(super) fn set_link(&mut self, link: LinkState) -> Option<Turn> {
        let before = std::mem::replace(&mut self.attachment.link, link);
        match (link, self.condition) {
            (LinkState::Down, Condition::Down) => None,
            (LinkState::Down, from) => {
                self.condition = Condition::Down;
                Some(Turn::WentDown { from })
            }
            (_, Condition::Down) if before == LinkState::Down => Some(self.came_up()),
            _ => None,
        }
    }

    /// The datapath trusts its link, or no longer.
    pub(super) fn set_live(&mut self, live: bool) -> Option<Turn> {
        if std::mem::replace(&mut self.live, live) == live {
            return None;
        }
        match (live, self.condition) {
            (false, from @ (Condition::Ok | Condition::Held)) => {
                self.condition = Condition::Down;
                Some(Turn::WentDown { from })
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

    /// What its link makes of it, now that it is up and its hold-down has begun or ended.
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
    const DOWN: fn(Condition) -> Option<Turn> = |from| Some(Turn::WentDown { from });
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

    /// The table of the module's documentation, for every state that a member can be in.
    #[test]
    fn every_state_and_event_is_as_the_table_says() {
        use Condition::*;
        type Start = (Condition, bool, bool, bool);
        type Row = (Start, [(Condition, Option<Turn>); 5]);
        // Condition, netlink says down, live, held; then what link down, live lost, link up, live gained and the end
        // of the hold-down make of it.
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
                    assert_eq!((member.condition, seen), (then, turn), "{event:?} told to {start:?}");
                }
            }
        }
    }

    #[test]
    fn a_link_that_came_up_settles_by_what_is_known_of_it() {
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
    fn offline_is_what_is_shown_and_the_link_is_followed_below_it() {
        let mut member = member(Condition::Ok, LinkState::Up, true, false);
        member.offline = Some(OfflineCause::Operator);
        assert_eq!((member.state(), member.usable()), (MemberState::Offline, false));
        assert_eq!(member.set_link(LinkState::Down), DOWN(Condition::Ok));
        member.offline = None;
        assert_eq!((member.state(), member.usable()), (MemberState::Failed, true));
    }
}
