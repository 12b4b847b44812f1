//! Cables pulled and replugged in turn while the host sends: nothing is lost but what died in the pulled ports.

use std::time::{Duration, Instant};

use lab::network::DATA;
use lab::{Alone, Bulk, Daemon, Lab, MemberKind, Oracle, Stream};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// The group of the tutorial, with all members trusted.
fn production<'lab>(lab: &'lab Lab) -> (Daemon<'lab>, Oracle) {
    let daemon = Daemon::start_in(lab).unwrap();
    daemon.ctl(&format!("create production0 --address {DATA}/24")).unwrap();
    daemon.ctl("attach e1000g0 e1000g1 rge0 --group production0").unwrap();
    let oracle = Oracle::watch(lab, lab.host().link("production0").unwrap().mac).unwrap();
    all_carry(&daemon);
    (daemon, oracle)
}

fn all_carry(daemon: &Daemon) {
    let carry = || daemon.ctl("show production0").is_ok_and(|text| !text.contains("carries nothing"));
    assert!(lab::clock::wait_until(10 * SECOND, carry), "{}", daemon.ctl("show").unwrap());
}

/// Frames that died in the switch ports of the members.
fn died_in_ports(lab: &Lab) -> u64 {
    lab.members().iter().map(|member| member.cable().port().unwrap().rx_dropped).sum()
}

/// Pulls and replugs the members' cables in turn, 20 times, under 50,000 packets/s of 8 sockets.
fn twenty_pulls(lab: &Lab, restored: impl Fn()) -> (lab::stream::Report, u64) {
    let peer = lab.peer(0);
    let stream = Stream::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).flows(8).rate(50_000);
    let before = died_in_ports(lab);
    let running = stream.start().unwrap();
    running.wait_received(10_000, 5 * SECOND).unwrap();
    for turn in 0..20 {
        let cable = lab.cable(turn % 3 + 1);
        cable.pull().unwrap();
        std::thread::sleep(100 * MS);
        cable.replug().unwrap();
        restored();
    }
    let report = running.stop().unwrap();
    (report, died_in_ports(lab) - before)
}

fn judge(what: &str, report: &lab::stream::Report, died: u64) {
    println!("{what}: {report}; died in the pulled ports: {died}");
    report.ensure_valid().unwrap();
    assert_eq!((report.reordered(), report.duplicated()), (0, 0), "{what}: {report}");
    assert!(report.lost() <= died, "{what}: {} lost, {died} died in the ports: {report}", report.lost());
}

/// Longer than `updelay`, and the linkwatch's second.
fn settle() {
    std::thread::sleep(1_300 * MS);
}

#[test]
fn twenty_pulls_lose_nothing() {
    let _alone = Alone::wait().unwrap();
    for kind in [MemberKind::Veth, MemberKind::Tap] {
        let lab = Lab::builder().kind(kind).build().unwrap();
        let (_daemon, oracle) = production(&lab);
        let (report, died) = twenty_pulls(&lab, settle);
        judge(&format!("{kind:?}"), &report, died);
        if kind == MemberKind::Tap {
            assert_eq!(report.lost(), 0, "{report}");
        }
        oracle.assert_clean();
    }
}

#[test]
fn twenty_pulls_lose_nothing_with_the_daemon_stopped() {
    let _alone = Alone::wait().unwrap();
    let lab = Lab::tutorial().unwrap();
    let (daemon, oracle) = production(&lab);
    daemon.stop().unwrap();
    let (report, died) = twenty_pulls(&lab, settle);
    daemon.resume().unwrap();
    judge("daemon stopped", &report, died);
    oracle.assert_clean();
}

#[test]
fn two_of_three_within_a_hundred_milliseconds() {
    let _alone = Alone::wait().unwrap();
    for kind in [MemberKind::Veth, MemberKind::Tap] {
        let lab = Lab::builder().kind(kind).build().unwrap();
        let (_daemon, oracle) = production(&lab);
        let peer = lab.peer(0);
        let stream = Stream::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).flows(8).rate(50_000);
        let before = died_in_ports(&lab);
        let running = stream.start().unwrap();
        running.wait_received(10_000, 5 * SECOND).unwrap();
        for (first, second) in [(1, 2), (2, 3), (3, 1)] {
            let start = Instant::now();
            lab.cable(first).pull().unwrap();
            std::thread::sleep(50 * MS);
            let pulled = lab.cable(second).pull().unwrap();
            assert!(pulled.after - start < 100 * MS, "this machine is too busy");
            std::thread::sleep(200 * MS);
            lab.cable(first).replug().unwrap();
            lab.cable(second).replug().unwrap();
            settle();
        }
        let report = running.stop().unwrap();
        let died = died_in_ports(&lab) - before;
        judge(&format!("two of three, {kind:?}"), &report, died);
        if kind == MemberKind::Tap {
            assert_eq!(report.lost(), 0, "{report}");
        }
        oracle.assert_clean();
    }
}

#[test]
fn a_bulk_transfer_survives_twenty_pulls() {
    let _alone = Alone::wait().unwrap();
    let lab = Lab::tutorial().unwrap();
    let (_daemon, oracle) = production(&lab);
    let peer = lab.peer(0);
    let running = Bulk::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).start().unwrap();
    running.wait_received(1 << 20, 5 * SECOND).unwrap();
    for turn in 0..20 {
        let cable = lab.cable(turn % 3 + 1);
        cable.pull().unwrap();
        std::thread::sleep(100 * MS);
        cable.replug().unwrap();
        settle();
    }
    let report = running.stop().unwrap();
    println!("bulk, 20 pulls: {report}");
    assert!(report.error.is_none() && report.intact, "{report}");
    // One retransmission timeout is 200 ms at least; a second one would double it.
    assert!(report.longest_stall < 500 * MS, "{report}");
    oracle.assert_clean();
}
