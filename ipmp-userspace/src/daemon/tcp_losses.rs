//! What the TCP connections of this host lose on each member (docs/design/probing-and-verdicts.md, loss of some packets).
//!
//! A thread of normal priority reads the connections and compares them: there may be tens of thousands. The event loop gives it a copy of what
//! selects members, every [`SWEEP`], and reports the results to the groups.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future,
    net::IpAddr,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Instant,
};

use ipmp_common::{
    maps::TcpConnection,
    steer::{MemberSet, Preference, slot},
};
use tokio::sync::mpsc;

use super::{
    clock::now,
    group::{Context, RunningGroup, actions},
    tcp_evidence::hash,
};
use crate::{
    core::{
        Input, Time,
        probe::segments::{Connection, Lost, SWEEP, Sweeps},
        slots::Slots,
    },
    datapath::{Error, TcpConnections},
    types::HashPolicy,
};

/// What the members of each group lost, by the index of its interface.
pub type Losses = BTreeMap<u32, Lost>;

/// The sweeps, while a group uses them.
#[derive(Default)]
pub enum TcpLosses {
    /// No group does.
    #[default]
    Unused,
    /// They are made.
    Running(Running),
    /// The kernel does not list the connections.
    Refused(String),
}

/// The thread.
pub struct Running {
    groups: SyncSender<Vec<Snapshot>>,
    results: mpsc::UnboundedReceiver<Result<Losses, Error>>,
    /// When the next sweep is due.
    due: Time,
}

/// What selects the member of a connection in a group, at one time.
struct Snapshot {
    ifindex: u32,
    addresses: HashSet<IpAddr>,
    policy: HashPolicy,
    slots: Slots,
    selection: Box<dyn Fn(Preference) -> Option<u8> + Send>,
    peers: MemberSet,
}

impl TcpLosses {
    /// Starts the thread once a group uses it, and ends it when none does any more.
    pub fn follow(&mut self, groups: &BTreeMap<String, RunningGroup>) {
        let is_used = groups.values().any(|group| group.core.counts_segments());
        match self {
            Self::Unused if is_used => *self = start(),
            Self::Unused => {}
            _ if !is_used => *self = Self::Unused,
            _ => {}
        }
    }

    /// When the next sweep is due.
    pub fn next(&self) -> Option<Time> {
        if let Self::Running(running) = self { Some(running.due) } else { None }
    }

    /// Begins the sweep that is due.
    pub fn sweep(&mut self, groups: &BTreeMap<String, RunningGroup>) {
        if let Self::Running(running) = self {
            running.due = now() + SWEEP;
            // If the sweep before has not ended, or the thread has, this one is left out.
            let _ = running.groups.try_send(groups.values().filter_map(snapshot).collect());
        }
    }

    /// Waits for the result of a sweep.
    pub async fn receive(&mut self) -> Losses {
        let Self::Running(running) = self else { return future::pending().await };
        let why = match running.results.recv().await {
            Some(Ok(losses)) => return losses,
            Some(Err(error)) => error.to_string(),
            None => "the thread that reads them has ended".to_owned(),
        };
        log::warn!("{}", missing(&why));
        *self = Self::Refused(why);
        Losses::default()
    }

    /// What `show` reports of a group that uses it.
    pub fn message(&self) -> Option<String> {
        if let Self::Refused(why) = self { Some(missing(why)) } else { None }
    }
}

fn missing(why: &str) -> String {
    format!("the losses of TCP connections do not count ({why}): only those of probes do")
}

/// Reports the result of a sweep to the state machines of the groups.
pub async fn handle(
    groups: &mut BTreeMap<String, RunningGroup>,
    context: &mut Context<'_>,
    mut losses: Losses,
) {
    for group in groups.values_mut().filter(|group| group.core.counts_segments()) {
        if let Some(lost) = losses.remove(&group.interface.ifindex) {
            actions::tell(group, context, Input::TcpSegments(lost)).await;
        }
    }
}

fn start() -> TcpLosses {
    // One that waits, beside the one that is made.
    let (groups, snapshots) = sync_channel(1);
    let (sender, results) = mpsc::unbounded_channel();
    match thread::Builder::new().name("sweep".into()).spawn(move || make_sweeps(&snapshots, &sender)) {
        Ok(_) => TcpLosses::Running(Running { groups, results, due: now() }),
        Err(error) => {
            log::warn!("{}", missing(&error.to_string()));
            TcpLosses::Refused(error.to_string())
        }
    }
}

/// Makes sweeps until the daemon has ended, or no group uses them any more.
fn make_sweeps(snapshots: &Receiver<Vec<Snapshot>>, results: &mpsc::UnboundedSender<Result<Losses, Error>>) {
    let mut sweeps = Sweeps::default();
    let mut opened = None;
    for groups in snapshots {
        let start = Instant::now();
        let connections = match &mut opened {
            Some(connections) => TcpConnections::read(connections),
            None => TcpConnections::open().and_then(|connections| opened.insert(connections).read()),
        };
        let losses = connections.map(|connections| {
            let count = connections.len();
            let found: HashMap<u64, Connection> =
                connections.iter().filter_map(|of| Some((of.cookie, connection(&groups, of)?))).collect();
            let of_groups = found.len();
            let peers = |ifindex| {
                groups
                    .iter()
                    .find(|group| group.ifindex == ifindex)
                    .map_or(MemberSet::EMPTY, |group| group.peers)
            };
            let losses = sweeps.compare(found, peers);
            log::debug!(
                "{count} TCP connections, {of_groups} of them through groups: read in {:?}",
                start.elapsed()
            );
            losses
        });
        let has_failed = losses.is_err();
        if results.send(losses).is_err() || has_failed {
            return;
        }
    }
}

/// What selects members in a group; `None` if that does not determine who transmits a connection, or would show nothing:
///
/// * while members are in transition, flows move one by one;
/// * with `hash=destination` one member transmits all connections to an address, so that others do not show what is lost behind it.
fn snapshot(group: &RunningGroup) -> Option<Snapshot> {
    let policy = group.policy();
    let is_moving = !group.core.usable_word().in_transition().is_empty();
    if !group.core.counts_segments() || is_moving || policy == HashPolicy::Destination {
        return None;
    }
    Some(Snapshot {
        ifindex: group.interface.ifindex,
        addresses: group.core.addresses().map(|(address, _)| address).collect(),
        policy,
        slots: group.core.slots().clone(),
        selection: Box::new(group.core.selection()),
        peers: group.core.loss_peers(),
    })
}

/// A connection through one of the groups, with its member.
fn connection(groups: &[Snapshot], of: &TcpConnection) -> Option<Connection> {
    let (local, remote) = (of.local.into(), of.remote.into());
    // Connections of other interfaces have other addresses.
    let group = groups.iter().find(|group| group.addresses.contains(&local))?;
    let hash = hash(group.policy, of.hash, (local, remote), (of.local_port, of.remote_port))?;
    let member = (group.selection)(group.slots.lists()[slot(hash) as usize])?;
    let TcpConnection { sent, retransmitted, duplicates, .. } = *of;
    Some(Connection { group: group.ifindex, member, hash, remote, sent, retransmitted, duplicates })
}
