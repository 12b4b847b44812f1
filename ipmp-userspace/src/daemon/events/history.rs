//! The last events of members and groups, for `ipmpctl explain`. Address moves and debug events are left out: there are
//! many of them, and they would displace the others.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{control::monitor::Event, core::LogLine};

/// Events kept per member, and as many per group.
pub const LENGTH: usize = 16;

/// The last events, by group and member; those of no single member by group alone.
#[derive(Debug, Default)]
pub struct History(BTreeMap<String, BTreeMap<Option<String>, VecDeque<Arc<Event>>>>);

impl History {
    /// Whether an event is kept.
    pub fn wants(group: Option<&str>, line: &LogLine) -> bool {
        let fit = !matches!(
            line,
            LogLine::Moved { .. }
                | LogLine::CastMoved { .. }
                | LogLine::AddressAdded { .. }
                | LogLine::AddressRemoved { .. }
                | LogLine::Learnt { .. }
                | LogLine::Mtu { .. }
                | LogLine::MissedProbes { .. }
                | LogLine::Live { .. }
                | LogLine::NotLive { .. }
        );
        group.is_some() && fit
    }

    /// Keeps an event. The events of a member that left, or of a group that was removed, are dropped.
    pub fn keep(&mut self, group: &str, line: &LogLine, event: Arc<Event>) {
        if matches!(line, LogLine::Removed { .. } | LogLine::Dissolved { .. }) {
            self.0.remove(group);
            return;
        }
        let lists = self.0.entry(group.to_owned()).or_default();
        let member = line.member().map(str::to_owned);
        if matches!(line, LogLine::Left { .. }) {
            lists.remove(&member);
            return;
        }
        let list = lists.entry(member).or_default();
        if list.len() == LENGTH {
            list.pop_front();
        }
        list.push_back(event);
    }

    /// The last events of a member and of its group, oldest first.
    pub fn of(&self, group: &str, member: &str) -> Vec<Event> {
        let lists = self.0.get(group);
        let list = |of: Option<&str>| {
            lists.and_then(|lists| lists.get(&of.map(str::to_owned))).into_iter().flatten()
        };
        let mut events: Vec<&Arc<Event>> = list(Some(member)).chain(list(None)).collect();
        events.sort_by_key(|event| event.sequence);
        let surplus = events.len().saturating_sub(LENGTH);
        events.into_iter().skip(surplus).map(|event| Event::clone(event)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::monitor::Severity;

    fn keep(history: &mut History, sequence: u64, line: &LogLine) {
        let event = Event::new(sequence, line.kind(), Severity::Info, line.to_string());
        if History::wants(Some("g"), line) {
            history.keep("g", line, Arc::new(event));
        }
    }

    fn sequences(history: &History, member: &str) -> Vec<u64> {
        history.of("g", member).iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn history_of_member_has_its_own_and_its_groups_events() {
        let mut history = History::default();
        let (eth0, eth1) = (|| "eth0".to_owned(), || "eth1".to_owned());
        let group = || "g".to_owned();
        keep(&mut history, 1, &LogLine::LinkDown { member: eth0() });
        keep(&mut history, 2, &LogLine::LinkDown { member: eth1() });
        keep(&mut history, 3, &LogLine::GroupUnusable { group: group() });
        keep(&mut history, 4, &LogLine::NotLive { member: eth0() });
        let moved =
            LogLine::Moved { address: [10, 0, 0, 1].into(), group: group(), from: None, to: Some(eth0()) };
        keep(&mut history, 5, &moved);
        keep(&mut history, 6, &LogLine::LinkUp { member: eth0() });
        assert_eq!(sequences(&history, "eth0"), [1, 3, 6]);
        assert_eq!(sequences(&history, "eth1"), [2, 3]);
        assert_eq!(history.of("other", "eth0"), []);
        for sequence in 7..100 {
            keep(&mut history, sequence, &LogLine::LinkUp { member: eth0() });
        }
        assert_eq!(sequences(&history, "eth0"), (84..100).collect::<Vec<_>>());
        assert_eq!(sequences(&history, "eth1"), [2, 3]);
        keep(&mut history, 100, &LogLine::Left { member: eth0(), group: group() });
        assert_eq!(sequences(&history, "eth0"), [3], "a later member of that name starts empty");
        keep(&mut history, 101, &LogLine::Removed { group: group() });
        assert!(sequences(&history, "eth1").is_empty());
    }
}
