//! The last events of members and groups, for `ipmpctl explain`. Address moves and debug events are left out: there are
//! many of them, and they would displace the others.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::table;
use crate::{control::monitor::EventRecord, core::Event};

/// Events kept per member, and as many per group.
pub const LENGTH: usize = 16;

/// The last events, by group and member; those of no single member by group alone.
#[derive(Debug, Default)]
pub struct History(BTreeMap<String, BTreeMap<Option<String>, VecDeque<Arc<EventRecord>>>>);

impl History {
    /// Keeps an event. The events of a member that left, or of a group that was removed, are dropped.
    pub fn keep(&mut self, group: &str, line: &Event, event: Arc<EventRecord>) {
        if matches!(line, Event::GroupDestroyed { .. } | Event::GroupInterfaceDeleted { .. }) {
            self.0.remove(group);
            return;
        }
        let lists = self.0.entry(group.to_owned()).or_default();
        let member = table::row(line).member.map(str::to_owned);
        if matches!(line, Event::Left { .. }) {
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
    pub fn of(&self, group: &str, member: &str) -> Vec<EventRecord> {
        let lists = self.0.get(group);
        let list = |of: Option<&str>| {
            lists.and_then(|lists| lists.get(&of.map(str::to_owned))).into_iter().flatten()
        };
        let mut events: Vec<&Arc<EventRecord>> = list(Some(member)).chain(list(None)).collect();
        events.sort_by_key(|event| event.sequence);
        let surplus = events.len().saturating_sub(LENGTH);
        events.into_iter().skip(surplus).map(|event| EventRecord::clone(event)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Severity;

    fn keep(history: &mut History, sequence: u64, line: &Event) {
        let row = table::row(line);
        let event = EventRecord::new(sequence, row.kind, Severity::Info, row.text.clone());
        if row.is_explanatory {
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
        keep(&mut history, 1, &Event::LinkDown { member: eth0() });
        keep(&mut history, 2, &Event::LinkDown { member: eth1() });
        keep(&mut history, 3, &Event::GroupUnusable { group: group() });
        keep(&mut history, 4, &Event::NotLive { member: eth0() });
        let moved = Event::AddressMoved {
            address: [10, 0, 0, 1].into(),
            group: group(),
            from: None,
            to: Some(eth0()),
        };
        keep(&mut history, 5, &moved);
        keep(&mut history, 6, &Event::LinkUp { member: eth0() });
        assert_eq!(sequences(&history, "eth0"), [1, 3, 6]);
        assert_eq!(sequences(&history, "eth1"), [2, 3]);
        assert_eq!(history.of("other", "eth0"), []);
        for sequence in 7..100 {
            keep(&mut history, sequence, &Event::LinkUp { member: eth0() });
        }
        assert_eq!(sequences(&history, "eth0"), (84..100).collect::<Vec<_>>());
        assert_eq!(sequences(&history, "eth1"), [2, 3]);
        keep(&mut history, 100, &Event::Left { member: eth0(), group: group() });
        assert_eq!(sequences(&history, "eth0"), [3], "a later member of that name starts empty");
        keep(&mut history, 101, &Event::GroupDestroyed { group: group() });
        assert!(sequences(&history, "eth1").is_empty());
    }
}
