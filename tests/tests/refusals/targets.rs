//! Refusals of probe targets: invalid, existing, unknown.

use crate::{REFUSED, Scene, USAGE, quiet_lab};

#[test]
fn invalid_targets_are_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    scene.ctl("target add 192.168.178.1 192.168.178.2 --group production0");
    scene.ctl("target disable 192.168.178.2 --group production0");
    let on_link = |address: &str, subnets: &str| {
        format!(
            "{address} is not on the link of production0, which reaches {subnets}: name a host there, or give \
             production0 or its members addresses of that subnet first"
        )
    };
    for (command, exit, reason, line) in [
        (
            "target add 224.0.0.1 --group production0",
            USAGE,
            "bad-address",
            "224.0.0.1 is a multicast address, which cannot be a target: name a host on the link of the group".into(),
        ),
        (
            "set production0 fdt=100ms targets=192.168.178.1/24",
            USAGE,
            "bad-address",
            "\"192.168.178.1/24\" is not the address of a host: write one like 192.168.178.1 or 2001:db8::1, without a \
             prefix length"
                .into(),
        ),
        ("target add 10.0.0.1 --group production0", REFUSED, "bad-target", on_link("10.0.0.1", "192.168.178.0/24")),
        (
            "set production0 fdt=100ms targets=10.0.0.1",
            REFUSED,
            "bad-target",
            on_link("10.0.0.1", "192.168.178.0/24"),
        ),
        (
            "target add 192.168.178.3 192.168.178.200 --group production0",
            REFUSED,
            "bad-target",
            "192.168.178.200 is this host's own address, on production0: name another host".into(),
        ),
        (
            "target add 192.168.178.2 --group production0",
            REFUSED,
            "target-exists",
            "192.168.178.2 is a target of production0 already, and disabled: `ipmpctl target enable 192.168.178.2 \
             --group production0` has it probed again"
                .into(),
        ),
        (
            "target disable 192.168.178.1 192.168.178.9 --group production0",
            REFUSED,
            "no-such-target",
            "192.168.178.9 is no target of production0; `ipmpctl target list --group production0` lists all".into(),
        ),
        (
            "target discover --group production0",
            REFUSED,
            "no-test-address",
            "no member of production0 has a test address to search for targets from: \
             give members test addresses (`ipmpctl test-address add`), or \
             name targets with `ipmpctl target add`"
                .into(),
        ),
        (
            "target list --group other0",
            REFUSED,
            "no-such-group",
            "there is no group other0; `ipmpctl show` lists those that exist".into(),
        ),
    ] {
        scene.refused(command, exit, reason, &line);
    }
    let listed = scene.daemon.ctl("target list --group production0").unwrap();
    assert!(listed.contains("192.168.178.1  explicit  unused"), "{listed}");
    refuse_routes(&scene);
    assert!(listed.contains("192.168.178.2  explicit  disabled"), "{listed}");
}

/// Of `target route`, whose group is that of the subnet.
fn refuse_routes(scene: &Scene<'_>) {
    scene.ctl("create other0 --address 192.168.178.250/24 --address 172.16.0.1/16");
    scene.ip("route add 172.16.0.8 via 172.16.0.7 dev other0");
    for (command, exit, reason, line) in [
        (
            "target route 192.168.178.1/24",
            USAGE,
            "bad-address",
            "\"192.168.178.1/24\" is not the address of a host: write one like 192.168.178.1 or 2001:db8::1, without a \
             prefix length",
        ),
        (
            "target route 172.16.0.9 10.0.0.1",
            REFUSED,
            "bad-target",
            "10.0.0.1 is on the link of no group; groups reach 172.16.0.0/16 and 192.168.178.0/24: name a host there, or \
             give the group or its members addresses of that subnet first",
        ),
        (
            "target route 172.16.0.9 172.16.0.1",
            REFUSED,
            "bad-target",
            "172.16.0.1 is this host's own address, on other0: name another host",
        ),
        (
            "target route 192.168.178.2",
            REFUSED,
            "ambiguous-target",
            "192.168.178.2 is on the links of other0 and production0: select one of them with --group",
        ),
        (
            "target route 172.16.0.8",
            REFUSED,
            "exists",
            "172.16.0.8/32 via 172.16.0.7 leads another way than directly through other0: remove that route first (ip route \
             del 172.16.0.8/32 via 172.16.0.7)",
        ),
        (
            "target route 192.168.178.2 --group other1",
            REFUSED,
            "no-such-group",
            "there is no group other1; `ipmpctl show` lists those that exist",
        ),
    ] {
        scene.refused(command, exit, reason, line);
    }
}
