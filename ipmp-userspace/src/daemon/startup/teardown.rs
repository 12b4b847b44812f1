//! `ipmpd --teardown`: everything back as it was before the first attach, with no daemon alive.

use crate::daemon::{
    event_loop::Error,
    group::hardware_filters,
    migration::{Configuration, Place},
    startup::lock::Lock,
    state_file::{self, SavedGroup},
};
use crate::{
    announce::{Announcement, Sender},
    datapath::{Datapath, pins},
    link::{GroupInterface, Links, sysctl},
};

/// Tears down every group of the calling thread's network namespace, and returns their names. What cannot be put back
/// is logged, and does not keep the rest from it.
pub async fn teardown() -> Result<Vec<String>, Error> {
    let cookie = pins::netns_cookie()?;
    let _lock = Lock::take(cookie)?;
    let links = Links::open()?;
    let mut file = state_file::File::open(cookie)?;
    // In one network an interface has addresses of one scope: test addresses go before others come.
    for group in file.state.groups.values() {
        for (member, saved) in &group.members {
            saved.test_addresses.lift(&links, member, saved.ifindex).await;
        }
    }
    // First the NICs get back what came from them: they can be reached through the group or by themselves.
    for (name, group) in &file.state.groups {
        give_back(&links, name, group).await?;
    }
    let mut names = Datapath::teardown()?;
    for (name, group) in &file.state.groups {
        for (member, saved) in &group.members {
            hardware_filters::release(&links, member, saved).await;
            sysctl::restore(member, &saved.settings);
            if saved.was_down
                && let Some(device) = links.device_named(member).await?
                && let Err(error) = links.set_up(&device, false).await
            {
                log::warn!(group = name.as_str(), member = member.as_str(); "{error}");
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
    for group in file.state.groups.values() {
        announce(&links, group).await?;
    }
    file.state.groups.clear();
    file.save()?;
    Ok(names)
}

/// Tells the network which NIC has an address again: neighbours may know it by the MAC of another, that is down now.
async fn announce(links: &Links, group: &SavedGroup) -> Result<(), Error> {
    let sender = Sender::open().map_err(Error::PacketSocket)?;
    let router = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding")
        .is_ok_and(|text| text.trim() != "0");
    for (member, moved) in &group.moved {
        let Some(device) = links.device_named(member).await? else { continue };
        for address in &moved.addresses {
            let (ifindex, mac) = (device.ifindex, device.mac);
            if let Err(error) =
                sender.send(&Announcement { group: 0, vlan: None, address: address.ip, ifindex, mac, router })
            {
                log::warn!(member = member.as_str(); "cannot announce {}: {error}", address.ip);
            }
        }
    }
    Ok(())
}

async fn give_back(links: &Links, name: &str, group: &SavedGroup) -> Result<(), Error> {
    let interface = GroupInterface::existing(links, name).await?;
    for (member, moved) in &group.moved {
        let Some(device) = links.device_named(member).await? else {
            log::warn!(group = name, member = member.as_str(); "{member} has gone: what came from it goes with the group");
            continue;
        };
        let to = Place::from(&device);
        let (from, back) = match &interface {
            Some(interface) => {
                let now = Configuration::of(links, interface.ifindex).await?;
                // What never arrived, because a daemon was killed while it moved it, is there still.
                (Place { ifindex: interface.ifindex, name }, moved.still_in(&now))
            }
            None => (to, moved.clone()),
        };
        if let Err(error) = back.furnish(links, from, to).await {
            log::error!(group = name, member = member.as_str(); "{error}; add it by hand");
        }
    }
    Ok(())
}
