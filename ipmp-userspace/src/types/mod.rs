//! The words of the domain: states, policies and causes that the state machine, the control interface and the
//! commands share.
//!
//! Each enum has one spelling of its values: [`as_str`](Family::as_str), `Display`, `FromStr` and serde agree, which
//! a test checks. The two that the eBPF programs read are defined in `ipmp_common`.

pub mod network;
mod percent;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

pub use ipmp_common::{
    hash::HashPolicy,
    maps::{CaptureMode, MemberStatus},
};
pub use percent::Percent;

/// Declares enums whose values are written in `snake_case`, or as the string after `=` says.
macro_rules! words {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$note:meta])* $variant:ident $(= $word:literal)?, )+
        }
    )+) => {
        $(
            $(#[$meta])*
            #[derive(
                Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Display, EnumString, IntoStaticStr, Serialize,
                Deserialize,
            )]
            #[serde(rename_all = "snake_case")]
            #[strum(serialize_all = "snake_case")]
            pub enum $name {
                $( $(#[$note])* $(#[serde(rename = $word)] #[strum(serialize = $word)])? $variant, )+
            }

            impl $name {
                /// Every value.
                pub const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];

                /// The value as it is written in commands, reports and logs.
                pub fn as_str(self) -> &'static str {
                    self.into()
                }
            }
        )+

        impl LossEvidence {
    /// What is lost, in a sentence.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Probes => "probes",
            Self::Segments => "TCP segments",
        }
    }
}

#[cfg(test)]
        mod agreement {
            #[test]
            fn every_spelling_of_a_value_agrees() {
                $( super::tests::check_words(&super::$name::ALL, super::$name::as_str); )+
            }
        }
    };
}

