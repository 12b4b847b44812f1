//! What is said of groups: one enum, which the log and `ipmpctl monitor` both speak from.

use std::{fmt, net::IpAddr, time::Duration};

use super::probe::Family;

/// A line of the log, and an event of `ipmpctl monitor`. The reference's lines have the reference's words (reference.md
/// 5.3); those that it has no words for are ours. `Display` is the text, [`LogLine::level`] the severity,
/// [`LogLine::kind`] the word for scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum LogLine {
    /// Reference.
    LinkDown { member: String },
    /// Reference.
    LinkUp { member: String },
    /// Reference.
    Failure { member: String, group: String },
    /// Reference.
    Repair { member: String, group: String },
    /// Reference.
    GroupUnusable { group: String },
    /// Reference.
    GroupUsable { member: String, group: String },
    /// Reference.
    Flapping { member: String, ups: u32 },
    /// Reference.
    DuplicateMac { member: String, group: String },
    /// Reference.
    UniqueMac { member: String, group: String },
    /// Reference: what link-based detection is without.
    NoTestAddress { member: String },
    /// Reference: `inet` or `inet6`.
    RemovedFromKernel { family: &'static str, member: String },
    /// Ours: the reference is silent.
    Joined { member: String, group: String },
    /// Ours.
    Left { member: String, group: String },
    /// Ours.
    Offline { member: String, group: String },
    /// Ours.
    Online { member: String, group: String },
    /// Reference: a target takes longer than the interval.
    FdtRaised { member: String, family: Family, group: String, configured: Duration, fdt: Duration },
    /// Reference: the targets are quick again.
    FdtLowered { member: String, family: Family, group: String, fdt: Duration },
    /// Reference: after one of the two lines around this one.
    TestAddressNow { member: String },
    /// Reference.
    TestAddressTwin { member: String, address: IpAddr },
    /// Reference, without its clock readings.
    MissedProbes { member: String, family: Family, missed: u32 },
    /// Ours: a member can be probed from an address.
    TestAddressReady { member: String, address: IpAddr },
    /// Ours: no longer.
    TestAddressGone { member: String, address: IpAddr },
    /// Ours: an address that somebody else has put on a member is kept for probes.
    TestAddressKept { member: String, address: IpAddr },
    /// Ours: duplicate address detection has found another host with it.
    TestAddressDuplicate { member: String, address: IpAddr },
    /// Ours: a route by a member that somebody else has made.
    RouteRemoved { member: String, group: String, route: String },
    /// Ours: an interval that is hard on the targets.
    ManyProbes { group: String, fdt: Duration, per_second: u32 },
    /// Ours: who would be to blame cannot be told.
    Dark { group: String, family: Family },
    /// Ours.
    DarkOver { group: String, family: Family },
    /// Ours: a target that does not answer while others do, or is far slower than they are.
    TargetAside { member: String, target: IpAddr, slow: bool },
    /// Ours: a spare member carries traffic from now on.
    Activated { member: String, group: String },
    /// Ours: a member is kept as a spare from now on.
    Spared { member: String, group: String },
    /// Ours: a data address's inbound role moved.
    Moved { address: IpAddr, group: String, from: Option<String>, to: Option<String> },
    /// Ours: the cast role moved.
    CastMoved { group: String, from: Option<String>, to: Option<String> },
    /// Ours: a member is in `live` now.
    Live { member: String },
    /// Ours: it no longer is.
    NotLive { member: String },
    /// Ours: a member's MAC is another now.
    Mac { member: String, mac: [u8; 6] },
    /// Ours: the group interface's MTU is another now.
    Mtu { group: String, mtu: u32 },
    /// Ours: a data address appeared on the group interface.
    AddressAdded { address: IpAddr, group: String },
    /// Ours: it is gone from there.
    AddressRemoved { address: IpAddr, group: String },
    /// Ours: an address that is not ours sends through the group.
    Learnt { address: IpAddr, group: String },
    /// Ours: settings of a group or of a member.
    Set { group: String, member: Option<String>, settings: String },
    /// Ours.
    Created { group: String },
    /// Ours.
    Removed { group: String },
    /// Ours: the group of an earlier daemon.
    TakenOver { group: String, members: usize },
    /// Ours: somebody deleted the group interface.
    Dissolved { group: String },
    /// Ours: somebody made the group interface a port.
    Freed { group: String },
    /// Reference: of a configuration file.
    ConfigFdt { value: String, default: Duration },
    /// Reference: the same.
    ConfigSmallFdt { value: String, minimum: Duration },
    /// Reference: the same.
    ConfigFailback { value: String },
    /// Reference: the same.
    ConfigTrack { value: String },
    /// Ours: members of groups alone are watched.
    ConfigTrackAll,
    /// Ours: a line of it that is not understood.
    ConfigLine { file: String, line: usize, why: String },
    /// Reference. Ours need not restart for it.
    Hangup,
    /// Ours: the daemon listens.
    Started { socket: String },
    /// Ours: the daemon ends.
    Stopped { groups: Vec<String> },
}

