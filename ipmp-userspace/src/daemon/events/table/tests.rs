use std::time::Duration;

use super::*;
use crate::{
    core::{flap, probe::split::SplitTarget},
    types::{FailedDirection, Family, LossEvidence, Percent},
};

const LOG: &str = include_str!("../../../../../docs/log.md");

/// One of each, with the placeholders of the documentation.
fn events() -> Vec<Event> {
    let (member, group) = (|| "MEMBER".to_owned(), || "GROUP".to_owned());
    let (from, to) = (Some("OLD".to_owned()), Some("NEW".to_owned()));
    let address = IpAddr::from([192, 0, 2, 1]);
    let (family, ms) = (Family::V4, Duration::from_millis);
    vec![
        Event::LinkDown { member: member() },
        Event::LinkUp { member: member() },
        Event::MemberFailed { member: member(), group: group() },
        Event::MemberRepaired { member: member(), group: group() },
        Event::GroupUnusable { group: group() },
        Event::GroupUsable { member: member(), group: group() },
        Event::Flapping { member: member(), ups: flap::UPS },
        Event::DuplicateMac { member: member(), group: group() },
        Event::UniqueMac { member: member(), group: group() },
        Event::NoTestAddress { member: member() },
        Event::RemovedFromKernel { family: "inet", member: member() },
        Event::MemberAbsent { member: member(), group: group() },
        Event::MemberExpected { member: member(), group: group() },
        Event::MemberReturned { member: member(), group: group() },
        Event::Joined { member: member(), group: group() },
        Event::Left { member: member(), group: group() },
        Event::Offline { member: member(), group: group() },
        Event::Online { member: member(), group: group() },
        Event::Draining { member: member(), group: group(), limit: ms(22_000) },
        Event::Returning { member: member(), group: group(), limit: ms(22_000) },
        Event::Returned { member: member(), group: group(), is_idle: true },
        Event::Returned { member: member(), group: group(), is_idle: false },
        Event::FdtRaised { member: member(), family, group: group(), configured: ms(11), fdt: ms(22) },
        Event::FdtLowered { member: member(), family, group: group(), fdt: ms(22) },
        Event::TestAddressConfigured { member: member() },
        Event::TestAddressNotUnique { member: member(), address },
        Event::TestAddressReady { member: member(), address },
        Event::TestAddressRemoved { member: member(), address },
        Event::TestAddressRestored { member: member(), address },
        Event::TestAddressConflict { member: member(), address, why: "REASON".into() },
        Event::TestAddressReserved { member: member(), address },
        Event::AddressNotDeclared { member: member(), group: group(), address, prefix: 24, is_data: false },
        Event::AddressNotDeclared { member: member(), group: group(), address, prefix: 24, is_data: true },
        Event::TestAddressDuplicate { member: member(), address },
        Event::RouteRemoved { member: member(), group: group(), route: "ROUTE".into() },
        Event::ProbesMissed { member: member(), family, missed: 33 },
        Event::HighProbeRate { group: group(), fdt: ms(22), per_second: 33 },
        Event::NoTargetReplies { group: group(), family },
        Event::TargetsReply { group: group(), family },
        Event::Split {
            group: group(),
            family,
            targets: vec![SplitTarget {
                target: address,
                reached_by: vec![member()],
                not_reached_by: vec!["OTHER".into()],
            }],
        },
        Event::SplitEnded { group: group(), family },
        Event::TargetUnreliable { member: member(), target: address },
        Event::TargetExcluded { member: member(), target: address, slow: false },
        Event::TargetExcluded { member: member(), target: address, slow: true },
        Event::MtuHole {
            member: member(),
            group: group(),
            target: address,
            passes: 1400,
            elsewhere: 1500,
            mtu: 1500,
        },
        Event::MtuHoleEnded { member: member(), group: group(), target: address, mtu: 1500 },
        Event::RouterUnreached { member: member(), group: group(), router: address },
        Event::RouterUnreachedEnded { member: member(), group: group(), router: address },
        Event::Degraded {
            member: member(),
            group: group(),
            of: LossEvidence::Probes,
            window: Duration::from_secs(600),
            lost: Percent::of(0.302),
            others: Percent::default(),
            is_avoided: true,
        },
        Event::DegradedEnded { member: member(), group: group() },
        Event::DirectionFailed {
            member: member(),
            group: group(),
            direction: FailedDirection::Receive,
            peer: "OTHER".to_owned(),
        },
        Event::DirectionFailed {
            member: member(),
            group: group(),
            direction: FailedDirection::Transmit,
            peer: "OTHER".to_owned(),
        },
        Event::DirectionFailed {
            member: member(),
            group: group(),
            direction: FailedDirection::Both,
            peer: "OTHER".to_owned(),
        },
        Event::DirectionFailed {
            member: member(),
            group: group(),
            direction: FailedDirection::Beyond,
            peer: "OTHER".to_owned(),
        },
        Event::TargetLimited { group: group(), target: address, passes: 1500, mtu: 9000 },
        Event::Activated { member: member(), group: group() },
        Event::Deactivated { member: member(), group: group() },
        Event::AddressMoved { address, group: group(), from: from.clone(), to: to.clone() },
        Event::CastMoved { group: group(), from, to },
        Event::Live { member: member() },
        Event::NotLive { member: member() },
        Event::MacChanged { member: member(), mac: [2, 0, 0, 0, 0, 0xab] },
        Event::GroupMacChanged { group: group(), mac: [2, 0, 0, 0, 0, 0xab] },
        Event::DeadNamespacesRemoved { count: 55 },
        Event::SentinelRestarted,
        Event::SentinelMissing { why: "REASON".into() },
        Event::SysctlRestored {
            member: Some(member()),
            setting: "net.ipv4.conf.MEMBER.rp_filter".into(),
            value: "1".into(),
            ours: "2".into(),
        },
        Event::SysctlChanged {
            member: Some(member()),
            setting: "net.ipv4.conf.MEMBER.rp_filter".into(),
            value: "1".into(),
            ours: "2".into(),
            why: "REASON".into(),
        },
        Event::TestRuleConflict { member: member(), address, why: "REASON".into() },
        Event::TestRuleRestored { member: member(), address },
        Event::ProgramRestored { program: "ingress", interface: member() },
        Event::ProgramMissing { program: "ingress", interface: member(), why: "REASON".into() },
        Event::ProgramMoved {
            program: "ingress",
            interface: member(),
            place: "first",
            others: ": program with id 78".into(),
        },
        Event::ProgramAhead { program: "egress", interface: group(), other: "program with id 78".into() },
        Event::MtuChanged { group: group(), mtu: 9000 },
        Event::AddressAdded { address, group: group() },
        Event::AddressRemoved { address, group: group() },
        Event::AddressDuplicate { address, group: group() },
        Event::AddressOverLimit { address, group: group(), limit: 4096 },
        Event::AddressClaimed { address, group: group(), mac: [2, 0, 0, 0, 0, 0xab], announced: true },
        Event::AddressClaimed { address, group: group(), mac: [2, 0, 0, 0, 0, 0xab], announced: false },
        Event::NeighbourStatic { mac: [2, 0, 0, 0, 0, 0xab], address, member: member(), group: group() },
        Event::AddressLearned { address, group: group() },
        Event::SettingsChanged { group: group(), member: None, settings: "SETTINGS".into() },
        Event::MemberRenamed { before: "OLD".into(), member: "NEW".into(), group: group() },
        Event::GroupRenamed { before: "OLD".into(), group: "NEW".into() },
        Event::GroupCreated { group: group() },
        Event::GroupDestroyed { group: group() },
        Event::GroupAdopted { group: group(), members: 77 },
        Event::ChangeInterrupted { change: "CHANGE".into(), is_undone: true, why: None },
        Event::ChangeInterrupted { change: "CHANGE".into(), is_undone: false, why: Some("REASON".into()) },
        Event::GroupUpgraded { group: group(), from: 33, to: 66 },
        Event::GroupInterfaceDeleted { group: group() },
        Event::GroupInterfaceReleased { group: group() },
        Event::ConfigFdt { value: "VALUE".into(), default: ms(10_000) },
        Event::ConfigSmallFdt { value: "VALUE".into(), minimum: ms(100) },
        Event::ConfigFailback { value: "VALUE".into() },
        Event::ConfigTrack { value: "VALUE".into() },
        Event::ConfigTrackAll,
        Event::ConfigLine { file: "FILE".into(), line: 44, why: "REASON".into() },
        Event::ConfigFinding { finding: "FINDING".into() },
        Event::ConfigRefused { why: "REASON".into() },
        Event::ConfigApplied { changes: 33 },
        Event::ChangeUndone { why: "CHANGE: REASON".into() },
        Event::ConfigReread,
        Event::Started { socket: "SOCKET".into() },
        Event::Stopped { groups: vec![group()] },
    ]
}

