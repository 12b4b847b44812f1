//! What the kernel's selftests check of bonding and team (`tools/testing/selftests/drivers/net/bonding` and `team`), of a group.

lab::lane!(side_by_side, seconds = 20);

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use lab::network::DATA;
use lab::production::GROUP;
use lab::stream::Running;
use lab::{
    Daemon, Lab, LinkFailure, MS, MemberKind, Namespace, Production, SECOND, Stream, TIMEOUT, command,
    multicast, wait_until,
};

/// Addresses of a host with a group, and of the host at the other end.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// Names of the members for which this holds.
fn members(
    production: &Production<'_>,
    holds: impl Fn(&ipmp::control::report::MemberReport) -> bool,
) -> Vec<String> {
    let members = production.report().unwrap().members.into_iter();
    members.filter(|member| holds(member)).map(|member| member.name).collect()
}

/// Waits until exactly these members transmit, and the host is reached.
fn wait_active(lab: &Lab, production: &Production<'_>, names: &[&str], what: &str) {
    let active = || members(production, |member| member.active && member.live);
    assert!(wait_until(TIMEOUT, || active() == names), "{what}: not {names:?}:\n{}", production.show());
    let reached = || lab.peer(0).ping(DATA.into(), 1, MS, SECOND).unwrap().answered == 1;
    assert!(wait_until(5 * SECOND, reached), "{what}: not reached:\n{}", production.show());
}

/// `bond_options.sh`, `prio`, whose priorities are members and standbys here, and whose `primary_reselect` is `failback`; then
/// `mode-1-recovery-updelay.sh`.
fn assert_standbys_replace_members(failure: LinkFailure) {
    let lab = Lab::builder().kind(failure.kind()).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let active =
        |names: &[&str], what| wait_active(&lab, &production, names, &format!("{failure:?}: {what}"));
    let (fail, repair) =
        (|name| failure.fail(&lab, name).unwrap(), |name| failure.repair(&lab, name).unwrap());
    let functions = |name: &str| {
        wait_until(TIMEOUT, || members(&production, |member| member.live).contains(&name.into()))
    };
    for standby in ["e1000g1", "rge0"] {
        production.daemon.ctl(&format!("set {standby} standby=on")).unwrap();
    }
    active(&["e1000g0"], "a member and two standbys");
    fail("e1000g0");
    active(&["rge0"], "the standby that joined last");
    fail("rge0");
    active(&["e1000g1"], "the other standby");
    repair("rge0");
    assert!(functions("rge0"));
    active(&["e1000g1"], "a standby does not replace another one that functions");
    repair("e1000g0");
    active(&["e1000g0"], "failback to the member");

    production.daemon.ctl(&format!("set {GROUP} failback=no")).unwrap();
    fail("e1000g0");
    active(&["rge0"], "the standby that joined last");
    repair("e1000g0");
    assert!(functions("e1000g0"));
    active(&["rge0"], "no failback");
    fail("rge0");
    active(&["e1000g1"], "a standby precedes a member without failback");
    fail("e1000g1");
    active(&["e1000g0"], "the only member that functions");

    // While no member is live, the first one to recover is used at once; the next one waits.
    production.daemon.ctl(&format!("set {GROUP} updelay=600s")).unwrap();
    fail("e1000g0");
    let live = || members(&production, |member| member.live);
    assert!(wait_until(TIMEOUT, || live().is_empty()), "{failure:?}: {:?}", live());
    repair("e1000g1");
    active(&["e1000g1"], "recovery of the first one");
    repair("rge0");
    lab.member("rge0").cable().wait_carrier(true, TIMEOUT).unwrap();
    std::thread::sleep(SECOND / 2);
    assert_eq!(live(), ["e1000g1"], "{failure:?}: the second one must wait");
    let problems = production.daemon.log_matches("ERROR", 0);
    println!("{failure:?}: standbys, failback and recovery with updelay as expected; errors: {problems:?}");
    production.assert_clean();
}

#[test]
fn standbys_failback_and_recovery_with_updelay_work_however_links_fail() {
    lab::needs_root!();
    std::thread::scope(|scope| {
        for failure in LinkFailure::ALL {
            scope.spawn(move || assert_standbys_replace_members(failure));
        }
    });
}

/// The unicast and multicast addresses in the receive lists of an interface, as the kernel has them.
fn address_lists(host: &Namespace, interface: &str) -> BTreeSet<String> {
    let unicast = command::run(host.command("bridge").args(["fdb", "show", "dev", interface])).unwrap();
    let multicast = host.ip(&format!("maddress show dev {interface}")).unwrap();
    unicast.lines().chain(multicast.lines()).map(|line| line.trim().to_owned()).collect()
}

