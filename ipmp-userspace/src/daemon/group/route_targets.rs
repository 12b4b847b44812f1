//! Targets that routes name. The routing table is read by a task, a moment after it has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{Context, RunningGroup, actions, routing_table::RoutingTable, tasks::Tasks};
use crate::{
    core::{Input, Time},
    daemon::clock::now,
    link::Route,
    types::Family,
};

/// Routes change together: the table is read this long after the first change.
const SETTLE: Duration = Duration::from_millis(100);

/// Targets as last reported to the state machine, by family: of host routes, and routers.
#[derive(Debug, Default)]
pub struct RouteTargets([(Vec<IpAddr>, Vec<IpAddr>); 2]);

/// When the table is read.
#[derive(Debug, Default)]
pub struct RouteReader {
    due: Option<Time>,
    is_reading: bool,
}

impl RouteReader {
    /// Requests a reading.
    pub fn request(&mut self) {
        self.due.get_or_insert_with(|| now() + SETTLE);
    }

    /// When the next reading starts.
    pub fn next(&self) -> Option<Time> {
        self.due.filter(|_| !self.is_reading)
    }

    /// A route was added or deleted.
    pub fn route_changed(&mut self, groups: &BTreeMap<String, RunningGroup>, route: &Route) {
        if groups.values().any(|group| group.devices().any(|ifindex| route.uses(ifindex))) {
            self.request();
        }
    }

    /// An interface changed. The kernel drops routes without a message.
    pub fn interface_changed(&mut self, groups: &BTreeMap<String, RunningGroup>, ifindex: u32) {
        if groups.values().any(|group| group.devices().any(|ours| ours == ifindex)) {
            self.request();
        }
    }

    /// Starts a reading if it is due.
    pub fn start(&mut self, groups: &BTreeMap<String, RunningGroup>, tasks: &Tasks, time: Time) {
        if self.next().is_none_or(|due| time < due) {
            return;
        }
        *self = Self { due: None, is_reading: true };
        tasks.read_routes(groups.values().flat_map(RunningGroup::devices).collect());
    }

    /// A reading has ended.
    pub fn finish(&mut self) {
        self.is_reading = false;
    }
}

/// Reports the targets in a table to the state machine, where they have changed.
pub async fn report(group: &mut RunningGroup, context: &mut Context<'_>, table: &RoutingTable) {
    let members: BTreeSet<u32> = group.members.values().map(|member| member.ifindex).collect();
    for family in Family::ALL {
        let targets = table.targets(family, group.interface.ifindex, &members);
        let reported = &mut group.route_targets.0[family as usize];
        if *reported != targets {
            reported.clone_from(&targets);
            let (hosts, routers) = targets;
            actions::tell(group, context, Input::Routes { family, hosts, routers }).await;
        }
    }
}
