//! `ipmp-demo`: what is printed in the tutorial's network is what the tutorial printed; and the names that it uses.

lab::lane!(alone, no_clsact = "the demo attaches as the kernel prefers");

use std::process::{Command, Stdio};

use lab::hosts_file::TUTORIAL;
use lab::{Daemon, HostsFile, Lab, daemon};

/// Plays a chapter, in which so many things are printed as in the tutorial.
fn play(arguments: &[&str], same: usize) {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_ipmp-demo"));
    let output = demo.args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{}", said.lines().last().unwrap_or_default());
    assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stderr));
    let count = |text: &str| said.matches(text).count();
    assert_eq!(count("The same in every cell"), same, "{said}");
    assert_eq!(count("NOT AS IN") + count("FAULT"), 0, "{said}");
}

#[test]
fn link_chapter_matches_tutorial() {
    lab::needs_root!();
    play(&["--chapter", "link"], 10);
}

#[test]
fn probe_chapter_matches_tutorial() {
    lab::needs_root!();
    play(&["--chapter", "probe", "--quick"], 11);
}

#[test]
#[ignore = "other tests compare the same; a minute"]
fn soak_chapters_on_boot_files_logs_classic_ipmp_targets_and_fdt_match_tutorial() {
    lab::needs_root!();
    play(&["--chapter", "persist"], 4);
    play(&["--chapter", "logs"], 2);
    play(&["--chapter", "classic"], 4);
    play(&["--chapter", "targets"], 2);
    play(&["--chapter", "fdt"], 0);
}

#[test]
fn hosts_file_names_are_accepted_as_addresses() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let daemon = Daemon::start_in(&lab).unwrap();
    let Some(hosts) = HostsFile::create(&lab, &TUTORIAL).unwrap() else {
        println!("skipped: no file can be mounted over /etc/hosts here");
        return;
    };
    let run = |program: &str, arguments: &str| {
        let mut command = Command::new(daemon::binary(program).unwrap());
        hosts.mount_for(&mut command);
        command.args(arguments.split(' ')).env("IPMP_SOCKET", daemon.socket()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said =
            String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        said.into_owned()
    };
    let shown = || {
        let text = daemon.ctl("show production0").unwrap();
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("inet "));
        lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(run("ipmpctl", "create production0 --address hivemind-prod/24"), "");
    assert_eq!(shown(), ["192.168.178.200"]);
    assert_eq!(run("ipmpctl", "address add hivemind-prod-rge0/24 --group production0"), "");
    assert_eq!(shown(), ["192.168.178.200", "192.168.178.203"]);
    let addresses = run("ipmpstat", "-a -o address,state");
    assert!(addresses.contains("hivemind-prod-rge0") && addresses.contains("hivemind-prod "), "{addresses}");
    assert_eq!(run("ipmpctl", "target add hivemind-prod-e1000g0 --group production0"), "");
    assert_eq!(run("ipmpctl", "target disable hivemind-prod-e1000g0 --group production0"), "");
    let listed = run("ipmpctl", "target list --group production0");
    assert!(listed.contains("192.168.178.201  explicit  disabled"), "{listed}");
    assert_eq!(run("ipmpctl", "set production0 targets=hivemind-prod-e1000g1,192.168.178.1"), "");
    assert_eq!(run("ipmpctl", "address del hivemind-prod/24 --group production0"), "");
    assert_eq!(shown(), ["192.168.178.203"]);
    daemon.ctl("destroy production0").unwrap();
}
