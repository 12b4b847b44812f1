//! The MAC of a group derives from that of its first member. A group that was created without members gets its own when the
//! first ones join: until then it has no carrier, so that the kernel has derived no address from its MAC.

use super::device;
use crate::{
    control::request::Refused,
    daemon::{manager::Manager, operations::refusals::kernel},
    link::{GroupInterface, Mac},
};

/// The MAC of the first member: the lowest one of those that join together, whatever their order in the command.
pub async fn first_member(manager: &Manager, interfaces: &[String]) -> Result<Option<Mac>, Refused> {
    let mut macs = Vec::new();
    for name in interfaces {
        let device = device(manager, name).await?;
        macs.push(device.permanent_mac.unwrap_or(device.mac));
    }
    Ok(macs.into_iter().min())
}

/// Gives a group that has never had a member its MAC, unless another program has changed it.
pub async fn choose(manager: &mut Manager, name: &str, interfaces: &[String]) -> Result<(), Refused> {
    let first = first_member(manager, interfaces).await?;
    let Some(group) = manager.groups.get_mut(name) else { return Ok(()) };
    let Some(saved) = manager.file.state.groups.get_mut(name) else { return Ok(()) };
    if saved.provisional_mac != Some(group.interface.mac) || first.is_none() {
        return Ok(());
    }
    let mac = GroupInterface::new_mac(name, &manager.namespace, first);
    saved.provisional_mac = Some(mac);
    manager.file.save().map_err(|error| kernel(&error))?;
    group.interface.set_mac(&manager.links, mac).await.map_err(|error| kernel(&error))?;
    group.datapath.set_mac(mac).map_err(|error| kernel(&error))?;
    group.interface.mac = mac;
    Ok(())
}

/// The group has a member: it keeps its MAC from now on.
pub fn keep(manager: &mut Manager, name: &str) {
    if let Some(saved) = manager.file.state.groups.get_mut(name)
        && saved.provisional_mac.take().is_some()
    {
        manager.file.save_or_log();
    }
}