words! {
    /// An address family.
    pub enum Family {
        /// IPv4.
        V4 = "inet",
        /// IPv6.
        V6 = "inet6",
    }

    /// A member's link, as netlink reports it.
    pub enum LinkState {
        /// It has a carrier and is operational.
        Up,
        /// It has no carrier, or is administratively down.
        Down,
        /// The driver does not report it: it is taken as up.
        Unknown,
    }

    /// State of a member.
    pub enum MemberState {
        /// It functions.
        Ok,
        /// Its link or its probes failed.
        Failed,
        /// The operator took it out of service, or it has the MAC of another member.
        Offline,
        /// It is probed and has no targets, or has just joined and its link is not trusted yet.
        Unknown,
        /// Its device was deleted or is in another network namespace: it rejoins when the device returns.
        Absent,
    }

    /// By what a member is recognised when its device returns: the setting `match`.
    #[derive(Default)]
    pub enum MatchBy {
        /// Its permanent MAC; without one, its MAC; where neither device has a permanent MAC, also its name.
        #[default]
        Auto,
        /// Its permanent MAC, which the NIC stores (`ip -d link`: permaddr).
        PermanentMac = "permanent-mac",
        /// The MAC that it had last.
        Mac,
        /// Its name.
        Name,
    }

    /// Which program configured a group, an address or a route.
    #[derive(Default)]
    pub enum Origin {
        /// A command.
        #[default]
        Command,
        /// The configuration files.
        File,
        /// It was moved from a NIC when that was attached.
        Moved,
        /// Another program.
        Other,
    }

    /// State of a group (docs/reference.md 1.8; there is no `split`).
    pub enum GroupState {
        /// Every member functions.
        Ok,
        /// Some members function.
        Degraded,
        /// Some members or all function, and reach different targets: the network is split behind them.
        Split,
        /// No member functions, or there is none.
        Failed,
    }

    /// What shows how many packets a member loses.
    pub enum LossEvidence {
        /// Its probes: a reply needs both directions.
        Probes,
        /// Segments of the TCP connections of this host: the direction out.
        Segments,
    }

    /// Result of a member's probes: the PROBE column of `ipmpstat -i` (docs/reference.md 1.7).
    pub enum ProbeState {
        /// Its probes are answered.
        Ok,
        /// It has failed, by its probes or its link.
        Failed,
        /// It is probed and has no targets, or none replies on any member.
        Unknown,
        /// It is not probed.
        Disabled,
    }

    /// What a member passes through, in a timeline.
    pub enum Passage {
        /// It stops to function.
        Failure,
        /// It functions again.
        Repair,
    }

    /// A phase of a failure or of a repair, by what ends it.
    pub enum Phase {
        /// The last reply to a probe was received.
        LastReply,
        /// The first probe that was lost was sent.
        FirstLoss,
        /// The link came up.
        LinkUp,
        /// The timer of the datapath changed the member in `live`.
        Sentinel,
        /// A message of the kernel about the link was read.
        Netlink,
        /// The state machine has decided.
        Decided,
        /// The masks of the datapath are written.
        Masks,
        /// Announcements are sent.
        Announced,
        /// The first packet left through another member.
        Rerouted,
        /// The first packet for one of its data addresses was received by another member.
        Received,
    }

    /// What selects the member that transmits a packet.
    pub enum PathRule {
        /// The slot of its flow.
        Slot,
        /// Its source is the test address of the member.
        TestAddress,
        /// It is multicast or broadcast.
        Multicast,
    }

    /// Why a member is offline.
    pub enum OfflineCause {
        /// The operator took it out of service.
        Operator,
        /// Another member has the same MAC.
        DuplicateMac,
    }

    /// When the probes that confirm a failure are sent: the setting `confirm`.
    #[derive(Default)]
    pub enum Confirm {
        /// At once after the first lost probe, with control probes through another member.
        #[default]
        Fast,
        /// At the usual interval.
        Even,
    }

    /// Which members transmit while the network is split behind them: the setting `split`.
    #[derive(Default)]
    pub enum SplitPolicy {
        /// Those that reach the default router.
        #[default]
        PreferRouter = "prefer-router",
        /// All.
        Keep,
    }

    /// Which direction of the path of a failed member has failed.
    pub enum FailedDirection {
        /// It does not receive.
        Receive,
        /// It does not transmit.
        Transmit,
        /// It neither receives nor transmits.
        Both,
        /// None between it and other members: what is lost is lost on the way to the targets.
        Beyond,
        /// Frames between members do not show it.
        Unknown,
    }

    /// Whether, and how, flows return to a repaired member: the setting `failback`.
    #[derive(Default)]
    pub enum Failback {
        /// All at once.
        #[default]
        Yes,
        /// None, while another member transmits.
        No,
        /// Each as soon as it is idle, and new ones at once.
        Idle,
    }

    /// Where the flows of a member move, one by one as they become idle.
    pub enum Direction {
        /// To it: it was repaired, and the group has `failback=idle`.
        Returning,
        /// From it: it is a standby, and the member that it replaced returns.
        Leaving,
        /// From it: then it is set offline.
        Draining,
    }

    /// How members without a test address are probed: the setting `probe`.
    #[derive(Default)]
    pub enum ProbePolicy {
        /// They are not probed.
        #[default]
        Off,
        /// IPv4 targets by ARP, IPv6 targets by Neighbour Discovery.
        Auto,
        /// IPv4 targets by ARP.
        Arp,
        /// IPv6 targets by Neighbour Discovery.
        Nd,
    }

    /// Whether a member drops frames before the kernel handles them: the setting `xdp`.
    #[derive(Default)]
    pub enum XdpMode {
        /// It does not.
        #[default]
        Off,
        /// Its driver runs the program.
        Driver,
        /// The same where the member is a NIC whose driver can.
        Auto,
    }

    /// What happens to kernel settings of ours that another program changes: the setting `manage-sysctls`.
    #[derive(Default)]
    pub enum SysctlPolicy {
        /// They are restored.
        #[default]
        Yes,
        /// They are reported.
        Warn,
    }

    /// How a member is probed in one family.
    pub enum ProbeMethod {
        /// By ICMP echo from its test address.
        Echo,
        /// By ARP requests without a sender address.
        Arp,
        /// By neighbour solicitations.
        Nd,
    }

    /// Why a member is not probed in a family in which it should be.
    pub enum ProbeObstacle {
        /// It has no test address yet, or lost it: a DHCP client is expected to assign one.
        Awaited,
        /// Another member, or the group, has the same test address.
        NotUnique,
    }

    /// Result of a finished probe.
    pub enum ProbeOutcome {
        /// The target replied.
        Answered,
        /// No reply before the deadline.
        Lost,
        /// It does not count: the daemon was delayed and read the replies too late to decide, or the target is unreliable.
        Discarded,
        /// It could not be sent.
        Unsent,
    }

    /// Where the targets of a member come from: MODE of `ipmpstat -t` (docs/reference.md 6.8).
    #[derive(Default)]
    pub enum TargetMode {
        /// The member is not probed.
        Disabled,
        /// The routing table.
        Routes,
        /// Replies to multicast probes; also if there are no targets.
        #[default]
        Multicast,
        /// The operator's configuration.
        Explicit,
    }

    /// Where a target comes from.
    pub enum TargetSource {
        /// The operator's configuration.
        Explicit,
        /// A host route.
        HostRoute,
        /// The next hop of a route.
        Router,
        /// A reply to a multicast probe.
        Multicast,
    }

    /// Why a target is excluded for a while.
    pub enum TargetFault {
        /// It is far slower than the other targets.
        Slow,
        /// It does not reply while other targets do.
        Unresponsive,
    }

    /// Use of a target by one member.
    pub enum TargetStatus {
        /// It is probed, in turn with others.
        Active,
        /// Not needed: enough other targets are probed.
        Inactive,
        /// Excluded for a minute: far slower than the others.
        Slow,
        /// Excluded for a minute: it does not reply while others do.
        Unresponsive,
    }

    /// Severity of an event: the level of its line in the log.
    pub enum Severity {
        /// The group does not work.
        Error,
        /// An operator should act.
        Warning,
        /// A repair, or what an operator requested.
        Info,
        /// Details; not in the log by default.
        Debug,
    }

    /// What detected a link change.
    pub enum Observer {
        /// The sentinel in the kernel.
        Datapath,
        /// The daemon, by a netlink notification.
        Netlink,
    }
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Index into an array with an element for each family.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl ProbePolicy {
    /// Whether members without a test address are probed in a family.
    pub fn probes(self, family: Family) -> bool {
        match family {
            Family::V4 => matches!(self, Self::Auto | Self::Arp),
            Family::V6 => matches!(self, Self::Auto | Self::Nd),
        }
    }
}

impl FailedDirection {
    /// What a member does not do, and what frames between it and `peer`, a member that functions, have shown.
    pub fn describe(self, peer: &str) -> String {
        match self {
            Self::Receive => {
                format!("does not receive: frames from {peer} to it are lost, and its own arrive there")
            }
            Self::Transmit => {
                format!("does not transmit: its frames to {peer} are lost, and frames from there arrive")
            }
            Self::Both => format!("neither receives nor transmits: no frame passes between it and {peer}"),
            Self::Beyond => {
                format!(
                    "receives and transmits: frames pass between it and {peer} in both directions; what is lost is lost \
                     on the way to the targets"
                )
            }
            Self::Unknown => format!(
                "has failed in an unknown direction: no frame passes between it and {peer}, and the switches may isolate \
                 members from each other"
            ),
        }
    }
}

impl From<TargetFault> for TargetStatus {
    fn from(fault: TargetFault) -> Self {
        match fault {
            TargetFault::Slow => Self::Slow,
            TargetFault::Unresponsive => Self::Unresponsive,
        }
    }
}

impl From<MemberState> for MemberStatus {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Ok => Self::Ok,
            // The map has no entry of an absent member.
            MemberState::Failed | MemberState::Absent => Self::Failed,
            MemberState::Offline => Self::Offline,
            MemberState::Unknown => Self::Unknown,
        }
    }
}

