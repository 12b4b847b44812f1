//! Random commands, and random faults of the network, the daemon and the files, against what must hold whenever the host is left
//! alone for a moment. Like the invariants of `core`, but read from outside: reports, maps, netlink and replies to ARP.

use lab::Random;

use super::{
    changes::{OTHER, Scene, build_lab},
    sound::{Nic, Sound},
    *,
};

/// How long the host may take until everything holds again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Steps from the first daemon to teardown.
const STEPS: usize = 60;
/// Data addresses that come and go.
const ADDRESSES: [&str; 6] = [
    "192.168.178.210/24",
    "192.168.178.211/24",
    "192.168.178.212/24",
    "fd00:178::210/64",
    "10.8.8.2/24",
    "fd00:8::2/64",
];
/// What another program adds to a group.
const OF_OTHERS: &str = "192.168.178.220/24";
const SETTINGS: [&str; 12] = [
    "hash=flow",
    "hash=connection",
    "failback=no",
    "failback=yes",
    "updelay=0ms",
    "updelay=100ms",
    "announce-count=1 announce-interval=1s",
    "probe=arp fdt=500ms",
    "probe=off",
    "capture=on",
    "capture=auto",
    "manage-sysctls=warn",
];
const MEMBER_SETTINGS: [&str; 6] =
    ["standby=on", "standby=off", "weight=300", "weight=1000", "updelay=0ms", "updelay=150ms"];
/// How a member may be detached.
const DETACHED: [&str; 5] = ["", " --restore", " --keep-group", " --force", " --move-back"];
/// Configuration files, bad ones among them.
const FILES: [&str; 6] = [
    "",
    "[group.production0]\naddresses = [\"192.168.178.200/24\", \"fd00:178::200/64\"]\n[group.production0.members]\ne1000g0 = {}\nrge0 = {}\n",
    "[defaults]\nfdt = \"2s\"\n[group.production0]\naddresses = [\"192.168.178.210/24\"]\ngateways = [\"192.168.178.1\"]\nhash = \"flow\"\n\
     [group.production0.members]\ne1000g0 = { weight = 300 }\ne1000g1 = { standby = true }\ne1000g3 = { test-addresses = [\"192.168.178.203/24\"] }\n",
    "[group.production0]\naddresses = [\"192.168.178.200/24\"]\n[group.production0.members]\ne1000g0 = {}\n\
     [group.backup0]\naddresses = [\"192.168.178.211/24\", \"10.8.8.2/24\"]\n[group.backup0.members]\ne1000g2 = {}\ne1000g3 = {}\nnever0 = {}\n",
    "[group.production0]\naddress = 3\n",
    "[group.production0",
];

struct Chaos<'lab> {
    lab: &'lab Lab,
    scene: Scene<'lab>,
    random: Random,
    /// The NICs, in the order of the cables.
    nics: Vec<Nic>,
    /// Names of the groups, as the last report has them.
    groups: Vec<String>,
    files: PathBuf,
    /// Steps so far; commands, and those that succeeded.
    counts: [usize; 3],
    /// The steps since the last teardown.
    steps: Vec<String>,
    slowest: Duration,
}