/// `dev_addr_lists.sh`.
#[test]
fn receive_lists_of_members_are_restored_when_groups_and_members_leave() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let host = lab.host();
    let [joined, other] = ["01:00:5e:32:01:01", "01:00:5e:32:01:02"];
    let names: Vec<&str> = lab.members().iter().map(|member| member.name()).collect();
    // An operator wants one of the addresses on one member, too.
    host.ip(&format!("maddress add {joined} dev {}", names[0])).unwrap();
    let before: Vec<_> = names.iter().map(|name| address_lists(host, name)).collect();
    let has = |name: &str, mac: &str| address_lists(host, name).iter().any(|line| line.contains(mac));
    let all_have = |mac: &str| names.iter().all(|name| has(name, mac));
    let only_first_has = |mac: &str| has(names[0], mac) && !has(names[1], mac) && !has(names[2], mac);
    let is_restored = |number: usize| address_lists(host, names[number]) == before[number];
    let production = Production::create(&lab).unwrap();
    let groups = [1, 2].map(|last| IpAddr::from(Ipv4Addr::new(239, 178, 1, last)));
    let mut memberships = groups.map(|group| Some(multicast::join(host, GROUP, &[group]).unwrap()));
    let lists =
        || names.iter().map(|name| format!("{name}: {:?}\n", address_lists(host, name))).collect::<String>();
    assert!(wait_until(TIMEOUT, || all_have(joined) && all_have(other)), "joined:\n{}", lists());
    let mac = lab::show_mac(host.link(GROUP).unwrap().mac);
    let with_group_mac = || names.iter().filter(|name| has(name, &mac)).count();
    assert!(wait_until(TIMEOUT, || with_group_mac() == 1), "the MAC of the group, {mac}:\n{}", lists());

    host.ip(&format!("link set {GROUP} down")).unwrap();
    assert!(wait_until(TIMEOUT, || only_first_has(joined)), "group interface down:\n{}", lists());
    assert!(names.iter().all(|name| !has(name, other)), "group interface down:\n{}", lists());
    host.ip(&format!("link set {GROUP} up")).unwrap();
    assert!(wait_until(TIMEOUT, || all_have(joined) && all_have(other)), "up again:\n{}", lists());
    memberships[1] = None;
    let is_left = || names.iter().all(|name| !has(name, other));
    assert!(wait_until(TIMEOUT, is_left), "one multicast group left:\n{}", lists());
    assert!(all_have(joined), "{}", lists());

    production.daemon.ctl(&format!("detach {}", names[1])).unwrap();
    assert!(wait_until(TIMEOUT, || is_restored(1)), "detached; before {:?}:\n{}", before[1], lists());
    assert!(has(names[2], joined), "{}", lists());
    production.daemon.ctl(&format!("attach {} --group {GROUP}", names[1])).unwrap();
    assert!(wait_until(TIMEOUT, || all_have(joined)), "attached again:\n{}", lists());
    host.ip(&format!("link del {GROUP}")).unwrap();
    assert!(wait_until(TIMEOUT, || (0..3).all(is_restored)), "deleted; before {before:?}:\n{}", lists());
    println!("receive lists as before: {:?}", before.iter().map(BTreeSet::len).collect::<Vec<_>>());
}

/// `transmit_failover.sh`: each member in turn no longer transmits, and the others do.
#[test]
fn sending_continues_over_other_members_when_each_leaves_in_turn() {
    lab::needs_root!();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let running = Stream::outbound(&lab).flows(32).rate(2_000).start().unwrap();
    let sent = || -> Vec<u64> {
        let members = production.report().unwrap().members;
        members.iter().map(|member| member.traffic.out_packets).collect()
    };
    // Without frames of the host itself, such as neighbour discovery, few packets mean none.
    let transmit = |what: &str, expected: [bool; 3]| {
        let before = sent();
        let more = || sent().iter().zip(&before).map(|(after, before)| after - before).collect::<Vec<u64>>();
        // A receiver that was late would still receive what was sent before.
        assert!(wait_until(5 * SECOND, || more().iter().sum::<u64>() > 1_000), "{what}: {:?}", more());
        let more = more();
        println!("{what}: {more:?} packets");
        assert_eq!(more.iter().map(|count| *count > 100).collect::<Vec<_>>(), expected, "{what}: {more:?}");
    };
    running.wait_received(100, 5 * SECOND).unwrap();
    transmit("all members", [true; 3]);
    for (number, member) in lab.members().iter().enumerate() {
        let name = member.name();
        let others = [0, 1, 2].map(|other| other != number);
        production.daemon.ctl(&format!("offline {name}")).unwrap();
        transmit(&format!("{name} offline"), others);
        production.daemon.ctl(&format!("online {name}")).unwrap();
        production.wait_usable(3).unwrap();
        member.cable().pull().unwrap();
        transmit(&format!("cable of {name} pulled"), others);
        member.cable().replug().unwrap();
        production.wait_usable(3).unwrap();
    }
    transmit("all members again", [true; 3]);
    let report = running.stop().unwrap();
    println!("each member left in turn: {report}");
    report.ensure_valid().unwrap();
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    production.assert_clean();
}

