//! Random inputs against a simulated kernel that applies the actions.

use std::{collections::BTreeMap, time::Duration};

use ipmp_common::{maps::MemberStatus, steer::Preference, transition::Usable};
use proptest::prelude::*;

use super::*;
use crate::core::Adopted;
use crate::types::LinkState;

/// The state of the kernel, from the actions alone.
#[derive(Clone, Default)]
pub(super) struct Kernel {
    pub usable: Usable,
    pub reserve: MemberSet,
    slots: Slots,
    cast: Preference,
    inbound: BTreeMap<IpAddr, Preference>,
    announced: BTreeMap<IpAddr, u8>,
    pub states: [MemberStatus; MAX_MEMBERS],
    pub carrier: bool,
    mtu: Option<u32>,
}

impl Kernel {
    /// Applies an action; whether it changed anything.
    pub fn apply(&mut self, action: &Action) -> bool {
        fn set<T: PartialEq>(place: &mut T, value: T) -> bool {
            std::mem::replace(place, value) != *place
        }
        match action {
            Action::SetUsable(members) => set(&mut self.usable, *members),
            Action::SetReserve(members) => set(&mut self.reserve, *members),
            Action::SetSlots(lists) => set(&mut self.slots, lists.clone().into()),
            Action::SetCast(list) => set(&mut self.cast, *list),
            Action::SetInbound { address, inbound, .. } => {
                self.inbound.insert(*address, *inbound) != Some(*inbound)
            }
            Action::ForgetAddress(address) => self.inbound.remove(address).is_some(),
            Action::SetState { member, state } => set(&mut self.states[usize::from(*member)], *state),
            // The same member again is announced again: its MAC may be new.
            Action::Announce { address, member } => {
                self.announced.insert(*address, *member);
                true
            }
            Action::StopAnnouncing(address) => self.announced.remove(address).is_some(),
            Action::SetCarrier(carrier) => set(&mut self.carrier, *carrier),
            Action::SetMtu(mtu) => set(&mut self.mtu, Some(*mtu)),
            Action::AnnounceAll
            | Action::Probe { .. }
            | Action::FindHosts { .. }
            | Action::Control { .. }
            | Action::TestFrame { .. }
            | Action::FindNeighbour(_)
            | Action::ProbeOver(_)
            | Action::Report(..) => true,
        }
    }

