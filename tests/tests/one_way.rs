//! A cable that passes frames in one direction only, while its link stays up: the member fails, and is repaired, by each way of
//! probing, whether the data address is received through it or not, and the direction is named. And a target that is absent at first.

lab::lane!(side_by_side, seconds = 60, threads = 5);

use std::time::Instant;

use ipmp::{
    probe::test_frames::ETHERTYPE,
    types::{FailedDirection, Family, MemberState},
};
use lab::cable::End;
use lab::filter;
use lab::frame_counter::FrameCounters;
use lab::network::{DATA, ROUTER, counterpart};
use lab::production::GROUP;
use lab::{Direction, Lab, MS, Production, SECOND, TIMEOUT, wait_until};

/// How members are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probing {
    /// From test addresses.
    Echo,
    Arp,
    Nd,
}

fn create(lab: &Lab, probing: Probing) -> Production<'_> {
    let router6 = counterpart(ROUTER);
    let (families, settings): (&[Family], String) = match probing {
        Probing::Echo => (&[Family::V4], format!("fdt=500ms targets={ROUTER}")),
        Probing::Arp => (&[], format!("fdt=500ms probe=arp targets={ROUTER}")),
        Probing::Nd => (&[], format!("fdt=500ms probe=nd targets={router6}")),
    };
    let production = Production::create_probed(lab, families, &settings).unwrap();
    production.wait_answered().unwrap();
    production
}

fn reached(lab: &Lab) -> bool {
    lab.peer(0).ping(DATA.into(), 3, MS, SECOND).unwrap().answered == 3
}

/// Cuts each direction, of the inbound member of the data address and of another one.
fn one_way_failures(probing: Probing) {
    let lab = Lab::tutorial().unwrap();
    let production = create(&lab, probing);
    let since = production.daemon.log().len();
    for direction in [Direction::Outbound, Direction::Inbound] {
        for inbound in [true, false] {
            let holder = production.inbound(DATA).unwrap();
            let others = lab.members().iter().find(|member| member.name() != holder).unwrap();
            let member = if inbound { lab.member(&holder) } else { others };
            let name = member.name();
            member.cable().cut_direction(direction).unwrap();
            production.wait_state(name, MemberState::Failed, TIMEOUT).unwrap();
            let states: Vec<_> = production.report().unwrap().members;
            assert_eq!(states.iter().filter(|member| member.state == MemberState::Failed).count(), 1);
            assert_ne!(production.inbound(DATA).unwrap(), name);
            assert!(
                wait_until(TIMEOUT, || reached(&lab)),
                "{probing:?} {direction:?}: {}",
                production.show()
            );
            member.cable().restore().unwrap();
            production.wait_state(name, MemberState::Ok, TIMEOUT).unwrap();
            println!(
                "{probing:?}, {direction:?} cut on {name}, inbound member {inbound}: failed and repaired"
            );
        }
    }
    let failures = production.daemon.log_matches("failure detected", since);
    assert_eq!(failures.len(), 4, "{failures:?}");
    production.assert_clean();
}

#[test]
#[ignore = "takes 20 s"]
fn soak_one_way_failure_fails_member_probed_by_echo() {
    lab::needs_root!();
    one_way_failures(Probing::Echo);
}

#[test]
fn one_way_failure_fails_member_probed_by_arp() {
    lab::needs_root!();
    one_way_failures(Probing::Arp);
}

#[test]
#[ignore = "takes 20 s"]
fn soak_one_way_failure_fails_member_probed_by_nd() {
    lab::needs_root!();
    one_way_failures(Probing::Nd);
}

/// The only target is switched on after the group was created; then a path fails without a loss of the link.
fn target_that_appears_later(probing: Probing) {
    let lab = Lab::tutorial().unwrap();
    let router = lab.router();
    router.cable().pull().unwrap();
    let families: &[Family] = if probing == Probing::Echo { &[Family::V4] } else { &[] };
    let settings = if probing == Probing::Echo { "" } else { " probe=arp" };
    let settings = format!("fdt=500ms targets={ROUTER}{settings}");
    let production = Production::create_probed(&lab, families, &settings).unwrap();
    let line = format!("No target of group {GROUP} replies on any interface (inet)");
    production.daemon.wait_line(&line, 0, TIMEOUT).unwrap();
    production.wait_usable(3).unwrap();
    assert!(reached(&lab), "{}", production.show());
    router.cable().replug().unwrap();
    production.wait_answered().unwrap();
    let line = format!("Targets of group {GROUP} reply again (inet)");
    production.daemon.wait_line(&line, 0, TIMEOUT).unwrap();
    let name = production.inbound(DATA).unwrap();
    lab.member(&name).cable().cut().unwrap();
    production.wait_state(&name, MemberState::Failed, TIMEOUT).unwrap();
    assert!(wait_until(TIMEOUT, || reached(&lab)), "{}", production.show());
    println!("{probing:?}: {name} failed by a target that was absent at first");
    production.assert_clean();
}

#[test]
fn target_that_is_absent_at_first_detects_a_later_path_failure() {
    lab::needs_root!();
    target_that_appears_later(Probing::Arp);
}

#[test]
#[ignore = "as with ARP"]
fn soak_target_that_is_absent_at_first_detects_a_later_path_failure_by_echo() {
    lab::needs_root!();
    target_that_appears_later(Probing::Echo);
}

