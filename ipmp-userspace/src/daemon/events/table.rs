//! The table of events: severity, word, text and fields of each. `docs/log.md` documents every row.
//!
//! Texts that the Solaris reference has are quoted from it word for word (docs/reference.md 5.3). To add an event, add
//! a variant to [`Event`], a row here, an example to the tests and a row to `docs/log.md`.

use std::net::IpAddr;

use ipmp_common::address::Mac;
use log::Level::{self, Debug, Error, Info, Warn};

use crate::{core::Event, types::Family};

/// An event as the log and `ipmpctl monitor` show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Errors and warnings call for action by the operator.
    pub severity: Level,
    /// The word for scripts. It is stable.
    pub kind: &'static str,
    /// The log message.
    pub text: String,
    /// The member concerned; for a role that moved, its new holder.
    pub member: Option<&'a str>,
    /// The previous holder of a role that moved.
    pub from: Option<&'a str>,
    /// Data address or test address.
    pub address: Option<IpAddr>,
    /// Probe target.
    pub target: Option<IpAddr>,
    /// The address family concerned.
    pub family: Option<Family>,
    /// Whether `ipmpctl explain` lists it. Frequent events would displace the ones that explain a state.
    pub is_explanatory: bool,
}

impl<'a> Row<'a> {
    fn new(severity: Level, kind: &'static str, text: String) -> Self {
        Self {
            severity,
            kind,
            text,
            member: None,
            from: None,
            address: None,
            target: None,
            family: None,
            is_explanatory: true,
        }
    }

    fn member(self, member: &'a str) -> Self {
        Self { member: Some(member), ..self }
    }

    fn moved(self, from: &'a Option<String>, to: &'a Option<String>) -> Self {
        Self { from: from.as_deref(), member: to.as_deref(), ..self }
    }

