//! A lab leaves nothing behind: when it is dropped, when its process is killed, and when its reaper is killed too.

lab::lane!(side_by_side, seconds = 5, no_clsact = "tests how the lab cleans up, without a group");

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{Lab, MemberKind, TIMEOUT, wait_until};

/// Set in the process that is to be killed.
const VICTIM: &str = "IPMP_LAB_VICTIM";

/// What is left of the labs of a process: namespaces, directories, pins of its cookies, processes in it.
fn left(pid: u32, cookie: &str, sleeper: &str) -> Vec<String> {
    let entries = |directory: &str| {
        let read = fs::read_dir(directory).into_iter().flatten().flatten();
        read.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut left: Vec<String> = Vec::new();
    for (directory, prefix) in
        [("/run/netns", format!("ipmp-lab-{pid}-")), ("/run/ipmp-lab", format!("{pid}-"))]
    {
        let ours = entries(directory)
            .into_iter()
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
        left.extend(ours.map(|path| path.display().to_string()));
    }
    let pins = format!("/sys/fs/bpf/ipmp/v2/{cookie}");
    left.extend(Path::new(&pins).exists().then_some(pins));
    let state = format!("/run/ipmp/{cookie}");
    left.extend(Path::new(&state).exists().then_some(state));
    left.extend(Path::new(&format!("/proc/{sleeper}")).exists().then(|| format!("process {sleeper}")));
    left
}

/// Builds a lab with a process, a state and a pin directory, prints their names, and waits to be killed.
#[test]
#[ignore = "started by the other tests of this file, to be killed"]
fn victim() {
    lab::needs_root!();
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let cookie = lab.host().cookie().unwrap();
    fs::create_dir_all(format!("/sys/fs/bpf/ipmp/v2/{cookie}/production0")).unwrap();
    fs::create_dir_all(format!("/run/ipmp/{cookie}")).unwrap();
    let mut sleeper = lab.host().command("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
    println!("\nready {cookie} {}", sleeper.id());
    sleeper.wait().unwrap();
    std::thread::sleep(Duration::from_secs(1000));
}

/// A process with a lab, to be killed: itself, the cookie of its host, the number of its sleeping process.
struct Victim {
    child: Child,
    cookie: String,
    sleeper: String,
}

impl Victim {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "victim", "--nocapture"])
            .env(VICTIM, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let ready = lines.find_map(|line| line.strip_prefix("ready ").map(str::to_owned));
        let mut victim = Self { child, cookie: String::new(), sleeper: String::new() };
        let Some(ready) = ready else {
            victim.die();
            panic!("the victim ended before it had a lab");
        };
        let (cookie, sleeper) = ready.split_once(' ').unwrap();
        (victim.cookie, victim.sleeper) = (cookie.to_owned(), sleeper.to_owned());
        // Six namespaces, the directory, the pins, the state, the process.
        assert_eq!(victim.left().len(), 10, "{:?}", victim.left());
        victim
    }

    fn left(&self) -> Vec<String> {
        left(self.child.id(), &self.cookie, &self.sleeper)
    }

    fn die(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn assert_nothing_left(&self) {
        let removed = wait_until(TIMEOUT, || self.left().is_empty());
        assert!(removed, "left behind: {:?}", self.left());
    }
}

fn reaper_of(pid: u32) -> String {
    let labs = fs::read_dir("/proc").unwrap().flatten();
    let wanted = format!("/run/ipmp-lab/{pid}-0");
    let reaper = labs.filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        words.first() == Some(&&b"/bin/sh"[..]) && words.contains(&wanted.as_bytes())
    });
    reaper.map(|entry| entry.file_name().to_string_lossy().into_owned()).next().expect("a reaper")
}

fn kill(pid: &str) {
    assert!(Command::new("kill").args(["-KILL", pid]).status().unwrap().success());
}

#[test]
fn killed_test_leaves_nothing() {
    lab::needs_root!();
    let mut victim = Victim::start();
    victim.die();
    victim.assert_nothing_left();
}

#[test]
fn lab_without_reaper_is_removed_by_next_lab() {
    lab::needs_root!();
    let mut victim = Victim::start();
    kill(&reaper_of(victim.child.id()));
    victim.die();
    std::thread::sleep(Duration::from_millis(100));
    // The next lab removes it, perhaps that of another test.
    drop(Lab::tutorial().unwrap());
    victim.assert_nothing_left();
}

#[test]
fn dropped_lab_leaves_nothing() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let directory = lab.directory().to_owned();
    let names: Vec<_> =
        [lab.host(), lab.router().namespace(), lab.peer(0).namespace()].map(|ns| ns.path()).into();
    assert!(directory.exists() && names.iter().all(|path| path.exists()));
    drop(lab);
    assert!(!directory.exists() && !names.iter().any(|path| path.exists()));
}
