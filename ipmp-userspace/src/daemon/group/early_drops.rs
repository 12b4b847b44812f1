//! The early drops of the members: XDP programs, where the setting `xdp` asks for them (docs/xdp.md).

use std::collections::BTreeMap;

use super::{Context, RunningGroup};
use crate::{datapath::Error, link::Device, types::XdpMode};

/// What is set, and why it is not in force.
#[derive(Debug, Default)]
pub struct EarlyDropSettings {
    /// Of the members, by number; others have [`XdpMode::Off`].
    wanted: BTreeMap<u8, XdpMode>,
    /// Why the driver of a device, by its index, does not run the program. It is tried again after the setting is changed.
    refused: BTreeMap<u32, String>,
}

impl EarlyDropSettings {
    /// The setting of a member.
    pub fn of(&self, member: u8) -> XdpMode {
        self.wanted.get(&member).copied().unwrap_or_default()
    }

    /// Why the device with this index has no early drop.
    pub fn refused(&self, ifindex: u32) -> Option<&str> {
        self.refused.get(&ifindex).map(String::as_str)
    }
}

/// Why the program of a member cannot be attached or detached now: this can interrupt its link.
pub fn obstacle(group: &RunningGroup, member: u8) -> Option<String> {
    let works =
        |other: &u8| *other != member && group.live().has(*other) && group.datapath.usable().has(*other);
    (!group.members.keys().any(works))
        .then(|| "no other member works, and its link can be interrupted".to_owned())
}

/// Sets what the members are to have.
pub fn set(group: &mut RunningGroup, wanted: BTreeMap<u8, XdpMode>) {
    if group.early_drops.wanted != wanted {
        group.early_drops = EarlyDropSettings { wanted, ..EarlyDropSettings::default() };
    }
}

/// Attaches and detaches programs, so that the members have what is set. A member waits while no other one works.
pub async fn reconcile(group: &mut RunningGroup, context: &Context<'_>) {
    let members: Vec<(u8, u32, String)> =
        group.members.iter().map(|(number, member)| (*number, member.ifindex, member.name.clone())).collect();
    for (number, ifindex, name) in members {
        let mode = group.early_drops.of(number);
        let is_attached = group.datapath.has_early_drop(number);
        if mode == XdpMode::Off {
            if is_attached
                && obstacle(group, number).is_none()
                && let Err(error) = group.datapath.stop_early_drop(number)
            {
                log::warn!(group = group.name(), member = name.as_str(); "{error}");
            }
            continue;
        }
        let is_done = group.datapath.is_early_drop_current(number);
        if is_done || group.early_drops.refused.contains_key(&ifindex) {
            continue;
        }
        // To replace the program of an earlier daemon interrupts nothing.
        if !is_attached && obstacle(group, number).is_some() {
            continue;
        }
        let Ok(Some(device)) = context.links.device(ifindex).await else { continue };
        if let Err((level, why)) = start(group, number, mode, &device) {
            log::log!(level, group = group.name(), member = name.as_str(); "{why}");
            group.early_drops.refused.insert(ifindex, why);
        }
    }
}

/// Attaches the program of a member, or returns why it has none. With `auto` a device that cannot run it is no fault.
fn start(
    group: &mut RunningGroup,
    number: u8,
    mode: XdpMode,
    device: &Device,
) -> Result<(), (log::Level, String)> {
    let level = if mode == XdpMode::Auto { log::Level::Info } else { log::Level::Warn };
    if mode == XdpMode::Auto && !device.kind.is_empty() {
        return Err((level, format!("{} is no NIC ({})", device.name, device.kind)));
    }
    if device.xdp.is_some() && !group.datapath.has_early_drop(number) {
        return Err((level, format!("{} has an XDP program of another program", device.name)));
    }
    if !group.datapath.is_early_drop_ready(number) {
        // It is started when its program is loaded.
        return Ok(());
    }
    let started = group.datapath.start_early_drop(number, &device.name, device.ifindex);
    started.map_err(|error| {
        let level = if matches!(error, Error::Attach { .. }) { level } else { log::Level::Warn };
        (level, error.to_string())
    })
}
