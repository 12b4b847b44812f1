//! What the daemon says of groups: each line once, to the log with its fields and to whoever monitors as an event.

use std::cell::RefCell;

use log::{Record, kv::Source};

use crate::daemon::{
    events::{
        cause,
        history::Recent,
        table::{self, Row},
    },
    group::now,
};
use crate::{
    control::{
        Caller,
        monitor::{Event as EventRecord, Publisher},
        probes::{self, Feeds, ProbeReport},
    },
    core::{Cause, Event, Time, probe::outcome::FinishedProbe},
    types::Observer,
};

/// What has made the daemon do what it does now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// It has just started, and finds things.
    #[default]
    Start,
    /// The datapath has seen something, at this time.
    Datapath(Time),
    /// The kernel has told of a change, at this time.
    Kernel(Time),
    /// The kernel has told, or a comparison with it has shown, that somebody deleted a group interface.
    Dissolution,
    /// Somebody asked for it.
    Operator(Caller),
    /// A deadline has come.
    Deadline,
    /// A signal.
    Signal,
    /// The signal that has the configuration file read again.
    Hangup,
}

/// Why a link was lost, as far as the device can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It has no carrier, or a device below it has none.
    Carrier,
    /// It is administratively down.
    Down,
    /// There is no such device here any more.
    Gone,
}

/// Says things.
#[derive(Debug)]
pub struct Teller {
    publisher: Publisher,
    probes: Publisher<ProbeReport>,
    recent: RefCell<Recent>,
    /// What has made the daemon do what it does now.
    pub origin: Origin,
}

impl Default for Teller {
    fn default() -> Self {
        Self {
            publisher: Publisher::default(),
            probes: Publisher::new(probes::CAPACITY),
            recent: RefCell::default(),
            origin: Origin::default(),
        }
    }
}

impl Teller {
    /// Where events and probes are heard.
    pub fn feeds(&self) -> Feeds {
        Feeds { events: self.publisher.feed(), probes: self.probes.feed() }
    }

    /// What has happened to a member, and to its group, lately.
    pub fn recent(&self, group: &str, member: &str) -> Vec<EventRecord> {
        self.recent.borrow().of(group, member)
    }

    /// Whether anybody wants to know of single probes.
    pub fn probes_are_watched(&self) -> bool {
        self.probes.is_heard()
    }

    /// Tells what has become of a probe to whoever wants to know.
    pub fn probe_over(&self, group: &str, outcome: FinishedProbe) {
        self.probes.publish(|_| {
            let handled = outcome.known - outcome.sent;
            ProbeReport {
                group: group.to_owned(),
                member: outcome.member,
                family: outcome.family,
                number: outcome.sequence,
                target: outcome.target,
                fate: outcome.outcome,
                sent_ns: nanoseconds(outcome.sent),
                network_ns: outcome.rtt.map(|network| nanoseconds(Time(network))),
                handled_ns: outcome.rtt.map(|_| nanoseconds(Time(handled))),
                average_ns: outcome.average.map(|average| nanoseconds(Time(average))),
                deviation_ns: outcome.deviation.map(|deviation| nanoseconds(Time(deviation))),
            }
        });
    }

    /// Says what follows from what the daemon was told, with nothing else to explain it.
    pub fn say(&self, group: Option<&str>, line: &Event) {
        self.explain(group, line, &Cause::Trigger, None, || Loss::Carrier);
    }

