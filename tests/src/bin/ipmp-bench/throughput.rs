//! TCP bulk transfers and small UDP packets through a group and through a plain veth pair, in both directions.
//!
//! The host has three veth pairs of each kind to one other host, without a switch. One is the only member of a group, one has an address
//! itself: these two paths differ only in the group. The address of the third is on another interface, and two programs redirect what
//! passes, and do nothing else: no group that is made of an interface and programs can be faster.

use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::bulk::Bulk;
use lab::cable::End;
use lab::production::GROUP;
use lab::{Daemon, Lab, Namespace, softnet_drops, wait_until};
use serde::{Deserialize, Serialize};

use crate::program::Program;
use crate::spread::Spread;
use crate::veth::Veth;
use crate::{flood, segment};

/// Target: the least ratio of bulk throughput through the group to that of the plain veth.
const TARGET: f64 = 0.95;
/// The same of small packets.
const TARGET_PACKETS: Both<f64> = Both { outbound: 0.97, inbound: 0.95 };

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Throughput {
    /// Rounds.
    pub rounds: u32,
    /// Duration of a transfer.
    pub transfer_ms: u64,
    /// TCP bulk transfers.
    pub bulk: Both<Transfers>,
    /// UDP packets of 64 bytes.
    pub packets: Both<Transfers>,
    /// Of bulk transfers.
    frame_bytes: Both<FrameBytes>,
    segments: Segments,
    /// The target of bulk transfers, in both directions.
    pub target_ratio: f64,
    target_met: bool,
    /// The targets of small packets.
    pub target_packets_ratio: Both<f64>,
    /// The same with other kinds of veth pairs, in the same rounds.
    pub others: Vec<Other>,
}

/// The results of a kind of veth pairs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Other {
    /// Offloads and queues.
    pub veth: String,
    /// TCP bulk transfers.
    pub bulk: Both<Transfers>,
    /// UDP packets of 64 bytes.
    pub packets: Both<Transfers>,
}

/// Results for both directions, named from the host.
#[derive(Debug, Serialize, Deserialize)]
pub struct Both<T> {
    /// From the host.
    pub outbound: T,
    /// To the host.
    pub inbound: T,
}

/// Transfers of one kind in one direction.
#[derive(Debug, Serialize, Deserialize)]
pub struct Transfers {
    /// Received through the group: bits per second of bulk transfers, else packets per second.
    pub group_per_s: Spread,
    /// Received through the plain veth.
    pub plain_per_s: Spread,
    /// Of both, in each round.
    pub ratio: Spread,
    /// The same of programs that only redirect.
    pub redirect_ratio: Spread,
    /// Packets that the backlogs of all CPUs dropped during all transfers through the group.
    pub group_backlog_drops: u64,
    /// The same of the plain veth.
    pub plain_backlog_drops: u64,
}

/// Average bytes of a frame of bulk transfers at the member, unsegmented.
#[derive(Debug, Serialize, Deserialize)]
pub struct FrameBytes {
    group: f64,
    plain: f64,
}

/// The longest frames from the host.
#[derive(Debug, Serialize, Deserialize)]
struct Segments {
    group_bytes: usize,
    plain_bytes: usize,
}

/// The paths of a kind of veth pairs, with what was measured of each in both directions.
struct Trio {
    veth: Veth,
    /// Through the group, not, and through programs that only redirect.
    paths: [Path; 3],
    results: [[Rounds; 3]; 2],
    _redirects: [OwnedFd; 2],
}

/// A path between the host and the other host.
struct Path {
    /// The end of the veth pair at the host.
    near: End,
    host_address: Ipv4Addr,
    /// The end of the veth pair at the other host.
    far: End,
    far_address: Ipv4Addr,
}

/// The results of all rounds of one path in one direction.
#[derive(Default)]
struct Rounds {
    bulk: Measured,
    packets: Measured,
    frames: u64,
    bytes: u64,
}

/// Those of one kind of transfers.
#[derive(Default)]
struct Measured {
    per_s: Vec<f64>,
    drops: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Outbound,
    Inbound,
}

