//! TCP bulk transfers and small UDP packets through a group and through a plain veth pair, in both directions.
//!
//! The host has two veth pairs to one other host, without a switch. One is the only member of a group, the other has an
//! address itself. So the two paths differ only in the group.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::bulk::Bulk;
use lab::cable::End;
use lab::production::GROUP;
use lab::{Daemon, Lab, Namespace, wait_until};
use serde::{Deserialize, Serialize};

use crate::spread::Spread;
use crate::{flood, segment};

/// Duration of one transfer: short, so that both paths have the same disturbances.
const TIME: Duration = Duration::from_millis(150);
/// Target: the least ratio of bulk throughput through the group to that of the plain veth.
const TARGET: f64 = 0.95;

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Throughput {
    rounds: u32,
    bulk: Both<Bulks>,
    packets: Both<Packets>,
    segments: Segments,
    target_ratio: f64,
    target_met: bool,
}

/// Results for both directions, named from the host.
#[derive(Debug, Serialize, Deserialize)]
struct Both<T> {
    outbound: T,
    inbound: T,
}

/// TCP bulk transfers.
#[derive(Debug, Serialize, Deserialize)]
struct Bulks {
    group_bits_per_s: Spread,
    plain_bits_per_s: Spread,
    ratio: Spread,
    group_frame_bytes: f64,
    plain_frame_bytes: f64,
}

/// UDP packets.
#[derive(Debug, Serialize, Deserialize)]
struct Packets {
    group_packets_per_s: Spread,
    plain_packets_per_s: Spread,
    ratio: Spread,
}

/// The longest frames from the host.
#[derive(Debug, Serialize, Deserialize)]
struct Segments {
    group_bytes: usize,
    plain_bytes: usize,
}

/// A path between the host and the other host.
struct Path {
    host: Namespace,
    host_address: Ipv4Addr,
    /// The end of the veth pair at the other host.
    far: End,
    far_address: Ipv4Addr,
}

/// The results of all rounds of one path in one direction.
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
    let [group, plain] = [
        Path::create(&lab, &other, "group", Ipv4Addr::new(192, 168, 1, 1))?,
        Path::create(&lab, &other, "plain", Ipv4Addr::new(192, 168, 2, 1))?,
    ];
    let daemon = Daemon::start_in(&lab)?;
    daemon.ctl(&format!("create {GROUP} --address {}/24", group.host_address))?;
    daemon.ctl(&format!("attach {} --group {GROUP}", Path::near("group")))?;
    lab.host().ip(&format!("addr add {}/24 dev {}", plain.host_address, Path::near("plain")))?;
    for path in [&group, &plain] {
        path.wait_reachable()?;
    }
    raise_priority();

    let mut results: [[Rounds; 2]; 2] = Default::default();
    for round in 0..rounds {
        for (place, direction) in [Direction::Outbound, Direction::Inbound].into_iter().enumerate() {
            // The order alternates, so that effects of one transfer on the next are the same for both paths.
            let mut paths = [(0, &group), (1, &plain)];
            paths.rotate_left(round as usize % 2);
            for (which, path) in paths {
                path.bulk(direction, &mut results[place][which])?;
            }
            for (which, path) in paths {
                let packets = path.packets(direction)?;
                results[place][which].packets.push(packets);
            }
        }
    }
    let segments = Segments { group_bytes: group.longest_segment()?, plain_bytes: plain.longest_segment()? };
    let [outbound, inbound] = &results;
    let bulk = Both { outbound: Bulks::of(outbound), inbound: Bulks::of(inbound) };
    let target_met = bulk.outbound.ratio.median >= TARGET && bulk.inbound.ratio.median >= TARGET;
    let packets = Both { outbound: Packets::of(outbound), inbound: Packets::of(inbound) };
    Ok(Throughput { rounds, bulk, packets, segments, target_ratio: TARGET, target_met })
}

/// Gives this thread, and the threads that it starts later, the lowest nice value. The daemon, which is already running,
/// keeps its own. Without permission nothing changes.
fn raise_priority() {
    const LARGEST: libc::c_int = -20;
    // SAFETY: a call with numbers alone; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LARGEST) };
}

impl Path {
    /// The host's end of a veth pair.
    fn near(name: &str) -> String {
        format!("{name}0")
    }