    /// Says a line: what it follows from, when it was dealt with, and, asked only where a link was lost, how that was.
    pub fn explain(
        &self,
        group: Option<&str>,
        line: &Event,
        why: &Cause,
        done: Option<Time>,
        loss: impl FnOnce() -> Loss,
    ) {
        let row = table::row(line);
        let (cause, because) = self.cause(line, why, loss);
        let timing = why.is_link_change().then(|| self.timing(done.unwrap_or_else(now))).flatten();
        let uid = match &self.origin {
            Origin::Operator(caller) if *why == Cause::Trigger => Some(caller.uid),
            _ => None,
        };
        log_row(group, &row, cause, &because, uid);
        let event = |sequence| {
            let mut event = EventRecord {
                group: group.map(Into::into),
                member: row.member.map(Into::into),
                from: row.from.map(Into::into),
                address: row.address,
                target: row.target,
                family: row.family,
                cause: cause.into(),
                because: because.clone(),
                uid,
                ..EventRecord::new(sequence, row.kind, row.severity.into(), row.text.clone())
            };
            if let Some((seen, observer, took)) = timing {
                event.seen_ns = Some(nanoseconds(seen));
                event.seen_by = Some(observer);
                event.took_ns = Some(nanoseconds(took));
            }
            event
        };
        match group.filter(|_| row.is_explanatory) {
            Some(group) => self.publisher.publish_always(event, |event| {
                self.recent.borrow_mut().remember(group, line, event);
            }),
            None => self.publisher.publish(event),
        }
    }

    /// The cause in one word and in a sentence.
    fn cause(&self, line: &Event, why: &Cause, loss: impl FnOnce() -> Loss) -> (&'static str, String) {
        if let Some((word, text)) = cause::describe(why) {
            let Cause::LinkLost { member } = why else { return (word, text) };
            return match loss() {
                Loss::Carrier => (word, text),
                Loss::Down => ("interface-down", format!("{member} was set down")),
                Loss::Gone => {
                    ("interface-gone", format!("{member} was deleted, or moved to another network namespace"))
                }
            };
        }
        match (&self.origin, table::row(line).member) {
            (Origin::Operator(Caller { uid, pid, method }), _) => {
                ("operator", format!("uid {uid}, pid {pid} asked for {method}"))
            }
            (Origin::Dissolution, _) => {
                ("group-interface-deleted", "somebody deleted the group interface".into())
            }
            (Origin::Signal, _) => ("signal", "ipmpd was asked to end".into()),
            (Origin::Hangup, _) => ("signal", "ipmpd was asked to read its configuration file again".into()),
            (origin, Some(member))
                if matches!(line, Event::Left { .. } | Event::RemovedFromKernel { .. }) =>
            {
                let when = if *origin == Origin::Start { " while no ipmpd ran" } else { "" };
                (
                    "interface-gone",
                    format!("{member} was deleted, or moved to another network namespace{when}"),
                )
            }
            (Origin::Datapath(_), _) => ("datapath", "the datapath says so".into()),
            (Origin::Start, _) => ("start", "ipmpd has started".into()),
            _ => ("kernel", "the kernel says so".into()),
        }
    }

    /// When it was seen, by whom, and how long ago that was at `done`.
    fn timing(&self, done: Time) -> Option<(Time, Observer, Time)> {
        let (seen, observer) = match self.origin {
            Origin::Datapath(seen) => (seen, Observer::Datapath),
            Origin::Kernel(seen) => (seen, Observer::Netlink),
            _ => return None,
        };
        Some((seen, observer, Time(done - seen)))
    }
}

fn nanoseconds(time: Time) -> u64 {
    u64::try_from(time.0.as_nanos()).unwrap_or(u64::MAX)
}

