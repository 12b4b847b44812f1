//! TCP bulk and small UDP packets through a group and through a bare veth, both ways.
//!
//! The host has two veth pairs to one other machine, with no switch in between. One is the only member of a group, the
//! other has an address itself. So the two ways differ in the group, and in nothing else.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::bulk::Bulk;
use lab::cable::End;
use lab::production::GROUP;
use lab::{Daemon, Lab, Namespace, clock};
use serde::Serialize;

use crate::spread::Spread;
use crate::{flood, segment};

/// How long each way is taken in a round: short, so that both ways meet the same disturbances.
const TIME: Duration = Duration::from_millis(150);
/// Bulk throughput through the group, at least, against the bare veth.
const AIM: f64 = 0.95;

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Throughput {
    rounds: u32,
    bulk: Both<Bulks>,
    packets: Both<Packets>,
    segments: Segments,
    aim_ratio: f64,
    aim_met: bool,
}

/// Both directions, as the host sees them.
#[derive(Debug, Serialize)]
struct Both<T> {
    outbound: T,
    inbound: T,
}

/// TCP.
#[derive(Debug, Serialize)]
struct Bulks {
    group_bits_per_s: Spread,
    bare_bits_per_s: Spread,
    ratio: Spread,
    group_frame_bytes: f64,
    bare_frame_bytes: f64,
}

/// UDP.
#[derive(Debug, Serialize)]
struct Packets {
    group_packets_per_s: Spread,
    bare_packets_per_s: Spread,
    ratio: Spread,
}

/// The longest frames from the host.
#[derive(Debug, Serialize)]
struct Segments {
    group_bytes: usize,
    bare_bytes: usize,
}

/// A way between the host and the other machine.
struct Way {
    host: Namespace,
    host_address: Ipv4Addr,
    /// The end of the veth pair that is not the host's.
    far: End,
    far_address: Ipv4Addr,
}

/// What the rounds of one way in one direction gave.
#[derive(Default)]
struct Rounds {
    bits: Vec<f64>,
    packets: Vec<f64>,
    frames: u64,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Outbound,
    Inbound,
}

/// Measures in a lab of its own.
pub fn measure(rounds: u32) -> Result<Throughput> {
    let lab = Lab::builder().members(1).one_switch().peers(&[]).build()?;
    let other = lab.namespace("other")?;
    other.ip("link set lo up")?;
    let [group, bare] = [
        Way::lay(&lab, &other, "group", Ipv4Addr::new(192, 168, 1, 1))?,
        Way::lay(&lab, &other, "bare", Ipv4Addr::new(192, 168, 2, 1))?,
    ];
    let daemon = Daemon::start_in(&lab)?;
    daemon.ctl(&format!("create {GROUP} --address {}/24", group.host_address))?;
    daemon.ctl(&format!("attach {} --group {GROUP}", Way::near("group")))?;
    lab.host().ip(&format!("addr add {}/24 dev {}", bare.host_address, Way::near("bare")))?;
    for way in [&group, &bare] {
        way.wait_open()?;
    }
    come_first();

    let mut results: [[Rounds; 2]; 2] = Default::default();
    for round in 0..rounds {
        for (place, direction) in [Direction::Outbound, Direction::Inbound].into_iter().enumerate() {
            // Who goes first takes turns: what a round does to the machine must not always hit the same one.
            let mut ways = [(0, &group), (1, &bare)];
            ways.rotate_left(round as usize % 2);
            for (which, way) in ways {
                way.bulk(direction, &mut results[place][which])?;
            }
            for (which, way) in ways {
                let packets = way.packets(direction)?;
                results[place][which].packets.push(packets);
            }
        }
    }
    let segments = Segments { group_bytes: group.longest_segment()?, bare_bytes: bare.longest_segment()? };
    let [outbound, inbound] = &results;
    let bulk = Both { outbound: Bulks::of(outbound), inbound: Bulks::of(inbound) };
    let aim_met = bulk.outbound.ratio.median >= AIM && bulk.inbound.ratio.median >= AIM;
    let packets = Both { outbound: Packets::of(outbound), inbound: Packets::of(inbound) };
    Ok(Throughput { rounds, bulk, packets, segments, aim_ratio: AIM, aim_met })
}

/// Gives this thread, and those that it will start, the largest share of the processors: not the daemon, which runs
/// already and is to be as it is. Without the right to do so it keeps what it has.
fn come_first() {
    const LARGEST: libc::c_int = -20;
    // SAFETY: a call with numbers alone; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LARGEST) };
}

impl Way {
    /// The host's end of a veth pair.
    fn near(name: &str) -> String {
        format!("{name}0")
    }

    /// Lays a veth pair from the host to the other machine, which gets the address given.
    fn lay(lab: &Lab, other: &Namespace, name: &str, far_address: Ipv4Addr) -> Result<Self> {
        let (host, near) = (lab.host(), Self::near(name));
        host.ip(&format!("link add {near} type veth peer name {name} netns {}", other.name()))?;
        host.ip(&format!("link set dev {near} up"))?;
        other.ip(&format!("addr add {far_address}/24 dev {name}"))?;
        other.ip(&format!("link set dev {name} up"))?;
        let [a, b, c, _] = far_address.octets();
        Ok(Self {
            host: host.clone(),
            host_address: Ipv4Addr::new(a, b, c, 200),
            far: End { namespace: other.clone(), interface: name.to_owned() },
            far_address,
        })
    }

