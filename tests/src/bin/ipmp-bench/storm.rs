//! A broadcast storm at a group of four members: CPU time, and wanted packets that are lost, with and without `xdp=driver` (docs/xdp.md).
//!
//! One thread is the receive interrupt of all members: it passes each frame to the TAP devices when the frame is due, and the driver and the
//! stack handle it in that call. While the thread is late, frames wait in a ring, and a frame that finds the ring full is lost, as in a NIC.

use std::fmt;
use std::net::UdpSocket;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etherparse::PacketBuilder;
use lab::network::DATA;
use lab::process::thread_cpu_time;
use lab::tap::Wire;
use lab::{Lab, Mac, MemberKind, Production, clock};
use serde::{Deserialize, Serialize};

use crate::flood;
use crate::spread::Spread;

const MEMBERS: usize = 4;
/// Broadcast frames per second; each member receives a copy of each.
const RATES: [u64; 5] = [20_000, 50_000, 100_000, 200_000, 500_000];
/// Unicast packets per second to a data address, beside them.
const WANTED: u64 = 10_000;
/// Length of a receive ring, in frames.
const RING: u64 = 1_024;
/// Time between two interrupts without a backlog.
const MODERATION: Duration = Duration::from_micros(500);
const OTHER_HOST: Mac = [0x02, 0, 0, 0, 5, 1];
const OTHER_ADDRESS: [u8; 4] = [192, 168, 178, 99];
const SUBNET_BROADCAST: [u8; 4] = [192, 168, 178, 255];
const DISCARD: u16 = 9;

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Storm {
    /// Rounds.
    pub rounds: u32,
    /// Members of the group.
    pub members: usize,
    /// Unicast packets to a data address, beside the storm.
    pub wanted_packets_per_s: u64,
    /// Length of a receive ring.
    pub ring_frames: u64,
    /// One for each rate of the storm.
    pub rates: Vec<Rate>,
}

/// A rate of the storm.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rate {
    /// Broadcast frames; each member receives a copy of each.
    pub offered_frames_per_s: u64,
    /// Without the early drop.
    pub without: Load,
    /// With it.
    pub with: Load,
}

/// What the host did with it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Load {
    /// Frames that found a place in the ring.
    pub frames_per_s: Spread,
    /// Of one CPU: the thread that is the interrupt.
    pub cpu_percent: Spread,
    /// Wanted packets that were lost.
    pub wanted_lost_percent: Spread,
}

/// The results of all rounds of one setting.
#[derive(Default)]
struct Rounds {
    frames_per_s: Vec<f64>,
    cpu_percent: Vec<f64>,
    wanted_lost_percent: Vec<f64>,
}

/// Frames to send, and where.
struct Frames<'a> {
    wires: Vec<&'a Wire>,
    broadcast: Vec<u8>,
    /// The member that has the MAC of the wanted packet.
    receiver: &'a Wire,
    wanted: Vec<u8>,
}

/// One storm.
struct Outcome {
    frames: u64,
    wanted: u64,
    cpu: Duration,
    time: Duration,
}

/// Measures in a lab of its own: so many rounds with each rate and each setting, of this duration.
pub fn measure(rounds: u32, time: Duration, rate: Option<u64>) -> Result<Storm> {
    let lab = Lab::builder().members(MEMBERS).one_switch().peers(&[]).kind(MemberKind::Tap).build()?;
    let production = Production::create(&lab)?;
    let socket = flood::receiver(lab.host(), DATA)?;
    let port = socket.local_addr()?.port();
    let inbound = production.inbound(DATA)?;
    let wires = lab.members().iter().map(|member| member.cable().wire().context("a member is no TAP device"));
    let receiver = lab.member(&inbound);
    let frames = Frames {
        wires: wires.collect::<Result<_>>()?,
        broadcast: udp([0xff; 6], SUBNET_BROADCAST, DISCARD)?,
        receiver: receiver.cable().wire().context("a member is no TAP device")?,
        wanted: udp(receiver.mac(), DATA.octets(), port)?,
    };
    let rates = rate.map_or(RATES.to_vec(), |rate| vec![rate]);
    let mut results: Vec<[Rounds; 2]> = rates.iter().map(|_| Default::default()).collect();
    for round in 0..rounds {
        for is_early in if round % 2 == 0 { [false, true] } else { [true, false] } {
            for member in lab.members() {
                let xdp = if is_early { "driver" } else { "off" };
                production.daemon.ctl(&format!("set {} xdp={xdp}", member.name()))?;
            }
            production.wait_usable(MEMBERS)?;
            for (&rate, results) in rates.iter().zip(&mut results) {
                let before = dropped_copies(&production)?;
                let (outcome, received) = storm(&frames, &socket, rate, time)?;
                let dropped = dropped_copies(&production)? - before;
                let copies = if is_early { outcome.frames * (MEMBERS as u64 - 1) } else { 0 };
                ensure!(
                    dropped >= copies && (is_early || dropped == 0),
                    "{dropped} copies were dropped by XDP, not {copies}: {}",
                    production.show()
                );
                let results = &mut results[usize::from(is_early)];
                let seconds = outcome.time.as_secs_f64();
                results.frames_per_s.push(outcome.frames as f64 / seconds);
                results.cpu_percent.push(100.0 * outcome.cpu.as_secs_f64() / seconds);
                let lost = outcome.wanted.saturating_sub(received);
                results.wanted_lost_percent.push(100.0 * lost as f64 / outcome.wanted as f64);
            }
        }
    }
    let rates = rates.iter().zip(&results).map(|(&offered_frames_per_s, [without, with])| Rate {
        offered_frames_per_s,
        without: without.load(),
        with: with.load(),
    });
    Ok(Storm {
        rounds,
        members: MEMBERS,
        wanted_packets_per_s: WANTED,
        ring_frames: RING,
        rates: rates.collect(),
    })
}

