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
            "\"192.168.178.1/24\" is not the address of a target: write one like 192.168.178.1 or 2001:db8::1, without a \
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
    assert!(listed.contains("192.168.178.2  explicit  disabled"), "{listed}");
}