    /// Waits until packets go both ways.
    fn wait_open(&self) -> Result<()> {
        let mut last = None;
        let open = clock::wait_until(Duration::from_secs(10), || {
            let (from, to) = (&self.far.namespace, self.host_address);
            let ping = lab::host::ping(from, None, to.into(), 1, Duration::ZERO, Duration::from_millis(100));
            let open = ping.as_ref().is_ok_and(|ping| ping.answered == 1);
            last = Some(ping);
            open
        });
        ensure!(open, "{} does not answer: {last:?}", self.host_address);
        Ok(())
    }

    fn transfer(&self, direction: Direction) -> Bulk {
        let (host, far) = (&self.host, &self.far.namespace);
        match direction {
            Direction::Outbound => Bulk::new(host, far, self.far_address).source(self.host_address),
            Direction::Inbound => Bulk::new(far, host, self.host_address).source(self.far_address),
        }
    }

    /// One bulk transfer; adds its figures.
    fn bulk(&self, direction: Direction, rounds: &mut Rounds) -> Result<()> {
        let statistics = || -> Result<(u64, u64)> {
            let port = self.far.namespace.link(&self.far.interface)?.statistics;
            Ok(match direction {
                Direction::Outbound => (port.rx_packets, port.rx_bytes),
                Direction::Inbound => (port.tx_packets, port.tx_bytes),
            })
        };
        let before = statistics()?;
        let running = self.transfer(direction).start()?;
        std::thread::sleep(TIME);
        let report = running.stop()?;
        ensure!(report.error.is_none() && report.intact, "a bulk transfer failed: {report}");
        let after = statistics()?;
        rounds.bits.push(report.bytes as f64 * 8.0 / report.duration.as_secs_f64());
        rounds.frames += after.0 - before.0;
        rounds.bytes += after.1 - before.1;
        Ok(())
    }

    /// Small packets per second.
    fn packets(&self, direction: Direction) -> Result<f64> {
        let host = (&self.host, self.host_address);
        let far = (&self.far.namespace, self.far_address);
        let (from, to) = if direction == Direction::Outbound { (host, far) } else { (far, host) };
        flood::packets_per_s(from.0, from.1, to.0, to.1, TIME)
    }

    fn longest_segment(&self) -> Result<usize> {
        segment::longest(self.transfer(Direction::Outbound), &self.far, TIME)
    }
}

impl Rounds {
    /// Bytes of a frame on the average.
    fn frame_bytes(&self) -> f64 {
        self.bytes as f64 / self.frames.max(1) as f64
    }
}

/// The ratio in each round.
fn ratio(group: &[f64], bare: &[f64]) -> Spread {
    let ratios: Vec<f64> = group.iter().zip(bare).map(|(group, bare)| group / bare).collect();
    Spread::of(&ratios)
}

impl Bulks {
    fn of([group, bare]: &[Rounds; 2]) -> Self {
        Self {
            group_bits_per_s: Spread::of(&group.bits),
            bare_bits_per_s: Spread::of(&bare.bits),
            ratio: ratio(&group.bits, &bare.bits),
            group_frame_bytes: group.frame_bytes(),
            bare_frame_bytes: bare.frame_bytes(),
        }
    }
}

impl Packets {
    fn of([group, bare]: &[Rounds; 2]) -> Self {
        Self {
            group_packets_per_s: Spread::of(&group.packets),
            bare_packets_per_s: Spread::of(&bare.packets),
            ratio: ratio(&group.packets, &bare.packets),
        }
    }
}

impl fmt::Display for Throughput {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "throughput: {} rounds of {} ms each way, medians", self.rounds, TIME.as_millis())?;
        writeln!(
            out,
            "  {:<26} {:>10} {:>10} {:>8}   {:<16} {:>11}",
            "", "group", "bare veth", "ratio", "quartiles", "frame bytes"
        )?;
        for (name, way) in [("outbound", &self.bulk.outbound), ("inbound", &self.bulk.inbound)] {
            let [group, bare] =
                [way.group_bits_per_s, way.bare_bits_per_s].map(|bits| bits.map(|bits| bits / 1e9));
            writeln!(
                out,
                "  {:<26} {:>10.2} {:>10.2} {}   {:.0} / {:.0}",
                format!("TCP bulk {name}, Gbit/s"),
                group.median,
                bare.median,
                show_ratio(way.ratio),
                way.group_frame_bytes,
                way.bare_frame_bytes
            )?;
        }
        for (name, way) in [("outbound", &self.packets.outbound), ("inbound", &self.packets.inbound)] {
            let [group, bare] = [way.group_packets_per_s, way.bare_packets_per_s]
                .map(|packets| packets.map(|packets| packets / 1e3));
            writeln!(
                out,
                "  {:<26} {:>10.1} {:>10.1} {}",
                format!("64 bytes {name}, 1000/s"),
                group.median,
                bare.median,
                show_ratio(way.ratio)
            )?;
        }
        writeln!(
            out,
            "  longest segment at the member {} bytes, at the bare veth {}",
            self.segments.group_bytes, self.segments.bare_bytes
        )?;
        write!(
            out,
            "  aim: bulk ratio at least {} both ways: {}",
            self.aim_ratio,
            if self.aim_met { "met" } else { "missed" }
        )
    }
}

fn show_ratio(ratio: Spread) -> String {
    format!("{:>8.3}   {:.3} to {:.3}  ", ratio.median, ratio.lower_quartile, ratio.upper_quartile)
}
