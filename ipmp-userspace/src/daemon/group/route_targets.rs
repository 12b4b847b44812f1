//! Targets that routes name, as the thread that follows the routes reports them.

use super::{Context, RunningGroup, actions, routing_table::Targets};
use crate::{core::Input, types::Family};

/// Targets as last reported to the state machine, by family: of host routes, and routers.
#[derive(Debug, Default)]
pub struct RouteTargets([Targets; 2]);

/// Reports the targets of a group to the state machine, where they have changed.
pub async fn report(group: &mut RunningGroup, context: &mut Context<'_>, targets: [Targets; 2]) {
    for (family, targets) in Family::ALL.into_iter().zip(targets) {
        let reported = &mut group.route_targets.0[family as usize];
        if *reported != targets {
            reported.clone_from(&targets);
            let Targets { hosts, routers, default } = targets;
            actions::tell(group, context, Input::Routes { family, hosts, routers, default }).await;
        }
    }
}
