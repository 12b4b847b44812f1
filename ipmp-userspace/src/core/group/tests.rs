use std::time::Duration;

use ipmp_common::{maps::MemberStatus, steer::Preference};

use super::*;
use crate::core::Adopted;
use crate::{
    daemon::events::table,
    types::{GroupState, LinkState, MemberState, OfflineCause},
};

/// A group and its clock.
pub(super) struct Scene {
    pub group: Group,
    pub now: Time,
}

impl Scene {
    fn new() -> Self {
        Self { group: Group::new("production0", Settings::default()), now: Time(Duration::from_secs(1000)) }
    }

    /// The tutorial's group: these members, all live, and one data address.
    fn of(names: &[&str]) -> Self {
        let mut scene = Self::new();
        for name in names {
            scene.join(name, LinkState::Up);
        }
        let live = scene.numbers();
        scene.tell(Input::Live(live));
        scene.tell(Input::AddressAdded(address(200)));
        scene
    }

    fn join(&mut self, name: &str, link: LinkState) -> Vec<Action> {
        let member = self.group.free_number().expect("room for a member");
        self.tell(Input::Joined(attachment(member, name, link)))
    }

    fn numbers(&self) -> MemberSet {
        self.group.members().iter().map(Member::number).collect()
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    fn tell(&mut self, event: Input) -> Vec<Action> {
        let text = format!("{event:?}");
        self.group.handle(self.now, event).unwrap_or_else(|refusal| panic!("{text}: {refusal}"))
    }

    fn refused(&mut self, event: Input) -> String {
        let before = format!("{:?}", self.group);
        let refusal = self.group.handle(self.now, event).expect_err("a refusal").to_string();
        assert_eq!(before, format!("{:?}", self.group), "a refusal changes nothing");
        refusal
    }

    fn live(&mut self, members: &[u8]) -> Vec<Action> {
        self.tell(Input::Live(members.iter().copied().collect()))
    }

    fn link(&mut self, member: u8, link: LinkState) -> Vec<Action> {
        self.tell(Input::Link { member, link })
    }
}

fn attachment(member: u8, name: &str, link: LinkState) -> Attachment {
    Attachment { member, name: name.to_owned(), mac: [2, 0, 0, 0, 0, member], mtu: 1500, weight: 1000, link }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 168, 178, last])
}

/// The lines among the actions.
fn lines(actions: &[Action]) -> Vec<String> {
    let line = |action: &Action| match action {
        Action::Report(event, _) => Some(table::row(event).text),
        _ => None,
    };
    actions.iter().filter_map(line).collect()
}

/// The lines' kinds and causes.
fn causes(actions: &[Action]) -> Vec<(&'static str, Cause)> {
    let cause = |action: &Action| match action {
        Action::Report(event, cause) => Some((table::row(event).kind, cause.clone())),
        _ => None,
    };
    actions.iter().filter_map(cause).collect()
}

/// The actions other than lines and slots.
fn work(actions: &[Action]) -> Vec<Action> {
    actions
        .iter()
        .filter(|action| !matches!(action, Action::Report(..) | Action::SetSlots(_)))
        .cloned()
        .collect()
}

fn list(members: &[u8]) -> Preference {
    Preference::new(members)
}

#[test]
fn first_member_gets_all_roles_when_live() {
    let mut scene = Scene::new();
    assert_eq!(
        scene.tell(Input::AddressAdded(address(200))),
        [Action::SetInbound { address: address(200), inbound: Preference::EMPTY, from: None }]
    );
    let joined = scene.join("e1000g0", LinkState::Up);
    assert_eq!(lines(&joined), ["IP interface e1000g0 has joined group production0"]);
    assert_eq!(
        work(&joined),
        [
            Action::SetMtu(1500),
            Action::SetUsable(MemberSet::of(0).into()),
            Action::SetState { member: 0, state: MemberStatus::Unknown },
        ]
    );
    assert_eq!(scene.group.state(), GroupState::Failed);
    let live = scene.live(&[0]);
    assert_eq!(
        live,
        [
            Action::Announce { address: address(200), member: 0 },
            Action::SetCarrier(true),
            Action::SetState { member: 0, state: MemberStatus::Ok },
        ]
    );
    assert_eq!(scene.group.state(), GroupState::Ok);
    assert_eq!(scene.live(&[0]), [], "nothing new, nothing to do");
}

