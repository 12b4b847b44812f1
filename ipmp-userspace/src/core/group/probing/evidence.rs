//! Bursts that evidence from traffic starts: at most one of a member in a probe interval.

use super::Group;
use crate::{
    core::{
        Time,
        member::Member,
        probe::{burst::Burst, evidence::Witness},
    },
    types::Family,
};

impl Group {
    /// Whether evidence from traffic may start bursts.
    pub fn uses_evidence(&self) -> bool {
        let probed = self.members.iter().filter(|member| member.probing().enabled());
        self.settings.evidence && self.has_bursts() && probed.count() > 1
    }

    /// A segment of TCP was not acknowledged in time: members with more of these than usual are probed at once.
    pub(in crate::core::group) fn timed_out(
        &mut self,
        now: Time,
        sender: u8,
        inbound: Option<u8>,
        sent: Time,
        witness: Witness,
    ) {
        if !self.uses_evidence() {
            return;
        }
        for number in self.probing.timeouts.count(now, sender, inbound).iter() {
            self.suspect(now, number, (sent.min(now), witness));
        }
    }

    /// A member receives nothing any more: it is probed at once.
    pub(in crate::core::group) fn became_silent(&mut self, now: Time, number: u8, since: Time) {
        if self.uses_evidence() {
            self.suspect(now, number, (since.min(now), Witness::Silence));
        }
    }

    /// Starts bursts of a member, in each family in which it is probed: its packets did not arrive, from then on. A burst that runs takes
    /// this as more evidence. Where no other member receives replies, probes would show nothing.
    fn suspect(&mut self, now: Time, number: u8, (since, witness): (Time, Witness)) {
        let interval = self.probing.fdt.interval();
        for family in Family::ALL {
            if !self.member(number).is_some_and(Member::functions) {
                continue;
            }
            if let Some(mut burst) = self.prober(number, family).and_then(|prober| prober.burst.clone()) {
                burst.corroborate(now, (since, witness), || self.probing.random());
                if let Some(prober) = self.prober_mut(number, family) {
                    prober.burst = Some(burst);
                }
                continue;
            }
            let target =
                self.prober(number, family).and_then(|prober| prober.suspected_target(now, interval));
            let Some(target) = target else { continue };
            if self.unreliable_targets(now).any(|(unreliable, _)| unreliable == target) {
                continue;
            }
            let draw = self.probing.random();
            let Some(control) = self.control_member(number, family, target, draw, None) else { continue };
            let burst = Burst::on_evidence(now, (target, since, witness), control, || self.probing.random());
            if let Some(prober) = self.prober_mut(number, family) {
                prober.suspect(now, burst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        core::{
            Settings,
            group::testing::{Wire, router},
            probe::{
                burst::{CONFIRM, EVIDENCED, SPACING},
                fdt,
            },
        },
        types::MemberState,
    };

    /// When a member fails, after its path, if connections with these ports time out 200 ms after it.
    fn detected_after(ports: &[u16]) -> Duration {
        let mut wire = Wire::of(3, Settings::default());
        wire.routers(&[router(1)]);
        wire.run(2 * fdt::DEFAULT);
        // No probe of a round is lost before the verdict.
        while wire
            .probes
            .last()
            .is_none_or(|probe| probe.1 != 1 || wire.now - probe.0 > Duration::from_millis(50))
        {
            wire.run(Duration::from_millis(10));
        }
        wire.silent.insert(1);
        let start = wire.now;
        wire.run(Duration::from_millis(200));
        ports.iter().for_each(|port| wire.tcp_timeout_of(*port, 1, 1, 200));
        while wire.state(1) != MemberState::Failed {
            assert!(wire.now - start < fdt::DEFAULT, "{:?}", wire.lines);
            wire.run(Duration::from_millis(1));
        }
        wire.now - start
    }

    #[test]
    fn connections_that_agree_confirm_sooner_than_one() {
        let deadline = Duration::from_millis(3);
        let alone = Duration::from_millis(200) + EVIDENCED + SPACING;
        let agreed = CONFIRM + SPACING;
        for (ports, expected) in
            [(&[1][..], alone), (&[1, 1, 1], alone), (&[1, 2], agreed), (&[1, 2, 3, 4, 5], agreed)]
        {
            let after = detected_after(ports);
            assert!(
                after >= expected && after <= expected + deadline,
                "{ports:?}: {after:?}, not {expected:?}"
            );
        }
    }
}
