//! What `Show` reports, field by field as `net.ipmp.Manager.varlink` names and documents it.

use std::net::IpAddr;

use crate::types::{CaptureMode, Direction, FailedDirection, HashPolicy};
use crate::types::{GroupState, LinkState, LossEvidence, MemberState, OfflineCause, ProbeState, XdpMode};
use serde::{Deserialize, Serialize};

pub mod configuration;
pub mod probing;

pub use configuration::GroupConfiguration;
pub use probing::{Detection, Probing};

/// Version of the report, in the reply to `Show` and in `ipmpctl --json`. It grows when a field is renamed, removed or
/// changes its meaning; new fields do not change it.
pub const VERSION: u32 = 1;

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// Name of the group interface.
    pub name: String,
    /// Its second name; the name of the interface unless the operator gave another.
    pub groupname: String,
    /// Index of the group interface.
    pub ifindex: u32,
    /// MAC of the group interface; never in a frame on a link.
    pub mac: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// State.
    pub state: GroupState,
    /// Current failure detection time in milliseconds; `None`: no member is probed.
    pub fdt_ms: Option<u64>,
    /// How failures are detected.
    pub detection: Detection,
    /// Hash policy: `connection`, `flow` or `destination`.
    pub hash: HashPolicy,
    /// `ipmp-ifconfig` shows it as classic IPMP does.
    pub classic: bool,
    /// Flags with the names and the order of the Solaris reference.
    pub flags: Vec<String>,
    /// Data addresses, in the kernel's order.
    pub addresses: Vec<AddressReport>,
    /// Members, in the order in which they joined.
    pub members: Vec<MemberReport>,
    /// Active checks and missing features, a sentence each.
    pub checks: Vec<String>,
    /// Packets dropped by the datapath.
    pub drops: Drops,
    /// Copies of outbound packets for captures on the group interface.
    pub capture: Capture,
    /// How it is configured.
    pub configuration: GroupConfiguration,
}

impl GroupReport {
    /// Whether this is the name of its interface, or its second name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.groupname == name
    }
}

/// Copies of outbound packets for captures on the group interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// `auto`: copied while a capture runs; `on`: always; `off`: never.
    pub mode: CaptureMode,
    /// Outbound packets are copied now.
    pub active: bool,
    /// Packets copied so far.
    pub copies: u64,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Name of the interface.
    pub name: String,
    /// Index of the interface; 0 if it is absent.
    pub ifindex: u32,
    /// The member's number in the maps, 0 to 15.
    pub number: u8,
    /// MAC.
    pub mac: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Share of the slots it should get, against the other members' weights.
    pub weight: u32,
    /// How long its link must be up before it is used, in milliseconds.
    pub updelay_ms: u64,
    /// Of the 4096 slots, those that prefer this member.
    pub slots: u32,
    /// State of the link.
    pub link: LinkState,
    /// State by probes.
    pub probe: ProbeState,
    /// State.
    pub state: MemberState,
    /// Why it is offline; `None`: it is not.
    pub offline: Option<OfflineCause>,
    /// Of an absent member: what its device is recognised by when it returns.
    pub recognised_by: Option<String>,
    /// Traffic is distributed over the active members.
    pub active: bool,
    /// The daemon permits it to transmit.
    pub usable: bool,
    /// The datapath detects a good link.
    pub live: bool,
    /// It transmits multicast and broadcast.
    pub cast: bool,
    /// It transmits only when an active member fails.
    pub standby: bool,
    /// It functions, but is not used.
    pub inactive: bool,
    /// Its flows move one by one; `None`: they do not.
    pub moving: Option<Moving>,
    /// Large packets are lost on it that pass on another member; `None`: not known.
    pub mtu_hole: Option<MtuHole>,
    /// The default router that it does not reach while other members do, and `split` is `prefer-router`; `None`: it reaches it, or
    /// that is not known.
    pub unreached_router: Option<IpAddr>,
    /// Which direction of its path has failed; `None`: it has not failed by its probes alone, or was not tested yet.
    pub failed_direction: Option<DirectionFailure>,
    /// It loses far more packets than others; `None`: it does not.
    pub degraded: Option<Degraded>,
    /// Lost probes over 1, 10 and 60 minutes; empty: it is not probed.
    pub loss: Vec<Loss>,
    /// Frames of full size that passed between it and other members; `None`: none yet, or its probes show which sizes pass.
    pub exchanged: Option<Exchanged>,
    /// For each family in which it is or should be probed.
    pub probing: Vec<Probing>,
    /// Flags with the names and the order of the Solaris reference.
    pub flags: Vec<String>,
    /// Addresses of its own; test addresses among them.
    pub addresses: Vec<AddressReport>,
    /// How its programs are attached: `tcx` or `clsact`.
    pub attach: String,
    /// Traffic since it was attached.
    pub traffic: Traffic,
    /// Frames dropped by XDP; `None`: the setting `xdp` is `off`.
    pub xdp: Option<Xdp>,
}

