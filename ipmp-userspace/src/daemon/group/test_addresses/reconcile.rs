//! Comparing the addresses of a member with what they should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{
    Error, WithoutRoutes, choose, is_own_subnet, put_back::put_back, rules::add_rule, saved, saved_mut,
};
use crate::{
    core::{Event, Input, probe::TestAddress},
    daemon::{
        clock::now,
        group::{Context, RunningGroup, actions, addresses},
    },
    link::{Address, Route, sysctl},
    types::Family,
};

/// As [`reconcile`], if the interface is a member that has joined.
pub async fn reconcile_interface(
    groups: &mut BTreeMap<String, RunningGroup>,
    context: &mut Context<'_>,
    ifindex: u32,
) {
    for group in groups.values_mut() {
        if let Some(number) = group.number_of(ifindex) {
            return reconcile(group, context, number).await;
        }
    }
}

/// Compares the addresses of a member with what they should be, changes them, and reports them to the state machine.
pub async fn reconcile(group: &mut RunningGroup, context: &mut Context<'_>, number: u8) {
    if group.core.member(number).is_none() {
        return;
    }
    let Some(member) = group.members.get(&number) else { return };
    let member = Member { number, ifindex: member.ifindex, name: member.name.clone() };
    match try_reconcile(group, context, &member).await {
        // Its removal is reported by another event.
        Err(Error::Link(error)) if error.is_missing() => log::debug!(group = group.name(); "{error}"),
        Err(error) => log::error!(group = group.name(), member = member.name.as_str(); "{error}"),
        Ok(()) => {}
    }
    group.test_addresses.member(number).postpone(now());
}

struct Member {
    number: u8,
    ifindex: u32,
    name: String,
}

async fn try_reconcile(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    member: &Member,
) -> Result<(), Error> {
    let Some(device) = context.links.device(member.ifindex).await? else { return Ok(()) };
    let present = put_back(group, context, member.number, &device).await?;
    let present = keep_for_tests(group, context, member, present).await?;
    addresses::set_own(group, member.number, &present)?;
    restrict_sources(group)?;
    let record = saved(context.file, group.name(), &member.name);
    let candidates: Vec<Address> = present
        .iter()
        .filter(|address| record.is_some_and(|saved| saved.is_candidate(address.ip)))
        .filter(|address| !group.addresses.contains(address.ip))
        .cloned()
        .collect();
    report_undeclared(group, context, member, &present);
    route_own_subnets(group, context, member, &candidates).await?;
    remove_routes(group, context, member, &present, &candidates).await?;
    report(group, context, member, &candidates).await;
    Ok(())
}

/// Logs each address that another program added to a member and that is no declared test address.
fn report_undeclared(group: &mut RunningGroup, context: &Context<'_>, member: &Member, present: &[Address]) {
    let record = saved(context.file, group.name(), &member.name);
    let is_declared = |ip| record.is_some_and(|saved| saved.is_candidate(ip));
    let is_data = |ip| group.addresses.contains(ip);
    let undeclared: BTreeMap<IpAddr, &Address> = present
        .iter()
        .filter(|address| !address.is_link_local() && !address.ip.is_loopback())
        .filter(|address| is_data(address.ip) || !is_declared(address.ip))
        .map(|address| (address.ip, address))
        .collect();
    let known = std::mem::replace(
        &mut group.test_addresses.member(member.number).undeclared,
        undeclared.keys().copied().collect(),
    );
    for (ip, address) in undeclared.iter().filter(|(ip, _)| !known.contains(ip)) {
        let line = Event::AddressNotDeclared {
            member: member.name.clone(),
            group: group.name().to_owned(),
            address: *ip,
            prefix: address.prefix,
            is_data: group.addresses.contains(*ip),
        };
        context.log(group.name(), &line);
    }
}

