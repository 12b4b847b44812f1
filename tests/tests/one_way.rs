//! A cable that passes frames in one direction only, while its link stays up: the member fails, and is repaired, by each way of
//! probing, whether the data address is received through it or not. And a target that is absent at first.

lab::lane!(side_by_side, seconds = 20, threads = 3);

use ipmp::types::{Family, MemberState};
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