impl LogLine {
    /// Severity: what needs somebody is an error or a warning, what is good news is not.
    pub fn level(&self) -> log::Level {
        match self {
            Self::GroupUnusable { .. } | Self::TestAddressTwin { .. } => log::Level::Error,
            Self::LinkDown { .. }
            | Self::Failure { .. }
            | Self::Flapping { .. }
            | Self::DuplicateMac { .. }
            | Self::TestAddressDuplicate { .. }
            | Self::ManyProbes { .. }
            | Self::Dark { .. }
            | Self::ConfigFdt { .. }
            | Self::ConfigSmallFdt { .. }
            | Self::ConfigFailback { .. }
            | Self::ConfigTrack { .. }
            | Self::ConfigTrackAll
            | Self::ConfigLine { .. }
            | Self::Dissolved { .. }
            | Self::Freed { .. } => log::Level::Warn,
            Self::Live { .. } | Self::NotLive { .. } | Self::Learnt { .. } => log::Level::Debug,
            _ => log::Level::Info,
        }
    }

    /// The word for scripts. It never changes.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::LinkDown { .. } => "link-down",
            Self::LinkUp { .. } => "link-up",
            Self::Failure { .. } => "failed",
            Self::Repair { .. } => "repaired",
            Self::GroupUnusable { .. } => "group-unusable",
            Self::GroupUsable { .. } => "group-usable",
            Self::Flapping { .. } => "flapping",
            Self::DuplicateMac { .. } => "duplicate-mac",
            Self::UniqueMac { .. } => "unique-mac",
            Self::NoTestAddress { .. } => "no-test-address",
            Self::RemovedFromKernel { .. } => "removed-from-kernel",
            Self::Joined { .. } => "joined",
            Self::Left { .. } => "left",
            Self::Offline { .. } => "offline",
            Self::Online { .. } => "online",
            Self::FdtRaised { .. } => "fdt-raised",
            Self::FdtLowered { .. } => "fdt-lowered",
            Self::TestAddressNow { .. } => "test-address",
            Self::TestAddressTwin { .. } => "test-address-not-unique",
            Self::MissedProbes { .. } => "probes-missed",
            Self::TestAddressReady { .. } => "test-address-ready",
            Self::TestAddressGone { .. } => "test-address-gone",
            Self::TestAddressKept { .. } => "test-address-kept",
            Self::TestAddressDuplicate { .. } => "test-address-duplicate",
            Self::RouteRemoved { .. } => "route-removed",
            Self::ManyProbes { .. } => "many-probes",
            Self::Dark { .. } => "no-target-answers",
            Self::DarkOver { .. } => "targets-answer",
            Self::TargetAside { .. } => "target-left-out",
            Self::Activated { .. } => "active",
            Self::Spared { .. } => "inactive",
            Self::Moved { .. } => "moved",
            Self::CastMoved { .. } => "cast-moved",
            Self::Live { .. } => "live",
            Self::NotLive { .. } => "not-live",
            Self::Mac { .. } => "mac-changed",
            Self::Mtu { .. } => "mtu-changed",
            Self::AddressAdded { .. } => "address-added",
            Self::AddressRemoved { .. } => "address-removed",
            Self::Learnt { .. } => "learnt",
            Self::Set { .. } => "set",
            Self::Created { .. } => "created",
            Self::Removed { .. } => "destroyed",
            Self::TakenOver { .. } => "adopted",
            Self::Dissolved { .. } => "dissolved",
            Self::Freed { .. } => "freed",
            Self::ConfigFdt { .. } => "config-fdt",
            Self::ConfigSmallFdt { .. } => "config-small-fdt",
            Self::ConfigFailback { .. } => "config-failback",
            Self::ConfigTrack { .. } => "config-track",
            Self::ConfigTrackAll => "config-track-all",
            Self::ConfigLine { .. } => "config-line",
            Self::Hangup => "reread",
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// The member that it is about; of a role that has moved, the one that has it now.
    pub fn member(&self) -> Option<&str> {
        match self {
            Self::LinkDown { member }
            | Self::LinkUp { member }
            | Self::Failure { member, .. }
            | Self::Repair { member, .. }
            | Self::GroupUsable { member, .. }
            | Self::Flapping { member, .. }
            | Self::DuplicateMac { member, .. }
            | Self::UniqueMac { member, .. }
            | Self::NoTestAddress { member }
            | Self::RemovedFromKernel { member, .. }
            | Self::Joined { member, .. }
            | Self::Left { member, .. }
            | Self::Offline { member, .. }
            | Self::Online { member, .. }
            | Self::Live { member }
            | Self::NotLive { member }
            | Self::FdtRaised { member, .. }
            | Self::FdtLowered { member, .. }
            | Self::TestAddressNow { member }
            | Self::TestAddressTwin { member, .. }
            | Self::TestAddressReady { member, .. }
            | Self::TestAddressGone { member, .. }
            | Self::TestAddressKept { member, .. }
            | Self::TestAddressDuplicate { member, .. }
            | Self::RouteRemoved { member, .. }
            | Self::MissedProbes { member, .. }
            | Self::TargetAside { member, .. }
            | Self::Activated { member, .. }
            | Self::Spared { member, .. }
            | Self::Mac { member, .. } => Some(member),
            Self::Moved { to, .. } | Self::CastMoved { to, .. } => to.as_deref(),
            Self::Set { member, .. } => member.as_deref(),
            Self::Learnt { .. }
            | Self::ManyProbes { .. }
            | Self::Dark { .. }
            | Self::DarkOver { .. }
            | Self::GroupUnusable { .. }
            | Self::Mtu { .. }
            | Self::AddressAdded { .. }
            | Self::AddressRemoved { .. }
            | Self::Created { .. }
            | Self::Removed { .. }
            | Self::TakenOver { .. }
            | Self::Dissolved { .. }
            | Self::Freed { .. }
            | Self::ConfigFdt { .. }
            | Self::ConfigSmallFdt { .. }
            | Self::ConfigFailback { .. }
            | Self::ConfigTrack { .. }
            | Self::ConfigTrackAll
            | Self::ConfigLine { .. }
            | Self::Hangup
            | Self::Started { .. }
            | Self::Stopped { .. } => None,
        }
    }

