//! The report and the calls against the interface definition, parsed by zlink.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use zlink::idl::{Interface, Type};

use super::{
    super::{
        DEFINITION, explanation,
        monitor::{self, EventRecord},
        path::{self, PathReport},
        probes::{self, ProbeUpdate},
        request::{LastMember, Response, samples},
        target::{Prober, TargetReport},
        timeline,
        verb::{ReplyKind, VERBS, VerbInfo},
        wire::{self, Failure, MethodCall},
    },
    *,
};
use crate::types::{
    FailedDirection, Family, GroupState, LinkState, LossEvidence, MemberState, Observer, OfflineCause,
    Origin, Passage, PathRule, Phase, ProbeMethod, ProbeObstacle, ProbeOutcome, ProbePolicy, ProbeState,
    Severity, TargetFault, TargetMode, TargetSource, TargetStatus,
};

fn definition() -> Interface<'static> {
    Interface::try_from(DEFINITION).expect("net.ipmp.Manager.varlink is Varlink")
}

/// Checks that a value is of a type, to the last field, and says where it is not.
fn check(interface: &Interface<'_>, value: &Value, ty: &Type<'_>, place: &str) -> Result<(), String> {
    let wrong = || Err(format!("{place}: {value} is no {ty:?}"));
    match (ty, value) {
        (Type::Optional(_), Value::Null) => Ok(()),
        (Type::Optional(inner), _) => check(interface, value, inner, place),
        (Type::Bool, Value::Bool(_)) | (Type::String, Value::String(_)) => Ok(()),
        (Type::Int, Value::Number(number)) if number.is_i64() => Ok(()),
        (Type::Float, Value::Number(number)) if number.is_f64() => Ok(()),
        (Type::Array(inner), Value::Array(values)) => {
            values.iter().try_for_each(|value| check(interface, value, inner, &format!("{place}[]")))
        }
        (Type::Enum(variants), Value::String(word)) => {
            if variants.iter().any(|variant| variant.name() == word.as_str()) { Ok(()) } else { wrong() }
        }
        (Type::ForeignObject, Value::Object(_)) => Ok(()),
        (Type::Custom(name), Value::Object(_)) => {
            let object = interface
                .custom_types()
                .find(|ty| ty.name() == name)
                .and_then(|ty| ty.as_object())
                .ok_or_else(|| format!("{place}: no type {name}"))?;
            let fields = object.fields().map(|field| (field.name().to_string(), field.ty().clone()));
            check_fields(interface, value, fields, place)
        }
        _ => wrong(),
    }
}

fn check_fields<'a>(
    interface: &Interface<'_>,
    value: &Value,
    fields: impl Iterator<Item = (String, Type<'a>)>,
    place: &str,
) -> Result<(), String> {
    let object = value.as_object().ok_or_else(|| format!("{place}: {value} is no object"))?;
    let fields: BTreeMap<String, Type<'_>> = fields.collect();
    let documented: BTreeSet<&String> = fields.keys().collect();
    let there: BTreeSet<&String> = object.keys().collect();
    if documented != there {
        return Err(format!("{place}: documented are {documented:?}, there are {there:?}"));
    }
    fields.iter().try_for_each(|(name, ty)| check(interface, &object[name], ty, &format!("{place}.{name}")))
}

fn check_reply(method: &str, reply: &Value) -> Result<(), String> {
    let interface = definition();
    let method = interface.methods().find(|m| m.name() == method).expect("a documented method");
    let outputs = method.outputs().map(|field| (field.name().to_string(), field.ty().clone()));
    check_fields(&interface, reply, outputs, method.name())
}

fn said(response: Response) -> Value {
    serde_json::to_value(wire::ReplyParameters::from(response)).unwrap()
}

#[test]
fn the_report_is_what_the_definition_says() {
    check_reply("Show", &said(Response::Show(vec![sample()]))).unwrap();
    let explained = explanation::sample();
    let mut probed = GroupReport { members: vec![explained.member.clone()], ..sample() };
    probed.detection.raised = Some(probing::Raised {
        member: "e1000g0".into(),
        target: [192, 168, 178, 1].into(),
        took_us: 2_400_000,
        ago_ms: 5000,
    });
    probed.detection.loss_fail_percent = Some(5.0);
    probed.detection.targets = vec![[192, 168, 178, 1].into()];
    probed.detection.unreachable_families = vec![Family::V4, Family::V6];
    probed.detection.split = vec![probing::SplitTarget {
        target: [192, 168, 178, 1].into(),
        reached_by: vec!["e1000g0".into()],
        not_reached_by: vec!["rge0".into()],
    }];
    check_reply("Show", &said(Response::Show(vec![probed]))).unwrap();
    check_reply("Explain", &said(Response::Explained(Box::new(explained)))).unwrap();
    let prober = |rtt_us| Prober { member: "eth0".into(), status: TargetStatus::Active, rtt_us };
    let target = TargetReport {
        address: [10, 0, 0, 1].into(),
        source: TargetSource::HostRoute,
        enabled: true,
        answered: false,
        members: vec![prober(None), prober(Some(417))],
    };
    check_reply("ListTargets", &said(Response::Targets(vec![target]))).unwrap();
    for packet_rule in [path::sample(), PathReport { slot: None, member: None, ..path::sample() }] {
        check_reply("Path", &said(Response::Path(packet_rule))).unwrap();
    }
    check_reply("Timeline", &said(Response::Timeline(vec![timeline::sample()]))).unwrap();
    check_reply("Simulate", &said(Response::Simulated(path::sample_simulation()))).unwrap();
    check_reply("Create", &said(Response::done(vec!["a note".into()]))).unwrap();
}

