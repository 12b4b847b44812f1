//! `ipmpctl test-address`.

use super::refusals::{address_exists, interface_name, kernel, no_such_group, not_a_member};
use crate::{
    control::{
        TestAddressSpec,
        request::{Refused, reason},
    },
    daemon::{events::trigger::Trigger, group::test_addresses, manager::Manager},
    link::Address,
};

/// Adds a test address to a member.
pub async fn add(
    manager: &mut Manager,
    trigger: &Trigger,
    member: &str,
    address: TestAddressSpec,
) -> Result<Vec<String>, Refused> {
    let group = check_new(manager, member, address).await?;
    configure(manager, trigger, &group, member, &[address]).await?;
    Ok(Vec::new())
}

/// Refuses a test address that cannot be added. Returns the group of the member.
pub async fn check_new(manager: &Manager, member: &str, address: TestAddressSpec) -> Result<String, Refused> {
    let group = manager.group_of(member).ok_or_else(|| not_a_member(member))?.name().to_owned();
    let saved = test_addresses::saved(&manager.file, &group, member);
    if let Some(other) = saved.and_then(|saved| saved.named_in(address.family())) {
        let text = format!(
            "{member} has the test address {other} already: remove it first (ipmpctl test-address del {member} {other})"
        );
        return Err(Refused::new(reason::ADDRESS_EXISTS, text));
    }
    check(manager, &[address], Some(member)).await?;
    Ok(group)
}

/// Configures test addresses of a member. On an error nothing has changed.
pub async fn configure(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    member: &str,
    addresses: &[TestAddressSpec],
) -> Result<(), Refused> {
    let (group, mut context) = manager.group(group, trigger).ok_or_else(|| no_such_group(group))?;
    let number = group.number_named(member).ok_or_else(|| not_a_member(member))?;
    let result = test_addresses::configure(group, &mut context, number, addresses).await;
    result.map_err(|error| kernel(&error))
}

/// Removes a test address that a member has: a configured one, or any other.
pub async fn remove(
    manager: &mut Manager,
    trigger: &Trigger,
    member: &str,
    address: TestAddressSpec,
) -> Result<Vec<String>, Refused> {
    let (group, present) = find(manager, member, address).await?;
    let (group, mut context) = manager.group(&group, trigger).ok_or_else(|| no_such_group(&group))?;
    let number = group.number_named(member).ok_or_else(|| not_a_member(member))?;
    let ifindex = group.members.get(&number).map_or(0, |member| member.ifindex);
    let ip = address.address().map(|address| address.address());
    if let Some(present) = &present {
        context.links.delete_address(ifindex, member, present).await.map_err(|error| kernel(&error))?;
    }
    if let Some(saved) = context.file.member_mut(group.name(), member) {
        saved.test_addresses.remove(address);
    }
    context.file.save_or_log();
    if let Some(ip) = ip {
        group.test_addresses.forget(number, ip);
    }
    test_addresses::reconcile(group, &mut context, number).await;
    Ok(Vec::new())
}

/// Whether the member has a test address: a configured one, or any other.
pub async fn has(manager: &Manager, member: &str, address: TestAddressSpec) -> Result<bool, Refused> {
    let (group, present) = find(manager, member, address).await?;
    let saved = test_addresses::saved(&manager.file, &group, member);
    Ok(present.is_some() || saved.is_some_and(|saved| saved.named.contains(&address)))
}

/// The group of a member, and a test address of it in the kernel.
async fn find(
    manager: &Manager,
    member: &str,
    address: TestAddressSpec,
) -> Result<(String, Option<Address>), Refused> {
    let group = manager.group_of(member).ok_or_else(|| not_a_member(member))?;
    let number = group.number_named(member).ok_or_else(|| not_a_member(member))?;
    let ifindex = group.members.get(&number).map_or(0, |member| member.ifindex);
    let present = manager.links.addresses_of(ifindex).map_err(|error| kernel(&error))?;
    let ip = address.address().map(|address| address.address());
    let present = present.into_iter().find(|address| Some(address.ip) == ip);
    Ok((group.name().to_owned(), present))
}

/// Refuses test addresses that another interface has. `interface` itself may have them.
pub async fn check(
    manager: &Manager,
    addresses: &[TestAddressSpec],
    interface: Option<&str>,
) -> Result<(), Refused> {
    let present = manager.links.addresses().map_err(|error| kernel(&error))?;
    for ip in addresses.iter().filter_map(|address| address.address()).map(|address| address.address()) {
        for (index, _) in present.iter().filter(|(_, other)| other.ip == ip && !other.is_link_local()) {
            let on = interface_name(&manager.links, *index).await;
            if interface != Some(&on) {
                return Err(address_exists(ip, &on));
            }
        }
    }
    Ok(())
}
