//! The thread that follows the routes of the groups. It has normal priority and reports only what matters to the groups, once
//! they have processed the report before: neither a table with very many routes nor very many changes of it delay the event
//! loop or use memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    thread,
    time::Duration,
};

use caps::CapSet;
use nix::time::{ClockId, clock_gettime};
use tokio::{
    runtime::{self, Runtime},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    RunningGroup,
    routing_table::{Interfaces, RouteReport, RoutingTable},
    tasks::TaskResult,
};
use crate::{
    link::{Error, Links, Route, RouteChange, RouteWatch, read_routes_through},
    types::Family,
};

/// Routes change together: the table is read this long after the first change.
const SETTLE: Duration = Duration::from_millis(100);
/// After a reading, the next one starts at the earliest after this many times the processor time that it took: on a busy host it
/// lasts longer than that.
const PAUSE: u32 = 20;
/// Most routes through members in a report.
const MAX_ROUTES: usize = 256;
/// Most datagrams that a receive buffer holds.
const MAX_WAITING: usize = 16_384;

enum Command {
    /// The groups have these interfaces.
    Follow(Vec<Interfaces>),
    /// Routes may have changed without an event.
    Read,
    /// A report was processed.
    Processed {
        /// Whether routes through members were removed.
        has_removed: bool,
    },
}

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub struct RouteReader {
    commands: mpsc::UnboundedSender<Command>,
    followed: Vec<Interfaces>,
}

impl RouteReader {
    /// Starts the thread, in the network namespace of the calling one.
    pub fn start(results: mpsc::UnboundedSender<TaskResult>) -> Result<Self, Error> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Socket)?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let follower = {
            let _runtime = runtime.enter();
            Follower::new(receiver, results)?
        };
        let run = move || follower.run(&runtime);
        thread::Builder::new().name("routes".into()).spawn(run).map_err(Error::Socket)?;
        Ok(Self { commands, followed: Vec::new() })
    }

    /// Follows the routes through the interfaces that the groups have now.
    pub fn follow(&mut self, groups: &BTreeMap<String, RunningGroup>) {
        let is_same = groups.len() == self.followed.len()
            && groups.values().zip(&self.followed).all(|(group, followed)| {
                let members = group.members.values().map(|member| member.ifindex);
                group.interface.ifindex == followed.group && members.eq(followed.members.iter().copied())
            });
        if is_same {
            return;
        }
        let interfaces = |group: &RunningGroup| Interfaces {
            group: group.interface.ifindex,
            members: group.members.values().map(|member| member.ifindex).collect(),
        };
        self.followed = groups.values().map(interfaces).collect();
        self.send(Command::Follow(self.followed.clone()));
    }

    /// An interface changed. The kernel drops routes without a message.
    pub fn interface_changed(&self, ifindex: u32) {
        if self.followed.iter().any(|interfaces| interfaces.iter().any(|ours| ours == ifindex)) {
            self.send(Command::Read);
        }
    }

    /// A report was processed, and routes through members were removed or not.
    pub fn processed(&self, has_removed: bool) {
        self.send(Command::Processed { has_removed });
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            log::error!("the thread that follows routes has ended: targets of routes do not change any more");
        }
    }
}

/// What the calling thread has used, in the kernel too.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// What the thread knows.
struct Follower {
    commands: mpsc::UnboundedReceiver<Command>,
    results: mpsc::UnboundedSender<TaskResult>,
    watch: RouteWatch,
    links: Links,
    tables: Vec<RoutingTable>,
    /// Every address of this host.
    own: BTreeSet<IpAddr>,
    /// Whether the tables were read since their interfaces changed.
    is_complete: bool,
    /// Whether targets may have changed since the last report.
    is_changed: bool,
    /// Whether routes through members were left out of the report.
    is_truncated: bool,
    report: RouteReport,
    /// Whether a report was sent and is not processed yet.
    is_reported: bool,
    /// When the table is read.
    due: Option<Instant>,
    /// The earliest time of the next reading.
    earliest: Instant,
}

impl Follower {
    fn new(
        commands: mpsc::UnboundedReceiver<Command>,
        results: mpsc::UnboundedSender<TaskResult>,
    ) -> Result<Self, Error> {
        Ok(Self {
            commands,
            results,
            watch: RouteWatch::open()?,
            links: Links::open()?,
            tables: Vec::new(),
            own: BTreeSet::new(),
            is_complete: false,
            is_changed: false,
            is_truncated: false,
            report: RouteReport::default(),
            is_reported: false,
            due: None,
            earliest: Instant::now(),
        })
    }

    fn run(mut self, runtime: &Runtime) {
        // It needs none: every process may read routes.
        for set in [CapSet::Effective, CapSet::Permitted] {
            let _ = caps::clear(None, set);
        }
        runtime.block_on(async {
            while let Err(error) = self.follow().await {
                log::error!("cannot follow the routes of the groups: {error}");
                tokio::time::sleep(SETTLE).await;
                self.request();
            }
        });
    }

