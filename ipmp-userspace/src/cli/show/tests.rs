//! Reports and the expected text.

use super::*;
use crate::{
    control::{
        explanation,
        report::{probing::Raised, sample},
        wire,
    },
    types::{
        Family, GroupState, LinkState, MemberState, ProbeMethod, ProbeObstacle, ProbePolicy, TargetMode,
    },
};

#[test]
fn degraded_group_shows_reason_of_every_idle_member() {
    assert_eq!(
        text(&[sample()]),
        "\
production0: flags=<UP,BROADCAST,RUNNING,MULTICAST,IPMP> mtu 1500 index 2
        inet 192.168.178.200 netmask ffffff00 broadcast 192.168.178.255 inbound e1000g0
        inet6 2001:db8::200/64 inbound none, duplicate: another host has it
        groupname Production
        state degraded: 1 of 3 members transmits; e1000g1: failed, link down; rge0: offline
        failure detection by link state; failback=yes fail-open=yes confirm=fast evidence=on probe=off split=prefer-router loss-warn=1% loss-fail=off
        hash connection, multicast and broadcast on e1000g0
        dropped: no usable member 1, foreign source MAC 2, truncated 3; suppressed: reflected 4, duplicate 5
        capture auto (active), 6 outbound packets copied
e1000g0: flags=<UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER> mtu 1500 index 3
        inet 192.168.178.201 netmask ffffff00 broadcast 192.168.178.255
        ether 02:00:00:00:00:00
        groupname Production
        state ok, link up, transmits, multicast and broadcast, inbound 192.168.178.200
        member 0, attached by tcx, updelay 200 ms, weight 1000, preferred in 1366 of 4096 slots (33.3%)
        out 120345 packets 98234123 bytes, in 1 packets 60 bytes, failed over 17 packets
        xdp driver (attached), dropped: reflected 7, duplicate 8, flooded 9; not dropped while captured, promiscuous or used by other devices 10
e1000g1: flags=<UP,BROADCAST,MULTICAST,DEPRECATED,NOFAILOVER,FAILED> mtu 1500 index 4
        ether 02:00:00:00:00:01
        groupname Production
        state failed, link down, does not transmit
        member 1, attached by tcx, updelay 200 ms, weight 1000, preferred in 1365 of 4096 slots (33.3%)
        out 0 packets 0 bytes, in 0 packets 0 bytes, failed over 0 packets
rge0: flags=<UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,OFFLINE> mtu 1500 index 5
        ether 02:00:00:00:00:02
        groupname Production
        state offline, link up, does not transmit
        member 2, attached by tcx, updelay 200 ms, weight 1000, preferred in 1365 of 4096 slots (33.3%)
        out 0 packets 0 bytes, in 0 packets 0 bytes, failed over 0 packets
production0: checks
        the carrier of every member is read before each packet
"
    );
}

#[test]
fn reply_is_what_is_printed_as_json() {
    let groups = vec![sample(), sample()];
    let printed = Content::Groups { groups: &groups }.print(Format::Json, || unreachable!());
    let reply = wire::reply(Ok(Response::Show(groups).into()));
    assert_eq!(String::from_utf8(reply).unwrap(), format!("{{\"parameters\":{}}}\0", printed.trim_end()));
}

#[test]
fn empty_group_shows_none_and_no_group_is_one_line() {
    let empty = GroupReport {
        state: GroupState::Failed,
        flags: ["UP", "BROADCAST", "MULTICAST", "FAILED", "IPMP"].map(str::to_owned).into(),
        addresses: vec![],
        members: vec![],
        checks: vec![],
        drops: Drops::default(),
        capture: Capture { mode: crate::types::CaptureMode::Off, active: false, copies: 0 },
        ..sample()
    };
    assert_eq!(
        text(&[empty.clone(), empty]),
        "\
production0: flags=<UP,BROADCAST,MULTICAST,FAILED,IPMP> mtu 1500 index 2
        groupname Production
        state failed: no members
        failure detection by link state; failback=yes fail-open=yes confirm=fast evidence=on probe=off split=prefer-router loss-warn=1% loss-fail=off
        hash connection, multicast and broadcast on none
        dropped: no usable member 0, foreign source MAC 0, truncated 0; suppressed: reflected 0, duplicate 0
        capture off (inactive), 0 outbound packets copied

production0: flags=<UP,BROADCAST,MULTICAST,FAILED,IPMP> mtu 1500 index 2
        groupname Production
        state failed: no members
        failure detection by link state; failback=yes fail-open=yes confirm=fast evidence=on probe=off split=prefer-router loss-warn=1% loss-fail=off
        hash connection, multicast and broadcast on none
        dropped: no usable member 0, foreign source MAC 0, truncated 0; suppressed: reflected 0, duplicate 0
        capture off (inactive), 0 outbound packets copied
"
    );
    assert_eq!(text(&[]), "no IPMP groups\n");
}

