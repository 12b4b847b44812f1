//! A stream to a data address whose inbound member loses its carrier, again and again: for how long nothing comes.
//!
//! Nobody but the host can end this outage: the sender goes on sending to the MAC it knows until it is told another.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::network::DATA;
use lab::stream::Report;
use lab::{Lab, Stream};
use serde::Serialize;

use crate::outbound::{doubts, microseconds};
use crate::production::Production;
use crate::spread::percentile;

const PACKETS_PER_S: u64 = 20_000;
/// The sender is woken this often.
const BURST: Duration = Duration::from_micros(100);
/// Times without a packet from here on are kept.
const GAPS: Duration = Duration::from_micros(150);
/// How long a cable stays out.
const OUT: Duration = Duration::from_millis(100);
/// An outage begins so soon after the pull, or is none of the pull's.
const BEGINS: Duration = Duration::from_millis(5);
/// The requirement, in microseconds.
const AIM_P50: f64 = 1_000.0;
const AIM_P95: f64 = 5_000.0;

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Inbound {
    packets_per_s: u64,
    pulls: usize,
    outage_us: Outages,
    before_us: Outages,
    lost: u64,
    duplicated: u64,
    aim_p50_us: f64,
    aim_p95_us: f64,
    aim_met: bool,
    doubts: Vec<String>,
}

/// Times without a packet, in microseconds.
#[derive(Debug, Serialize)]
struct Outages {
    p50: f64,
    p95: f64,
    max: f64,
    all: Vec<f64>,
}

impl Outages {
    /// The longest that lies, in whole or in part, in the times that begin at the instants given.
    fn around(instants: &[Instant], time: Duration, report: &Report) -> Self {
        // What is shorter than a gap that is kept was still a gap: that between two bursts.
        let longest = |at: &Instant| microseconds(report.outage(*at, time).max(BURST));
        let all: Vec<f64> = instants.iter().map(longest).collect();
        Self { p50: percentile(&all, 50.0), p95: percentile(&all, 95.0), max: percentile(&all, 100.0), all }
    }
}

/// Measures in a lab of its own.
pub fn measure(pulls: u32) -> Result<Inbound> {
    let lab = Lab::tutorial()?;
    let production = Production::create(&lab)?;
    let peer = lab.peer(0);
    let running = Stream::new(peer.namespace(), lab.host(), DATA)
        .source(peer.v4())
        .rate(PACKETS_PER_S)
        .burst(BURST)
        .gaps(GAPS)
        .start()?;
    running.wait_received(PACKETS_PER_S / 5, Duration::from_secs(5))?;
    let mut pulled = Vec::new();
    for _ in 0..pulls {
        let member = production.inbound_member()?;
        // A quiet time to compare with: `ipmpctl` has ended.
        std::thread::sleep(2 * BEGINS);
        let change = member.cable().pull()?;
        pulled.push(change.before);
        std::thread::sleep(OUT);
        member.cable().replug()?;
        production.restore(member)?;
    }
    let report = running.stop()?;
    let before: Vec<Instant> = pulled.iter().map(|at| *at - BEGINS).collect();
    let outage_us = Outages::around(&pulled, BEGINS, &report);
    let before_us = Outages::around(&before, BEGINS - 2 * BURST, &report);
    Ok(Inbound {
        packets_per_s: PACKETS_PER_S,
        pulls: pulled.len(),
        aim_met: outage_us.p50 < AIM_P50 && outage_us.p95 < AIM_P95,
        outage_us,
        before_us,
        lost: report.lost(),
        duplicated: report.duplicated(),
        aim_p50_us: AIM_P50,
        aim_p95_us: AIM_P95,
        doubts: doubts(&report),
    })
}

impl fmt::Display for Inbound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "inbound: {} packets/s to a data address, {} pulls of its inbound member's cable",
            self.packets_per_s, self.pulls
        )?;
        for (what, times) in [("outage", &self.outage_us), ("before a pull", &self.before_us)] {
            writeln!(
                out,
                "  {what:<14} p50 {:>7.2} ms   p95 {:>7.2} ms   max {:>7.2} ms",
                times.p50 / 1e3,
                times.p95 / 1e3,
                times.max / 1e3
            )?;
        }
        write!(
            out,
            "  {} lost, {} duplicated; aim: p50 below {} ms, p95 below {} ms: {}",
            self.lost,
            self.duplicated,
            self.aim_p50_us / 1e3,
            self.aim_p95_us / 1e3,
            if self.aim_met { "met" } else { "missed" }
        )?;
        for doubt in &self.doubts {
            write!(out, "\n  in doubt: {doubt}")?;
        }
        Ok(())
    }
}
