//! The event log: each event goes once to the log, with its fields, and to the clients that monitor.

use std::cell::RefCell;

use log::{Record, kv::Source};

use super::{
    history::History,
    trigger::{LinkLoss, Trigger},
};
use crate::{
    control::{
        Caller,
        monitor::{Event, Observer, Publisher},
        probes::{self, Fate, Feeds, ProbeReport},
    },
    core::{
        LogLine, Time, Why,
        probe::{self, outcome::Outcome},
    },
    daemon::clock::now,
};

/// Logs and publishes events, and keeps the last ones for `ipmpctl explain`.
#[derive(Debug)]
pub struct EventLog {
    publisher: Publisher,
    probes: Publisher<ProbeReport>,
    history: RefCell<History>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            publisher: Publisher::default(),
            probes: Publisher::new(probes::CAPACITY),
            history: RefCell::default(),
        }
    }
}

impl EventLog {
    /// The feeds that clients subscribe to.
    pub fn feeds(&self) -> Feeds {
        Feeds { events: self.publisher.feed(), probes: self.probes.feed() }
    }

    /// The last events of a member and of its group, oldest first.
    pub fn history(&self, group: &str, member: &str) -> Vec<Event> {
        self.history.borrow().of(group, member)
    }

    /// Whether any client monitors single probes.
    pub fn probes_are_watched(&self) -> bool {
        self.probes.is_heard()
    }

    /// Publishes the outcome of a probe.
    pub fn probe_over(&self, group: &str, outcome: Outcome) {
        self.probes.publish(|_| {
            let handled = outcome.known - outcome.sent;
            let (fate, network) = match outcome.fate {
                probe::history::Fate::Answered(network) => (Fate::Answered, Some(network)),
                probe::history::Fate::Lost => (Fate::Lost, None),
                probe::history::Fate::Void => (Fate::Void, None),
                _ => (Fate::Unsent, None),
            };
            ProbeReport {
                group: group.to_owned(),
                member: outcome.member,
                family: outcome.family.into(),
                number: outcome.sequence,
                target: outcome.target,
                fate,
                sent_ns: nanoseconds(outcome.sent),
                network_ns: network.map(|network| nanoseconds(Time(network))),
                handled_ns: network.map(|_| nanoseconds(Time(handled))),
                average_ns: outcome.average.map(|average| nanoseconds(Time(average))),
                deviation_ns: outcome.deviation.map(|deviation| nanoseconds(Time(deviation))),
            }
        });
    }

    /// Logs an event that follows from the trigger alone.
    pub fn log(&self, trigger: &Trigger, group: Option<&str>, line: &LogLine) {
        self.log_with(trigger, group, line, &Why::Told, None, || LinkLoss::Carrier);
    }

    /// Logs an event with its cause and the time at which it was handled. `loss` is called only where a link was lost.
    pub fn log_with(
        &self,
        trigger: &Trigger,
        group: Option<&str>,
        line: &LogLine,
        why: &Why,
        done: Option<Time>,
        loss: impl FnOnce() -> LinkLoss,
    ) {
        let (cause, because) = cause_of(trigger, line, why, loss);
        let timing = why.is_of_a_link().then(|| timing(trigger, done.unwrap_or_else(now))).flatten();
        let uid = match trigger {
            Trigger::Operator(caller) if *why == Why::Told => Some(caller.uid),
            _ => None,
        };
        log_line(group, line, cause, &because, uid);
        let event = |sequence| {
            let mut event = Event {
                group: group.map(Into::into),
                member: line.member().map(Into::into),
                from: line.from().map(Into::into),
                address: line.address(),
                target: line.target(),
                family: line.family().map(Into::into),
                cause: cause.into(),
                because: because.clone(),
                uid,
                ..Event::new(sequence, line.kind(), line.level().into(), line.to_string())
            };
            if let Some((seen, observer, took)) = timing {
                event.seen_ns = Some(nanoseconds(seen));
                event.seen_by = Some(observer);
                event.took_ns = Some(nanoseconds(took));
            }
            event
        };
        match group.filter(|_| History::wants(group, line)) {
            Some(group) => self.publisher.publish_always(event, |event| {
                self.history.borrow_mut().keep(group, line, event);
            }),
            None => self.publisher.publish(event),
        }
    }
}