impl From<log::Level> for Severity {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Error => Self::Error,
            log::Level::Warn => Self::Warning,
            log::Level::Info => Self::Info,
            log::Level::Debug | log::Level::Trace => Self::Debug,
        }
    }
}

impl From<bool> for Failback {
    /// `FAILBACK` of Solaris.
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt, str::FromStr};

    use serde::de::DeserializeOwned;

    use super::*;

    /// Checks every value of an enum: Display, `FromStr` and serde write and read what `as_str` returns.
    pub(super) fn check_words<T>(values: &[T], as_str: fn(T) -> &'static str)
    where
        T: Copy + PartialEq + fmt::Debug + fmt::Display + FromStr + Serialize + DeserializeOwned,
    {
        for &value in values {
            let word = as_str(value);
            assert!(
                word.starts_with(|c: char| c.is_ascii_lowercase())
                    && word.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
                    && word == word.to_ascii_lowercase(),
                "{word}"
            );
            assert_eq!(value.to_string(), word);
            assert_eq!(T::from_str(word).ok(), Some(value), "{word}");
            assert_eq!(serde_json::to_value(value).unwrap(), word);
            assert_eq!(serde_json::from_value::<T>(word.into()).unwrap(), value);
            assert!(T::from_str(&word.to_ascii_uppercase()).is_err());
        }
    }

    #[test]
    fn spellings_of_shared_enums_agree() {
        check_words(&HashPolicy::ALL, HashPolicy::as_str);
        check_words(&LossEvidence::ALL, LossEvidence::as_str);
        check_words(&CaptureMode::ALL, CaptureMode::as_str);
    }
}
