//! Events as `ipmpctl monitor` receives them, field by field as `net.ipmp.Manager.varlink` documents them, and the queue
//! from the daemon to its subscribers.
//!
//! The queue is a ring of [`CAPACITY`] events. The daemon never waits: a slow subscriber loses the oldest events, and
//! receives their number.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::types::{Family, Observer, Severity};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Events that a subscriber may be behind: several failovers of a group with hundreds of addresses.
pub const CAPACITY: usize = 4096;

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Number of the event, from 1; a gap means lost events or events of other groups.
    pub sequence: u64,
    /// When: RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// Time by `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// `link-down`, `failed`, `moved`, ...
    pub kind: String,
    /// Severity.
    pub severity: Severity,
    /// The group; `None`: not about a single group.
    pub group: Option<String>,
    /// The member; of a moved role: the new member.
    pub member: Option<String>,
    /// Of a moved role: the previous member.
    pub from: Option<String>,
    /// The data address.
    pub address: Option<IpAddr>,
    /// The target.
    pub target: Option<IpAddr>,
    /// The family.
    pub family: Option<Family>,
    /// The log message.
    pub message: String,
    /// `carrier-lost`, `operator`, ...
    pub cause: String,
    /// The cause as a sentence.
    pub because: String,
    /// The user who requested it.
    pub uid: Option<u32>,
    /// Of a link change: when it was detected, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub seen_ns: Option<u64>,
    /// What detected it.
    pub seen_by: Option<Observer>,
    /// From detection to the announcement on the network, in nanoseconds.
    pub took_ns: Option<u64>,
    /// Of kind `lost`: number of events missing here.
    pub lost: Option<u64>,
}

/// Kind of the first event of a subscription.
pub const WATCHING: &str = "watching";
/// Kind of the last event of a daemon that exits.
pub const STOPPED: &str = "stopped";

impl EventRecord {
    /// An event with the mandatory fields only.
    pub fn new(sequence: u64, kind: &str, severity: Severity, message: String) -> Self {
        let since_boot = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        Self {
            sequence,
            time: rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            monotonic_ns: since_boot.map(Duration::from).unwrap_or_default().as_nanos() as u64,
            kind: kind.to_owned(),
            severity,
            group: None,
            member: None,
            from: None,
            address: None,
            target: None,
            family: None,
            message,
            cause: String::new(),
            because: String::new(),
            uid: None,
            seen_ns: None,
            seen_by: None,
            took_ns: None,
            lost: None,
        }
    }

    /// The first event of every subscriber: the groups it monitors. `sequence` is that of the last event before.
    pub(super) fn watching(sequence: u64, groups: Option<&[String]>) -> Self {
        let what =
            groups.map_or_else(|| "every group".to_owned(), |groups| format!("group {}", groups.join(", ")));
        Self {
            group: groups.and_then(|groups| groups.first().cloned()),
            cause: "monitor".into(),
            because: "a client has subscribed".into(),
            ..Self::new(sequence, WATCHING, Severity::Info, format!("watching {what}"))
        }
    }

    /// Replaces events that were not read in time; `sequence` is that of the last of them.
    pub(super) fn lost(sequence: u64, lost: u64) -> Self {
        Self {
            lost: Some(lost),
            cause: "slow-reader".into(),
            because: "they were not read in time".into(),
            ..Self::new(sequence, "lost", Severity::Warning, format!("{lost} events lost"))
        }
    }

    /// Whether a subscriber to these groups receives it.
    pub(super) fn concerns(&self, groups: Option<&[String]>) -> bool {
        match (&self.group, groups) {
            (Some(group), Some(groups)) => groups.contains(group),
            _ => true,
        }
    }
}

/// Seconds of a day.
const DAY: u64 = 86_400;