/// The cause as one word and as a sentence.
fn cause_of(
    trigger: &Trigger,
    line: &LogLine,
    why: &Why,
    loss: impl FnOnce() -> LinkLoss,
) -> (&'static str, String) {
    if let Why::LinkLost { member } = why {
        return match loss() {
            LinkLoss::Carrier => (why.word(), why.to_string()),
            LinkLoss::Down => ("interface-down", format!("{member} was set down")),
            LinkLoss::Gone => {
                ("interface-gone", format!("{member} was deleted, or moved to another network namespace"))
            }
        };
    }
    if *why != Why::Told {
        return (why.word(), why.to_string());
    }
    match (trigger, line.member()) {
        (Trigger::Operator(Caller { uid, pid, method }), _) => {
            ("operator", format!("uid {uid}, pid {pid} asked for {method}"))
        }
        (Trigger::Dissolution, _) => ("group-interface-deleted", "the group interface was deleted".into()),
        (Trigger::Signal, _) => ("signal", "ipmpd was asked to end".into()),
        (Trigger::Hangup, _) => ("signal", "ipmpd was asked to read its configuration file again".into()),
        (trigger, Some(member))
            if matches!(line, LogLine::Left { .. } | LogLine::RemovedFromKernel { .. }) =>
        {
            let when = if *trigger == Trigger::Start { " while no ipmpd ran" } else { "" };
            ("interface-gone", format!("{member} was deleted, or moved to another network namespace{when}"))
        }
        (Trigger::Datapath(_), _) => ("datapath", "reported by the datapath".into()),
        (Trigger::Start, _) => ("start", "ipmpd has started".into()),
        _ => ("kernel", "reported by the kernel".into()),
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
fn log_line(group: Option<&str>, line: &LogLine, cause: &str, because: &str, uid: Option<u32>) {
    let level = line.level();
    if level > log::max_level() {
        return;
    }
    let (address, uid) = (line.address().map(|address| address.to_string()), uid.map(|uid| uid.to_string()));
    let (target, family) =
        (line.target().map(|target| target.to_string()), line.family().map(|family| family.to_string()));
    let fields = [
        ("group", group),
        ("member", line.member()),
        ("event", Some(line.kind())),
        ("cause", Some(cause)),
        ("because", Some(because)),
        ("from", line.from()),
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
            .level(level)
            .target(module_path!())
            .args(format_args!("{line}"))
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

    fn cause(trigger: Trigger, line: &LogLine, why: &Why, loss: LinkLoss) -> (&'static str, String) {
        cause_of(&trigger, line, why, || loss)
    }

    #[test]
    fn lost_link_cause_follows_device_state() {
        let (line, why) = (LogLine::LinkDown { member: ETH0() }, Why::LinkLost { member: ETH0() });
        let of = |loss| cause(Trigger::Kernel(Time::default()), &line, &why, loss);
        assert_eq!(of(LinkLoss::Carrier), ("carrier-lost", "eth0 has lost its carrier".into()));
        assert_eq!(of(LinkLoss::Down), ("interface-down", "eth0 was set down".into()));
        assert_eq!(
            of(LinkLoss::Gone),
            ("interface-gone", "eth0 was deleted, or moved to another network namespace".into())
        );
    }

    #[test]
    fn event_without_cause_names_its_trigger() {
        let left = LogLine::Left { member: ETH0(), group: GROUP() };
        let offline = LogLine::Offline { member: ETH0(), group: GROUP() };
        let of = |trigger, line| cause(trigger, line, &Why::Told, LinkLoss::Carrier);
        let operator = |method: &str| Trigger::Operator(Caller { uid: 1000, pid: 7, method: method.into() });
        assert_eq!(of(operator("Detach"), &left), ("operator", "uid 1000, pid 7 asked for Detach".into()));
        assert_eq!(
            of(operator("Offline"), &offline),
            ("operator", "uid 1000, pid 7 asked for Offline".into())
        );
        assert_eq!(
            of(Trigger::Kernel(Time::default()), &left),
            ("interface-gone", "eth0 was deleted, or moved to another network namespace".into())
        );
        assert_eq!(
            of(Trigger::Start, &left),
            (
                "interface-gone",
                "eth0 was deleted, or moved to another network namespace while no ipmpd ran".into()
            )
        );
        assert_eq!(of(Trigger::Dissolution, &left).0, "group-interface-deleted");
        let added = LogLine::AddressAdded { address: [10, 0, 0, 1].into(), group: GROUP() };
        assert_eq!(of(Trigger::Kernel(Time::default()), &added), ("kernel", "reported by the kernel".into()));
        assert_eq!(of(Trigger::Start, &added).0, "start");
    }

    #[test]
    fn link_event_has_time_since_detection() {
        let at = |milliseconds| Time(Duration::from_millis(milliseconds));
        let event_log = EventLog::default();
        let trigger = Trigger::Datapath(at(1000));
        let (mut events, _) = event_log.feeds().events.listen().unwrap();
        let line = LogLine::Moved {
            address: [10, 0, 0, 1].into(),
            group: GROUP(),
            from: Some(ETH0()),
            to: Some("eth1".into()),
        };
        let why = Why::MemberFailed { member: ETH0() };
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
        let (mut events, _) = event_log.feeds().events.listen().unwrap();
        event_log.log_with(&Trigger::Start, None, &line, &why, None, || LinkLoss::Carrier);
        assert_eq!(events.try_recv().unwrap().took_ns, None);
    }
}
