//! Requests of clients, one at a time: each is executed as a whole, or refused with nothing changed.

mod address;
pub mod apply;
mod attach;
pub mod create;
pub mod destroy;
mod detach;
mod detach_all;
mod early_drop;
mod eligibility;
mod explain;
mod firewall;
mod gateways;
mod link_up_check;
mod offline;
mod path;
mod plan;
mod refusals;
mod remaining;
mod restore;
pub mod resume;
pub mod set;
mod show;
pub mod target;
mod target_check;
mod target_route;
mod test_address;

use super::{events::trigger::Trigger, manager::Manager, renames};
use crate::{
    control::request::{Refused, Request, Response},
    types::Origin,
};

/// Executes a request.
pub async fn execute(
    manager: &mut Manager,
    trigger: &Trigger,
    request: Request,
) -> Result<Response, Refused> {
    use target::Change;
    refusals::refuse_if_pending(manager, trigger, &request)?;
    // The name in the request is the present one.
    renames::follow(manager, trigger);
    match request {
        Request::Plan { parameters, .. } => return plan::plan(manager, trigger, *parameters).await,
        Request::Attach { dry_run: true, .. } => return plan::plan(manager, trigger, request).await,
        _ => {}
    }
    let (request, mut notes) = remaining::remaining(manager, request).await?;
    let Some(request) = request else { return Ok(Response::Done { notes, changed: false }) };
    let more = match request {
        Request::Create { group, groupname, addresses } => {
            create::create(manager, trigger, &group, groupname, &addresses).await?
        }
        Request::Destroy { group } => destroy::destroy(manager, trigger, &group).await?,
        Request::Attach { group, interfaces, standby, test_addresses, accept_firewall, .. } => {
            let options = attach::Options {
                standby,
                test_addresses: &test_addresses,
                firewall: firewall::Firewall::new(accept_firewall),
            };
            attach::attach(manager, trigger, &group, &interfaces, options).await?
        }
        Request::Detach { interface, last } => detach::detach(manager, trigger, &interface, last).await?,
        Request::DetachAll { group } => {
            return detach_all::detach_all(manager, trigger, group.as_deref()).await;
        }
        Request::AddAddress { group, addresses, inbound, logical } => {
            let inbound = inbound.map(|member| address::Inbound { member, logical });
            address::add(manager, trigger, &group, &addresses, inbound, Origin::Command).await?
        }
        Request::RemoveAddress { group, addresses } => {
            address::remove(manager, trigger, &group, &addresses).await?
        }
        Request::AddTestAddress { interface, address } => {
            test_address::add(manager, trigger, &interface, address).await?
        }
        Request::RemoveTestAddress { interface, address } => {
            test_address::remove(manager, trigger, &interface, address).await?
        }
        Request::Offline { interface } => offline::offline(manager, trigger, &interface).await?,
        Request::Drain { interface, seconds } => {
            offline::drain(manager, trigger, &interface, seconds).await?
        }
        Request::Online { interface } => offline::online(manager, trigger, &interface).await?,
        Request::Set { name, settings } => set::set(manager, trigger, &name, &settings).await?,
        Request::AddTarget { group, addresses } => {
            target::change(manager, trigger, &group, &addresses, Change::Add).await?
        }
        Request::RemoveTarget { group, addresses } => {
            target::change(manager, trigger, &group, &addresses, Change::Remove).await?
        }
        Request::EnableTarget { group, addresses } => {
            target::change(manager, trigger, &group, &addresses, Change::Enable).await?
        }
        Request::DisableTarget { group, addresses } => {
            target::change(manager, trigger, &group, &addresses, Change::Disable).await?
        }
        Request::AddTargetRoute { group, addresses } => {
            let (changed, more) = target_route::add(manager, group.as_deref(), &addresses).await?;
            return Ok(Response::Done { notes: [notes, more].concat(), changed });
        }
        Request::RemoveTargetRoute { group, addresses } => {
            let (changed, more) = target_route::remove(manager, group.as_deref(), &addresses).await?;
            return Ok(Response::Done { notes: [notes, more].concat(), changed });
        }
        // Planned above.
        Request::Plan { .. } => Vec::new(),
        Request::Apply { files, complete, dry_run, accept_firewall } => {
            let options =
                apply::Options { complete, dry_run, firewall: firewall::Firewall::new(accept_firewall) };
            return apply::apply(manager, trigger, &files, options).await;
        }
        Request::RecordState {} => return restore::record(manager).await.map(Response::Recorded),
        Request::CheckGateways {} => return gateways::check(manager, trigger).await,
        Request::RestoreState { state, why } => {
            return restore::restore(manager, trigger, &state, &why).await;
        }
        Request::DiscoverTargets { group } => target::discover(manager, trigger, &group).await?,
        Request::ListTargets { group } => return target::list(manager, &group).map(Response::Targets),
        Request::Show { name } => {
            return show::show(manager, name.as_deref()).await.map(Response::Show);
        }
        Request::Monitor { name } | Request::Probes { name } => {
            return show::groups(manager, name.as_deref()).await.map(Response::Show);
        }
        Request::Path { group, packet, lost } => {
            return path::path(manager, &group, &packet, &lost).map(Response::Path);
        }
        Request::Timeline { name, last } => {
            return show::timeline(manager, name.as_deref(), last).map(Response::Timeline);
        }
        Request::Simulate { group, lost } => {
            return path::simulate(manager, &group, &lost).map(Response::Simulated);
        }
        Request::Explain { member } => {
            return explain::explain(manager, &member).await.map(|why| Response::Explained(Box::new(why)));
        }
    };
    manager.announce();
    notes.extend(more);
    Ok(Response::done(notes))
}
