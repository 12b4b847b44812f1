//! Bursts that evidence from traffic starts: at most one of a member in a probe interval.

use super::Group;
use crate::{
    core::{Time, member::Member, probe::burst::Burst},
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
    ) {
        if !self.uses_evidence() {
            return;
        }
        for number in self.probing.timeouts.count(now, sender, inbound).iter() {
            self.suspect(now, number, sent.min(now));
        }
    }

    /// A member receives nothing any more: it is probed at once.
    pub(in crate::core::group) fn became_silent(&mut self, now: Time, number: u8, since: Time) {
        if self.uses_evidence() {
            self.suspect(now, number, since.min(now));
        }
    }

    /// Starts bursts of a member, in each family in which it is probed: its packets did not arrive, from `since` on. Where no
    /// other member receives replies, probes would show nothing.
    fn suspect(&mut self, now: Time, number: u8, since: Time) {
        let interval = self.probing.fdt.interval();
        for family in Family::ALL {
            if !self.member(number).is_some_and(Member::functions) {
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
            let burst = Burst::on_evidence(now, (target, since), control, || self.probing.random());
            if let Some(prober) = self.prober_mut(number, family) {
                prober.suspect(now, burst);
            }
        }
    }
}