    /// The member that a role has moved from.
    pub fn from(&self) -> Option<&str> {
        match self {
            Self::Moved { from, .. } | Self::CastMoved { from, .. } => from.as_deref(),
            _ => None,
        }
    }

    /// The target that it is about.
    pub fn target(&self) -> Option<IpAddr> {
        match self {
            Self::TargetAside { target, .. } => Some(*target),
            _ => None,
        }
    }

    /// The family that it is about.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::FdtRaised { family, .. }
            | Self::FdtLowered { family, .. }
            | Self::MissedProbes { family, .. }
            | Self::Dark { family, .. }
            | Self::DarkOver { family, .. } => Some(*family),
            _ => self.test_address().or(self.target()).map(Family::of),
        }
    }

    fn test_address(&self) -> Option<IpAddr> {
        match self {
            Self::TestAddressTwin { address, .. }
            | Self::TestAddressReady { address, .. }
            | Self::TestAddressGone { address, .. }
            | Self::TestAddressKept { address, .. }
            | Self::TestAddressDuplicate { address, .. } => Some(*address),
            _ => None,
        }
    }

    /// The data address or test address that it is about.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Moved { address, .. }
            | Self::AddressAdded { address, .. }
            | Self::AddressRemoved { address, .. }
            | Self::Learnt { address, .. } => Some(*address),
            _ => self.test_address(),
        }
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn or_nobody(member: &Option<String>) -> &str {
            member.as_deref().unwrap_or("nobody")
        }
        match self {
            Self::LinkDown { member } => write!(f, "The link has gone down on {member}"),
            Self::LinkUp { member } => write!(f, "The link has come up on {member}"),
            Self::Failure { member, group } => {
                write!(f, "IP interface failure detected on {member} of group {group}")
            }
            Self::Repair { member, group } => {
                write!(f, "IP interface repair detected on {member} of group {group}")
            }
            Self::GroupUnusable { group } => write!(f, "All IP interfaces in group {group} are now unusable"),
            Self::GroupUsable { member, group } => {
                write!(f, "At least 1 IP interface ({member}) in group {group} is now usable")
            }
            Self::Flapping { member, ups } => write!(
                f,
                "The link has come up on {member} more than {ups} times in the last minute; disabling repair until it \
                 stabilizes"
            ),
            Self::DuplicateMac { member, group } => write!(
                f,
                "IP interface {member} has a hardware address which is not unique in group {group}; offlining"
            ),
            Self::UniqueMac { member, group } => {
                write!(
                    f,
                    "IP interface {member} now has a unique hardware address in group {group}; onlining"
                )
            }
            Self::NoTestAddress { member } => write!(
                f,
                "No test address configured on interface {member}; disabling probe-based failure detection on it"
            ),
            Self::RemovedFromKernel { family, member } => {
                write!(f, "{family} {member} has been removed from kernel")
            }
            Self::Joined { member, group } => write!(f, "IP interface {member} has joined group {group}"),
            Self::Left { member, group } => write!(f, "IP interface {member} has left group {group}"),
            Self::Offline { member, group } => {
                write!(f, "IP interface {member} of group {group} is now offline")
            }
            Self::Online { member, group } => {
                write!(f, "IP interface {member} of group {group} is now online")
            }
            Self::FdtRaised { member, family, group, configured, fdt } => write!(
                f,
                "Cannot meet requested failure detection time of {} ms on ({family} {member}) new failure detection \
                 time for group \"{group}\" is {} ms",
                configured.as_millis(),
                fdt.as_millis()
            ),
            Self::FdtLowered { member, family, group, fdt } => write!(
                f,
                "Improved failure detection time {} ms on ({family} {member}) for group \"{group}\"",
                fdt.as_millis()
            ),
            Self::TestAddressNow { member } => write!(
                f,
                "Test address now configured on interface {member}; enabling probe-based failure detection on it"
            ),
            Self::TestAddressTwin { member, address } => write!(
                f,
                "Test address {address} is not unique in group; disabling probe-based failure detection on {member}"
            ),
            Self::TestAddressReady { member, address } => {
                write!(f, "Test address {address} is ready on {member}")
            }
            Self::TestAddressGone { member, address } => {
                write!(f, "Test address {address} is gone from {member}")
            }
            Self::TestAddressKept { member, address } => write!(
                f,
                "Address {address} of {member} is kept for probes: nobody sends from it unasked, and no route leads there"
            ),
            Self::TestAddressDuplicate { member, address } => {
                write!(f, "Another host has the test address {address} of {member}; it is not used")
            }
            Self::RouteRemoved { member, group, route } => write!(
                f,
                "Route {route} by {member} has been removed: it would lead traffic past group {group}"
            ),
            Self::MissedProbes { member, family, missed } => {
                write!(f, "missed sending {missed} probes on ({family} {member})")
            }
            Self::ManyProbes { group, fdt, per_second } => write!(
                f,
                "A failure detection time of {} ms in group {group} means up to {per_second} probes a second for each \
                 target",
                fdt.as_millis()
            ),
            Self::Dark { group, family } => write!(
                f,
                "No target of group {group} answers on any interface ({family}); interfaces are judged by their links \
                 until one does"
            ),
            Self::DarkOver { group, family } => write!(f, "Targets of group {group} answer again ({family})"),
            Self::TargetAside { member, target, slow } => write!(
                f,
                "Target {target} {} on {member} than others; it is left out for a minute",
                if *slow { "is far slower" } else { "answers less" }
            ),
            Self::Activated { member, group } => {
                write!(f, "IP interface {member} of group {group} is now active")
            }
            Self::Spared { member, group } => {
                write!(f, "IP interface {member} of group {group} is now inactive")
            }
            Self::Moved { address, group, from, to } => write!(
                f,
                "Data address {address} of group {group} has moved from {} to {}",
                or_nobody(from),
                or_nobody(to)
            ),
            Self::CastMoved { group, from, to } => write!(
                f,
                "Multicast and broadcast of group {group} have moved from {} to {}",
                or_nobody(from),
                or_nobody(to)
            ),
            Self::Live { member } => write!(f, "The datapath trusts the link of {member}"),
            Self::NotLive { member } => write!(f, "The datapath no longer trusts the link of {member}"),
            Self::Mac { member, mac } => {
                let mac = ipmp_common::address::Mac::from(*mac);
                write!(f, "The hardware address of {member} is now {mac}")
            }
            Self::Mtu { group, mtu } => write!(f, "The MTU of group {group} is now {mtu}"),
            Self::AddressAdded { address, group } => {
                write!(f, "Data address {address} has been added to group {group}")
            }
            Self::AddressRemoved { address, group } => {
                write!(f, "Data address {address} has been removed from group {group}")
            }
            Self::Learnt { address, group } => {
                write!(
                    f,
                    "Address {address} sends through group {group}, and follows multicast and broadcast"
                )
            }
            Self::Set { group, member, settings } => {
                write!(f, "{}: {settings}", member.as_ref().unwrap_or(group))
            }
            Self::Created { group } => write!(f, "Group {group} has been created"),
            Self::Removed { group } => write!(f, "Group {group} has been removed"),
            Self::TakenOver { group, members } => {
                write!(f, "Group {group} has been taken over with {members} members")
            }
            Self::Dissolved { group } => write!(
                f,
                "The interface of group {group} was deleted; the group is removed, and its members have back what came \
                 from them"
            ),
            Self::Freed { group } => write!(
                f,
                "{group} was made a port of another interface, which a group interface cannot be; it is freed again"
            ),
            Self::ConfigFdt { value, default } => write!(
                f,
                "Invalid failure detection time {value}, assuming default of {} ms",
                default.as_millis()
            ),
            Self::ConfigSmallFdt { value, minimum } => write!(
                f,
                "Too small failure detection time of {value}, assuming minimum of {} ms",
                minimum.as_millis()
            ),
            Self::ConfigFailback { value } => write!(f, "Invalid value for FAILBACK {value}"),
            Self::ConfigTrack { value } => {
                write!(f, "Invalid value for TRACK_INTERFACES_ONLY_WITH_GROUPS {value}")
            }
            Self::ConfigTrackAll => write!(
                f,
                "TRACK_INTERFACES_ONLY_WITH_GROUPS=no: interfaces in no group are not watched; attach one to a group of \
                 its own to have it watched"
            ),
            Self::ConfigLine { file, line, why } => write!(f, "{file}, line {line} is left out: {why}"),
            Self::Hangup => write!(f, "SIGHUP: restart and reread config file"),
            Self::Started { socket } => write!(f, "serving {socket}"),
            Self::Stopped { groups } if groups.is_empty() => write!(f, "stopped"),
            Self::Stopped { groups } => {
                write!(f, "stopped; the datapath of {} stays in place and goes on", groups.join(", "))
            }
        }
    }
}

