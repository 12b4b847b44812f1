//! A stacked member carries while the devices below it do: egress reads their carriers, three levels down.

use ipmp::datapath::MemberSpec;
use ipmp_common::steer::MemberSet;

use crate::{
    frames::*,
    harness::{Bench, DATA4, DATA6, PEER4, PEER6, index_of, ip, run},
};

/// Has member 0 lie on other devices. Their own states are theirs alone: what is seen of them was read there.
fn put_on(bench: &mut Bench, below: &[&str]) {
    let lower = below.iter().map(|name| index_of(name)).collect();
    let member =
        MemberSpec { number: 0, name: "m0".to_owned(), ifindex: index_of("m0"), mac: member_mac(0), lower };
    bench.group.attach(&member).unwrap();
    bench.wait_live(MemberSet::from_bits(7));
}

fn make(names: &[&str]) {
    for name in names {
        ip(&format!(
            "link add {name} type veth peer name {name}-far\nlink set {name} up\nlink set {name}-far up"
        ));
    }
}

#[track_caller]
fn transmitted_by(bench: &Bench, member: u8) {
    for frame in [
        ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b"one")),
        ethernet(PEER_MAC, GROUP_MAC, IPV6, &icmp6_packet(128, DATA6, PEER6, b"echo")),
    ] {
        let (outcome, expected) = (bench.egress(&frame), with_source(&frame, member_mac(member)));
        if member == 0 {
            outcome.leaves_by(0, &expected);
        } else {
            outcome.leaves_instead_by(member, &expected);
        }
    }
}

#[test]
fn every_device_below_is_read_by_the_packet_and_by_the_sentinel() {
    lab::needs_root!();
    run(|bench| {
        let below = ["one", "two", "three"];
        make(&below);
        put_on(bench, &below);
        transmitted_by(bench, 0);
        for name in below {
            ip(&format!("link set {name}-far down"));
            bench.wait_live(MemberSet::from_bits(6));
            transmitted_by(bench, 1);
            ip(&format!("link set {name}-far up"));
            bench.wait_live(MemberSet::from_bits(7));
            transmitted_by(bench, 0);
        }
        bench.stop_sentinel();
        for name in below {
            ip(&format!("link set {name}-far down"));
            transmitted_by(bench, 1);
            assert_eq!(bench.group.live(), MemberSet::from_bits(7), "the sentinel has seen nothing");
            ip(&format!("link set {name}-far up"));
            transmitted_by(bench, 0);
        }
        // A deleted device has no carrier, with any contents of its memory.
        ip("link del two");
        transmitted_by(bench, 1);
    });
}

/// A real one: its own carrier follows that of the device below, late at times.
#[test]
fn a_macvlan_goes_with_its_device() {
    lab::needs_root!();
    run(|bench| {
        make(&["base"]);
        let mac = lab::show_mac(member_mac(0));
        ip(&format!("link del m0\nlink add link base name m0 address {mac} type macvlan\nlink set m0 up"));
        put_on(bench, &["base"]);
        transmitted_by(bench, 0);
        bench.stop_sentinel();
        for _ in 0..5 {
            ip("link set base-far down");
            transmitted_by(bench, 1);
            ip("link set base-far up");
            let back = lab::wait_until(std::time::Duration::from_secs(10), || {
                let frame = ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b"one"));
                bench.egress(&frame).carrier_or_stand_in() == 0
            });
            assert!(back, "the macvlan does not carry again");
        }
    });
}
