//! What a restarted daemon finds in the kernel.

use std::{collections::BTreeMap, net::IpAddr};

use ipmp_common::{
    maps::MemberStatus,
    steer::{MemberSet, Preference},
    transition::Usable,
};

use super::{Time, input::Attachment, slots::Slots};

/// What a restarted daemon finds in the kernel.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// The members in the order of their numbers: attachment with the link as it is now, and the state in the map.
    pub members: Vec<(Attachment, MemberStatus)>,
    /// The word `usable`.
    pub usable: Usable,
    /// The members that the operator drains, and when that is to end.
    pub draining: BTreeMap<u8, Time>,
    /// The `reserve` mask.
    pub reserve: MemberSet,
    /// The `live` mask as it is now.
    pub live: MemberSet,
    /// The slots.
    pub slots: Slots,
    /// The cast role.
    pub cast: Preference,
    /// The data addresses and their inbound roles.
    pub inbound: Vec<(IpAddr, Preference)>,
    /// The addresses with a preferred member. With failback they return there.
    pub preferred: Vec<(IpAddr, u8)>,
    /// The members that were probed, in IPv4 and in IPv6. A failed one stays failed until its probes are answered; the
    /// caller reports test addresses afterwards.
    pub probed: [MemberSet; 2],
    /// The members whose device does not exist.
    pub absent: MemberSet,
    /// The members that are standbys.
    pub standby: MemberSet,
}
