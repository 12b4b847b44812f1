//! Probe statistics, logged on SIGUSR1 with the texts of docs/reference.md 3.10.

use super::group::RunningGroup;
use crate::{
    core::{
        Group,
        probe::{
            history::ProbeProgress,
            prober::{Counters, Prober},
        },
    },
    types::Family,
};

/// Logs the statistics of all probes.
pub fn log<'a>(groups: impl Iterator<Item = &'a RunningGroup>) {
    let groups: Vec<&Group> = groups.map(|group| &group.core).collect();
    for line in lines(&groups) {
        log::info!("{line}");
    }
}

/// The statistics, a line each.
fn lines(groups: &[&Group]) -> Vec<String> {
    let members = || groups.iter().flat_map(|group| group.members());
    let probers: Vec<(&str, Family, &Prober)> = members()
        .flat_map(|member| {
            let of = move |family| member.prober(family).map(|prober| (member.name(), family, prober));
            Family::ALL.into_iter().filter_map(of)
        })
        .collect();
    let sum = |what: fn(Counters) -> u64| -> u64 {
        probers.iter().map(|(.., prober)| what(prober.counters())).sum()
    };
    let mut lines = vec![format!(
        "Missed sending total of {} probes spread over {} occurrences",
        sum(|counters| counters.missed),
        sum(|counters| counters.occasions)
    )];
    for (member, family, prober) in probers {
        let counters = prober.counters();
        let pending = prober.history().probes().filter(|probe| probe.fate == ProbeProgress::Pending).count();
        lines.extend([
            format!("Probe stats on ({family} {member})"),
            format!("Number of probes sent {}", counters.sent),
            format!("Number of probe acks received {}", counters.answered),
            format!("Number of probes/acks lost {}", counters.lost),
            format!("Number of valid unacknowledged probes {pending}"),
            format!("Number of ambiguous probe acks received {}", counters.forged + counters.duplicate),
        ]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        core::{
            Action, Attachment, Input, Settings, Time,
            probe::{Proof, TestAddress},
        },
        types::LinkState,
    };

    /// Three probes: the first is answered twice, the second lost, the third on its way. Then the daemon is delayed.
    #[test]
    fn statistics_count_every_probe_once() {
        let mut group =
            Group::new("production0", Settings { fdt: Duration::from_millis(500), ..Settings::default() });
        let (member, family) = (0, Family::V4);
        let (source, target) = ([192, 168, 178, 201].into(), [192, 168, 178, 1].into());
        let attachment = Attachment {
            member,
            name: "rge0".into(),
            mac: [2; 6],
            mtu: 1500,
            weight: 1,
            link: LinkState::Up,
        };
        let start = Time(Duration::from_secs(100));
        for event in [
            Input::Joined(attachment),
            Input::Live([member].into_iter().collect()),
            Input::TestAddress { member, family, address: TestAddress::Is { address: source, prefix: 24 } },
            Input::Targets(vec![target]),
        ] {
            group.handle(start, event).unwrap();
        }
        for cookie in 1..=3 {
            let now = group.deadline().unwrap();
            let actions = group.handle(now, Input::Deadline).unwrap();
            let sequence = actions.iter().find_map(|action| match action {
                Action::Probe { sequence, .. } => Some(*sequence),
                _ => None,
            });
            // A deadline may be that of the probe before alone.
            let Some(sequence) = sequence else { panic!("no probe at {now:?}: {actions:?}") };
            group.handle(now, Input::Sent { member, family, sequence, cookie: Some(cookie) }).unwrap();
            for _ in 0..2 * u32::from(cookie == 1) {
                let (proof, at) = (Proof::Echo { sequence, cookie }, now + Duration::from_millis(1));
                group.handle(at, Input::Answer { member, target, proof, at }).unwrap();
            }
            if cookie == 2 {
                let lost = group.deadline().unwrap();
                group.handle(lost, Input::Deadline).unwrap();
            }
        }
        assert_eq!(
            lines(&[&group]),
            [
                "Missed sending total of 0 probes spread over 0 occurrences",
                "Probe stats on (inet rge0)",
                "Number of probes sent 3",
                "Number of probe acks received 1",
                "Number of probes/acks lost 1",
                "Number of valid unacknowledged probes 1",
                "Number of ambiguous probe acks received 1",
            ]
        );
        group.handle(start + Duration::from_secs(60), Input::Deadline).unwrap();
        let missed = lines(&[&group]).remove(0);
        assert!(
            missed.starts_with("Missed sending total of 5") && missed.ends_with(" over 1 occurrences"),
            "{missed}"
        );
    }
}