#[test]
fn an_event_is_what_the_definition_says() {
    let reply = |event: &EventRecord| -> Value {
        let bytes = wire::event(event, false);
        let mut reply: Value = serde_json::from_slice(bytes.strip_suffix(&[0]).unwrap()).unwrap();
        assert_eq!(reply["continues"], json!(true));
        reply["parameters"].take()
    };
    check_reply("Monitor", &reply(&monitor::sample())).unwrap();
    let bare = EventRecord::new(1, "joined", Severity::Info, "IP interface eth0 has joined".into());
    check_reply("Monitor", &reply(&bare)).unwrap();
    let last = wire::event(&bare, true);
    assert!(!String::from_utf8(last).unwrap().contains("continues"));
}

#[test]
fn probe_matches_the_definition() {
    let reply = |update: &ProbeUpdate, is_last| -> Value {
        let bytes = wire::probe(update, is_last);
        let mut reply: Value = serde_json::from_slice(bytes.strip_suffix(&[0]).unwrap()).unwrap();
        assert_eq!(reply.get("continues"), (!is_last).then_some(&json!(true)));
        reply["parameters"].take()
    };
    let probe = ProbeUpdate { probe: Some(probes::sample()), lost: None };
    for update in [&probe, &ProbeUpdate { probe: None, lost: Some(7) }] {
        check_reply("Probes", &reply(update, false)).unwrap();
    }
    check_reply("Probes", &reply(&ProbeUpdate::default(), true)).unwrap();
}

#[test]
fn check_reports_deviations() {
    let mut reply = said(Response::Show(vec![sample()]));
    reply["groups"][0]["members"][1]["link"] = json!("sideways");
    assert!(
        check_reply("Show", &reply).unwrap_err().starts_with("Show.groups[].members[].link: \"sideways\"")
    );
    let mut reply = said(Response::Show(vec![sample()]));
    reply["groups"][0]["drops"]["eaten"] = json!(1);
    assert!(check_reply("Show", &reply).unwrap_err().starts_with("Show.groups[].drops: documented are"));
}

#[test]
fn words_of_the_definition_match_the_types() {
    let words = |ty: &Type<'_>| match ty {
        Type::Enum(variants) => variants.iter().map(|v| v.name().to_string()).collect::<Vec<_>>(),
        Type::Optional(inner) => match inner.inner() {
            Type::Enum(variants) => variants.iter().map(|v| v.name().to_string()).collect(),
            other => panic!("{other:?} has no words"),
        },
        other => panic!("{other:?} has no words"),
    };
    let interface = definition();
    let field = |object: &str, field: &str| {
        let ty = interface.custom_types().find(|ty| ty.name() == object).unwrap().as_object().unwrap();
        words(ty.fields().find(|f| f.name() == field).unwrap().ty())
    };
    fn words_of<T: Serialize>(values: &[T]) -> Vec<String> {
        values.iter().map(|v| serde_json::to_value(v).unwrap().as_str().unwrap().to_owned()).collect()
    }
    assert_eq!(field("Member", "link"), words_of(&LinkState::ALL));
    assert_eq!(field("Member", "state"), words_of(&MemberState::ALL));
    assert_eq!(field("Member", "probe"), words_of(&ProbeState::ALL));
    assert_eq!(field("Member", "offline"), words_of(&OfflineCause::ALL));
    assert_eq!(field("Group", "state"), words_of(&GroupState::ALL));
    assert_eq!(field("Degraded", "of"), words_of(&LossEvidence::ALL));
    assert_eq!(field("Event", "severity"), words_of(&Severity::ALL));
    assert_eq!(field("Target", "source"), words_of(&TargetSource::ALL));
    assert_eq!(field("Prober", "status"), words_of(&TargetStatus::ALL));
    assert_eq!(field("Event", "seen_by"), words_of(&Observer::ALL));
    let families = words_of(&Family::ALL);
    for object in ["Probing", "Event", "FinishedProbe", "Recent"] {
        assert_eq!(field(object, "family"), families, "{object}");
    }
    assert_eq!(field("Probing", "method"), words_of(&ProbeMethod::ALL));
    assert_eq!(field("Probing", "obstacle"), words_of(&ProbeObstacle::ALL));
    assert_eq!(field("Probing", "mode"), words_of(&TargetMode::ALL));
    assert_eq!(field("ProbedTarget", "excluded"), words_of(&TargetFault::ALL));
    assert_eq!(field("DirectionFailure", "direction"), words_of(&FailedDirection::ALL));
    assert_eq!(field("Detection", "probe"), words_of(&ProbePolicy::ALL));
    assert_eq!(field("FinishedProbe", "outcome"), words_of(&ProbeOutcome::ALL));
    for object in ["Group", "SelectedPath", "Simulation"] {
        assert_eq!(field(object, "hash"), words_of(&HashPolicy::ALL), "{object}");
    }
    assert_eq!(field("Transition", "passage"), words_of(&Passage::ALL));
    assert_eq!(field("Stamp", "phase"), words_of(&Phase::ALL));
    assert_eq!(field("SelectedPath", "rule"), words_of(&PathRule::ALL));
    assert_eq!(field("Simulation", "state"), words_of(&GroupState::ALL));
    assert_eq!(field("Capture", "mode"), words_of(&CaptureMode::ALL));
    for object in ["ConfiguredAddress", "ConfiguredRoute", "Configuration"] {
        assert_eq!(field(object, "origin"), words_of(&Origin::ALL), "{object}");
    }
    let detach = interface.methods().find(|m| m.name() == "Detach").unwrap();
    let last = detach.inputs().find(|p| p.name() == "last").unwrap();
    let all = [LastMember::Restore, LastMember::KeepGroup, LastMember::Force, LastMember::MoveBack];
    assert_eq!(words(last.ty()), words_of(&all));
}