#[test]
fn carrier_loss_moves_roles_and_keeps_usable() {
    let mut scene = Scene::of(&["e1000g0", "e1000g1", "rge0"]);
    let lost = scene.live(&[1, 2]);
    assert_eq!(
        lines(&lost),
        [
            "The link has gone down on e1000g0",
            "IP interface failure detected on e1000g0 of group production0",
            "Data address 192.168.178.200 of group production0 has moved from e1000g0 to e1000g1",
            "Multicast and broadcast of group production0 have moved from e1000g0 to e1000g1",
        ]
    );
    assert_eq!(
        work(&lost),
        [
            Action::SetCast(list(&[1, 2, 0])),
            Action::SetInbound { address: address(200), inbound: list(&[1, 2, 0]), from: Some(0) },
            Action::Announce { address: address(200), member: 1 },
            Action::AnnounceAll,
            Action::SetState { member: 0, state: MemberStatus::Failed },
        ]
    );
    assert_eq!(scene.link(0, LinkState::Down), [], "netlink is late, and nothing new");
    assert_eq!(lines(&scene.link(0, LinkState::Up)), ["The link has come up on e1000g0"]);
    let back = scene.live(&[0, 1, 2]);
    assert_eq!(lines(&back), ["IP interface repair detected on e1000g0 of group production0"]);
    assert_eq!((scene.group.cast(), scene.group.inbound(address(200))), (Some(1), Some(1)));
}

