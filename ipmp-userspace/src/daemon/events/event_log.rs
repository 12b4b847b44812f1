//! The event log: each event goes once to the log, with its fields, and to the clients that monitor.

use std::{cell::RefCell, path::PathBuf};

use log::{Record, kv::Source};

use super::{
    cause,
    history::History,
    table::{self, Row},
    timeline::{LastProbes, Timelines, Work},
    trigger::{LinkLoss, Trigger},
};
use crate::{
    control::{
        Caller,
        monitor::{EventRecord, Publisher},
        probes::{self, Feeds, ProbeReport},
        timeline::Transition,
    },
    core::{Cause, Event, Time, probe::outcome::FinishedProbe},
    daemon::clock::now,
    types::{Observer, Passage, Phase},
};

/// Logs and publishes events, and keeps the last ones for `ipmpctl explain`.
#[derive(Debug)]
pub struct EventLog {
    publisher: Publisher,
    probes: Publisher<ProbeReport>,
    history: RefCell<History>,
    timelines: RefCell<Timelines>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            publisher: Publisher::default(),
            probes: Publisher::new(probes::CAPACITY),
            history: RefCell::default(),
            timelines: RefCell::default(),
        }
    }
}

impl EventLog {
    /// The feeds that clients subscribe to.
    pub fn feeds(&self) -> Feeds {
        Feeds { events: self.publisher.feed(), probes: self.probes.feed() }
    }

    /// Continues the timelines of an earlier daemon, in this directory.
    pub fn open_timelines(&mut self, directory: PathBuf) {
        self.timelines = RefCell::new(Timelines::open(directory));
    }

    /// The last failures and repairs of a group, oldest first.
    pub fn timeline(&self, group: &str) -> Vec<Transition> {
        self.timelines.borrow().of(group).cloned().collect()
    }

    /// Records what an event means for the timeline of a group. Returns the member whose failure it is.
    pub fn record(
        &self,
        group: &str,
        trigger: &Trigger,
        event: (&Event, &Cause),
        work: Work,
        probes: impl FnOnce(&str) -> LastProbes,
    ) -> Option<String> {
        self.timelines.borrow_mut().record(group, trigger, event, work, probes)
    }

    /// Adds to the last failure of a member what is known later.
    pub fn complete_failure(&self, group: &str, member: &str, complete: impl FnOnce(&mut Transition)) {
        self.timelines.borrow_mut().complete_failure(group, member, complete);
    }

    /// Netlink reports that a link is down.
    pub fn link_down_read(&self, group: &str, member: &str, trigger: &Trigger) {
        if let Trigger::Kernel(at) = *trigger {
            self.timelines.borrow_mut().stamp(group, member, Passage::Failure, Some((Phase::Netlink, at)));
        }
    }

    /// Group interfaces have other names: all at once, since two may have swapped theirs.
    pub fn rename_groups(&self, names: &[(String, String)]) {
        self.timelines.borrow_mut().rename(names);
    }

    /// The last events of a member and of its group, oldest first.
    pub fn history(&self, group: &str, member: &str) -> Vec<EventRecord> {
        self.history.borrow().of(group, member)
    }

    /// Whether any client monitors single probes.
    pub fn probes_are_watched(&self) -> bool {
        self.probes.has_subscribers()
    }

    /// Publishes the outcome of a probe.
    pub fn probe_over(&self, group: &str, outcome: FinishedProbe) {
        self.probes.publish(|_| {
            let handled = outcome.known - outcome.sent;
            ProbeReport {
                group: group.to_owned(),
                member: outcome.member,
                family: outcome.family,
                number: outcome.sequence,
                target: outcome.target,
                outcome: outcome.outcome,
                sent_ns: nanoseconds(outcome.sent),
                network_ns: outcome.rtt.map(|network| nanoseconds(Time(network))),
                handled_ns: outcome.rtt.map(|_| nanoseconds(Time(handled))),
                average_ns: outcome.average.map(|average| nanoseconds(Time(average))),
                deviation_ns: outcome.deviation.map(|deviation| nanoseconds(Time(deviation))),
            }
        });
    }

