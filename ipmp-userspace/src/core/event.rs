//! Events: what happened to groups and members. Data alone: `daemon::events` has the texts.

use crate::{
    core::probe::split::SplitTarget,
    types::{FailedDirection, Family, LossEvidence, Percent},
};
use std::{net::IpAddr, time::Duration};

/// What happened. The daemon logs it and sends it to `ipmpctl monitor`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it; `daemon::events::table` has the text of each")]
pub enum Event {
    LinkDown {
        member: String,
    },
    LinkUp {
        member: String,
    },
    MemberFailed {
        member: String,
        group: String,
    },
    MemberRepaired {
        member: String,
        group: String,
    },
    GroupUnusable {
        group: String,
    },
    GroupUsable {
        member: String,
        group: String,
    },
    /// More than `ups` link-ups within [`Settings::flap_window`](super::Settings::flap_window).
    Flapping {
        member: String,
        ups: u32,
    },
    DuplicateMac {
        member: String,
        group: String,
    },
    UniqueMac {
        member: String,
        group: String,
    },
    NoTestAddress {
        member: String,
    },
    /// A device was deleted; one event for `inet`, one for `inet6`.
    RemovedFromKernel {
        family: &'static str,
        member: String,
    },
    Joined {
        member: String,
        group: String,
    },
    Left {
        member: String,
        group: String,
    },
    /// The device of a member was deleted, or moved to another network namespace. The member stays.
    MemberAbsent {
        member: String,
        group: String,
    },
    /// A file names a member whose device does not exist. It joins when the device appears.
    MemberExpected {
        member: String,
        group: String,
    },
    /// The device of an absent member is back.
    MemberReturned {
        member: String,
        group: String,
    },
    Offline {
        member: String,
        group: String,
    },
    Online {
        member: String,
        group: String,
    },
    /// It gets no new flows. Once those that are active on it are idle, or after `limit`, it is set offline.
    Draining {
        member: String,
        group: String,
        limit: Duration,
    },
    /// It gets new flows. Those that are active on other members move to it once they are idle, or after `limit`.
    Returning {
        member: String,
        group: String,
        limit: Duration,
    },
    /// That has ended: no flow was active elsewhere (`is_idle`), or the time has passed.
    Returned {
        member: String,
        group: String,
        is_idle: bool,
    },
    FdtRaised {
        member: String,
        family: Family,
        group: String,
        configured: Duration,
        fdt: Duration,
    },
    FdtLowered {
        member: String,
        family: Family,
        group: String,
        fdt: Duration,
    },
    /// After [`NoTestAddress`](Self::NoTestAddress) or [`TestAddressNotUnique`](Self::TestAddressNotUnique).
    TestAddressConfigured {
        member: String,
    },
    TestAddressNotUnique {
        member: String,
        address: IpAddr,
    },
    ProbesMissed {
        member: String,
        family: Family,
        missed: u32,
    },
    TestAddressReady {
        member: String,
        address: IpAddr,
    },
    TestAddressRemoved {
        member: String,
        address: IpAddr,
    },
    /// Another program removed a declared one; it is there again.
    TestAddressRestored {
        member: String,
        address: IpAddr,
    },
    /// A declared one is missing, and is not added again for now.
    TestAddressConflict {
        member: String,
        address: IpAddr,
        why: String,
    },
    /// An address that another program configured is now used for probes only.
    TestAddressReserved {
        member: String,
        address: IpAddr,
    },
    /// An address on a member that is neither moved nor a test address. `is_data`: the group has it too.
    AddressNotDeclared {
        member: String,
        group: String,
        address: IpAddr,
        prefix: u8,
        is_data: bool,
    },
    /// Duplicate address detection found another host with it.
    TestAddressDuplicate {
        member: String,
        address: IpAddr,
    },
    /// A route through a member would bypass the group.
    RouteRemoved {
        member: String,
        group: String,
        route: String,
    },
    HighProbeRate {
        group: String,
        fdt: Duration,
        per_second: u32,
    },
    NoTargetReplies {
        group: String,
        family: Family,
    },
    TargetsReply {
        group: String,
        family: Family,
    },
    /// Members reach different targets.
    Split {
        group: String,
        family: Family,
        targets: Vec<SplitTarget>,
    },
    SplitEnded {
        group: String,
        family: Family,
    },
    /// `slow`: replies take too long; else there are none.
    TargetExcluded {
        member: String,
        target: IpAddr,
        slow: bool,
    },
    /// It answers by ARP or Neighbour Discovery, and not each echo request.
    TargetUnreliable {
        member: String,
        target: IpAddr,
    },
    /// Packets larger than `passes` bytes are lost on a member, and pass to the same target on another one up to `elsewhere`
    /// bytes.
    MtuHole {
        member: String,
        group: String,
        target: IpAddr,
        passes: u32,
        elsewhere: u32,
        mtu: u32,
    },
    MtuHoleEnded {
        member: String,
        group: String,
        target: IpAddr,
        mtu: u32,
    },
    /// A member does not reach the default router, which others reach, and does not transmit therefore.
    RouterUnreached {
        member: String,
        group: String,
        router: IpAddr,
    },
    /// It reaches it again, or no other member does, or the router or `split` was changed.
    RouterUnreachedEnded {
        member: String,
        group: String,
        router: IpAddr,
    },
    /// A member loses far more packets than others. `is_avoided`: it does not transmit while one functions that loses less.
    Degraded {
        member: String,
        group: String,
        of: LossEvidence,
        window: Duration,
        lost: Percent,
        others: Percent,
        is_avoided: bool,
    },
    DegradedEnded {
        member: String,
        group: String,
    },
    /// Which direction of a failed member's path has failed, by frames between it and `peer`.
    DirectionFailed {
        member: String,
        group: String,
        direction: FailedDirection,
        peer: String,
    },
    /// It answers packets larger than `passes` bytes on no member.
    TargetLimited {
        group: String,
        target: IpAddr,
        passes: u32,
        mtu: u32,
    },
    Activated {
        member: String,
        group: String,
    },
    Deactivated {
        member: String,
        group: String,
    },
    /// The inbound role of a data address moved.
    AddressMoved {
        address: IpAddr,
        group: String,
        from: Option<String>,
        to: Option<String>,
    },
    /// The cast role moved.
    CastMoved {
        group: String,
        from: Option<String>,
        to: Option<String>,
    },
    /// The member entered the `live` mask.
    Live {
        member: String,
    },
    /// The member left the `live` mask.
    NotLive {
        member: String,
    },
    MacChanged {
        member: String,
        mac: [u8; 6],
    },
    GroupMacChanged {
        group: String,
        mac: [u8; 6],
    },
    /// What daemons left of network namespaces that no longer exist is removed.
    DeadNamespacesRemoved {
        count: usize,
    },
    /// The timer of the datapath had stopped; it runs again.
    SentinelRestarted,
    /// It has stopped, and cannot be started.
    SentinelMissing {
        why: String,
    },
    /// Another program changed a kernel setting of the group interface or of a member; it is restored.
    SysctlRestored {
        member: Option<String>,
        setting: String,
        value: String,
        ours: String,
    },
    /// The same, and it is not restored.
    SysctlChanged {
        member: Option<String>,
        setting: String,
        value: String,
        ours: String,
        why: String,
    },
    /// Another program removed the routing rule of a test address again and again; it is restored later.
    TestRuleConflict {
        member: String,
        address: IpAddr,
        why: String,
    },
    /// Another program removed the routing rule of a test address; it is restored.
    TestRuleRestored {
        member: String,
        address: IpAddr,
    },
    /// Another program removed a program of ours; it is attached again.
    ProgramRestored {
        program: &'static str,
        interface: String,
    },
    /// A program of ours is missing, and cannot be attached.
    ProgramMissing {
        program: &'static str,
        interface: String,
        why: String,
    },
    /// Another program was attached before ours, or after it where ours must be last; ours is `place` again.
    ProgramMoved {
        program: &'static str,
        interface: String,
        place: &'static str,
        others: String,
    },
    /// A program of another owner runs before ours.
    ProgramAhead {
        program: &'static str,
        interface: String,
        other: String,
    },
    MtuChanged {
        group: String,
        mtu: u32,
    },
    AddressAdded {
        address: IpAddr,
        group: String,
    },
    AddressRemoved {
        address: IpAddr,
        group: String,
    },
    /// Duplicate address detection found another host with a data address.
    AddressDuplicate {
        address: IpAddr,
        group: String,
    },
    /// The group has as many addresses as the datapath has room for.
    AddressOverLimit {
        address: IpAddr,
        group: String,
        limit: u32,
    },
    /// A sender behind this host uses an address that is no data address.
    AddressLearned {
        address: IpAddr,
        group: String,
    },
    /// Another host claims an address of the group. `announced`: it was announced before, and is once more; else it is
    /// not announced.
    AddressClaimed {
        address: IpAddr,
        group: String,
        mac: [u8; 6],
        announced: bool,
    },
    /// A neighbour has ignored corrections: it sends to the MAC of `member`, which is not the inbound member.
    NeighbourStatic {
        mac: [u8; 6],
        address: IpAddr,
        member: String,
        group: String,
    },
    SettingsChanged {
        group: String,
        member: Option<String>,
        settings: String,
    },
    /// Another program gave the interface of a member another name.
    MemberRenamed {
        before: String,
        member: String,
        group: String,
    },
    /// Another program gave the group interface another name, which the group has now, too.
    GroupRenamed {
        before: String,
        group: String,
    },
    GroupCreated {
        group: String,
    },
    GroupDestroyed {
        group: String,
    },
    /// A group that an earlier daemon left in the kernel.
    GroupAdopted {
        group: String,
        members: usize,
    },
    /// A daemon was killed while it made a change.
    ChangeInterrupted {
        change: String,
        /// Undone, else completed.
        is_undone: bool,
        /// Why it is not possible.
        why: Option<String>,
    },
    /// A group that an earlier daemon left, in maps of an older layout.
    GroupUpgraded {
        group: String,
        from: u32,
        to: u32,
    },
    GroupInterfaceDeleted {
        group: String,
    },
    /// Another program made the group interface a port of a bridge or bond.
    GroupInterfaceReleased {
        group: String,
    },
    ConfigFdt {
        value: String,
        default: Duration,
    },
    ConfigSmallFdt {
        value: String,
        minimum: Duration,
    },
    ConfigFailback {
        value: String,
    },
    ConfigTrack {
        value: String,
    },
    ConfigTrackAll,
    ConfigLine {
        file: String,
        line: usize,
        why: String,
    },
    ConfigReread,
    /// Something is wrong in the configuration files.
    ConfigFinding {
        /// Place, severity and remedy.
        finding: String,
    },
    /// The configuration files were not applied.
    ConfigRefused {
        why: String,
    },
    /// The configuration files were applied.
    ConfigApplied {
        changes: usize,
    },
    /// A change that was not confirmed is undone.
    ChangeUndone {
        /// What, and why.
        why: String,
    },
    Started {
        socket: String,
    },
    Stopped {
        groups: Vec<String>,
    },
}