/// State of the member under test and the events, for every state, input and peer: the table of the group's
/// documentation. The member is number 0, `eth0`; its company is number 1, `eth1`, with a link or without one.
#[test]
fn every_state_peer_and_event_matches_the_table() {
    use MemberState::{Failed, Offline, Ok, Unknown};
    const DOWN: &str = "The link has gone down on eth0";
    const UP: &str = "The link has come up on eth0";
    const FAILURE: &str = "IP interface failure detected on eth0 of group g";
    const REPAIR: &str = "IP interface repair detected on eth0 of group g";
    const UNUSABLE: &str = "All IP interfaces in group g are now unusable";
    const USABLE: &str = "At least 1 IP interface (eth0) in group g is now usable";
    const OFFLINED: &str = "IP interface eth0 of group g is now offline";
    const ONLINED: &str = "IP interface eth0 of group g is now online";
    const TWIN: &str = "IP interface eth0 has a hardware address which is not unique in group g; offlining";
    const LAST: &str = "cannot offline eth0: no other functioning interfaces are in its IPMP group";
    const ALREADY: &str = "interface eth0 is already offline";
    const NOT: &str = "interface eth0 is not offline";

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum On {
        LinkDown,
        LiveLost,
        LinkUpAndLive,
        Offline,
        Online,
        TwinsMac,
    }
    use On::{LinkDown, LinkUpAndLive, LiveLost, TwinsMac};
    type Row = (MemberState, bool, On, MemberState, &'static [&'static str]);
    #[rustfmt::skip]
    let table: &[Row] = &[
        (Unknown, true, LinkDown, Failed, &[DOWN, FAILURE]),
        (Unknown, true, LiveLost, Unknown, &[]),
        (Unknown, true, LinkUpAndLive, Ok, &[]),
        (Unknown, true, On::Offline, Offline, &[OFFLINED]),
        (Unknown, true, On::Online, Unknown, &[NOT]),
        (Unknown, true, TwinsMac, Offline, &[TWIN]),
        (Unknown, false, LinkDown, Failed, &[DOWN]),
        (Unknown, false, LiveLost, Unknown, &[]),
        (Unknown, false, LinkUpAndLive, Ok, &[USABLE]),
        (Unknown, false, On::Offline, Offline, &[OFFLINED]),
        (Unknown, false, On::Online, Unknown, &[NOT]),
        (Unknown, false, TwinsMac, Offline, &[TWIN]),

        (Ok, true, LinkDown, Failed, &[DOWN, FAILURE]),
        (Ok, true, LiveLost, Failed, &[DOWN, FAILURE]),
        (Ok, true, LinkUpAndLive, Ok, &[]),
        (Ok, true, On::Offline, Offline, &[OFFLINED]),
        (Ok, true, On::Online, Ok, &[NOT]),
        (Ok, true, TwinsMac, Offline, &[TWIN]),
        (Ok, false, LinkDown, Failed, &[DOWN, UNUSABLE]),
        (Ok, false, LiveLost, Failed, &[DOWN, UNUSABLE]),
        (Ok, false, LinkUpAndLive, Ok, &[]),
        (Ok, false, On::Offline, Ok, &[LAST]),
        (Ok, false, On::Online, Ok, &[NOT]),
        (Ok, false, TwinsMac, Offline, &[TWIN, UNUSABLE]),

        (Failed, true, LinkDown, Failed, &[]),
        (Failed, true, LiveLost, Failed, &[]),
        (Failed, true, LinkUpAndLive, Ok, &[UP, REPAIR]),
        (Failed, true, On::Offline, Offline, &[OFFLINED]),
        (Failed, true, On::Online, Failed, &[NOT]),
        (Failed, true, TwinsMac, Offline, &[TWIN]),
        (Failed, false, LinkDown, Failed, &[]),
        (Failed, false, LiveLost, Failed, &[]),
        (Failed, false, LinkUpAndLive, Ok, &[UP, REPAIR, USABLE]),
        (Failed, false, On::Offline, Offline, &[OFFLINED]),
        (Failed, false, On::Online, Failed, &[NOT]),
        (Failed, false, TwinsMac, Offline, &[TWIN]),

        (Offline, true, LinkDown, Offline, &[DOWN, FAILURE]),
        (Offline, true, LiveLost, Offline, &[DOWN, FAILURE]),
        (Offline, true, LinkUpAndLive, Offline, &[]),
        (Offline, true, On::Offline, Offline, &[ALREADY]),
        (Offline, true, On::Online, Ok, &[ONLINED]),
        (Offline, true, TwinsMac, Offline, &[]),
        (Offline, false, LinkDown, Offline, &[DOWN]),
        (Offline, false, LiveLost, Offline, &[DOWN]),
        (Offline, false, LinkUpAndLive, Offline, &[]),
        (Offline, false, On::Offline, Offline, &[ALREADY]),
        (Offline, false, On::Online, Ok, &[ONLINED, USABLE]),
        (Offline, false, TwinsMac, Offline, &[]),
    ];
    for &(start, company, on, end, expected) in table {
        let mut scene =
            Scene { group: Group::new("g", Settings::default()), now: Time(Duration::from_secs(1000)) };
        // The peer first, so that the member under test can be set offline.
        scene.tell(Input::Joined(attachment(1, "eth1", LinkState::Up)));
        scene.live(&[1]);
        scene.tell(Input::Joined(attachment(0, "eth0", LinkState::Up)));
        if start != Unknown {
            scene.live(&[0, 1]);
        }
        match start {
            Failed => drop(scene.tell(Input::Live(MemberSet::of(1)))),
            Offline => drop(scene.tell(Input::Offline { member: 0 })),
            _ => {}
        }
        if start == Failed {
            scene.link(0, LinkState::Down);
        }
        if !company {
            scene.link(1, LinkState::Down);
            let live = scene.group.member(0).unwrap().live();
            scene.live(if live { &[0] } else { &[] });
        }
        let others: &[u8] = if company { &[1] } else { &[] };
        let with_others = |mine: &[u8]| others.iter().chain(mine).copied().collect::<MemberSet>();
        let state = |scene: &Scene| scene.group.member(0).unwrap().state();
        let case = format!("{start:?}, company {company}, {on:?}");
        assert_eq!(state(&scene), start, "the scene of {case}");

        let events = match on {
            LinkDown => vec![Input::Link { member: 0, link: LinkState::Down }],
            LiveLost => vec![Input::Live(with_others(&[]))],
            LinkUpAndLive => {
                vec![Input::Link { member: 0, link: LinkState::Up }, Input::Live(with_others(&[0]))]
            }
            On::Offline => vec![Input::Offline { member: 0 }],
            On::Online => vec![Input::Online { member: 0 }],
            TwinsMac => vec![Input::Mac { member: 0, mac: attachment(1, "", LinkState::Up).mac }],
        };
        let mut said = Vec::new();
        for event in events {
            match scene.group.handle(scene.now, event) {
                Result::Ok(actions) => said.extend(lines(&actions)),
                Err(refusal) => said.push(refusal.to_string()),
            }
        }
        said.retain(|line| !line.contains(" moved from "));
        assert_eq!(
            (state(&scene), said.as_slice()),
            (end, &expected.iter().map(|line| line.to_string()).collect::<Vec<_>>()[..]),
            "{case}"
        );
    }
}

#[test]
fn links_lost_one_after_another_and_restored() {
    let mut scene = Scene::of(&["e1000g0", "rge0"]);
    scene.link(0, LinkState::Down);
    let last = scene.link(1, LinkState::Down);
    assert_eq!(
        lines(&last),
        ["The link has gone down on rge0", "All IP interfaces in group production0 are now unusable"]
    );
    assert_eq!(
        work(&last),
        [
            Action::StopAnnouncing(address(200)),
            Action::SetCarrier(false),
            Action::SetState { member: 1, state: MemberStatus::Failed },
        ],
        "the lists stay, for the first member to return"
    );
    assert_eq!((scene.group.inbound(address(200)), scene.group.cast()), (None, None));
    scene.live(&[]);
    assert_eq!(lines(&scene.link(1, LinkState::Up)), ["The link has come up on rge0"]);
    let back = scene.live(&[1]);
    assert_eq!(
        lines(&back),
        [
            "IP interface repair detected on rge0 of group production0",
            "At least 1 IP interface (rge0) in group production0 is now usable",
        ]
    );
    assert!(back.contains(&Action::Announce { address: address(200), member: 1 }));
    assert!(back.contains(&Action::SetCarrier(true)));
}

