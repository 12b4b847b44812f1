//! The routing rules of test addresses in a subnet without data addresses, which other programs remove: a removed rule is added again
//! after a pause, since a program may remove rules until none is left. If that happens again and again, the conflict is reported.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use super::{Error, saved};
use crate::{
    core::Event,
    daemon::{
        clock::now,
        group::{Context, RunningGroup},
    },
};

/// The rule of a test address on an interface was removed. That was the daemon if the address needs none.
pub fn rule_removed(
    groups: &mut BTreeMap<String, RunningGroup>,
    context: &Context<'_>,
    ifindex: u32,
    ip: Ipv4Addr,
) {
    let found = groups.values_mut().find_map(|group| group.number_of(ifindex).map(|number| (group, number)));
    let Some((group, number)) = found else { return };
    let Some(name) = group.members.get(&number).map(|member| member.name.clone()) else { return };
    if !saved(context.file, group.name(), &name).is_some_and(|saved| saved.routed.contains(&ip)) {
        return;
    }
    let removals = group.test_addresses.member(number).rule_removals.entry(ip).or_default();
    if let Some(why) = removals.removed(now())
        && removals.delay(now(), &why)
    {
        let line = Event::TestRuleConflict { member: name, address: ip.into(), why };
        context.log(group.name(), &line);
    }
}

/// Adds the rule of a test address, and the route to its subnet, unless that must wait. `had_rule`: the rule was there before.
pub(super) async fn add_rule(
    group: &mut RunningGroup,
    context: &Context<'_>,
    (number, ifindex, name): (u8, u32, &str),
    (ip, prefix): (Ipv4Addr, u8),
    had_rule: bool,
) -> Result<(), Error> {
    let removals = &mut group.test_addresses.member(number).rule_removals;
    if removals.get(&ip).and_then(|removals| removals.due()).is_some_and(|due| due > now()) {
        return Ok(());
    }
    let was_missing = context.links.add_test_route(ifindex, ip, prefix).await?;
    if let Some(removals) = removals.get_mut(&ip) {
        removals.present();
    }
    if was_missing && had_rule {
        let line = Event::TestRuleRestored { member: name.to_owned(), address: IpAddr::V4(ip) };
        context.log(group.name(), &line);
    }
    Ok(())
}
