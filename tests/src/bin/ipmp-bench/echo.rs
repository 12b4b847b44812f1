//! CPU time that a target needs to answer echo requests: what probes cost it (docs/xdp.md).

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use etherparse::PacketBuilder;
use lab::process::thread_cpu_time;
use lab::tap::Tap;
use lab::{Lab, Mac, show_mac};
use serde::{Deserialize, Serialize};

use crate::spread::Spread;

const PER_SECOND: u32 = 1_000;
const TARGET_MAC: Mac = [0x02, 0xa0, 0, 0, 0, 1];
const TARGET: [u8; 4] = [192, 0, 2, 1];
const PROBER: [u8; 4] = [192, 0, 2, 2];
const PROBER_MAC: Mac = [0x02, 0, 0, 0, 5, 1];
const OTHER_HOST: Mac = [0x02, 0, 0, 0, 5, 2];
/// Where an Ethernet frame without VLAN tag and IP options has the type of ICMP, and that of a reply.
const ICMP_TYPE: usize = 34;
const ECHO_REPLY: u8 = 0;

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Echo {
    /// Echo requests.
    pub requests: u32,
    /// Their rate.
    pub requests_per_s: u32,
    /// CPU time of a request and its reply, the reception of the frame included.
    pub answered_ns: Spread,
    /// The same frame to the MAC of another host, which the stack drops.
    pub dropped_ns: Spread,
    /// The differences of neighbouring frames.
    pub reply_ns: Spread,
    /// Of one CPU, by the median of the replies.
    pub cpu_percent: f64,
}

/// Measures in a lab of its own, with so many requests and as many frames that the stack drops.
pub fn measure(requests: u32) -> Result<Echo> {
    let lab = Lab::builder().members(1).one_switch().peers(&[]).build()?;
    let target = lab.namespace("target")?;
    let tap = Tap::create(&target, "target0")?;
    target.sysctl("net.ipv6.conf.target0.disable_ipv6", "1")?;
    target.ip(&format!("link set target0 address {} up", show_mac(TARGET_MAC)))?;
    target.ip("addr add 192.0.2.1/24 dev target0")?;
    target.ip(&format!("neigh add 192.0.2.2 lladdr {} dev target0 nud permanent", show_mac(PROBER_MAC)))?;
    let (mut answered, mut dropped) = (Vec::new(), Vec::new());
    let mut buffer = [0; 256];
    let began = Instant::now();
    for number in 0..requests {
        let due = Duration::from_secs(1) * number / PER_SECOND;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let mut frames = [(TARGET_MAC, &mut answered), (OTHER_HOST, &mut dropped)];
        // The first frame after the pause needs longer.
        frames.rotate_left((number % 2) as usize);
        for (to, times) in frames {
            let frame = request(to, number)?;
            let before = thread_cpu_time();
            tap.deliver(&frame)?;
            times.push((thread_cpu_time() - before).as_nanos() as f64);
            let reply = tap.take(&mut buffer).map(|length| &buffer[..length]);
            let is_answered = reply.is_some_and(|reply| reply[ICMP_TYPE] == ECHO_REPLY);
            ensure!(is_answered == (to == TARGET_MAC), "the reply to echo request {number} was {reply:02x?}");
        }
    }
    let difference: Vec<f64> = answered.iter().zip(&dropped).map(|(with, without)| with - without).collect();
    let reply_ns = Spread::of(&difference);
    Ok(Echo {
        requests,
        requests_per_s: PER_SECOND,
        answered_ns: Spread::of(&answered),
        dropped_ns: Spread::of(&dropped),
        reply_ns,
        cpu_percent: reply_ns.median * f64::from(PER_SECOND) / 1e9 * 100.0,
    })
}

fn request(to: Mac, number: u32) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(PROBER_MAC, to).ipv4(PROBER, TARGET, 64);
    builder.icmpv4_echo_request(1, number as u16).write(&mut frame, &[0; 32])?;
    Ok(frame)
}

impl fmt::Display for Echo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "echo: {} requests at {} per second; ns of CPU time, medians (quartiles)",
            self.requests, self.requests_per_s
        )?;
        let rows = [
            ("answered by the kernel", self.answered_ns),
            ("for another host, dropped", self.dropped_ns),
            ("difference", self.reply_ns),
        ];
        for (name, ns) in rows {
            writeln!(
                out,
                "  {name:<26} {:>6.0} ({:.0} to {:.0})",
                ns.median, ns.lower_quartile, ns.upper_quartile
            )?;
        }
        write!(out, "  replies need {:.2} % of a CPU", self.cpu_percent)
    }
}
