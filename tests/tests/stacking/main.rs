//! Devices that are stacked on the group interface, on members, and on or below other cards: each works or is refused, as
//! docs/attach.md lists.
//!
//! Many kernels lack some of these kinds. `cargo xtask test` boots one that has them all.

lab::lane!(alone, no_clsact = "runs in a virtual machine");

mod import;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use lab::host::INTERFACE;
use lab::network::{DATA, DATA6};
use lab::production::GROUP;
use lab::{Lab, MS, Namespace, Production, SECOND, TIMEOUT, command, ping, wait_until};

mod aggregates;

/// The members, and a card that is none.
const MEMBERS: [&str; 2] = ["e1000g0", "e1000g1"];
const FREE: &str = "rge0";

struct Scene<'lab> {
    lab: &'lab Lab,
    production: Production<'lab>,
    start: Instant,
}

impl<'lab> Scene<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        // IPv6 addresses survive that a VRF takes their interface down and up.
        lab.host().sysctl("net.ipv6.conf.default.keep_addr_on_down", "1").unwrap();
        let production = Production::builder(lab).members(&MEMBERS).create().unwrap();
        Self { lab, production, start: Instant::now() }
    }

    fn ip(&self, arguments: &str) -> String {
        self.lab.host().ip(arguments).unwrap()
    }

    fn ctl(&self, arguments: &str) -> String {
        self.production.daemon.ctl(arguments).unwrap()
    }

    /// `attach` is refused with this text.
    fn refused(&self, device: &str, text: &str) {
        let error = self.production.daemon.ctl_error(&format!("attach {device} --group {GROUP}")).unwrap();
        println!("{error}");
        assert!(error.contains(text), "{error}\nexpected: {text}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    /// A peer reaches these addresses of the host, also after it has resolved them again.
    fn reached_at(&self, what: &str, addresses: &[IpAddr]) {
        let peer = self.lab.peer(0);
        for address in addresses {
            let answers = |count| peer.ping(*address, count, 10 * MS, SECOND).unwrap();
            let reached = wait_until(TIMEOUT, || {
                peer.flush_neighbours().unwrap();
                answers(1).answered == 1
            });
            assert!(reached, "{what}: {address} is not reached\n{}", self.production.show());
            let answers = answers(3);
            assert_eq!((answers.answered, answers.duplicates), (3, 0), "{what}: {address}: {answers:?}");
        }
        println!("{:.1} s, {what}: {addresses:?} reached", self.start.elapsed().as_secs_f32());
    }

    fn reached(&self, what: &str) {
        self.reached_at(what, &[DATA.into(), DATA6.into()]);
    }

    /// These addresses are reached while each of the members is without a cable.
    fn survives_pulled_cables(&self, what: &str, addresses: &[IpAddr]) {
        self.reached_at(what, addresses);
        for name in MEMBERS {
            let cable = self.lab.member(name).cable();
            cable.pull().unwrap();
            self.production.wait_usable(1).unwrap();
            self.reached_at(&format!("{what}, cable of {name} pulled"), addresses);
            cable.replug().unwrap();
            self.production.wait_usable(2).unwrap();
        }
    }

    /// A card, or what is on it, works as the only member that transmits.
    fn works_as_member(&self, device: &str, what: &str) {
        self.ctl(&format!("attach {device} --group {GROUP}"));
        self.production.wait_usable(3).unwrap();
        for member in MEMBERS {
            self.ctl(&format!("offline {member}"));
        }
        assert_eq!(self.production.inbound(DATA).unwrap(), device);
        self.reached(&format!("{what} as a member"));
        for member in MEMBERS {
            self.ctl(&format!("online {member}"));
        }
        self.ctl(&format!("detach {device}"));
    }
}

/// Adds a device to the VLAN of a peer.
fn peer_vlan(lab: &Lab, id: u16) -> Ipv4Addr {
    let (peer, address) = (lab.peer(0).namespace(), Ipv4Addr::new(10, id as u8, 0, 22));
    peer.ip(&format!("link add link {INTERFACE} name vlan{id} type vlan id {id}")).unwrap();
    peer.ip(&format!("addr add {address}/24 dev vlan{id}")).unwrap();
    peer.ip(&format!("link set vlan{id} up")).unwrap();
    address
}

fn reaches(from: &Namespace, address: impl Into<IpAddr>) -> bool {
    let address = address.into();
    wait_until(TIMEOUT, || ping(from, None, address, 3, 10 * MS, 2 * SECOND).unwrap().answered == 3)
}

/// Devices that share a card with other hosts or programs: they may be members, except where they would loop or receive
/// nothing.
#[test]
#[ignore = "needs macvlan and ipvlan: `cargo xtask test` boots a kernel with them"]
fn stacked_macvlan_and_ipvlan_work_or_are_refused() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let scene = Scene::new(&lab);
    scene.reached("no stacked device");
    for kind in ["macvlan", "macvtap", "ipvlan", "ipvtap"] {
        // On the group interface, and over two levels.
        scene.ip(&format!("link add link {GROUP} name up0 type {kind}"));
        scene.refused("up0", &format!("up0 is stacked on group interface {GROUP}"));
        if kind == "macvlan" {
            for master in ["bridge", "bond"] {
                scene.ip(&format!("link add over0 type {master}"));
                scene.ip("link set up0 master over0");
                scene.refused("over0", &format!("over0 is stacked on group interface {GROUP}"));
                scene.ip("link del over0");
            }
        }
        scene.reached(&format!("{kind} on the group interface"));
        scene.ip("link del up0");

        // On a member.
        scene.ip(&format!("link add link e1000g0 name up0 type {kind}"));
        scene.refused("up0", &format!("up0 is stacked on e1000g0, which is a member of {GROUP}"));
        scene.ip("link set up0 up");
        scene.reached(&format!("{kind} on a member"));
        scene.ip("link del up0");

        // On another card: either of them, not both.
        scene.ip(&format!("link add link {FREE} name up0 type {kind}"));
        scene.refused(FREE, &format!("{FREE} has the {kind} device up0 on it"));
        if kind.starts_with("ipv") {
            scene.refused("up0", &format!("up0 is an {kind} device"));
        } else {
            scene.refused(&format!("up0 {FREE}"), &format!("{FREE} has the {kind} device up0 on it"));
            scene.works_as_member("up0", kind);
        }
        scene.ip("link del up0");
    }
    scene.works_as_member(FREE, "the card");

    // An ipvlan device on the group interface, for a container.
    let container = lab.namespace("container").unwrap();
    let address = Ipv4Addr::new(192, 168, 178, 99);
    scene.ip(&format!("link add link {GROUP} name iv0 netns {} type ipvlan mode l2", container.name()));
    container.ip(&format!("addr add {address}/24 dev iv0")).unwrap();
    container.ip("link set iv0 up").unwrap();
    assert!(reaches(&container, lab.peer(1).v4()), "from the container");
    scene.survives_pulled_cables("ipvlan on the group interface", &[address.into(), DATA.into()]);
    container.ip("link del iv0").unwrap();
    scene.reached("afterwards");
    scene.production.assert_clean();
}