/// A time since 1970 as RFC 3339 writes it, in UTC, with milliseconds.
pub(crate) fn rfc3339(since: Duration) -> String {
    let (days, second) = (since.as_secs() / DAY, since.as_secs() % DAY);
    // Eras of 400 years from March to February, so that leap days come last.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, january) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + january;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// The daemon's end of the queue of events or probes.
#[derive(Debug)]
pub struct Publisher<T = EventRecord> {
    sender: broadcast::Sender<Arc<T>>,
    last: Arc<AtomicU64>,
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl<T> Publisher<T> {
    /// `capacity`: items that a subscriber may be behind.
    pub fn new(capacity: usize) -> Self {
        Self { sender: broadcast::Sender::new(capacity), last: Arc::default() }
    }

    /// Whether there is a subscriber.
    pub fn has_subscribers(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Sends an event to all subscribers; `event` receives the sequence number, and is called only if there is one.
    pub fn publish(&self, event: impl FnOnce(u64) -> T) {
        let sequence = self.last.fetch_add(1, Relaxed) + 1;
        if self.has_subscribers() {
            // The last subscriber may have closed in between.
            let _ = self.sender.send(Arc::new(event(sequence)));
        }
    }

    /// As [`publish`](Self::publish), but always creates the event and passes it to `keep`.
    pub fn publish_always(&self, event: impl FnOnce(u64) -> T, keep: impl FnOnce(Arc<T>)) {
        let event = Arc::new(event(self.last.fetch_add(1, Relaxed) + 1));
        keep(Arc::clone(&event));
        let _ = self.sender.send(event);
    }

    /// The handle for subscribers. It ends with the publisher.
    pub fn feed(&self) -> Feed<T> {
        Feed { sender: self.sender.downgrade(), last: Arc::clone(&self.last) }
    }
}

/// The handle to subscribe with.
#[derive(Debug)]
pub struct Feed<T = EventRecord> {
    sender: broadcast::WeakSender<Arc<T>>,
    last: Arc<AtomicU64>,
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), last: Arc::clone(&self.last) }
    }
}

impl<T> Feed<T> {
    /// Subscribes: returns the receiver and the sequence number of the last event before. `None`: the daemon has ended.
    pub(crate) fn subscribe(&self) -> Option<(broadcast::Receiver<Arc<T>>, u64)> {
        let receiver = self.sender.upgrade()?.subscribe();
        Some((receiver, self.last.load(Relaxed)))
    }
}

/// An event with every field filled.
#[cfg(test)]
pub(crate) fn sample() -> EventRecord {
    EventRecord {
        time: "2010-01-08T20:01:06.042Z".into(),
        monotonic_ns: 15_113_000_000_042,
        group: Some("production0".into()),
        member: Some("e1000g1".into()),
        from: Some("e1000g0".into()),
        address: Some("192.168.178.200".parse().unwrap()),
        target: Some("192.168.178.1".parse().unwrap()),
        family: Some(Family::V4),
        cause: "member-failed".into(),
        because: "e1000g0 has failed".into(),
        uid: Some(1000),
        seen_ns: Some(15_113_000_000_000),
        seen_by: Some(Observer::Datapath),
        took_ns: Some(812_345),
        lost: Some(7),
        ..EventRecord::new(
            42,
            "moved",
            Severity::Info,
            "Data address 192.168.178.200 of group production0 has moved from e1000g0 to e1000g1".into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_match_date_command() {
        // By `date -u -d @SECONDS +%FT%T`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.042Z"),
            (951_782_399, "2000-02-28T23:59:59.042Z"),
            (951_868_799, "2000-02-29T23:59:59.042Z"),
            (951_868_800, "2000-03-01T00:00:00.042Z"),
            (1_262_980_866, "2010-01-08T20:01:06.042Z"),
            (1_735_689_599, "2024-12-31T23:59:59.042Z"),
            (4_107_542_400, "2100-03-01T00:00:00.042Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_millis(seconds * 1000 + 42)), text);
        }
    }

    #[test]
    fn slow_subscriber_loses_oldest_events() {
        let publisher = Publisher::default();
        let feed = publisher.feed();
        let event = |sequence| EventRecord::new(sequence, "joined", Severity::Info, String::new());
        publisher.publish(|_| panic!("no subscriber"));
        let (mut events, last) = feed.subscribe().unwrap();
        assert_eq!(last, 1);
        publisher.publish(event);
        assert_eq!(events.try_recv().unwrap().sequence, 2);
        for _ in 0..CAPACITY + 3 {
            publisher.publish(event);
        }
        assert!(matches!(events.try_recv(), Err(broadcast::error::TryRecvError::Lagged(3))));
        assert_eq!(events.try_recv().unwrap().sequence, 6);
        drop(publisher);
        assert!(feed.subscribe().is_none());
    }

    #[test]
    fn subscriber_to_group_receives_its_events_and_those_of_daemon() {
        let event = |group: Option<&str>| EventRecord { group: group.map(Into::into), ..sample() };
        let groups = &["production0".to_owned()][..];
        assert!(event(Some("production0")).concerns(Some(groups)) && event(None).concerns(Some(groups)));
        assert!(!event(Some("other0")).concerns(Some(groups)) && event(Some("other0")).concerns(None));
    }
}