    /// What a daemon that starts now finds. The state of a member that has left is deleted.
    fn adopted(&self, group: &Group) -> Adopted {
        let state = |member: &Member| match (member.absent(), member.offline()) {
            (false, _) => self.states[usize::from(member.number())],
            // The map has no entry: the state file has it.
            (true, Some(_)) => MemberStatus::Offline,
            (true, None) => MemberStatus::Failed,
        };
        let member = |member: &Member| (member.attachment().clone(), state(member));
        let mut members: Vec<_> = group.members().iter().map(member).collect();
        members.sort_by_key(|(attachment, _)| attachment.member);
        Adopted {
            members,
            usable: self.usable,
            draining: group
                .members()
                .iter()
                .filter(|member| member.drains())
                .filter_map(|member| Some((member.number(), member.transition()?.limit)))
                .collect(),
            reserve: self.reserve,
            live: group.members().iter().filter(|member| member.live()).map(Member::number).collect(),
            slots: self.slots.clone(),
            cast: self.cast,
            inbound: self.inbound.iter().map(|(&address, &list)| (address, list)).collect(),
            preferred: self.inbound.keys().filter_map(|&ip| Some((ip, group.preferred(ip)?))).collect(),
            probed: [MemberSet::EMPTY; 2],
            absent: group.members().iter().filter(|member| member.absent()).map(Member::number).collect(),
            standby: MemberSet::EMPTY,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(LinkState),
    Leave(u8),
    Absent(u8),
    Return(u8, u8, LinkState),
    Link(u8, LinkState),
    Live(u8),
    LiveAlone(u16),
    Mac(u8, u8),
    Mtu(u8, u32),
    Weight(u8, u32),
    Offline(u8),
    Online(u8),
    Drain(u8, u64),
    Moving(u16),
    Idle(bool),
    Add(u8, bool),
    Remove(u8, bool),
    Prefer(u8, bool, Option<u8>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let link =
        || prop_oneof![2 => Just(LinkState::Up), 2 => Just(LinkState::Down), 1 => Just(LinkState::Unknown)];
    prop_oneof![
        2 => link().prop_map(Step::Join),
        1 => (0..5u8).prop_map(Step::Leave),
        1 => (0..5u8).prop_map(Step::Absent),
        1 => (0..5u8, 0..4u8, link()).prop_map(|(member, mac, link)| Step::Return(member, mac, link)),
        6 => (0..5u8, link()).prop_map(|(member, link)| Step::Link(member, link)),
        8 => (0..5u8).prop_map(Step::Live),
        1 => any::<u16>().prop_map(Step::LiveAlone),
        1 => (0..5u8, 0..4u8).prop_map(|(member, mac)| Step::Mac(member, mac)),
        1 => (0..5u8, 68..9000u32).prop_map(|(member, mtu)| Step::Mtu(member, mtu)),
        1 => (0..5u8, 1..5u32).prop_map(|(member, weight)| Step::Weight(member, weight)),
        2 => (0..5u8).prop_map(Step::Offline),
        2 => (0..5u8).prop_map(Step::Online),
        1 => (0..5u8, 1..20u64).prop_map(|(member, limit)| Step::Drain(member, limit)),
        1 => any::<u16>().prop_map(Step::Moving),
        1 => any::<bool>().prop_map(Step::Idle),
        3 => (0..9u8, any::<bool>()).prop_map(|(last, v6)| Step::Add(last, v6)),
        1 => (0..9u8, any::<bool>()).prop_map(|(last, v6)| Step::Remove(last, v6)),
        1 => (0..9u8, any::<bool>(), proptest::option::of(0..5u8))
            .prop_map(|(last, v6, member)| Step::Prefer(last, v6, member)),
        2 => (0..50u64).prop_map(Step::Wait),
    ]
}

fn address(last: u8, v6: bool) -> IpAddr {
    match v6 {
        false => IpAddr::from([192, 168, 178, last]),
        true => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)]),
    }
}

/// A group, its kernel and its clock.
struct World {
    group: Group,
    kernel: Kernel,
    live: MemberSet,
    now: Time,
    /// Addresses prefer members, or did: they are not balanced.
    has_preferences: bool,
}

impl World {
    fn new() -> Self {
        let group = Group::new("g", Settings::default());
        Self {
            group,
            kernel: Kernel::default(),
            live: MemberSet::EMPTY,
            now: Time(Duration::from_secs(1000)),
            has_preferences: false,
        }
    }

    fn event(&mut self, step: &Step) -> Option<Input> {
        Some(match *step {
            Step::Join(link) => {
                if self.group.members().len() == 5 {
                    return None;
                }
                let member = self.group.free_number()?;
                let name = format!("eth{member}");
                let mac = [2, 0, 0, 0, 0, member];
                Input::Joined(Attachment { member, name, mac, mtu: 1500, weight: 1, link })
            }
            Step::Leave(member) => Input::Left { member },
            Step::Absent(member) => Input::Absent { member },
            Step::Return(member, mac, link) => {
                Input::Returned { member, mac: [2, 0, 0, 0, 0, mac], mtu: 1500, link }
            }
            Step::Link(member, link) => Input::Link { member, link },
            Step::Live(member) => {
                let one = MemberSet::of(member);
                self.live = MemberSet::from_bits(self.live.bits ^ one.bits);
                Input::Live(self.live)
            }
            Step::LiveAlone(set) => {
                self.live = MemberSet::from_bits(u64::from(set));
                Input::Live(self.live)
            }
            Step::Mac(member, mac) => Input::Mac { member, mac: [2, 0, 0, 0, 0, mac] },
            Step::Mtu(member, mtu) => Input::Mtu { member, mtu },
            Step::Weight(member, weight) => Input::Weight { member, weight },
            Step::Offline(member) => Input::Offline { member },
            Step::Online(member) => Input::Online { member },
            Step::Drain(member, limit) => Input::Drain { member, limit: Duration::from_secs(limit) },
            Step::Moving(moving) => Input::Moving(MemberSet::from_bits(moving.into())),
            Step::Idle(idle) => {
                let failback = if idle { Failback::Idle } else { Failback::Yes };
                Input::Settings(Settings { failback, ..*self.group.settings() })
            }
            Step::Add(last, v6) => Input::AddressAdded(address(last, v6)),
            Step::Remove(last, v6) => Input::AddressRemoved(address(last, v6)),
            Step::Prefer(last, v6, member) => Input::Prefer(vec![(address(last, v6), member)]),
            Step::Wait(seconds) => {
                self.now = self.now + Duration::from_secs(seconds);
                Input::Deadline
            }
        })
    }

