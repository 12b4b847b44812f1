//! Reports and the text that an operator should see, written by hand.

use super::*;
use crate::{
    control::{
        explanation,
        report::{probing::Raised, sample},
    },
    types::{
        Family, GroupState, LinkState, MemberState, ProbeMethod, ProbeObstacle, ProbePolicy, TargetMode,
    },
};

#[test]
fn a_degraded_group() {
    assert_eq!(
        text(&[sample()]),
        "\
production0: flags=<UP,BROADCAST,RUNNING,MULTICAST,IPMP> mtu 1500 index 2
        inet 192.168.178.200 netmask ffffff00 broadcast 192.168.178.255 inbound e1000g0
        inet6 2001:db8::200/64 inbound nobody
        groupname Production
        state degraded: 1 of 3 members carries traffic; e1000g1 failed, no link, rge0 is offline
        detection by links alone; failback=yes fail-open=yes probe=off
        spread by connection, multicast and broadcast by e1000g0
        dropped: no member 1, foreign source 2, truncated 3; suppressed: reflected 4, other copy 5
        capture auto: outbound packets are shown to captures, 6 copied so far
e1000g0: flags=<UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER> mtu 1500 index 3
        inet 192.168.178.201 netmask ffffff00 broadcast 192.168.178.255
        ether 02:00:00:00:00:00
        groupname Production
        state ok, link up, carries traffic, multicast and broadcast, inbound 192.168.178.200
        member 0, attached by tcx, weight 1000, first choice of 1366 of 4096 slots (33.3%)
        out 120345 packets 98234123 bytes, in 1 packets 60 bytes, stepped in for 17 packets
e1000g1: flags=<UP,BROADCAST,MULTICAST,DEPRECATED,NOFAILOVER,FAILED> mtu 1500 index 4
        ether 02:00:00:00:00:01
        groupname Production
        state failed, link down, carries nothing: it failed, no link
        member 1, attached by tcx, weight 1000, first choice of 1365 of 4096 slots (33.3%)
        out 0 packets 0 bytes, in 0 packets 0 bytes, stepped in for 0 packets
rge0: flags=<UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,OFFLINE> mtu 1500 index 5
        ether 02:00:00:00:00:02
        groupname Production
        state offline, link up, carries nothing: it is offline
        member 2, attached by tcx, weight 1000, first choice of 1365 of 4096 slots (33.3%)
        out 0 packets 0 bytes, in 0 packets 0 bytes, stepped in for 0 packets
production0: checks in force
        the carrier of every member is read before each packet
"
    );
}

#[test]
fn an_empty_group_and_no_group() {
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
        state failed: it has no members
        detection by links alone; failback=yes fail-open=yes probe=off
        spread by connection, multicast and broadcast by nobody
        dropped: no member 0, foreign source 0, truncated 0; suppressed: reflected 0, other copy 0
        capture off: no outbound packet is copied, 0 copied so far

production0: flags=<UP,BROADCAST,MULTICAST,FAILED,IPMP> mtu 1500 index 2
        groupname Production
        state failed: it has no members
        detection by links alone; failback=yes fail-open=yes probe=off
        spread by connection, multicast and broadcast by nobody
        dropped: no member 0, foreign source 0, truncated 0; suppressed: reflected 0, other copy 0
        capture off: no outbound packet is copied, 0 copied so far
"
    );
    assert_eq!(text(&[]), "no IPMP groups\n");
}

#[test]
fn netmasks_and_broadcasts() {
    let line = |text: &str, prefix| {
        address(&AddressReport { address: text.parse().unwrap(), prefix, up: true, inbound: None })
    };
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
fn every_idle_member_has_a_reason() {
    let line = |change: fn(&mut MemberReport)| {
        let mut group = sample();
        group.members.truncate(1);
        change(&mut group.members[0]);
        verdict(&group)
    };
    assert_eq!(line(|_| ()), "state degraded: 1 of 1 members carries traffic");
    assert_eq!(
        line(|m| m.live = false),
        "state degraded: none of its 1 members carries traffic; e1000g0 has a link that is not trusted yet"
    );
    assert_eq!(
        line(|m| (m.live, m.link) = (false, LinkState::Down)),
        "state degraded: none of its 1 members carries traffic; e1000g0 has no link"
    );
    assert_eq!(
        line(|m| (m.usable, m.state) = (false, MemberState::Failed)),
        "state degraded: none of its 1 members carries traffic; e1000g0 failed"
    );
    assert_eq!(
        line(|m| (m.usable, m.inactive) = (false, true)),
        "state degraded: none of its 1 members carries traffic; e1000g0 is inactive"
    );
    assert_eq!(
        line(|m| (m.usable, m.inactive, m.standby) = (false, true, true)),
        "state degraded: none of its 1 members carries traffic; e1000g0 is inactive, a standby"
    );
    assert_eq!(
        line(|m| {
            (m.usable, m.state) = (false, MemberState::Failed);
            m.probing = explanation::sample().member.probing;
        }),
        "state degraded: none of its 1 members carries traffic; e1000g0 failed, its probes are not answered"
    );
    assert_eq!(
        line(|m| m.usable = false),
        "state degraded: none of its 1 members carries traffic; e1000g0 is not used yet"
    );
}

#[test]
fn what_probing_is_in_force() {
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
        fail_open: false,
        probe: ProbePolicy::Arp,
        targets: vec![[192, 168, 178, 1].into(), [192, 168, 178, 2].into()],
        dark: vec![Family::V4, Family::V6],
    };
    assert_eq!(
        detection(&group),
        "detection by links and probes within 24 s, one every 4.8 s, instead of 10 s, since 192.168.178.1 took up to 2.4 s \
         on rge0; failback=no fail-open=no probe=arp targets=192.168.178.1,192.168.178.2"
    );
    let shown = text(&[group]);
    assert!(
        shown.contains(
            "\n        no target answers on any member (inet inet6): members are judged by their links\n"
        ),
        "{shown}"
    );
}

#[test]
fn where_the_probes_of_a_member_go() {
    let sample = || explanation::sample().member.probing.remove(0);
    assert_eq!(
        probing(&sample()),
        "probed (inet) by echo from 192.168.178.201: failed, 3 of 10 answers in a row, targets 192.168.178.1 (routes), 1 \
         set aside"
    );
    let line = |change: fn(&mut Probing)| {
        let mut one = sample();
        change(&mut one);
        probing(&one)
    };
    assert_eq!(
        line(|p| {
            (p.failed, p.means, p.mode) = (false, Some(ProbeMethod::Arp), TargetMode::Explicit);
            p.targets.truncate(1);
        }),
        "probed (inet) by ARP: ok, targets 192.168.178.1 (explicit)"
    );
    assert_eq!(
        line(|p| {
            (p.failed, p.losses, p.means, p.family) = (false, 2, Some(ProbeMethod::Nd), Family::V6);
            p.targets.truncate(1);
        }),
        "probed (inet6) by neighbour solicitations: ok, 2 lost in a row, targets 192.168.178.1 (routes)"
    );
    assert_eq!(
        line(|p| (p.targets, p.mode) = (vec![], TargetMode::Multicast)),
        "probed (inet) by echo from 192.168.178.201: no target is known (multicast)"
    );
    assert_eq!(
        line(|p| (p.means, p.obstacle) = (None, Some(ProbeObstacle::NotUnique))),
        "not probed (inet): its test address 192.168.178.201 is not unique in the group"
    );
    assert_eq!(
        line(|p| (p.means, p.obstacle) = (None, Some(ProbeObstacle::Awaited))),
        "not probed (inet): its test address is awaited"
    );
}
