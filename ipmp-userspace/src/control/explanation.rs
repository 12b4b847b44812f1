//! The reply to `Explain`, field by field as `net.ipmp.Manager.varlink` documents it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{monitor::EventRecord, report::MemberReport};
use crate::types::Family;

/// Why a member is in its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Its group.
    pub group: String,
    /// What `Show` reports of it.
    pub member: MemberReport,
    /// State and cause, in a sentence.
    pub summary: String,
    /// Reasons, a sentence each, the most important first.
    pub reasons: Vec<String>,
    /// Its last probes, target by target.
    pub recent: Vec<Recent>,
    /// Pending timers, the next first.
    pub timers: Vec<Timer>,
    /// Events of the member or the group, oldest first.
    pub events: Vec<EventRecord>,
}

/// The last probes of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// The family.
    pub family: Family,
    /// The target.
    pub target: IpAddr,
    /// A character each, oldest first: `!` answered, `.` lost, `?` discarded, `-` not sent, `~` pending.
    pub outcomes: String,
}

/// A pending timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// What, one of [`due`].
    pub what: String,
    /// The family or the target.
    pub of: Option<String>,
    /// Milliseconds from now.
    pub in_ms: u64,
}

/// The words of [`Timer::what`]. Later versions may add values.
pub mod due {
    /// The next probe of a family is sent.
    pub const PROBE: &str = "next-probe";
    /// Flap protection ends.
    pub const HOLD_DOWN: &str = "hold-down-over";
    /// Lost probes count against the member from then on, even without any reply before.
    pub const SETTLED: &str = "losses-count";
    /// The failure detection time may be lowered again.
    pub const FDT: &str = "fdt-may-fall";
    /// An excluded target may be probed again.
    pub const TARGET: &str = "target-again";
    /// The link will have been good for long enough.
    pub const LINK: &str = "link-trusted";
}

/// An explanation with every field filled.
#[cfg(test)]
pub(crate) fn sample() -> Explanation {
    use super::report::{
        self,
        probing::{Counters, Passed, ProbedTarget, Probing},
    };

    use crate::types::{
        FailedDirection, LossEvidence, MemberState, ProbeMethod, ProbeState, Severity, TargetFault,
        TargetMode,
    };

    let target = |last: u8| IpAddr::from([192, 168, 178, last]);
    let probing = Probing {
        family: Family::V4,
        method: Some(ProbeMethod::Echo),
        obstacle: None,
        test_address: Some(target(201)),
        prefix: Some(24),
        mode: TargetMode::Routes,
        failed: true,
        losses: 0,
        replies: 3,
        targets: vec![
            ProbedTarget {
                address: target(1),
                excluded: None,
                retry_ms: None,
                average_us: Some(312),
                deviation_us: Some(40),
                losses: 0,
                replies: 3,
            },
            ProbedTarget {
                address: target(2),
                excluded: Some(TargetFault::Unresponsive),
                retry_ms: Some(41_000),
                average_us: None,
                deviation_us: None,
                losses: 4,
                replies: 0,
            },
        ],
        inactive_targets: 0,
        passed: Some(Passed { bytes: 1500, target: target(1), ago_ms: 3000 }),
        counters: Counters {
            sent: 15,
            answered: 6,
            lost: 9,
            discarded: 1,
            unsent: 2,
            missed: 3,
            unexpected: 4,
            duplicate: 5,
        },
    };
    let first = report::sample().members.remove(0);
    let recent =
        |last, outcomes: &str| Recent { family: Family::V4, target: target(last), outcomes: outcomes.into() };
    let timer = |what: &str, of: &str, in_ms| Timer { what: what.into(), of: Some(of.into()), in_ms };
    let failed = EventRecord {
        time: "2010-01-08T20:01:06.042Z".into(),
        monotonic_ns: 15_113_000_000_042,
        group: Some("production0".into()),
        member: Some("e1000g0".into()),
        cause: "probes-lost".into(),
        because: "probes of e1000g0 were lost one after another".into(),
        ..EventRecord::new(
            7,
            "failed",
            Severity::Warning,
            "IP interface failure detected on e1000g0 of group production0".into(),
        )
    };
    Explanation {
        group: "production0".into(),
        member: MemberReport {
            state: MemberState::Failed,
            probe: ProbeState::Failed,
            active: false,
            mtu_hole: Some(report::MtuHole { target: target(1), passes: 1400, elsewhere: 1500 }),
            failed_direction: Some(report::DirectionFailure {
                direction: FailedDirection::Receive,
                peer: "rge0".into(),
                ago_ms: 1200,
            }),
            degraded: Some(report::Degraded {
                of: LossEvidence::Probes,
                minutes: 10,
                percent: 30.2,
                others_percent: 0.5,
                avoided: true,
            }),
            exchanged: Some(report::Exchanged { bytes: 1500, ago_ms: 3000 }),
            loss: vec![report::Loss {
                minutes: 1,
                probes: 26,
                lost: 8,
                least_percent: 8.7,
                most_percent: 65.6,
            }],
            probing: vec![probing],
            ..first
        },
        summary: "e1000g0 has failed: its link is up, and its probes have 3 of 10 answers in a row (inet)"
            .into(),
        reasons: vec![
            "It is not active: its probes have failed, and others work.".into(),
            "Link: up; up in the datapath.".into(),
        ],
        recent: vec![recent(1, "!!......!!!"), recent(2, "!....")],
        timers: vec![timer(due::PROBE, "inet", 1200), timer(due::TARGET, "192.168.178.2", 41_000)],
        events: vec![failed],
    }
}
