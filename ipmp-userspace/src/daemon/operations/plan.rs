//! `--dry-run`: what a change would do, by the checks of its operation. Nothing changes.

use std::time::Duration;

use super::{
    address, apply, attach, create, destroy, detach, detach_all, firewall::Firewall, offline, remaining,
    restore, set, target, target_route, test_address,
};
use crate::{
    config::plan::{Step, inbound_change},
    control::request::{Refused, Request, Response},
    core::Input,
    daemon::{events::trigger::Trigger, manager::Manager},
    link::Route,
    types::Origin,
};

/// The steps of a change, a line each. Every refusal of the change is one here, too.
pub async fn plan(manager: &mut Manager, trigger: &Trigger, change: Request) -> Result<Response, Refused> {
    let (left, mut notes) = remaining::remaining(manager, change).await?;
    let Some(change) = left else { return Ok(Response::Done { notes, changed: false }) };
    let (more, lines) = match change {
        Request::Apply { files, complete, accept_firewall, .. } => {
            let firewall = Firewall::new(accept_firewall);
            let options = apply::Options { complete, dry_run: true, firewall };
            return apply::apply(manager, trigger, &files, options).await;
        }
        Request::RestoreState { state, .. } => (Vec::new(), restore::plan(manager, trigger, &state).await?),
        Request::DetachAll { group } => detach_all::plan(manager, group.as_deref()).await?,
        Request::AddTargetRoute { group, addresses } => {
            let (missing, notes) = target_route::missing(manager, group.as_deref(), &addresses).await?;
            let line = |(group, route): &(String, Route)| format!("{group}: add route {route}");
            (notes, missing.iter().map(line).collect())
        }
        Request::RemoveTargetRoute { group, addresses } => {
            let (present, notes) = target_route::present(manager, group.as_deref(), &addresses)?;
            let line = |(group, route): &(String, Route)| format!("{group}: remove route {route}");
            (notes, present.iter().map(line).collect())
        }
        change => (Vec::new(), lines(manager, change).await?),
    };
    let changed = !lines.is_empty();
    notes.extend(more);
    notes.extend(lines);
    Ok(Response::Done { notes, changed })
}

async fn lines(manager: &Manager, change: Request) -> Result<Vec<String>, Refused> {
    let steps = match change {
        Request::Create { group, groupname, addresses } => {
            let groupname = groupname.unwrap_or_else(|| group.clone());
            create::check(manager, &group, &groupname, &addresses).await?;
            let mut steps = vec![Step::CreateGroup { group: group.clone(), groupname }];
            if !addresses.is_empty() {
                steps.push(Step::AddAddresses { group, addresses });
            }
            steps
        }
        Request::Destroy { group } => {
            destroy::check(manager, &group)?;
            vec![Step::RemoveGroup { group }]
        }
        Request::Attach { group, interfaces, standby, test_addresses, accept_firewall, .. } => {
            let options = attach::Options {
                standby,
                test_addresses: &test_addresses,
                firewall: Firewall::new(accept_firewall),
            };
            return attach::plan(manager, &group, &interfaces, options).await;
        }
        Request::Detach { interface, last } => return detach::plan(manager, &interface, last).await,
        Request::AddAddress { group, addresses, inbound, .. } => {
            return plan_addresses(manager, group, &addresses, inbound).await;
        }
        Request::RemoveAddress { group, addresses } => vec![Step::RemoveAddresses { group, addresses }],
        Request::AddTestAddress { interface: member, address } => {
            test_address::check_new(manager, &member, address).await?;
            vec![Step::AddTestAddress { member, address }]
        }
        Request::RemoveTestAddress { interface: member, address } => {
            vec![Step::RemoveTestAddress { member, address }]
        }
        Request::Offline { interface } => {
            let group = offline::check(manager, &interface, |member| Input::Offline { member })?;
            return Ok(vec![format!("{group}: set {interface} offline")]);
        }
        Request::Drain { interface, seconds } => {
            let limit = Duration::from_secs(seconds.into());
            let group = offline::check(manager, &interface, |member| Input::Drain { member, limit })?;
            return Ok(vec![format!(
                "{group}: set {interface} offline when it is idle, after {seconds} s at the latest"
            )]);
        }
        Request::Online { interface } => {
            let group = offline::check(manager, &interface, |member| Input::Online { member })?;
            return Ok(vec![format!("{group}: set {interface} online")]);
        }
        Request::Set { name, settings } => {
            let (group, member) = set::check(manager, &name, &settings).await?;
            let changes = settings.iter().map(ToString::to_string).collect();
            vec![match member {
                Some(member) => Step::SetMember { group, member, settings, changes },
                None => Step::SetGroup { group, settings, changes },
            }]
        }
        Request::AddTarget { group, addresses } => {
            return target::plan(manager, &group, &addresses, target::Change::Add).await;
        }
        Request::RemoveTarget { group, addresses } => {
            return target::plan(manager, &group, &addresses, target::Change::Remove).await;
        }
        Request::EnableTarget { group, addresses } => {
            return target::plan(manager, &group, &addresses, target::Change::Enable).await;
        }
        Request::DisableTarget { group, addresses } => {
            return target::plan(manager, &group, &addresses, target::Change::Disable).await;
        }
        Request::DiscoverTargets { group } => {
            target::check_discover(manager, &group)?;
            return Ok(vec![format!(
                "{group}: forget the hosts that replied to multicast probes, and send such a probe"
            )]);
        }
        // The others are planned above, or change nothing that stays.
        _ => Vec::new(),
    };
    Ok(steps.iter().map(Step::to_string).collect())
}

async fn plan_addresses(
    manager: &Manager,
    group: String,
    addresses: &[crate::control::DataAddress],
    inbound: Option<String>,
) -> Result<Vec<String>, Refused> {
    let wanted = inbound.clone().map(|member| address::Inbound { member, logical: None });
    let (_, added) = address::check(manager, &group, addresses, wanted.as_ref(), Origin::Command).await?;
    let mut lines = Vec::new();
    if !added.is_empty() {
        lines.push(Step::AddAddresses { group: group.clone(), addresses: added }.to_string());
    }
    if let Some(member) = inbound {
        let changes = addresses.iter().map(|address| inbound_change(address.address(), Some(&member)));
        lines.push(format!("{group}: set {}", changes.collect::<Vec<_>>().join(", ")));
    }
    Ok(lines)
}
