//! A stream to a data address whose inbound member loses its carrier, again and again: for how long nothing comes.
//!
//! Nobody but the host can end this outage: the sender goes on sending to the MAC it knows until it is told another.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::network::DATA;
use crate::production::Production;
use crate::stream::Report;
use crate::{Lab, Stream, clock, show_mac};

/// Packets a second to the data address.
pub const PACKETS_PER_S: u64 = 20_000;
/// The sender is woken this often. A shorter outage is none.
pub const BURST: Duration = Duration::from_micros(100);
/// Times without a packet from here on are kept.
const GAPS: Duration = Duration::from_micros(150);
/// How long a cable stays out.
const OUT: Duration = Duration::from_millis(50);
/// An outage begins so soon after the pull, or is none of the pull's.
const BEGINS: Duration = Duration::from_millis(5);
/// How long the sender may take to know another MAC, before that is an error.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was measured.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The longest time without a packet at every pull.
    pub outages: Vec<Duration>,
    /// The longest time without a packet in as long a time before every pull: the noise of this machine.
    pub before: Vec<Duration>,
    /// What became of the stream.
    pub report: Report,
}

/// The smallest time that at least `percent` of all do not exceed.
///
/// # Panics
/// When there are no times.
pub fn percentile(times: &[Duration], percent: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Pulls the cable of the member that answers for [`DATA`], so many times. Every time, the sender's neighbour entry must
/// come to name another member.
pub fn measure(lab: &Lab, production: &Production<'_>, pulls: usize) -> Result<Inbound> {
    let peer = lab.peer(0);
    let running = Stream::new(peer.namespace(), lab.host(), DATA)
        .source(peer.v4())
        .rate(PACKETS_PER_S)
        .burst(BURST)
        .gaps(GAPS)
        .start()?;
    running.wait_received(PACKETS_PER_S / 5, 5 * PATIENCE)?;
    let mut pulled = Vec::new();
    for _ in 0..pulls {
        let member = lab.member(&production.inbound(DATA)?);
        let known = || peer.neighbour(DATA.into());
        let settled = clock::wait_until(PATIENCE, || known().is_ok_and(|mac| mac == Some(member.mac())));
        ensure!(
            settled,
            "{} answers for {DATA}, and the peer believes in {:?}",
            member.name(),
            known()?.map(show_mac)
        );
        // A quiet time to compare with: `ipmpctl` has ended.
        std::thread::sleep(2 * BEGINS);
        let change = member.cable().pull()?;
        pulled.push(change);
        std::thread::sleep(OUT);
        let others = production.macs_without(&[member.name().to_owned()]);
        let told = clock::wait_until(PATIENCE, || {
            known().is_ok_and(|mac| mac.is_some_and(|mac| others.contains(&mac)))
        });
        ensure!(
            told,
            "{} was pulled, and the peer still believes in {:?}",
            member.name(),
            known()?.map(show_mac)
        );
        member.cable().replug()?;
        production.forgive(member).context("after a pull")?;
    }
    let report = running.stop()?;
    let longest = |from: Instant, time| report.outage(from, time).max(BURST);
    Ok(Inbound {
        outages: pulled.iter().map(|at| longest(at.before, at.after + BEGINS - at.before)).collect(),
        before: pulled.iter().map(|at| longest(at.before - BEGINS, BEGINS - 2 * BURST)).collect(),
        report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_micros).collect();
        let of = |percent| percentile(&times, percent).as_micros();
        assert_eq!([50.0, 95.0, 100.0].map(of), [100, 190, 200]);
        assert_eq!(percentile(&times[..1], 50.0), times[0]);
    }
}
