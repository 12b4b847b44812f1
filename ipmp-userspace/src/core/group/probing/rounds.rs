//! Sending the probes that are due: those of the regular rounds, and through [`send`] those of bursts.

use std::{net::IpAddr, time::Duration};

use super::Group;
use crate::{
    core::{
        Action, Cause, Event, Time,
        group::members::full_size,
        probe::{
            DISCOVER, FIND, ProbeSource, Via,
            prober::{Prober, Round},
        },
    },
    types::Family,
};

/// A probe that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// The member.
    pub number: u8,
    /// The target.
    pub target: IpAddr,
    /// Number of the probe.
    pub sequence: u16,
    /// MAC of the target, for members without a test address.
    pub mac: Option<[u8; 6]>,
    /// Bytes of its packet, if it is large.
    pub size: Option<u32>,
    /// A loss would be in doubt: a control request is sent beside it.
    pub is_doubtful: bool,
    /// It belongs to a burst.
    pub is_extra: bool,
}

/// Requests a probe.
pub(super) fn send(
    prober: &mut Prober,
    request: Request,
    now: Time,
    interval: Duration,
    requests: &mut Vec<Action>,
) {
    let Request { number: member, target, sequence, mac, size, is_doubtful, is_extra } = request;
    let Some(means) = prober.means else { return };
    let via = match (means, mac) {
        (ProbeSource::Echo { source, .. }, _) => Some(Via::Echo(source)),
        (ProbeSource::Arp, Some(mac)) => Some(Via::Arp(mac)),
        (ProbeSource::Nd, Some(mac)) => Some(Via::Nd(mac)),
        (ProbeSource::Arp | ProbeSource::Nd, None) => None,
    };
    if let ProbeSource::Echo { source, .. } = means
        && is_doubtful
    {
        prober.control(now, target, sequence);
        requests.push(Action::Control { member, target, source });
    }
    match via {
        Some(via) => requests.push(Action::Probe { member, target, via, sequence, size, is_extra }),
        // No packet has a destination. It counts as sent and is lost, as an echo request is.
        None => prober.sent(sequence, Some(0), now, interval),
    }
}

impl Group {
    /// Sends the probes that are due.
    pub(in crate::core::group) fn probe_round(&mut self, now: Time) {
        let interval = self.probing.fdt.interval();
        let idle = interval.max(DISCOVER);
        let mut missed = Vec::new();
        let jitter = self.jitter(interval);
        let doubts = self.doubts(now);
        let mtu = self.members.mtu();
        for member in self.members.iter_mut() {
            let (number, name) = (member.number(), member.name().to_owned());
            let full = full_size(member, mtu);
            for family in Family::ALL {
                let Some(prober) = member.probing_mut().prober_mut(family) else { continue };
                let Some(means) = prober.means else { continue };
                if prober.next.is_none_or(|due| due > now) {
                    continue;
                }
                if prober.burst.is_some() {
                    prober.skip_rounds(now, interval);
                    continue;
                }
                let early = self.probing.early(jitter);
                let neighbours = &mut self.probing.neighbours;
                let found = |target: &IpAddr| neighbours.get(target).and_then(|neighbour| neighbour.found);
                let is_silent =
                    |target: &IpAddr| neighbours.get(target).is_some_and(|known| known.is_silent(now));
                let needs_mac = !matches!(means, ProbeSource::Echo { .. });
                let can = |target| !needs_mac || found(&target).is_some() || is_silent(&target);
                let Some((round, skipped)) = prober.round(now, interval, idle, early, can) else {
                    continue;
                };
                if skipped > 0
                    && round != Round::Idle
                    && let Some(skipped) = prober.report_missed(now, skipped)
                {
                    missed.push((name.clone(), family, skipped));
                }
                if let Round::Probe { sequence, target } = round {
                    let mac = found(&target).map(|(mac, _)| mac);
                    let is_doubtful = doubts.contains(&(number, target));
                    let size = prober.enlarge_round(sequence, target, interval, full);
                    let request =
                        Request { number, target, sequence, mac, size, is_doubtful, is_extra: false };
                    send(prober, request, now, interval, &mut self.probing.requests);
                }
                if let ProbeSource::Echo { source, .. } = means {
                    if prober.discovers(now, idle) {
                        self.probing.requests.push(Action::FindHosts { member: number, source });
                    }
                    continue;
                }
                for target in prober.targets.active().map(|target| target.address) {
                    let neighbour = neighbours.entry(target).or_default();
                    if neighbour.found.is_none() {
                        neighbour.sought.get_or_insert(now);
                    }
                    let due = neighbour.requested.is_none_or(|requested| now - requested >= FIND);
                    if neighbour.found.is_none() && due {
                        neighbour.requested = Some(now);
                        self.probing.requests.push(Action::FindNeighbour(target));
                    }
                }
            }
        }
        self.send_bursts(now, &doubts);
        self.send_sizes(now);
        self.test_directions(now);
        self.send_full_frames(now);
        for (member, family, missed) in missed {
            self.report(Cause::ProbeResults, |_| Event::ProbesMissed { member, family, missed });
        }
    }
}
