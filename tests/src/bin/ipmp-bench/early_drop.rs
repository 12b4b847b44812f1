//! CPU time of frames that a member receives and the group does not want, with and without its early drop (docs/xdp.md).

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipmp::datapath::{Datapath, Group, GroupSpec, MemberSpec};
use ipmp_common::hash::HashPolicy;
use ipmp_common::steer::{MemberSet, Preference, SLOTS};
use lab::packet::{PacketSocket, ethernet_header};
use lab::process::thread_cpu_time;
use lab::{Lab, Mac, MemberKind, filter, show_mac, wait_until};
use serde::{Deserialize, Serialize};

use crate::spread::Spread;

const GROUP_MAC: Mac = [0x02, 0x1e, 0, 0, 0, 9];
const OTHER_HOST: Mac = [0x02, 0, 0, 0, 5, 1];
const OTHER_HOST_TOO: Mac = [0x02, 0, 0, 0, 5, 2];
const BROADCAST: Mac = [0xff; 6];
const IPV4: u16 = 0x0800;
/// The member that accepts broadcast, and the one that receives the frames.
const CAST: u8 = 0;
const RECEIVER: u8 = 1;
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a run is repeated in which the backlog became full, and the pause before.
const ATTEMPTS: usize = 10;
const SETTLE: Duration = Duration::from_millis(20);

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct EarlyDrop {
    /// Rounds.
    pub rounds: u32,
    /// Frames in a run.
    pub frames: u32,
    /// One for each type of members.
    pub members: Vec<Members>,
}

/// Members of one type.
#[derive(Debug, Serialize, Deserialize)]
pub struct Members {
    /// `veth`, whose driver has an skb before it runs the program, and `tap`, whose driver has none.
    pub kind: String,
    /// One for each kind of frame.
    pub rows: Vec<Row>,
}

/// A kind of frame.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// `copy`, `reflected`, `flooded`, `wanted`.
    pub frame: String,
    /// CPU time per frame; on veth, its transmission by the other end of the cable included.
    pub without_ns: Spread,
    /// The same with the early drop.
    pub with_ns: Spread,
    /// The difference within each round.
    pub saved_ns: Spread,
}

/// Measures in labs of their own, with veth and with TAP members.
pub fn measure(rounds: u32, frames: u32) -> Result<EarlyDrop> {
    let mut members = Vec::new();
    for (kind, device) in [("veth", MemberKind::Veth), ("tap", MemberKind::Tap)] {
        let lab = Lab::builder().members(2).one_switch().peers(&[]).kind(device).build()?;
        let rows = lab.host().run(|| measure_here(&lab, rounds, frames))?;
        members.push(Members { kind: kind.to_owned(), rows });
    }
    Ok(EarlyDrop { rounds, frames, members })
}