#[test]
#[ignore = "needs bond, team and bridge: `cargo xtask test` boots a kernel with them"]
fn stacked_bond_team_bridge_and_vlan_work_or_are_refused() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let scene = Scene::new(&lab);
    let mac = lab.host().link(GROUP).unwrap().mac;
    for (kind, options) in
        [("bridge", "forward_delay 0"), ("bond", "mode active-backup miimon 50"), ("team", "")]
    {
        scene.ip(&format!("link add over0 type {kind} {options}"));
        // A card below it.
        scene.ip(&format!("link set {FREE} down"));
        scene.ip(&format!("link set {FREE} master over0"));
        scene.ip(&format!("link set {FREE} up"));
        scene.refused(FREE, &format!("{FREE} belongs to over0 ({kind})"));
        // It is a member itself; without a program that configures it, a team device does not transmit.
        if kind != "team" {
            scene.ip("link set over0 up");
            scene.works_as_member("over0", kind);
        }
        scene.ip(&format!("link set {FREE} nomaster"));

        // The group interface below it.
        let since = scene.production.daemon.log().len();
        if kind != "bridge" {
            scene.ip(&format!("link set {GROUP} down"));
        }
        scene.ip(&format!("link set {GROUP} master over0"));
        let line = format!("Group interface {GROUP} was made a port of another interface");
        println!("{}", scene.production.daemon.wait_line(&line, since, TIMEOUT).unwrap());
        let shown = scene.ip(&format!("-o link show {GROUP}"));
        assert!(!shown.contains("master"), "{shown}");
        scene.ip("link del over0");
        scene.ip(&format!("link set {GROUP} up"));
        assert_eq!(lab.host().link(GROUP).unwrap().mac, mac, "{kind}");
        scene.reached(&format!("{kind} over the group interface"));
        scene.ip(&format!("link set {FREE} up"));
    }

    // VLANs: on a member, on a card that is attached, on the group interface.
    let own = |id: u16| Ipv4Addr::new(10, id as u8, 0, 200);
    let add = |below: &str, id: u16| {
        let peer = peer_vlan(&lab, id);
        scene.ip(&format!("link add link {below} name vlan{id} type vlan id {id}"));
        scene.ip(&format!("addr add {}/24 dev vlan{id}", own(id)));
        scene.ip(&format!("link set vlan{id} up"));
        peer
    };
    let on_member = add("e1000g0", 30);
    assert!(reaches(lab.host(), on_member), "VLAN on a member");
    let on_card = add(FREE, 40);
    scene.ctl(&format!("attach {FREE} --group {GROUP}"));
    assert!(reaches(lab.host(), on_card), "VLAN on a card that was attached");
    let on_group = add(GROUP, 20);
    assert!(reaches(lab.host(), on_group), "VLAN on the group interface");
    assert!(reaches(lab.host(), on_member), "VLAN on a member, while the group interface has another");
    scene.refused("vlan20", &format!("vlan20 is stacked on group interface {GROUP}"));
    scene.ip("link add over0 type bridge");
    scene.ip("link set vlan20 master over0");
    scene.refused("over0", &format!("over0 is stacked on group interface {GROUP}"));
    scene.ip("link del over0");
    scene.ip("link del vlan20");

    // A VLAN of a member is a member of another group.
    scene.ip(&format!("addr del {}/24 dev vlan30", own(30)));
    scene.ctl(&format!("create other0 --address {}/24", own(30)));
    scene.ctl("attach vlan30 --group other0");
    assert!(reaches(lab.host(), on_member), "through a group on a VLAN");
    scene.ctl("detach vlan30 --restore");
    scene.reached("afterwards");
    scene.production.assert_clean();
}