#[test]
fn all_lost_at_once_logs_like_one_after_another() {
    let mut scene = Scene::of(&["eth0", "eth1"]);
    assert_eq!(
        lines(&scene.live(&[])),
        [
            "The link has gone down on eth0",
            "IP interface failure detected on eth0 of group production0",
            "The link has gone down on eth1",
            "All IP interfaces in group production0 are now unusable",
        ]
    );
}

#[test]
fn loss_and_gain_in_one_input_keep_group_usable() {
    let mut scene = Scene::of(&["eth0", "eth1"]);
    scene.live(&[0]);
    let swap = scene.live(&[1]);
    assert_eq!(
        lines(&swap)[..4],
        [
            "The link has gone down on eth0",
            "All IP interfaces in group production0 are now unusable",
            "The link has come up on eth1",
            "IP interface repair detected on eth1 of group production0",
        ]
    );
    assert!(!swap.iter().any(|action| matches!(action, Action::SetCarrier(_) | Action::StopAnnouncing(_))));
}

#[test]
fn group_of_one_is_ok() {
    let mut scene = Scene::of(&["eth0"]);
    assert_eq!(scene.group.state(), GroupState::Ok);
    assert_eq!(
        scene.refused(Input::Offline { member: 0 }),
        "cannot offline eth0: no other functioning interfaces are in its IPMP group"
    );
}

#[test]
fn group_state_follows_members() {
    let mut scene = Scene::of(&["eth0", "eth1"]);
    assert_eq!(scene.group.state(), GroupState::Ok);
    scene.tell(Input::Offline { member: 1 });
    assert_eq!(scene.group.state(), GroupState::Degraded);
    scene.live(&[]);
    assert_eq!(scene.group.state(), GroupState::Failed);
    assert_eq!(Scene::new().group.state(), GroupState::Failed, "an empty group");
}

#[test]
fn attach_without_link_reports_link_down() {
    let mut scene = Scene::of(&["eth0"]);
    assert_eq!(
        lines(&scene.join("eth1", LinkState::Down)),
        [
            "IP interface eth1 has joined group production0",
            "The link has gone down on eth1",
            "IP interface failure detected on eth1 of group production0",
        ]
    );
}

#[test]
fn mtu_is_least_of_members_and_lowered_first() {
    let mut scene = Scene::of(&["eth0"]);
    let join = |number, mtu| Input::Joined(Attachment { mtu, ..attachment(number, "", LinkState::Up) });
    assert_eq!(scene.tell(join(1, 1400))[0], Action::SetMtu(1400));
    assert_eq!(scene.tell(join(2, 576))[0], Action::SetMtu(MIN_MTU));
    assert!(work(&scene.tell(Input::Left { member: 2 })).contains(&Action::SetMtu(1400)));
    assert_eq!(scene.tell(Input::Mtu { member: 1, mtu: 9000 }), [Action::SetMtu(1500)]);
    scene.tell(Input::Left { member: 0 });
    let empty = scene.tell(Input::Left { member: 1 });
    assert!(!empty.iter().any(|action| matches!(action, Action::SetMtu(_))), "an empty group keeps its MTU");
}

#[test]
fn lost_member_lets_all_addresses_be_announced_and_returning_one_does_not() {
    let mut scene = Scene::of(&["eth0", "eth1", "eth2"]);
    let all = |actions: &[Action]| actions.contains(&Action::AnnounceAll);
    // The cast member and the inbound member of the only address is eth0: with eth2 no address moves.
    assert!(all(&scene.live(&[0, 1])));
    assert!(!all(&scene.live(&[0, 1, 2])));
    assert!(all(&scene.tell(Input::Offline { member: 1 })));
    assert!(!all(&scene.tell(Input::Online { member: 1 })));
    scene.live(&[2]);
    assert!(!all(&scene.live(&[])), "no member is left that could announce");
}

#[test]
fn leaving_member_is_masked_before_lists_are_rewritten() {
    let mut scene = Scene::of(&["eth0", "eth1"]);
    let left = scene.tell(Input::Left { member: 0 });
    let shape: Vec<String> =
        left.iter().map(|action| format!("{action:?}").chars().take(9).collect()).collect();
    assert_eq!(left[0], Action::SetUsable(MemberSet::of(1).into()));
    assert_eq!(shape[1], "SetSlots(");
    assert_eq!(
        work(&left)[1..],
        [
            Action::SetCast(list(&[1])),
            Action::SetInbound { address: address(200), inbound: list(&[1]), from: Some(0) },
            Action::Announce { address: address(200), member: 1 },
            Action::AnnounceAll,
        ]
    );
}

