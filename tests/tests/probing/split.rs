//! The cable between the switches is cut, and each switch has a target: every member works, and reaches its own side only.

use ipmp::types::MemberState;
use lab::network::Switch;
use lab::{TIMEOUT, wait_until};

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
    let production = with_test_addresses(&lab, &format!("fdt=500ms targets={ROUTER},{NEAR}"));
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
    between.restore().unwrap();
    println!("{}", production.daemon.wait_line("is no longer split (inet)", since, TIMEOUT).unwrap());
    assert_eq!(split(&production), serde_json::json!([]));
    assert_eq!(production.daemon.log_matches("is split (inet)", since).len(), 1);
    assert_eq!(production.daemon.log_matches("failure detected", since), [""; 0]);
    production.assert_clean();
}