/// Measures in a lab of its own. `time`: of one transfer, short, so that both paths have the same disturbances.
pub fn measure(rounds: u32, time: Duration) -> Result<Throughput> {
    let lab = Lab::builder().members(1).one_switch().peers(&[]).build()?;
    let other = lab.namespace("other")?;
    other.ip("link set lo up")?;
    let daemon = Daemon::start_in(&lab)?;
    let kinds = Veth::ALL.iter().enumerate();
    let mut trios = kinds
        .map(|(number, &veth)| Trio::create(&lab, &other, &daemon, veth, number as u8))
        .collect::<Result<Vec<_>>>()?;
    raise_priority();
    for round in 0..rounds {
        for trio in &mut trios {
            trio.measure(round, time)?;
        }
    }
    let default = &trios[0].paths;
    let [group_bytes, plain_bytes] = [default[0].longest_segment(time)?, default[1].longest_segment(time)?];
    let mut all = trios.iter().map(Trio::ratios);
    let Some(Other { bulk, packets, .. }) = all.next() else { unreachable!("there are kinds of veth pairs") };
    let bytes = |direction: usize| {
        let [group, plain, _] = trios[0].results[direction].each_ref().map(Rounds::frame_bytes);
        FrameBytes { group, plain }
    };
    let frame_bytes = Both { outbound: bytes(0), inbound: bytes(1) };
    let target_met = bulk.outbound.ratio.median >= TARGET && bulk.inbound.ratio.median >= TARGET;
    Ok(Throughput {
        rounds,
        transfer_ms: time.as_millis() as u64,
        bulk,
        packets,
        frame_bytes,
        segments: Segments { group_bytes, plain_bytes },
        target_ratio: TARGET,
        target_met,
        target_packets_ratio: TARGET_PACKETS,
        others: all.collect(),
    })
}

impl Trio {
    /// Creates the paths, the group of one of them and the programs of another, and waits until packets pass.
    fn create(lab: &Lab, other: &Namespace, daemon: &Daemon<'_>, veth: Veth, number: u8) -> Result<Self> {
        let path = |name: String, network: u8| Path::create(lab, other, veth, &name, network);
        let paths = [
            path(format!("group{number}"), 3 * number)?,
            path(format!("plain{number}"), 3 * number + 1)?,
            path(format!("bare{number}"), 3 * number + 2)?,
        ];
        let [group, plain, bare] = &paths;
        let name = if number == 0 { GROUP.to_owned() } else { format!("test{number}") };
        daemon.ctl(&format!("create {name} --address {}/24", group.host_address))?;
        daemon.ctl(&format!("attach {} --group {name}", group.near.interface))?;
        lab.host().ip(&format!("addr add {}/24 dev {}", plain.host_address, plain.near.interface))?;
        let _redirects = redirect_between(lab.host(), bare, &format!("over{number}"))?;
        for path in &paths {
            path.wait_reachable()?;
        }
        Ok(Self { veth, paths, results: Default::default(), _redirects })
    }

    /// A round. The order alternates, so that effects of one transfer on the next are the same for all paths.
    fn measure(&mut self, round: u32, time: Duration) -> Result<()> {
        let order = if round.is_multiple_of(2) { [0, 1, 2] } else { [2, 1, 0] };
        for (results, direction) in self.results.iter_mut().zip([Direction::Outbound, Direction::Inbound]) {
            for which in order {
                self.paths[which].bulk(direction, time, &mut results[which])?;
            }
            for which in order {
                let before = softnet_drops();
                let packets = self.paths[which].packets(direction, time)?;
                results[which].packets.per_s.push(packets);
                results[which].packets.drops += softnet_drops() - before;
            }
        }
        Ok(())
    }

    fn ratios(&self) -> Other {
        let [outbound, inbound] = &self.results;
        let bulk = |rounds: &[Rounds; 3]| Transfers::of(rounds.each_ref().map(|path| &path.bulk));
        let packets = |rounds: &[Rounds; 3]| Transfers::of(rounds.each_ref().map(|path| &path.packets));
        let bulk = Both { outbound: bulk(outbound), inbound: bulk(inbound) };
        let packets = Both { outbound: packets(outbound), inbound: packets(inbound) };
        Other { veth: self.veth.name(), bulk, packets }
    }
}

/// Gives the address of a path to an interface on top, made as that of a group is where the kernel has no dummy, and attaches the programs
/// between the two.
fn redirect_between(host: &Namespace, path: &Path, top: &str) -> Result<[OwnedFd; 2]> {
    let near = &path.near.interface;
    host.ip(&format!("link add {top} type veth peer name {top}x"))?;
    // The program leaves the MAC in the frame.
    let mac = host.link(near)?.mac;
    host.ip(&format!("link set dev {top} address {}", ipmp_common::address::Mac::from(mac)))?;
    for interface in [top, &format!("{top}x")] {
        host.ip(&format!("link set dev {interface} up"))?;
    }
    host.ip(&format!("addr add {}/24 dev {top}", path.host_address))?;
    let [near, top] = [host.link(near)?.index, host.link(top)?.index];
    host.run(|| {
        Ok([
            Program::redirect_only(near)?.attach(top, true)?,
            Program::redirect_to_ingress(top)?.attach(near, false)?,
        ])
    })
}

/// Gives this thread, and the threads that it starts later, the lowest nice value. The daemon, which is already running,
/// keeps its own. Without permission nothing changes.
fn raise_priority() {
    const LARGEST: libc::c_int = -20;
    // SAFETY: a call with numbers alone; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LARGEST) };
}