/// A host with a group of two members in a namespace, the other end of their cables in another one, and traffic between them.
struct Pair<'lab> {
    near: Namespace,
    far: Namespace,
    daemon: Daemon<'lab>,
    running: Running,
}

impl<'lab> Pair<'lab> {
    fn new(lab: &'lab Lab, part: &str) -> Self {
        let near = lab.namespace(&format!("{part}-near")).unwrap();
        let far = lab.namespace(&format!("{part}-far")).unwrap();
        // Without an address of its own, it has the lowest one of its ports, and another one when that port is deleted.
        far.ip("link add br0 address 02:00:00:00:00:02 type bridge").unwrap();
        far.ip(&format!("addr add {FAR}/24 dev br0")).unwrap();
        for number in 0..2 {
            let far_end = format!("port{number} netns {}", far.name());
            near.ip(&format!("link add eth{number} type veth peer name {far_end}")).unwrap();
            near.ip(&format!("link set eth{number} up")).unwrap();
            far.ip(&format!("link set port{number} master br0 up")).unwrap();
        }
        far.ip("link set br0 up").unwrap();
        let daemon = Daemon::builder(lab).namespace(&near).start().unwrap();
        daemon.ctl(&format!("create g0 --address {NEAR}/24")).unwrap();
        daemon.ctl("attach eth0 eth1 --group g0").unwrap();
        let stream = Stream::new(&near, &far, FAR).source(NEAR).flows(8).rate(2_000);
        let running = stream.start().unwrap();
        running.wait_received(200, TIMEOUT).unwrap();
        Self { near, far, daemon, running }
    }

    /// Deletes an interface: the kernel waits until no reference to it is left.
    fn delete(&self, of: &Namespace, interface: &str) {
        let start = Instant::now();
        of.ip(&format!("link del {interface}")).unwrap();
        let took = start.elapsed();
        println!("{}: {interface} deleted in {took:?}", self.near.name());
        assert!(took < 5 * SECOND, "{interface} deleted in {took:?}");
    }

    /// Ends the traffic and the daemon, and deletes the namespaces; their pins stay. They must be destroyed.
    fn delete_namespaces(self) {
        let Self { near, far, daemon, running } = self;
        let cookies = [near.cookie().unwrap(), far.cookie().unwrap()];
        let names = [near.name().to_owned(), far.name().to_owned()];
        let _ = running.stop();
        drop((daemon, near, far));
        for name in &names {
            command::run(std::process::Command::new("ip").args(["netns", "del", name])).unwrap();
        }
        let living = || ipmp::datapath::living_namespaces().unwrap().unwrap();
        let start = Instant::now();
        let destroyed = wait_until(10 * SECOND, || cookies.iter().all(|cookie| !living().contains(cookie)));
        assert!(destroyed, "{names:?} are not destroyed");
        println!("{names:?} destroyed after {:?}", start.elapsed());
    }
}

/// `refleak.sh`.
#[test]
fn deleting_groups_members_and_namespaces_in_any_order_leaks_no_reference() {
    lab::needs_root!();
    let lab = Lab::builder().members(1).build().unwrap();
    // The namespace with everything.
    Pair::new(&lab, "whole").delete_namespaces();

    let pair = Pair::new(&lab, "group");
    pair.delete(&pair.near, "g0");
    pair.daemon.wait_line("Group interface g0 was deleted by another program", 0, TIMEOUT).unwrap();
    pair.delete(&pair.near, "eth0");
    pair.delete(&pair.near, "eth1");
    pair.delete_namespaces();

    let pair = Pair::new(&lab, "member");
    pair.delete(&pair.near, "eth0");
    pair.delete(&pair.far, "port1");
    pair.delete(&pair.near, "g0");
    pair.delete_namespaces();

    // A member is moved to another namespace and deleted there; the daemon is killed first.
    let mut pair = Pair::new(&lab, "moved");
    pair.daemon.kill().unwrap();
    pair.near.ip(&format!("link set eth0 netns {}", pair.far.name())).unwrap();
    pair.delete(&pair.far, "eth0");
    pair.running.wait_received(200, TIMEOUT).unwrap();
    pair.daemon.start().unwrap();
    pair.near.ip(&format!("link set eth1 netns {}", pair.far.name())).unwrap();
    pair.delete(&pair.far, "eth1");
    pair.delete_namespaces();
}