    /// Passes an input to the group, and its actions to the kernel. A refused input has no effect.
    fn tell(&mut self, step: &Step) -> Vec<Action> {
        let Some(event) = self.event(step) else { return Vec::new() };
        self.has_preferences |= matches!(event, Input::Prefer(_));
        let actions = self.group.handle(self.now, event).unwrap_or_default();
        for action in &actions {
            assert!(self.kernel.apply(action), "{action:?} changes nothing, after {step:?}");
        }
        if let Step::Leave(member) | Step::Absent(member) = step {
            // The datapath clears the entry of a member that is detached.
            self.kernel.states[usize::from(*member)] = MemberStatus::Vacant;
        }
        actions
    }

    fn check(&self, balanced: bool) {
        let (group, kernel) = (&self.group, &self.kernel);
        let members: MemberSet = group.members().iter().map(Member::number).collect();
        let active: MemberSet = group.active().iter().copied().collect();
        let functioning: MemberSet =
            group.members().iter().filter(|member| member.functions()).map(Member::number).collect();

        assert_eq!(active, functioning);
        assert_eq!(active.len() as usize, group.active().len(), "no member is active twice");
        assert_eq!(kernel.usable, group.usable_word());
        let usable = kernel.usable.all();
        assert_eq!(usable, group.usable());
        assert_eq!(usable.and(members), usable, "only members are usable");
        assert!(group.members().iter().all(|member| !member.absent() || !usable.has(member.number())));
        assert!(
            group.members().iter().all(|member| !member.absent() || !kernel.reserve.has(member.number()))
        );
        assert_eq!(kernel.carrier, !active.is_empty());
        assert!(&kernel.slots == group.slots());
        assert_eq!(
            kernel.slots.named(),
            if members == MemberSet::of(0) { MemberSet::EMPTY } else { members }
        );
        let mtu = group.members().iter().map(|member| member.mtu().max(MIN_MTU)).min();
        assert!(mtu.is_none() || kernel.mtu == mtu);
        for member in group.members().iter().filter(|member| !member.absent()) {
            assert_eq!(kernel.states[usize::from(member.number())], member.state().into());
        }

        // Members that can transmit do: none is in a hold-down without need.
        let works = |member: &&Member| {
            member.offline().is_none() && member.live() && member.link() != LinkState::Down
        };
        if group.members().iter().any(|member| works(&member)) {
            assert!(!active.is_empty(), "{:?}", group.members());
            assert!(!usable.and(active).is_empty());
        }
        for member in group.members().iter().filter(works) {
            assert!(member.functions() || member.held_until().is_some(), "{member:?}");
        }
        assert!(group.deadline().is_none_or(|deadline| deadline > self.now));
        if group.members().iter().any(|member| member.held_until().is_some()) {
            assert!(!active.is_empty(), "no member is in a hold-down while none transmits");
        }

        self.check_roles(members, active, balanced);
    }

