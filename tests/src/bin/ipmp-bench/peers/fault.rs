//! The faults, and what each costs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use lab::network::Lab;
use lab::packet::PacketSocket;
use lab::stream::Report;
use lab::{CpuLoad, Direction, MS, Member, SECOND, filter};
use serde::{Deserialize, Serialize};

use super::contender::Host;
use crate::times::Times;

/// How long a cable stays unplugged.
const UNPLUGGED: Duration = SECOND;
/// How long a path fails with its link up.
const SILENT: Duration = Duration::from_secs(4);
/// How long a port does not forward after its link came up.
const LATE: Duration = Duration::from_secs(3);
/// How long the processors are saturated before a cable is pulled.
const SATURATED: Duration = Duration::from_secs(2);
/// Share of the frames that a bad path loses, in each direction.
const LOSS_PERCENT: u8 = 30;
/// How long flows are counted.
const COUNTED: Duration = Duration::from_millis(300);
/// Bytes of Ethernet and IPv4 headers before the UDP source port.
const UDP_SOURCE: usize = 34;

/// What happens to the busiest member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Its cable is pulled.
    Pull,
    /// Its cable and that of the second busiest are pulled at the same time.
    DoublePull,
    /// It loses all frames in both directions, with its link up.
    Silent,
    /// The frames that the host sends, alone.
    SilentOut,
    /// The frames that the host receives, alone.
    SilentIn,
    /// Some of its frames, in both directions.
    Loss,
    /// Its cable was pulled; the link is up again, and the port does not forward yet.
    LatePort,
    /// Its cable is pulled while the processors are saturated.
    SaturatedPull,
}

impl Fault {
    /// All of them, in the order in which they are measured.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Whether the link goes down.
    pub fn is_pull(self) -> bool {
        matches!(self, Self::Pull | Self::DoublePull | Self::SaturatedPull)
    }

    /// How long it lasts, and is measured.
    pub fn time(self) -> Duration {
        match self {
            Self::Pull | Self::DoublePull | Self::SaturatedPull => UNPLUGGED,
            Self::Silent | Self::SilentOut | Self::SilentIn | Self::Loss => SILENT,
            Self::LatePort => LATE,
        }
    }
}

/// What a fault costs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Faults {
    pub fault: Fault,
    pub outbound: Cost,
    pub inbound: Cost,
    /// Flows from the host that leave by another member, at each fault.
    pub moved: Vec<Moved>,
    /// Failures of members that had none.
    pub false_failures: u64,
}

/// What a fault costs in one direction.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Packets lost at each fault.
    pub lost: Vec<u64>,
    /// Packets lost at its end, when the member is used again.
    pub lost_at_return: Vec<u64>,
    /// The longest outage of a flow at each fault.
    pub outage_us: Times,
}

/// Watched flows that leave by another member after a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Flows that left by a member with the fault.
    pub failed: usize,
    /// Those of them that leave by another one.
    pub rescued: usize,
    /// Flows that left by members without a fault.
    pub others: usize,
    /// Those of them that leave by a different one afterwards.
    pub needlessly: usize,
}

/// A fault that was made.
#[derive(Debug)]
pub struct Made {
    /// When something was done to a cable or the processors for the first time.
    began: Instant,
    /// From then on it is measured.
    at: Instant,
    /// When its members were in use again.
    repaired: Instant,
    moved: Moved,
    false_failures: u64,
}

/// The member of each flow, by its source port.
type Members = HashMap<u16, usize>;

/// Makes a fault on a host with running streams, the one to `port` among them, and repairs it.
pub fn make(host: &Host<'_>, fault: Fault, port: u16) -> Result<Made> {
    let lab = host.lab;
    let failures = host.failures()?;
    let order = by_traffic(lab)?;
    let affected = &order[..if fault == Fault::DoublePull { 2 } else { 1 }];
    let before = members_of_flows(lab, port)?;
    let began = Instant::now();
    let load = (fault == Fault::SaturatedPull).then(|| CpuLoad::start(lab)).transpose()?;
    if load.is_some() {
        std::thread::sleep(SATURATED);
    }
    let at = begin(lab, fault, affected)?;
    std::thread::sleep(fault.time().saturating_sub(COUNTED).saturating_sub(at.elapsed()));
    let after = members_of_flows(lab, port)?;
    std::thread::sleep(fault.time().saturating_sub(at.elapsed()));
    for &member in affected {
        let cable = lab.members()[member].cable();
        if fault.is_pull() {
            cable.replug()?;
        } else {
            cable.restore()?;
        }
    }
    drop(load);
    let counted = host.failures()?;
    let false_failures = (0..counted.len())
        .filter(|member| !affected.contains(member))
        .map(|member| counted[member].saturating_sub(failures[member]));
    let moved = Moved::between(&before, &after, affected);
    let false_failures = false_failures.sum();
    let repaired: Vec<&Member> = affected.iter().map(|&member| &lab.members()[member]).collect();
    host.wait_repaired(&repaired)?;
    Ok(Made { began, at, repaired: Instant::now(), moved, false_failures })
}

/// Returns when it began.
fn begin(lab: &Lab, fault: Fault, affected: &[usize]) -> Result<Instant> {
    let cable = lab.members()[affected[0]].cable();
    let change = match fault {
        Fault::Pull | Fault::DoublePull | Fault::SaturatedPull => {
            let change = cable.pull()?;
            for &member in &affected[1..] {
                lab.members()[member].cable().pull()?;
            }
            change
        }
        Fault::Silent => cable.cut()?,
        Fault::SilentOut => cable.cut_direction(Direction::Outbound)?,
        Fault::SilentIn => cable.cut_direction(Direction::Inbound)?,
        Fault::Loss => cable.lose(LOSS_PERCENT)?,
        Fault::LatePort => {
            cable.pull()?;
            cable.cut()?;
            // Longer than any of them needs to use another NIC.
            std::thread::sleep(2 * UNPLUGGED);
            cable.replug()?
        }
    };
    Ok(change.before)
}

