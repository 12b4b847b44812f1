//! Requests of clients and responses of the daemon: the interface between socket and daemon.

use std::net::IpAddr;

use tokio::sync::{mpsc, oneshot};

mod check;

pub use check::Invalid;

use super::{
    address::DataAddress,
    explanation::Explanation,
    path::{Packet, PathReport, Simulation},
    report::GroupReport,
    setting::Setting,
    target::TargetReport,
    test_address::TestAddressSpec,
    timeline::Transition,
};

/// What happens to the group when its last member is detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastMember {
    /// Addresses and routes move back to the interface, and the group is removed.
    Restore,
    /// The group stays, empty, with its addresses.
    KeepGroup,
    /// The group is removed with its addresses.
    Force,
    /// Of any member: what came from the interface moves back to it. The group stays.
    MoveBack,
}

/// A request. The daemon receives it checked ([`Request::check`]), and from a permitted sender only.
///
/// Its fields are the parameters of the method.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Request {
    /// Create an empty group. [`super::name::note`] is a note on its name.
    Create {
        /// Name of the group interface.
        group: String,
        /// Its second name; `None`: the name of the interface.
        groupname: Option<String>,
        /// Data addresses that it starts with.
        addresses: Vec<DataAddress>,
    },
    /// Remove an empty group.
    Destroy {
        /// Name of the group.
        group: String,
    },
    /// Attach interfaces, in this order, all or none; a missing group is created, which a note reports.
    Attach {
        /// Name of the group.
        group: String,
        /// Names of the interfaces: at least one, no name twice.
        interfaces: Vec<String>,
        /// Whether they are standbys.
        standby: bool,
        /// Their test addresses: one a family, and an address only for a single interface.
        test_addresses: Vec<TestAddressSpec>,
        /// Only report what would change.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
        /// Although firewall rules name the interfaces.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        accept_firewall: bool,
    },
    /// Detach a member.
    Detach {
        /// Name of the member.
        interface: String,
        /// Required for the last member, ignored for any other.
        last: Option<LastMember>,
    },
    /// Detach all members, all or none: what came from each returns to it, and the groups are removed.
    DetachAll {
        /// Name of the group; `None`: every group.
        group: Option<String>,
    },
    /// Add data addresses.
    AddAddress {
        /// Name of the group.
        group: String,
        /// The addresses: at least one, none twice.
        addresses: Vec<DataAddress>,
        /// Their preferred inbound member. Then also addresses that the group has already.
        #[serde(skip_serializing_if = "Option::is_none")]
        inbound: Option<String>,
        /// Number of the logical interface of that member as which the classic display shows the only address.
        #[serde(skip_serializing_if = "Option::is_none")]
        logical: Option<u16>,
    },
    /// Remove data addresses.
    RemoveAddress {
        /// Name of the group.
        group: String,
        /// The addresses: at least one, none twice.
        addresses: Vec<DataAddress>,
    },
    /// Add a test address to a member.
    AddTestAddress {
        /// Name of the member.
        interface: String,
        /// The test address.
        address: TestAddressSpec,
    },
    /// Remove a test address from a member.
    RemoveTestAddress {
        /// Name of the member.
        interface: String,
        /// The test address.
        address: TestAddressSpec,
    },
    /// Take a member out of service.
    Offline {
        /// Name of the member.
        interface: String,
    },
    /// Take a member out of service once the flows that are active on it are idle, or after some time.
    Drain {
        /// Name of the member.
        interface: String,
        /// The longest time in seconds.
        seconds: u16,
    },
    /// Put an offline member back, or end its drain.
    Online {
        /// Name of the member.
        interface: String,
    },
    /// Change settings, all or none.
    Set {
        /// Name of the group or of the member.
        name: String,
        /// The settings: at least one, no key twice.
        settings: Vec<Setting>,
    },
    /// Add targets of probes, all or none.
    AddTarget {
        /// Name of the group.
        group: String,
        /// The targets: at least one, none twice.
        addresses: Vec<IpAddr>,
    },
    /// Remove targets that were added, all or none.
    RemoveTarget {
        /// Name of the group.
        group: String,
        /// The targets: at least one, none twice.
        addresses: Vec<IpAddr>,
    },
    /// Enable disabled targets, all or none.
    EnableTarget {
        /// Name of the group.
        group: String,
        /// The targets: at least one, none twice.
        addresses: Vec<IpAddr>,
    },
    /// Disable targets that were added, all or none.
    DisableTarget {
        /// Name of the group.
        group: String,
        /// The targets: at least one, none twice.
        addresses: Vec<IpAddr>,
    },
    /// Add host routes to targets through their group, all or none.
    AddTargetRoute {
        /// Name of the group; `None`: the one that has the target on its link.
        group: Option<String>,
        /// The targets: at least one, none twice.
        addresses: Vec<IpAddr>,
    },
    /// Remove host routes to targets.
    RemoveTargetRoute {
        /// Name of the group; `None`: every group.
        group: Option<String>,
        /// The targets: at least one, none twice.
        addresses: Vec<IpAddr>,
    },
    /// Apply configuration files.
    Apply {
        /// The files, in their order.
        files: Vec<ConfigurationFile>,
        /// These are all files: a group that only earlier ones describe is removed.
        complete: bool,
        /// Only report what would change.
        dry_run: bool,
        /// As in `Attach`.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        accept_firewall: bool,
    },
    /// Report what restoring the groups as they are now needs.
    RecordState {},
    /// Let each member hold the inbound role of an address once and reach the gateway.
    CheckGateways {},
    /// Restore the groups to a recorded state, all or nothing.
    RestoreState {
        /// The reply to `RecordState`.
        state: String,
        /// What is undone and why, for the log.
        why: String,
    },
    /// Report what a change would do.
    Plan {
        /// The method of the change.
        method: String,
        /// The change, whose fields are the parameters of that method.
        parameters: Box<Request>,
    },
    /// Forget the hosts that replied to multicast probes, and send such a probe now. `ListTargets` shows the hosts that
    /// reply.
    DiscoverTargets {
        /// Name of the group.
        group: String,
    },
    /// List the targets of a group.
    ListTargets {
        /// Name of the group.
        group: String,
    },
    /// Report on groups.
    Show {
        /// Name or group name of a group, or name of a member; `None`: every group.
        name: Option<String>,
    },
    /// Report on groups, then on every event. The daemon's reply names the groups; the server forwards the events
    /// ([`super::monitor`]).
    Monitor {
        /// As in `Show`.
        name: Option<String>,
    },
    /// The same, with every finished probe instead of events ([`super::probes`]).
    Probes {
        /// As in `Show`.
        name: Option<String>,
    },
    /// Explain why a member is in its state.
    Explain {
        /// Name of the member.
        member: String,
    },
    /// Report which member transmits a packet.
    Path {
        /// Name of the group.
        group: String,
        /// The packet.
        #[serde(flatten)]
        packet: Packet,
        /// Members whose links are assumed to be down, none twice.
        lost: Vec<String>,
    },
    /// Report the last failures and repairs.
    Timeline {
        /// As in `Show`.
        name: Option<String>,
        /// Only so many, the latest.
        last: Option<u32>,
    },
    /// Report what moves when members are lost.
    Simulate {
        /// Name of the group.
        group: String,
        /// The members: at least one, none twice.
        lost: Vec<String>,
    },
}

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigurationFile {
    /// Its path, for messages.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The result of a successful request.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// A change is done, or its result holds already.
    Done {
        /// Side effects and what holds already, a sentence each.
        notes: Vec<String>,
        /// Whether anything changed.
        changed: bool,
    },
    /// The requested groups.
    Show(Vec<GroupReport>),
    /// Why the member is in its state.
    Explained(Box<Explanation>),
    /// The targets of a group: configured ones first, then by source.
    Targets(Vec<TargetReport>),
    /// What `RestoreState` needs.
    Recorded(String),
    /// Which member transmits a packet.
    Path(PathReport),
    /// What moves when members are lost.
    Simulated(Simulation),
    /// The last failures and repairs, oldest first.
    Timeline(Vec<Transition>),
}