/// Reserves for probes the declared addresses that another program added to a member, and returns all its addresses.
async fn keep_for_tests(
    group: &RunningGroup,
    context: &mut Context<'_>,
    member: &Member,
    present: Vec<Address>,
) -> Result<Vec<Address>, Error> {
    let Some(saved) = saved_mut(context.file, group.name(), &member.name) else { return Ok(present) };
    let open: Vec<Address> = present
        .iter()
        .filter(|address| saved.is_candidate(address.ip) && !address.is_for_tests())
        .filter(|address| !address.is_duplicate() && !group.addresses.contains(address.ip))
        .cloned()
        .collect();
    if open.is_empty() {
        return Ok(present);
    }
    for address in open.iter().filter(|address| !saved.added.contains(&address.ip)).collect::<Vec<_>>() {
        saved.changed.retain(|other| (other.ip, other.prefix) != (address.ip, address.prefix));
        saved.changed.push(address.clone());
    }
    saved.changed.retain(|other| present.iter().any(|address| address.ip == other.ip));
    context.file.save()?;
    let (ifindex, name) = (member.ifindex, member.name.as_str());
    let (v4, v6): (Vec<_>, Vec<_>) = open.iter().partition(|address| address.ip.is_ipv4());
    // The addresses of one subnet have one scope: all are deleted before any is added again.
    for address in &v4 {
        context.links.delete_address(ifindex, name, address).await?;
    }
    for address in &v4 {
        context.links.add_address(ifindex, name, &address.for_tests()).await?;
    }
    for address in &v6 {
        context.links.change_address(ifindex, name, address, &address.for_tests()).await?;
    }
    for address in open {
        let line = Event::TestAddressReserved { member: name.to_owned(), address: address.ip };
        context.log(group.name(), &line);
    }
    Ok(context.links.addresses_of(ifindex)?)
}

/// Adds routes for IPv4 test addresses in a subnet without data addresses: without a route to the sender the kernel does not
/// reply to ARP requests.
async fn route_own_subnets(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    member: &Member,
    candidates: &[Address],
) -> Result<(), Error> {
    let wanted: Vec<(Ipv4Addr, u8)> = candidates
        .iter()
        .filter_map(|address| match address.ip {
            IpAddr::V4(v4) => Some((v4, address.prefix)),
            IpAddr::V6(_) => None,
        })
        .filter(|(ip, prefix)| is_own_subnet(group, *ip, *prefix))
        .collect();
    let rules = &mut group.test_addresses.member(member.number).rule_removals;
    rules.retain(|ip, _| wanted.iter().any(|(other, _)| other == ip));
    let Some(saved) = saved_mut(context.file, group.name(), &member.name) else { return Ok(()) };
    let before = saved.routed.clone();
    let obsolete: Vec<Ipv4Addr> =
        saved.routed.iter().copied().filter(|ip| wanted.iter().all(|(other, _)| other != ip)).collect();
    if wanted.iter().any(|(ip, _)| !saved.routed.contains(ip)) {
        saved.routed.extend(wanted.iter().map(|(ip, _)| *ip));
        saved.routed.sort_unstable();
        saved.routed.dedup();
        context.file.save()?;
    }
    for ip in &obsolete {
        context.links.delete_test_route(member.ifindex, *ip).await?;
    }
    if !obsolete.is_empty() {
        if let Some(saved) = saved_mut(context.file, group.name(), &member.name) {
            saved.routed.retain(|ip| !obsolete.contains(ip));
        }
        context.file.save()?;
    }
    // The addresses of one subnet share a table, from which an obsolete one may have deleted the route.
    for (ip, prefix) in wanted {
        let to = (member.number, member.ifindex, member.name.as_str());
        add_rule(group, context, to, (ip, prefix), before.contains(&ip)).await?;
    }
    Ok(())
}

/// Removes the routes through a member in the families in which it has, or awaits, a test address. They are read only if there
/// can be some without a report of them: [`remove_route`].
async fn remove_routes(
    group: &mut RunningGroup,
    context: &Context<'_>,
    member: &Member,
    present: &[Address],
    candidates: &[Address],
) -> Result<(), Error> {
    let record = saved(context.file, group.name(), &member.name);
    let is_named = |family| record.is_some_and(|saved| saved.named_in(family).is_some());
    let is_tested = Family::ALL
        .map(|family| is_named(family) || candidates.iter().any(|address| Family::of(address.ip) == family));
    let addresses = present.iter().map(|address| (address.ip, address.prefix)).collect();
    let without = WithoutRoutes { is_tested, addresses };
    if group.test_addresses.member(member.number).without_routes == without {
        return Ok(());
    }
    if is_tested != [false; 2] {
        for route in context.links.routes_by(member.ifindex)? {
            remove_tested(group.name(), context, member, is_tested, &route).await?;
        }
    }
    group.test_addresses.member(member.number).without_routes = without;
    Ok(())
}

