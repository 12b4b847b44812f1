//! The router changes its MAC, as when another one takes its address without a virtual MAC.

use lab::{TIMEOUT, wait_until};

use super::*;

/// Replies of each member's probes so far.
fn answered(production: &Production<'_>) -> Vec<u64> {
    let group = production.report_json().unwrap();
    let of = |member: &Value| member["probing"][0]["counters"]["answered"].as_u64().unwrap();
    group["members"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn new_mac_of_router_in_one_neighbour_entry_counts_for_all_members() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = with_test_addresses(&lab, &format!("fdt=1s targets={ROUTER}"));
    let since = production.daemon.log().len();
    for (interface, mac) in [("e1000g0", "02:00:00:00:fe:01"), (GROUP, "02:00:00:00:fe:02")] {
        let router = lab.router().namespace();
        router.ip(&format!("link set {} address {mac}", lab::host::INTERFACE)).unwrap();
        let before = answered(&production);
        lab.host().ip(&format!("neigh replace {ROUTER} lladdr {mac} dev {interface} nud reachable")).unwrap();
        // For twice the failure detection time.
        let all = wait_until(TIMEOUT, || {
            answered(&production).iter().zip(&before).all(|(now, then)| *now >= then + 10)
        });
        assert!(all, "not all members receive replies: {before:?}, {:?}", answered(&production));
        let failures = production.daemon.log_matches("failure detected", since);
        assert_eq!(failures, [""; 0], "new MAC in the entry of {interface}");
    }
    production.assert_clean();
}
