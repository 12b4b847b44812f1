//! `updelay`: how long a link must be up before its member is used.

lab::lane!(side_by_side, seconds = 25);

use std::time::{Duration, Instant};

use lab::production::GROUP;
use lab::{Lab, Production, TIMEOUT, wait_until};

/// The check in the report about members that nothing protects after a link-up.
fn unprotected(production: &Production<'_>) -> Option<String> {
    production.report().unwrap().checks.into_iter().find(|check| check.contains(": not probed, and used "))
}

fn live_members(production: &Production<'_>) -> Vec<String> {
    let members = production.report().unwrap().members.into_iter();
    members.filter(|member| member.live).map(|member| member.name).collect()
}

#[test]
fn member_is_used_after_its_own_updelay_or_that_of_its_group() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let mut production = Production::create(&lab).unwrap();
    let set = |production: &Production<'_>, name: &str, value: &str| {
        production.daemon.ctl(&format!("set {name} updelay={value}")).unwrap();
    };
    let check = unprotected(&production).unwrap();
    println!("{check}");
    assert!(
        check.starts_with("e1000g0 e1000g1 rge0: not probed, and used 200 ms after a link-up"),
        "{check}"
    );
    set(&production, GROUP, "600s");
    assert_eq!(unprotected(&production), None);
    set(&production, "rge0", "3s");
    let check = unprotected(&production).unwrap();
    assert!(check.starts_with("rge0: not probed, and used 3 s after a link-up"), "{check}");

    for name in ["e1000g0", "rge0"] {
        lab.member(name).cable().pull().unwrap();
        production.wait_live(name, false).unwrap();
    }
    let before = Instant::now();
    for name in ["e1000g0", "rge0"] {
        lab.member(name).cable().replug().unwrap();
    }
    production.wait_live("rge0", true).unwrap();
    println!("rge0 live after {:?}", before.elapsed());
    assert!(before.elapsed() >= Duration::from_secs(3), "rge0 was used after {:?}", before.elapsed());
    assert_eq!(live_members(&production), ["e1000g1", "rge0"]);
    let explained = production.daemon.ctl("explain e1000g0").unwrap();
    println!("{explained}");
    assert!(explained.contains("used in 59") && explained.contains(" (updelay 600 s)"), "{explained}");

    // A change counts at once, also for a member that waits.
    set(&production, "e1000g0", "0ms");
    production.wait_live("e1000g0", true).unwrap();

    // Settings stay, and while no member is live, waiting would only prolong the outage.
    for name in ["e1000g0", "rge0"] {
        set(&production, name, "600s");
    }
    production.daemon.kill().unwrap();
    production.daemon.start().unwrap();
    for member in production.report().unwrap().members {
        assert_eq!(member.updelay_ms, 600_000, "{member:?}");
    }
    for member in lab.members() {
        member.cable().pull().unwrap();
    }
    assert!(wait_until(TIMEOUT, || live_members(&production).is_empty()), "{:?}", live_members(&production));
    for member in lab.members() {
        member.cable().replug().unwrap();
    }
    production.wait_usable(1).unwrap();
    assert_eq!(live_members(&production).len(), 1);
    production.assert_clean();
}
