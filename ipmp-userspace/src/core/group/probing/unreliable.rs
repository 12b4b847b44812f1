//! Targets that do not answer each echo request, because they or a device before them limit or drop some.
//!
//! A path failure loses all probes of a member, such a target some probes of several members. Only where that was seen are
//! losses in doubt, and a control request by ARP or Neighbour Discovery is sent beside the echo request. If it alone is
//! answered, the loss does not count. It proves only a MAC, so it never keeps a member alive whose echo requests are all
//! lost: one of the last [`WINDOW`](crate::core::probe::history::WINDOW) must have been answered.

use std::{net::IpAddr, time::Duration};

use super::{Group, GroupProbing};
use crate::{
    core::{
        Cause, Event, Time,
        probe::{CONTROLLED, DOUBT, FAILURES, ProbeSource, prober::Prober},
    },
    types::Family,
};

impl GroupProbing {
    /// How much earlier than an interval from now the next round is, at most `jitter`: the same numbers for the same seed.
    pub(super) fn early(&mut self, jitter: Duration) -> Duration {
        if self.jitter.is_none() {
            return Duration::ZERO;
        }
        jitter * (self.random() as u32 & 0xff) / 256
    }

    /// A random number of 24 bits; without jitter always zero.
    pub(super) fn random(&mut self) -> u64 {
        let Some(state) = &mut self.jitter else { return 0 };
        // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed >> 40
    }
}

impl Group {
    /// Starts the jitter of probe rounds. The same seed gives the same rounds.
    pub fn set_jitter(&mut self, seed: u64) {
        self.probing.jitter = Some(seed);
    }

    /// Targets that answered a control request and not the echo request beside it within [`DOUBT`], and when last.
    pub fn unreliable_targets(&self, now: Time) -> impl Iterator<Item = (IpAddr, Time)> {
        let unreliable = self.probing.unreliable.iter();
        unreliable.filter(move |(_, found)| now - **found < DOUBT).map(|(target, found)| (*target, *found))
    }

    /// Whether an answer to a control request of a member to this target is awaited.
    pub fn awaits_control(&self, member: u8, target: IpAddr) -> bool {
        let prober = self.member(member).and_then(|member| member.prober(Family::of(target)));
        prober.is_some_and(|prober| prober.awaits_control(target))
    }

    /// A target has answered a control request on a member.
    pub(in crate::core::group) fn control_answered(
        &mut self,
        now: Time,
        number: u8,
        target: IpAddr,
        at: Time,
    ) {
        if let Some(prober) = self.prober_mut(number, Family::of(target)) {
            prober.control_answered(target, at);
            self.discard_losses(now);
        }
    }

    /// Losses of probes whose control requests were answered do not count: their targets are unreliable.
    pub(super) fn discard_losses(&mut self, now: Time) {
        let mut found = Vec::new();
        for member in self.members.iter_mut() {
            let name = member.name().to_owned();
            let probers = member.probing_mut().probers_mut();
            found.extend(
                probers.filter_map(|prober| prober.discard_loss(now)).map(|target| (name.clone(), target)),
            );
        }
        for (member, target) in found {
            let before = self.probing.unreliable.insert(target, now);
            if before.is_none_or(|before| now - before >= DOUBT) {
                self.report(Cause::ProbeResults, |_| Event::TargetUnreliable { member, target });
            }
        }
    }

    /// By how much rounds are early at most: more where a member has lost probes lately and is not failed. Otherwise a target
    /// that limits its replies would drop the probes of the same member for many rounds, and that member would fail or be degraded.
    pub(super) fn jitter(&self, interval: Duration) -> Duration {
        let is_losing = |prober: &Prober| !prober.failed && prober.history.has_lost();
        let losing = self.members.iter().flat_map(|member| member.probing().probers()).any(is_losing);
        if losing { interval * 3 / 8 } else { interval / 8 }
    }

    /// Members and targets of which a loss would be in doubt: the target drops some probes of several members, or of one whose
    /// other targets reply, and replies to others now.
    pub(super) fn doubts(&self, now: Time) -> Vec<(u8, IpAddr)> {
        let since = self.probing.fdt.interval() * (FAILURES + 1);
        let mut doubts = Vec::new();
        let is_losing = |prober: &Prober| prober.failed || prober.history.losses() >= CONTROLLED;
        if !self.members.iter().flat_map(|member| member.probing().probers()).any(is_losing) {
            return doubts;
        }
        for family in Family::ALL {
            // Also failed members: their replies, too, show that the target is up.
            let probers: Vec<(u8, &Prober)> = self
                .members
                .iter()
                .filter(|member| member.in_service())
                .filter_map(|member| Some((member.number(), member.prober(family)?)))
                .filter(|(_, prober)| matches!(prober.means, Some(ProbeSource::Echo { .. })))
                .collect();
            for &(number, prober) in &probers {
                if !is_losing(prober) {
                    continue;
                }
                let others = || {
                    probers.iter().filter(|(other, _)| *other != number).map(|(_, prober)| &prober.history)
                };
                for target in prober.targets.active().map(|target| target.address) {
                    let drops = |prober: &Prober| {
                        let history = &prober.history;
                        history.drops_some(target)
                            && history.answered_since(now, since, |other| other != target)
                    };
                    let of_several = || {
                        prober.history.answers_some(target) && others().any(|other| other.drops_some(target))
                    };
                    // A target that starts up may take an ARP request without a sender address for a conflict (RFC 5227).
                    let is_up = || others().any(|other| other.answered_since(now, since, |of| of == target));
                    let of_one = || {
                        prober.history.answers_some(target) && probers.iter().any(|(_, prober)| drops(prober))
                    };
                    if (of_several() || of_one()) && is_up() {
                        doubts.push((number, target));
                    }
                }
            }
        }
        doubts
    }
}
