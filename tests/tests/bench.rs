//! `ipmp-bench`: its JSON is what its help says, and it leaves nothing, also when it is interrupted.

lab::lane!(alone, no_clsact = "only the output of ipmp-bench is tested");

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use lab::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

fn bench(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipmp-bench"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command
}

/// Runs it, and gives what it printed as JSON.
fn measured(arguments: &str) -> Value {
    let output = bench(arguments).output().unwrap();
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
        ("throughput", "--rounds 1"),
        ("idle", "--groups 1 --seconds 1"),
        ("detection", "--cuts 1"),
        ("probing", "--groups 1 --seconds 1"),
        ("early-drop", "--rounds 1 --frames 100"),
        ("echo", "--requests 10"),
        ("peers", "--pulls 1 --rounds 1 --fault pull --only fdt=1s"),
    ]
    .map(|(only, least)| (only, measured(&format!("--quick --json - {only} {least}"))));
    let once = [("steering", STEERING.clone()), ("storm", STORM.clone())];
    for (only, json) in once.into_iter().chain(rest) {
        assert!(json[only.replace('-', "_")].is_object(), "{json}");
        assert_eq!(json["quick"], true);
        names(&json, &mut fields);
    }
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
