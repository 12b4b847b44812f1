//! Reports of single probes, while a client wants them. Otherwise nothing is recorded.

use super::Group;
use crate::{
    core::{
        Time,
        probe::{
            history::{Probe, ProbeProgress},
            outcome::FinishedProbe,
        },
    },
    types::Family,
};

impl Group {
    /// Whether from now on each finished probe is reported by [`Action::ProbeOver`](crate::core::Action).
    pub fn watch_probes(&mut self, watched: bool) {
        self.probing.watched = watched;
    }

    /// The undecided probes that will be decided at `now`, while probes are watched.
    pub(super) fn watched_until(&self, now: Time) -> Vec<(u8, Family, u16)> {
        if !self.probing.watched {
            return Vec::new();
        }
        let due = |probe: &&Probe| {
            probe.deadline <= now && matches!(probe.fate, ProbeProgress::Wanted | ProbeProgress::Pending)
        };
        let families = self.members().iter().flat_map(|member| Family::ALL.map(|family| (member, family)));
        families
            .filter_map(|(member, family)| Some((member.number(), family, member.prober(family)?)))
            .flat_map(|(member, family, prober)| {
                prober.history().probes().filter(due).map(move |probe| (member, family, probe.sequence))
            })
            .collect()
    }

    /// Records a finished probe, while probes are watched.
    pub(super) fn finish_probe(&mut self, now: Time, number: u8, family: Family, sequence: u16) {
        if !self.probing.watched {
            return;
        }
        let Some(member) = self.member(number) else { return };
        let Some(prober) = member.prober(family) else { return };
        let Some(probe) = prober.history().probe(sequence) else { return };
        let Some(outcome) = probe.fate.outcome() else { return };
        let rtt = prober.targets().get(probe.target).map(|target| target.rtt).unwrap_or_default();
        let finished = FinishedProbe {
            member: member.name().to_owned(),
            family,
            sequence,
            target: probe.target,
            sent: probe.sent,
            outcome,
            rtt: probe.fate.rtt(),
            known: now,
            average: rtt.average(),
            deviation: rtt.deviation(),
        };
        self.probing.finished.push(finished);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        core::{
            Action, Input,
            group::testing::{Wire, router},
        },
        types::ProbeOutcome,
    };

    const FDT: Duration = Duration::from_secs(1);

    /// The finished probes of one member since the previous call.
    fn finished(wire: &mut Wire, member: &str) -> Vec<FinishedProbe> {
        let actions = std::mem::take(&mut wire.actions);
        let outcomes = actions.into_iter().filter_map(|action| match action {
            Action::ProbeOver(outcome) => Some(outcome),
            _ => None,
        });
        outcomes.filter(|outcome| outcome.member == member).collect()
    }

    #[test]
    fn every_probe_is_reported_once_while_watched() {
        let mut wire = Wire::with_fdt(2, FDT);
        wire.run(FDT);
        assert_eq!(finished(&mut wire, "eth0"), [], "not watched");
        wire.group.watch_probes(true);
        wire.run(FDT);
        let answered = finished(&mut wire, "eth0");
        assert_eq!(answered.len(), 5);
        assert!(answered.windows(2).all(|two| two[1].sequence == two[0].sequence + 1), "{answered:?}");
        for outcome in &answered {
            assert_eq!((outcome.outcome, outcome.rtt), (ProbeOutcome::Answered, Some(wire.rtt)));
            assert_eq!(outcome.known - outcome.sent, wire.rtt);
            assert_eq!((outcome.family, outcome.target), (Family::V4, router(1)));
            assert_eq!(outcome.average, Some(wire.rtt), "including this probe");
            assert!(outcome.deviation.is_some());
        }
        wire.silent.insert(0);
        wire.run(FDT);
        let lost = finished(&mut wire, "eth0");
        assert!((5..=7).contains(&lost.len()), "a burst, and the rounds after it: {lost:?}");
        assert!(lost.iter().all(|outcome| outcome.outcome == ProbeOutcome::Lost), "{lost:?}");
        assert!(
            lost[..5].iter().all(|outcome| outcome.average.is_some()),
            "lost probes have an average, too"
        );
        wire.group.watch_probes(false);
        wire.run(FDT);
        assert_eq!(finished(&mut wire, "eth0"), []);
    }

    #[test]
    fn late_reply_revokes_loss() {
        let mut wire = Wire::with_fdt(2, FDT);
        wire.group.watch_probes(true);
        wire.rtt = Duration::from_millis(50);
        wire.until(|wire| {
            wire.actions.iter().any(|action| matches!(action, Action::Probe { member: 0, .. }))
        });
        finished(&mut wire, "eth0");
        wire.run(Duration::from_millis(60));
        let fates: Vec<(u16, ProbeOutcome)> =
            finished(&mut wire, "eth0").iter().map(|outcome| (outcome.sequence, outcome.outcome)).collect();
        let [(first, ProbeOutcome::Lost), (second, ProbeOutcome::Answered)] = fates[..] else {
            panic!("{fates:?}")
        };
        assert_eq!(first, second);
    }

    #[test]
    fn unsent_probe_is_reported() {
        let mut wire = Wire::with_fdt(1, FDT);
        wire.group.watch_probes(true);
        let mut group = wire.group.clone();
        let deadline = group.deadline().expect("a round");
        let actions = group.handle(deadline, Input::Deadline).unwrap();
        let sequence = actions.iter().find_map(|action| match action {
            Action::Probe { sequence, .. } => Some(*sequence),
            _ => None,
        });
        let sequence = sequence.expect("a probe");
        let sent = Input::Sent { member: 0, family: Family::V4, sequence, cookie: None };
        let actions = group.handle(deadline, sent).unwrap();
        assert!(
            matches!(&actions[..], [Action::ProbeOver(outcome)] if outcome.outcome == ProbeOutcome::Unsent),
            "{actions:?}"
        );
    }
}
