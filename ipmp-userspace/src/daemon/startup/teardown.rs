//! `ipmpd --teardown`: restores the configuration from before the first attach, without a running daemon.

use super::{Error, dead_namespaces, lock::Lock};
use crate::{
    announce::{Announcement, Sender},
    daemon::{
        events::table::row,
        group::{hardware_filters, test_addresses},
        migration::{Configuration, Place},
        state_file::StateFile,
    },
    datapath::{Datapath, pins},
    link::{GroupInterface, Links, sysctl},
};

/// Tears down every group of the calling thread's network namespace, and returns their names. Errors are
/// logged, and do not stop the rest.
pub async fn teardown() -> Result<Vec<String>, Error> {
    let cookie = pins::netns_cookie()?;
    let _lock = Lock::take(cookie)?;
    let links = Links::open()?;
    let mut file = StateFile::open(cookie)?;
    let renamed = file.follow_names();
    // The addresses of one subnet have one scope: test addresses are removed before others are added.
    for group in file.state.groups.values() {
        for saved in group.members.values().filter(|saved| saved.absent.is_none()) {
            test_addresses::restore_saved(&saved.test_addresses, &links, &saved.name, saved.ifindex).await;
        }
    }
    // First the NICs get their addresses back: the host can be reached through the group and through them.
    let mut restored = Vec::new();
    for (name, group) in &file.state.groups {
        let interface = GroupInterface::existing(&links, name).await?;
        let place = interface.map(|interface| Place { ifindex: interface.ifindex, name });
        restored.extend(group.restore(&links, name, place).await?);
    }
    let now = |pinned: String| match renamed.iter().find(|(before, _)| *before == pinned) {
        Some((_, now)) => now.clone(),
        None => pinned,
    };
    let mut names: Vec<String> = Datapath::teardown()?.into_iter().map(now).collect();
    for (name, group) in &file.state.groups {
        for saved in group.members.values().filter(|saved| saved.absent.is_none()) {
            let member = saved.name.as_str();
            hardware_filters::release(&links, member, saved).await;
            sysctl::restore(member, &saved.settings);
            if saved.was_down
                && let Some(device) = links.device_named(member).await?
                && let Err(error) = links.set_up(&device, false).await
            {
                log::warn!(group = name.as_str(), member = member; "{error}");
            }
        }
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    for name in &names {
        if let Some(interface) = GroupInterface::existing(&links, name).await? {
            links.delete(interface.ifindex, name).await?;
        }
    }
    announce(&links, &restored).await?;
    file.state.groups.clear();
    file.state.unfinished.clear();
    file.save()?;
    if let Some(removed) = dead_namespaces::remove() {
        log::info!("{}", row(&removed).text);
    }
    Ok(names)
}

/// Announces the addresses of the NICs: neighbours may have the MAC of another one in their caches.
async fn announce(links: &Links, restored: &[(String, Configuration)]) -> Result<(), Error> {
    let sender = Sender::open().map_err(Error::PacketSocket)?;
    let router = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding")
        .is_ok_and(|text| text.trim() != "0");
    for (member, moved) in restored {
        let Some(device) = links.device_named(member).await? else { continue };
        for address in &moved.addresses {
            let (ifindex, mac) = (device.ifindex, device.mac);
            if let Err(error) = sender.send(&Announcement {
                group: 0,
                vlan: None,
                address: address.ip,
                ifindex,
                mac,
                router,
                probe: false,
            }) {
                log::warn!(member = member.as_str(); "cannot announce {}: {error}", address.ip);
            }
        }
    }
    Ok(())
}
