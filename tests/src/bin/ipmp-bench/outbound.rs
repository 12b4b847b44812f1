//! Loss and outages of a stream from the host while the members' cables are pulled in turn.
//!
//! A pulled veth port is stopped a moment before its carrier goes down. The port counts the frames that it drops in
//! between, and `lost_beyond` excludes them.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use lab::{Lab, Production, Stream};
use serde::{Deserialize, Serialize};

use crate::times::Times;

const PACKETS_PER_S: u64 = 50_000;
const FLOWS: usize = 8;
/// The interval of the sender. An outage is at least twice as long.
pub const BURST: Duration = Duration::from_micros(200);
/// How long a cable stays unplugged.
const UNPLUGGED: Duration = Duration::from_millis(100);

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outbound {
    /// Of all flows together.
    pub packets_per_s: u64,
    /// Flows.
    pub flows: usize,
    /// Pulls.
    pub pulls: usize,
    /// Packets sent.
    pub sent: u64,
    received: u64,
    /// Packets lost.
    pub lost: u64,
    /// Of these, dropped by the ports of pulled cables.
    pub dropped_in_ports: u64,
    /// The others.
    pub lost_beyond: u64,
    /// Packets received after a later one.
    pub reordered: u64,
    /// Packets received twice.
    pub duplicated: u64,
    longest_outage_us: f64,
    longest_outage_of_a_flow_us: f64,
    /// One for each pull.
    pub events: Vec<Event>,
    /// Why figures may not be valid.
    pub warnings: Vec<String>,
}

/// A pull.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event {
    member: String,
    lost: u64,
    dropped_in_port: u64,
    /// The longest time without a packet of any flow; 0 if it is shorter than two intervals of the sender.
    pub outage_us: f64,
}

/// Measures in a lab of its own.
pub fn measure(pulls: u32) -> Result<Outbound> {
    let lab = Lab::tutorial()?;
    measure_in(&lab, &Production::create(&lab)?, pulls)
}

/// Measures a group.
pub fn measure_in(lab: &Lab, production: &Production<'_>, pulls: u32) -> Result<Outbound> {
    let running =
        Stream::outbound(lab).flows(FLOWS).rate(PACKETS_PER_S).burst(BURST).gaps(2 * BURST).start()?;
    running.wait_received(PACKETS_PER_S / 5, Duration::from_secs(5))?;
    let mut pulled = Vec::new();
    for turn in 0..pulls as usize {
        let member = &lab.members()[turn % lab.members().len()];
        let before = member.cable().port()?.rx_dropped;
        let change = member.cable().pull()?;
        std::thread::sleep(UNPLUGGED);
        member.cable().replug()?;
        let dropped = member.cable().port()?.rx_dropped - before;
        production.clear_flap_history(member)?;
        production.wait_usable(lab.members().len())?;
        pulled.push((member.name().to_owned(), change.before, dropped));
    }
    let report = running.stop()?;
    let events: Vec<Event> = pulled
        .into_iter()
        .map(|(member, at, dropped_in_port)| Event {
            member,
            lost: report.lost_within(at, UNPLUGGED),
            dropped_in_port,
            outage_us: microseconds(report.outage(at, UNPLUGGED)),
        })
        .collect();
    let dropped_in_ports = events.iter().map(|event| event.dropped_in_port).sum();
    Ok(Outbound {
        packets_per_s: PACKETS_PER_S,
        flows: FLOWS,
        pulls: events.len(),
        sent: report.sent(),
        received: report.received(),
        lost: report.lost(),
        dropped_in_ports,
        lost_beyond: report.lost().saturating_sub(dropped_in_ports),
        reordered: report.reordered(),
        duplicated: report.duplicated(),
        longest_outage_us: microseconds(report.longest_gap),
        longest_outage_of_a_flow_us: report
            .flows
            .iter()
            .map(|flow| microseconds(flow.longest_gap))
            .fold(0.0, f64::max),
        events,
        warnings: warnings(&report),
    })
}

impl Outbound {
    /// The outages of all pulls.
    pub fn outages(&self) -> Times {
        let outages = self.events.iter().map(|event| Duration::from_secs_f64(event.outage_us / 1e6));
        Times::of(&outages.collect::<Vec<_>>())
    }
}

/// Reasons why the result of a stream may not be valid.
pub fn warnings(report: &lab::stream::Report) -> Vec<String> {
    let mut warnings: Vec<String> = report.ensure_valid().err().iter().map(ToString::to_string).collect();
    if report.softnet_drops > 0 {
        warnings.push(format!("this machine's backlog queues dropped {} packets", report.softnet_drops));
    }
    warnings
}

/// A time as in the JSON output.
pub fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

impl fmt::Display for Outbound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "outbound: {} packets/s from the host, {} flows, {} pulls",
            self.packets_per_s, self.flows, self.pulls
        )?;
        writeln!(
            out,
            "  {} sent, {} lost, of these {} dropped by the pulled ports and {} others; {} reordered, {} duplicated",
            self.sent,
            self.lost,
            self.dropped_in_ports.min(self.lost),
            self.lost_beyond,
            self.reordered,
            self.duplicated
        )?;
        write!(
            out,
            "  longest outage {:.2} ms, of a single flow {:.2} ms",
            self.longest_outage_us / 1e3,
            self.longest_outage_of_a_flow_us / 1e3
        )?;
        for warning in &self.warnings {
            write!(out, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}