#[test]
fn flapping_link_waits_for_hold_down_and_recovers() {
    let mut scene = Scene::of(&["eth0", "eth1"]);
    for _ in 0..2 {
        scene.wait(1);
        scene.live(&[1]);
        assert_eq!(lines(&scene.live(&[0, 1])).len(), 2, "come up, repair");
    }
    scene.wait(1);
    scene.live(&[1]);
    let held = scene.live(&[0, 1]);
    assert_eq!(
        lines(&held),
        [
            "The link has come up on eth0",
            "The link has come up on eth0 more than 2 times in the last minute; disabling repair until it stabilizes",
        ]
    );
    assert_eq!(
        work(&held),
        [Action::SetReserve(MemberSet::of(0)), Action::SetUsable(MemberSet::of(1).into())]
    );
    scene.wait(1);
    scene.live(&[1]);
    assert_eq!(lines(&scene.live(&[0, 1])), ["The link has come up on eth0"], "reported once");

    let deadline = held_until(&scene.group).expect("a deadline");
    assert_eq!(deadline - scene.now, Duration::from_secs(59));
    // Missing test addresses are reported before.
    scene.now = scene.group.deadline().expect("a word");
    scene.tell(Input::Deadline);
    scene.now = deadline;
    let back = scene.tell(Input::Deadline);
    assert_eq!(lines(&back), ["IP interface repair detected on eth0 of group production0"]);
    assert_eq!(back[0], Action::SetUsable([0, 1].into_iter().collect::<MemberSet>().into()));
    assert_eq!(back[1], Action::SetReserve(MemberSet::EMPTY));
    assert_eq!(held_until(&scene.group), None);
}

/// When the first hold-down ends, if there is one.
fn held_until(group: &Group) -> Option<Time> {
    group.members().iter().filter_map(Member::held_until).min()
}

/// eth0 flaps until its hold-down starts.
fn held() -> Scene {
    let mut scene = Scene::of(&["eth0", "eth1"]);
    for _ in 0..3 {
        scene.live(&[1]);
        scene.live(&[0, 1]);
    }
    assert_eq!(scene.group.member(0).unwrap().condition(), Condition::Held);
    scene
}

#[test]
fn member_in_hold_down_transmits_before_group_fails() {
    let mut scene = held();
    let lost = scene.live(&[0]);
    assert_eq!(
        lines(&lost)[..3],
        [
            "The link has gone down on eth1",
            "IP interface failure detected on eth1 of group production0",
            "IP interface repair detected on eth0 of group production0",
        ]
    );
    assert_eq!(lost[0], Action::SetUsable([0, 1].into_iter().collect::<MemberSet>().into()));
    assert_eq!((scene.group.active(), held_until(&scene.group)), (&[0][..], None));
}

#[test]
fn last_member_has_no_hold_down() {
    let mut scene = Scene::of(&["eth0"]);
    for _ in 0..10 {
        scene.live(&[]);
        scene.live(&[0]);
        assert_eq!((scene.group.active(), held_until(&scene.group)), (&[0][..], None));
    }
}

#[test]
fn refusal_keeps_deadline() {
    let mut scene = held();
    scene.wait(3600);
    assert!(scene.refused(Input::Online { member: 0 }).contains("not offline"));
    assert!(scene.group.deadline().is_some_and(|deadline| deadline <= scene.now));
}

#[test]
fn offline_and_online_end_hold_down() {
    let mut scene = held();
    scene.tell(Input::Offline { member: 0 });
    scene.tell(Input::Online { member: 0 });
    assert_eq!((scene.group.active(), held_until(&scene.group)), (&[1, 0][..], None));
}

#[test]
fn duplicate_mac_is_offline_until_unique() {
    for free in [
        Input::Left { member: 0 },
        Input::Offline { member: 0 },
        Input::Mac { member: 0, mac: [2, 0, 0, 0, 0, 9] },
        Input::Mac { member: 2, mac: [2, 0, 0, 0, 0, 9] },
    ] {
        let mut scene = Scene::of(&["eth0", "eth1"]);
        let twin =
            Attachment { mac: attachment(0, "", LinkState::Up).mac, ..attachment(2, "eth2", LinkState::Up) };
        let joined = scene.tell(Input::Joined(twin));
        assert_eq!(
            lines(&joined)[1..],
            ["IP interface eth2 has a hardware address which is not unique in group production0; offlining"]
        );
        scene.live(&[0, 1, 2]);
        assert_eq!(scene.group.member(2).unwrap().state(), MemberState::Offline);
        assert_eq!(
            scene.refused(Input::Online { member: 2 }),
            "cannot undo-offline eth2: interface has duplicate hardware address"
        );
        let freed = lines(&scene.tell(free.clone()));
        let unique = "IP interface eth2 now has a unique hardware address in group production0; onlining";
        assert!(freed.iter().any(|line| line == unique), "{free:?}: {freed:?}");
        assert!(scene.group.active().contains(&2));
    }
}