/// What made it happen, as far as a group can know. `Display` is the text, [`Why::word`] the word for scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Why {
    /// What the group was told: an operator's request, a device that is gone. Who tells it knows more.
    Told,
    /// The link of a member went.
    LinkLost { member: String },
    /// The link of a member is back.
    LinkBack { member: String },
    /// The datapath trusts it: it has been good for `updelay`.
    Trusted { member: String },
    /// It came and went too often.
    Flaps { member: String },
    /// The hold-down of flap protection is over.
    HoldOver { member: String },
    /// Nobody else functions, so that flap protection lets it go.
    Needed { member: String },
    /// Another member has its MAC.
    SameMac { member: String, other: String },
    /// No other member has its MAC any more.
    OwnMac { member: String },
    /// Its probes were lost, and those of others were not.
    ProbesLost { member: String },
    /// Its probes are answered.
    ProbesAnswered { member: String },
    /// What probes tell of targets.
    Probes,
    /// Who had the role has failed.
    MemberFailed { member: String },
    /// Who had the role is offline.
    MemberOffline { member: String },
    /// Who had the role has left.
    MemberLeft { member: String },
    /// The addresses are spread evenly again.
    Balance { member: String },
    /// It has had none since it joined.
    NoTestAddress { member: String },
    /// This member has the smallest MTU.
    SmallestMtu { member: String },
}

