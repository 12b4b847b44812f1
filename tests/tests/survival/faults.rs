//! Every system call of a change fails once: the change is then made or it is not, and the daemon continues.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Mutex;

use lab::Random;

use super::{
    changes::{CASES, Case, OTHER, Rehearsed, Scene, build_lab, rehearse},
    state::State,
    trace::{Call, Trace},
    *,
};

/// How long a state may take until it is reached.
const PATIENCE: Duration = Duration::from_secs(8);
/// Labs at the same time: most of a round is waiting.
const LABS: usize = 4;

/// Result of one failed system call.
enum Outcome {
    Made,
    NotMade,
    /// The daemon made fewer system calls this time.
    NotReached,
    /// Neither, or the daemon ended.
    Wrong(String),
}

fn fail_once(scene: &mut Scene<'_>, case: &Case, known: &Rehearsed, call: &Call) -> Outcome {
    case.before.iter().for_each(|line| scene.run(line));
    let trace = Trace::attach(scene.daemon.pid().unwrap(), Some(call.clone()));
    let output = scene.client(case.command).output().unwrap();
    let recorded = trace.detach();
    if scene.daemon.exit_status().is_some() {
        return Outcome::Wrong("ipmpd has ended".into());
    }
    if !recorded.has_failed {
        scene.run_to_end(case);
        return Outcome::NotReached;
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
        Some(false) if status.success() => Outcome::Wrong("not made, but ipmpctl reports success".into()),
        Some(false) => {
            scene.run_to_end(case);
            Outcome::NotMade
        }
        None => Outcome::Wrong(format!("ipmpctl: {status}, {said}\n{differences}")),
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

/// Every system call of a change that may fail, in all threads.
fn calls_of(scene: &Scene<'_>, case: &Case, base: &State) -> Vec<Call> {
    case.before.iter().for_each(|line| scene.run(line));
    let trace = Trace::attach(scene.daemon.pid().unwrap(), None);
    scene.run(case.command);
    let calls = trace.detach().calls;
    case.after.iter().for_each(|line| scene.run(line));
    scene.wait(&[base], case.name);
    calls
}

/// What remains to be done, and the results.
#[derive(Default)]
struct Work {
    /// A change, and a call of it that fails.
    todo: VecDeque<(usize, Call)>,
    injected: usize,
    made: usize,
    not_made: usize,
    not_reached: usize,
    wrong: Vec<String>,
}

impl std::fmt::Display for Work {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} failed, {} to do: {} changes made, {} not made, {} not reached, {} wrong: {:?}",
            self.injected,
            self.todo.len(),
            self.made,
            self.not_made,
            self.not_reached,
            self.wrong.len(),
            self.wrong
        )
    }
}

/// A lab with the group; calls are failed in it until there are none, or until a result is wrong.
fn work_in_lab(work: &Mutex<Work>, end: Option<Instant>) {
    let lab = build_lab();
    let mut scene = Scene::build(&lab);
    scene.run("apply BASE");
    assert!(wait_until(TIMEOUT, || scene.live() == 3));
    let base = scene.settled();
    let mut known: [Option<Rehearsed>; CASES.len()] = Default::default();
    while end.is_none_or(|end| Instant::now() < end) {
        let Some((number, call)) = work.lock().unwrap().todo.pop_front() else { return };
        let case = &CASES[number];
        let known = known[number].get_or_insert_with(|| rehearse(&scene, case, &base));
        let outcome = fail_once(&mut scene, case, known, &call);
        let mut work = work.lock().unwrap();
        work.injected += 1;
        match outcome {
            Outcome::Made => work.made += 1,
            Outcome::NotMade => work.not_made += 1,
            Outcome::NotReached => work.not_reached += 1,
            Outcome::Wrong(why) => {
                println!("{}, {call} failed: {why}\n{}", case.name, scene.daemon.log().join("\n"));
                work.wrong.push(format!("{}, {call}", case.name));
                return;
            }
        }
        if work.injected.is_multiple_of(50) {
            println!("{work}");
        }
        drop(work);
        scene.wait(&[&base], &format!("{}, {call} failed, then undone", case.name));
    }
}

/// All calls, or so many at random of each change, in random order.
fn plan(sample: Option<usize>, random: &mut Random) -> VecDeque<(usize, Call)> {
    let wanted = std::env::var("IPMP_CASE").unwrap_or_default();
    let lab = build_lab();
    let scene = Scene::build(&lab);
    scene.run("apply BASE");
    assert!(wait_until(TIMEOUT, || scene.live() == 3));
    let base = scene.settled();
    let mut todo = Vec::new();
    for (number, case) in CASES.iter().enumerate().filter(|(_, case)| case.name.starts_with(&wanted)) {
        let mut calls = calls_of(&scene, case, &base);
        let of_loading = calls.iter().filter(|call| call.thread == "load").count();
        println!(
            "{}: {} system calls, {of_loading} of them while programs are loaded",
            case.name,
            calls.len()
        );
        while sample.is_some_and(|sample| calls.len() > sample) {
            let number = random.below(calls.len());
            calls.swap_remove(number);
        }
        todo.extend(calls.into_iter().map(|call| (number, call)));
    }
    for place in (1..todo.len()).rev() {
        todo.swap(place, random.below(place + 1));
    }
    todo.into()
}

fn fail_each_call(sample: Option<usize>, time: Option<Duration>) {
    let end = time.map(|time| Instant::now() + time);
    let todo = plan(sample, &mut Random::with_printed_seed());
    let work = Mutex::new(Work { todo, ..Work::default() });
    std::thread::scope(|scope| {
        for _ in 0..LABS {
            scope.spawn(|| {
                while !work.lock().unwrap().todo.is_empty() && end.is_none_or(|end| Instant::now() < end) {
                    work_in_lab(&work, end);
                }
            });
        }
    });
    let work = work.into_inner().unwrap();
    println!("{work}");
    assert!(work.wrong.is_empty(), "neither made nor not made: {:#?}", work.wrong);
    assert!(work.injected > 0);
}

#[test]
#[ignore = "takes an hour"]
fn soak_each_system_call_that_fails_leaves_each_change_made_or_not() {
    lab::needs_root!();
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    // How programs are attached changes few of the calls.
    let is_repeated = std::env::var_os("IPMP_ATTACH").is_some();
    let sample = number("IPMP_SAMPLE").or(is_repeated.then_some(10));
    fail_each_call(sample, number("IPMP_SECONDS").map(|seconds| Duration::from_secs(seconds as u64)));
}