/// A route through members was added. Returns whether it was removed, because it leads through a member with test addresses.
pub async fn remove_route(
    groups: &mut BTreeMap<String, RunningGroup>,
    context: &mut Context<'_>,
    route: &Route,
) -> bool {
    let mut is_removed = false;
    for group in groups.values_mut() {
        let members = group.members.iter().filter(|(_, member)| route.uses(member.ifindex));
        let members: Vec<Member> = members
            .map(|(number, member)| Member {
                number: *number,
                ifindex: member.ifindex,
                name: member.name.clone(),
            })
            .collect();
        for member in members {
            let is_tested = group.test_addresses.member(member.number).without_routes.is_tested;
            match remove_tested(group.name(), context, &member, is_tested, route).await {
                Ok(removed) => is_removed |= removed,
                // Its removal is reported by another event.
                Err(Error::Link(error)) if error.is_missing() => log::debug!(group = group.name(); "{error}"),
                Err(error) => log::error!(group = group.name(), member = member.name.as_str(); "{error}"),
            }
        }
    }
    is_removed
}

async fn remove_tested(
    group: &str,
    context: &Context<'_>,
    member: &Member,
    is_tested: [bool; 2],
    route: &Route,
) -> Result<bool, Error> {
    let family = if route.is_ipv4() { Family::V4 } else { Family::V6 };
    if !is_tested[family as usize] || route.has_other_hops(member.ifindex) {
        return Ok(false);
    }
    let is_removed = context.links.remove_route(&route.through(member.ifindex, member.ifindex)).await?;
    // The kernel adds its own with each address.
    if is_removed && !route.is_of_kernel() {
        let line = Event::RouteRemoved {
            member: member.name.clone(),
            group: group.to_owned(),
            route: route.to_string(),
        };
        context.log(group, &line);
    }
    Ok(is_removed)
}

/// Reports to the state machine what has changed.
async fn report(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    member: &Member,
    candidates: &[Address],
) {
    let record = saved(context.file, group.name(), &member.name).cloned().unwrap_or_default();
    let state = group.test_addresses.member(member.number);
    let before = state.reported;
    let duplicates: BTreeSet<IpAddr> =
        candidates.iter().filter(|address| address.is_duplicate()).map(|address| address.ip).collect();
    let found: Vec<IpAddr> = duplicates.difference(&state.duplicates).copied().collect();
    state.duplicates = duplicates;
    let after = Family::ALL.map(|family| choose(family, &record, before[family as usize], candidates));
    state.reported = after;
    let name = || member.name.clone();
    for address in found {
        context.log(group.name(), &Event::TestAddressDuplicate { member: name(), address });
    }
    let ip = |address| match address {
        TestAddress::Is { address, .. } => Some(address),
        _ => None,
    };
    for family in Family::ALL {
        let (before, address) = (before[family as usize], after[family as usize]);
        if before == address {
            continue;
        }
        if ip(before) != ip(address) {
            let removed = ip(before).map(|address| Event::TestAddressRemoved { member: name(), address });
            let added = ip(address).map(|address| Event::TestAddressReady { member: name(), address });
            for line in removed.into_iter().chain(added) {
                context.log(group.name(), &line);
            }
        }
        let event = Input::TestAddress { member: member.number, family, address };
        actions::tell(group, context, event).await;
    }
}

/// While a member has an IPv6 address of its own, packets of the group are sent from the group's own IPv6 addresses alone,
/// where the application has not chosen one.
fn restrict_sources(group: &mut RunningGroup) -> Result<(), Error> {
    let own = |ip: &IpAddr| {
        matches!(ip, IpAddr::V6(v6) if !v6.is_unicast_link_local()) && !group.addresses.contains(*ip)
    };
    let restrict = group.members.values().any(|member| member.addresses.keys().any(own));
    if group.test_addresses.own_sources != restrict {
        sysctl::set_own_sources(&group.interface.name, restrict)?;
        group.test_addresses.own_sources = restrict;
    }
    Ok(())
}