impl<'lab> Chaos<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        let files = lab.directory().join("ipmp");
        fs::create_dir(&files).unwrap();
        let daemon = Daemon::builder(lab).argument("--config-dir").argument(files.to_str().unwrap());
        let nic = |member: &lab::Member| Nic {
            name: member.name().to_owned(),
            first_name: member.name().to_owned(),
            exists: true,
            is_plugged: true,
            has_first_index: true,
        };
        Self {
            lab,
            scene: Scene::with(lab, daemon),
            random: Random::with_printed_seed(),
            nics: lab.members().iter().map(nic).collect(),
            groups: Vec::new(),
            files,
            counts: [0; 3],
            steps: Vec::new(),
            slowest: Duration::ZERO,
        }
    }

    fn host(&self, line: &str) -> bool {
        self.lab.host().ip(line).is_ok()
    }

    fn any_nic(&mut self) -> String {
        let at = self.random.below(self.nics.len());
        self.nics[at].name.clone()
    }

    /// A group that exists, or one of two names.
    fn any_group(&mut self) -> String {
        let mut names = self.groups.clone();
        names.extend([GROUP, GROUP, OTHER].map(str::to_owned));
        self.random.choose(&names).clone()
    }

    fn any_command(&mut self) -> String {
        let (nic, group) = (self.any_nic(), self.any_group());
        let address = *self.random.choose(&ADDRESSES);
        match self.random.below(24) {
            0 => format!("create {group}"),
            1 => format!("create {group} --address {address}"),
            2 => format!("destroy {group}"),
            3..=6 => format!("attach {nic} --group {group}"),
            7 => format!("attach {nic} {} --group {group}", self.any_nic()),
            8 => format!("attach {nic} --group {group} --standby"),
            9 => format!("attach {nic} --group {group} --test-address 192.168.178.203/24"),
            10 => format!("attach {nic} --group {group} --confirm 600"),
            11..=13 => format!("detach {nic}{}", self.random.choose(&DETACHED)),
            14 => format!("detach {nic}{} --confirm 600", self.random.choose(&DETACHED)),
            15 => format!("set {group} {}", self.random.choose(&SETTINGS)),
            16 => format!("set {nic} {}", self.random.choose(&MEMBER_SETTINGS)),
            17 | 18 => format!("address add {address} --group {group}"),
            19 => format!("address add {address} --group {group} --inbound {nic}"),
            20 => format!("address del {address} --group {group}"),
            21 => format!("offline {nic}"),
            22 => format!("online {nic}"),
            _ => {
                let way = *self.random.choose(&["add", "del", "disable", "enable"]);
                format!("target {way} 192.168.178.22 --group {group}")
            }
        }
    }

    /// One step, in words. What is refused changes nothing.
    fn step(&mut self) -> String {
        let at = self.random.below(self.nics.len());
        let nic = self.nics[at].clone();
        match self.random.below(100) {
            0..=44 => self.command(),
            45..=59 if nic.exists => {
                let cable = self.lab.cable(at + 1);
                if nic.is_plugged {
                    cable.pull().unwrap()
                } else {
                    cable.replug().unwrap()
                };
                self.nics[at].is_plugged = !nic.is_plugged;
                format!("cable {} {}", at + 1, if nic.is_plugged { "pulled" } else { "plugged in" })
            }
            60..=64 if nic.exists => {
                let way = *self.random.choose(&["down", "up"]);
                assert!(self.host(&format!("link set {} {way}", nic.name)), "{} {way}", nic.name);
                format!("{} set {way}", nic.name)
            }
            65..=68 if nic.exists => {
                let name = if nic.name == nic.first_name { format!("nic{at}") } else { nic.first_name };
                assert!(self.host(&format!("link set {} name {name}", nic.name)), "{} to {name}", nic.name);
                self.nics[at].name.clone_from(&name);
                format!("{} renamed {name}", nic.name)
            }
            // e1000g2 has addresses, which are lost with it.
            69..=75 if at != 2 => {
                if nic.exists {
                    assert!(self.host(&format!("link del {}", nic.name)), "{}", nic.name);
                    self.nics[at].exists = false;
                    return format!("{} deleted", nic.name);
                }
                let has_first_index = self.random.once_in(2);
                if has_first_index {
                    self.lab.recreate_member(&nic.first_name).unwrap();
                } else {
                    self.lab.recreate_member_as(&nic.first_name, &nic.name).unwrap();
                }
                let name = if has_first_index { nic.first_name.clone() } else { nic.name };
                self.nics[at] =
                    Nic { name, exists: true, is_plugged: true, has_first_index, ..self.nics[at].clone() };
                format!("{} created again", self.nics[at].name)
            }
            76..=80 => {
                let end = *self.random.choose(&[End::Killed, End::Killed, End::Terminated]);
                end.apply(&mut self.scene.daemon);
                let again = self.random.once_in(3);
                self.scene.start(&mut self.random, 200 * MS, again);
                format!("daemon {end:?} and started{}", if again { ", killed, and started" } else { "" })
            }
            81..=87 => self.killed_command(),
            88..=93 => {
                let number = self.random.below(FILES.len());
                fs::write(self.files.join("ipmp.toml"), FILES[number]).unwrap();
                self.scene.daemon.signal(nix::sys::signal::Signal::SIGHUP).unwrap();
                format!("file {number}, SIGHUP")
            }
            94..=95 => {
                let group = self.any_group();
                let is_done = self.host(&format!("link del {group}"));
                format!("interface {group} deleted: {is_done}")
            }
            96..=97 => {
                let group = self.any_group();
                let name = if group == GROUP { "prod1" } else { GROUP };
                let is_done = self.host(&format!("link set {group} name {name}"));
                format!("interface {group} renamed {name}: {is_done}")
            }
            98..=99 => {
                let group = self.any_group();
                let way = *self.random.choose(&["add", "del"]);
                let is_done = self.host(&format!("address {way} {OF_OTHERS} dev {group}"));
                format!("another program: address {way} {OF_OTHERS} dev {group}: {is_done}")
            }
            _ => self.command(),
        }
    }

    fn command(&mut self) -> String {
        let line = match self.random.below(12) {
            0 => "undo".to_owned(),
            1 => "confirm --force".to_owned(),
            2 => format!("apply --config-dir {}", self.files.display()),
            3 => format!("save --config-dir {}", self.files.display()),
            _ => self.any_command(),
        };
        self.run(&line)
    }

    fn run(&mut self, line: &str) -> String {
        let output = self.scene.client(line).output().unwrap();
        self.counts[1] += 1;
        self.counts[2] += usize::from(output.status.success());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let text = text.lines().next().unwrap_or_default();
        if output.status.success() { format!("{line}: done") } else { format!("{line}: {text}") }
    }

    fn killed_command(&mut self) -> String {
        let line = self.any_command();
        let mut client = self.scene.client(&line);
        let mut client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let moment = self.random.within(200 * MS);
        std::thread::sleep(moment);
        self.scene.daemon.kill().unwrap();
        let again = self.random.once_in(4);
        self.scene.start(&mut self.random, 200 * MS, again);
        let _ = client.wait().unwrap();
        format!("{line}: killed after {moment:?}{}", if again { ", and again at its start" } else { "" })
    }

    /// Waits until everything holds.
    fn check(&mut self) {
        let (start, mut why) = (Instant::now(), String::new());
        let is_sound = wait_until(PATIENCE, || {
            if !why.is_empty() {
                std::thread::sleep(20 * MS);
            }
            assert!(self.scene.daemon.exit_status().is_none(), "ipmpd has ended after {:#?}", self.steps);
            match Sound::read(self.lab, &self.scene.daemon, &self.nics).and_then(|sound| sound.check()) {
                Ok(groups) => {
                    self.groups = groups;
                    true
                }
                Err(problem) => {
                    why = problem;
                    false
                }
            }
        });
        let time = start.elapsed();
        if time > SECOND && !why.is_empty() {
            println!("sound {time:?} after {:?}; last: {why}", self.steps.last());
        }
        self.slowest = self.slowest.max(time);
        let shown = || self.scene.daemon.ctl("show").unwrap_or_else(|error| format!("{error:#}"));
        assert!(is_sound, "{why}\nafter {:#?}\n{}", self.steps, shown());
    }

    /// Gives the NICs the addresses that they had. The last member of a group that was removed has it, as documented; `detach --force` removes it.
    fn return_addresses(&self) {
        if self.steps.iter().any(|step| step.contains("--restore") || step.starts_with("file ")) {
            // A NIC that was the last member keeps all addresses of the group, and the first one those of files, as documented.
            for nic in &self.nics {
                self.host(&format!("address flush dev {} scope global", nic.name));
            }
        }
        let shown = self.lab.host().ip("-br address show to 10.9.9.2/32").unwrap();
        assert!(shown.lines().count() <= 1, "10.9.9.2 is there twice: {shown}");
        if let Some(name) =
            shown.split(['@', ' ']).next().filter(|name| !name.is_empty() && *name != "e1000g2")
        {
            self.host(&format!("address del 10.9.9.2/24 dev {name}"));
        }
        self.host("route flush 10.10.0.0/16");
        self.host("address add 10.9.9.2/24 dev e1000g2");
        self.host("route add 10.10.0.0/16 via 10.9.9.1 dev e1000g2");
    }

    /// Reverts what the steps have done to the network, tears down, and compares the host with `before`.
    fn end_with_teardown(&mut self, before: &Snapshot) {
        let undo = self.run("undo");
        self.steps.push(undo);
        for at in 0..self.nics.len() {
            let nic = self.nics[at].clone();
            if !nic.exists {
                self.lab.recreate_member(&nic.first_name).unwrap();
                self.nics[at] = Nic { name: nic.first_name.clone(), has_first_index: true, ..nic };
            } else {
                self.lab.cable(at + 1).replug().unwrap();
                if nic.name != nic.first_name {
                    assert!(self.host(&format!("link set {} name {}", nic.name, nic.first_name)));
                }
                assert!(self.host(&format!("link set {} up", nic.first_name)));
            }
            let nic = &mut self.nics[at];
            (nic.exists, nic.is_plugged) = (true, true);
            nic.name.clone_from(&nic.first_name);
        }
        for group in self.groups.clone() {
            self.host(&format!("address del {OF_OTHERS} dev {group}"));
        }
        self.steps.push("network as before".into());
        self.check();
        fs::write(self.files.join("ipmp.toml"), "").unwrap();
        self.scene.daemon.kill().unwrap();
        self.scene.daemon.teardown().unwrap();
        for nic in &mut self.nics {
            if !std::mem::replace(&mut nic.has_first_index, true) {
                self.lab.host().ip(&format!("link del {}", nic.name)).unwrap();
                self.lab.recreate_member(&nic.name).unwrap();
            }
            // One that was down when it was attached is down again.
            self.lab.host().ip(&format!("link set {} up", nic.name)).unwrap();
        }
        self.return_addresses();
        let mut left = Vec::new();
        let is_clean = wait_until(PATIENCE, || {
            left = snapshot(self.lab).differences(before);
            left.is_empty()
        });
        assert!(is_clean, "left after teardown:\n{}\nafter {:#?}", left.join("\n"), self.steps);
        self.steps.clear();
        self.groups.clear();
        self.scene.daemon.start().unwrap();
    }
}