impl Why {
    /// The word for scripts. It never changes.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::LinkLost { .. } => "carrier-lost",
            Self::LinkBack { .. } => "carrier-back",
            Self::Trusted { .. } => "updelay-passed",
            Self::Flaps { .. } => "flaps",
            Self::HoldOver { .. } => "hold-down-over",
            Self::Needed { .. } => "no-other-member",
            Self::SameMac { .. } => "same-mac",
            Self::OwnMac { .. } => "own-mac",
            Self::ProbesLost { .. } => "probes-lost",
            Self::ProbesAnswered { .. } => "probes-answered",
            Self::Probes => "probes",
            Self::MemberFailed { .. } => "member-failed",
            Self::MemberOffline { .. } => "member-offline",
            Self::MemberLeft { .. } => "member-left",
            Self::Balance { .. } => "balance",
            Self::NoTestAddress { .. } => "no-test-address",
            Self::SmallestMtu { .. } => "smallest-mtu",
        }
    }

    /// Whether it began with a link, so that how long it took since is of interest.
    pub fn is_of_a_link(&self) -> bool {
        matches!(
            self,
            Self::LinkLost { .. } | Self::LinkBack { .. } | Self::Trusted { .. } | Self::MemberFailed { .. }
        )
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told => write!(f, "ipmpd was told so"),
            Self::LinkLost { member } => write!(f, "{member} has lost its carrier"),
            Self::LinkBack { member } => write!(f, "{member} has a carrier again"),
            Self::Trusted { member } => write!(f, "the link of {member} has been good for long enough"),
            Self::Flaps { member } => write!(f, "the link of {member} comes and goes"),
            Self::HoldOver { member } => write!(f, "flap protection has held {member} down for long enough"),
            Self::Needed { member } => {
                write!(f, "no other member functions, so flap protection lets {member} go")
            }
            Self::SameMac { member, other } => write!(f, "{other} has the hardware address of {member}, too"),
            Self::OwnMac { member } => {
                write!(f, "no other member has the hardware address of {member} any more")
            }
            Self::ProbesLost { member } => write!(f, "probes of {member} were lost one after another"),
            Self::ProbesAnswered { member } => write!(f, "probes of {member} are answered one after another"),
            Self::Probes => write!(f, "that is what probes tell"),
            Self::MemberFailed { member } => write!(f, "{member} has failed"),
            Self::MemberOffline { member } => write!(f, "{member} is offline"),
            Self::MemberLeft { member } => write!(f, "{member} has left the group"),
            Self::Balance { member } => write!(f, "{member} is active, and the addresses are spread evenly"),
            Self::NoTestAddress { member } => {
                write!(f, "{member} has had no test address in the 20 s since it joined")
            }
            Self::SmallestMtu { member } => write!(f, "{member} has the smallest MTU of the group"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::flap;

    const LOG: &str = include_str!("../../../docs/log.md");
    const MONITOR: &str = include_str!("../../../docs/monitor.md");

    /// One of each, with the placeholders of the documentation.
    fn lines() -> Vec<LogLine> {
        let (member, group) = (|| "MEMBER".to_owned(), || "GROUP".to_owned());
        let (from, to) = (Some("OLD".to_owned()), Some("NEW".to_owned()));
        let address = IpAddr::from([192, 0, 2, 1]);
        let (family, ms) = (Family::V4, Duration::from_millis);
        vec![
            LogLine::LinkDown { member: member() },
            LogLine::LinkUp { member: member() },
            LogLine::Failure { member: member(), group: group() },
            LogLine::Repair { member: member(), group: group() },
            LogLine::GroupUnusable { group: group() },
            LogLine::GroupUsable { member: member(), group: group() },
            LogLine::Flapping { member: member(), ups: flap::UPS },
            LogLine::DuplicateMac { member: member(), group: group() },
            LogLine::UniqueMac { member: member(), group: group() },
            LogLine::NoTestAddress { member: member() },
            LogLine::RemovedFromKernel { family: "inet", member: member() },
            LogLine::Joined { member: member(), group: group() },
            LogLine::Left { member: member(), group: group() },
            LogLine::Offline { member: member(), group: group() },
            LogLine::Online { member: member(), group: group() },
            LogLine::FdtRaised { member: member(), family, group: group(), configured: ms(11), fdt: ms(22) },
            LogLine::FdtLowered { member: member(), family, group: group(), fdt: ms(22) },
            LogLine::TestAddressNow { member: member() },
            LogLine::TestAddressTwin { member: member(), address },
            LogLine::TestAddressReady { member: member(), address },
            LogLine::TestAddressGone { member: member(), address },
            LogLine::TestAddressKept { member: member(), address },
            LogLine::TestAddressDuplicate { member: member(), address },
            LogLine::RouteRemoved { member: member(), group: group(), route: "ROUTE".into() },
            LogLine::MissedProbes { member: member(), family, missed: 33 },
            LogLine::ManyProbes { group: group(), fdt: ms(22), per_second: 33 },
            LogLine::Dark { group: group(), family },
            LogLine::DarkOver { group: group(), family },
            LogLine::TargetAside { member: member(), target: address, slow: false },
            LogLine::Activated { member: member(), group: group() },
            LogLine::Spared { member: member(), group: group() },
            LogLine::Moved { address, group: group(), from: from.clone(), to: to.clone() },
            LogLine::CastMoved { group: group(), from, to },
            LogLine::Live { member: member() },
            LogLine::NotLive { member: member() },
            LogLine::Mac { member: member(), mac: [2, 0, 0, 0, 0, 0xab] },
            LogLine::Mtu { group: group(), mtu: 9000 },
            LogLine::AddressAdded { address, group: group() },
            LogLine::AddressRemoved { address, group: group() },
            LogLine::Learnt { address, group: group() },
            LogLine::Set { group: group(), member: None, settings: "SETTINGS".into() },
            LogLine::Created { group: group() },
            LogLine::Removed { group: group() },
            LogLine::TakenOver { group: group(), members: 77 },
            LogLine::Dissolved { group: group() },
            LogLine::Freed { group: group() },
            LogLine::ConfigFdt { value: "VALUE".into(), default: ms(10_000) },
            LogLine::ConfigSmallFdt { value: "VALUE".into(), minimum: ms(100) },
            LogLine::ConfigFailback { value: "VALUE".into() },
            LogLine::ConfigTrack { value: "VALUE".into() },
            LogLine::ConfigTrackAll,
            LogLine::ConfigLine { file: "FILE".into(), line: 44, why: "REASON".into() },
            LogLine::Hangup,
            LogLine::Started { socket: "SOCKET".into() },
            LogLine::Stopped { groups: vec![group()] },
        ]
    }

    #[test]
    fn every_line_is_documented_with_its_level_and_its_word() {
        let values = [
            ("192.0.2.1", "ADDRESS"),
            ("02:00:00:00:00:ab", "MAC"),
            ("now 9000", "now MTU"),
            ("with 77", "with COUNT"),
            ("11 ms", "ASKED ms"),
            ("22 ms", "FDT ms"),
            ("33 probes", "COUNT probes"),
            ("line 44", "line COUNT"),
        ];
        let lines = lines();
        for line in &lines {
            let mut text = line.to_string();
            for (value, placeholder) in values {
                text = text.replace(value, placeholder);
            }
            let level = match line.level() {
                log::Level::Error => "error",
                log::Level::Warn => "warning",
                log::Level::Info => "info",
                log::Level::Debug | log::Level::Trace => "debug",
            };
            let row = format!("\n| {level} | `{text}` | `{}` | ", line.kind());
            assert!(LOG.contains(&row), "docs/log.md lacks {row}");
        }
        let is_row = |line: &&str| {
            ["| error |", "| warning |", "| info |", "| debug |"].iter().any(|level| line.starts_with(level))
        };
        assert_eq!(LOG.lines().filter(is_row).count(), lines.len());
    }

    #[test]
    fn every_cause_of_a_group_is_documented() {
        let member = || "eth0".to_owned();
        for why in [
            Why::LinkLost { member: member() },
            Why::LinkBack { member: member() },
            Why::Trusted { member: member() },
            Why::Flaps { member: member() },
            Why::HoldOver { member: member() },
            Why::Needed { member: member() },
            Why::SameMac { member: member(), other: "eth1".into() },
            Why::OwnMac { member: member() },
            Why::ProbesLost { member: member() },
            Why::ProbesAnswered { member: member() },
            Why::MemberFailed { member: member() },
            Why::MemberOffline { member: member() },
            Why::MemberLeft { member: member() },
            Why::Balance { member: member() },
            Why::NoTestAddress { member: member() },
            Why::SmallestMtu { member: member() },
        ] {
            assert!(MONITOR.contains(&format!("\n| `{}` | ", why.word())), "docs/monitor.md lacks {why:?}");
            assert!(why.to_string().contains("eth0"), "{why} names nobody");
        }
        // It is about targets, which the line names.
        assert!(MONITOR.contains(&format!("\n| `{}` | ", Why::Probes.word())));
    }

    /// What goes into the journal beside the text.
    #[test]
    fn lines_of_probes_name_targets_and_families() {
        let of =
            |kind: &str| lines().into_iter().find(|line| line.kind() == kind).expect("a line of this kind");
        for kind in ["fdt-raised", "fdt-lowered", "probes-missed", "no-target-answers", "targets-answer"] {
            assert_eq!(of(kind).family(), Some(Family::V4), "{kind}");
            assert_eq!((of(kind).target(), of(kind).address()), (None, None), "{kind}");
        }
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let aside = of("target-left-out");
        assert_eq!((aside.target(), aside.address(), aside.family()), (address, None, Some(Family::V4)));
        let twin = of("test-address-not-unique");
        assert_eq!((twin.target(), twin.address(), twin.family()), (None, address, Some(Family::V4)));
        assert_eq!(of("link-down").family(), None);
    }

    /// Reference 5.3, as far as links and probes can produce it: typed from there, with other names.
    #[test]
    fn the_reference_is_quoted_word_for_word() {
        let said: Vec<String> = lines()
            .iter()
            .map(|line| line.to_string().replace("MEMBER", "rge0").replace("GROUP", "production0"))
            .collect();
        for line in [
            "The link has gone down on rge0",
            "The link has come up on rge0",
            "IP interface failure detected on rge0 of group production0",
            "IP interface repair detected on rge0 of group production0",
            "All IP interfaces in group production0 are now unusable",
            "At least 1 IP interface (rge0) in group production0 is now usable",
            "The link has come up on rge0 more than 2 times in the last minute; disabling repair until it stabilizes",
            "IP interface rge0 has a hardware address which is not unique in group production0; offlining",
            "IP interface rge0 now has a unique hardware address in group production0; onlining",
            "No test address configured on interface rge0; disabling probe-based failure detection on it",
            "inet rge0 has been removed from kernel",
            "Test address now configured on interface rge0; enabling probe-based failure detection on it",
            "Test address 192.0.2.1 is not unique in group; disabling probe-based failure detection on rge0",
            "Cannot meet requested failure detection time of 11 ms on (inet rge0) new failure detection time for group \
             \"production0\" is 22 ms",
            "Improved failure detection time 22 ms on (inet rge0) for group \"production0\"",
            // Of the clock readings that follow there nobody makes anything.
            "missed sending 33 probes on (inet rge0)",
            "Invalid failure detection time VALUE, assuming default of 10000 ms",
            "Too small failure detection time of VALUE, assuming minimum of 100 ms",
            "Invalid value for FAILBACK VALUE",
            "SIGHUP: restart and reread config file",
        ] {
            assert!(said.iter().any(|said| said == line), "nothing says {line:?}");
        }
        let track = LogLine::ConfigTrack { value: "VALUE".into() }.to_string();
        assert_eq!(track, "Invalid value for TRACK_INTERFACES_ONLY_WITH_GROUPS VALUE");
    }
}
