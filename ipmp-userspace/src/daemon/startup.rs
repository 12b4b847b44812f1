//! From the start of the daemon to its first event, and `ipmpd --teardown`.

pub mod adopt;
pub mod dead_namespaces;
pub mod lock;
pub mod teardown;

use std::{collections::BTreeMap, io, path::PathBuf};

use lock::Lock;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

use super::{
    events::{event_log::EventLog, trigger::Trigger},
    group::{
        absence::ReturnTimer,
        hardware_filters::FilterTimer,
        neighbours::ProbeResolver,
        route_reader::RouteReader,
        tasks::{TaskResult, Tasks},
    },
    manager::Manager,
    mpathd::{self, Mpathd},
    sentinel_check::SentinelCheck,
    source_spread::SourceSpread,
    state_file::{self, StateFile},
    tcp_evidence::TcpEvidence,
    tcp_losses::TcpLosses,
    watchdog::Watchdog,
};
use crate::{
    announce::{Schedule, Sender},
    datapath::{self, Datapath, Interval},
    link::{self, Links},
};

/// Cause the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The eBPF programs and maps.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// The network configuration.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// The state file.
    #[error(transparent)]
    State(#[from] state_file::Error),
    /// The file with the defaults of groups.
    #[error(transparent)]
    Mpathd(#[from] mpathd::Error),
    /// Another daemon serves the namespace.
    #[error(transparent)]
    Lock(#[from] lock::Error),
    /// The socket for announcements.
    #[error("cannot open a packet socket: {0}; ipmpd needs CAP_NET_RAW")]
    PacketSocket(#[source] io::Error),
    /// A source of events.
    #[error("cannot watch {what}: {source}")]
    Watch {
        /// Its name.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
}

/// Takes the lock of the namespace, and opens what the groups share. No group is adopted yet.
pub fn open_manager(
    namespace: String,
    datapath_log: bool,
    sentinel: Interval,
    config: Option<PathBuf>,
) -> Result<(Manager, Lock, mpsc::UnboundedReceiver<TaskResult>), Error> {
    let mut mpathd = Mpathd::new(config);
    let lines = match mpathd.read() {
        Err(error) if !mpathd.is_named() => {
            log::error!("{error}; ipmpd continues without it");
            Vec::new()
        }
        lines => lines?,
    };
    let cookie = datapath::pins::netns_cookie()?;
    let lock = Lock::take(cookie)?;
    let datapath = Datapath::open_with(datapath_log, sentinel)?;
    let hints = datapath.hints()?;
    // SAFETY: the hints own their descriptor, return the same one every time, and close it when they are dropped.
    let hints = unsafe { AsyncFd::register_with_interest(hints, Interest::READABLE) }.map_err(|error| {
        Error::Watch { what: "the hints of the datapath", source: io::Error::other(error.to_string()) }
    })?;
    let links = Links::open()?;
    let (tasks, task_results) = Tasks::new(links.clone());
    let file = StateFile::open(cookie)?;
    let mut event_log = EventLog::default();
    event_log.open_timelines(file.timelines());
    let manager = Manager {
        links,
        datapath,
        hints,
        groups: BTreeMap::new(),
        schedule: Schedule::default(),
        sender: Sender::open().map_err(Error::PacketSocket)?,
        prober: ProbeResolver::new(tasks.clone()),
        route_reader: RouteReader::start(tasks.results())?,
        filter_timer: FilterTimer::default(),
        returns: ReturnTimer::default(),
        sentinel_check: SentinelCheck::default(),
        tcp_evidence: TcpEvidence::default(),
        tcp_losses: TcpLosses::default(),
        source_spread: SourceSpread::default(),
        watchdog: Watchdog::from_environment(),
        tasks,
        event_log,
        file,
        mpathd,
        configuration: None,
        pending: None,
        namespace,
    };
    for line in &lines {
        manager.log(&Trigger::Start, None, line);
    }
    Ok((manager, lock, task_results))
}