#[test]
#[ignore = "needs VRF: `cargo xtask test` boots a kernel with it"]
fn stacked_vrf_keeps_group_interface() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let mut scene = Scene::new(&lab);
    scene.ip("link add red type vrf table 10");
    scene.ip("link set red up");
    scene.refused("red", "red is a VRF");
    scene.ip(&format!("link set {FREE} master red"));
    scene.refused(FREE, &format!("{FREE} belongs to red (vrf)"));
    scene.ip(&format!("link set {FREE} nomaster"));

    let since = scene.production.daemon.log().len();
    scene.ip(&format!("link set {GROUP} master red"));
    let both = [DATA.into(), DATA6.into()];
    scene.reached("in a VRF");
    let route = format!("route add default via {} dev {GROUP} vrf red", lab.router().v4());
    scene.ip(&route);
    // From the VRF, through its default route.
    let far = Ipv4Addr::new(203, 0, 113, 9);
    lab.router().namespace().ip(&format!("addr add {far}/32 dev lo")).unwrap();
    let through = || {
        let mut ping = lab.host().command("busybox");
        command::run(ping.args(["ping", "-c", "3", "-W", "5", "-I", "red"]).arg(far.to_string())).unwrap()
    };
    println!("{}", through());

    // Its router is the target of probes, as in the main table.
    scene.ctl(&format!("set {GROUP} probe=arp fdt=2s"));
    scene.production.wait_answered().unwrap();
    let targets = scene.ctl(&format!("target list --group {GROUP}"));
    println!("{targets}");
    assert!(targets.contains(&lab.router().v4().to_string()), "{targets}");

    // Adopted as it is.
    scene.production.daemon.kill().unwrap();
    scene.production.daemon.start().unwrap();
    scene.survives_pulled_cables("in a VRF, daemon restarted", &both);
    let shown = scene.ip(&format!("-o link show {GROUP}"));
    assert!(shown.contains("master red"), "{shown}");
    assert_eq!(scene.production.daemon.log_matches("port of another interface", since), [""; 0]);

    scene.ctl(&format!("set {GROUP} probe=off"));
    scene.ip(&format!("link set {GROUP} nomaster"));
    scene.survives_pulled_cables("out of the VRF again", &both);
    scene.production.assert_clean();
}