    /// Logs an event that follows from the trigger alone.
    pub fn log(&self, trigger: &Trigger, group: Option<&str>, event: &Event) {
        self.log_with(trigger, group, event, &Cause::Trigger, None, || LinkLoss::Carrier);
    }

    /// Logs an event with its cause and the time at which it was handled. `loss` is called only where a link was lost.
    pub fn log_with(
        &self,
        trigger: &Trigger,
        group: Option<&str>,
        event: &Event,
        cause: &Cause,
        done: Option<Time>,
        loss: impl FnOnce() -> LinkLoss,
    ) {
        if let (Some(group), Event::GroupDestroyed { .. } | Event::GroupInterfaceDeleted { .. }) =
            (group, event)
        {
            self.timelines.borrow_mut().forget(group);
        }
        let row = table::row(event);
        let (word, sentence) = describe(trigger, event, cause, loss);
        let timing = cause.is_link_change().then(|| timing(trigger, done.unwrap_or_else(now))).flatten();
        let uid = match trigger {
            Trigger::Operator(caller) if *cause == Cause::Trigger => Some(caller.uid),
            _ => None,
        };
        log_row(group, &row, word, &sentence, uid);
        let record = |sequence| {
            let mut record = EventRecord {
                group: group.map(Into::into),
                member: row.member.map(Into::into),
                from: row.from.map(Into::into),
                address: row.address,
                target: row.target,
                family: row.family,
                cause: word.into(),
                because: sentence.clone(),
                uid,
                ..EventRecord::new(sequence, row.kind, row.severity.into(), row.text.clone())
            };
            if let Some((seen, observer, took)) = timing {
                record.seen_ns = Some(nanoseconds(seen));
                record.seen_by = Some(observer);
                record.took_ns = Some(nanoseconds(took));
            }
            record
        };
        match group.filter(|_| row.is_explanatory) {
            Some(group) => self.publisher.publish_always(record, |record| {
                self.history.borrow_mut().keep(group, event, record);
            }),
            None => self.publisher.publish(record),
        }
    }
}

/// The cause as one word and as a sentence.
fn describe(
    trigger: &Trigger,
    event: &Event,
    cause: &Cause,
    loss: impl FnOnce() -> LinkLoss,
) -> (&'static str, String) {
    let deleted = |member: &str, when| {
        ("interface-deleted", format!("{member} was deleted, or moved to another network namespace{when}"))
    };
    match (cause::describe(cause), cause) {
        (Some(described), Cause::LinkLost { member }) => match loss() {
            LinkLoss::Carrier => described,
            LinkLoss::Down => ("interface-down", format!("{member} was set down")),
            LinkLoss::Deleted => deleted(member, ""),
        },
        (Some(described), _) => described,
        (None, _) => match (trigger, table::row(event).member) {
            (Trigger::Operator(Caller { uid, pid, method }), _) => {
                ("operator", format!("uid {uid}, pid {pid} requested {method}"))
            }
            (Trigger::Dissolution, _) => {
                ("group-interface-deleted", "another program deleted the group interface".into())
            }
            (Trigger::Signal, _) => ("signal", "ipmpd received a signal to end".into()),
            (Trigger::Hangup, _) => ("signal", "ipmpd received SIGHUP".into()),
            (trigger, Some(member))
                if matches!(event, Event::MemberAbsent { .. } | Event::RemovedFromKernel { .. }) =>
            {
                deleted(member, if *trigger == Trigger::Start { " while no ipmpd ran" } else { "" })
            }
            (Trigger::Datapath(_), _) => ("datapath", "reported by the datapath".into()),
            (Trigger::Start, _) => ("start", "ipmpd has started".into()),
            (Trigger::Kernel(_) | Trigger::Deadline, _) => ("kernel", "reported by the kernel".into()),
        },
    }
}

