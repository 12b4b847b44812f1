//! Layout 2 of the maps: its structures that have another form now, and how a group is read. Others are those of today.

use std::path::Path;

use aya::{Pod, maps::Map};
use ipmp_common::{
    maps::{self, AddressKind, Device, Interfaces, MAX_LOWER, MemberStatus},
    steer::{MAX_MEMBERS, MemberSet, Preference},
};

use super::{Contents, Error, Monitored, read_array, read_hash, read_per_cpu};

#[derive(Clone, Copy)]
#[repr(C)]
struct Member {
    state: MemberStatus,
    pad: u32,
    device: Device,
    mac: [u8; 6],
    lowers: u16,
    name: [i8; 16],
    lower: [Device; MAX_LOWER],
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Steering {
    usable: MemberSet,
    test_addresses: u64,
    received_since_ns: u64,
    sent_since_ns: u64,
    interfaces: Interfaces,
    reserve: MemberSet,
    cast: Preference,
    index: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Address {
    inbound: Preference,
    kind: AddressKind,
    member: u32,
}

// SAFETY: repr(C) without implicit padding; user space alone writes the enums among the fields.
unsafe impl Pod for Member {}
// SAFETY: as above.
unsafe impl Pod for Steering {}
// SAFETY: as above.
unsafe impl Pod for Address {}

impl From<Member> for maps::Member {
    fn from(Member { device, mac, lowers, state, pad, name, lower }: Member) -> Self {
        Self { device, mac, lowers, state, pad, name, lower }
    }
}

impl From<Steering> for maps::Steering {
    fn from(old: Steering) -> Self {
        Self {
            usable: old.usable,
            test_addresses: old.test_addresses,
            received_since_ns: old.received_since_ns,
            sent_since_ns: old.sent_since_ns,
            interfaces: old.interfaces,
            reserve: old.reserve,
            cast: old.cast,
            index: old.index,
        }
    }
}

impl From<Address> for maps::Address {
    fn from(Address { inbound, kind, member }: Address) -> Self {
        Self { inbound, kind, member }
    }
}

/// Reads a group, from its directory and that of the sentinel.
pub(super) fn read(group: &Path, sentinel: &Path) -> Result<Contents, Error> {
    let maps = group.join("maps");
    let steering = maps::Steering::from(read_array::<Steering>(&maps, "steering")?[0]);
    let addresses = read_hash::<_, Address>(&maps, "addresses", Map::HashMap)?;
    Ok(Contents {
        members: read_array::<Member>(&maps, "members")?.into_iter().map(Into::into).collect(),
        slots: read_array(&maps, "slots")?,
        addresses: addresses.into_iter().map(|(ip, address)| (ip, address.into())).collect(),
        learnt: read_hash(&maps, "learnt", Map::HashMap)?,
        own_macs: read_hash(&maps, "own_macs", Map::HashMap)?,
        vlans: read_array(&maps, "vlans")?,
        counters: read_per_cpu(&maps, "counters")?,
        drops: read_per_cpu(&maps, "drops")?,
        reply_counters: read_per_cpu(&maps, "reply_counters")?,
        monitored: monitored(sentinel, steering.index)?,
        steering,
    })
}

/// What the sentinel has about the group with this index, plus one.
fn monitored(sentinel: &Path, index: u64) -> Result<Option<Monitored>, Error> {
    let Some(index) = index.checked_sub(1).map(|index| index as usize) else { return Ok(None) };
    let watch = read_array(sentinel, "watch")?.get(index).copied();
    let live = read_array(sentinel, "live")?.get(index).copied();
    let good_since = read_array::<[u64; MAX_MEMBERS]>(sentinel, "good_since")?.get(index).copied();
    let all = watch.zip(live).zip(good_since);
    Ok(all.map(|((watch, live), good_since)| Monitored { watch, live, good_since }))
}