#[test]
fn new_mac_is_announced() {
    let mut scene = Scene::of(&["eth0", "eth1"]);
    let changed = scene.tell(Input::Mac { member: 0, mac: [2, 0, 0, 0, 0, 9] });
    assert_eq!(changed, [Action::Announce { address: address(200), member: 0 }]);
}

#[test]
fn new_mac_of_failed_member_stops_announcements() {
    let mut scene = Scene::of(&["eth0", "eth1"]);
    scene.live(&[0]);
    let twin = scene.tell(Input::Mac { member: 0, mac: attachment(1, "", LinkState::Up).mac });
    assert!(twin.contains(&Action::StopAnnouncing(address(200))), "{twin:?}");
}

#[test]
fn removed_address_is_forgotten_and_unknown_one_ignored() {
    let mut scene = Scene::of(&["eth0"]);
    assert_eq!(
        scene.tell(Input::AddressRemoved(address(200))),
        [Action::StopAnnouncing(address(200)), Action::ForgetAddress(address(200))]
    );
    assert_eq!(scene.tell(Input::AddressRemoved(address(200))), []);
}

#[test]
fn families_are_bound_independently() {
    let mut scene = Scene::of(&["eth0", "eth1"]);
    let v6: IpAddr = "2001:db8::200".parse().unwrap();
    scene.tell(Input::AddressAdded(v6));
    assert_eq!((scene.group.inbound(address(200)), scene.group.inbound(v6)), (Some(0), Some(0)));
}

#[test]
fn input_about_left_member_is_ignored() {
    let mut scene = Scene::of(&["eth0"]);
    for event in [
        Input::Left { member: 3 },
        Input::Link { member: 3, link: LinkState::Down },
        Input::Mtu { member: 3, mtu: 1280 },
        Input::Mac { member: 3, mac: [0; 6] },
        Input::Weight { member: 3, weight: 1 },
        Input::Offline { member: 3 },
        Input::Online { member: 3 },
        Input::Live([0, 3].into_iter().collect()),
        Input::Deadline,
    ] {
        assert_eq!(scene.tell(event.clone()), [], "{event:?}");
    }
}

#[test]
fn adopted_group_handles_changes_since() {
    let slots = Slots::new().rebuild(&[(0, 1000), (1, 1000), (2, 1000), (3, 1000)]);
    let member = |number, name, link, state| (attachment(number, name, link), state);
    let adopted = Adopted {
        members: vec![
            member(0, "eth0", LinkState::Down, MemberStatus::Ok),
            member(1, "eth1", LinkState::Up, MemberStatus::Ok),
            member(2, "eth2", LinkState::Up, MemberStatus::Offline),
            member(3, "eth3", LinkState::Up, MemberStatus::Failed),
        ],
        usable: [0, 1].into_iter().collect::<MemberSet>().into(),
        draining: BTreeMap::new(),
        reserve: MemberSet::EMPTY,
        live: [1, 2, 3].into_iter().collect(),
        slots,
        cast: list(&[0, 1, 2, 3]),
        inbound: vec![(address(200), list(&[0, 1, 2, 3])), (address(201), list(&[1, 0, 2, 3]))],
        preferred: Vec::new(),
        probed: [MemberSet::EMPTY; 2],
        absent: Default::default(),
        standby: MemberSet::EMPTY,
    };
    let now = Time(Duration::from_secs(5000));
    let (group, actions) = Group::adopt(now, "production0", Settings::default(), adopted);
    assert_eq!(
        lines(&actions),
        [
            "The link has gone down on eth0",
            "IP interface failure detected on eth0 of group production0",
            "Data address 192.168.178.200 of group production0 has moved from eth0 to eth1",
            "Multicast and broadcast of group production0 have moved from eth0 to eth1",
        ]
    );
    assert_eq!(group.active(), [1]);
    let state = |number| group.member(number).unwrap().state();
    assert_eq!((state(2), state(3)), (MemberState::Offline, MemberState::Failed), "nothing disproves these");
    assert_eq!(group.deadline(), Some(now + Settings::default().flap_window), "eth3 was in a hold-down");
    assert!(!actions.iter().any(|action| matches!(action, Action::SetSlots(_) | Action::SetUsable(_))));
    for last in [200, 201] {
        assert!(actions.contains(&Action::Announce { address: address(last), member: 1 }));
    }
}