    /// Follows routes until the daemon ends.
    async fn follow(&mut self) -> Result<(), Error> {
        loop {
            let due = self.due.map(|due| due.max(self.earliest));
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.execute(command),
                    None => return Ok(()),
                },
                () = sleep_until(due.unwrap_or(self.earliest)), if due.is_some() => self.read().await?,
                changes = self.watch.next() => {
                    for change in changes? {
                        self.apply(&change);
                    }
                }
            }
            self.send_report();
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Follow(interfaces) => {
                self.tables = interfaces.into_iter().map(RoutingTable::new).collect();
                self.is_complete = false;
                self.earliest = Instant::now();
                self.request();
            }
            Command::Read => self.request(),
            Command::Processed { has_removed } => {
                self.is_reported = false;
                if std::mem::take(&mut self.is_truncated) && has_removed {
                    self.request();
                }
            }
        }
    }

    fn request(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + SETTLE);
    }

    /// Reads all routes of the groups.
    async fn read(&mut self) -> Result<(), Error> {
        let start = processor_time();
        self.due = None;
        let own = self.links.addresses()?;
        self.own = own.into_iter().map(|(_, address)| address.ip).collect();
        let empty = |table: &RoutingTable| RoutingTable::new(table.interfaces().clone());
        let mut tables: Vec<RoutingTable> = self.tables.iter().map(empty).collect();
        // The table of each interface.
        let mut places = BTreeMap::new();
        for (place, table) in tables.iter().enumerate() {
            places.extend(table.interfaces().iter().map(|ifindex| (ifindex, place)));
        }
        read_routes_through(&places.keys().copied().collect(), |route| {
            let uses = route.interfaces().into_iter().filter_map(|ifindex| places.get(&ifindex).copied());
            for place in uses.collect::<BTreeSet<usize>>() {
                tables[place].add(&route);
            }
            self.note_member_route(&route);
        })?;
        self.tables = tables;
        self.is_changed = true;
        self.is_complete = true;
        self.earliest = Instant::now() + PAUSE * processor_time().saturating_sub(start);
        // Changes of this time may be counted twice.
        for _ in 0..MAX_WAITING {
            let Some(changes) = self.watch.try_next() else { break };
            for change in changes {
                if self.apply(&change) {
                    self.request();
                }
            }
        }
        Ok(())
    }

    /// Applies a change; returns whether it concerns a group.
    fn apply(&mut self, change: &RouteChange) -> bool {
        let (RouteChange::Added(route) | RouteChange::Replaced(route) | RouteChange::Removed(route)) = change
        else {
            let members = self.tables.iter().flat_map(|table| table.interfaces().members.iter());
            self.report.removed_from.extend(members);
            self.request();
            return true;
        };
        let mut must_read = matches!(change, RouteChange::Replaced(_));
        let mut is_ours = false;
        for table in self.tables.iter_mut().filter(|table| table.has(route)) {
            is_ours = true;
            match change {
                RouteChange::Removed(_) => must_read |= table.remove(route),
                _ => self.is_changed |= table.add(route),
            }
        }
        if !is_ours {
            // It may have replaced one of ours.
            if must_read {
                self.request();
            }
            return false;
        }
        if must_read {
            self.request();
        }
        match change {
            RouteChange::Removed(_) if !route.is_of_traffic() => {
                let members = self.tables.iter().flat_map(|table| &table.interfaces().members);
                self.report.removed_from.extend(members.filter(|ifindex| route.uses(**ifindex)));
            }
            RouteChange::Removed(_) => {}
            _ => self.note_member_route(route),
        }
        true
    }

    /// Reports a route if it leads ordinary traffic through a member alone.
    fn note_member_route(&mut self, route: &Route) {
        let is_member =
            |ifindex: &u32| self.tables.iter().any(|table| table.interfaces().members.contains(ifindex));
        if !route.is_of_traffic() || !route.interfaces().iter().any(is_member) {
            return;
        }
        if self.report.through_members.len() < MAX_ROUTES {
            self.report.through_members.push(route.clone());
        } else {
            self.is_truncated = true;
        }
    }

    fn send_report(&mut self) {
        if self.is_reported {
            return;
        }
        if self.is_complete && std::mem::take(&mut self.is_changed) {
            let own = &self.own;
            let targets = |table: &RoutingTable| {
                (table.interfaces().group, Family::ALL.map(|family| table.targets(family, own)))
            };
            self.report.targets = self.tables.iter().map(targets).collect();
        }
        if !self.report.is_empty() {
            let report = std::mem::take(&mut self.report);
            // The daemon may have ended.
            self.is_reported = self.results.send(TaskResult::Routes(report)).is_ok();
        }
    }
}
