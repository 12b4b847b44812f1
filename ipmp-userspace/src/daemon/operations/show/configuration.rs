//! The report on how a group is configured.

use std::net::IpAddr;

use crate::{
    control::{
        Setting,
        report::{
            GroupReport,
            configuration::{ConfiguredAddress, ConfiguredRoute, GroupConfiguration, MemberConfiguration},
        },
    },
    daemon::{group::RunningGroup, manager::Manager, state_file::SavedGroup},
    link::{RouteEntry, show_mac},
    types::{OfflineCause, Origin, network::first_of},
};

/// How a group is configured. `report`: its addresses.
pub fn report(manager: &Manager, group: &RunningGroup, report: &GroupReport) -> GroupConfiguration {
    let none = SavedGroup::default();
    let saved = manager.file.group(group.name()).unwrap_or(&none);
    let addresses = report.addresses.iter().map(|known| ConfiguredAddress {
        address: format!("{}/{}", known.address, known.prefix),
        origin: saved.origin_of(known.address, known.prefix),
    });
    let members = group.core.members().iter().filter_map(|member| {
        let record = saved.members.get(&member.number())?;
        Some(MemberConfiguration {
            name: record.name.clone(),
            permanent_mac: record.identity.permanent_mac.map(show_mac),
            settings: record.chosen.iter().map(Setting::to_string).collect(),
            test_addresses: record.test_addresses.named.iter().map(ToString::to_string).collect(),
            inbound: saved.preferred_by(member.number()).map(|ip| ip.to_string()).collect(),
            offline: member.offline() == Some(OfflineCause::Operator),
        })
    });
    GroupConfiguration {
        origin: saved.origin,
        settings: settings(saved).iter().map(Setting::to_string).collect(),
        disabled_targets: saved.disabled_targets(),
        addresses: addresses.collect(),
        routes: routes(saved, report),
        members: members.collect(),
    }
}

/// The settings of a group with a value of their own, its targets among them.
pub fn settings(saved: &SavedGroup) -> Vec<Setting> {
    let mut settings = saved.chosen.clone();
    if !saved.targets.is_empty() {
        settings.push(Setting::Targets(saved.targets.iter().map(|target| target.address).collect()));
    }
    settings
}

fn routes(saved: &SavedGroup, report: &GroupReport) -> Vec<ConfiguredRoute> {
    let is_near = |via: IpAddr| {
        report.addresses.iter().any(|known| {
            known.address.is_ipv4() == via.is_ipv4()
                && first_of(known.address, known.prefix) == first_of(via, known.prefix)
        })
    };
    let moved = saved.moved.values().flat_map(|moved| {
        let lasting = moved.routes.iter().filter(|route| route.is_static());
        lasting.filter_map(|route| route.entry(moved.ifindex))
    });
    let mut all: Vec<(RouteEntry, Origin)> =
        saved.routes.iter().map(|route| (route.clone(), Origin::File)).collect();
    for route in moved {
        if !all.iter().any(|(known, _)| known.is_same(&route)) {
            // ifupdown adds it to every default route.
            let onlink = route.onlink && !route.via.is_some_and(is_near);
            all.push((RouteEntry { onlink, ..route }, Origin::Moved));
        }
    }
    let report = |(RouteEntry { to: (network, prefix), via, metric, table, src, onlink }, origin)| {
        ConfiguredRoute { to: format!("{network}/{prefix}"), via, metric, table, src, onlink, origin }
    };
    all.into_iter().map(report).collect()
}
