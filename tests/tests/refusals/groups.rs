//! Refusals of groups (invalid, existing, unknown, not empty) and of detach and offline.

use lab::{Daemon, Snapshot};

use crate::{NO_DAEMON, REFUSED, Scene, USAGE, assert_refused, assert_same, daemons, quiet_lab, text};

#[test]
fn invalid_names_are_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    let groups = [
        ("", "a group has an empty name: give it 1 to 15 bytes"),
        ("sixteen-bytes-00", r#""sixteen-bytes-00" is too long for a group: 16 bytes, and the limit is 15"#),
        ("a/0", r#""a/0" cannot name a group: choose one without '/'"#),
        ("../x0", r#""../x0" cannot name a group: choose one without '.'"#),
        ("prod.0", r#""prod.0" cannot name a group: choose one without '.'"#),
        ("prod 0", r#""prod 0" cannot name a group: choose one without ' '"#),
        ("prod:0", r#""prod:0" cannot name a group: choose one without ':'"#),
        ("prod%d", r#""prod%d" cannot name a group: choose one without '%'"#),
        ("prod\n0", r#""prod\n0" cannot name a group: choose one without '\n'"#),
    ];
    for (name, line) in groups {
        scene.refused_words(&["create", name], USAGE, "bad-name", line);
        scene.refused_words(&["attach", "rge0", "--group", name], USAGE, "bad-name", line);
        scene.refused_words(&["destroy", name], USAGE, "bad-name", line);
        let words = ["address", "add", "192.168.178.210/24", "--group", name];
        scene.refused_words(&words, USAGE, "bad-name", line);
    }
    let interfaces = [
        ("", "an interface has an empty name: give it 1 to 15 bytes"),
        (
            "sixteen-bytes-00",
            r#""sixteen-bytes-00" is too long for an interface: 16 bytes, and the limit is 15"#,
        ),
        ("..", r#"".." cannot name an interface: choose one without '.'"#),
        ("eth/0", r#""eth/0" cannot name an interface: choose one without '/'"#),
    ];
    for (name, line) in interfaces {
        scene.refused_words(&["attach", name, "--group", "production0"], USAGE, "bad-name", line);
        for verb in ["detach", "offline", "online"] {
            scene.refused_words(&[verb, name], USAGE, "bad-name", line);
        }
    }
    let long = "32-bytes-of-a-second-group-name.";
    let line = format!("{long:?} is too long for a group: 32 bytes, and the limit is 31");
    scene.refused_words(&["create", "other0", "--groupname", long], USAGE, "bad-name", &line);
}

#[test]
fn invalid_command_line_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    for (command, line) in [
        ("attach rge0", "missing arguments: --group <GROUP> (see ipmpctl attach --help)"),
        ("detach", "missing arguments: <INTERFACE> (see ipmpctl detach --help)"),
        ("explode production0", "unrecognized subcommand 'explode' (see ipmpctl --help)"),
        (
            "detach e1000g0 --force --restore",
            "the argument '--force' cannot be used with '--restore' (see ipmpctl detach --help)",
        ),
    ] {
        let before = scene.snapshot();
        let output = scene.output(&command.split_whitespace().collect::<Vec<_>>());
        assert_refused(command, &output, USAGE, "ipmpctl", line);
        scene.assert_same(before, command);
    }
}

#[test]
fn creation_of_existing_group_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    scene.ctl("create other0 --groupname second");
    for (command, line) in [
        (
            "create production0 --address 192.168.178.210/24",
            "group production0 exists already: attach interfaces to it, or give the new group another name",
        ),
        ("create rge0", "there is an interface rge0 already: give the group another name"),
        ("create lo", "there is an interface lo already: give the group another name"),
        (
            "create third0 --groupname production0",
            "group production0 has the group name production0 already: give another --groupname",
        ),
        (
            "create third0 --groupname second",
            "group other0 has the group name second already: give another --groupname",
        ),
        ("create second", "group other0 has the group name second already: give the group another name"),
        ("create third0 --groupname rge0", "there is an interface rge0 already: give another --groupname"),
    ] {
        scene.refused(command, REFUSED, "exists", line);
    }
}

#[test]
fn destroy_of_group_with_members_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1 rge0");
    let line = "IPMP group is not empty: detach e1000g0, e1000g1, rge0 from production0 first";
    scene.refused("destroy production0", REFUSED, "not-empty", line);
    scene.ctl("detach e1000g1");
    let line = "IPMP group is not empty: detach e1000g0, rge0 from production0 first";
    scene.refused("destroy production0", REFUSED, "not-empty", line);
}

#[test]
fn unknown_name_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    let line = "nosuch0 is neither a group nor a member of one; `ipmpctl show` lists all";
    scene.refused("show nosuch0", REFUSED, "no-such-group", line);
}

#[test]
fn detach_of_last_member_without_option_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    scene.ctl("detach e1000g1");
    let line = "e1000g0 is the last member of production0: add --restore to give addresses and routes to e1000g0, \
                --keep-group to keep the empty group with them, or --force to remove both";
    scene.refused("detach e1000g0", REFUSED, "last-member", line);
    scene.ctl("detach e1000g0 --keep-group");
}

#[test]
fn interface_that_is_not_a_member_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    for verb in ["offline", "online"] {
        for name in ["rge0", "nosuch0", "production0", "lo"] {
            let line = format!("{name} is not a member of any group; `ipmpctl show` lists the members");
            scene.refused(&format!("{verb} {name}"), REFUSED, "not-a-member", &line);
        }
    }
    let line = "production0 is a group, not a member of one; `ipmpctl show production0` lists its members";
    for command in ["detach production0", "detach production0 --restore"] {
        scene.refused(command, REFUSED, "not-a-member", line);
    }
}

#[test]
fn offline_of_last_functioning_member_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1 rge0");
    scene.ctl("offline e1000g0");
    scene.pull(2);
    let line = "cannot offline rge0: no other functioning interfaces are in its IPMP group";
    scene.refused("offline rge0", REFUSED, "last-functioning", line);
    scene.ctl("online e1000g0");
    scene.ctl("offline rge0");
}

#[test]
fn show_without_daemon_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let mut daemon = Daemon::start_in(&lab).unwrap();
    daemon.terminate().unwrap();
    let before = Snapshot::settled(&lab).unwrap();
    let output = daemon.ctl_output("show").unwrap();
    let line = format!("cannot contact ipmpd at {} -- is IPMP in use?", daemon.socket().display());
    assert_refused("show", &output, NO_DAEMON, "ipmpctl", &line);
    assert_eq!(text(&output.stdout), "");
    assert_same(&Snapshot::take(&lab).unwrap(), &before, "show");
    assert_eq!(daemons(&lab), "", "show starts no daemon");
}