    fn address(self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    fn test_address(self, address: IpAddr) -> Self {
        self.address(address).family(Family::of(address))
    }

    fn target(self, target: IpAddr) -> Self {
        Self { target: Some(target), ..self }.family(Family::of(target))
    }

    fn family(self, family: Family) -> Self {
        Self { family: Some(family), ..self }
    }

    /// The member concerned, if the program is that of a member.
    fn of_program(self, program: &str, interface: &'a str) -> Self {
        if program == "ingress" { self.member(interface) } else { self }
    }

    fn frequent(self) -> Self {
        Self { is_explanatory: false, ..self }
    }
}

fn or_none(member: &Option<String>) -> &str {
    member.as_deref().unwrap_or("none")
}

fn stopped(groups: &[String]) -> String {
    match groups {
        [] => "stopped".into(),
        groups => format!("stopped; the datapath of {} stays loaded and keeps forwarding", groups.join(", ")),
    }
}

/// The row of an event.
#[rustfmt::skip]
pub fn row(event: &Event) -> Row<'_> {
    match event {
        Event::LinkDown { member } => Row::new(Warn, "link-down",
            format!("The link has gone down on {member}")).member(member),
        Event::LinkUp { member } => Row::new(Info, "link-up",
            format!("The link has come up on {member}")).member(member),
        Event::MemberFailed { member, group } => Row::new(Warn, "failed",
            format!("IP interface failure detected on {member} of group {group}")).member(member),
        Event::MemberRepaired { member, group } => Row::new(Info, "repaired",
            format!("IP interface repair detected on {member} of group {group}")).member(member),
        Event::GroupUnusable { group } => Row::new(Error, "group-unusable",
            format!("All IP interfaces in group {group} are now unusable")),
        Event::GroupUsable { member, group } => Row::new(Info, "group-usable",
            format!("At least 1 IP interface ({member}) in group {group} is now usable")).member(member),
        Event::Flapping { member, ups } => Row::new(Warn, "flapping",
            format!("The link has come up on {member} more than {ups} times in the last minute; disabling repair \
                until it stabilizes")).member(member),
        Event::DuplicateMac { member, group } => Row::new(Warn, "duplicate-mac",
            format!("IP interface {member} has a hardware address which is not unique in group {group}; offlining"))
                .member(member),
        Event::UniqueMac { member, group } => Row::new(Info, "unique-mac",
            format!("IP interface {member} now has a unique hardware address in group {group}; onlining"))
                .member(member),
        Event::NoTestAddress { member } => Row::new(Info, "no-test-address",
            format!("No test address configured on interface {member}; disabling probe-based failure detection on \
                it")).member(member),
        Event::RemovedFromKernel { family, member } => Row::new(Info, "removed-from-kernel",
            format!("{family} {member} has been removed from kernel")).member(member),
        Event::MemberAbsent { member, group } => Row::new(Warn, "absent",
            format!("IP interface {member} of group {group} is absent: its device was deleted or moved to another network \
                namespace; it rejoins when the device returns")).member(member),
        Event::MemberExpected { member, group } => Row::new(Warn, "expected",
            format!("IP interface {member} of group {group} is absent: this host does not have its device; it joins when the \
                device appears")).member(member),
        Event::MemberReturned { member, group } => Row::new(Info, "returned",
            format!("IP interface {member} of group {group} has returned")).member(member),
        Event::Joined { member, group } => Row::new(Info, "joined",
            format!("IP interface {member} has joined group {group}")).member(member),
        Event::Left { member, group } => Row::new(Info, "left",
            format!("IP interface {member} has left group {group}")).member(member),
        Event::Offline { member, group } => Row::new(Info, "offline",
            format!("IP interface {member} of group {group} is now offline")).member(member),
        Event::Online { member, group } => Row::new(Info, "online",
            format!("IP interface {member} of group {group} is now online")).member(member),
        Event::Draining { member, group, limit } => Row::new(Info, "draining",
            format!("IP interface {member} of group {group} gets no new flows; it is set offline when no flow is active on \
                it, after {} s at the latest", limit.as_secs())).member(member),
        Event::Returning { member, group, limit } => Row::new(Info, "returning",
            format!("IP interface {member} of group {group} gets new flows; others return to it when they are idle, after \
                {} s at the latest", limit.as_secs())).member(member),
        Event::Returned { member, group, is_idle } => Row::new(Info, "flows-returned",
            format!("All flows of IP interface {member} of group {group} have returned to it{}",
                if *is_idle { "" } else { "; the time for active ones has passed" })).member(member),
        Event::FdtRaised { member, family, group, configured, fdt } => Row::new(Info, "fdt-raised",
            format!("Cannot meet requested failure detection time of {} ms on ({family} {member}) new failure \
                detection time for group \"{group}\" is {} ms", configured.as_millis(), fdt.as_millis()))
                .member(member).family(*family),
        Event::FdtLowered { member, family, group, fdt } => Row::new(Info, "fdt-lowered",
            format!("Improved failure detection time {} ms on ({family} {member}) for group \
                \"{group}\"", fdt.as_millis())).member(member).family(*family),
        Event::TestAddressConfigured { member } => Row::new(Info, "test-address",
            format!("Test address now configured on interface {member}; enabling probe-based failure detection on \
                it")).member(member),
        Event::TestAddressNotUnique { member, address } => Row::new(Error, "test-address-not-unique",
            format!("Test address {address} is not unique in group; disabling probe-based failure detection on \
                {member}")).member(member).test_address(*address),
        Event::ProbesMissed { member, family, missed } => Row::new(Info, "probes-missed",
            format!("missed sending {missed} probes on ({family} {member})"))
                .member(member).family(*family).frequent(),
        Event::TestAddressReady { member, address } => Row::new(Info, "test-address-ready",
            format!("Test address {address} is ready on {member}")).member(member).test_address(*address),
        Event::TestAddressRemoved { member, address } => Row::new(Info, "test-address-removed",
            format!("Test address {address} has been removed from {member}")).member(member).test_address(*address),
        Event::TestAddressRestored { member, address } => Row::new(Warn, "test-address-restored",
            format!("Test address {address} was removed from {member} by another program; it has been added again"))
                .member(member).test_address(*address),
        Event::TestAddressConflict { member, address, why } => Row::new(Warn, "test-address-conflict",
            format!("Test address {address} is missing on {member}: {why}; it is added again in 60 s"))
                .member(member).test_address(*address),
        Event::TestAddressReserved { member, address } => Row::new(Info, "test-address-reserved",
            format!("Address {address} on {member} is now a test address and is excluded from source address \
                selection")).member(member).test_address(*address),
        Event::AddressNotDeclared { member, group, address, prefix, is_data: false } => Row::new(Warn,
            "address-not-declared",
            format!("Address {address} on {member} is not declared as a test address, and its traffic bypasses group \
                {group}; move it (ip address del {address}/{prefix} dev {member}; ipmpctl address add \
                {address}/{prefix} --group {group}), or declare it (ipmpctl test-address add {member} \
                {address}/{prefix})")).member(member).address(*address),
        Event::AddressNotDeclared { member, group, address, prefix, is_data: true } => Row::new(Warn,
            "address-not-declared",
            format!("Address {address} is a data address of group {group}, and another program has added it to {member}; \
                run that program (a DHCP client) on {group}, and remove the address (ip address del {address}/{prefix} \
                dev {member})")).member(member).address(*address),
        Event::TestAddressDuplicate { member, address } => Row::new(Warn, "test-address-duplicate",
            format!("Test address {address} on {member} is not used: another host has the same address"))
                .member(member).test_address(*address),
        Event::RouteRemoved { member, group, route } => Row::new(Info, "route-removed",
            format!("Route {route} via {member} has been removed: it would bypass group {group}")).member(member),
        Event::HighProbeRate { group, fdt, per_second } => Row::new(Warn, "high-probe-rate",
            format!("Failure detection time of {} ms in group {group} sends up to {per_second} probes per second to \
                each target", fdt.as_millis())),
        Event::NoTargetReplies { group, family } => Row::new(Warn, "no-target-replies",
            format!("No target of group {group} replies on any interface ({family}); interfaces are judged by link \
                state until one does")).family(*family),
        Event::TargetsReply { group, family } => Row::new(Info, "targets-reply",
            format!("Targets of group {group} reply again ({family})")).family(*family),
        Event::Split { group, family, targets } => Row::new(Warn, "split",
            format!("Network of group {group} is split ({family}): {}; packets to hosts on the other side are lost",
                targets.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))).family(*family),
        Event::SplitEnded { group, family } => Row::new(Info, "split-ended",
            format!("Network of group {group} is no longer split ({family})")).family(*family),
        Event::TargetExcluded { member, target, slow: false } => Row::new(Info, "target-excluded",
            format!("Target {target}: no replies on {member} (5 lost in a row); excluded for 60 s"))
                .member(member).target(*target),
        Event::TargetUnreliable { member, target } => Row::new(Warn, "target-unreliable",
            format!("Target {target} is unreliable: it answers on {member} by {}, and not each echo request; such losses do \
                not count", if target.is_ipv4() { "ARP" } else { "Neighbour Discovery" })).member(member).target(*target),
        Event::TargetExcluded { member, target, slow: true } => Row::new(Info, "target-excluded",
            format!("Target {target}: slow replies on {member} (other targets reply in time); excluded for 60 s"))
                .member(member).target(*target),
        Event::MtuHole { member, group, target, passes, elsewhere, mtu } => Row::new(Warn, "mtu-hole",
            format!("Packets larger than {passes} bytes are lost on {member} of group {group} (MTU {mtu}); on other interfaces \
                {elsewhere} bytes pass to {target}; {member} does not transmit while large packets pass on another one; check \
                the MTU of the switch ports behind {member}")).member(member).target(*target),
        Event::MtuHoleEnded { member, group, target, mtu } => Row::new(Info, "mtu-hole-ended",
            format!("No loss of large packets on {member} of group {group} (MTU {mtu}) is known any more"))
                .member(member).target(*target),
        Event::RouterUnreached { member, group, router } => Row::new(Warn, "router-unreached",
            format!("IP interface {member} of group {group} does not reach the default router {router}, which others reach; \
                {member} does not transmit (split=prefer-router); check the links between the switches"))
                .member(member).target(*router),
        Event::RouterUnreachedEnded { member, group, router } => Row::new(Info, "router-unreached-ended",
            format!("IP interface {member} of group {group} is no longer avoided because of the default router {router}"))
                .member(member).target(*router),
        Event::Degraded { member, group, of, window, lost, others, is_avoided } => Row::new(Warn, "degraded",
            format!("IP interface {member} of group {group} is degraded: it loses {lost} of its {} in {} min, other interfaces \
                {others}{}; check its cable, transceivers and switch port", of.plural(), window.as_secs() / 60,
                if *is_avoided { format!("; {member} does not transmit while a better one functions") } else { String::new() }))
                .member(member),
        Event::DegradedEnded { member, group } => Row::new(Info, "degraded-ended",
            format!("IP interface {member} of group {group} is no longer degraded")).member(member),
        Event::DirectionFailed { member, group, direction, peer } => Row::new(Info, "direction-failed",
            format!("IP interface {member} of group {group} {}", direction.describe(peer))).member(member),
        Event::TargetLimited { group, target, passes, mtu } => Row::new(Info, "target-limited",
            format!("Target {target}: answers echo requests of at most {passes} bytes on every interface of group {group} (MTU \
                {mtu}); larger packets are not tested with it")).target(*target),
        Event::Activated { member, group } => Row::new(Info, "active",
            format!("IP interface {member} of group {group} is now active")).member(member),
        Event::Deactivated { member, group } => Row::new(Info, "inactive",
            format!("IP interface {member} of group {group} is now inactive")).member(member),
        Event::AddressMoved { address, group, from, to } => Row::new(Info, "moved",
            format!("Data address {address} of group {group} has moved from {} to {}", or_none(from), or_none(to)))
                .moved(from, to).address(*address).frequent(),
        Event::CastMoved { group, from, to } => Row::new(Info, "cast-moved",
            format!("Multicast and broadcast of group {group} have moved from {} to {}", or_none(from), or_none(to)))
                .moved(from, to).frequent(),
        Event::Live { member } => Row::new(Debug, "live",
            format!("The datapath now uses the link of {member}")).member(member).frequent(),
        Event::NotLive { member } => Row::new(Debug, "not-live",
            format!("The datapath no longer uses the link of {member}")).member(member).frequent(),
        Event::MacChanged { member, mac } => Row::new(Info, "mac-changed",
            format!("The hardware address of {member} is now {}", Mac::from(*mac))).member(member),
        Event::GroupMacChanged { group, mac } => Row::new(Info, "group-mac-changed",
            format!("The hardware address of group {group} is now {}", Mac::from(*mac))),
        Event::DeadNamespacesRemoved { count } => Row::new(Info, "dead-namespaces-removed",
            format!("Pins and run files of deleted network namespaces have been removed: {count}")),
        Event::SentinelRestarted => Row::new(Warn, "sentinel-restarted",
            "The sentinel has stopped; it has been started again".into()),
        Event::SentinelMissing { why } => Row::new(Error, "sentinel-missing",
            format!("The sentinel has stopped, and links are monitored by netlink: {why}")),
        Event::SysctlRestored { member, setting, value, ours } => Row::new(Warn, "sysctl-restored",
            format!("{setting} was set to {value} by another program; it is {ours} again"))
                .moved(&None, member),
        Event::SysctlChanged { member, setting, value, ours, why } => Row::new(Warn, "sysctl-changed",
            format!("{setting} is {value}, and the group needs {ours}: {why}")).moved(&None, member),
        Event::TestRuleConflict { member, address, why } => Row::new(Warn, "test-rule-conflict",
            format!("The routing rule of test address {address} on {member} is missing: {why}; it is added again in 60 s"))
                .member(member).test_address(*address),
        Event::TestRuleRestored { member, address } => Row::new(Warn, "test-rule-restored",
            format!("The routing rule of test address {address} on {member} was removed by another program; it has been \
                added again")).member(member).test_address(*address),
        Event::ProgramRestored { program, interface } => Row::new(Warn, "program-restored",
            format!("The {program} program on {interface} was removed by another program; it has been attached again"))
                .of_program(program, interface),
        Event::ProgramMissing { program, interface, why } => Row::new(Error, "program-missing",
            format!("The {program} program on {interface} is missing: {why}")).of_program(program, interface),
        Event::ProgramMoved { program, interface, place, others } => Row::new(Warn, "program-moved",
            format!("The {program} program on {interface} is {place} again; another program had displaced it{others}"))
                .of_program(program, interface),
        Event::ProgramAhead { program, interface, other } => Row::new(Warn, "program-ahead",
            format!("On {interface}, {other} runs before the {program} program and can withhold packets from the group"))
                .of_program(program, interface),
        Event::MtuChanged { group, mtu } => Row::new(Info, "mtu-changed",
            format!("The MTU of group {group} is now {mtu}")).frequent(),
        Event::AddressAdded { address, group } => Row::new(Info, "address-added",
            format!("Data address {address} has been added to group {group}")).address(*address).frequent(),
        Event::AddressRemoved { address, group } => Row::new(Info, "address-removed",
            format!("Data address {address} has been removed from group {group}")).address(*address).frequent(),
        Event::AddressDuplicate { address, group } => Row::new(Warn, "address-duplicate",
            format!("Data address {address} of group {group} is not used: another host has the same address"))
                .address(*address),
        Event::AddressOverLimit { address, group, limit } => Row::new(Warn, "address-over-limit",
            format!("Data address {address} of group {group} is not used: the group and its members already have {limit} \
                addresses; remove others, or use another group")).address(*address),
        Event::AddressClaimed { address, group, mac, announced: true } => Row::new(Warn, "address-claimed",
            format!("Another host ({}) claims data address {address} of group {group}; it is announced again, at most \
                every 10 s", Mac::from(*mac))).address(*address),
        Event::AddressClaimed { address, group, mac, announced: false } => Row::new(Warn, "address-claimed",
            format!("Another host ({}) has data address {address} of group {group}; it is not announced, and probed for \
                again every 10 s", Mac::from(*mac))).address(*address),
        Event::NeighbourStatic { mac, address, member, group } => Row::new(Warn, "neighbour-static",
            format!("Neighbour {} still sends packets for data address {address} of group {group} to the MAC of {member} \
                after 3 corrections; its entry for the address is probably static", Mac::from(*mac)))
            .address(*address).member(member),
        Event::AddressLearned { address, group } => Row::new(Debug, "address-learned",
            format!("Address {address} sends through group {group}; inbound traffic to it follows multicast and \
                broadcast")).address(*address).frequent(),
        Event::SettingsChanged { group, member: None, settings } => Row::new(Info, "settings-changed",
            format!("{group}: {settings}")),
        Event::SettingsChanged { member: Some(member), settings, .. } => Row::new(Info, "settings-changed",
            format!("{member}: {settings}")).member(member),
        Event::MemberRenamed { before, member, group } => Row::new(Info, "renamed",
            format!("IP interface {before} of group {group} is now named {member}")).member(member),
        Event::GroupRenamed { before, group } => Row::new(Info, "group-renamed",
            format!("Group {before} is now named {group}, as its interface")),
        Event::GroupCreated { group } => Row::new(Info, "created", format!("Group {group} has been created")),
        Event::GroupDestroyed { group } => Row::new(Info, "destroyed",
            format!("Group {group} has been destroyed")),
        Event::GroupAdopted { group, members } => Row::new(Info, "adopted",
            format!("Group {group} has been adopted with {members} members")),
        Event::ChangeInterrupted { change, is_undone, why: None } => Row::new(Warn, "change-interrupted",
            format!("ipmpd ended while it made this change: {change}. It has been {}",
                if *is_undone { "undone" } else { "completed" })),
        Event::ChangeInterrupted { change, why: Some(why), .. } => Row::new(Error, "change-interrupted",
            format!("ipmpd ended while it made this change: {change}. It cannot be completed: {why}")),
        Event::GroupUpgraded { group, from, to } => Row::new(Info, "upgraded",
            format!("The maps of group {group} have been converted from layout {from} to {to}")),
        Event::GroupInterfaceDeleted { group } => Row::new(Warn, "group-interface-deleted",
            format!("Group interface {group} was deleted by another program; the group is destroyed, and addresses \
                and routes that came from its members are restored")),
        Event::GroupInterfaceReleased { group } => Row::new(Warn, "group-interface-released",
            format!("Group interface {group} was made a port of another interface, which is not supported; it has \
                been released again")),
        Event::ConfigFdt { value, default } => Row::new(Warn, "config-fdt",
            format!("Invalid failure detection time {value}, assuming default of {} ms", default.as_millis())),
        Event::ConfigSmallFdt { value, minimum } => Row::new(Warn, "config-small-fdt",
            format!("Too small failure detection time of {value}, assuming minimum of {} ms", minimum.as_millis())),
        Event::ConfigFailback { value } => Row::new(Warn, "config-failback",
            format!("Invalid value for FAILBACK {value}")),
        Event::ConfigTrack { value } => Row::new(Warn, "config-track",
            format!("Invalid value for TRACK_INTERFACES_ONLY_WITH_GROUPS {value}")),
        Event::ConfigTrackAll => Row::new(Warn, "config-track-all",
            "TRACK_INTERFACES_ONLY_WITH_GROUPS=no: interfaces outside groups are not monitored; attach each to a \
                group of its own to monitor it".into()),
        Event::ConfigLine { file, line, why } => Row::new(Warn, "config-line",
            format!("{file}, line {line} ignored: {why}")),
        Event::ConfigFinding { finding } => Row::new(Error, "config-finding", format!("Configuration: {finding}")),
        Event::ConfigRefused { why } => Row::new(Error, "config-refused",
            format!("The configuration files are not applied, and nothing has changed: {why}")),
        Event::ConfigApplied { changes } => Row::new(Info, "config-applied",
            format!("The configuration files have been applied; changes: {changes}")),
        Event::ChangeUndone { why } => Row::new(Warn, "change-undone", format!("Undone: {why}")),
        Event::ConfigReread => Row::new(Info, "config-reread",
            "SIGHUP: restart and reread config file".into()),
        Event::Started { socket } => Row::new(Info, "started", format!("serving {socket}")),
        Event::Stopped { groups } => Row::new(Info, "stopped", stopped(groups)),
    }
}

#[cfg(test)]
mod tests;