impl Response {
    /// A change that is done.
    pub fn done(notes: Vec<String>) -> Self {
        Self::Done { notes, changed: true }
    }
}

/// A request that was understood and is not possible. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// A word for scripts, one of [`reason`].
    pub reason: &'static str,
    /// One line that names the thing and the remedy.
    pub message: String,
}

impl Refused {
    /// A refusal with one of the words of [`reason`].
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The words of [`Refused::reason`]. They are part of the documented interface: scripts compare them.
pub mod reason {
    /// There is no group of this name.
    pub const NO_SUCH_GROUP: &str = "no-such-group";
    /// There is no interface of this name.
    pub const NO_SUCH_INTERFACE: &str = "no-such-interface";
    /// The interface is a member of no group.
    pub const NOT_A_MEMBER: &str = "not-a-member";
    /// A group or an interface of this name, or a group of this group name, exists.
    pub const EXISTS: &str = "exists";
    /// The address is on this host already.
    pub const ADDRESS_EXISTS: &str = "address-exists";
    /// The interface is a member of a group already.
    pub const ALREADY_MEMBER: &str = "already-member";
    /// The interface cannot be a member: loopback, point-to-point, no ARP, not Ethernet, a group interface.
    pub const UNSUITABLE: &str = "unsuitable";
    /// The interface belongs to a bridge, bond, team or VRF, or to another program.
    pub const IN_USE: &str = "in-use";
    /// Firewall rules name the interface, and do not apply to the group.
    pub const FIREWALL: &str = "firewall";
    /// Another member has the same MAC.
    pub const DUPLICATE_MAC: &str = "duplicate-mac";
    /// There is no room: 16 members, 256 groups or 4096 addresses.
    pub const FULL: &str = "full";
    /// The group still has members.
    pub const NOT_EMPTY: &str = "not-empty";
    /// It is the last member, and the request does not select what happens to the group.
    pub const LAST_MEMBER: &str = "last-member";
    /// No other member functions.
    pub const LAST_FUNCTIONING: &str = "last-functioning";
    /// The member is offline already.
    pub const ALREADY_OFFLINE: &str = "already-offline";
    /// The member is not offline.
    pub const NOT_OFFLINE: &str = "not-offline";
    /// A name is malformed.
    pub const BAD_NAME: &str = "bad-name";
    /// An address is malformed, or no host can have it.
    pub const BAD_ADDRESS: &str = "bad-address";
    /// There is no such setting, or it cannot have this value.
    pub const BAD_SETTING: &str = "bad-setting";
    /// The packet cannot exist, or is not described completely.
    pub const BAD_PACKET: &str = "bad-packet";
    /// An address cannot be a target of the group: it is this host's own, or not on the link of the group.
    pub const BAD_TARGET: &str = "bad-target";
    /// Several groups have the target on their links, and the request names none.
    pub const AMBIGUOUS_TARGET: &str = "ambiguous-target";
    /// It is a target of the group already.
    pub const TARGET_EXISTS: &str = "target-exists";
    /// The target is not configured.
    pub const NO_SUCH_TARGET: &str = "no-such-target";
    /// No member has a test address to send multicast probes from.
    pub const NO_TEST_ADDRESS: &str = "no-test-address";
    /// The configuration files have a mistake.
    pub const BAD_CONFIGURATION: &str = "bad-configuration";
    /// A member does not reach the gateway.
    pub const NO_GATEWAY: &str = "no-gateway";
    /// Another change waits for its confirmation.
    pub const PENDING: &str = "pending";
    /// The kernel refused, or lacks a feature.
    pub const KERNEL: &str = "kernel";
    /// The daemon is being stopped.
    pub const SHUTTING_DOWN: &str = "shutting-down";
}

/// The user and process that sent a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Process.
    pub pid: i32,
    /// Name of the method, as the interface definition has it.
    pub method: String,
}

