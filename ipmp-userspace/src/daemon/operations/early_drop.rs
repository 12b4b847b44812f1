//! The setting `xdp` of a member: its program is attached or detached at once, or the setting is refused.

use super::{attach::program_refusal, refusals::kernel};
use crate::{
    control::request::{Refused, reason},
    daemon::{group::early_drops, loading, manager::Manager},
    datapath::program_name,
    link::Device,
    types::XdpMode,
};

/// Refuses a setting of a member that cannot be applied. Returns its number and its device, if a program is to be attached or detached.
pub async fn check(
    manager: &Manager,
    group: &str,
    name: &str,
    mode: XdpMode,
) -> Result<Option<(u8, Device)>, Refused> {
    let Some(running) = manager.groups.get(group) else { return Ok(None) };
    let Some(number) = running.number_named(name) else { return Ok(None) };
    let Some(ifindex) = running.members.get(&number).map(|member| member.ifindex) else { return Ok(None) };
    let is_attached = running.datapath.has_early_drop(number);
    if (mode != XdpMode::Off) == is_attached {
        return Ok(None);
    }
    let device = manager.links.device(ifindex).await.map_err(|error| kernel(&error))?;
    let Some(device) = device.filter(|device| mode != XdpMode::Auto || device.kind.is_empty()) else {
        return Ok(None);
    };
    if let Some(id) = device.xdp.filter(|_| !is_attached) {
        return Err(Refused::new(reason::IN_USE, program_refusal(name, "XDP", id, program_name(id))));
    }
    if mode == XdpMode::Driver {
        running.datapath.check_early_drop(name).map_err(|error| kernel(&error))?;
    }
    if let Some(why) = early_drops::obstacle(running, number) {
        return Err(Refused::new(
            reason::LAST_FUNCTIONING,
            format!("cannot set xdp={mode} of {name}: {why}; set it when another member of {group} works"),
        ));
    }
    Ok(Some((number, device)))
}

/// Applies the saved setting of a member that is present. With `auto` the driver decides later, without an error.
pub async fn apply(manager: &mut Manager, group: &str, name: &str) -> Result<(), Refused> {
    let Some(mode) = manager.file.member_mut(group, name).map(|saved| saved.xdp()) else { return Ok(()) };
    let Some((number, device)) = check(manager, group, name, mode).await? else { return Ok(()) };
    if mode == XdpMode::Driver {
        let program = manager.groups.get(group).map(|running| running.datapath.prepare_early_drop(number));
        loading::load(manager, program.into_iter().collect()).await.map_err(|error| kernel(&error))?;
    }
    let Some(running) = manager.groups.get_mut(group) else { return Ok(()) };
    let result = match mode {
        XdpMode::Off => running.datapath.stop_early_drop(number),
        XdpMode::Driver => running.datapath.start_early_drop(number, &device.name, device.ifindex),
        XdpMode::Auto => Ok(()),
    };
    result.map_err(|error| kernel(&error))
}
