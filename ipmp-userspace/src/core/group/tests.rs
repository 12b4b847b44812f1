use super::*;

/// A group and its clock, and what it said.
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
            scene.join(name, Link::Up);
        }
        let live = scene.numbers();
        scene.tell(Event::Live(live));
        scene.tell(Event::AddressAdded(address(200)));
        scene
    }

    fn join(&mut self, name: &str, link: Link) -> Vec<Action> {
        let member = self.group.free_number().expect("room for a member");
        self.tell(Event::Joined(attachment(member, name, link)))
    }

    fn numbers(&self) -> MemberSet {
        self.group.members().iter().map(Member::number).collect()
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let text = format!("{event:?}");
        self.group.handle(self.now, event).unwrap_or_else(|refusal| panic!("{text}: {refusal}"))
    }

    fn refused(&mut self, event: Event) -> String {
        let before = format!("{:?}", self.group);
        let refusal = self.group.handle(self.now, event).expect_err("a refusal").to_string();
        assert_eq!(before, format!("{:?}", self.group), "a refusal changes nothing");
        refusal
    }

    fn live(&mut self, members: &[u8]) -> Vec<Action> {
        self.tell(Event::Live(members.iter().copied().collect()))
    }

    fn link(&mut self, member: u8, link: Link) -> Vec<Action> {
        self.tell(Event::Link { member, link })
    }
}

fn attachment(member: u8, name: &str, link: Link) -> Attachment {
    Attachment { member, name: name.to_owned(), mac: [2, 0, 0, 0, 0, member], mtu: 1500, weight: 1000, link }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 168, 178, last])
}

/// The lines among the actions.
fn lines(actions: &[Action]) -> Vec<String> {
    let line = |action: &Action| match action {
        Action::Log(line) => Some(line.to_string()),
        _ => None,
    };
    actions.iter().filter_map(line).collect()
}

/// The actions other than lines and slots.
fn work(actions: &[Action]) -> Vec<Action> {
    actions.iter().filter(|action| !matches!(action, Action::Log(_) | Action::SetSlots(_))).cloned().collect()
}

fn list(members: &[u8]) -> Preference {
    Preference::new(members)
}

#[test]
fn a_first_member_takes_everything_when_it_is_live_and_not_before() {
    let mut scene = Scene::new();
    assert_eq!(
        scene.tell(Event::AddressAdded(address(200))),
        [Action::SetInbound { address: address(200), inbound: Preference::NOBODY }]
    );
    let joined = scene.join("e1000g0", Link::Up);
    assert_eq!(lines(&joined), ["IP interface e1000g0 has joined group production0"]);
    assert_eq!(
        work(&joined),
        [
            Action::SetMtu(1500),
            Action::SetUsable(MemberSet::of(0)),
            Action::SetState { member: 0, state: MemberState::Unknown },
        ]
    );
    assert_eq!(scene.group.state(), GroupState::Failed);
    let live = scene.live(&[0]);
    assert_eq!(
        live,
        [
            Action::Announce { address: address(200), member: 0 },
            Action::SetCarrier(true),
            Action::SetState { member: 0, state: MemberState::Ok },
        ]
    );
    assert_eq!(scene.group.state(), GroupState::Ok);
    assert_eq!(scene.live(&[0]), [], "nothing new, nothing to do");
}

#[test]
fn a_pulled_cable_moves_roles_and_leaves_usable_alone() {
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
            Action::SetInbound { address: address(200), inbound: list(&[1, 2, 0]) },
            Action::Announce { address: address(200), member: 1 },
            Action::SetState { member: 0, state: MemberState::Failed },
        ]
    );
    assert_eq!(scene.link(0, Link::Down), [], "netlink is late, and nothing new");
    assert_eq!(lines(&scene.link(0, Link::Up)), ["The link has come up on e1000g0"]);
    let back = scene.live(&[0, 1, 2]);
    assert_eq!(lines(&back), ["IP interface repair detected on e1000g0 of group production0"]);
    assert_eq!((scene.group.cast(), scene.group.inbound(address(200))), (Some(1), Some(1)));
}
