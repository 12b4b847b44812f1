//! When a group has something to do without any event.

use super::{
    Context, RunningGroup, actions, early_drops, hooks, inbound_silence, links, replaced, stale_neighbours,
    test_addresses,
};
use crate::{
    core::{Input, Time},
    daemon::clock::now,
};

/// The next deadline of a group.
pub fn next(group: &RunningGroup) -> Option<Time> {
    let updelay = group.updelay.as_ref().and_then(|updelay| updelay.next(&group.updelays));
    let (hooks, sysctls) = (Some(group.hooks.next()), Some(group.sysctls.next()));
    let (tests, stale) = (group.test_addresses.next(), group.stale_neighbours.next());
    let silence = Some(group.inbound_silence.next());
    let all = [group.core.deadline(), updelay, group.reports.next(), hooks, sysctls, tests, stale, silence];
    all.into_iter().flatten().min()
}

/// Handles the deadlines up to `time` of a group, one of so many. Replies that were received by then have been processed.
pub async fn expire(group: &mut RunningGroup, context: &mut Context<'_>, time: Time, groups: usize) {
    if group.core.awaits_moving(time) {
        // Without it no flow is known that would be reordered.
        let moving = group.datapath.moving(now()).unwrap_or_else(|error| {
            log::warn!(group = group.name(); "{error}: flows move at once");
            Default::default()
        });
        actions::tell(group, context, Input::Moving(moving)).await;
    }
    if group.core.deadline().is_some_and(|deadline| deadline <= time) {
        actions::expire(group, context, time).await;
    }
    if group.updelay.is_some() {
        links::read_live(group, context).await;
    }
    for number in group.test_addresses.due(time) {
        test_addresses::reconcile(group, context, number).await;
    }
    if group.stale_neighbours.next().is_some_and(|due| due <= time) {
        stale_neighbours::read(group, context);
    }
    // Last: nothing that is due must wait for it.
    if group.inbound_silence.next() <= time {
        inbound_silence::check(group, context).await;
        replaced::check(group, context.event_log);
        early_drops::reconcile(group, context).await;
    }
    if group.hooks.next() <= time {
        hooks::check(group, context, groups).await;
    }
}