/// The members, by their traffic of a moment, the busiest first.
fn by_traffic(lab: &Lab) -> Result<Vec<usize>> {
    let counts = || -> Result<Vec<u64>> {
        let ports = lab.members().iter().map(|member| member.cable().port());
        ports.map(|port| port.map(|port| port.rx_packets + port.tx_packets)).collect()
    };
    let before = counts()?;
    std::thread::sleep(COUNTED);
    let after = counts()?;
    let mut order: Vec<usize> = (0..after.len()).collect();
    order.sort_by_key(|&member| std::cmp::Reverse(after[member] - before[member]));
    Ok(order)
}

/// The member by which each flow to a port leaves, as the switch ports receive it.
fn members_of_flows(lab: &Lab, port: u16) -> Result<Members> {
    let mut sockets = Vec::new();
    for (number, member) in lab.members().iter().enumerate() {
        let far = member.cable().far();
        // The port of an unplugged cable is down, and receives nothing.
        if far.namespace.link(&far.interface)?.up {
            let filter = filter::udp_to(port);
            sockets.push((number, PacketSocket::open(&far.namespace, Some(&far.interface), &filter)?));
        }
    }
    std::thread::sleep(COUNTED - 50 * MS);
    let mut members = Members::new();
    for (member, socket) in sockets {
        socket.receive_for(Duration::ZERO, |seen, frame| {
            let source = frame.get(UDP_SOURCE..UDP_SOURCE + 2).and_then(|port| port.try_into().ok());
            if let (false, Some(source)) = (seen.outgoing, source) {
                members.insert(u16::from_be_bytes(source), member);
            }
        })?;
    }
    Ok(members)
}

impl Moved {
    /// Those of several faults.
    pub fn sum(of: &[Self]) -> Self {
        of.iter().fold(Self::default(), |sum, moved| Self {
            failed: sum.failed + moved.failed,
            rescued: sum.rescued + moved.rescued,
            others: sum.others + moved.others,
            needlessly: sum.needlessly + moved.needlessly,
        })
    }

    /// Share of the flows on members without a fault that have moved.
    pub fn share_moved_needlessly(self) -> f64 {
        self.needlessly as f64 / self.others.max(1) as f64
    }

    fn between(before: &Members, after: &Members, affected: &[usize]) -> Self {
        let mut moved = Self::default();
        for (port, member) in before {
            let now = after.get(port);
            let has_moved = now.is_some_and(|now| now != member);
            if affected.contains(member) {
                moved.failed += 1;
                moved.rescued += usize::from(has_moved && now.is_some_and(|now| !affected.contains(now)));
            } else {
                moved.others += 1;
                moved.needlessly += usize::from(has_moved);
            }
        }
        moved
    }
}

impl Faults {
    /// What faults of one kind cost these streams.
    pub fn of(fault: Fault, made: &[Made], outbound: &Report, inbound: &Report) -> Self {
        Self {
            fault,
            outbound: Cost::of(outbound, made, fault.time()),
            inbound: Cost::of(inbound, made, fault.time()),
            moved: made.iter().map(|made| made.moved).collect(),
            false_failures: made.iter().map(|made| made.false_failures).sum(),
        }
    }
}

/// Packets of a stream that were lost at no fault and no repair.
pub fn lost_without_fault<'a>(report: &Report, made: impl Iterator<Item = &'a Made> + Clone) -> u64 {
    let runs = report.flows.iter().flat_map(|flow| &flow.lost);
    let others = runs.filter(|run| !made.clone().any(|made| run.overlaps(made.began, made.repaired)));
    others.map(|run| run.count).sum()
}

impl Cost {
    fn of(report: &Report, made: &[Made], time: Duration) -> Self {
        let runs = || report.flows.iter().flat_map(|flow| &flow.lost);
        let outage = |made: &Made| {
            let (at, end) = (made.at, made.at + time);
            // Lost to the end of the fault, if nothing arrived after it.
            let lengths = runs()
                .filter(|run| run.overlaps(at, end))
                .map(|run| run.after.unwrap_or(end).saturating_duration_since(run.before.unwrap_or(at)));
            lengths.max().unwrap_or_default()
        };
        let at_return = |made: &Made| {
            let end = made.at + time;
            let runs = runs().filter(|run| run.overlaps(end, made.repaired) && !run.overlaps(made.at, end));
            runs.map(|run| run.count).sum()
        };
        Self {
            lost: made.iter().map(|made| report.lost_within(made.at, time)).collect(),
            lost_at_return: made.iter().map(at_return).collect(),
            outage_us: Times::of(&made.iter().map(outage).collect::<Vec<_>>()),
        }
    }

    /// The median of the packets lost.
    pub fn lost_p50(&self) -> u64 {
        let mut lost = self.lost.clone();
        lost.sort_unstable();
        lost.get(lost.len().saturating_sub(1) / 2).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_flows_are_distinguished_by_their_need() {
        let before = Members::from([(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 2)]);
        // Port 2 is not received any more, 3 stays, 5 moves without a need, 6 to the member that fails.
        let after = Members::from([(1, 2), (3, 0), (4, 1), (5, 2), (6, 0)]);
        let moved = Moved::between(&before, &after, &[0]);
        assert_eq!(moved, Moved { failed: 3, rescued: 1, others: 3, needlessly: 2 });
        let moved = Moved::between(&before, &after, &[0, 2]);
        assert_eq!(moved, Moved { failed: 4, rescued: 0, others: 2, needlessly: 1 });
    }
}
