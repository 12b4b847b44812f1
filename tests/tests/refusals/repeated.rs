//! Commands whose result holds already: they succeed, change nothing, and report it.

use super::*;

#[test]
fn repeated_commands_succeed_and_change_nothing() {
    lab::needs_root!();
    let lab = quiet_lab(4);
    let scene = Scene::new(&lab);
    let run = |command: &str| {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--json"]).collect();
        let output = scene.output(&arguments);
        assert!(output.status.success(), "{command}: {output:?}");
        let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
        println!("{command}: {reply}");
        (reply["changed"].as_bool().unwrap(), reply["notes"].to_string())
    };
    let commands = [
        (format!("create production0 --address {DATA}/24"), "group production0 exists already"),
        ("attach e1000g0 --group production0".into(), "e1000g0 is a member of production0 already"),
        ("attach e1000g0 e1000g1 --group production0".into(), "e1000g1 is a member of production0 already"),
        ("attach rge0 --group production0 --standby".into(), "rge0 is a member of production0 already"),
        (
            "address add 192.168.178.210/24 fd00:178::210/64 --group production0".into(),
            "fd00:178::210/64 is on production0 already",
        ),
        (
            "test-address add rge0 192.168.178.203/24".into(),
            "rge0 has the test address 192.168.178.203/24 already",
        ),
        ("set production0 fdt=2s failback=no hash=flow".into(), "[]"),
        ("set e1000g0 weight=7".into(), "[]"),
        (
            "target add 192.168.178.1 --group production0".into(),
            "192.168.178.1 is a target of production0 already",
        ),
        ("offline e1000g1".into(), "interface e1000g1 is already offline"),
    ];
    for (command, _) in &commands {
        assert!(run(command).0, "{command}");
    }
    // Probing goes on, so that only the kernel's configuration is compared.
    let before = Snapshot::settled(&lab).unwrap();
    for (command, note) in &commands {
        let (changed, notes) = run(command);
        assert!(!changed && notes.contains(note), "{command}: {notes}");
    }
    assert_same(&Snapshot::take(&lab).unwrap(), &before, "the same commands again");
    remove_what_does_not_exist(&run);
    assert_same(&Snapshot::take(&lab).unwrap(), &before, "removal of what does not exist");
    run("target disable 192.168.178.1 --group production0");
    run("create other0");
    let directory = lab.directory().join("ipmp");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("ipmp.toml"), "[group.file0]\naddresses = [\"192.168.178.230/24\"]\n")
        .unwrap();
    let before = scene.snapshot();
    for (command, line) in [
        ("create last0 --address 192.168.178.220/24", "create group last0\",\"last0: add 192.168.178.220/24"),
        ("destroy other0", "remove group other0"),
        ("attach e1000g2 --group production0", "production0: attach e1000g2"),
        ("detach e1000g0", "production0: detach e1000g0"),
        ("detach --all --restore", "production0: detach e1000g0\",\"remove group production0"),
        (
            "address add 192.168.178.220/24 --group production0 --inbound e1000g0",
            "production0: set inbound of 192.168.178.220 to e1000g0",
        ),
        ("address del 192.168.178.210/24 --group production0", "production0: remove 192.168.178.210/24"),
        ("test-address add e1000g0 192.168.178.204/24", "e1000g0: add test address 192.168.178.204/24"),
        ("test-address del rge0 192.168.178.203/24", "rge0: remove test address 192.168.178.203/24"),
        ("offline e1000g0", "production0: set e1000g0 offline"),
        ("online e1000g1", "production0: set e1000g1 online"),
        ("set production0 fdt=3s", "production0: set fdt=3s"),
        ("set e1000g0 weight=8", "production0: set weight=8 of e1000g0"),
        (
            "target add 192.168.178.22 --group production0",
            "set targets=192.168.178.1 (disabled),192.168.178.22",
        ),
        ("target del 192.168.178.1 --group production0", "production0: set targets=auto"),
        ("target enable 192.168.178.1 --group production0", "production0: set targets=192.168.178.1\""),
        ("target route 192.168.178.22", "production0: add route 192.168.178.22"),
        ("target discover --group production0", "production0: forget the hosts"),
        (&format!("apply --config-dir {}", directory.display()), "create group file0"),
        (&format!("save --config-dir {}", directory.display()), "[group.production0]"),
    ] {
        let (changed, notes) = run(&format!("{command} --dry-run"));
        assert!(changed && notes.contains(line), "{command}: {notes}");
    }
    let (changed, notes) = run("set production0 fdt=2s --dry-run");
    assert!(!changed && notes == "[]", "{notes}");
    let text = std::fs::read_to_string(directory.join("ipmp.toml")).unwrap();
    assert!(text.starts_with("[group.file0]") && text.lines().count() == 2, "{text}");
    scene.assert_same(before, "--dry-run");
    scene.known.take();
    run("target enable 192.168.178.1 --group production0");
    for (command, note) in [
        ("target disable 192.168.178.1 --group production0", "192.168.178.1 is disabled already"),
        ("target enable 192.168.178.1 --group production0", "192.168.178.1 is enabled already"),
        ("online e1000g1", "interface e1000g1 is not offline"),
    ] {
        assert!(run(command).0, "{command}");
        let (changed, notes) = run(command);
        assert!(!changed && notes.contains(note), "{command}: {notes}");
    }
    // Only a part of it holds: the rest is done.
    let (changed, notes) = run("address del 192.168.178.210/24 192.168.178.212/24 --group production0");
    let note = "production0 does not have the data address 192.168.178.212/24: nothing to change";
    assert!(changed && notes == format!("[\"{note}\"]"), "{notes}");
    run("address add 192.168.178.210/24 --group production0");
    let (changed, notes) = run("address add 192.168.178.210/24 192.168.178.211/24 --group production0");
    assert!(changed && notes.contains("192.168.178.210/24 is on production0 already"), "{notes}");
    assert!(scene.daemon.ctl("show production0").unwrap().contains("192.168.178.211"));
}

