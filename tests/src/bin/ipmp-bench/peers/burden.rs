//! What the NICs cost while nothing fails, compared with one NIC that has the address itself.
//!
//! Both are in a lab of their own with one switch, and are measured in turn.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::bulk::Bulk;
use lab::network::DATA;
use lab::process::thread_cpu_time;
use lab::{Lab, MS, Namespace};
use serde::{Deserialize, Serialize};

use super::contender::{Host, Setup};
use crate::spread::Spread;

/// Duration of one transfer.
const TIME: Duration = Duration::from_millis(200);
/// Packets of one measurement of CPU time.
const PACKETS: u32 = 2_000;
/// Bytes of each of them.
const PAYLOAD: usize = 64;

/// Ratios to one NIC, within each round.
#[derive(Debug, Serialize, Deserialize)]
pub struct Burden {
    pub rounds: u32,
    /// Bytes of a TCP transfer.
    pub throughput_outbound: Spread,
    pub throughput_inbound: Spread,
    /// CPU time of the thread that sends a small UDP packet, which the kernel delivers in the same context.
    pub cpu_outbound: Spread,
    pub cpu_inbound: Spread,
}

/// `None`: it is missing on this machine.
pub fn measure(setup: Setup, rounds: u32) -> Result<Option<Burden>> {
    let build = || Lab::builder().one_switch().build();
    let (lab, plain) = (build()?, build()?);
    let Some(host) = Host::set_up(&lab, setup)? else { return Ok(None) };
    let plain = Host::set_up(&plain, Setup::Plain)?.context("a NIC with an address is not missing")?;
    let mut ratios: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        for (number, ratios) in ratios.iter_mut().enumerate() {
            let measure = |host: &Host<'_>| match number {
                0 => bytes_per_s(host.lab, true),
                1 => bytes_per_s(host.lab, false),
                2 => cpu_per_packet(host.lab, true),
                _ => cpu_per_packet(host.lab, false),
            };
            // The order alternates, so that effects of one measurement on the next are the same for both.
            let ratio = if round % 2 == 0 {
                let first = measure(&host)?;
                first / measure(&plain)?
            } else {
                let first = measure(&plain)?;
                measure(&host)? / first
            };
            ratios.push(ratio);
        }
    }
    let [throughput_outbound, throughput_inbound, cpu_outbound, cpu_inbound] =
        ratios.map(|ratios| Spread::of(&ratios));
    Ok(Some(Burden { rounds, throughput_outbound, throughput_inbound, cpu_outbound, cpu_inbound }))
}

/// Throughput of a transfer between host and peer.
fn bytes_per_s(lab: &Lab, outbound: bool) -> Result<f64> {
    let peer = lab.peer(0);
    let bulk = if outbound {
        Bulk::new(lab.host(), peer.namespace(), peer.v4()).source(DATA)
    } else {
        Bulk::new(peer.namespace(), lab.host(), DATA).source(peer.v4())
    };
    let running = bulk.start()?;
    std::thread::sleep(TIME);
    let report = running.stop()?;
    ensure!(report.error.is_none() && report.intact, "a bulk transfer failed: {report}");
    Ok(report.bytes as f64 / report.duration.as_secs_f64())
}

/// CPU time in seconds of a packet between host and peer.
fn cpu_per_packet(lab: &Lab, outbound: bool) -> Result<f64> {
    let (host, peer) = ((lab.host(), DATA), (lab.peer(0).namespace(), lab.peer(0).v4()));
    let (from, to) = if outbound { (host, peer) } else { (peer, host) };
    let bind = |namespace: &Namespace, address| namespace.run(|| UdpSocket::bind((address, 0)));
    let (sending, receiving) = (bind(from.0, from.1)?, bind(to.0, to.1)?);
    receiving.set_read_timeout(Some(500 * MS))?;
    sending.connect(receiving.local_addr()?)?;
    let mut buffer = [0; PAYLOAD];
    let mut used = Duration::ZERO;
    for _ in 0..PACKETS {
        let before = thread_cpu_time();
        sending.send(&buffer)?;
        used += thread_cpu_time() - before;
        receiving.recv(&mut buffer).context("a packet was lost while nothing failed")?;
    }
    Ok(used.as_secs_f64() / f64::from(PACKETS))
}