/// A request on its way to the daemon, with the channel for its response. The request is executed even if its client has
/// closed the connection.
pub type PendingRequest = (Request, Caller, oneshot::Sender<Result<Response, Refused>>);

/// The channel of requests to the daemon.
pub type Sender = mpsc::Sender<PendingRequest>;

/// A request of every verb.
#[cfg(test)]
pub(crate) fn samples() -> impl IntoIterator<Item = Request> {
    let group = || "g0".to_owned();
    let addresses = || vec!["10.0.0.1/24".parse().unwrap()];
    let hosts = || vec!["10.0.0.1".parse().unwrap()];
    [
        Request::Create { group: group(), groupname: None, addresses: addresses() },
        Request::Destroy { group: group() },
        Request::Attach {
            group: group(),
            interfaces: vec!["eth0".into()],
            standby: true,
            test_addresses: vec![],
            dry_run: true,
            accept_firewall: true,
        },
        Request::Detach { interface: "eth0".into(), last: Some(LastMember::KeepGroup) },
        Request::DetachAll { group: Some(group()) },
        Request::AddAddress {
            group: group(),
            addresses: addresses(),
            inbound: Some("eth0".into()),
            logical: Some(0),
        },
        Request::RemoveAddress { group: group(), addresses: addresses() },
        Request::AddTestAddress { interface: "eth0".into(), address: TestAddressSpec::Dhcp },
        Request::RemoveTestAddress { interface: "eth0".into(), address: TestAddressSpec::Dhcp },
        Request::Offline { interface: "eth0".into() },
        Request::Drain { interface: "eth0".into(), seconds: 60 },
        Request::Online { interface: "eth0".into() },
        Request::Set { name: group(), settings: vec![Setting::Weight(1)] },
        Request::AddTarget { group: group(), addresses: hosts() },
        Request::RemoveTarget { group: group(), addresses: hosts() },
        Request::EnableTarget { group: group(), addresses: hosts() },
        Request::DisableTarget { group: group(), addresses: hosts() },
        Request::AddTargetRoute { group: None, addresses: hosts() },
        Request::RemoveTargetRoute { group: Some(group()), addresses: hosts() },
        Request::Apply {
            files: vec![ConfigurationFile { path: "/etc/ipmp/ipmp.toml".into(), text: "[group.g0]".into() }],
            complete: true,
            dry_run: true,
            accept_firewall: true,
        },
        Request::RecordState {},
        Request::CheckGateways {},
        Request::RestoreState { state: "{}".into(), why: "attach eth0: not confirmed".into() },
        Request::plan(Request::Offline { interface: "eth0".into() }),
        Request::DiscoverTargets { group: group() },
        Request::ListTargets { group: group() },
        Request::Show { name: None },
        Request::Monitor { name: None },
        Request::Probes { name: None },
        Request::Explain { member: "eth0".into() },
        Request::Path { group: group(), packet: super::path::sample_packet(), lost: vec!["eth0".into()] },
        Request::Simulate { group: group(), lost: vec!["eth0".into()] },
        Request::Timeline { name: None, last: Some(2) },
    ]
}
