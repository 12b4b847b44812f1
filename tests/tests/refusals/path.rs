//! Refusals of `path` and `simulate`: packets that cannot exist or are described incompletely, unknown members.

use crate::{REFUSED, Scene, USAGE, quiet_lab};

#[test]
fn impossible_packets_and_unknown_members_are_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    scene.ctl("set production0 hash=flow");
    let not_complete = "production0 has hash=flow, which uses the protocol and the ports of tcp, udp and sctp: name them as well";
    for (command, exit, reason, line) in [
        (
            "path production1 192.168.178.200 192.168.178.1",
            REFUSED,
            "no-such-group",
            "there is no group production1; `ipmpctl show` lists those that exist",
        ),
        ("path production0 192.168.178.200 192.168.178.1", REFUSED, "bad-packet", not_complete),
        ("path production0 192.168.178.200 192.168.178.1 tcp", REFUSED, "bad-packet", not_complete),
        (
            "path production0 192.168.178.200 2001:db8::1",
            USAGE,
            "bad-packet",
            "192.168.178.200 and 2001:db8::1 are of different families: name two addresses of one family",
        ),
        (
            "path production0 192.168.178.200 192.168.178.1 icmp 1 2",
            USAGE,
            "bad-packet",
            "a packet of icmp has no ports: name none, or tcp, udp or sctp",
        ),
        (
            "path production0 192.168.178.200 192.168.178.1 tcp 1 2 --if-lost rge0",
            REFUSED,
            "not-a-member",
            "rge0 is not a member of production0; `ipmpctl show production0` lists its members",
        ),
        (
            "simulate production0 --lose e1000g0 e1000g0",
            USAGE,
            "usage",
            "e1000g0 is named twice: name each interface once",
        ),
        (
            "simulate production0 --lose rge0",
            REFUSED,
            "not-a-member",
            "rge0 is not a member of production0; `ipmpctl show production0` lists its members",
        ),
    ] {
        scene.refused(command, exit, reason, line);
    }
}