/// Logs a line with its fields, as far as it has them.
fn log_row(group: Option<&str>, row: &Row<'_>, cause: &str, because: &str, uid: Option<u32>) {
    if row.severity > log::max_level() {
        return;
    }
    let (address, uid) = (row.address.map(|address| address.to_string()), uid.map(|uid| uid.to_string()));
    let (target, family) =
        (row.target.map(|target| target.to_string()), row.family.map(|family| family.to_string()));
    let fields = [
        ("group", group),
        ("member", row.member),
        ("event", Some(row.kind)),
        ("cause", Some(cause)),
        ("because", Some(because)),
        ("from", row.from),
        ("address", address.as_deref()),
        ("target", target.as_deref()),
        ("family", family.as_deref()),
        ("uid", uid.as_deref()),
    ];
    let fields: Vec<(&str, &str)> =
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let fields: &dyn Source = &fields;
    log::logger().log(
        &Record::builder()
            .level(row.severity)
            .target(module_path!())
            .args(format_args!("{}", row.text))
            .key_values(fields)
            .build(),
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ETH0: fn() -> String = || "eth0".into();
    const GROUP: fn() -> String = || "production0".into();

    fn cause(origin: Origin, line: &Event, why: &Cause, loss: Loss) -> (&'static str, String) {
        Teller { origin, ..Teller::default() }.cause(line, why, || loss)
    }

    #[test]
    fn a_lost_link_is_explained_by_its_device() {
        let (line, why) = (Event::LinkDown { member: ETH0() }, Cause::LinkLost { member: ETH0() });
        let of = |loss| cause(Origin::Kernel(Time::default()), &line, &why, loss);
        assert_eq!(of(Loss::Carrier), ("carrier-lost", "eth0 has lost its carrier".into()));
        assert_eq!(of(Loss::Down), ("interface-down", "eth0 was set down".into()));
        assert_eq!(
            of(Loss::Gone),
            ("interface-gone", "eth0 was deleted, or moved to another network namespace".into())
        );
    }

    #[test]
    fn what_the_daemon_was_told_is_explained_by_who_told_it() {
        let left = Event::Left { member: ETH0(), group: GROUP() };
        let offline = Event::Offline { member: ETH0(), group: GROUP() };
        let of = |origin, line| cause(origin, line, &Cause::Trigger, Loss::Carrier);
        let operator = |method: &str| Origin::Operator(Caller { uid: 1000, pid: 7, method: method.into() });
        assert_eq!(of(operator("Detach"), &left), ("operator", "uid 1000, pid 7 asked for Detach".into()));
        assert_eq!(
            of(operator("Offline"), &offline),
            ("operator", "uid 1000, pid 7 asked for Offline".into())
        );
        assert_eq!(
            of(Origin::Kernel(Time::default()), &left),
            ("interface-gone", "eth0 was deleted, or moved to another network namespace".into())
        );
        assert_eq!(
            of(Origin::Start, &left),
            (
                "interface-gone",
                "eth0 was deleted, or moved to another network namespace while no ipmpd ran".into()
            )
        );
        assert_eq!(of(Origin::Dissolution, &left).0, "group-interface-deleted");
        let added = Event::AddressAdded { address: [10, 0, 0, 1].into(), group: GROUP() };
        assert_eq!(of(Origin::Kernel(Time::default()), &added), ("kernel", "the kernel says so".into()));
        assert_eq!(of(Origin::Start, &added).0, "start");
    }

    #[test]
    fn an_event_says_how_long_it_took_since_the_link_was_lost() {
        let at = |milliseconds| Time(Duration::from_millis(milliseconds));
        let teller = Teller { origin: Origin::Datapath(at(1000)), ..Teller::default() };
        let (mut events, _) = teller.feeds().events.listen().unwrap();
        let line = Event::AddressMoved {
            address: [10, 0, 0, 1].into(),
            group: GROUP(),
            from: Some(ETH0()),
            to: Some("eth1".into()),
        };
        let why = Cause::MemberFailed { member: ETH0() };
        teller
            .explain(Some("production0"), &line, &why, Some(at(1003)), || unreachable!("no link of its own"));
        let event = events.try_recv().unwrap();
        assert_eq!((event.seen_ns, event.took_ns), (Some(1_000_000_000), Some(3_000_000)));
        assert_eq!((event.seen_by, event.severity), (Some(Observer::Datapath), log::Level::Info.into()));
        assert_eq!(
            (event.kind.as_str(), event.cause.as_str(), event.because.as_str()),
            ("moved", "member-failed", "eth0 has failed")
        );
        assert_eq!((event.member.as_deref(), event.from.as_deref()), (Some("eth1"), Some("eth0")));
        assert_eq!(event.message, "Data address 10.0.0.1 of group production0 has moved from eth0 to eth1");
        assert_eq!((event.sequence, event.address), (1, Some([10, 0, 0, 1].into())));

        // A hint that came with a request or at the start says nothing of time.
        let teller = Teller::default();
        let (mut events, _) = teller.feeds().events.listen().unwrap();
        teller.explain(None, &line, &why, None, || Loss::Carrier);
        assert_eq!(events.try_recv().unwrap().took_ns, None);
    }
}
