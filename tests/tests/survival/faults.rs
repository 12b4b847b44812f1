//! Every system call of a change fails once: the change is then made or it is not, and the daemon continues.

use std::fmt::Write as _;

use lab::Random;

use super::{
    changes::{CASES, Case, OTHER, Rehearsed, Scene, build_lab, rehearse},
    state::State,
    *,
};

/// How long a state may take until it is reached.
const PATIENCE: Duration = Duration::from_secs(8);
/// System calls that fail.
const CALLS: [&str; 12] = [
    "bpf", "sendto", "sendmsg", "recvmsg", "recvfrom", "openat", "write", "rename", "fsync", "mkdir",
    "unlink", "rmdir",
];
/// Descriptors whose system calls cannot fail in a kernel that works: threads of the daemon wake each other by them.
const INTERNAL: [&str; 3] = ["[eventfd]", "[eventpoll]", "<UNIX"];

/// strace on the thread of the daemon that decides.
struct Trace {
    child: std::process::Child,
    file: PathBuf,
}

impl Trace {
    fn attach(scene: &Scene<'_>, inject: Option<(&str, usize)>) -> Self {
        let file = scene.lab.directory().join("strace");
        let pid = scene.daemon.pid().unwrap();
        let mut command = Command::new("strace");
        command.args(["-yy", "-p", &pid.to_string(), "-o"]).arg(&file);
        match inject {
            Some((call, number)) => {
                command.arg("-e").arg(format!("trace={call}"));
                command.arg("-e").arg(format!("inject={call}:error=EIO:when={number}"));
            }
            None => drop(command.arg("-e").arg(format!("trace={}", CALLS.join(",")))),
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("strace: install it with `cargo xtask setup`");
        let is_traced = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        assert!(wait_until(TIMEOUT, is_traced), "strace does not trace ipmpd");
        Self { child, file }
    }

    /// The lines of the trace.
    fn detach(mut self) -> Vec<String> {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.child.id() as i32),
            nix::sys::signal::Signal::SIGINT,
        )
        .unwrap();
        self.child.wait().unwrap();
        fs::read_to_string(&self.file).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Result of one failed system call.
enum Outcome {
    Made,
    NotMade,
    /// The daemon made fewer system calls this time.
    NotReached,
    /// Neither, or the daemon ended.
    Wrong(String),
}

fn fail_once(scene: &mut Scene<'_>, case: &Case, known: &Rehearsed, call: &str, number: usize) -> Outcome {
    case.before.iter().for_each(|line| scene.run(line));
    let trace = Trace::attach(scene, Some((call, number)));
    let output = scene.client(case.command).output().unwrap();
    let lines = trace.detach();
    let Some(line) = lines.iter().find(|line| line.ends_with("(INJECTED)")) else {
        scene.run_to_end(case);
        return Outcome::NotReached;
    };
    if scene.daemon.exit_status().is_some() {
        return Outcome::Wrong(format!("{line}\nipmpd has ended"));
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let (mut made, mut differences) = (None, String::new());
    wait_until(PATIENCE, || {
        if !differences.is_empty() {
            std::thread::sleep(100 * MS);
        }
        differences.clear();
        match State::read(scene.lab, &scene.daemon, OTHER) {
            Ok(state) if state == known.after => made = Some(true),
            Ok(state) if state == known.before => made = Some(false),
            Ok(state) => {
                let (one, other) = (state.differences(&known.before), state.differences(&known.after));
                let fewer = if one.len() <= other.len() { ("before", one) } else { ("after", other) };
                let _ = write!(differences, "from the state {}:\n{}", fewer.0, fewer.1.join("\n"));
            }
            Err(error) => differences = error,
        }
        made.is_some()
    });
    let status = output.status;
    match made {
        Some(true) => {
            // The record of a change that waits for its confirmation is the client's.
            if !status.success() && case.command == "undo" {
                scene.run("undo");
            }
            case.after.iter().for_each(|line| scene.run(line));
            Outcome::Made
        }
        Some(false) if status.success() => {
            Outcome::Wrong(format!("{line}\nnot made, but ipmpctl reports success"))
        }
        Some(false) => {
            scene.run_to_end(case);
            Outcome::NotMade
        }
        None => Outcome::Wrong(format!("{line}\nipmpctl: {status}, {said}\n{differences}")),
    }
}

impl Scene<'_> {
    /// Makes a change that was not made, if that is needed to undo what prepared it.
    fn run_to_end(&self, case: &Case) {
        let is_made = |text: &str| self.daemon.ctl("show --json").unwrap().contains(text);
        if !case.before.is_empty() {
            if case.command == "undo" || is_made("backup0") || is_made("e1000g2") {
                self.run(case.command);
            }
        } else if is_made("backup0") || is_made("e1000g2") || is_made("e1000g3") {
            case.after.iter().for_each(|line| self.run(line));
        }
    }
}

/// Every system call of these changes that may fail: `CALL` and its number.
fn calls_of(scene: &Scene<'_>, case: &Case) -> Vec<(&'static str, usize)> {
    case.before.iter().for_each(|line| scene.run(line));
    let trace = Trace::attach(scene, None);
    scene.run(case.command);
    let lines = trace.detach();
    case.after.iter().for_each(|line| scene.run(line));
    let mut counts = [0; CALLS.len()];
    let mut calls = Vec::new();
    for line in lines {
        let Some(at) = CALLS.iter().position(|call| line.starts_with(&format!("{call}("))) else { continue };
        counts[at] += 1;
        if !INTERNAL.iter().any(|internal| line.contains(internal)) {
            calls.push((CALLS[at], counts[at]));
        }
    }
    calls
}

/// Fails every system call, or so many at random of each change.
fn fail_each_call(sample: Option<usize>) {
    let mut random = Random::with_printed_seed();
    let wanted = std::env::var("IPMP_CASE").unwrap_or_default();
    let (mut injected, mut made, mut not_made, mut not_reached, mut wrong) = (0, 0, 0, 0, Vec::new());
    for case in CASES.iter().filter(|case| case.name.starts_with(&wanted)) {
        let mut todo = None;
        loop {
            let lab = build_lab();
            let mut scene = Scene::build(&lab);
            scene.run("apply BASE");
            assert!(wait_until(TIMEOUT, || scene.live() == 3));
            let base = scene.settled();
            let known = rehearse(&scene, case, &base);
            let todo: &mut Vec<_> = todo.get_or_insert_with(|| {
                let mut calls = calls_of(&scene, case);
                scene.wait(&[&base], case.name);
                println!("{}: {} system calls", case.name, calls.len());
                while sample.is_some_and(|sample| calls.len() > sample) {
                    let number = random.below(calls.len());
                    calls.swap_remove(number);
                }
                calls
            });
            let before = wrong.len();
            while let Some((call, number)) = todo.pop() {
                let outcome = fail_once(&mut scene, case, &known, call, number);
                match outcome {
                    Outcome::Made => made += 1,
                    Outcome::NotMade => not_made += 1,
                    Outcome::NotReached => not_reached += 1,
                    Outcome::Wrong(why) => {
                        println!("{}, {call} {number} failed: {why}", case.name);
                        wrong.push(format!("{}, {call} {number}", case.name));
                        break;
                    }
                }
                injected += 1;
                scene.wait(&[&base], &format!("{}, {call} {number} failed, then undone", case.name));
            }
            if wrong.len() == before {
                break;
            }
        }
        println!(
            "so far {injected} failed: {made} changes made, {not_made} not made, {not_reached} not reached, {wrong:?}"
        );
    }
    assert!(wrong.is_empty(), "neither made nor not made: {wrong:#?}");
}

#[test]
#[ignore = "takes an hour"]
fn soak_each_system_call_that_fails_leaves_each_change_made_or_not() {
    lab::needs_root!();
    let sample = std::env::var("IPMP_SAMPLE").ok().map(|text| text.parse().unwrap());
    // How programs are attached changes few of the calls.
    let is_repeated = std::env::var_os("IPMP_ATTACH").is_some();
    fail_each_call(sample.or(is_repeated.then_some(10)));
}
