//! Source addresses of the TCP connections that this host opens through groups with `source-spread=on`.
//!
//! A thread of its own follows routes and addresses, and writes for the [programs](crate::datapath::source_spread) which addresses serve
//! equally for which destinations ([`plan`]). It has normal priority, since routes may be very many.

mod plan;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::plan::{Plan, Spread};
use super::{
    group::RunningGroup,
    state_file::{SavedGroup, StateFile},
};
use crate::{
    datapath,
    link::{self, Links, LookupWatch, read_lookups},
};

/// Routes and addresses change together: they are read this long after the first change.
const SETTLE: Duration = Duration::from_millis(100);
/// After a reading, the next one starts at the earliest after this many times as long as it took.
const PAUSE: u32 = 20;

/// What `show` reports of the groups: by the index of their interface, or why sources are not spread in any.
type Status = Result<BTreeMap<u32, Spread>, String>;

/// The thread, while a group needs it.
#[derive(Default)]
pub struct SourceSpread {
    thread: Option<mpsc::UnboundedSender<Vec<u32>>>,
    /// The interfaces of the groups that it serves.
    groups: Vec<u32>,
    status: Arc<Mutex<Option<Status>>>,
}

impl SourceSpread {
    /// Serves the groups whose sources are spread: starts the thread for the first one, and ends it after the last one.
    pub fn follow(&mut self, groups: &BTreeMap<String, RunningGroup>, file: &StateFile) {
        if self.groups.is_empty() && !file.state.groups.values().any(SavedGroup::spreads_sources) {
            return;
        }
        let is_on =
            |group: &&RunningGroup| file.group(group.name()).is_some_and(|saved| saved.spreads_sources());
        let wanted = groups.values().filter(is_on).map(|group| group.interface.ifindex);
        if wanted.clone().eq(self.groups.iter().copied()) {
            return;
        }
        self.groups = wanted.collect();
        if self.groups.is_empty() {
            *self = Self::default();
            return;
        }
        let thread = match self.thread.take() {
            Some(thread) => Ok(thread),
            None => start(&self.status),
        };
        match thread {
            // If the thread has ended, the status has the reason.
            Ok(thread) => drop(self.thread.insert(thread).send(self.groups.clone())),
            Err(error) => refuse(&self.status, &error),
        }
    }

    /// What `show` reports of a group.
    pub fn message(&self, ifindex: u32) -> Option<String> {
        if !self.groups.contains(&ifindex) {
            return None;
        }
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        match status.as_ref()? {
            Ok(groups) => groups.get(&ifindex).map(Spread::to_string),
            Err(why) => Some(format!("the sources of TCP connections are not spread: {why}")),
        }
    }
}

/// Starts the thread, in the network namespace of the calling one. Returns where the interfaces of groups go.
fn start(status: &Arc<Mutex<Option<Status>>>) -> Result<mpsc::UnboundedSender<Vec<u32>>, std::io::Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, groups) = mpsc::unbounded_channel();
    let status = status.clone();
    let run = move || {
        let result = {
            let _runtime = runtime.enter();
            Follower::new(groups, status.clone())
        };
        match result {
            Ok(follower) => runtime.block_on(follower.run()),
            Err(error) => refuse(&status, &error),
        }
    };
    thread::Builder::new().name("sources".into()).spawn(run)?;
    Ok(sender)
}

fn refuse(status: &Mutex<Option<Status>>, why: &dyn std::fmt::Display) {
    log::warn!("the sources of TCP connections are not spread: {why}");
    *status.lock().unwrap_or_else(PoisonError::into_inner) = Some(Err(why.to_string()));
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    #[error(transparent)]
    Link(#[from] link::Error),
}

/// What the thread knows.
struct Follower {
    groups: mpsc::UnboundedReceiver<Vec<u32>>,
    served: Vec<u32>,
    spread: datapath::SourceSpread,
    watch: LookupWatch,
    links: Links,
    status: Arc<Mutex<Option<Status>>>,
    /// When everything is read again.
    due: Option<Instant>,
    /// The earliest time for that.
    earliest: Instant,
}

impl Follower {
    fn new(
        groups: mpsc::UnboundedReceiver<Vec<u32>>,
        status: Arc<Mutex<Option<Status>>>,
    ) -> Result<Self, Error> {
        Ok(Self {
            groups,
            served: Vec::new(),
            spread: datapath::SourceSpread::open()?,
            watch: LookupWatch::open()?,
            links: Links::open()?,
            status,
            due: None,
            earliest: Instant::now(),
        })
    }

    /// Follows routes and addresses until no group needs that any more.
    async fn run(mut self) {
        loop {
            let due = self.due.map(|due| due.max(self.earliest));
            let result = tokio::select! {
                biased;
                groups = self.groups.recv() => match groups {
                    Some(groups) => {
                        self.served = groups;
                        self.due = Some(Instant::now());
                        self.earliest = Instant::now();
                        Ok(())
                    }
                    None => return,
                },
                () = sleep_until(due.unwrap_or(self.earliest)), if due.is_some() => {
                    self.due = None;
                    self.read().await
                }
                change = self.watch.changed() => {
                    self.due.get_or_insert_with(|| Instant::now() + SETTLE);
                    change.map_err(Error::from)
                }
            };
            if let Err(error) = result {
                refuse(&self.status, &error);
                // What was written may be wrong by now.
                if let Err(error) = self.spread.write(datapath::source_spread::Sources::default()) {
                    return refuse(&self.status, &error);
                }
                self.earliest = Instant::now() + Duration::from_secs(1);
                self.due = Some(self.earliest);
            }
        }
    }

    /// Reads addresses, rules and routes, and writes what follows from them.
    async fn read(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        let plan = if self.links.has_other_rules()? {
            Err("rules lead connections to other routing tables than main (ip rule)".to_owned())
        } else {
            let mut plan = Plan::new(&self.served, self.links.addresses()?);
            // Twice: which of the many routes matter is known only after the first reading.
            read_lookups(|route| plan.add_spread(&route))?;
            read_lookups(|route| plan.add_other(&route))?;
            plan.finish()
        };
        let (sources, status) = match plan {
            Ok((sources, groups)) => (sources, Ok(groups)),
            Err(why) => (datapath::source_spread::Sources::default(), Err(why)),
        };
        self.spread.write(sources)?;
        let before = self.status.lock().unwrap_or_else(PoisonError::into_inner).replace(status.clone());
        if let Err(why) = &status
            && before.as_ref() != Some(&status)
        {
            log::warn!("the sources of TCP connections are not spread: {why}");
        }
        self.earliest = Instant::now() + PAUSE * start.elapsed();
        Ok(())
    }
}
