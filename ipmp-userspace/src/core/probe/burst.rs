//! The confirmation burst: probes that follow the first lost one at once, and control probes through a healthy member.
//!
//! Five losses are a failure. At the usual interval that takes the failure detection time; a burst takes [`CONFIRM`], and
//! only after a loss, so it costs nothing while probes are answered. [Evidence](super::evidence) starts one without a lost probe:
//! it then sends all five, the first one at once, and ends with the first reply.
//!
//! ```text
//!   the member       1 ✗          2 ✗   3 ✗      4 ✗        5 ✗         failed: silent for CONFIRM at least
//!   control member         ✓  ✓             ✓           ✓        ✓      the target replies: at least ANSWERED of CONTROLS
//! ```
//!
//! | result | when | effect |
//! |---|---|---|
//! | confirmed | all probes are lost, and the target has replied to the control member | the member has failed |
//! | answered | a probe is answered, also late | none: the row of losses ends |
//! | discarded | too few control probes are answered, on any control member | its probes do not count, and the first loss is disputed: it shows that the target is silent, and nothing about the member |
//! | void | the daemon was delayed, or a probe could not be sent | its probes do not count; the first loss counts as ever |
//!
//! A control member that loses a control probe may have failed by the same event: another one continues, if there is one.
//!
//! Probes and control probes are in random order and at random times, and no long row has probes or control probes only:
//! whatever limits or interrupts replies hits both. A control probe is the last packet, and must be answered: targets that
//! stop to reply, and do so again, would otherwise have to be silent only at the end.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use super::{
    FAILURES,
    evidence::Witness,
    history::{History, ProbeProgress},
};
use crate::core::Time;

/// From the first lost probe to the last probe of the burst, at least: outages that are shorter fail no member.
pub const CONFIRM: Duration = Duration::from_millis(400);
/// From the first probe of a burst that evidence started to its last one, at least, while a single connection shows it. Its segment may
/// have been lost for another reason before an outage: only probes show how long that lasts, and common ones take 300 ms.
pub const EVIDENCED: Duration = Duration::from_millis(320);
/// Between two packets of a burst, at least.
pub const SPACING: Duration = Duration::from_millis(20);
/// Control probes of a burst.
pub const CONTROLS: usize = 5;
/// Control probes that must be answered.
pub const ANSWERED: usize = 4;
/// Probes of a burst, without the lost one that started it.
const PROBES: usize = FAILURES as usize - 1;
/// Control probes without a probe between them, and probes without a control probe, at most.
const IN_A_ROW: usize = 2;
/// How many random orders are tried.
const SHUFFLES: u32 = 16;
/// From the first lost probe to the last packet of the burst.
pub const LENGTH: Duration = CONFIRM.saturating_add(SPACING);
/// Least failure detection time with bursts, five quarters of [`LENGTH`]: below it five probes at the usual interval take no longer.
pub const SHORTEST: Duration = Duration::from_millis(525);

/// A packet of a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Planned {
    at: Time,
    is_control: bool,
}

/// A burst of a member in a family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Burst {
    /// The lost probe that started it; `None`: evidence did.
    first: Option<u16>,
    /// The evidence that started it.
    evidence: Option<Evidence>,
    /// When its last probe is due, at the earliest.
    end: Time,
    /// The target of its first probe.
    target: IpAddr,
    /// Members through which the control probes were sent; the last one is in use.
    control_members: Vec<u8>,
    planned: VecDeque<Planned>,
    /// Its probes so far.
    probes: Vec<u16>,
    /// The control probes so far, of the control member in use.
    controls: Vec<u16>,
}

/// Evidence that started a burst, and what agreed with it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Evidence {
    witness: Witness,
    /// Since when packets did not arrive, by the latest of all.
    since: Time,
    /// Another witness agrees.
    is_corroborated: bool,
}

/// Result of a burst so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It continues.
    Running,
    /// The control member has lost a control probe.
    InDoubt,
    /// A probe was answered.
    Answered,
    /// The member has failed.
    Confirmed,
    /// Too few control probes were answered.
    Discarded,
    /// It shows nothing.
    Void,
}

