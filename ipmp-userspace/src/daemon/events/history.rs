//! What has happened to members and groups lately, for whoever asks why. Addresses that move and words for who looks
//! closely are left out: there are many of them, and they would push out what matters.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::daemon::events::table;
use crate::{control::monitor::Event as EventRecord, core::Event};

/// Events that are remembered of a member, and as many of a group.
pub const LENGTH: usize = 16;

/// The last events, by group and member; those that concern no single member by group alone.
#[derive(Debug, Default)]
pub struct Recent(BTreeMap<String, BTreeMap<Option<String>, VecDeque<Arc<EventRecord>>>>);

impl Recent {
    /// Remembers an event of a line. Who has left is forgotten, and so is a group that is gone.
    pub fn remember(&mut self, group: &str, line: &Event, event: Arc<EventRecord>) {
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

    fn remember(recent: &mut Recent, sequence: u64, line: &Event) {
        let row = table::row(line);
        let event = EventRecord::new(sequence, row.kind, Severity::Info, row.text.clone());
        if row.is_explanatory {
            recent.remember("g", line, Arc::new(event));
        }
    }

    fn sequences(recent: &Recent, member: &str) -> Vec<u64> {
        recent.of("g", member).iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn a_member_has_its_own_last_events_and_those_of_its_group() {
        let mut recent = Recent::default();
        let (eth0, eth1) = (|| "eth0".to_owned(), || "eth1".to_owned());
        let group = || "g".to_owned();
        remember(&mut recent, 1, &Event::LinkDown { member: eth0() });
        remember(&mut recent, 2, &Event::LinkDown { member: eth1() });
        remember(&mut recent, 3, &Event::GroupUnusable { group: group() });
        remember(&mut recent, 4, &Event::NotLive { member: eth0() });
        let moved = Event::AddressMoved {
            address: [10, 0, 0, 1].into(),
            group: group(),
            from: None,
            to: Some(eth0()),
        };
        remember(&mut recent, 5, &moved);
        remember(&mut recent, 6, &Event::LinkUp { member: eth0() });
        assert_eq!(sequences(&recent, "eth0"), [1, 3, 6]);
        assert_eq!(sequences(&recent, "eth1"), [2, 3]);
        assert_eq!(recent.of("other", "eth0"), []);
        for sequence in 7..100 {
            remember(&mut recent, sequence, &Event::LinkUp { member: eth0() });
        }
        assert_eq!(sequences(&recent, "eth0"), (84..100).collect::<Vec<_>>());
        assert_eq!(sequences(&recent, "eth1"), [2, 3]);
        remember(&mut recent, 100, &Event::Left { member: eth0(), group: group() });
        assert_eq!(sequences(&recent, "eth0"), [3], "who joins under that name is another");
        remember(&mut recent, 101, &Event::GroupDestroyed { group: group() });
        assert!(sequences(&recent, "eth1").is_empty());
    }
}
