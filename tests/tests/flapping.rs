//! A link that flaps: its member is used again exactly when `ipmpctl explain` says.

lab::lane!(side_by_side, seconds = 100);

use std::time::{Duration, Instant};

use ipmp::types::MemberState;
use lab::network::DATA;
use lab::{Lab, MS, MemberKind, Production, SECOND, wait_until};
use serde_json::Value;

/// Tolerance of the time on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// The end of the hold-down of a member, by `explain`.
fn hold_down_ends(production: &Production<'_>, member: &str) -> Option<Instant> {
    let text = production.daemon.ctl(&format!("explain {member} --json")).unwrap();
    let now = Instant::now();
    let shown: Value = serde_json::from_str(&text).unwrap();
    let timers = shown["explanation"]["timers"].as_array().unwrap();
    let timer = timers.iter().find(|timer| timer["what"] == "hold-down-over")?;
    Some(now + Duration::from_millis(timer["in_ms"].as_u64().unwrap()))
}

#[test]
#[ignore = "waits for the end of a hold-down, a minute"]
fn soak_member_whose_link_toggles_30_times_is_used_when_explain_says() {
    lab::needs_root!();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let flapping = lab.member("e1000g0");
    let cable = flapping.cable();
    // Shorter than `updelay`: one outage, which ends `updelay` after the last.
    for _ in 0..30 {
        cable.pull().unwrap();
        std::thread::sleep(20 * MS);
        cable.replug().unwrap();
        std::thread::sleep(20 * MS);
    }
    production.wait_usable(3).unwrap();
    assert!(hold_down_ends(&production, flapping.name()).is_none(), "{}", production.show());
    for _ in 0..30 {
        cable.pull().unwrap();
        production.wait_live(flapping.name(), false).unwrap();
        cable.replug().unwrap();
        production.wait_live(flapping.name(), true).unwrap();
    }
    let is_held = || hold_down_ends(&production, flapping.name()).is_some();
    assert!(wait_until(5 * SECOND, is_held), "{}", production.show());
    let ends = hold_down_ends(&production, flapping.name()).unwrap();
    println!("{}", production.daemon.ctl("explain e1000g0").unwrap().lines().next().unwrap());
    let remaining = ends - Instant::now();
    assert!(remaining > 40 * SECOND && remaining < 70 * SECOND, "{remaining:?}");
    // It stays out until then, and the others transmit.
    while Instant::now() + SLACK < ends {
        let member = production.member(flapping.name()).unwrap();
        assert_eq!((member.state, member.active), (MemberState::Failed, false), "{}", production.show());
        assert_ne!(production.inbound(DATA).unwrap(), flapping.name());
        assert_eq!(lab.peer(0).ping(DATA.into(), 1, MS, SECOND).unwrap().answered, 1);
        std::thread::sleep(SECOND);
    }
    production.wait_usable(3).unwrap();
    let now = Instant::now();
    println!(
        "used {:?} before, {:?} after that time",
        ends.saturating_duration_since(now),
        now.saturating_duration_since(ends)
    );
    assert!(now + SLACK > ends && now < ends + SLACK);
    production.assert_clean();
}
