//! Changes that are interrupted or fail, with the states before and after each.

use std::fmt::Write as _;

use lab::Random;

use super::{state::State, *};

/// The group that is created and removed.
pub const OTHER: &str = "backup0";
/// How long a state may take until it is reached.
const PATIENCE: Duration = TIMEOUT;

/// A command that is killed.
pub struct Case {
    pub name: &'static str,
    /// Commands that prepare it.
    pub before: &'static [&'static str],
    pub command: &'static str,
    /// Commands that undo it.
    pub after: &'static [&'static str],
}

const CREATE: &str = "create backup0 --address 10.8.8.2/24";
const ATTACH: &str = "attach e1000g2 --group production0";
const ATTACH_NEW: &str = "attach e1000g2 --group backup0";
const CONFIRM: &str = "attach e1000g2 --group production0 --confirm 600";
const MOVE_BACK: &str = "detach e1000g2 --move-back";
const RESTORE: &str = "detach e1000g2 --restore";

pub const CASES: [Case; 8] = [
    Case { name: "create", before: &[], command: CREATE, after: &["destroy backup0"] },
    Case { name: "destroy", before: &[CREATE], command: "destroy backup0", after: &[] },
    Case { name: "attach", before: &[], command: ATTACH, after: &[MOVE_BACK] },
    Case { name: "attach to a new group", before: &[], command: ATTACH_NEW, after: &[RESTORE] },
    Case { name: "detach", before: &[ATTACH], command: MOVE_BACK, after: &[] },
    Case { name: "detach --restore", before: &[ATTACH_NEW], command: RESTORE, after: &[] },
    Case { name: "apply", before: &[], command: "apply MORE", after: &["apply BASE"] },
    Case { name: "undo", before: &[CONFIRM], command: "undo", after: &[] },
];

const BASE: &str = r#"
[group.production0]
addresses = ["192.168.178.200/24", "fd00:178::200/64"]
[group.production0.members]
e1000g0 = {}
e1000g1 = {}
rge0 = {}
"#;
const MORE: &str = r#"
[group.production0]
addresses = ["192.168.178.200/24", "fd00:178::200/64", "192.168.178.210/24"]
gateways = ["192.168.178.1"]
fdt = "2s"
hash = "flow"
[group.production0.members]
e1000g0 = { weight = 300 }
e1000g1 = {}
rge0 = {}
e1000g3 = { standby = true, test-addresses = ["192.168.178.203/24"] }
"#;

/// A host with five NICs of which one has addresses and routes of its own.
pub fn build_lab() -> Lab {
    let lab = Lab::builder().members(5).build().unwrap();
    for line in ["addr add 10.9.9.2/24 dev e1000g2", "route add 10.10.0.0/16 via 10.9.9.1 dev e1000g2"] {
        lab.host().ip(line).unwrap();
    }
    lab.host().sysctl("net.ipv6.conf.default.accept_dad", "0").unwrap();
    lab
}

/// The daemon with the group production0, and its client.
pub struct Scene<'lab> {
    pub lab: &'lab Lab,
    pub daemon: Daemon<'lab>,
    ctl: PathBuf,
}

impl<'lab> Scene<'lab> {
    pub fn build(lab: &'lab Lab) -> Self {
        Self::with(lab, Daemon::builder(lab))
    }

    /// With a daemon of these parameters.
    pub fn with(lab: &'lab Lab, daemon: lab::daemon::Builder<'lab>) -> Self {
        // A client that finds no ipmpd beside it starts none.
        let ctl = lab.directory().join("ipmpctl");
        // By another process: a copy that a child of ours has inherited open for writing cannot be started.
        command::run(Command::new("cp").arg(binary("ipmpctl").unwrap()).arg(&ctl)).unwrap();
        for (name, text) in [("BASE", BASE), ("MORE", MORE)] {
            fs::write(lab.directory().join(name), text).unwrap();
        }
        Self { lab, daemon: daemon.start().unwrap(), ctl }
    }

    pub fn client(&self, line: &str) -> Command {
        let mut command = self.lab.host().command(self.ctl.to_str().unwrap());
        command.arg("--socket").arg(self.daemon.socket()).stdin(Stdio::null());
        command.env("IPMP_STATE_DIR", self.lab.directory().join("state"));
        command.env("PATH", "/nonexistent");
        for word in line.split(' ') {
            let is_file = ["BASE", "MORE"].contains(&word);
            command.arg(if is_file { self.lab.directory().join(word).into_os_string() } else { word.into() });
        }
        command
    }

    pub fn run(&self, line: &str) {
        command::run(&mut self.client(line)).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Waits until the state is one of these, and returns which.
    pub fn wait(&self, of: &[&State], what: &str) -> usize {
        let (mut found, mut differences) = (None, String::new());
        let reached = wait_until(PATIENCE, || {
            if found.is_none() && !differences.is_empty() {
                std::thread::sleep(50 * MS);
            }
            let state = match State::read(self.lab, &self.daemon, OTHER) {
                Ok(state) => state,
                Err(error) => {
                    differences = error;
                    return false;
                }
            };
            found = of.iter().position(|known| **known == state);
            differences.clear();
            for (number, known) in of.iter().enumerate() {
                let _ =
                    writeln!(differences, "from state {number}:\n{}", state.differences(known).join("\n"));
            }
            found.is_some()
        });
        assert!(reached, "{what}: another state:\n{differences}");
        found.unwrap_or_default()
    }

    /// Members whose links are trusted.
    pub fn live(&self) -> usize {
        self.daemon.ctl("show --json").unwrap_or_default().matches("\"live\":true").count()
    }

    /// The state when it does not change any more.
    pub fn settled(&self) -> State {
        let read = || State::read(self.lab, &self.daemon, OTHER).unwrap();
        let mut last = read();
        assert!(wait_until(PATIENCE, || {
            std::thread::sleep(300 * MS);
            let now = read();
            std::mem::replace(&mut last, now) == last
        }));
        last
    }

    /// Starts the daemon; kills it once before that, at a random moment of its start.
    pub fn start(&mut self, random: &mut Random, adoption: Duration, killed_again: bool) {
        if killed_again {
            self.daemon.spawn().unwrap();
            std::thread::sleep(random.within(adoption));
            self.daemon.kill().unwrap();
        }
        self.daemon.start().unwrap();
    }
}

/// A case with the states before and after it, and how long it takes.
pub struct Rehearsed {
    pub before: State,
    pub after: State,
    pub time: Duration,
}

pub fn rehearse(scene: &Scene<'_>, case: &Case, base: &State) -> Rehearsed {
    case.before.iter().for_each(|line| scene.run(line));
    let before = scene.settled();
    let start = Instant::now();
    scene.run(case.command);
    let time = start.elapsed();
    let after = scene.settled();
    case.after.iter().for_each(|line| scene.run(line));
    scene.wait(&[base], case.name);
    println!(
        "{} takes {time:?} and changes {} of {} properties",
        case.name,
        after.differences(&before).len(),
        before.len()
    );
    Rehearsed { before, after, time }
}
