//! Whether the sentinel still ticks: its timer dies without a message if another program writes the pinned map that contains it
//! (docs/design/sentinel.md). It is started again.

use std::{collections::BTreeMap, time::Duration};

use super::{
    clock::now,
    group::{RunningGroup, links},
};
use crate::{
    control::duration::short,
    core::{Event, Time},
    datapath::{Datapath, Liveness},
};

/// Time between two checks.
const PERIOD: Duration = Duration::from_secs(1);
/// Time to the second reading that confirms a stop: after a pause of the whole machine, the timer may run after the daemon.
const CONFIRM: Duration = Duration::from_millis(50);

/// When the sentinel is checked, and how often it was started again.
#[derive(Debug, Default)]
pub struct SentinelCheck {
    due: Time,
    /// Ticks when it seemed to have stopped.
    suspected: Option<u64>,
    restarts: u32,
    restarted: Time,
}

impl SentinelCheck {
    /// The next check.
    pub fn next(&self, groups: &BTreeMap<String, RunningGroup>) -> Option<Time> {
        groups.values().any(|group| !group.members.is_empty()).then_some(self.due)
    }

    /// What `show` and `explain` report.
    pub fn message(&self) -> Option<String> {
        let times = if self.restarts == 1 { "once".to_owned() } else { format!("{} times", self.restarts) };
        (self.restarts > 0).then(|| {
            format!(
                "the sentinel has stopped and was started again {times}, the last time {} ago: another program writes \
                 its map",
                short(now() - self.restarted)
            )
        })
    }

    /// Checks it, and starts it again. Returns what happened. Where it cannot be started, the daemon monitors links by netlink.
    pub fn check(
        &mut self,
        datapath: &mut Datapath,
        groups: &mut BTreeMap<String, RunningGroup>,
    ) -> Option<Event> {
        let time = now();
        self.due = time.next_multiple(PERIOD);
        let event = match datapath.sentinel_liveness(time.0.as_nanos() as u64) {
            Ok(Liveness::Fine) => {
                self.suspected = None;
                None
            }
            Ok(Liveness::Stalled(ticks)) if self.suspected != Some(ticks) => {
                self.suspected = Some(ticks);
                self.due = time + CONFIRM;
                None
            }
            Ok(Liveness::Stalled(_)) => {
                self.suspected = None;
                Some(self.restart(datapath, time))
            }
            // Its members were replaced, or came back from another namespace.
            Ok(Liveness::Ended) => datapath.restart_sentinel().err().map(|error| missing(&error)),
            Err(error) => {
                log::warn!("{error}");
                None
            }
        };
        if !datapath.sentinel_runs() {
            for group in groups.values_mut().filter(|group| group.updelay.is_none()) {
                links::replace_sentinel(group);
            }
        }
        event
    }

    fn restart(&mut self, datapath: &mut Datapath, time: Time) -> Event {
        match datapath.restart_sentinel() {
            Ok(()) => {
                self.restarts += 1;
                self.restarted = time;
                Event::SentinelRestarted
            }
            Err(error) => missing(&error),
        }
    }
}

fn missing(error: &crate::datapath::Error) -> Event {
    Event::SentinelMissing { why: error.to_string() }
}
