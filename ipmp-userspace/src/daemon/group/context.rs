//! What the functions of a group need besides the group.

use super::neighbours::ProbeResolver;
use crate::{
    announce::{Schedule, Sender},
    core::Event,
    daemon::{
        clock::now,
        events::{event_log::EventLog, trigger::Trigger},
        state_file::StateFile,
    },
    link::Links,
};

/// Made for one dispatched event, and borrowed from the manager.
pub struct Context<'a> {
    /// Requests to the kernel.
    pub links: &'a Links,
    /// Announcements that are due later.
    pub schedule: &'a mut Schedule,
    /// The packet socket.
    pub sender: &'a Sender,
    /// The parts of the prober that all groups share.
    pub prober: &'a mut ProbeResolver,
    /// The event log.
    pub event_log: &'a EventLog,
    /// What the daemon processes.
    pub trigger: &'a Trigger,
    /// The state file.
    pub file: &'a mut StateFile,
}

impl Context<'_> {
    /// Sends the announcements that are due.
    pub fn announce(&mut self) {
        for announcement in self.schedule.take(now()) {
            if let Err(error) = self.sender.send(&announcement) {
                log::debug!("cannot announce {}: {error}", announcement.address);
            }
        }
    }

    /// Logs an event of a group that follows from the trigger.
    pub fn log(&self, group: &str, line: &Event) {
        self.event_log.log(self.trigger, Some(group), line);
    }
}