/// Frames of full size that passed between a member and others, both from it and to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanged {
    /// Bytes of their packets: behind the Ethernet header.
    pub bytes: u32,
    /// How long ago the last one was received, of the direction that was proven earlier, in milliseconds.
    pub ago_ms: u64,
}

/// A member loses far more packets than others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Degraded {
    /// Of what.
    pub of: LossEvidence,
    /// Over how many minutes.
    pub minutes: u32,
    /// The percentage that it loses.
    pub percent: f64,
    /// The percentage that the others lose.
    pub others_percent: f64,
    /// It exceeds `loss-fail`: the member does not transmit while one functions that loses less.
    pub avoided: bool,
}

/// Lost probes of a member.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Over how many minutes.
    pub minutes: u32,
    /// Probes with a result.
    pub probes: u64,
    /// Of these, those that were lost while the path had not failed.
    pub lost: u64,
    /// Bounds of the percentage that the path loses, with a confidence of 99.9 %.
    pub least_percent: f64,
    /// See `least_percent`.
    pub most_percent: f64,
}

impl MemberReport {
    /// Whether it functions, and loses nothing that others do not lose.
    pub fn is_in_order(&self) -> bool {
        self.state == MemberState::Ok
            && self.mtu_hole.is_none()
            && self.unreached_router.is_none()
            && self.degraded.is_none()
    }
}

/// The flows of a member move one by one, each when it is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// To it, or from it.
    pub direction: Direction,
    /// The time in milliseconds after which those that are still active move.
    pub in_ms: u64,
}

/// Which direction of the path of a failed member has failed, by frames between it and a member that functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectionFailure {
    /// The direction.
    pub direction: FailedDirection,
    /// The other member.
    pub peer: String,
    /// When that was found last, in milliseconds before now.
    pub ago_ms: u64,
}

/// Large packets are lost on a member that pass on another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MtuHole {
    /// The target to which they are lost.
    pub target: IpAddr,
    /// Bytes of the largest packet that passes, with its IP header.
    pub passes: u32,
    /// The same on another member.
    pub elsewhere: u32,
}

/// Frames that a member drops before the kernel handles them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xdp {
    /// The setting.
    pub mode: XdpMode,
    /// The driver runs the program.
    pub attached: bool,
    /// Why it does not; `None`: it does, or it waits.
    pub why: Option<String>,
    /// Our own multicast or broadcast, sent back by a switch.
    pub reflected: u64,
    /// Copies of multicast or broadcast that another member accepts.
    pub other_copy: u64,
    /// Unicast for other hosts, flooded by a switch.
    pub flooded: u64,
    /// Not dropped, because the member is captured, promiscuous or has devices on top.
    pub passed: u64,
}

/// An address of the group interface or of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressReport {
    /// The address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Usable: the interface is up, and duplicate address detection found no other host.
    pub up: bool,
    /// Another host has it: it is neither announced nor answered for.
    pub duplicate: bool,
    /// Of a data address: the member whose MAC is announced for it; `None`: none.
    pub inbound: Option<String>,
    /// Of a data address: the member whose MAC is, or was last, announced for it; `None`: none.
    pub last_inbound: Option<String>,
    /// Of a data address: its preferred inbound member.
    pub preferred: Option<String>,
    /// Of a data address: number of the logical interface of its preferred member in the classic display.
    pub logical: Option<u16>,
}

impl AddressReport {
    /// An address that is up, without roles.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        Self {
            address,
            prefix,
            up: true,
            duplicate: false,
            inbound: None,
            last_inbound: None,
            preferred: None,
            logical: None,
        }
    }
}

/// A member's traffic since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets sent.
    pub out_packets: u64,
    /// Bytes sent.
    pub out_bytes: u64,
    /// Packets received for the group.
    pub in_packets: u64,
    /// Bytes received for the group.
    pub in_bytes: u64,
    /// Packets sent through it because a more preferred member could not.
    pub failed_over_packets: u64,
}

