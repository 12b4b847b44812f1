//! An `ipmpd` whose maps have another layout continues with the groups of the one before: nothing is lost, and nothing is left.
//!
//! It is built by `cargo xtask test --soak`, with the feature `next-layout`.

lab::lane!(alone);

use std::path::PathBuf;
use std::process::Command;

use aya::maps::{MapInfo, loaded_maps};
use ipmp::{
    control::report::GroupReport,
    types::{Family, MemberState, OfflineCause},
};
use ipmp_common::LAYOUT;
use lab::daemon::binary;
use lab::network::{DATA, DATA6};
use lab::production::GROUP;
use lab::stream::Running;
use lab::{Lab, MeasurementLock, MemberKind, Production, SECOND, Stream, command, wait_until};

const NEXT: &str = "ipmpd-next-layout";

/// The pins of the lab's host in a layout.
fn pins(lab: &Lab, layout: u32) -> PathBuf {
    format!("/sys/fs/bpf/ipmp/v{layout}/{}", lab.host().cookie().unwrap()).into()
}

/// Streams in both directions, which flow.
fn traffic(lab: &Lab) -> Vec<(&'static str, Running)> {
    let (host, peer) = (lab.host(), lab.peer(0));
    let streams = [
        ("out", Stream::new(host, peer.namespace(), peer.v4()).source(DATA).flows(32).rate(20_000)),
        ("in", Stream::new(peer.namespace(), host, DATA).flows(4).rate(2_000)),
        ("in by IPv6", Stream::new(peer.namespace(), host, DATA6).flows(4).rate(2_000)),
    ];
    let running: Vec<_> = streams.map(|(way, stream)| (way, stream.start().unwrap())).into();
    flows_on(&running);
    running
}

fn flows_on(running: &[(&str, Running)]) {
    for (_, stream) in running {
        stream.wait_received(1_000, 5 * SECOND).unwrap();
    }
}

fn assert_nothing_lost(running: Vec<(&str, Running)>, what: &str) {
    for (way, stream) in running {
        let report = stream.stop().unwrap();
        println!("{what}, {way}: {report}");
        report.ensure_valid().unwrap();
        assert_eq!((report.lost(), report.duplicated()), (0, 0), "{what}, {way}: {report}");
    }
}

/// The part of a report that an upgrade keeps.
#[derive(Debug, PartialEq)]
struct Kept {
    /// Whether each is live, too.
    members: Vec<(String, MemberState, bool)>,
    inbound: Vec<Option<String>>,
}

/// That part, and how many packets were sent.
fn kept(report: &GroupReport) -> (Kept, u64) {
    let members = report.members.iter().map(|member| (member.name.clone(), member.state, member.live));
    let inbound = report.addresses.iter().map(|address| address.inbound.clone());
    let sent = report.members.iter().map(|member| member.traffic.out_packets).sum();
    (Kept { members: members.collect(), inbound: inbound.collect() }, sent)
}

/// Also back: the older daemon is refused.
#[test]
#[ignore = "needs a second ipmpd"]
fn soak_upgrade_to_another_layout_loses_no_packet() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let mut production = Production::create(&lab).unwrap();
    let old = pins(&lab, LAYOUT);
    let maps: Vec<u32> = ["sentinel-of-all-groups/clock", "production0/maps/steering"]
        .map(|map| MapInfo::from_pin(old.join(map)).unwrap().id())
        .into();
    let running = traffic(&lab);
    let (before, sent_before) = kept(&production.report().unwrap());
    production.daemon.kill().unwrap();
    production.daemon.set_program(NEXT);
    let since = production.daemon.log().len();
    production.daemon.start().unwrap();
    let line =
        format!("The maps of group {GROUP} have been converted from layout {LAYOUT} to {}", LAYOUT + 1);
    println!("{}", production.daemon.wait_line(&line, since, SECOND).unwrap());
    let (after, sent) = kept(&production.report().unwrap());
    assert_eq!(after, before);
    assert!(sent >= sent_before, "{sent_before} packets sent, then {sent}");
    flows_on(&running);
    assert!(pins(&lab, LAYOUT + 1).join(GROUP).exists() && !old.exists());
    let freed = || !loaded_maps().any(|info| info.is_ok_and(|info| maps.contains(&info.id())));
    assert!(wait_until(5 * SECOND, freed), "the old maps, and the timer in one of them, stay");
    let problems = production.daemon.problems(since);
    assert!(problems.is_empty(), "{problems:?}");

    production.daemon.terminate().unwrap();
    let older = ["--netns", lab.host().name(), "--socket"];
    let mut older_daemon = Command::new(binary("ipmpd").unwrap());
    older_daemon.args(older).arg(lab.directory().join("older.sock"));
    let refused = format!("{:#}", command::run(&mut older_daemon).unwrap_err());
    println!("{refused}");
    let line = format!("has groups of a newer ipmpd (map layout {}; this ipmpd has {LAYOUT})", LAYOUT + 1);
    assert!(refused.contains(&line), "{refused}");
    production.daemon.start().unwrap();
    production.wait_usable(3).unwrap();
    flows_on(&running);
    assert_nothing_lost(running, "another layout");
    // Its sentinel works: members leave and return.
    lab.cable(1).pull().unwrap();
    production.wait_usable(2).unwrap();
    lab.cable(1).replug().unwrap();
    production.wait_usable(3).unwrap();
    production.assert_clean();
}

#[test]
#[ignore = "needs a second ipmpd"]
fn soak_upgrade_to_another_layout_keeps_failed_and_offline_members_out() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let mut production =
        Production::create_probed(&lab, &[Family::V4], "fdt=1s targets=192.168.178.1").unwrap();
    production.wait_answered().unwrap();
    let [failed, offline, _] = ["e1000g0", "e1000g1", "rge0"];
    lab.member(failed).cable().cut().unwrap();
    production.wait_state(failed, MemberState::Failed, 10 * SECOND).unwrap();
    production.daemon.ctl(&format!("offline {offline}")).unwrap();
    let running = traffic(&lab);
    let (before, _) = kept(&production.report().unwrap());
    production.daemon.terminate().unwrap();
    production.daemon.set_program(NEXT);
    production.daemon.start().unwrap();
    let (after, _) = kept(&production.report().unwrap());
    assert_eq!(after, before);
    assert_eq!(production.member(offline).unwrap().offline, Some(OfflineCause::Operator));
    flows_on(&running);
    lab.member(failed).cable().restore().unwrap();
    production.wait_state(failed, MemberState::Ok, 10 * SECOND).unwrap();
    production.daemon.ctl(&format!("online {offline}")).unwrap();
    production.wait_usable(3).unwrap();
    flows_on(&running);
    assert_nothing_lost(running, "another layout, with a failed and an offline member");
    production.assert_clean();
}