    /// Creates a veth pair from the host to the other host, which gets the address.
    fn create(lab: &Lab, other: &Namespace, name: &str, far_address: Ipv4Addr) -> Result<Self> {
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

    /// Waits until packets pass in both directions.
    fn wait_reachable(&self) -> Result<()> {
        let mut last = None;
        let reachable = wait_until(Duration::from_secs(10), || {
            let (from, to) = (&self.far.namespace, self.host_address);
            let ping = lab::ping(from, None, to.into(), 1, Duration::ZERO, Duration::from_millis(100));
            let reachable = ping.as_ref().is_ok_and(|ping| ping.answered == 1);
            last = Some(ping);
            reachable
        });
        ensure!(reachable, "no reply from {}: {last:?}", self.host_address);
        Ok(())
    }

    fn transfer(&self, direction: Direction) -> Bulk {
        let (host, far) = (&self.host, &self.far.namespace);
        match direction {
            Direction::Outbound => Bulk::new(host, far, self.far_address).source(self.host_address),
            Direction::Inbound => Bulk::new(far, host, self.host_address).source(self.far_address),
        }
    }

    /// Runs one bulk transfer and adds its results.
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
    /// Average bytes per frame.
    fn frame_bytes(&self) -> f64 {
        self.bytes as f64 / self.frames.max(1) as f64
    }
}

/// The ratio in each round.
fn ratio(group: &[f64], plain: &[f64]) -> Spread {
    let ratios: Vec<f64> = group.iter().zip(plain).map(|(group, plain)| group / plain).collect();
    Spread::of(&ratios)
}

impl Bulks {
    fn of([group, plain]: &[Rounds; 2]) -> Self {
        Self {
            group_bits_per_s: Spread::of(&group.bits),
            plain_bits_per_s: Spread::of(&plain.bits),
            ratio: ratio(&group.bits, &plain.bits),
            group_frame_bytes: group.frame_bytes(),
            plain_frame_bytes: plain.frame_bytes(),
        }
    }
}

impl Packets {
    fn of([group, plain]: &[Rounds; 2]) -> Self {
        Self {
            group_packets_per_s: Spread::of(&group.packets),
            plain_packets_per_s: Spread::of(&plain.packets),
            ratio: ratio(&group.packets, &plain.packets),
        }
    }
}

impl fmt::Display for Throughput {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "throughput: {} rounds of {} ms per path, medians", self.rounds, TIME.as_millis())?;
        writeln!(
            out,
            "  {:<26} {:>10} {:>10} {:>8}   {:<16} {:>11}",
            "", "group", "plain veth", "ratio", "quartiles", "frame bytes"
        )?;
        for (name, path) in [("outbound", &self.bulk.outbound), ("inbound", &self.bulk.inbound)] {
            let [group, plain] =
                [path.group_bits_per_s, path.plain_bits_per_s].map(|bits| bits.map(|bits| bits / 1e9));
            writeln!(
                out,
                "  {:<26} {:>10.2} {:>10.2} {}   {:.0} / {:.0}",
                format!("TCP bulk {name}, Gbit/s"),
                group.median,
                plain.median,
                show_ratio(path.ratio),
                path.group_frame_bytes,
                path.plain_frame_bytes
            )?;
        }
        for (name, path) in [("outbound", &self.packets.outbound), ("inbound", &self.packets.inbound)] {
            let [group, plain] = [path.group_packets_per_s, path.plain_packets_per_s]
                .map(|packets| packets.map(|packets| packets / 1e3));
            writeln!(
                out,
                "  {:<26} {:>10.1} {:>10.1} {}",
                format!("64 bytes {name}, 1000/s"),
                group.median,
                plain.median,
                show_ratio(path.ratio)
            )?;
        }
        writeln!(
            out,
            "  longest segment at the member {} bytes, at the plain veth {}",
            self.segments.group_bytes, self.segments.plain_bytes
        )?;
        write!(
            out,
            "  target: bulk ratio at least {} in both directions: {}",
            self.target_ratio,
            if self.target_met { "met" } else { "missed" }
        )
    }
}

fn show_ratio(ratio: Spread) -> String {
    format!("{:>8.3}   {:.3} to {:.3}  ", ratio.median, ratio.lower_quartile, ratio.upper_quartile)
}