/// Waits until the report of a member has a direction of its failure.
fn wait_direction(production: &Production<'_>, name: &str, direction: FailedDirection) {
    let found = || production.member(name).unwrap().failed_direction.map(|failure| failure.direction);
    assert!(
        wait_until(TIMEOUT, || found() == Some(direction)),
        "{name}: {:?}, not {direction:?}\n{}\n{}",
        found(),
        production.show(),
        production.daemon.log().join("\n")
    );
}

#[test]
fn direction_of_failure_is_named_by_frames_between_members() {
    lab::needs_root!();
    const MEMBER: &str = "e1000g0";
    let lab = Lab::tutorial().unwrap();
    let production = create(&lab, Probing::Echo);
    let frames = FrameCounters::start(&lab, &filter::ethertype(ETHERTYPE)).unwrap();
    std::thread::sleep(SECOND);
    assert_eq!(frames.max(), 0, "frames although no member has failed: {:?}", frames.all());
    let cable = lab.member(MEMBER).cable();
    for (cut, direction, text) in [
        (Some(Direction::Inbound), FailedDirection::Receive, "does not receive"),
        (Some(Direction::Outbound), FailedDirection::Transmit, "does not transmit"),
        (None, FailedDirection::Both, "neither receives nor transmits"),
    ] {
        let (since, before, start) = (production.daemon.log().len(), frames.on(cable.name()), Instant::now());
        match cut {
            Some(direction) => cable.cut_direction(direction).unwrap(),
            None => cable.cut().unwrap(),
        };
        production.wait_state(MEMBER, MemberState::Failed, TIMEOUT).unwrap();
        let failed = start.elapsed();
        wait_direction(&production, MEMBER, direction);
        let found = start.elapsed();
        let line = format!("IP interface {MEMBER} of group {GROUP} {text}: ");
        production.daemon.wait_line(&line, since, TIMEOUT).unwrap();
        let explained = production.daemon.ctl(&format!("explain {MEMBER}")).unwrap();
        assert!(explained.lines().next().unwrap().contains(&format!("it {text}; check ")), "{explained}");
        assert!(explained.contains(&format!("        It {text}: ")), "{explained}");
        assert!(production.show().contains(&format!("        {text}: ")), "{}", production.show());
        // Another test, and the times between.
        std::thread::sleep(6 * SECOND);
        let sent = frames.on(cable.name()) - before;
        println!(
            "{direction:?}: failed after {failed:?}, direction named after {found:?}; {sent} frames on {}",
            cable.name()
        );
        assert!(sent > 0 && sent <= 3 * 6, "{sent} frames in at most three tests");
        assert_eq!(production.daemon.log_matches(&line, since).len(), 1, "{:?}", production.daemon.log());
        cable.restore().unwrap();
        production.wait_state(MEMBER, MemberState::Ok, TIMEOUT).unwrap();
        assert_eq!(production.member(MEMBER).unwrap().failed_direction, None);
    }
    let failures = production.daemon.log_matches("failure detected", 0);
    assert_eq!(failures.len(), 3, "{failures:?}");
    production.assert_clean();
}

/// As a private VLAN: the ports of the members pass no frame to each other, and all to the router.
#[test]
fn isolated_ports_leave_direction_unknown() {
    lab::needs_root!();
    let lab = Lab::builder().one_switch().build().unwrap();
    for member in lab.members() {
        let End { namespace, interface } = member.cable().far();
        namespace.ip(&format!("link set {interface} type bridge_slave isolated on")).unwrap();
    }
    let production = create(&lab, Probing::Echo);
    let name = lab.members()[0].name();
    lab.member(name).cable().cut_direction(Direction::Inbound).unwrap();
    production.wait_state(name, MemberState::Failed, TIMEOUT).unwrap();
    wait_direction(&production, name, FailedDirection::Unknown);
    let logged = production.daemon.log_matches("receive", 0);
    assert!(logged.is_empty(), "{logged:?}");
    println!("{}", production.daemon.ctl(&format!("explain {name}")).unwrap());
    production.assert_clean();
}

/// The router has a wrong MAC for the test address of one member: its replies to that member are lost.
#[test]
fn failure_beyond_the_switches_is_named() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = create(&lab, Probing::Echo);
    let name = lab.members()[0].name();
    let address = production.member(name).unwrap().probing[0].test_address.unwrap();
    let router = lab.router();
    let interface = &router.cable().near().interface;
    let entry = format!("neigh replace {address} lladdr 02:00:00:00:00:fe dev {interface} nud permanent");
    router.namespace().ip(&entry).unwrap();
    production.wait_state(name, MemberState::Failed, TIMEOUT).unwrap();
    wait_direction(&production, name, FailedDirection::Beyond);
    let line = format!("IP interface {name} of group {GROUP} receives and transmits: ");
    production.daemon.wait_line(&line, 0, TIMEOUT).unwrap();
    let explained = production.daemon.ctl(&format!("explain {name}")).unwrap();
    assert!(explained.contains("it reaches other members; check the path from its switch"), "{explained}");
    println!("{explained}");
    router.namespace().ip(&format!("neigh del {address} dev {interface}")).unwrap();
    production.wait_state(name, MemberState::Ok, TIMEOUT).unwrap();
    // Between the switches: both members at Switch A reach each other.
    lab.cable(4).cut().unwrap();
    for (name, other) in [("e1000g0", "e1000g1"), ("e1000g1", "e1000g0")] {
        production.wait_state(name, MemberState::Failed, TIMEOUT).unwrap();
        wait_direction(&production, name, FailedDirection::Beyond);
        assert_eq!(production.member(name).unwrap().failed_direction.unwrap().peer, other);
    }
    println!("{}", production.show());
    production.assert_clean();
}