impl Burst {
    /// A burst that follows this lost probe, with a control member. `random` draws numbers.
    pub(in crate::core) fn new(
        now: Time,
        (first, target, since): (u16, IpAddr, Time),
        control_member: u8,
        random: impl FnMut() -> u64,
    ) -> Self {
        Self { first: Some(first), ..Self::until(now, since + CONFIRM, target, control_member, random) }
    }

    /// A burst by evidence: packets of other programs that were sent at `since` or later did not arrive.
    pub(in crate::core) fn on_evidence(
        now: Time,
        (target, since, witness): (IpAddr, Time, Witness),
        control_member: u8,
        random: impl FnMut() -> u64,
    ) -> Self {
        let evidence = Some(Evidence { witness, since, is_corroborated: false });
        let end = (since + CONFIRM).max(now + EVIDENCED);
        let mut burst = Self { evidence, ..Self::until(now, end, target, control_member, random) };
        burst.planned.push_front(Planned { at: now, is_control: false });
        burst
    }

    /// A burst whose last probe is due at `end`.
    fn until(now: Time, end: Time, target: IpAddr, control_member: u8, random: impl FnMut() -> u64) -> Self {
        Self {
            first: None,
            evidence: None,
            end,
            target,
            control_members: vec![control_member],
            planned: plan(now, end, (PROBES, CONTROLS), random),
            probes: Vec::new(),
            controls: Vec::new(),
        }
    }

    /// More evidence. That two witnesses lose something for other reasons just before an outage is improbable: the path has failed at
    /// that time, and [`CONFIRM`] after it is enough.
    pub(in crate::core) fn corroborate(
        &mut self,
        now: Time,
        (since, witness): (Time, Witness),
        random: impl FnMut() -> u64,
    ) {
        let Some(evidence) = self.evidence.as_mut().filter(|evidence| evidence.witness != witness) else {
            return;
        };
        evidence.since = evidence.since.max(since);
        let (end, is_first) = (evidence.since + CONFIRM, !evidence.is_corroborated);
        evidence.is_corroborated = true;
        let controls = self.planned.iter().filter(|planned| planned.is_control).count();
        let probes = self.planned.len() - controls;
        if probes == 0 {
            return;
        }
        let last = self.planned.len().saturating_sub(2);
        if is_first && end < self.end {
            self.planned = plan(now, end, (probes, controls), random);
        } else if self.planned.get(last).is_some_and(|last| end > last.at) {
            // What is planned before stays as it is: new evidence must not put off all packets again and again.
            for (planned, at) in self.planned.range_mut(last..).zip([end, end + SPACING]) {
                planned.at = at;
            }
        } else {
            return;
        }
        self.end = end;
    }

    /// The control probes continue through another member.
    pub(in crate::core) fn change_control_member(
        &mut self,
        now: Time,
        control_member: u8,
        random: impl FnMut() -> u64,
    ) {
        let left = self.planned.iter().filter(|planned| !planned.is_control).count();
        self.controls.clear();
        self.control_members.push(control_member);
        // One probe at least follows a control probe.
        self.planned = plan(now, self.end, (left.max(2), CONTROLS), random);
    }

    /// Everything that its future depends on.
    #[cfg(test)]
    pub fn state(&self, now: Time, own: &History, control: Option<&History>) -> String {
        let fates = |history: &History, sequences: &[u16]| {
            let probes = sequences.iter().filter_map(|sequence| history.probe(*sequence));
            probes.map(|probe| (probe.fate, probe.deadline - now)).collect::<Vec<_>>()
        };
        let planned: Vec<_> =
            self.planned.iter().map(|planned| (planned.at - now, planned.is_control)).collect();
        let controls = control.map(|control| fates(control, &self.controls));
        let evidence = self.evidence.map(|evidence| (now - evidence.since, evidence.is_corroborated));
        format!(
            "{planned:?} {:?} {:?} {controls:?} {evidence:?}",
            self.control_members,
            fates(own, &self.probes)
        )
    }

    /// The lost probe that started it; `None`: evidence did.
    pub fn first(&self) -> Option<u16> {
        self.first
    }

    /// The target of its first probe.
    pub fn target(&self) -> IpAddr {
        self.target
    }

