//! The links of the members: what netlink reports, and which members the datapath trusts (`live`).

use std::collections::BTreeMap;

use super::{Context, RunningGroup, actions, hardware_filters, membership_reports, updelay::Updelay};
use crate::{
    core::{Action, Cause, Event, Input},
    daemon::{clock::now, state_file::Updelays},
    link::Device,
    types::LinkState,
};

/// Sets how long links must be up before their members are used. It counts at once, also for those that wait now.
pub fn set_updelays(group: &mut RunningGroup, updelays: Updelays) {
    if group.updelays != updelays {
        group.datapath.set_updelays(updelays.group, &updelays.own);
        group.updelays = updelays;
    }
}

/// Records a member's link where the daemon replaces the sentinel.
pub fn record_link(group: &mut RunningGroup, number: u8, link: LinkState) {
    if let Some(updelay) = &mut group.updelay {
        updelay.set_link(number, link, now());
    }
}

/// The same of an adopted member: it stays trusted.
pub fn adopt_link(group: &mut RunningGroup, number: u8, link: LinkState) {
    match &mut group.updelay {
        Some(updelay) if link != LinkState::Down && group.datapath.live().has(number) => {
            updelay.trust(number)
        }
        _ => record_link(group, number, link),
    }
}

/// The daemon replaces the sentinel from now on: members that are live stay trusted while netlink reports their link up.
pub fn replace_sentinel(group: &mut RunningGroup) {
    group.updelay = Some(Updelay::default());
    let links: Vec<_> = group.core.members().iter().map(|member| (member.number(), member.link())).collect();
    for (number, link) in links {
        adopt_link(group, number, link);
    }
}

/// Reads `live` and reports it to the state machine. Where no sentinel runs, computes it first.
pub async fn read_live(group: &mut RunningGroup, context: &mut Context<'_>) {
    if let Some(updelay) = &mut group.updelay {
        let live = updelay.live(now(), &group.updelays);
        if live != group.datapath.live() {
            group.datapath.set_live(live);
        }
    }
    let live = group.datapath.live();
    let changed = group.core.members().iter().filter(|member| member.live() != live.has(member.number()));
    let lines: Vec<Action> = changed
        .map(|known| {
            let member = known.name().to_owned();
            if live.has(known.number()) {
                Action::Report(Event::Live { member: member.clone() }, Cause::UpdelayPassed { member })
            } else {
                Action::Report(Event::NotLive { member: member.clone() }, Cause::LinkLost { member })
            }
        })
        .collect();
    match group.core.handle(now(), Input::Live(live)) {
        Ok(mut actions) => {
            // Logged before what follows from it, and after what is urgent.
            let at = actions.iter().position(|action| matches!(action, Action::Report(..)));
            let at = at.unwrap_or(actions.len());
            actions.splice(at..at, lines);
            actions::apply(group, context, actions).await;
        }
        Err(refusal) => log::error!(group = group.name(); "{refusal}"),
    }
    group.reports.set_live(live, now());
}

/// Reads `live` of every group, in the middle of a long operation.
pub async fn read_live_of_all(groups: &mut BTreeMap<String, RunningGroup>, context: &mut Context<'_>) {
    for group in groups.values_mut() {
        read_live(group, context).await;
    }
    context.announce();
    membership_reports::send_due(groups, context);
}

/// Whether a netlink message differs from what is known of the device, or, of the group interface, from what it should be.
pub fn differs(group: &RunningGroup, device: &Device) -> bool {
    if device.ifindex == group.interface.ifindex {
        return device.master.is_some() || device.mac != group.interface.mac;
    }
    let member = group.number_of(device.ifindex).and_then(|number| group.core.member(number));
    member.is_some_and(|member| {
        (member.link(), member.mtu(), member.mac()) != (device.link(), device.mtu, device.mac)
    })
}

/// The group interface was made a port of a bridge or the like, which would take its packets: it is removed from there. A
/// VRF takes no packets, only routes: it may keep the group interface.
pub async fn leave_master(group: &RunningGroup, context: &Context<'_>, master: u32) {
    let name = group.name();
    match context.links.device(master).await {
        Ok(master) if master.as_ref().is_some_and(may_have_group) => return,
        Ok(_) => {}
        Err(error) => log::warn!(group = name; "{error}"),
    }
    match context.links.leave_master(group.interface.ifindex, name).await {
        Ok(()) => context.log(name, &Event::GroupInterfaceReleased { group: name.to_owned() }),
        Err(error) => log::error!(group = name; "{error}; do it by hand"),
    }
}

/// Whether a device may be the master of a group interface.
fn may_have_group(master: &Device) -> bool {
    master.kind == "vrf"
}

/// Another program gave the group interface another MAC: the programs rewrite frames from and to it, and NICs receive it.
pub async fn follow_mac(group: &mut RunningGroup, context: &mut Context<'_>, mac: [u8; 6]) {
    if group.interface.mac == mac {
        return;
    }
    if !group.datapath.is_mac_ready(mac) {
        // It is read again when the programs are loaded.
        return;
    }
    if let Err(error) = group.datapath.set_mac(mac) {
        log::error!(group = group.name(); "{error}");
        return;
    }
    group.interface.mac = mac;
    let name = group.name().to_owned();
    context.log(&name, &Event::GroupMacChanged { group: name.clone(), mac });
    hardware_filters::replace_mac(group, context).await;
    let addresses = group.core.addresses();
    let announced =
        addresses.filter_map(|(address, member)| Some(Action::Announce { address, member: member? }));
    actions::apply(group, context, announced.collect()).await;
}

/// Handles a netlink message about a member's device.
pub async fn device_changed(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    number: u8,
    device: &Device,
) {
    let Some(known) = group.core.member(number) else { return };
    let (mac, mtu) = (known.mac(), known.mtu());
    if device.mac != mac {
        if let Some(member) = group.members.get(&number)
            && let Err(error) = group.datapath.update(&member.spec(number, device))
        {
            log::error!(group = group.name(), member = device.name.as_str(); "{error}");
        }
        if let Some(saved) = context.file.state.groups.get_mut(group.core.name())
            && let Some(saved) = saved.members.get_mut(&number)
        {
            saved.identity.mac = Some(device.mac);
            context.file.save_or_log();
        }
        context.log(group.name(), &Event::MacChanged { member: device.name.clone(), mac: device.mac });
        actions::tell(group, context, Input::Mac { member: number, mac: device.mac }).await;
    }
    if device.mtu != mtu {
        actions::tell(group, context, Input::Mtu { member: number, mtu: device.mtu }).await;
    }
    if device.link() == LinkState::Down {
        context.event_log.link_down_read(group.name(), &device.name, context.trigger);
    }
    record_link(group, number, device.link());
    actions::tell(group, context, Input::Link { member: number, link: device.link() }).await;
    read_live(group, context).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::device;

    #[test]
    fn group_interface_stays_in_vrf_only() {
        let master = |kind: &str| Device { kind: kind.into(), ..device(9, "master0") };
        assert!(may_have_group(&master("vrf")));
        for kind in ["bridge", "bond", "team", "openvswitch", ""] {
            assert!(!may_have_group(&master(kind)), "{kind}");
        }
    }
}
