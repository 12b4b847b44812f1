//! Removing test addresses, and restoring what was there before.

use super::{MemberTestAddresses, saved_mut};
use crate::{
    daemon::{
        again::again,
        group::{Context, RunningGroup},
        state_file::SavedTestAddresses,
    },
    link::{self, Address, Links},
};

/// Removes the test addresses of a member, or restores them to what they were. They stay configured.
pub async fn restore(group: &mut RunningGroup, context: &mut Context<'_>, name: &str) {
    let Some(member) = context.file.member(group.name(), name) else { return };
    let addresses = &member.test_addresses;
    restore_saved(addresses, context.links, name, member.ifindex).await;
    let has_changed = *addresses != SavedTestAddresses::new(addresses.named.clone());
    if has_changed && let Some(saved) = saved_mut(context.file, group.name(), name) {
        *saved = SavedTestAddresses::new(std::mem::take(&mut saved.named));
        context.file.save_or_log();
    }
    // What is missing now was removed by the daemon.
    if let Some(number) = group.number_named(name) {
        let member = group.test_addresses.member(number);
        *member = MemberTestAddresses { reported: member.reported, ..MemberTestAddresses::default() };
    }
}

/// Removes what the daemon added to a member, and restores what it changed. Errors are logged.
pub async fn restore_saved(saved: &SavedTestAddresses, links: &Links, member: &str, ifindex: u32) {
    for ip in &saved.routed {
        if let Err(error) = again(async || links.delete_test_route(ifindex, *ip).await).await {
            log::warn!(member = member; "{error}; do it by hand");
        }
    }
    if saved.added.is_empty() && saved.changed.is_empty() {
        return;
    }
    if let Err(error) = again(async || try_restore(saved, links, member, ifindex).await).await
        && !error.is_missing()
    {
        log::error!(member = member; "{error}; do it by hand");
    }
}

async fn try_restore(
    saved: &SavedTestAddresses,
    links: &Links,
    member: &str,
    ifindex: u32,
) -> Result<(), link::Error> {
    let present = links.addresses_of(ifindex)?;
    let mut restored = Vec::new();
    for address in &present {
        if saved.added.contains(&address.ip) {
            links.delete_address(ifindex, member, address).await?;
            continue;
        }
        let same = |before: &&Address| (before.ip, before.prefix) == (address.ip, address.prefix);
        let Some(before) = saved.changed.iter().find(same) else { continue };
        let before = address.as_before(before);
        if address.ip.is_ipv6() {
            links.change_address(ifindex, member, address, &before).await?;
        } else {
            // The addresses of one subnet have one scope: all are deleted before any is added again.
            links.delete_address(ifindex, member, address).await?;
            restored.push(before);
        }
    }
    for before in &restored {
        again(async || links.add_address(ifindex, member, before).await).await?;
    }
    Ok(())
}