    /// The member through which control probes are sent.
    pub fn control_member(&self) -> u8 {
        self.control_members.last().copied().unwrap_or_default()
    }

    /// Whether control probes were sent through a member.
    pub fn has_tried(&self, member: u8) -> bool {
        self.control_members.contains(&member)
    }

    /// The probes of the member so far, without the first.
    pub fn probes(&self) -> &[u16] {
        &self.probes
    }

    /// When the next packet is due.
    pub fn due(&self) -> Option<Time> {
        self.planned.front().map(|planned| planned.at)
    }

    /// Whether a packet is due, and whether that is a control probe: how many of its kind were sent before. If the caller
    /// is late, the others are later, too: they never bunch.
    pub(in crate::core) fn next(&mut self, now: Time) -> Option<(bool, usize)> {
        let due = self.planned.pop_front_if(|planned| planned.at <= now)?;
        let late = now - due.at;
        self.planned.iter_mut().for_each(|planned| planned.at = planned.at + late);
        let sent = if due.is_control { &self.controls } else { &self.probes };
        Some((due.is_control, sent.len()))
    }

    /// A packet was requested.
    pub(in crate::core) fn requested(&mut self, is_control: bool, sequence: u16) {
        if is_control { self.controls.push(sequence) } else { self.probes.push(sequence) }
    }

    /// The result so far, from the histories of the member and of the control member.
    pub fn progress(&self, own: &History, control: Option<&History>) -> Progress {
        use ProbeProgress as P;
        let fates = |history: &History, sequences: &[u16]| -> Vec<Option<ProbeProgress>> {
            sequences.iter().map(|sequence| history.probe(*sequence).map(|probe| probe.fate)).collect()
        };
        let mut probes = fates(own, &self.probes);
        probes.extend(fates(own, self.first.as_slice()));
        let count = |fates: &[Option<P>], is: fn(&P) -> bool| {
            fates.iter().filter(|fate| fate.as_ref().is_some_and(is)).count()
        };
        let is_answered = |fate: &P| matches!(fate, P::Answered(_));
        if count(&probes, is_answered) > 0 {
            return Progress::Answered;
        }
        // The target answers control requests, and drops echo requests.
        if count(&probes, |fate| *fate == P::Doubtful) > 0 {
            return Progress::Discarded;
        }
        let Some(control) = control else { return Progress::Void };
        let controls = fates(control, &self.controls);
        let (answered, lost) = (count(&controls, is_answered), count(&controls, |fate| *fate == P::Lost));
        if lost > CONTROLS - ANSWERED {
            return Progress::Discarded;
        }
        let is_undecided = |fate: &P| matches!(fate, P::Wanted | P::Pending);
        let is_running =
            !self.planned.is_empty() || count(&probes, is_undecided) + count(&controls, is_undecided) > 0;
        if is_running {
            return if lost > 0 { Progress::InDoubt } else { Progress::Running };
        }
        if count(&probes, |fate| *fate == P::Lost) < probes.len() || answered < ANSWERED {
            return Progress::Void;
        }
        let is_last_answered = controls.last().is_some_and(|fate| fate.as_ref().is_some_and(is_answered));
        if is_last_answered { Progress::Confirmed } else { Progress::Discarded }
    }
}

/// A random order of probes and control probes (true), with at most [`IN_A_ROW`] of a kind in a row: if targets reply for a
/// moment that is long enough for three control probes, a probe is among them, and the other way round.
fn order(probes: usize, controls: usize, mut random: impl FnMut() -> u64) -> Vec<bool> {
    let total = probes + controls;
    let mut kinds: Vec<bool> = (0..total).map(|place| place < controls).collect();
    for _ in 0..SHUFFLES {
        for place in (1..total).rev() {
            kinds.swap(place, (random() % (place as u64 + 1)) as usize);
        }
        if kinds.chunk_by(PartialEq::eq).all(|row| row.len() <= IN_A_ROW) {
            return kinds;
        }
    }
    // Evenly.
    let mut kinds = vec![true; total];
    (1..=probes).for_each(|probe| kinds[probe * total / (probes + 1)] = false);
    kinds
}

