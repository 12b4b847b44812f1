//! The event loop: one thread, one event at a time.
//!
//! ```text
//!  hints of the datapath ─┐
//!  netlink messages ──────┤                              ┌─► datapath (maps)
//!  client requests ───────┼─► EventLoop ─► RunningGroup ─┼─► links (netlink)
//!  replies to probes ─────┤                core::Group   ├─► announcements
//!  deadlines ─────────────┤                              └─► probes
//!  signals ───────────────┘
//! ```
//!
//! A hint is handled before anything else, from the masks alone, also while programs are loaded ([`super::loading`]). The query to the kernel that follows each hint
//! (docs/design/sentinel.md) runs beside the loop; its result arrives as an event.

use std::{collections::BTreeSet, io, net::IpAddr, path::PathBuf, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{
    alarm::Alarm,
    clock::now,
    events::trigger::Trigger,
    group::{conflicts, deadline, membership_reports, probe_replies, sysctls, tasks::TaskResult},
    hints, kernel_changes, loading,
    manager::Manager,
    memory, operations, returns,
    startup::{self, Error, lock::Lock},
    statistics, tcp_evidence, tcp_losses,
};
use crate::{
    announce::{Advertisements, Claim, Claims},
    control::{pending::Store, probes::Feeds, request},
    core::{Event, Time},
    datapath::{Datapath, Interval, ProbeReplies},
    link::{Change, Watch},
    priority,
    probe::{TestFrame, TestFrames},
};

/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
/// The same while the datapath logs: its log is read this often.
const DATAPATH_LOG: Duration = Duration::from_millis(100);
/// Most changes of addresses that are handled in a turn: as many as a group has addresses, since a turn costs as much as all.
const ADDRESSES_AT_ONCE: usize = ipmp_common::maps::MAX_ADDRESSES as usize;
/// Most groups whose deadlines are handled in a turn: what is done once in a second is due for all at the same time, and takes 30 µs
/// each; a hint must not wait for that.
const GROUPS_AT_ONCE: usize = 16;
/// At most, what follows the groups lags behind by this time after deadlines and replies to probes. They are by far the most turns, nearly
/// never change what is followed, and to compare it takes longer the more groups there are.
const FOLLOW: Duration = Duration::from_millis(20);
/// Requests that may wait.
const REQUESTS: usize = 16;

/// The daemon.
pub struct EventLoop {
    pub(super) manager: Manager,
    watch: Watch,
    /// Neighbours, rules, qdiscs and filters.
    surroundings: Watch,
    /// Packets that may be replies to probes.
    replies: AsyncFd<ProbeReplies>,
    /// Frames from one member to another one.
    test_frames: AsyncFd<TestFrames>,
    /// ARP packets of other hosts that claim addresses of the groups.
    claims: AsyncFd<Claims>,
    /// The same by Neighbour Advertisements.
    advertisements: AsyncFd<Advertisements>,
    /// The state of the groups' addresses of which claims are received.
    watched: Vec<(u32, u64, u64)>,
    alarm: Alarm,
    task_results: mpsc::UnboundedReceiver<TaskResult>,
    requests: mpsc::Receiver<request::PendingRequest>,
    /// SIGTERM, SIGINT and SIGQUIT.
    end: [Signal; 3],
    hangup: Signal,
    usr1: Signal,
    /// Longest sleep.
    idle: Duration,
    _lock: Lock,
}

impl EventLoop {
    /// Starts in the network namespace of the calling thread, on its runtime, and adopts what an earlier daemon left.
    /// Returns where requests go.
    pub async fn start(
        namespace: String,
        datapath_log: bool,
        sentinel: Interval,
        config: Option<PathBuf>,
    ) -> Result<(Self, request::Sender), Error> {
        let (mut manager, lock, task_results) =
            startup::open_manager(namespace, datapath_log, sentinel, config)?;
        let replies = manager.datapath.probe_replies()?;
        manager.datapath.set_echo_id(manager.prober.identifier())?;
        let watch = |what| move |source| Error::Watch { what, source };
        let signal = |kind| signal(kind).map_err(watch("signals"));
        let (sender, requests) = mpsc::channel(REQUESTS);
        let mut event_loop = Self {
            // Opened before anything is read, so that no change is missed.
            watch: Watch::open()?,
            surroundings: Watch::surroundings()?,
            // SAFETY: the replies own their descriptor, return the same one every time, and close it when they are dropped.
            replies: unsafe { AsyncFd::register_with_interest(replies, Interest::READABLE) }
                .map_err(|error| watch("the replies to probes")(io::Error::other(error.to_string())))?,
            test_frames: TestFrames::open(manager.prober.nonce())
                .and_then(|frames| {
                    // SAFETY: as for the claims.
                    Ok(unsafe { AsyncFd::register_with_interest(frames, Interest::READABLE) }?)
                })
                .map_err(Error::PacketSocket)?,
            claims: Claims::open()
                .and_then(|claims| {
                    // SAFETY: the claims own their socket, return the same one every time, and close it when they are
                    // dropped.
                    Ok(unsafe { AsyncFd::register_with_interest(claims, Interest::READABLE) }?)
                })
                .map_err(Error::PacketSocket)?,
            advertisements: Advertisements::open()
                .and_then(|advertisements| {
                    // SAFETY: as for the claims.
                    Ok(unsafe { AsyncFd::register_with_interest(advertisements, Interest::READABLE) }?)
                })
                .map_err(Error::PacketSocket)?,
            watched: Vec::new(),
            alarm: Alarm::open().map_err(watch("the clock"))?,
            manager,
            task_results,
            requests,
            end: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::quit())?,
            ],
            hangup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            idle: if datapath_log { DATAPATH_LOG } else { IDLE },
            _lock: lock,
        };
        startup::adopt::adopt(&mut event_loop.manager).await?;
        event_loop.resync(&Trigger::Start).await?;
        operations::resume::resume(&mut event_loop.manager, &Trigger::Start).await;
        if let Some(removed) = startup::dead_namespaces::remove() {
            event_loop.manager.log(&Trigger::Start, None, &removed);
        }
        memory::release();
        if let Err(error) = priority::set_realtime() {
            log::info!(
                "no real-time priority: {error}; with CAP_SYS_NICE announcements would be in time on a busy machine, too"
            );
        }
        Ok((event_loop, sender))
    }

    /// Creates the groups of the configuration files that do not exist. From now on SIGHUP applies these files. While a change
    /// waits for its confirmation (`pending`), nothing else changes.
    pub async fn configure(&mut self, directory: PathBuf, pending: Store) {
        self.manager.configuration = Some(directory);
        self.manager.pending = Some(pending);
        operations::apply::apply_directory(&mut self.manager, &Trigger::Start, true).await;
    }

    /// The feeds of events and probes.
    pub fn feeds(&self) -> Feeds {
        self.manager.event_log.feeds()
    }

    /// Logs that clients are served.
    pub fn log_started(&self, socket: String) {
        self.manager.log(&Trigger::Start, None, &Event::Started { socket });
    }

    /// Runs until a signal ends it. The datapath stays loaded.
    pub async fn run(mut self) -> Result<(), Error> {
        // When the groups were followed last, and whether the last turn was one of those that seldom change anything.
        let (mut followed, mut is_routine) = (Time::default(), false);
        loop {
            let lag = (is_routine && now() < followed + FOLLOW).then(|| followed + FOLLOW);
            if lag.is_none() {
                self.follow_groups();
                followed = now();
            }
            is_routine = false;
            self.manager.announce();
            loading::load_wanted(&mut self.manager);
            let due = [self.manager.next_deadline(), self.manager.watchdog.next(), lag];
            let due = due.into_iter().flatten().min();
            let next = due.unwrap_or_else(|| now() + self.idle);
            self.alarm.set(next).map_err(|source| Error::Watch { what: "the clock", source })?;
            let [terminate, interrupt, quit] = &mut self.end;
            tokio::select! {
                biased;
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = quit.recv() => break,
                _ = self.hangup.recv() => {
                    operations::set::reload_defaults(&mut self.manager).await;
                    operations::apply::apply_directory(&mut self.manager, &Trigger::Hangup, false).await;
                }
                _ = self.usr1.recv() => statistics::log(self.manager.groups.values()),
                received = hints::receive(&mut self.manager.hints) => {
                    let hints = received.map_err(|source| Error::Watch { what: "hints", source })?;
                    hints::handle(&mut self.manager, &hints).await;
                }
                expired = self.alarm.expired() => {
                    expired.map_err(|source| Error::Watch { what: "the clock", source })?;
                    self.handle_deadline().await;
                    is_routine = true;
                    // Deadlines may follow each other closely: while thousands of addresses are announced.
                    if let Some(change) = self.watch.try_next() {
                        self.handle_watched(change).await?;
                        is_routine = false;
                    }
                }
                ready = self.replies.readable_mut() => {
                    let mut ready = ready.map_err(|source| Error::Watch { what: "replies", source })?;
                    ready.clear_ready();
                    self.receive_replies(&Trigger::Deadline).await;
                    is_routine = true;
                }
                received = self.manager.tcp_evidence.receive() => {
                    let timeouts = received.map_err(|source| Error::Watch { what: "timeouts of TCP", source })?;
                    let trigger = Trigger::Deadline;
                    let (groups, mut context) = self.manager.context(&trigger);
                    tcp_evidence::handle(groups, &mut context, &timeouts).await;
                }
                losses = self.manager.tcp_losses.receive() => {
                    let trigger = Trigger::Deadline;
                    let (groups, mut context) = self.manager.context(&trigger);
                    tcp_losses::handle(groups, &mut context, losses).await;
                }
                change = self.watch.next() => {
                    let change = change?;
                    self.handle_watched(change).await?;
                }
                ready = self.test_frames.readable_mut() => {
                    let mut ready = ready.map_err(|source| Error::Watch { what: "test frames", source })?;
                    let frames = ready.get_inner_mut().drain();
                    if frames.is_empty() {
                        ready.clear_ready();
                    }
                    self.handle_test_frames(&Trigger::Deadline, &frames).await;
                }
                ready = self.claims.readable_mut() => {
                    let mut ready = ready.map_err(|source| Error::Watch { what: "claims", source })?;
                    let claims = ready.get_inner_mut().drain();
                    if claims.is_empty() {
                        ready.clear_ready();
                    }
                    self.handle_claims(&claims);
                }
                ready = self.advertisements.readable_mut() => {
                    let mut ready = ready.map_err(|source| Error::Watch { what: "advertisements", source })?;
                    let claims = ready.get_inner_mut().drain();
                    if claims.is_empty() {
                        ready.clear_ready();
                    }
                    self.handle_claims(&claims);
                }
                Some(result) = self.task_results.recv() => {
                    kernel_changes::apply_result(&mut self.manager, &Trigger::Kernel(now()), result).await;
                }
                Some((request, caller, reply)) = self.requests.recv() => {
                    is_routine = !request.changes();
                    let response =
                        operations::execute(&mut self.manager, &Trigger::Operator(caller), request).await;
                    // The client may have disconnected.
                    let _ = reply.send(response);
                }
                // Last: there may be very many.
                change = self.surroundings.next() => match change? {
                    // Neighbours are resolved again anyway, and programs are checked every second.
                    Change::Lost => {
                        kernel_changes::reconcile_test_addresses(&mut self.manager, &Trigger::Kernel(now()))
                            .await;
                    }
                    change => self.handle_change(&Trigger::Kernel(now()), change).await?,
                }
            }
        }
        let groups: Vec<String> = self.manager.groups.keys().cloned().collect();
        if groups.is_empty() {
            Datapath::teardown()?;
        }
        self.manager.log(&Trigger::Signal, None, &Event::Stopped { groups });
        Ok(())
    }

    /// Brings everything up to date that depends on which groups, members and addresses there are, and on their settings.
    fn follow_groups(&mut self) {
        self.watch_claims();
        let manager = &mut self.manager;
        manager.route_reader.follow(&manager.groups);
        manager.tcp_evidence.follow(&manager.groups);
        manager.tcp_losses.follow(&manager.groups);
        manager.source_spread.follow(&manager.groups, &manager.file);
    }

    /// Receives claims of the addresses that the groups have now.
    fn watch_claims(&mut self) {
        let groups = self.manager.groups.values();
        let versions: Vec<_> = groups
            .map(|group| (group.interface.ifindex, group.addresses.version(), group.vlans.version()))
            .collect();
        if versions != self.watched {
            let (mut v4, mut v6) = (BTreeSet::new(), BTreeSet::new());
            for address in self.manager.groups.values().flat_map(conflicts::watched) {
                let _ = match address {
                    IpAddr::V4(address) => v4.insert(address),
                    IpAddr::V6(address) => v6.insert(address),
                };
            }
            let watching = self.claims.get_mut().watch(v4);
            for result in [watching, self.advertisements.get_mut().watch(v6)] {
                if let Err(error) = result {
                    log::error!("cannot receive claims of other hosts to data addresses: {error}");
                }
            }
            self.watched = versions;
        }
    }

    async fn handle_watched(&mut self, change: Change) -> Result<(), Error> {
        let trigger = Trigger::Kernel(now());
        let (Change::Address { .. } | Change::AddressRemoved { .. }) = change else {
            return self.handle_change(&trigger, change).await;
        };
        // Those that are waiting are handled together: each alone costs as much as all.
        let more = std::iter::from_fn(|| self.watch.next_address()).take(ADDRESSES_AT_ONCE);
        let changes: Vec<Change> = std::iter::once(change).chain(more).collect();
        kernel_changes::addresses_changed(&mut self.manager, &trigger, &changes).await;
        Ok(())
    }

    fn handle_claims(&mut self, claims: &[Claim]) {
        let trigger = Trigger::Kernel(now());
        let (groups, mut context) = self.manager.context(&trigger);
        conflicts::receive(groups, &mut context, claims);
    }

    async fn handle_change(&mut self, trigger: &Trigger, change: Change) -> Result<(), Error> {
        if let Change::Lost = change {
            log::debug!("the kernel has dropped netlink messages; everything is read again");
            return self.resync(trigger).await;
        }
        kernel_changes::apply(&mut self.manager, trigger, change).await;
        Ok(())
    }

    async fn resync(&mut self, trigger: &Trigger) -> Result<(), Error> {
        // What is queued is older than what is read now.
        self.watch.skip();
        Ok(kernel_changes::resync(&mut self.manager, trigger).await?)
    }

    async fn handle_deadline(&mut self) {
        let (time, trigger) = (now(), Trigger::Deadline);
        self.manager.watchdog.feed(time);
        // Probes are judged as of now: replies received by now are processed first.
        self.receive_replies(&trigger).await;
        if self.manager.groups.values().any(|group| group.core.exchanges_frames()) {
            let frames = self.test_frames.get_mut().drain();
            self.handle_test_frames(&trigger, &frames).await;
        }
        let (groups, mut context) = self.manager.context(&trigger);
        for group in groups.values_mut() {
            group.datapath.flush_log();
        }
        let count = groups.len();
        for group in groups.values_mut().filter(|group| group.is_due(time)).take(GROUPS_AT_ONCE) {
            deadline::expire(group, &mut context, time, count).await;
        }
        membership_reports::send_due(groups, &context);
        sysctls::check_due(groups, &mut context, time);
        if self.manager.filter_timer.next(&self.manager.groups).is_some_and(|due| due <= time) {
            self.manager.update_filters(&trigger).await;
        }
        if self.manager.returns.next().is_some_and(|due| due <= time) {
            returns::check(&mut self.manager, &trigger, false).await;
        }
        if self.manager.tcp_losses.next().is_some_and(|due| due <= time) {
            self.manager.tcp_losses.sweep(&self.manager.groups);
        }
        if self.manager.sentinel_check.next(&self.manager.groups).is_some_and(|due| due <= time) {
            self.manager.check_sentinel(&trigger);
        }
    }

    async fn handle_test_frames(&mut self, trigger: &Trigger, frames: &[(u32, TestFrame)]) {
        let (groups, mut context) = self.manager.context(trigger);
        probe_replies::receive_test_frames(groups, &mut context, frames).await;
    }

    async fn receive_replies(&mut self, trigger: &Trigger) {
        loop {
            let replies = self.replies.get_mut().drain();
            let (groups, mut context) = self.manager.context(trigger);
            probe_replies::receive_replies(groups, &mut context, &replies).await;
            if replies.len() < ProbeReplies::AT_ONCE {
                break;
            }
        }
    }
}