/// When the change was detected, by what, and how long before `done` that was.
fn timing(trigger: &Trigger, done: Time) -> Option<(Time, Observer, Time)> {
    let (seen, observer) = match *trigger {
        Trigger::Datapath(seen) => (seen, Observer::Datapath),
        Trigger::Kernel(seen) => (seen, Observer::Netlink),
        _ => return None,
    };
    Some((seen, observer, Time(done - seen)))
}

fn nanoseconds(time: Time) -> u64 {
    u64::try_from(time.0.as_nanos()).unwrap_or(u64::MAX)
}

/// Logs an event with those fields that it has.
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

    fn cause(trigger: Trigger, line: &Event, why: &Cause, loss: LinkLoss) -> (&'static str, String) {
        describe(&trigger, line, why, || loss)
    }

    #[test]
    fn lost_link_cause_follows_device_state() {
        let (line, why) = (Event::LinkDown { member: ETH0() }, Cause::LinkLost { member: ETH0() });
        let of = |loss| cause(Trigger::Kernel(Time::default()), &line, &why, loss);
        assert_eq!(of(LinkLoss::Carrier), ("carrier-lost", "eth0 has lost its carrier".into()));
        assert_eq!(of(LinkLoss::Down), ("interface-down", "eth0 was set down".into()));
        assert_eq!(
            of(LinkLoss::Deleted),
            ("interface-deleted", "eth0 was deleted, or moved to another network namespace".into())
        );
    }

    #[test]
    fn event_without_cause_names_its_trigger() {
        let absent = Event::MemberAbsent { member: ETH0(), group: GROUP() };
        let offline = Event::Offline { member: ETH0(), group: GROUP() };
        let of = |trigger, line| cause(trigger, line, &Cause::Trigger, LinkLoss::Carrier);
        let operator = |method: &str| Trigger::Operator(Caller { uid: 1000, pid: 7, method: method.into() });
        assert_eq!(of(operator("Detach"), &absent), ("operator", "uid 1000, pid 7 requested Detach".into()));
        assert_eq!(
            of(operator("Offline"), &offline),
            ("operator", "uid 1000, pid 7 requested Offline".into())
        );
        assert_eq!(
            of(Trigger::Kernel(Time::default()), &absent),
            ("interface-deleted", "eth0 was deleted, or moved to another network namespace".into())
        );
        assert_eq!(
            of(Trigger::Start, &absent),
            (
                "interface-deleted",
                "eth0 was deleted, or moved to another network namespace while no ipmpd ran".into()
            )
        );
        assert_eq!(of(Trigger::Dissolution, &absent).0, "group-interface-deleted");
        let added = Event::AddressAdded { address: [10, 0, 0, 1].into(), group: GROUP() };
        assert_eq!(of(Trigger::Kernel(Time::default()), &added), ("kernel", "reported by the kernel".into()));
        assert_eq!(of(Trigger::Start, &added).0, "start");
    }

    #[test]
    fn link_event_has_time_since_detection() {
        let at = |milliseconds| Time(Duration::from_millis(milliseconds));
        let event_log = EventLog::default();
        let trigger = Trigger::Datapath(at(1000));
        let (mut events, _) = event_log.feeds().events.subscribe().unwrap();
        let line = Event::AddressMoved {
            address: [10, 0, 0, 1].into(),
            group: GROUP(),
            from: Some(ETH0()),
            to: Some("eth1".into()),
        };
        let why = Cause::MemberFailed { member: ETH0() };
        event_log.log_with(&trigger, Some("production0"), &line, &why, Some(at(1003)), || {
            unreachable!("no link of its own")
        });
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

        // Requests and the start have no time of detection.
        let event_log = EventLog::default();
        let (mut events, _) = event_log.feeds().events.subscribe().unwrap();
        event_log.log_with(&Trigger::Start, None, &line, &why, None, || LinkLoss::Carrier);
        assert_eq!(events.try_recv().unwrap().took_ns, None);
    }
}
