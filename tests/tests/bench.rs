//! `ipmp-bench`: its JSON is what its help says, it leaves nothing, also when it is interrupted, and a packet takes no longer than in the
//! results in `docs/benchmarks`.

lab::lane!(alone, no_clsact = "only the output of ipmp-bench is tested");

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use lab::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// How much longer a packet may take, compared with `reference`, than in the results in `docs/benchmarks`. Ratios of two quiet runs differ
/// by up to 15 %.
const SLOWER: f64 = 1.3;
/// Other work of this machine only adds to a result: the lowest of several measurements counts.
const ATTEMPTS: usize = 5;

fn bench(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipmp-bench"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command
}

/// Runs it, and gives what it printed as JSON.
fn measured(arguments: &str) -> Value {
    let began = Instant::now();
    let output = bench(arguments).output().unwrap();
    println!("{:.1} s: {arguments}", began.elapsed().as_secs_f64());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`ipmp-bench {arguments}` failed: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Measured once, for several tests.
static STEERING: LazyLock<Value> =
    LazyLock::new(|| measured("--quick --json - steering --rounds 3 --repeat 20000"));

static STORM: LazyLock<Value> =
    LazyLock::new(|| measured("--quick --json - storm --rounds 2 --milliseconds 500 --rate 10000"));

/// The names of all fields, at any depth.
fn names(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            into.insert(name.clone());
            names(value, into);
        }),
        Value::Array(values) => values.iter().for_each(|value| names(value, into)),
        _ => {}
    }
}

/// The names after `Commands:` in a help text.
fn subcommands(help: &str) -> BTreeSet<&str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    // Texts of commands are indented deeper.
    let names = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
    names
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_json_field_is_documented_in_help() {
    lab::needs_root!();
    let help = bench("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let words: BTreeSet<&str> = help.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut fields = BTreeSet::new();
    let rest = [
        ("outbound", "--pulls 1"),
        ("inbound", "--pulls 1"),
        ("carrier", "--pulls 1 --mode netlink"),
        ("evidence", "--connections 10 --seconds 1 --loss 10"),
        ("throughput", "--rounds 1"),
        ("idle", "--groups 1 --seconds 1"),
        ("scale", "--groups 3 --addresses 1 --members 2 --group-addresses 10 --routes 100 --pulls 1"),
        ("detection", "--cuts 1"),
        ("probing", "--groups 1 --seconds 1"),
        ("early-drop", "--rounds 1 --frames 100"),
        ("echo", "--requests 10"),
        ("peers", "--pulls 1 --rounds 1 --fault pull --only fdt=1s"),
    ]
    .map(|(only, least)| (only, measured(&format!("--quick --json - {only} {least}"))));
    let once = [("steering", STEERING.clone()), ("storm", STORM.clone())];
    let all: BTreeMap<&str, Value> = once.into_iter().chain(rest).collect();
    let measurements: BTreeSet<&str> =
        subcommands(&help).into_iter().filter(|name| !["page", "help"].contains(name)).collect();
    assert_eq!(all.keys().copied().collect::<BTreeSet<_>>(), measurements, "some are not tested");
    for (only, json) in &all {
        assert!(json[only.replace('-', "_")].is_object(), "{json}");
        assert_eq!(json["quick"], true);
        names(json, &mut fields);
    }
    let scale = &all["scale"]["scale"];
    assert_eq!(scale["failed"].as_array().map(Vec::len), Some(0), "{scale}");
    let rows = scale["rows"].as_array().unwrap();
    let numbers = ["groups", "members", "addresses", "routes"].map(|number| {
        let row = rows
            .iter()
            .find(|row| row["series"] == number)
            .unwrap_or_else(|| panic!("no {number}: {rows:?}"));
        row[number].as_u64().unwrap()
    });
    // Of addresses, ten of IPv4 and one of IPv6.
    assert_eq!(numbers, [3, 2, 11, 100]);
    let missing: Vec<&String> = fields.iter().filter(|field| !words.contains(field.as_str())).collect();
    assert!(fields.len() > 40 && missing.is_empty(), "not in `ipmp-bench --help`: {missing:?}");
}

#[test]
fn steering_costs_more_than_empty_program() {
    lab::needs_root!();
    let json = &*STEERING;
    let programs = json["steering"]["programs"].as_array().unwrap();
    let ns = |name: &str| {
        let found = programs.iter().find(|program| program["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {json}"))["ns"]["median"].as_f64().unwrap()
    };
    assert!(ns("empty") < ns("egress v4 connection"), "{json}");
    assert!(ns("empty") < ns("ingress v6"), "{json}");
}

/// Time of a packet in each case, divided by that of `reference`: of each the lowest of all rounds.
fn ratios(json: &Value) -> BTreeMap<String, f64> {
    let programs = json["steering"]["programs"].as_array().unwrap();
    let least = |program: &Value| program["ns"]["minimum"].as_f64().unwrap();
    let reference = programs.iter().find(|program| program["name"] == "reference").map(least).unwrap();
    let ours = programs.iter().filter(|program| program["over_redirect_ns"].is_object());
    ours.map(|program| (program["name"].as_str().unwrap().to_owned(), least(program) / reference)).collect()
}

/// Results of steering in `docs/benchmarks`: those of processors of this vendor, or all.
fn known_results(processor: &str) -> Vec<Value> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks");
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let json = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let all = json.map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap());
    let mut all: Vec<Value> = all.filter(|results: &Value| results["steering"].is_object()).collect();
    let vendor = processor.split(' ').next().unwrap_or_default();
    let is_same =
        |results: &Value| results["processor"].as_str().is_some_and(|model| model.starts_with(vendor));
    if all.iter().any(is_same) {
        all.retain(is_same);
    }
    all
}