impl Path {
    /// Creates a veth pair from the host to the other host, which gets an address in this network.
    fn create(lab: &Lab, other: &Namespace, veth: Veth, name: &str, network: u8) -> Result<Self> {
        let end = |namespace: &Namespace, interface: String| End { namespace: namespace.clone(), interface };
        let (near, far) = (end(lab.host(), format!("{name}n")), end(other, name.to_owned()));
        veth.create(&near, &far)?;
        let [host_address, far_address] = [200, 1].map(|last| Ipv4Addr::new(192, 168, network, last));
        other.ip(&format!("addr add {far_address}/24 dev {name}"))?;
        Ok(Self { near, host_address, far, far_address })
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
        let (host, far) = (&self.near.namespace, &self.far.namespace);
        match direction {
            Direction::Outbound => Bulk::new(host, far, self.far_address).source(self.host_address),
            Direction::Inbound => Bulk::new(far, host, self.host_address).source(self.far_address),
        }
    }

    /// Runs one bulk transfer and adds its results.
    fn bulk(&self, direction: Direction, time: Duration, rounds: &mut Rounds) -> Result<()> {
        let statistics = || -> Result<(u64, u64)> {
            let port = self.far.namespace.link(&self.far.interface)?.statistics;
            Ok(match direction {
                Direction::Outbound => (port.rx_packets, port.rx_bytes),
                Direction::Inbound => (port.tx_packets, port.tx_bytes),
            })
        };
        let (drops, before) = (softnet_drops(), statistics()?);
        let running = self.transfer(direction).start()?;
        std::thread::sleep(time);
        let report = running.stop()?;
        ensure!(report.error.is_none() && report.intact, "a bulk transfer failed: {report}");
        let after = statistics()?;
        rounds.bulk.per_s.push(report.bytes as f64 * 8.0 / report.duration.as_secs_f64());
        rounds.frames += after.0 - before.0;
        rounds.bytes += after.1 - before.1;
        rounds.bulk.drops += softnet_drops() - drops;
        Ok(())
    }

    /// Small packets per second.
    fn packets(&self, direction: Direction, time: Duration) -> Result<f64> {
        let host = (&self.near.namespace, self.host_address);
        let far = (&self.far.namespace, self.far_address);
        let (from, to) = if direction == Direction::Outbound { (host, far) } else { (far, host) };
        flood::packets_per_s(from.0, from.1, to.0, to.1, time)
    }

    fn longest_segment(&self, time: Duration) -> Result<usize> {
        segment::longest(self.transfer(Direction::Outbound), &self.far, time)
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

impl Transfers {
    /// Of the three paths.
    fn of([group, plain, redirect]: [&Measured; 3]) -> Self {
        Self {
            group_per_s: Spread::of(&group.per_s),
            plain_per_s: Spread::of(&plain.per_s),
            ratio: ratio(&group.per_s, &plain.per_s),
            redirect_ratio: ratio(&redirect.per_s, &plain.per_s),
            group_backlog_drops: group.drops,
            plain_backlog_drops: plain.drops,
        }
    }
}

impl fmt::Display for Throughput {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "throughput: {} rounds of {} ms per path, medians", self.rounds, self.transfer_ms)?;
        writeln!(
            out,
            "  {:<26} {:>10} {:>10} {:>8}   {:<16} {:>13}",
            "", "group", "plain veth", "ratio", "quartiles", "redirect only"
        )?;
        for (kind, unit, transfers) in
            [("TCP bulk", ("Gbit/s", 1e9), &self.bulk), ("64 bytes", ("1000/s", 1e3), &self.packets)]
        {
            for (direction, transfers) in [("outbound", &transfers.outbound), ("inbound", &transfers.inbound)]
            {
                let [group, plain] =
                    [transfers.group_per_s, transfers.plain_per_s].map(|per_s| per_s.median / unit.1);
                writeln!(
                    out,
                    "  {:<26} {group:>10.2} {plain:>10.2} {} {:>13.3}",
                    format!("{kind} {direction}, {}", unit.0),
                    show_ratio(transfers.ratio),
                    transfers.redirect_ratio.median
                )?;
            }
        }
        for (direction, bytes) in
            [("outbound", &self.frame_bytes.outbound), ("inbound", &self.frame_bytes.inbound)]
        {
            writeln!(
                out,
                "  bytes of a frame {direction} {:.0}, plain veth {:.0}",
                bytes.group, bytes.plain
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
        )?;
        for other in &self.others {
            let Other { veth, bulk, packets } = other;
            write!(out, "\n  {veth}: ratios")?;
            for (name, ratio) in [
                ("bulk outbound", bulk.outbound.ratio),
                ("inbound", bulk.inbound.ratio),
                ("64 bytes outbound", packets.outbound.ratio),
                ("inbound", packets.inbound.ratio),
            ] {
                write!(out, "   {name} {}", ratio.quartiles(3))?;
            }
        }
        Ok(())
    }
}

fn show_ratio(ratio: Spread) -> String {
    format!("{:>8.3}   {:.3} to {:.3}  ", ratio.median, ratio.lower_quartile, ratio.upper_quartile)
}