#[test]
fn adopted_failure_is_repaired_by_good_link_only() {
    let adopted = |link, live| Adopted {
        members: vec![(attachment(0, "eth0", link), MemberStatus::Failed)],
        usable: MemberSet::of(0).into(),
        draining: BTreeMap::new(),
        reserve: MemberSet::EMPTY,
        live,
        slots: Slots::new().rebuild(&[(0, 1000)]),
        cast: list(&[0]),
        inbound: vec![(address(200), list(&[0]))],
        preferred: Vec::new(),
        probed: [MemberSet::EMPTY; 2],
        absent: Default::default(),
        standby: MemberSet::EMPTY,
    };
    for (link, live, state) in [
        (LinkState::Down, MemberSet::EMPTY, MemberState::Failed),
        (LinkState::Down, MemberSet::of(0), MemberState::Failed),
        (LinkState::Up, MemberSet::EMPTY, MemberState::Failed),
        (LinkState::Up, MemberSet::of(0), MemberState::Ok),
    ] {
        let now = Time(Duration::from_secs(5000));
        let (group, actions) = Group::adopt(now, "g", Settings::default(), adopted(link, live));
        assert_eq!(group.member(0).unwrap().state(), state, "{link:?}, live {live:?}");
        let usable = "At least 1 IP interface (eth0) in group g is now usable".to_owned();
        assert_eq!(lines(&actions).contains(&usable), state == MemberState::Ok);
    }
}

#[test]
fn absent_member_keeps_number_lists_and_settings_and_returns() {
    let mut scene = Scene::of(&["eth0", "eth1", "eth2"]);
    scene.tell(Input::Weight { member: 0, weight: 3000 });
    scene.tell(Input::Offline { member: 1 });
    let slots = scene.group.slots().clone();
    let absent = || Cause::MemberAbsent { member: "eth0".to_owned() };
    assert_eq!(
        causes(&scene.tell(Input::Absent { member: 0 })),
        [("absent", Cause::Trigger), ("failed", absent()), ("moved", absent()), ("cast-moved", absent()),]
    );
    let state = |scene: &Scene, number| scene.group.member(number).unwrap().state();
    assert_eq!((state(&scene, 0), scene.group.state()), (MemberState::Absent, GroupState::Degraded));
    assert_eq!(scene.group.usable(), MemberSet::of(2));
    // Neither late messages about its link nor another input about it bring it back.
    scene.link(0, LinkState::Up);
    scene.live(&[0, 2]);
    assert_eq!(state(&scene, 0), MemberState::Absent);
    assert_eq!(causes(&scene.tell(Input::Absent { member: 0 })), []);
    // An offline one stays offline, and counts for no refusal.
    scene.tell(Input::Absent { member: 1 });
    assert_eq!(
        scene.refused(Input::Offline { member: 2 }),
        "cannot offline eth2: no other functioning interfaces are in its IPMP group"
    );
    let unusable = scene.tell(Input::Absent { member: 2 });
    assert!(lines(&unusable).contains(&"All IP interfaces in group production0 are now unusable".to_owned()));
    assert!(unusable.contains(&Action::SetCarrier(false)));
    assert!(scene.group.usable().is_empty() && scene.group.slots() == &slots);

    for member in [1, 2, 0] {
        let (mac, mtu, link) = ([2, 0, 0, 0, 0, member], 1500, LinkState::Up);
        scene.tell(Input::Returned { member, mac, mtu, link });
    }
    assert_eq!(state(&scene, 0), MemberState::Failed, "not trusted yet");
    scene.live(&[0, 1, 2]);
    assert_eq!(
        [0, 1, 2].map(|number| state(&scene, number)),
        [MemberState::Ok, MemberState::Offline, MemberState::Ok]
    );
    assert_eq!(scene.group.member(0).unwrap().weight(), 3000);
    assert!(scene.group.slots() == &slots);
}

#[test]
fn absent_member_has_no_mac() {
    let mut scene = Scene::of(&["eth0", "eth1"]);
    let mac = [2, 0, 0, 0, 0, 0];
    scene.tell(Input::Mac { member: 1, mac });
    assert_eq!(scene.group.member(1).unwrap().state(), MemberState::Offline);
    scene.tell(Input::Absent { member: 0 });
    assert_eq!(scene.group.member(1).unwrap().state(), MemberState::Ok);
    scene.tell(Input::Returned { member: 0, mac, mtu: 1500, link: LinkState::Up });
    assert_eq!(scene.group.member(0).unwrap().offline(), Some(OfflineCause::DuplicateMac));
}

