//! The daemon as a service of a Debian system, and its package, in a virtual machine with systemd as its first process.
//!
//! `cargo xtask test --soak` boots it: once for the tests whose names begin with `system_debian12`, and several times, on one disk, for
//! those whose names begin with `scene_`, which are the steps of a scene (`xtask/src/test/scenes.rs`).

lab::lane!(alone, no_clsact = "runs in a virtual machine with a system of its own");

mod boot;
mod five_commands;
mod handover;
mod package;
mod service;
mod without_systemd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use lab::{SECOND, daemon, wait_until};

/// An emulated machine takes its time.
const PATIENCE: Duration = Duration::from_secs(180);

fn run(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).output().unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn ok(line: &str) -> String {
    let output = run(line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("# {line}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {}", output.status);
    text
}

/// What a command that must fail prints as its error.
fn refused(line: &str) -> String {
    let output = run(line);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("# {line}\n{}{text}", String::from_utf8_lossy(&output.stdout));
    assert!(!output.status.success(), "{line} succeeded");
    text
}

/// These tests change the system that they run in.
fn needs_guest() {
    assert!(
        Path::new("/run/guest").exists(),
        "this test changes its system: it runs in a virtual machine only"
    );
}

fn write(path: &str, text: &str) {
    let directory = Path::new(path).parent().unwrap();
    fs::create_dir_all(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    fs::write(path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Two cards, the ends of cables to a bridge in the namespace `peer`.
fn cables() {
    ok("ip netns add peer && ip netns exec peer ip link add br0 type bridge");
    ok(
        "ip netns exec peer sh -c 'ip address add 192.0.2.1/24 dev br0 && ip link set br0 up && ip link set lo up'",
    );
    for (card, port) in [("eth0", "port0"), ("eth1", "port1")] {
        ok(&format!("ip link add {card} type veth peer name {port} netns peer"));
        ok(&format!("ip netns exec peer ip link set {port} master br0 up && ip link set {card} up"));
    }
    ok("ip address add 192.0.2.10/24 dev eth0 && ip route add 198.51.100.0/24 via 192.0.2.1");
}

fn remove_cables() {
    ok("ip link delete eth0 && ip link delete eth1 && ip netns delete peer");
}

fn is_healthy() -> bool {
    run("ipmpctl health").status.success()
}

fn ping_from_peer() {
    ok("ip netns exec peer ping -c 3 -W 10 192.0.2.10");
}

/// The package that `cargo xtask dist` made beside the programs, whose name has this end.
fn package(end: &str) -> PathBuf {
    let programs = daemon::binary("ipmpd").unwrap();
    let dist = programs.parent().unwrap().with_file_name("dist");
    let files = fs::read_dir(&dist)
        .unwrap_or_else(|error| panic!("{}: {error}: run `cargo xtask dist`", dist.display()));
    let mut packages =
        files.map(|file| file.unwrap().path()).filter(|path| path.to_string_lossy().ends_with(end));
    packages
        .next()
        .unwrap_or_else(|| panic!("{} has no package *{end}: run `cargo xtask dist`", dist.display()))
}