#[test]
fn ipv4_address_has_netmask_and_broadcast() {
    let line = |text: &str, prefix| address(&AddressReport::new(text.parse().unwrap(), prefix));
    assert_eq!(line("10.1.2.3", 8), "inet 10.1.2.3 netmask ff000000 broadcast 10.255.255.255");
    assert_eq!(
        line("192.168.178.200", 28),
        "inet 192.168.178.200 netmask fffffff0 broadcast 192.168.178.207"
    );
    assert_eq!(line("10.1.2.3", 31), "inet 10.1.2.3 netmask fffffffe");
    assert_eq!(line("10.1.2.3", 32), "inet 10.1.2.3 netmask ffffffff");
    assert_eq!(line("fe80::1", 64), "inet6 fe80::1/64");
}

#[test]
fn idle_member_has_a_reason_in_every_state() {
    let line = |change: fn(&mut MemberReport)| {
        let mut group = sample();
        group.members.truncate(1);
        change(&mut group.members[0]);
        group_state(&group)
    };
    assert_eq!(line(|_| ()), "state degraded: 1 of 1 members transmits");
    assert_eq!(
        line(|m| m.live = false),
        "state degraded: 0 of 1 members transmit; e1000g0: link not trusted yet"
    );
    assert_eq!(
        line(|m| (m.live, m.link) = (false, LinkState::Down)),
        "state degraded: 0 of 1 members transmit; e1000g0: link down"
    );
    assert_eq!(
        line(|m| (m.usable, m.live, m.state) = (false, false, MemberState::Absent)),
        "state degraded: 0 of 1 members transmit; e1000g0: absent"
    );
    assert_eq!(
        line(|m| (m.usable, m.state) = (false, MemberState::Failed)),
        "state degraded: 0 of 1 members transmit; e1000g0: failed"
    );
    assert_eq!(
        line(|m| (m.usable, m.inactive) = (false, true)),
        "state degraded: 0 of 1 members transmit; e1000g0: inactive"
    );
    assert_eq!(
        line(|m| (m.usable, m.inactive, m.standby) = (false, true, true)),
        "state degraded: 0 of 1 members transmit; e1000g0: inactive (standby)"
    );
    assert_eq!(
        line(|m| {
            (m.usable, m.state) = (false, MemberState::Failed);
            m.probing = explanation::sample().member.probing;
        }),
        "state degraded: 0 of 1 members transmit; e1000g0: failed, no replies to probes"
    );
    assert_eq!(
        line(|m| (m.usable, m.mtu_hole) = (false, explanation::sample().member.mtu_hole)),
        "state degraded: 0 of 1 members transmit; e1000g0: large packets are lost"
    );
    assert_eq!(
        line(|m| m.usable = false),
        "state degraded: 0 of 1 members transmit; e1000g0: not in use yet"
    );
}

#[test]
fn probed_group_shows_detection_time_and_settings() {
    let mut group = sample();
    group.fdt_ms = Some(24_000);
    group.detection = Detection {
        configured_ms: 10_000,
        interval_us: 4_800_000,
        raised: Some(Raised {
            member: "rge0".into(),
            target: [192, 168, 178, 1].into(),
            took_us: 2_400_000,
            ago_ms: 5000,
        }),
        failback: false,
        failback_policy: crate::types::Failback::No,
        failback_limit_ms: 300_000,
        fail_open: false,
        confirm: crate::types::Confirm::Fast,
        evidence: false,
        probe: ProbePolicy::Arp,
        split_policy: crate::types::SplitPolicy::Keep,
        loss_warn_percent: None,
        loss_fail_percent: Some(2.5),
        targets: vec![[192, 168, 178, 1].into(), [192, 168, 178, 2].into()],
        unreachable_families: vec![Family::V4, Family::V6],
        split: vec![SplitTarget {
            target: [192, 168, 178, 2].into(),
            reached_by: vec!["e1000g0".into(), "e1000g1".into()],
            not_reached_by: vec!["rge0".into()],
        }],
    };
    assert_eq!(
        detection(&group),
        "failure detection by link state and probes, 24 s, a probe every 4.8 s, raised from 10 s by 192.168.178.1: up to \
         2.4 s on rge0; failback=no fail-open=no confirm=fast evidence=off probe=arp split=keep \
         loss-warn=off loss-fail=2.5% \
         targets=192.168.178.1,192.168.178.2"
    );
    let shown = text(&[group]);
    assert!(
        shown.contains("\n        split: 192.168.178.2 replies on e1000g0 e1000g1, not on rge0\n"),
        "{shown}"
    );
    assert!(
        shown.contains("\n        no target replies on any member (inet inet6): link state alone decides\n"),
        "{shown}"
    );
}