fn run_for(time: Duration) {
    let lab = build_lab();
    for member in lab.members() {
        // As on those that are created later.
        lab.host().sysctl(&format!("net.ipv6.conf.{}.accept_dad", member.name()), "0").unwrap();
    }
    let before = snapshot(&lab);
    let mut chaos = Chaos::new(&lab);
    let start = Instant::now();
    let mut teardowns = 0;
    while start.elapsed() < time {
        for _ in 0..STEPS {
            let step = chaos.step();
            chaos.steps.push(step);
            chaos.counts[0] += 1;
            chaos.check();
            if start.elapsed() >= time {
                break;
            }
        }
        chaos.end_with_teardown(&before);
        teardowns += 1;
    }
    let [steps, commands, done] = chaos.counts;
    println!(
        "{steps} steps in {:?}, {commands} commands among them, of which {done} succeeded; {teardowns} teardowns; sound again after \
         {:?} at most",
        start.elapsed(),
        chaos.slowest
    );
}

/// How long, in seconds: `IPMP_SECONDS`, or this.
fn seconds(default: u64) -> Duration {
    let seconds = std::env::var("IPMP_SECONDS").map_or(default, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

#[test]
fn chaos_of_commands_and_faults_keeps_groups_sound_and_teardown_restores_host() {
    lab::needs_root!();
    run_for(seconds(10));
}

#[test]
#[ignore = "takes an hour"]
fn soak_chaos_for_an_hour_keeps_groups_sound_and_teardown_restores_host() {
    lab::needs_root!();
    run_for(seconds(3600));
}