#[test]
fn every_event_has_its_cause() {
    let name = || "e1000g0".to_owned();
    let lost = || Cause::LinkLost { member: name() };
    let mut scene = Scene::of(&["e1000g0", "e1000g1"]);
    let failed = || Cause::MemberFailed { member: name() };
    assert_eq!(
        causes(&scene.live(&[1])),
        [("link-down", lost()), ("failed", lost()), ("moved", failed()), ("cast-moved", failed())]
    );
    assert_eq!(causes(&scene.link(0, LinkState::Down)), []);
    assert_eq!(causes(&scene.link(0, LinkState::Up)), [("link-up", Cause::LinkRestored { member: name() })]);
    assert_eq!(causes(&scene.live(&[0, 1])), [("repaired", Cause::UpdelayPassed { member: name() })]);
    // The datapath may trust it again before netlink reports it.
    scene.link(0, LinkState::Down);
    scene.live(&[0, 1]);
    assert_eq!(
        causes(&scene.link(0, LinkState::Up)),
        [
            ("link-up", Cause::LinkRestored { member: name() }),
            ("repaired", Cause::UpdelayPassed { member: name() })
        ]
    );

    let offline = Cause::MemberOffline { member: "e1000g1".into() };
    assert_eq!(
        causes(&scene.tell(Input::Offline { member: 1 })),
        [("offline", Cause::Trigger), ("moved", offline.clone()), ("cast-moved", offline)]
    );
    // The last one: the group is lost with its link.
    assert_eq!(causes(&scene.live(&[1])), [("link-down", lost()), ("group-unusable", lost())]);
    assert_eq!(causes(&scene.tell(Input::Online { member: 1 }))[0], ("online", Cause::Trigger));
}

#[test]
fn left_member_and_duplicate_mac_are_causes() {
    let mut scene = Scene::of(&["e1000g0", "e1000g1"]);
    let twin = Attachment { mac: [2, 0, 0, 0, 0, 1], ..attachment(2, "rge0", LinkState::Up) };
    let same = Cause::DuplicateMac { member: "rge0".into(), other: "e1000g1".into() };
    assert_eq!(
        causes(&scene.tell(Input::Joined(twin))),
        [("joined", Cause::Trigger), ("duplicate-mac", same)]
    );
    scene.live(&[0, 1, 2]);
    let own = Cause::UniqueMac { member: "rge0".into() };
    assert_eq!(
        causes(&scene.tell(Input::Left { member: 1 })),
        [("left", Cause::Trigger), ("unique-mac", own)]
    );
    let left = Cause::MemberLeft { member: "e1000g0".into() };
    assert_eq!(
        causes(&scene.tell(Input::Left { member: 0 })),
        [("left", Cause::Trigger), ("moved", left.clone()), ("cast-moved", left)]
    );
}

#[test]
fn flap_protection_reports_hold_down_and_cause_of_end() {
    let mut scene = held();
    let member = scene.group.members().iter().find(|member| member.held_until().is_some()).unwrap();
    let (number, name) = (member.number(), member.name().to_owned());
    let mut other = scene.group.clone();
    let now = held_until(&scene.group).unwrap();
    assert_eq!(
        causes(&other.handle(now, Input::Deadline).unwrap())[0],
        ("repaired", Cause::HoldDownExpired { member: name.clone() })
    );
    let other = scene.group.members().iter().find(|member| member.number() != number).unwrap().number();
    let actions = scene.live(&[number]);
    assert!(
        causes(&actions).contains(&("repaired", Cause::NoOtherMember { member: name })),
        "{other} lost: {actions:?}"
    );
}

#[test]
fn member_without_ingress_program_counts_as_failed() {
    let mut scene = Scene::of(&["e1000g0", "e1000g1"]);
    assert_eq!(scene.group.inbound(address(200)), Some(0));
    let missing = scene.tell(Input::Program { member: 0, attached: false });
    let member = || "e1000g0".to_owned();
    let cause = Cause::ProgramMissing { member: member() };
    assert_eq!(causes(&missing), ["failed", "moved", "cast-moved"].map(|kind| (kind, cause.clone())));
    assert_eq!((scene.group.inbound(address(200)), scene.group.cast()), (Some(1), Some(1)));
    assert_eq!(scene.group.member(0).unwrap().state(), MemberState::Failed);
    assert_eq!(scene.group.usable(), MemberSet::of(1));
    assert_eq!(scene.tell(Input::Program { member: 0, attached: false }), []);
    // The last one with a link transmits, program or not.
    scene.link(1, LinkState::Down);
    assert!(scene.group.usable().has(0));
    scene.link(1, LinkState::Up);
    scene.live(&[0, 1]);
    let repaired = scene.tell(Input::Program { member: 0, attached: true });
    assert_eq!(lines(&repaired), ["IP interface repair detected on e1000g0 of group production0"]);
    assert_eq!(scene.group.usable(), [0, 1].into_iter().collect());
}
