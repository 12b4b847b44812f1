//! Hints of the datapath: a member has changed in `live`, a packet was seen that the daemon reacts to.

use std::{collections::BTreeSet, io, time::Duration};

use ipmp_common::maps::{Hint, HintKind};
use tokio::io::unix::AsyncFd;

use super::{
    clock::now,
    events::trigger::Trigger,
    group::{followers, links, membership_reports},
    manager::Manager,
};
use crate::{core::Time, datapath::Hints};

/// Waits for hints.
pub async fn receive(hints: &mut AsyncFd<Hints>) -> io::Result<Vec<Hint>> {
    let mut ready = hints.readable_mut().await?;
    let hints = ready.get_inner_mut().drain();
    ready.clear_ready();
    Ok(hints)
}

/// Reads the masks of the groups with hints, and applies what the groups decide.
pub async fn handle(manager: &mut Manager, hints: &[Hint]) {
    // Several hints cause one reading of the masks; the first one has the time when the change was detected.
    let live = hints.iter().filter(|hint| hint.kind == HintKind::Live as u32);
    let detected = live.map(|hint| hint.at_ns).min().map(Duration::from_nanos);
    let trigger = Trigger::Datapath(detected.map_or_else(now, Time));
    let hints: BTreeSet<(u32, u32)> = hints.iter().map(|hint| (hint.group, hint.kind)).collect();
    let (groups, mut context) = manager.context(&trigger);
    let mut devices = Vec::new();
    for group in groups.values_mut() {
        let index = group.datapath.index();
        let has = |kind: HintKind| hints.contains(&(index, kind as u32));
        if has(HintKind::Report) {
            group.filters.multicast_changed();
        }
        if has(HintKind::Learnt) {
            followers::learnt_changed(group, &mut context);
        }
        if has(HintKind::StaleNeighbour) {
            group.stale_neighbours.reported();
        }
        if has(HintKind::Live) {
            links::read_live(group, &mut context).await;
            devices.extend(group.members.values().map(|member| member.ifindex));
        }
    }
    context.announce();
    membership_reports::send_due(groups, &context);
    manager.tasks.read_devices(devices);
}