/// The MAC with which a peer knows the host's address in a VLAN.
fn known_in_vlan(lab: &Lab, id: u16) -> Option<String> {
    let text = lab.peer(0).namespace().ip(&format!("neigh show dev vlan{id}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&own_in_vlan(id).to_string()))?;
    line.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).map(str::to_owned)
}

fn own_in_vlan(id: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, id as u8, 0, 200)
}

/// Every VLAN has one address: the members share them, as they share data addresses.
#[test]
#[ignore = "needs VLANs: `cargo xtask test` boots a kernel with them"]
fn stacked_vlan_addresses_are_spread_over_members_and_move_with_them() {
    lab::needs_root!();
    const VLANS: [u16; 3] = [20, 21, 22];
    let lab = Lab::tutorial().unwrap();
    let mut production = Production::create(&lab).unwrap();
    for id in VLANS {
        peer_vlan(&lab, id);
        lab.host().ip(&format!("link add link {GROUP} name vlan{id} type vlan id {id}")).unwrap();
        lab.host().ip(&format!("addr add {}/24 dev vlan{id}", own_in_vlan(id))).unwrap();
        lab.host().ip(&format!("link set vlan{id} up")).unwrap();
    }
    let peer = lab.peer(0).namespace();
    let all_known = |what: &str| {
        let known: Vec<String> = VLANS
            .iter()
            .map(|&id| {
                assert!(reaches(peer, own_in_vlan(id)), "{what}: VLAN {id}");
                known_in_vlan(&lab, id).unwrap()
            })
            .collect();
        println!("{what}: {known:?}");
        known
    };
    let first = all_known("three members");
    let mut macs: Vec<String> = lab.members().iter().map(|member| lab::show_mac(member.mac())).collect();
    let mut distinct = first.clone();
    macs.sort();
    distinct.sort();
    assert_eq!(distinct, macs, "each member answers for the address of one VLAN");

    let failed = lab.members().iter().find(|member| lab::show_mac(member.mac()) == first[1]).unwrap();
    failed.cable().pull().unwrap();
    production.wait_usable(2).unwrap();
    // By an announcement: the peer does not resolve it again.
    let is_announced = || known_in_vlan(&lab, VLANS[1]).is_some_and(|mac| mac != first[1]);
    assert!(wait_until(2 * SECOND, is_announced), "{:?}", known_in_vlan(&lab, VLANS[1]));
    let second = all_known("after a failure");
    assert_eq!((&second[0], &second[2]), (&first[0], &first[2]), "others stay");
    assert!(second[1] == first[0] || second[1] == first[2]);

    production.daemon.kill().unwrap();
    production.daemon.start().unwrap();
    lab.peer(0).flush_neighbours().unwrap();
    let restarted = VLANS.map(|id| {
        assert!(reaches(peer, own_in_vlan(id)), "VLAN {id}");
        known_in_vlan(&lab, id).unwrap()
    });
    println!("after a restart: {restarted:?}");
    assert_eq!(restarted.to_vec(), second, "a restart moves none");
    production.assert_clean();
}