    fn check_roles(&self, members: MemberSet, active: MemberSet, balanced: bool) {
        let (group, kernel) = (&self.group, &self.kernel);
        let names = |list: Preference| list.members().collect::<MemberSet>();
        if !members.is_empty() {
            assert_eq!(names(kernel.cast), members);
        }
        assert_eq!(group.cast(), kernel.cast.first_in(active));
        let known: Vec<IpAddr> = group.addresses().map(|(address, _)| address).collect();
        assert_eq!(known.len(), kernel.inbound.len());
        let mut loads = [[0; MAX_MEMBERS]; 2];
        for (address, inbound) in group.addresses() {
            let list = kernel.inbound[&address];
            if !members.is_empty() {
                assert_eq!(names(list), members);
            }
            assert_eq!(inbound.is_some(), !active.is_empty());
            assert_eq!(inbound, group.inbound(address));
            assert_eq!(inbound, kernel.announced.get(&address).copied());
            if let Some(inbound) = inbound {
                assert_eq!(list.first(), inbound);
                assert!(active.has(inbound));
                loads[usize::from(address.is_ipv6())][usize::from(inbound)] += 1;
            }
        }
        for (address, inbound) in group.addresses() {
            let preferred = group.preferred(address).filter(|preferred| active.has(*preferred));
            assert!(preferred.is_none_or(|preferred| inbound == Some(preferred)));
        }
        for loads in loads.iter().filter(|_| balanced && !self.has_preferences) {
            let of_active = || active.iter().map(|member| loads[usize::from(member)]);
            assert!(of_active().max().unwrap_or(0) - of_active().min().unwrap_or(0) <= 1);
        }

        // What the datapath does before the daemon is notified is what the daemon then decides.
        for lost in active.iter().filter(|_| active.len() > 1) {
            let mut later = group.clone();
            let live = group.members().iter().filter(|member| member.live()).map(Member::number);
            later.handle(self.now, Input::Live(live.filter(|&member| member != lost).collect())).unwrap();
            assert_eq!(later.cast(), kernel.cast.first_in(active.without(lost)));
            for (address, inbound) in group.addresses() {
                let guess = kernel.inbound[&address].first_in(active.without(lost));
                if inbound == Some(lost) {
                    assert_eq!(later.inbound(address), guess, "{lost} lost, {address}");
                }
            }
        }
    }

    /// A daemon starts, and finds what this one's kernel holds.
    fn restarted(&self) -> (Self, Vec<Action>) {
        let (group, actions) =
            Group::adopt(self.now, "g", *self.group.settings(), self.kernel.adopted(&self.group));
        let mut kernel = self.kernel.clone();
        kernel.announced.clear();
        for action in &actions {
            kernel.apply(action);
        }
        (
            Self { group, kernel, live: self.live, now: self.now, has_preferences: self.has_preferences },
            actions,
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_inputs_keep_group_sound(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.tell(step);
            world.check(true);
        }
    }

    /// No address moves, no role moves, no verdict is cleared, no flow moves.
    #[test]
    fn restart_changes_nothing(steps in proptest::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in &steps {
            world.tell(step);
        }
        let (after, actions) = world.restarted();
        after.check(true);
        prop_assert_eq!(after.group.cast(), world.group.cast());
        for (address, inbound) in world.group.addresses() {
            prop_assert_eq!(after.group.inbound(address), inbound);
        }
        for member in world.group.members() {
            prop_assert_eq!(after.group.member(member.number()).unwrap().state(), member.state());
        }
        for action in &actions {
            // Flows of members in transition are learnt again, and stay where they are.
            let before = world.kernel.usable;
            let is_same = |now: &Usable| Usable { learning: before.learning, ..*now } == before;
            match action {
                Action::SetUsable(now) => prop_assert!(is_same(now), "{:?} {:?}", before, now),
                action => prop_assert!(!matches!(action, Action::SetSlots(_)), "{:?}", action),
            }
        }
    }

    /// The daemon is killed between any two actions: the next one recovers a sound group.
    #[test]
    fn kill_between_any_two_actions_is_recovered(
        steps in proptest::collection::vec(step(), 1..40), cut in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new();
        let Some((last, steps)) = steps.split_last() else { return Ok(()) };
        for step in steps {
            world.tell(step);
        }
        let mut kernel = world.kernel.clone();
        let actions = world.tell(last);
        for action in &actions[..cut.index(actions.len() + 1)] {
            kernel.apply(action);
        }
        world.kernel = kernel;
        // The balance of addresses is restored by what happens next, not by a restart.
        world.restarted().0.check(false);
    }
}