/// When to send so many probes and control probes: in random order, with a jitter of a quarter of their distance, at least
/// [`SPACING`] apart. The last probe is at `end` at the earliest; a control probe follows it.
fn plan(
    now: Time,
    end: Time,
    (probes, controls): (usize, usize),
    mut random: impl FnMut() -> u64,
) -> VecDeque<Planned> {
    // Without the last control probe.
    let total = probes + controls - 1;
    let end = end.max(now + SPACING * total as u32);
    let distance = (end - now) / total as u32;
    let jitter = (distance / 4).min((distance - SPACING) / 2);
    let kinds = order(probes - 1, controls - 1, &mut random);
    let mut planned: VecDeque<Planned> = kinds
        .into_iter()
        .zip(1..)
        .map(|(is_control, place)| {
            let moved = 2 * jitter * (random() % 257) as u32 / 256;
            let at = Time((now + distance * place + moved) - Time(jitter));
            Planned { at, is_control }
        })
        .collect();
    planned.push_back(Planned { at: end, is_control: false });
    planned.push_back(Planned { at: end + SPACING, is_control: true });
    planned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(1_000_000 + ms))
    }

    proptest! {
        #[test]
        fn packets_are_apart_and_last_probe_is_after_the_confirmation_time_and_before_a_control_probe(
            known in 2..3000u64, probes in 1..5usize, mut seed in any::<u64>(),
        ) {
            let random = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed >> 33
            };
            let planned = plan(at(known), at(0) + CONFIRM, (probes, CONTROLS), random);
            prop_assert_eq!(planned.len(), probes + CONTROLS);
            prop_assert_eq!(planned.iter().filter(|planned| planned.is_control).count(), CONTROLS);
            let times: Vec<Time> = std::iter::once(at(known)).chain(planned.iter().map(|planned| planned.at)).collect();
            for two in times.windows(2) {
                prop_assert!(two[1] - two[0] + Duration::from_micros(1) >= SPACING, "{:?}", planned);
            }
            let [.., probe, control] = planned.as_slices().0 else { panic!("{planned:?}") };
            prop_assert!(control.is_control && !probe.is_control && probe.at >= at(0) + CONFIRM);
            prop_assert!(control.at <= (at(0) + CONFIRM).max(at(known) + 8 * SPACING) + SPACING);
            let kinds: Vec<bool> = planned.iter().map(|planned| planned.is_control).collect();
            let in_a_row = kinds[..kinds.len() - 2].chunk_by(PartialEq::eq).map(<[bool]>::len).max();
            prop_assert!(probes < 3 || in_a_row <= Some(IN_A_ROW), "{:?}", kinds);
        }
    }

    proptest! {
        /// Whatever the evidence is: an outage that is shorter than [`EVIDENCED`] does not hit the first probe and the last one.
        #[test]
        fn burst_by_evidence_probes_at_once_and_lasts_as_long_as_common_outages(
            ago in 0..3000u64, mut seed in any::<u64>(),
        ) {
            let random = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed >> 33
            };
            let target = IpAddr::from([192, 0, 2, 1]);
            let burst = Burst::on_evidence(at(3000), (target, at(3000 - ago), Witness::Silence), 1, random);
            let probes: Vec<Time> =
                burst.planned.iter().filter(|planned| !planned.is_control).map(|planned| planned.at).collect();
            prop_assert_eq!((probes.len(), probes[0]), (FAILURES as usize, at(3000)));
            let last = at(3000) + EVIDENCED.max(CONFIRM.saturating_sub(Duration::from_millis(ago)));
            prop_assert_eq!(probes.last(), Some(&last));
            let end = burst.planned.back().expect("a control probe");
            prop_assert!(end.is_control && end.at == last + SPACING);
        }
    }

    #[test]
    fn order_is_random() {
        let mut orders = std::collections::BTreeSet::new();
        for seed in 0..50u64 {
            let mut state = seed;
            let random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> 33
            };
            let planned = plan(at(2), at(0) + CONFIRM, (PROBES, CONTROLS), random);
            orders.insert(planned.iter().map(|planned| planned.is_control).collect::<Vec<_>>());
        }
        assert!(orders.len() > 10, "{}", orders.len());
    }
}