/// A removal of what does not exist is success, and its note names the thing.
fn remove_what_does_not_exist(run: &dyn Fn(&str) -> (bool, String)) {
    for (command, note) in [
        ("detach e1000g3", "e1000g3 is in no group"),
        ("detach nosuch0 --restore", "nosuch0 is in no group"),
        ("detach nosuch0 --confirm 60", "nosuch0 is in no group"),
        ("detach --all --restore --group production9", "there is no group production9"),
        ("destroy production9", "there is no group production9"),
        ("destroy e1000g0", "there is no group e1000g0"),
        ("address del 192.168.178.210/24 --group production9", "there is no group production9"),
        (
            "address del 192.168.178.210/25 --group production0",
            "production0 does not have the data address 192.168.178.210/25, but 192.168.178.210/24",
        ),
        (
            "address del fd00:178::9/64 --group production0",
            "production0 does not have the data address fd00:178::9/64",
        ),
        ("test-address del nosuch0 192.168.178.203/24", "nosuch0 is in no group"),
        ("test-address del rge0 dhcp", "rge0 does not have the test address dhcp"),
        ("target del 192.168.178.9 --group production0", "192.168.178.9 is no target of production0"),
        ("target del 192.168.178.9 --group production9", "there is no group production9"),
        ("target route --remove 192.168.178.9", "192.168.178.9 has no host route through a group"),
        ("target route --remove 192.168.178.9 --group production9", "there is no group production9"),
        ("handover --undo nosuch0", "nosuch0: not handed over"),
    ] {
        let dry_run = if command.contains("--confirm") { "" } else { " --dry-run" };
        for command in [command.to_owned(), format!("{command}{dry_run}")] {
            let (changed, notes) = run(&command);
            assert!(!changed && notes == format!("[\"{note}: nothing to change\"]"), "{command}: {notes}");
        }
    }
}