#[test]
fn every_event_is_documented_with_severity_and_kind() {
    let values = [
        ("192.0.2.1", "ADDRESS"),
        ("02:00:00:00:00:ab", "MAC"),
        ("now 9000", "now MTU"),
        ("with 77", "with COUNT"),
        ("11 ms", "REQUESTED ms"),
        ("22 ms", "FDT ms"),
        ("after 22 s", "after LIMIT s"),
        ("33 probes", "COUNT probes"),
        ("line 44", "line COUNT"),
        ("removed: 55", "removed: COUNT"),
        ("changes: 33", "changes: COUNT"),
        ("layout 33 to 66", "layout OLD to NEW"),
    ];
    let events = events();
    for row in events.iter().map(row) {
        let mut text = row.text;
        for (value, placeholder) in values {
            text = text.replace(value, placeholder);
        }
        let severity = match row.severity {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let documented = format!("\n| {severity} | `{text}` | `{}` | ", row.kind);
        assert!(LOG.contains(&documented), "docs/log.md lacks {documented}");
    }
    let is_row = |line: &&str| {
        ["| error |", "| warning |", "| info |", "| debug |"].iter().any(|level| line.starts_with(level))
    };
    assert_eq!(LOG.lines().filter(is_row).count(), events.len());
}

#[test]
fn probe_events_have_target_and_family_fields() {
    let events = events();
    let of = |kind: &str| events.iter().map(row).find(|row| row.kind == kind).expect("an event of this kind");
    for kind in ["fdt-raised", "fdt-lowered", "probes-missed", "no-target-replies", "targets-reply"] {
        let row = of(kind);
        assert_eq!((row.target, row.address, row.family), (None, None, Some(Family::V4)), "{kind}");
    }
    let address = Some(IpAddr::from([192, 0, 2, 1]));
    let excluded = of("target-excluded");
    assert_eq!((excluded.target, excluded.address, excluded.family), (address, None, Some(Family::V4)));
    let not_unique = of("test-address-not-unique");
    assert_eq!((not_unique.target, not_unique.address, not_unique.family), (None, address, Some(Family::V4)));
    assert_eq!(of("link-down").family, None);
}

/// The messages of docs/reference.md 5.3 that links and probes can cause, with other interface names.
#[test]
fn reference_texts_are_quoted_word_for_word() {
    let texts: Vec<String> = events()
        .iter()
        .map(|event| row(event).text.replace("MEMBER", "rge0").replace("GROUP", "production0"))
        .collect();
    for line in [
        "The link has gone down on rge0",
        "The link has come up on rge0",
        "IP interface failure detected on rge0 of group production0",
        "IP interface repair detected on rge0 of group production0",
        "All IP interfaces in group production0 are now unusable",
        "At least 1 IP interface (rge0) in group production0 is now usable",
        "The link has come up on rge0 more than 2 times in the last minute; disabling repair until it stabilizes",
        "IP interface rge0 has a hardware address which is not unique in group production0; offlining",
        "IP interface rge0 now has a unique hardware address in group production0; onlining",
        "No test address configured on interface rge0; disabling probe-based failure detection on it",
        "inet rge0 has been removed from kernel",
        "Test address now configured on interface rge0; enabling probe-based failure detection on it",
        "Test address 192.0.2.1 is not unique in group; disabling probe-based failure detection on rge0",
        "Cannot meet requested failure detection time of 11 ms on (inet rge0) new failure detection time for group \
         \"production0\" is 22 ms",
        "Improved failure detection time 22 ms on (inet rge0) for group \"production0\"",
        // The reference appends clock readings, which no log parser uses.
        "missed sending 33 probes on (inet rge0)",
        "Invalid failure detection time VALUE, assuming default of 10000 ms",
        "Too small failure detection time of VALUE, assuming minimum of 100 ms",
        "Invalid value for FAILBACK VALUE",
        "SIGHUP: restart and reread config file",
    ] {
        assert!(texts.iter().any(|text| text == line), "no event has the text {line:?}");
    }
    let track = Event::ConfigTrack { value: "VALUE".into() };
    assert_eq!(row(&track).text, "Invalid value for TRACK_INTERFACES_ONLY_WITH_GROUPS VALUE");
}