fn measure_here(lab: &Lab, rounds: u32, frames: u32) -> Result<Vec<Row>> {
    let (mut datapath, mut group) = group(lab)?;
    let receiver = lab.member("rge0");
    let far = receiver.cable().far();
    let socket = PacketSocket::open_for(0, &far.namespace, Some(&far.interface), &filter::all())?;
    let wire = receiver.cable().wire();
    let send = |frame: &[u8]| wire.map_or_else(|| socket.send(frame), |wire| wire.deliver(frame));
    let packet = |to: Mac, from: Mac| [ethernet_header(to, from, IPV4), udp()].concat();
    let kinds = [
        ("copy", packet(BROADCAST, OTHER_HOST)),
        ("reflected", packet(BROADCAST, GROUP_MAC)),
        ("flooded", packet(OTHER_HOST_TOO, OTHER_HOST)),
        ("wanted", packet(receiver.mac(), OTHER_HOST)),
    ];
    let ifindex = lab.host().link(receiver.name())?.index;
    let mut times = vec![[Vec::new(), Vec::new()]; kinds.len()];
    for round in 0..rounds {
        for is_early in if round % 2 == 0 { [false, true] } else { [true, false] } {
            if is_early {
                group.start_early_drop(RECEIVER, receiver.name(), ifindex)?;
            } else {
                group.stop_early_drop(RECEIVER)?;
            }
            let has_carrier = || lab.host().link(receiver.name()).is_ok_and(|link| link.carrier);
            ensure!(wait_until(PATIENCE, has_carrier), "{} has no carrier", receiver.name());
            for ((_, frame), times) in kinds.iter().zip(&mut times) {
                // Not measured: cold caches.
                run(&send, frame, frames / 20 + 1)?;
                let before = group.early_drops(RECEIVER)?;
                times[usize::from(is_early)].push(run(&send, frame, frames)?);
                let after = group.early_drops(RECEIVER)?;
                ensure!(after.passed == before.passed, "{} is captured: {after:?}", receiver.name());
            }
        }
    }
    group.remove()?;
    datapath.discard_prepared();
    drop(datapath);
    Datapath::teardown()?;
    let row = |((frame, _), [without, with]): (&(&'static str, Vec<u8>), &[Vec<f64>; 2])| {
        let saved: Vec<f64> = without.iter().zip(with).map(|(without, with)| without - with).collect();
        Row {
            frame: (*frame).to_owned(),
            without_ns: Spread::of(without),
            with_ns: Spread::of(with),
            saved_ns: Spread::of(&saved),
        }
    };
    Ok(kinds.iter().zip(&times).map(row).collect())
}

/// A group of both members, of which the first accepts broadcast.
fn group(lab: &Lab) -> Result<(Datapath, Group)> {
    let host = lab.host();
    host.ip(&format!("link add group0 address {} type veth peer name far", show_mac(GROUP_MAC)))?;
    host.ip("link set group0 up")?;
    let mut datapath = Datapath::open(false)?;
    let mut group = datapath.group(&GroupSpec {
        name: "group0".to_owned(),
        ifindex: host.link("group0")?.index,
        mac: GROUP_MAC,
        policy: HashPolicy::Flow,
        updelay: Duration::from_millis(1),
    })?;
    for (number, name) in [(CAST, "e1000g0"), (RECEIVER, "rge0")] {
        let member = lab.member(name);
        let (name, ifindex, mac) = (name.to_owned(), host.link(name)?.index, member.mac());
        group.attach(&MemberSpec { number, name, ifindex, mac, lower: Vec::new() })?;
    }
    let both = MemberSet::EMPTY.with(CAST).with(RECEIVER);
    let list = Preference::new(&[CAST, RECEIVER]);
    group.set_usable(both);
    group.set_cast(list);
    group.set_slots(&[list; SLOTS]);
    if !group.sentinel_runs() {
        group.set_live(both);
    }
    ensure!(wait_until(PATIENCE, || group.live() == both), "the members are not live: {:?}", group.live());
    Ok((datapath, group))
}

/// An IPv4 packet with a UDP datagram, to the discard port of a host of another network.
fn udp() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1];
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let check = !((sum & 0xffff) as u16).wrapping_add((sum >> 16) as u16);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet.extend([0, 9, 0, 9, 0, 26, 0, 0]);
    packet.resize(46, 0);
    packet
}

/// Nanoseconds of CPU time per frame: the driver and the stack receive it in the thread that sends it.
///
/// On a busy machine a kernel thread takes over that work, and the backlog becomes full. Such a run measures something else: it is
/// repeated.
fn run(send: &dyn Fn(&[u8]) -> Result<()>, frame: &[u8], frames: u32) -> Result<f64> {
    let once = || -> Result<f64> {
        let before = thread_cpu_time();
        for _ in 0..frames {
            send(frame)?;
        }
        Ok((thread_cpu_time() - before).as_nanos() as f64 / f64::from(frames))
    };
    let is_full = |error: &anyhow::Error| {
        error.downcast_ref().and_then(std::io::Error::raw_os_error) == Some(libc::ENOBUFS)
    };
    for _ in 1..ATTEMPTS {
        match once() {
            Err(error) if is_full(&error) => std::thread::sleep(SETTLE),
            result => return result,
        }
    }
    once().context("this machine is too busy: its backlog is full each time")
}

impl fmt::Display for EarlyDrop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "early drop: {} rounds of {} frames; ns of CPU time a frame; on veth, transmission included",
            self.rounds, self.frames
        )?;
        for Members { kind, rows } in &self.members {
            for Row { frame, without_ns, with_ns, saved_ns } in rows {
                write!(
                    out,
                    "\n  {kind:<5} {frame:<10} without {:6.0}   with {:6.0}   saved {:6.0} ({:.0} to {:.0})",
                    without_ns.median,
                    with_ns.median,
                    saved_ns.median,
                    saved_ns.lower_quartile,
                    saved_ns.upper_quartile
                )?;
            }
        }
        Ok(())
    }
}
