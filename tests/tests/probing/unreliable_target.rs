//! The only target limits its echo replies, for all members together, as routers do.

use ipmp::types::MemberState;
use lab::{TIMEOUT, wait_until};

use super::*;

/// Probes of each member that were sent so far.
fn sent(production: &Production<'_>) -> Vec<u64> {
    let group = production.report_json().unwrap();
    let of = |member: &Value| member["probing"][0]["counters"]["sent"].as_u64().unwrap();
    group["members"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn rate_limited_target_fails_no_member_and_is_named() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = with_test_addresses(&lab, &format!("fdt=600ms targets={ROUTER}"));
    let since = production.daemon.log().len();
    let router = lab.router().namespace();
    // 20 in a second for 30 requests. Bit 0 of the mask: echo replies.
    for (key, value) in [
        ("icmp_ratelimit", "0"),
        ("icmp_ratemask", "6169"),
        ("icmp_msgs_burst", "2"),
        ("icmp_msgs_per_sec", "20"),
    ] {
        router.sysctl(&format!("net.ipv4.{key}"), value).unwrap();
    }
    let before = sent(&production);
    let probed = || sent(&production).iter().zip(&before).all(|(now, then)| *now >= then + 60);
    assert!(wait_until(TIMEOUT, probed), "{:?}", sent(&production));
    assert_eq!(production.daemon.log_matches("failure detected", since), [""; 0]);
    let unreliable = format!("Target {ROUTER} is unreliable");
    println!("{}", production.daemon.wait_line(&unreliable, since, TIMEOUT).unwrap());
    let explained = production.daemon.ctl("explain e1000g0").unwrap();
    println!("{explained}");
    assert!(explained.contains(&unreliable), "{explained}");

    // A path failure is detected as ever, and repaired.
    let cable = lab.member("rge0").cable();
    cable.cut().unwrap();
    production.wait_state("rge0", MemberState::Failed, TIMEOUT).unwrap();
    cable.restore().unwrap();
    production.wait_state("rge0", MemberState::Ok, TIMEOUT).unwrap();
    let failures = production.daemon.log_matches("failure detected", since);
    assert!(failures.len() == 1 && failures[0].contains("rge0"), "{failures:?}");
    production.assert_clean();
}
