//! Commands whose result holds already: they succeed, change nothing, and report it.

use super::*;

#[test]
fn repeated_commands_succeed_and_change_nothing() {
    lab::needs_root!();
    let lab = quiet_lab(3);
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
    let (changed, notes) = run("address add 192.168.178.210/24 192.168.178.211/24 --group production0");
    assert!(changed && notes.contains("192.168.178.210/24 is on production0 already"), "{notes}");
    assert!(scene.daemon.ctl("show production0").unwrap().contains("192.168.178.211"));
}
