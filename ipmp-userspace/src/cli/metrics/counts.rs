//! What the exporter counts itself: events, and how long announcements took.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    cli::monitor,
    control::monitor::{EventRecord, WATCHING},
};

/// Upper bounds of the histogram in seconds: failovers take about a millisecond, those after a delay by the kernel a second.
pub(super) const BUCKETS: [f64; 8] = [0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0, f64::INFINITY];

/// A histogram of times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Announced {
    /// All times in seconds.
    pub sum: f64,
    pub count: u64,
    /// Times in each bucket, without those of the buckets below.
    pub buckets: [u64; BUCKETS.len()],
}

impl Announced {
    pub(super) fn add(&mut self, seconds: f64) {
        self.sum += seconds;
        self.count += 1;
        if let Some(at) = BUCKETS.iter().position(|&most| seconds <= most) {
            self.buckets[at] += 1;
        }
    }
}

/// Counts of a group: an event of no group counts for the group "".
#[derive(Debug, Default)]
struct Group {
    by_kind: BTreeMap<String, u64>,
    announced: Announced,
}

/// Counts since the exporter started.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<String, Group>>);

/// Group, kind of event, and how many there were.
pub(super) type EventCount = (String, String, u64);

impl Counts {
    fn count(&self, event: &EventRecord) {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.entry(event.group.clone().unwrap_or_default()).or_default();
        *group.by_kind.entry(event.kind.clone()).or_default() += 1;
        if let Some(ns) = event.took_ns {
            group.announced.add(Duration::from_nanos(ns).as_secs_f64());
        }
    }

    /// Events by group and kind, and by group how long announcements took.
    pub(super) fn read(&self) -> (Vec<EventCount>, Vec<(String, Announced)>) {
        let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = groups.iter().flat_map(|(name, group)| {
            group.by_kind.iter().map(|(kind, count)| (name.clone(), kind.clone(), *count))
        });
        let announced = groups.iter().filter(|(_, group)| group.announced.count > 0);
        (counts.collect(), announced.map(|(name, group)| (name.clone(), group.announced)).collect())
    }

    /// Counts events for ever, of one daemon after another.
    pub(super) fn watch(&self, socket: &Path) -> ! {
        monitor::follow(socket, |event| {
            if event.kind != WATCHING {
                self.count(event);
            }
        })
    }
}