#[test]
fn verb_table_and_errors_match_the_definition() {
    let interface = definition();
    let mut called = BTreeSet::new();
    for request in samples() {
        let call = MethodCall::new(&request);
        let name = call.method.strip_prefix("net.ipmp.Manager.").unwrap().to_owned();
        let method =
            interface.methods().find(|m| m.name() == name.as_str()).unwrap_or_else(|| panic!("{name}"));
        let inputs = method.inputs().map(|field| (field.name().to_string(), field.ty().clone()));
        check_fields(&interface, &Value::Object(call.parameters.unwrap()), inputs, &name).unwrap();
        called.insert(name);
    }
    assert_eq!(called, interface.methods().map(|m| m.name().to_string()).collect());
    assert_eq!(called, VERBS.iter().map(|verb| verb.method.to_owned()).collect());
    for VerbInfo { method, reply, .. } in VERBS {
        let outputs = interface.methods().find(|m| m.name() == *method).unwrap();
        let outputs: Vec<String> = outputs.outputs().map(|field| field.name().to_string()).collect();
        let expected: &[&str] = match reply {
            ReplyKind::Notes => &["notes", "changed"],
            ReplyKind::Groups => &["version", "groups"],
            ReplyKind::Targets => &["version", "targets"],
            ReplyKind::Explanation => &["version", "explanation"],
            ReplyKind::State => &["state"],
            ReplyKind::Path => &["version", "path"],
            ReplyKind::Transitions => &["version", "transitions"],
            ReplyKind::Simulation => &["version", "simulation"],
            ReplyKind::Events => &["version", "event"],
            ReplyKind::Probes => &["version", "probe", "lost"],
        };
        assert_eq!(outputs, expected, "{method}");
    }

    let mut failed = BTreeSet::new();
    for failure in [
        Failure::Refused { reason: "r".into(), message: "m".into() },
        Failure::NotPermitted { message: "m".into() },
    ] {
        let value = serde_json::to_value(failure).unwrap();
        let name = value["error"].as_str().unwrap().strip_prefix("net.ipmp.Manager.").unwrap().to_owned();
        let error =
            interface.errors().find(|e| e.name() == name.as_str()).unwrap_or_else(|| panic!("{name}"));
        let fields = error.fields().map(|field| (field.name().to_string(), field.ty().clone()));
        check_fields(&interface, &value["parameters"], fields, &name).unwrap();
        failed.insert(name);
    }
    assert_eq!(failed, interface.errors().map(|e| e.name().to_string()).collect());
}

#[test]
fn the_definition_of_the_standard_interface_parses() {
    let interface = Interface::try_from(wire::SERVICE_DEFINITION).unwrap();
    assert_eq!(interface.name(), "org.varlink.service");
}

#[test]
fn a_report_survives_the_wire() {
    let text = serde_json::to_string(&sample()).unwrap();
    assert_eq!(serde_json::from_str::<GroupReport>(&text).unwrap(), sample());
    // A later daemon may say more.
    let mut more = serde_json::to_value(sample()).unwrap();
    more["something_new"] = json!("10s");
    assert_eq!(serde_json::from_value::<GroupReport>(more).unwrap(), sample());
}