/// Copies that the members have dropped by XDP.
fn dropped_copies(production: &Production<'_>) -> Result<u64> {
    let members = production.report()?.members;
    Ok(members.iter().filter_map(|member| member.xdp.as_ref()).map(|xdp| xdp.other_copy).sum())
}

/// Runs one storm. Also returns the number of wanted packets that the socket received.
fn storm(frames: &Frames<'_>, socket: &UdpSocket, rate: u64, time: Duration) -> Result<(Outcome, u64)> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| flood::count(socket, &is_over));
        let outcome = scope.spawn(|| frames.send(rate, time)).join();
        is_over.store(true, SeqCst);
        let received = receiving.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok((outcome.unwrap_or_else(|panic| resume_unwind(panic))?, received))
    })
}

impl Frames<'_> {
    fn send(&self, rate: u64, time: Duration) -> Result<Outcome> {
        clock::use_realtime_priority();
        let total = (time.as_secs_f64() * rate as f64) as u64;
        let between = rate / WANTED;
        let (mut next, mut frames) = (0, 0);
        let (began, cpu) = (Instant::now(), thread_cpu_time());
        while next < total {
            let due = ((began.elapsed().as_secs_f64() * rate as f64) as u64).min(total);
            if next == due {
                std::thread::sleep(MODERATION);
                continue;
            }
            next = next.max(due.saturating_sub(RING));
            for number in next..due {
                for wire in &self.wires {
                    wire.deliver(&self.broadcast)?;
                }
                if number % between == 0 {
                    self.receiver.deliver(&self.wanted)?;
                }
            }
            frames += due - next;
            next = due;
        }
        let wanted = total.div_ceil(between);
        Ok(Outcome { frames, wanted, cpu: thread_cpu_time() - cpu, time: began.elapsed() })
    }
}

/// A frame of another host with an empty UDP datagram.
fn udp(to: Mac, address: [u8; 4], port: u16) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(OTHER_HOST, to).ipv4(OTHER_ADDRESS, address, 64);
    builder.udp(DISCARD, port).write(&mut frame, &[0; 18])?;
    Ok(frame)
}

impl Rounds {
    fn load(&self) -> Load {
        Load {
            frames_per_s: Spread::of(&self.frames_per_s),
            cpu_percent: Spread::of(&self.cpu_percent),
            wanted_lost_percent: Spread::of(&self.wanted_lost_percent),
        }
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, members, wanted_packets_per_s, ring_frames, rates } = self;
        write!(
            out,
            "broadcast storm: {members} TAP members with rings of {ring_frames} frames, {wanted_packets_per_s} wanted packets/s; \
             {rounds} rounds, medians (quartiles)"
        )?;
        for Rate { offered_frames_per_s, without, with } in rates {
            for (xdp, load) in [("off", without), ("driver", with)] {
                write!(
                    out,
                    "\n  {offered_frames_per_s:>7} frames/s   xdp={xdp:<6}   received {:>7.0}/s   {:>5.1} % of a CPU ({:.1} to {:.1})   \
                     wanted lost {:>6.2} % ({:.2} to {:.2})",
                    load.frames_per_s.median,
                    load.cpu_percent.median,
                    load.cpu_percent.lower_quartile,
                    load.cpu_percent.upper_quartile,
                    load.wanted_lost_percent.median,
                    load.wanted_lost_percent.lower_quartile,
                    load.wanted_lost_percent.upper_quartile
                )?;
            }
        }
        Ok(())
    }
}