/// Packets that the datapath dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// No member was usable.
    pub no_member: u64,
    /// Their source MAC was not the group's: a bridge or a virtual machine on top of the group interface.
    pub foreign_source: u64,
    /// They ended in the middle of a header.
    pub truncated: u64,
    /// Our own multicast or broadcast, sent back by a switch.
    pub reflected: u64,
    /// Copies of multicast or broadcast that another member accepts.
    pub other_copy: u64,
}

/// A group with every field filled: two addresses, a member in each state, every field different from its neighbours.
#[cfg(test)]
pub(crate) fn sample() -> GroupReport {
    let words = |words: &str| words.split(',').map(str::to_owned).collect();
    let member = |number: u8, name: &str, link, state, flags: &str| MemberReport {
        name: name.into(),
        ifindex: 3 + u32::from(number),
        number,
        mac: format!("02:00:00:00:00:0{number}"),
        mtu: 1500,
        weight: 1000,
        updelay_ms: 200,
        slots: 1365,
        link,
        probe: ProbeState::Disabled,
        state,
        offline: (state == MemberState::Offline).then_some(OfflineCause::Operator),
        recognised_by: None,
        active: state == MemberState::Ok,
        usable: state == MemberState::Ok,
        live: link == LinkState::Up,
        cast: number == 0,
        standby: false,
        inactive: false,
        moving: None,
        mtu_hole: None,
        unreached_router: None,
        failed_direction: None,
        degraded: None,
        loss: vec![],
        exchanged: None,
        probing: vec![],
        flags: words(flags),
        addresses: vec![],
        attach: "tcx".into(),
        traffic: Traffic::default(),
        xdp: None,
    };
    let mut first = member(
        0,
        "e1000g0",
        LinkState::Up,
        MemberState::Ok,
        "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER",
    );
    first.slots = 1366;
    first.traffic = Traffic {
        out_packets: 120_345,
        out_bytes: 98_234_123,
        in_packets: 1,
        in_bytes: 60,
        failed_over_packets: 17,
    };
    first.xdp = Some(Xdp {
        mode: XdpMode::Driver,
        attached: true,
        why: None,
        reflected: 7,
        other_copy: 8,
        flooded: 9,
        passed: 10,
    });
    first.addresses = vec![AddressReport::new("192.168.178.201".parse().unwrap(), 24)];
    GroupReport {
        name: "production0".into(),
        groupname: "Production".into(),
        ifindex: 2,
        mac: "02:1e:00:00:00:99".into(),
        mtu: 1500,
        state: GroupState::Degraded,
        fdt_ms: None,
        detection: Detection {
            configured_ms: 10_000,
            interval_us: 2_000_000,
            raised: None,
            failback: true,
            failback_policy: crate::types::Failback::Yes,
            failback_limit_ms: 300_000,
            fail_open: true,
            confirm: crate::types::Confirm::Fast,
            evidence: true,
            probe: crate::types::ProbePolicy::Off,
            split_policy: crate::types::SplitPolicy::PreferRouter,
            loss_warn_percent: Some(1.0),
            loss_fail_percent: None,
            targets: vec![],
            unreachable_families: vec![],
            split: vec![],
        },
        hash: HashPolicy::Connection,
        classic: false,
        flags: words("UP,BROADCAST,RUNNING,MULTICAST,IPMP"),
        addresses: vec![
            AddressReport {
                inbound: Some("e1000g0".into()),
                last_inbound: Some("e1000g0".into()),
                ..AddressReport::new("192.168.178.200".parse().unwrap(), 24)
            },
            AddressReport {
                up: false,
                duplicate: true,
                ..AddressReport::new("2001:db8::200".parse().unwrap(), 64)
            },
        ],
        members: vec![
            first,
            member(
                1,
                "e1000g1",
                LinkState::Down,
                MemberState::Failed,
                "UP,BROADCAST,MULTICAST,DEPRECATED,NOFAILOVER,FAILED",
            ),
            member(
                2,
                "rge0",
                LinkState::Up,
                MemberState::Offline,
                "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,OFFLINE",
            ),
        ],
        checks: vec!["the carrier of every member is read before each packet".into()],
        drops: Drops { no_member: 1, foreign_source: 2, truncated: 3, reflected: 4, other_copy: 5 },
        capture: Capture { mode: CaptureMode::Auto, active: true, copies: 6 },
        configuration: configuration::sample(),
    }
}

#[cfg(test)]
mod tests;
