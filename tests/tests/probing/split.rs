//! The cable between the switches is cut, and each switch has a target: every member works, and reaches its own side only.

use ipmp::types::{GroupState, MemberState};
use lab::network::Switch;
use lab::stream::Stream;
use lab::{SECOND, TIMEOUT, wait_until};

use super::*;

const NEAR: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 22);

/// Each target that does not reply to all members, with those that it replies to and the others.
fn split(production: &Production<'_>) -> Value {
    production.report_json().unwrap()["detection"]["split"].clone()
}

#[test]
fn split_network_is_reported_with_targets_of_each_member() {
    lab::needs_root!();
    let lab = Lab::builder().peers(&[(NEAR, Switch::A)]).build().unwrap();
    let production = with_test_addresses(&lab, &format!("fdt=500ms targets={ROUTER},{NEAR} split=keep"));
    assert_eq!(split(&production), serde_json::json!([]));
    let since = production.daemon.log().len();
    let between = lab.cable(4);
    between.cut().unwrap();
    println!("{}", production.daemon.wait_line("is split (inet)", since, TIMEOUT).unwrap());
    let (behind_a, behind_b) = (["e1000g0", "e1000g1"], ["rge0"]);
    let expected = serde_json::json!([
        { "target": ROUTER, "reached_by": behind_b, "not_reached_by": behind_a },
        { "target": NEAR, "reached_by": behind_a, "not_reached_by": behind_b },
    ]);
    assert!(wait_until(TIMEOUT, || split(&production) == expected), "{:#}", split(&production));
    for (what, command) in [("split: ", "show"), ("inet: the network is split: ", "explain e1000g0")] {
        let text = production.daemon.ctl(command).unwrap();
        for line in [
            format!("{what}{ROUTER} replies on rge0, not on e1000g0 e1000g1"),
            format!("{what}{NEAR} replies on e1000g0 e1000g1, not on rge0"),
        ] {
            assert!(text.contains(&line), "{text}");
        }
    }
    for member in production.report().unwrap().members {
        assert_eq!((member.state, member.usable), (MemberState::Ok, true), "{}", member.name);
    }
    assert_eq!(production.report().unwrap().state, GroupState::Split);
    let stat = super::observability::stat(&production, "-gP -o state").output().unwrap();
    assert_eq!(stat.stdout, b"ok\n", "ipmpstat has no state split");
    between.restore().unwrap();
    println!("{}", production.daemon.wait_line("is no longer split (inet)", since, TIMEOUT).unwrap());
    assert_eq!(split(&production), serde_json::json!([]));
    assert_eq!(production.daemon.log_matches("is split (inet)", since).len(), 1);
    assert_eq!(production.daemon.log_matches("failure detected", since), [""; 0]);
    production.assert_clean();
}

/// The share of packets to the router that are lost, of 96 flows in 2 s.
fn loss(lab: &Lab) -> f64 {
    let stream = Stream::new(lab.host(), lab.router().namespace(), ROUTER).source(DATA).flows(96).rate(5000);
    let running = stream.start().unwrap();
    std::thread::sleep(2 * SECOND);
    let report = running.stop().unwrap();
    println!("{} of {} packets to the router lost", report.lost(), report.sent());
    report.lost() as f64 / report.sent() as f64
}

fn transmitting(production: &Production<'_>) -> Vec<String> {
    let members = production.report().unwrap().members.into_iter();
    members.filter(|member| member.usable).map(|member| member.name).collect()
}

#[test]
fn split_network_is_left_to_members_that_reach_the_router() {
    lab::needs_root!();
    let lab = Lab::builder().peers(&[(NEAR, Switch::A)]).build().unwrap();
    let settings = format!("fdt=500ms targets={ROUTER},{NEAR} split=keep");
    let production = with_test_addresses(&lab, &settings);
    lab.host().ip(&format!("route add default via {ROUTER} dev {GROUP}")).unwrap();
    let neighbour = format!(
        "neigh replace {ROUTER} lladdr {} dev {GROUP} nud permanent",
        lab::show_mac(lab.router().mac())
    );
    lab.host().ip(&neighbour).unwrap();
    assert_eq!(loss(&lab), 0.0);
    let since = production.daemon.log().len();
    let between = lab.cable(4);
    between.cut().unwrap();
    production.daemon.wait_line("is split (inet)", since, TIMEOUT).unwrap();
    let lost_with_keep = loss(&lab);
    assert!((0.5..0.85).contains(&lost_with_keep), "two of three members do not reach it: {lost_with_keep}");
    production.daemon.ctl(&format!("set {GROUP} split=prefer-router")).unwrap();
    assert!(wait_until(TIMEOUT, || transmitting(&production) == ["rge0"]), "{}", production.show());
    assert_eq!(loss(&lab), 0.0);
    for (command, text) in [
        (
            "show",
            "state split: 1 of 3 members transmits; e1000g0: the default router is not reached; e1000g1: the"
                .to_owned(),
        ),
        ("show e1000g0", format!("the default router {ROUTER} is not reached; it is on another member")),
        (
            "explain e1000g0",
            format!(
                "e1000g0 works and does not reach the default router {ROUTER}, which other members reach"
            ),
        ),
    ] {
        let shown = production.daemon.ctl(command).unwrap();
        assert!(shown.contains(&text), "{shown}");
    }
    // The only member that reaches the router fails, and is repaired.
    let rge0 = lab.member("rge0");
    rge0.cable().pull().unwrap();
    assert!(
        wait_until(TIMEOUT, || transmitting(&production) == ["e1000g0", "e1000g1"]),
        "{}",
        production.show()
    );
    rge0.cable().replug().unwrap();
    assert!(wait_until(TIMEOUT, || transmitting(&production) == ["rge0"]), "{}", production.show());
    between.restore().unwrap();
    assert!(wait_until(TIMEOUT, || transmitting(&production).len() == 3), "{}", production.show());
    assert_eq!(loss(&lab), 0.0);
    for name in ["e1000g0", "e1000g1"] {
        let text = format!("{name} of group {GROUP} does not reach the default router {ROUTER}");
        let found = production.daemon.log_matches(&text, since);
        assert!((1..=2).contains(&found.len()), "{found:?}");
    }
    lab.host().ip(&format!("neigh del {ROUTER} dev {GROUP}")).unwrap();
    production.assert_clean();
}