#[test]
fn packet_takes_no_longer_than_in_known_results() {
    lab::needs_root!();
    let mut least: BTreeMap<String, f64> = BTreeMap::new();
    for attempt in 1..=ATTEMPTS {
        let json = measured("--quick --json - steering --rounds 15 --repeat 20000");
        let known = known_results(json["processor"].as_str().unwrap_or_default());
        for (case, ratio) in ratios(&json) {
            let least = least.entry(case).or_insert(f64::INFINITY);
            *least = least.min(ratio);
        }
        let mut limits: BTreeMap<String, f64> = BTreeMap::new();
        for (case, ratio) in known.iter().flat_map(ratios) {
            let limit = limits.entry(case).or_default();
            *limit = limit.max(SLOWER * ratio);
        }
        let cases = |of: &BTreeMap<String, f64>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(cases(&least), cases(&limits), "other cases than in docs/benchmarks: {REPEAT}");
        let slower: Vec<String> = least
            .iter()
            .filter(|(case, ratio)| **ratio > limits[*case])
            .map(|(case, ratio)| format!("{case}: {ratio:.2} of the reference, at most {:.2}", limits[case]))
            .collect();
        if slower.is_empty() {
            let nearest = least.iter().map(|(case, ratio)| (ratio / limits[case], case));
            let (share, case) = nearest.max_by(|(one, _), (other, _)| one.total_cmp(other)).unwrap();
            return println!("attempt {attempt}: {case} is at {:.0} % of its limit", 100.0 * share);
        }
        assert!(attempt < ATTEMPTS, "a packet takes longer than before:\n{}\n{REPEAT}", slower.join("\n"));
    }
}

const REPEAT: &str = "if this is intended, measure with `cargo xtask bench -- --json docs/benchmarks/steering-KERNEL.json steering --rounds 41 --repeat 50000` \
     on a quiet machine, then `cargo xtask bench -- page`";

/// `ipmp-bench` itself fails unless the members drop the copies that they do not accept.
#[test]
fn moderate_broadcast_storm_loses_no_wanted_packet() {
    lab::needs_root!();
    let json = &*STORM;
    for setting in ["without", "with"] {
        let lost = &json["storm"]["rates"][0][setting]["wanted_lost_percent"]["maximum"];
        assert_eq!(lost.as_f64(), Some(0.0), "{setting} the early drop: {json}");
    }
}

#[test]
fn pull_moves_no_flow_of_a_group_that_needs_not_move_and_ecmp_rescues_as_many() {
    lab::needs_root!();
    let json = measured(
        "--quick --json - peers --pulls 3 --cuts 0 --rounds 0 --fault pull --only fdt=1s --only threshold",
    );
    let contenders = json["peers"]["contenders"].as_array().unwrap();
    assert_eq!(contenders.len(), 2, "{json}");
    for contender in contenders {
        let fault = &contender["faults"][0];
        let sum = |field: &str| -> u64 {
            fault["moved"].as_array().unwrap().iter().map(|moved| moved[field].as_u64().unwrap()).sum()
        };
        let [failed, rescued, others, needlessly] = ["failed", "rescued", "others", "needlessly"].map(sum);
        println!(
            "{}: {rescued} of {failed} flows rescued, {needlessly} of {others} others moved",
            contender["name"]
        );
        assert!(failed > 0 && others > 0, "{contender}");
        assert_eq!((rescued, &fault["false_failures"]), (failed, &Value::from(0)), "{contender}");
        if contender["name"] == "ipmp fdt=1s" {
            assert_eq!(needlessly, 0, "{contender}");
        }
    }
}

#[test]
fn interrupted_bench_leaves_nothing() {
    lab::needs_root!();
    let mut child = bench("outbound").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let lab = PathBuf::from(lab::cleanup::DIRECTORY).join(format!("{}-0", child.id()));
    // Other measurements may come first.
    let timeout = 10 * PATIENCE;
    let begun =
        wait_until(timeout, || lab.join("ipmpd.sock").exists() || child.try_wait().unwrap().is_some());
    assert!(begun && child.try_wait().unwrap().is_none(), "no daemon in {} after {timeout:?}", lab.display());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(wait_until(PATIENCE, || !lab.exists()), "{} is left", lab.display());
    let left = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let left = String::from_utf8(left.stdout).unwrap();
    let mine = format!("ipmp-lab-{}-", child.id());
    assert!(!left.contains(&mine), "namespaces are left: {left}");
}
