//! A stream from the host while the members' cables are pulled in turn: what is lost, and for how long nothing comes.
//!
//! A pulled veth port stops a moment before it drops the carrier. What dies in it then is the cable's loss and nobody
//! else's: it is counted by the port, and counted out here.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use lab::network::DATA;
use lab::{Lab, Production, Stream};
use serde::Serialize;

const PACKETS_PER_S: u64 = 50_000;
const FLOWS: usize = 8;
/// The sender is woken this often; what is shorter than twice that is no silence.
const BURST: Duration = Duration::from_micros(200);
/// How long a cable stays out.
const OUT: Duration = Duration::from_millis(100);

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Outbound {
    packets_per_s: u64,
    flows: usize,
    pulls: usize,
    sent: u64,
    received: u64,
    lost: u64,
    died_in_ports: u64,
    lost_beyond: u64,
    reordered: u64,
    duplicated: u64,
    longest_silence_us: f64,
    longest_silence_of_a_flow_us: f64,
    events: Vec<Event>,
    doubts: Vec<String>,
}

/// A pull.
#[derive(Debug, Serialize)]
struct Event {
    member: String,
    lost: u64,
    died_in_port: u64,
    silence_us: f64,
}

/// Measures in a lab of its own.
pub fn measure(pulls: u32) -> Result<Outbound> {
    let lab = Lab::tutorial()?;
    let production = Production::create(&lab)?;
    let peer = lab.peer(0);
    let running = Stream::new(lab.host(), peer.namespace(), peer.v4())
        .source(DATA)
        .flows(FLOWS)
        .rate(PACKETS_PER_S)
        .burst(BURST)
        .gaps(2 * BURST)
        .start()?;
    running.wait_received(PACKETS_PER_S / 5, Duration::from_secs(5))?;
    let mut pulled = Vec::new();
    for turn in 0..pulls as usize {
        let member = &lab.members()[turn % lab.members().len()];
        let before = member.cable().port()?.rx_dropped;
        let change = member.cable().pull()?;
        std::thread::sleep(OUT);
        member.cable().replug()?;
        let died = member.cable().port()?.rx_dropped - before;
        production.forgive(member)?;
        production.wait_carrying(lab.members().len())?;
        pulled.push((member.name().to_owned(), change.before, died));
    }
    let report = running.stop()?;
    let events: Vec<Event> = pulled
        .into_iter()
        .map(|(member, at, died_in_port)| Event {
            member,
            lost: report.lost_within(at, OUT),
            died_in_port,
            silence_us: microseconds(report.outage(at, OUT)),
        })
        .collect();
    let died_in_ports = events.iter().map(|event| event.died_in_port).sum();
    Ok(Outbound {
        packets_per_s: PACKETS_PER_S,
        flows: FLOWS,
        pulls: events.len(),
        sent: report.sent(),
        received: report.received(),
        lost: report.lost(),
        died_in_ports,
        lost_beyond: report.lost().saturating_sub(died_in_ports),
        reordered: report.reordered(),
        duplicated: report.duplicated(),
        longest_silence_us: microseconds(report.longest_gap),
        longest_silence_of_a_flow_us: report
            .flows
            .iter()
            .map(|flow| microseconds(flow.longest_gap))
            .fold(0.0, f64::max),
        events,
        doubts: doubts(&report),
    })
}

/// Why a stream's report should not be trusted.
pub fn doubts(report: &lab::stream::Report) -> Vec<String> {
    let mut doubts: Vec<String> = report.ensure_valid().err().iter().map(ToString::to_string).collect();
    if report.softnet_drops > 0 {
        doubts.push(format!("this machine's backlog queues dropped {} packets", report.softnet_drops));
    }
    doubts
}

/// As JSON has it.
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
            "  {} sent, {} lost, {} of them in the pulled ports: {} beyond; {} reordered, {} duplicated",
            self.sent,
            self.lost,
            self.died_in_ports.min(self.lost),
            self.lost_beyond,
            self.reordered,
            self.duplicated
        )?;
        write!(
            out,
            "  longest silence {:.2} ms, of a single flow {:.2} ms",
            self.longest_silence_us / 1e3,
            self.longest_silence_of_a_flow_us / 1e3
        )?;
        for doubt in &self.doubts {
            write!(out, "\n  in doubt: {doubt}")?;
        }
        Ok(())
    }
}