#[test]
fn probed_member_shows_method_result_and_targets() {
    let sample = || explanation::sample().member.probing.remove(0);
    assert_eq!(
        probing(&sample()),
        "probed (inet) by ICMP echo from 192.168.178.201: failed, 3 of 10 replies in a row, targets 192.168.178.1 (routes), 1 \
         excluded; 1500 bytes passed both ways 3 s ago"
    );
    let line = |change: fn(&mut Probing)| {
        let mut one = sample();
        change(&mut one);
        probing(&one)
    };
    assert_eq!(
        line(|p| {
            (p.failed, p.method, p.mode) = (false, Some(ProbeMethod::Arp), TargetMode::Explicit);
            (p.passed, p.targets) = (None, p.targets[..1].to_vec());
        }),
        "probed (inet) by ARP: ok, targets 192.168.178.1 (explicit)"
    );
    assert_eq!(
        line(|p| {
            (p.failed, p.losses, p.method, p.family) = (false, 2, Some(ProbeMethod::Nd), Family::V6);
            (p.passed, p.targets) = (None, p.targets[..1].to_vec());
        }),
        "probed (inet6) by neighbour solicitations: ok, 2 lost in a row, targets 192.168.178.1 (routes)"
    );
    assert_eq!(
        line(|p| (p.targets, p.mode) = (vec![], TargetMode::Multicast)),
        "probed (inet) by ICMP echo from 192.168.178.201: no target found (multicast)"
    );
    assert_eq!(
        line(|p| (p.method, p.obstacle) = (None, Some(ProbeObstacle::NotUnique))),
        "not probed (inet): test address 192.168.178.201 is not unique in the group"
    );
    assert_eq!(
        line(|p| (p.method, p.obstacle) = (None, Some(ProbeObstacle::Awaited))),
        "not probed (inet): waiting for its test address"
    );
}

#[test]
fn member_with_mtu_hole_shows_its_size() {
    let member =
        MemberReport { mtu_hole: explanation::sample().member.mtu_hole, ..sample().members[0].clone() };
    let line = "\n        packets larger than 1400 bytes to 192.168.178.1 are lost; 1500 bytes pass on another member\n";
    assert!(member_text(&sample(), &member).contains(line));
    assert!(!member_text(&sample(), &sample().members[0]).contains("larger"));
}

#[test]
fn failed_member_shows_direction() {
    let failed_direction = explanation::sample().member.failed_direction;
    let member = MemberReport { failed_direction, ..sample().members[0].clone() };
    let line = "\n        does not receive: frames from rge0 to it are lost, and its own arrive there\n";
    assert!(member_text(&sample(), &member).contains(line));
    assert!(!member_text(&sample(), &sample().members[0]).contains("receive"));
}

#[test]
fn member_shows_frames_exchanged_with_others() {
    let member = explanation::sample().member;
    let line = "\n        1500 bytes passed to and from other members 3 s ago\n";
    assert!(member_text(&sample(), &member).contains(line));
    assert!(!member_text(&sample(), &sample().members[0]).contains("to and from"));
}

#[test]
fn degraded_member_shows_its_loss() {
    let explained = explanation::sample().member;
    let member = MemberReport {
        degraded: explained.degraded,
        loss: explained.loss,
        usable: false,
        ..sample().members[0].clone()
    };
    let text = member_text(&sample(), &member);
    for line in [
        "state ok, link up, does not transmit: packets are lost, ",
        "degraded: 30.2% of the probes in 10 min are lost; 0.5% on other members\n",
        "probes lost: 8 of 26 in 1 min (8.7% to 65.6%)\n",
    ] {
        assert!(text.contains(&format!("\n        {line}")), "{line} is not in {text}");
    }
    let others = member_text(&sample(), &sample().members[0]);
    assert!(!others.contains("degraded") && !others.contains("lost"), "{others}");
}

fn shown(name: Option<&str>, groups: Vec<GroupReport>, format: Format) -> String {
    Show { name: name.map(str::to_owned) }.print(Response::Show(groups), format)
}

#[test]
fn show_member_prints_that_member_alone() {
    let group = sample();
    let shown = |format| shown(Some("e1000g1"), vec![sample()], format);
    let text = shown(Format::Text);
    assert_eq!(text, member_text(&group, &group.members[1]));
    assert!(text.starts_with("e1000g1: flags="), "{text}");
    assert!(!text.contains("e1000g0") && !text.contains("production0"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&shown(Format::Json)).unwrap();
    let expected = serde_json::json!({"version": 1, "group": "production0", "member": group.members[1]});
    assert_eq!(json, expected);
}

#[test]
fn show_group_prints_the_group_and_its_members() {
    for name in ["production0", "Production"] {
        assert_eq!(shown(Some(name), vec![sample()], Format::Text), text(&[sample()]));
        let json: serde_json::Value =
            serde_json::from_str(&shown(Some(name), vec![sample()], Format::Json)).unwrap();
        assert_eq!(json, serde_json::json!({"version": 1, "groups": [sample()]}));
    }
}

#[test]
fn group_name_that_is_also_a_member_shows_the_group() {
    let group = GroupReport { groupname: "e1000g0".into(), ..sample() };
    assert_eq!(shown(Some("e1000g0"), vec![group.clone()], Format::Text), text(&[group]));
}
