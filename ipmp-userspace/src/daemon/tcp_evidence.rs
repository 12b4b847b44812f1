//! Timeouts of TCP connections: which members they make suspicious (docs/design/probing-and-verdicts.md, evidence).

use std::{
    collections::BTreeMap,
    future, io,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use ipmp_common::{maps::TcpTimeout, steer::slot};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::oneshot,
};

use super::{
    clock::now,
    group::{Context, RunningGroup, actions},
};
use crate::{
    core::{Input, Time, path::Flow},
    datapath::{self, TcpTimeouts},
    types::HashPolicy,
};

/// Protocol number of TCP.
const TCP: u8 = 6;

/// The timeouts, while a group uses them.
#[derive(Default)]
pub enum TcpEvidence {
    /// No group does.
    #[default]
    Unused,
    /// The program is being loaded and attached, by another thread.
    Starting(oneshot::Receiver<Result<TcpTimeouts, datapath::Error>>),
    /// They are received.
    Running(Box<AsyncFd<TcpTimeouts>>),
    /// The kernel does not report them.
    Refused(String),
}

impl TcpEvidence {
    /// Attaches the program once a group uses it, and detaches it when none does any more.
    pub fn follow(&mut self, groups: &BTreeMap<String, RunningGroup>) {
        let is_used = groups.values().any(|group| group.core.uses_evidence());
        match self {
            Self::Unused if is_used => *self = start(),
            Self::Unused => {}
            _ if !is_used => *self = Self::Unused,
            _ => {}
        }
    }

    /// Waits for timeouts.
    pub async fn receive(&mut self) -> io::Result<Vec<TcpTimeout>> {
        match self {
            Self::Starting(result) => {
                let result = result.await;
                *self = match result.map(|opened| opened.map(register)) {
                    Ok(Ok(Ok(timeouts))) => Self::Running(Box::new(timeouts)),
                    Ok(Ok(Err(error))) => return Err(error),
                    Ok(Err(error)) => refused(&error),
                    Err(_) => refused(&"the thread that attaches the program has ended"),
                };
                Ok(Vec::new())
            }
            Self::Running(timeouts) => {
                let mut ready = timeouts.readable_mut().await?;
                let received = ready.get_inner_mut().drain();
                ready.clear_ready();
                Ok(received)
            }
            Self::Unused | Self::Refused(_) => future::pending().await,
        }
    }

    /// What `show` reports of a group that uses it.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Running(timeouts) if timeouts.get_ref().covers_established() => {
                Some("timeouts of TCP connections start probes".to_owned())
            }
            Self::Running(_) => Some(
                "timeouts of TCP connections start probes, if these were established after the daemon had started"
                    .to_owned(),
            ),
            Self::Refused(why) => Some(missing(why)),
            Self::Unused | Self::Starting(_) => None,
        }
    }
}

fn start() -> TcpEvidence {
    let (sender, result) = oneshot::channel();
    let work = move || {
        // The daemon has ended, or no group uses it any more.
        let _ = sender.send(TcpTimeouts::open());
    };
    match thread::Builder::new().name("load".into()).spawn(work) {
        Ok(_) => TcpEvidence::Starting(result),
        Err(error) => refused(&error),
    }
}

fn register(timeouts: TcpTimeouts) -> io::Result<AsyncFd<TcpTimeouts>> {
    // SAFETY: the timeouts own their descriptor, return the same one every time, and close it when they are dropped.
    unsafe { AsyncFd::register_with_interest(timeouts, Interest::READABLE) }
        .map_err(|error| io::Error::other(error.to_string()))
}

fn refused(why: &dyn std::fmt::Display) -> TcpEvidence {
    let why = why.to_string();
    log::warn!("{}", missing(&why));
    TcpEvidence::Refused(why)
}

fn missing(why: &str) -> String {
    format!("TCP connections are no evidence of path failures ({why}): only lost probes are")
}

/// Reports timeouts to the state machines of their groups.
pub async fn handle(
    groups: &mut BTreeMap<String, RunningGroup>,
    context: &mut Context<'_>,
    timeouts: &[TcpTimeout],
) {
    for timeout in timeouts {
        let local = IpAddr::from(timeout.local);
        // Connections of other interfaces have other addresses.
        let of_address =
            |group: &&mut RunningGroup| group.core.uses_evidence() && group.core.inbound(local).is_some();
        if let Some(group) = groups.values_mut().find(of_address)
            && let Some(sender) = sender(group, timeout)
        {
            let inbound = group.core.inbound(local);
            let sent = Time(Duration::from_nanos(timeout.since_ns));
            let remote = SocketAddr::new(timeout.remote.into(), timeout.remote_port);
            let input = Input::TcpTimeout { sender, inbound, sent, remote, local_port: timeout.local_port };
            actions::tell(group, context, input).await;
        }
    }
}

/// The hash by which the member of a connection is selected, whose socket has this transmit hash.
pub(super) fn hash(
    policy: HashPolicy,
    of_socket: u32,
    (source, destination): (IpAddr, IpAddr),
    ports: (u16, u16),
) -> Option<u32> {
    match policy {
        HashPolicy::Connection => Some(of_socket),
        policy => Flow { source, destination, protocol: TCP, ports }.hash(policy),
    }
}

/// The member that transmits the segments of a connection.
fn sender(group: &RunningGroup, timeout: &TcpTimeout) -> Option<u8> {
    let addresses = (timeout.local.into(), timeout.remote.into());
    let ports = (timeout.local_port, timeout.remote_port);
    let hash = hash(group.policy(), timeout.hash, addresses, ports)?;
    // While members are in transition, its former member may still transmit them.
    let is_moving = !group.core.usable_word().in_transition().is_empty();
    let former = is_moving.then(|| group.datapath.active_member(hash, now()).ok()?).flatten();
    former.or_else(|| group.core.selection()(group.core.slots().lists()[slot(hash) as usize]))
}
