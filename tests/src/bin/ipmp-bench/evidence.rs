//! CPU time of the program that watches the TCP connections of the host (`evidence=on`): when connections are established, while all
//! segments arrive, and while some are lost.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};
use ipmp::types::Family;
use lab::bulk::Bulk;
use lab::network::{DATA, ROUTER};
use lab::{Lab, Namespace, Production, TIMEOUT, wait_until};
use serde::{Deserialize, Serialize};

/// Name of the program.
const PROGRAM: &str = "tcp_evidence";
/// Connections at a time that transmit without a pause.
const CONNECTIONS: usize = 4;

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// One for each kind of traffic.
    pub rows: Vec<Row>,
}

/// What the program took during some traffic.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// `connections`, `no loss`, `segments lost`.
    pub traffic: String,
    /// Connections that the host has opened.
    pub connections: u64,
    /// Segments that the host has sent.
    pub segments: u64,
    /// Segments that it has sent again.
    pub sent_again: u64,
    /// Runs of the program.
    pub runs: u64,
    /// Their average time.
    pub run_ns: f64,
    /// Time of all runs, divided by the number of connections.
    pub connection_ns: Option<f64>,
    /// Time of all runs, divided by the number of segments.
    pub segment_ns: Option<f64>,
}

/// Measures in a lab of its own.
pub fn measure(connections: u32, seconds: u32, loss: u8) -> Result<Evidence> {
    let _stats = enable_stats(Stats::RunTime).context("cannot measure run times of BPF programs")?;
    let others = programs()?;
    let lab = Lab::tutorial()?;
    let production = Production::create_probed(&lab, &[Family::V4], &format!("targets={ROUTER}"))?;
    let is_attached = || programs().is_ok_and(|all| all.len() > others.len());
    ensure!(wait_until(TIMEOUT, is_attached), "no program watches connections: {}", production.show());
    let own = Own { host: lab.host(), others };
    let time = Duration::from_secs(seconds.into());
    let short = own.during("connections", || open(&lab, connections))?;
    let good = own.during("no loss", || transmit(&lab, time))?;
    for member in lab.members() {
        member.cable().lose(loss)?;
    }
    let lossy = own.during("segments lost", || transmit(&lab, time))?;
    for member in lab.members() {
        member.cable().restore()?;
    }
    drop(production);
    Ok(Evidence { rows: vec![short, good, lossy] })
}

/// Opens connections one after another, each with a byte in both directions.
fn open(lab: &Lab, connections: u32) -> Result<u64> {
    let peer = lab.peer(0);
    let listener = peer.namespace().run(|| TcpListener::bind((peer.v4(), 0)))?;
    let address = listener.local_addr()?;
    for _ in 0..connections {
        let mut connection = lab.host().run(|| TcpStream::connect(address))?;
        let mut accepted = listener.accept()?.0;
        connection.write_all(&[0])?;
        accepted.read_exact(&mut [0])?;
        accepted.write_all(&[0])?;
        connection.read_exact(&mut [0])?;
    }
    Ok(connections.into())
}

/// Transmits to a peer on several connections for some time.
fn transmit(lab: &Lab, time: Duration) -> Result<u64> {
    let peer = lab.peer(0);
    let running = (0..CONNECTIONS)
        .map(|_| Bulk::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).start())
        .collect::<Result<Vec<_>>>()?;
    for connection in &running {
        connection.wait_received(1, TIMEOUT)?;
    }
    std::thread::sleep(time);
    for connection in running {
        connection.stop()?;
    }
    Ok(CONNECTIONS as u64)
}

/// The programs that watch connections now, by their identifiers.
fn programs() -> Result<BTreeSet<u32>> {
    Ok(of_name()?.iter().map(ProgramInfo::id).collect())
}

fn of_name() -> Result<Vec<ProgramInfo>> {
    let mut all = Vec::new();
    for program in loaded_programs() {
        // One that another process has just unloaded.
        let Ok(program) = program else { continue };
        if program.name_as_str() == Some(PROGRAM) {
            all.push(program);
        }
    }
    Ok(all)
}

/// The program of this measurement, and the host whose connections it watches.
struct Own<'lab> {
    host: &'lab Namespace,
    /// Programs of other daemons.
    others: BTreeSet<u32>,
}

impl Own<'_> {
    /// What it has taken by now: runs and time.
    fn taken(&self) -> Result<(u64, Duration)> {
        let own: Vec<ProgramInfo> =
            of_name()?.into_iter().filter(|program| !self.others.contains(&program.id())).collect();
        let [program] = own.as_slice() else {
            anyhow::bail!("{} programs watch connections, not one: is the kernel able to?", own.len())
        };
        Ok((program.run_count(), program.run_time()))
    }

    /// Segments sent by now, and those sent again.
    fn segments(&self) -> Result<(u64, u64)> {
        let text = self.host.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))?;
        let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
        let (names, values) = lines.next().zip(lines.next()).context("no line Tcp: in /proc/net/snmp")?;
        let value = |name: &str| {
            let mut both = names.split_whitespace().zip(values.split_whitespace());
            let found = both
                .find(|(known, _)| *known == name)
                .with_context(|| format!("no {name} in /proc/net/snmp"))?;
            found.1.parse::<u64>().with_context(|| format!("{name} in /proc/net/snmp is no number"))
        };
        Ok((value("OutSegs")?, value("RetransSegs")?))
    }

    /// What it takes during some traffic, which says how many connections it has opened.
    fn during(&self, traffic: &'static str, run: impl FnOnce() -> Result<u64>) -> Result<Row> {
        let (before, sent_before) = (self.taken()?, self.segments()?);
        let connections = run()?;
        let (after, sent) = (self.taken()?, self.segments()?);
        let (runs, took) = (after.0 - before.0, (after.1 - before.1).as_nanos() as f64);
        // `OutSegs` does not count what is sent again.
        let (segments, sent_again) = (sent.0 - sent_before.0, sent.1 - sent_before.1);
        ensure!(runs > 0 && segments > 0, "the program has not run: {runs} runs, {segments} segments");
        let is_short = traffic == "connections";
        Ok(Row {
            traffic: traffic.to_owned(),
            connections,
            segments,
            sent_again,
            runs,
            run_ns: took / runs as f64,
            connection_ns: is_short.then_some(took / connections as f64),
            segment_ns: (!is_short).then_some(took / segments as f64),
        })
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "evidence: time of the program that watches TCP connections")?;
        for row in &self.rows {
            write!(
                out,
                "\n  {:<14} {:>5} connections, {:>8} segments, {:>6} sent again: {:>7} runs of {:>5.0} ns",
                row.traffic, row.connections, row.segments, row.sent_again, row.runs, row.run_ns
            )?;
            match (row.connection_ns, row.segment_ns) {
                (Some(ns), _) => write!(out, ", {ns:.0} ns a connection")?,
                (_, Some(ns)) => write!(out, ", {ns:.2} ns a segment")?,
                _ => {}
            }
        }
        Ok(())
    }
}
