//! `ipmpctl target route`: host routes that make hosts the targets of a group.
//!
//! They are routes of the host, as one that `ip route` adds: neither saved, nor removed by a configuration file.

use std::net::IpAddr;

use super::{
    refusals::{kernel, no_group_note, no_such_group},
    target_check::{self, subnet_of},
};
use crate::{
    control::request::{Refused, reason},
    daemon::{group::RunningGroup, manager::Manager},
    link::{Address, Route, RouteEntry, USUAL_V6_METRIC},
    types::network::is_in,
};

/// Adds a host route to each address, all or none. Returns whether any is new, and notes on those that exist.
pub async fn add(
    manager: &Manager,
    group: Option<&str>,
    addresses: &[IpAddr],
) -> Result<(bool, Vec<String>), Refused> {
    let (missing, notes) = missing(manager, group, addresses).await?;
    for (at, (_, route)) in missing.iter().enumerate() {
        if let Err(error) = manager.links.replace_route(route).await {
            for (_, added) in &missing[..at] {
                let _ = manager.links.delete_route(added).await;
            }
            return Err(kernel(&error));
        }
    }
    Ok((!missing.is_empty(), notes))
}

/// Routes with the groups that they lead through, and notes on addresses.
pub type Routes = (Vec<(String, Route)>, Vec<String>);

/// The host routes that do not exist yet, and notes on those that do.
pub async fn missing(
    manager: &Manager,
    group: Option<&str>,
    addresses: &[IpAddr],
) -> Result<Routes, Refused> {
    let (mut missing, mut notes) = (Vec::new(), Vec::new());
    for &address in addresses {
        let group = group_for(manager, group, address).await?;
        target_check::check(manager, group.name(), &[address]).await?;
        if !host_routes(manager, group, address)?.is_empty() {
            notes.push(format!("{address} has a host route through {} already", group.name()));
            continue;
        }
        let route = host_route(address, group.interface.ifindex);
        let beside = manager.links.routes_beside(std::slice::from_ref(&route));
        if let Some(other) = beside.map_err(|error| kernel(&error))?.first() {
            let text = format!(
                "{other} leads another way than directly through {}: remove that route first (ip route del {other})",
                group.name()
            );
            return Err(Refused::new(reason::EXISTS, text));
        }
        missing.push((group.name().to_owned(), route));
    }
    Ok((missing, notes))
}

/// Removes the host routes to these addresses. Returns whether there were any, and notes on addresses without one.
pub async fn remove(
    manager: &Manager,
    group: Option<&str>,
    addresses: &[IpAddr],
) -> Result<(bool, Vec<String>), Refused> {
    let (present, notes) = present(manager, group, addresses)?;
    let mut changed = false;
    for (_, route) in present {
        changed |= manager.links.remove_route(&route).await.map_err(|error| kernel(&error))?;
    }
    Ok((changed, notes))
}

/// The host routes to these addresses, and notes on addresses without one.
pub fn present(manager: &Manager, group: Option<&str>, addresses: &[IpAddr]) -> Result<Routes, Refused> {
    let groups: Vec<&RunningGroup> = match group {
        Some(name) => match manager.groups.get(name) {
            Some(known) => vec![known],
            None => return Ok((Vec::new(), vec![no_group_note(name)])),
        },
        None => manager.groups.values().collect(),
    };
    let (mut present, mut notes) = (Vec::new(), Vec::new());
    for &address in addresses {
        let before = present.len();
        for group in &groups {
            let routes = host_routes(manager, group, address)?;
            present.extend(routes.into_iter().map(|route| (group.name().to_owned(), route)));
        }
        if present.len() == before {
            let through = group.unwrap_or("a group");
            notes.push(format!("{address} has no host route through {through}: nothing to change"));
        }
    }
    Ok((present, notes))
}

/// The group with this name, else the only one that has the address on its link.
async fn group_for<'a>(
    manager: &'a Manager,
    name: Option<&str>,
    address: IpAddr,
) -> Result<&'a RunningGroup, Refused> {
    if let Some(name) = name {
        return manager.groups.get(name).ok_or_else(|| no_such_group(name));
    }
    let present = manager.links.addresses().map_err(|error| kernel(&error))?;
    let reaches = |group: &&RunningGroup| {
        let mut own = present.iter().filter(|(index, _)| group.is_own_device(*index));
        own.any(|(_, own): &(u32, Address)| is_in(address, (own.ip, own.prefix)))
    };
    let mut found: Vec<&RunningGroup> = manager.groups.values().filter(reaches).collect();
    found.sort_unstable_by_key(|group| group.name());
    match found[..] {
        [group] => Ok(group),
        [] => {
            let own = present.iter().filter(|(index, own)| {
                let is_of_group = |group: &RunningGroup| group.is_own_device(*index);
                own.ip.is_ipv4() == address.is_ipv4() && manager.groups.values().any(is_of_group)
            });
            let mut subnets: Vec<String> = own.map(|(_, own)| subnet_of((own.ip, own.prefix))).collect();
            subnets.sort_unstable();
            subnets.dedup();
            let reached =
                if subnets.is_empty() { "no subnet of its family".into() } else { subnets.join(" and ") };
            let text = format!(
                "{address} is on the link of no group; groups reach {reached}: name a host there, or give the group or its \
                 members addresses of that subnet first"
            );
            Err(Refused::new(reason::BAD_TARGET, text))
        }
        _ => {
            let names: Vec<&str> = found.iter().map(|group| group.name()).collect();
            let text = format!(
                "{address} is on the links of {}: select one of them with --group",
                names.join(" and ")
            );
            Err(Refused::new(reason::AMBIGUOUS_TARGET, text))
        }
    }
}

/// The route to a host on the link. Its metric is what the kernel gives a route without one, by which the same is found.
fn host_route(address: IpAddr, ifindex: u32) -> Route {
    let (prefix, metric) = if address.is_ipv4() { (32, None) } else { (128, Some(USUAL_V6_METRIC)) };
    let entry =
        RouteEntry { to: (address, prefix), via: None, metric, table: None, src: None, onlink: false };
    Route::of_entry(&entry, ifindex)
}

/// The routes that make this host a target of the group: to the host itself, on the link or with itself as the gateway.
fn host_routes(manager: &Manager, group: &RunningGroup, address: IpAddr) -> Result<Vec<Route>, Refused> {
    let ifindex = group.interface.ifindex;
    let mut routes = manager.links.routes_of(ifindex).map_err(|error| kernel(&error))?;
    routes.retain(|route| {
        route.host() == Some(address)
            && !route.has_other_hops(ifindex)
            && route.next_hops(|_| true).iter().all(|hop| *hop == address)
    });
    Ok(routes)
}
