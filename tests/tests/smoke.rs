//! The minimum that must work on every kernel: create a group, pull cables with traffic, lose no packet, destroy it.

lab::lane!(alone, clsact = "always");

use std::time::Duration;

use lab::network::DATA;
use lab::{Daemon, Lab, Mac, MeasurementLock, MemberKind, Oracle, SECOND, Stream, TIMEOUT, wait_until};

/// Packets per second; `IPMP_LAB_RATE` sets a lower rate for emulated machines.
fn rate() -> u64 {
    std::env::var("IPMP_LAB_RATE").map_or(20_000, |rate| rate.parse().expect("IPMP_LAB_RATE is a number"))
}

#[test]
fn group_loses_nothing_when_cables_are_pulled() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let daemon = Daemon::start_in(&lab).unwrap();
    daemon.ctl(&format!("create production0 --address {DATA}/24")).unwrap();
    daemon.ctl("attach e1000g0 e1000g1 rge0 --group production0").unwrap();
    let mac: Mac = lab.host().link("production0").unwrap().mac;
    let oracle = Oracle::watch(&lab, mac).unwrap();
    println!("{}", daemon.ctl("show").unwrap());

    let peer = lab.peer(0);
    let ping = peer.ping(DATA.into(), 3, Duration::from_millis(1), 10 * SECOND).unwrap();
    assert_eq!((ping.answered, ping.duplicates), (3, 0));
    let rate = rate();
    let running = Stream::new(lab.host(), peer.namespace(), peer.v4())
        .source(DATA)
        .flows(8)
        .rate(rate)
        .start()
        .unwrap();
    running.wait_received(rate / 10, 20 * SECOND).unwrap();
    for number in 1..=3 {
        lab.cable(number).pull().unwrap();
        running.wait_received(rate / 5, 20 * SECOND).unwrap();
        lab.cable(number).replug().unwrap();
        std::thread::sleep(SECOND);
    }
    let report = running.stop().unwrap();
    println!("{report}");
    report.ensure_valid().unwrap();
    // The wires of TAP members may reorder packets.
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");

    for member in ["e1000g0", "e1000g1"] {
        daemon.ctl(&format!("detach {member}")).unwrap();
    }
    daemon.ctl("detach rge0 --keep-group").unwrap();
    daemon.ctl("destroy production0").unwrap();
    assert!(lab.host().link("production0").is_err());
    oracle.assert_clean();
}

/// Programs may not read kernel memory: failover waits for netlink.
#[test]
#[ignore = "needs a kernel with lockdown=confidentiality: `cargo xtask test` boots one"]
fn group_with_lockdown_confidentiality_fails_over_by_netlink() {
    lab::needs_root!();
    let mode = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap();
    assert!(mode.contains("[confidentiality]"), "not booted with lockdown=confidentiality: {mode}");
    let lab = Lab::builder().kind(MemberKind::Tap).members(2).build().unwrap();
    let daemon = Daemon::start_in(&lab).unwrap();
    daemon.ctl(&format!("create production0 --address {DATA}/24")).unwrap();
    daemon.ctl("attach e1000g0 rge0 --group production0").unwrap();
    let shown = daemon.ctl("show").unwrap();
    println!("{shown}");
    for check in ["failover waits for netlink", "the daemon monitors links by netlink"] {
        assert!(shown.contains(check), "{check}");
    }
    let ping = || lab.peer(0).ping(DATA.into(), 1, SECOND, SECOND).unwrap().answered == 1;
    assert!(wait_until(TIMEOUT, ping));
    let refused = daemon.ctl_error("set rge0 xdp=driver").unwrap();
    assert!(refused.contains("kernel lockdown forbids programs to read whether"), "{refused}");
    // The inbound member.
    lab.member("e1000g0").cable().pull().unwrap();
    println!("{}", daemon.wait_line("IP interface failure detected on e1000g0", 0, TIMEOUT).unwrap());
    assert!(wait_until(TIMEOUT, ping), "the group does not answer through rge0");
}
