//! The state that operations, start-up and the event loop share. It decides nothing.

use std::{collections::BTreeMap, path::PathBuf};

use tokio::io::unix::AsyncFd;

use super::{
    events::{event_log::EventLog, trigger::Trigger},
    group::{
        Context, RunningGroup, absence::ReturnTimer, deadline, hardware_filters::FilterTimer,
        neighbours::ProbeResolver, route_reader::RouteReader, tasks::Tasks,
    },
    mpathd::Mpathd,
    sentinel_check::SentinelCheck,
    source_spread::SourceSpread,
    state_file::StateFile,
    tcp_evidence::TcpEvidence,
    tcp_losses::TcpLosses,
    watchdog::Watchdog,
};
use crate::{
    announce::{Schedule, Sender},
    control::pending::Store,
    core::{Event, Time},
    datapath::{Datapath, Hints},
    link::Links,
};

/// The groups, and what they share.
pub struct Manager {
    /// Requests to the kernel.
    pub links: Links,
    /// Programs and maps.
    pub datapath: Datapath,
    /// Messages of the datapath.
    pub hints: AsyncFd<Hints>,
    /// The groups, by name.
    pub groups: BTreeMap<String, RunningGroup>,
    /// Announcements that are due later.
    pub schedule: Schedule,
    /// The packet socket.
    pub sender: Sender,
    /// The parts of the prober that all groups share.
    pub prober: ProbeResolver,
    /// Follows the routes of the groups.
    pub route_reader: RouteReader,
    /// When hardware filters are updated.
    pub filter_timer: FilterTimer,
    /// Devices of absent members that cannot rejoin yet.
    pub returns: ReturnTimer,
    /// Timeouts of TCP connections.
    pub tcp_evidence: TcpEvidence,
    /// What TCP connections lose.
    pub tcp_losses: TcpLosses,
    /// Source addresses of TCP connections.
    pub source_spread: SourceSpread,
    /// When the sentinel is checked.
    pub sentinel_check: SentinelCheck,
    /// The watchdog of the service manager.
    pub watchdog: Watchdog,
    /// Queries beside the loop.
    pub tasks: Tasks,
    /// The event log.
    pub event_log: EventLog,
    /// The state file.
    pub file: StateFile,
    /// Defaults of groups.
    pub mpathd: Mpathd,
    /// Directory of the configuration files; `None`: they are not read.
    pub configuration: Option<PathBuf>,
    /// The record of a change that waits for its confirmation.
    pub pending: Option<Store>,
    /// Name of the network namespace, where `--netns` gave one.
    pub namespace: String,
}

impl Manager {
    /// The groups, and what their functions need besides.
    pub fn context<'a>(
        &'a mut self,
        trigger: &'a Trigger,
    ) -> (&'a mut BTreeMap<String, RunningGroup>, Context<'a>) {
        let context = Context {
            links: &self.links,
            schedule: &mut self.schedule,
            sender: &self.sender,
            prober: &mut self.prober,
            event_log: &self.event_log,
            trigger,
            file: &mut self.file,
        };
        (&mut self.groups, context)
    }

    /// A group, and what its functions need besides.
    pub fn group<'a>(
        &'a mut self,
        name: &str,
        trigger: &'a Trigger,
    ) -> Option<(&'a mut RunningGroup, Context<'a>)> {
        let (groups, context) = self.context(trigger);
        Some((groups.get_mut(name)?, context))
    }

    /// The group with this member.
    pub fn group_of(&self, member: &str) -> Option<&RunningGroup> {
        self.groups.values().find(|group| group.number_named(member).is_some())
    }

    /// Logs an event, of a group or of the daemon.
    pub fn log(&self, trigger: &Trigger, group: Option<&str>, line: &Event) {
        self.event_log.log(trigger, group, line);
    }

    /// Sends the announcements that are due.
    pub fn announce(&mut self) {
        self.context(&Trigger::Deadline).1.announce();
    }

    /// The next deadline. Each group keeps its own, which says which of them are due then.
    pub fn next_deadline(&mut self) -> Option<Time> {
        self.groups.values_mut().for_each(|group| group.due = deadline::next(group));
        let groups = self.groups.values().filter_map(|group| group.due);
        let filters = self.filter_timer.next(&self.groups);
        let sentinel = self.sentinel_check.next(&self.groups);
        let others = [self.schedule.next(), filters, sentinel, self.returns.next(), self.tcp_losses.next()];
        groups.chain(others.into_iter().flatten()).min()
    }

    /// Checks the sentinel.
    pub fn check_sentinel(&mut self, trigger: &Trigger) {
        let mut check = std::mem::take(&mut self.sentinel_check);
        if let Some(event) = check.check(&mut self.datapath, &mut self.groups) {
            self.log(trigger, None, &event);
        }
        self.sentinel_check = check;
    }

    /// Updates the hardware filters of all members.
    pub async fn update_filters(&mut self, trigger: &Trigger) {
        let mut timer = std::mem::take(&mut self.filter_timer);
        let (groups, mut context) = self.context(trigger);
        timer.update(groups, &mut context).await;
        self.filter_timer = timer;
    }
}
