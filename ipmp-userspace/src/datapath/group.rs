//! The datapath of one group: its maps, its programs and the members in them.

mod active_flows;
mod addresses;
mod early_drop;
mod figures;
mod learnt;
mod programs;
mod stale_neighbours;
mod vlan_addresses;
mod words;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    mem::offset_of,
    net::IpAddr,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use aya::maps::{Array, HashMap, Map, MapData, MapError, MapType, PerCpuArray};
use aya_log::EbpfLogger;
use ipmp_common::{
    hash::HashPolicy,
    maps::{
        Address, AddressKind, Counters, Device, Drops, EarlyDrops, Ip, Learnt, MAX_ADDRESSES, MAX_GROUPS,
        MAX_LEARNT, MAX_LOWER, MAX_STALE, MAX_VLAN_ADDRESSES, MacKey, Member, MemberStatus, Replaced,
        ReplyCounters, ReplyWindows, StaleKey, StaleNeighbour, Steering, VlanKey,
    },
    steer::{MAX_MEMBERS, Preference, SLOTS},
    transition::Usable,
};

use super::{
    AttachKind, Error, Host,
    attach::{Hook, Place},
    error::map_error,
    mapped::Mapped,
    pins::{self, Shape},
    preparation::Preparation,
};

#[cfg(test)]
pub(super) use self::active_flows::TABLE;
pub(super) use self::programs::{create_maps, remove_pinned};
use self::{
    active_flows::ActiveFlows,
    programs::{Installed, marked_device, preparation},
};
pub use self::{programs::ProgramOrder, stale_neighbours::StaleReport};

/// A group to load, or to adopt.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// Name of the group interface.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: [u8; 6],
    /// How packets are assigned to slots.
    pub policy: HashPolicy,
    /// How long a member's link must be up before the member is live.
    pub updelay: Duration,
}

/// A member to attach, or to adopt.
#[derive(Clone, Debug)]
pub struct MemberSpec {
    /// Its number.
    pub number: u8,
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// MAC.
    pub mac: [u8; 6],
    /// Indices of the devices below it, the nearest first, at most [`MAX_LOWER`].
    pub lower: Vec<u32>,
}

/// The maps of a group.
pub const SHAPES: [Shape; 16] = [
    Shape { name: "members", kind: MapType::Array, key: 4, value: size_of::<Member>(), entries: MAX_MEMBERS },
    Shape { name: "slots", kind: MapType::Array, key: 4, value: 8, entries: SLOTS },
    Shape { name: "steering", kind: MapType::Array, key: 4, value: size_of::<Steering>(), entries: 1 },
    Shape {
        name: "addresses",
        kind: MapType::Hash,
        key: 16,
        value: size_of::<Address>(),
        entries: MAX_ADDRESSES as usize,
    },
    Shape {
        name: "learnt",
        kind: MapType::Hash,
        key: 16,
        value: size_of::<Learnt>(),
        entries: MAX_LEARNT as usize,
    },
    Shape {
        name: "vlan_addresses",
        kind: MapType::Hash,
        key: size_of::<VlanKey>(),
        value: size_of::<Preference>(),
        entries: MAX_VLAN_ADDRESSES as usize,
    },
    Shape {
        name: "stale_neighbours",
        kind: MapType::Hash,
        key: size_of::<StaleKey>(),
        value: size_of::<StaleNeighbour>(),
        entries: MAX_STALE as usize,
    },
    Shape { name: "own_macs", kind: MapType::Hash, key: 8, value: 4, entries: MAX_MEMBERS + 1 },
    Shape { name: "vlans", kind: MapType::Array, key: 4, value: 8, entries: 64 },
    Shape {
        name: "counters",
        kind: MapType::PerCpuArray,
        key: 4,
        value: size_of::<Counters>(),
        entries: MAX_MEMBERS,
    },
    Shape {
        name: "replaced",
        kind: MapType::PerCpuArray,
        key: 4,
        value: size_of::<Replaced>(),
        entries: MAX_MEMBERS,
    },
    Shape { name: "drops", kind: MapType::PerCpuArray, key: 4, value: size_of::<Drops>(), entries: 1 },
    Shape {
        name: "early_drops",
        kind: MapType::PerCpuArray,
        key: 4,
        value: size_of::<EarlyDrops>(),
        entries: MAX_MEMBERS,
    },
    Shape {
        name: "reply_counters",
        kind: MapType::PerCpuArray,
        key: 4,
        value: size_of::<ReplyCounters>(),
        entries: MAX_MEMBERS,
    },
    Shape {
        name: "reply_windows",
        kind: MapType::Array,
        key: 4,
        value: size_of::<ReplyWindows>(),
        entries: MAX_MEMBERS,
    },
    Shape { name: active_flows::MAP, kind: MapType::ArrayOfMaps, key: 4, value: 4, entries: 1 },
];

const INDEX: usize = offset_of!(Steering, index) / 8;
/// Name of the pins on the peer of a group interface that is a veth.
const SINK: &str = "sink";

/// The datapath of one group.
pub struct Group {
    host: Rc<RefCell<Host>>,
    spec: GroupSpec,
    directory: PathBuf,
    index: u32,
    steering: Mapped,
    slots: Mapped,
    active_flows: ActiveFlows,
    members: Array<MapData, Member>,
    addresses: HashMap<MapData, Ip, Address>,
    learnt: HashMap<MapData, Ip, Learnt>,
    vlan_addresses: HashMap<MapData, VlanKey, Preference>,
    stale_neighbours: HashMap<MapData, StaleKey, StaleNeighbour>,
    own_macs: HashMap<MapData, MacKey, u32>,
    vlans: Array<MapData, u64>,
    counters: PerCpuArray<MapData, Counters>,
    replaced: PerCpuArray<MapData, Replaced>,
    drops: PerCpuArray<MapData, Drops>,
    early_drops: PerCpuArray<MapData, EarlyDrops>,
    reply_counters: PerCpuArray<MapData, ReplyCounters>,
    loggers: BTreeMap<String, EbpfLogger<&'static dyn log::Log>>,
    /// The attached programs, by the name of their pins.
    installed: BTreeMap<String, Installed>,
    /// The members with an early drop of this daemon: their interfaces.
    early: BTreeMap<u8, (String, u32)>,
    /// The members with an early drop of an earlier daemon.
    inherited_early: BTreeSet<u8>,
}

/// The group's index in `live` and `watch`, from its pinned map; `None`: it has no map yet, or is not complete. An error is none of
/// these: a group that is taken for one without an index gives it to another one.
pub(super) fn pinned_index(directory: &std::path::Path) -> Result<Option<u32>, Error> {
    let maps = directory.join("maps");
    let path = maps.join("steering");
    if !path.try_exists().map_err(|source| Error::Pin { path, source })? {
        return Ok(None);
    }
    let steering = pins::typed::<Array<_, Steering>>(&maps, "steering", Map::Array)?;
    let index = steering.get(&0, 0).map_err(map_error("steering"))?.index.checked_sub(1);
    Ok(index.and_then(|index| u32::try_from(index).ok()))
}

impl Group {
    /// Loads a group's maps and egress program, or adopts them where they are pinned, and attaches egress.
    pub(super) fn open(host: Rc<RefCell<Host>>, spec: &GroupSpec) -> Result<Self, Error> {
        let directory = host.borrow().pins.group(&spec.name);
        let is_new = !directory.exists();
        let group = Self::open_in(host, spec, directory.clone());
        if group.is_err() && is_new {
            pins::remove_all(&directory)?;
        }
        group
    }

    /// The programs of a group without members, to be loaded before [`Group::open`] and [`Group::seal_far_end`].
    pub(super) fn prepare(
        host: &Host,
        spec: &GroupSpec,
        has_far_end: bool,
    ) -> Result<Vec<Preparation>, Error> {
        let directory = host.pins.group(&spec.name);
        pins::make_directory(&directory.join("maps"))?;
        let index = match pinned_index(&directory)? {
            Some(index) => index,
            None => host.free_index()?,
        };
        let hooks =
            [Hook::Egress, Hook::FarEnd].into_iter().filter(|hook| has_far_end || *hook == Hook::Egress);
        Ok(hooks.map(|hook| preparation(host, spec, &directory, index, Some(hook.program()))).collect())
    }

    fn open_in(host: Rc<RefCell<Host>>, spec: &GroupSpec, directory: PathBuf) -> Result<Self, Error> {
        let maps = directory.join("maps");
        for part in ["maps", "programs", "links", "clsact"] {
            pins::make_directory(&directory.join(part))?;
        }
        for shape in &SHAPES {
            shape.check(&maps)?;
        }
        let index = match pinned_index(&directory)? {
            Some(index) => index,
            None => host.borrow().free_index()?,
        };
        // The egress program of an earlier daemon runs until it is replaced below.
        let device = host.borrow_mut().finder.find(&spec.name, spec.ifindex)?;
        if !SHAPES.iter().all(|shape| maps.join(shape.name).exists()) {
            create_maps(&host.borrow(), &directory, index)?;
        }
        let mut group = Self {
            steering: Mapped::new(
                "steering",
                &pins::open_map(&maps, "steering")?,
                size_of::<Steering>() / 8,
            )?,
            slots: Mapped::new("slots", &pins::open_map(&maps, "slots")?, SLOTS)?,
            active_flows: ActiveFlows::of(&maps),
            members: pins::typed(&maps, "members", Map::Array)?,
            addresses: pins::typed(&maps, "addresses", Map::HashMap)?,
            learnt: pins::typed(&maps, "learnt", Map::HashMap)?,
            vlan_addresses: pins::typed(&maps, "vlan_addresses", Map::HashMap)?,
            stale_neighbours: pins::typed(&maps, "stale_neighbours", Map::HashMap)?,
            own_macs: pins::typed(&maps, "own_macs", Map::HashMap)?,
            vlans: pins::typed(&maps, "vlans", Map::Array)?,
            counters: pins::typed(&maps, "counters", Map::PerCpuArray)?,
            replaced: pins::typed(&maps, "replaced", Map::PerCpuArray)?,
            drops: pins::typed(&maps, "drops", Map::PerCpuArray)?,
            early_drops: pins::typed(&maps, "early_drops", Map::PerCpuArray)?,
            reply_counters: pins::typed(&maps, "reply_counters", Map::PerCpuArray)?,
            loggers: BTreeMap::new(),
            installed: BTreeMap::new(),
            early: BTreeMap::new(),
            inherited_early: BTreeSet::new(),
            host,
            spec: spec.clone(),
            directory,
            index,
        };
        group.steering.store(INDEX, u64::from(index) + 1);
        // As an earlier daemon left it, which may have ended at any time.
        if Usable::is_in_transition(group.usable_word().word()) {
            group.begin_transition();
        } else {
            group.end_transition();
        }
        group.find_inherited_early_drops();
        group.record_own_mac()?;
        group.attach_program(&group.egress_place(), device, group.preparation(Some(Hook::Egress)))?;
        group.host.borrow().sentinel.watch_group(index, device);
        group.host.borrow().sentinel.set_updelay(index, group.spec.updelay);
        Ok(group)
    }

    /// Discards what arrives at the peer of a group interface that is a veth: copies for captures.
    ///
    /// # Errors
    /// [`Error::Vanished`], [`Error::Load`], [`Error::Attach`] or [`Error::Pin`].
    pub fn seal_far_end(&mut self, name: &str, ifindex: u32) -> Result<(), Error> {
        let device = self.host.borrow_mut().finder.find(name, ifindex)?;
        let place =
            Place { interface: name.to_owned(), ifindex, ..self.place(Hook::FarEnd, SINK.to_owned()) };
        self.attach_program(&place, device, self.preparation(Some(Hook::FarEnd)))
    }

    /// Changes the hash policy: egress is replaced atomically by a program with another constant.
    ///
    /// # Errors
    /// [`Error::Vanished`], [`Error::Load`], [`Error::Attach`] or [`Error::Pin`]; the policy then stays.
    pub fn set_policy(&mut self, policy: HashPolicy) -> Result<(), Error> {
        let spec = GroupSpec { policy, ..self.spec.clone() };
        let device = self.host.borrow_mut().finder.find(&spec.name, spec.ifindex)?;
        let preparation = self.prepare_policy(policy);
        if let Err(error) = self.attach_program(&self.egress_place(), device, preparation) {
            // It may run already, and only its pin be missing.
            let before = self.preparation(Some(Hook::Egress));
            self.attach_program(&self.egress_place(), device, before)?;
            return Err(error);
        }
        self.spec = spec;
        Ok(())
    }

    /// The group interface has another name now, under which the pins are already ([`super::Datapath::rename_groups`]).
    pub fn set_name(&mut self, name: &str) {
        name.clone_into(&mut self.spec.name);
        self.directory = self.host.borrow().pins.group(name);
    }

    /// Writes the new name of a member's interface to the map.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_member_name(&mut self, number: u8, name: &str) -> Result<(), Error> {
        let key = u32::from(number);
        let mut member = self.members.get(&key, 0).map_err(map_error("members"))?;
        member.name = name_in_map(name);
        self.members.set(key, member, 0).map_err(map_error("members"))
    }

    /// The ingress program, which all members share, to be loaded before [`Group::attach`].
    pub fn prepare_ingress(&self) -> Preparation {
        self.preparation(Some(Hook::Ingress))
    }

    /// The egress program with another hash policy, to be loaded before [`Group::set_policy`].
    pub fn prepare_policy(&self, policy: HashPolicy) -> Preparation {
        let spec = GroupSpec { policy, ..self.spec.clone() };
        preparation(&self.host.borrow(), &spec, &self.directory, self.index, Some(Hook::Egress.program()))
    }

    /// The hash policy.
    pub fn policy(&self) -> HashPolicy {
        self.spec.policy
    }

    /// Attaches a member, or adopts it: its entries in the maps, its ingress program, and the monitoring of its link. It transmits
    /// nothing before a list and the mask `usable` contain it.
    ///
    /// # Errors
    /// [`Error::Vanished`], [`Error::Load`], [`Error::Attach`], [`Error::Map`] or [`Error::Pin`]; a new member is
    /// then removed again.
    pub fn attach(&mut self, spec: &MemberSpec) -> Result<(), Error> {
        let place = self.ingress_place(spec.number, &spec.name, spec.ifindex);
        let was_here = place.is_pinned();
        let result = self.attach_at(spec, &place);
        if result.is_err() && !was_here {
            self.detach(spec.number)?;
        }
        result
    }

    /// Sets how long links must be up before their members are live: of the group, and of members with their own delay.
    pub fn set_updelays(&self, of_group: Duration, own: &BTreeMap<u8, Duration>) {
        self.host.borrow().sentinel.set_updelays(self.index, of_group, own);
    }

    /// Whether a device is administratively up; `None`: no device has this index.
    pub fn is_up(&self, name: &str, ifindex: u32) -> Option<bool> {
        self.host.borrow_mut().finder.is_up(name, ifindex).ok()
    }

    /// Writes the MAC of a member, and the devices below it, to the maps.
    ///
    /// # Errors
    /// [`Error::Vanished`] or [`Error::Map`].
    pub fn update(&mut self, spec: &MemberSpec) -> Result<(), Error> {
        let devices = self.write_member(spec)?;
        self.watch_member(spec.number, &devices)
    }

    fn attach_at(&mut self, spec: &MemberSpec, place: &Place) -> Result<(), Error> {
        let devices = self.write_member(spec)?;
        self.attach_program(place, devices[0], self.prepare_ingress())?;
        self.watch_member(spec.number, &devices)
    }

    /// Returns its device and those below it.
    fn write_member(&mut self, spec: &MemberSpec) -> Result<Vec<Device>, Error> {
        let host = Rc::clone(&self.host);
        let mut devices = vec![host.borrow_mut().finder.find(&spec.name, spec.ifindex)?];
        for &below in spec.lower.iter().take(MAX_LOWER) {
            devices.push(host.borrow_mut().finder.find(&format!("below {}", spec.name), below)?);
        }
        let number = u32::from(spec.number);
        let before = self.members.get(&number, 0).map_err(map_error("members"))?;
        let mut lower = [Device::default(); MAX_LOWER];
        lower[..devices.len() - 1].copy_from_slice(&devices[1..]);
        let member = Member {
            state: if before.state == MemberStatus::Vacant { MemberStatus::Unknown } else { before.state },
            pad: 0,
            device: devices[0],
            mac: spec.mac,
            lowers: (devices.len() - 1) as u16,
            name: name_in_map(&spec.name),
            lower,
        };
        if before.mac != spec.mac && before.state != MemberStatus::Vacant {
            let _ = self.own_macs.remove(&MacKey::new(before.mac));
        }
        self.own_macs.insert(MacKey::new(spec.mac), number, 0).map_err(map_error("own_macs"))?;
        self.members.set(number, member, 0).map_err(map_error("members"))?;
        self.set_interface(spec.number, spec.ifindex);
        Ok(devices)
    }

    fn watch_member(&mut self, number: u8, devices: &[Device]) -> Result<(), Error> {
        let mut host = self.host.borrow_mut();
        host.sentinel.arm(self.index, number, devices);
        host.sentinel.start(self.index)
    }

    /// Detaches a member; its device may have been deleted.
    ///
    /// # Errors
    /// [`Error::Map`] or [`Error::Pin`].
    pub fn detach(&mut self, number: u8) -> Result<(), Error> {
        let key = u32::from(number);
        let member = self.members.get(&key, 0).map_err(map_error("members"))?;
        self.set_usable(self.usable_word().without(number));
        self.set_reserve(self.reserve().without(number));
        self.host.borrow().sentinel.disarm(self.index, number);
        self.stop_early_drop(number)?;
        let place = self.ingress_place(number, &name_of(&member), member.device.ifindex);
        place.detach()?;
        self.set_interface(number, 0);
        self.unmark_device(&place.pin)?;
        self.prepare_ingress().unmark(&place.pin);
        self.loggers.remove(&place.pin);
        self.installed.remove(&place.pin);
        if member.state != MemberStatus::Vacant {
            ignore_missing(self.own_macs.remove(&MacKey::new(member.mac)), "own_macs")?;
        }
        let own: Vec<IpAddr> = self
            .entries()?
            .into_iter()
            .filter(|(_, address)| address.kind == AddressKind::Test && address.member == key)
            .map(|(ip, _)| ip)
            .collect();
        for address in own {
            self.remove_address(address)?;
        }
        // SAFETY: all of it integers and arrays of integers, and 0 is MemberStatus::Vacant.
        let vacant: Member = unsafe { std::mem::zeroed() };
        self.members.set(key, vacant, 0).map_err(map_error("members"))
    }

    /// Detaches everything and removes every pin of the group.
    ///
    /// # Errors
    /// [`Error::Map`] or [`Error::Pin`].
    pub fn remove(mut self) -> Result<(), Error> {
        for (number, _) in self.members()? {
            self.detach(number)?;
        }
        self.egress_place().detach()?;
        let far = marked_device(&self.directory, SINK).unwrap_or(0);
        Place { ifindex: far, ..self.place(Hook::FarEnd, SINK.to_owned()) }.detach()?;
        self.host.borrow().sentinel.remove_group(self.index);
        pins::remove_all(&self.directory)
    }

    /// The members in the map, by number.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn members(&self) -> Result<Vec<(u8, Member)>, Error> {
        let mut members = Vec::new();
        for number in 0..MAX_MEMBERS as u32 {
            let member = self.members.get(&number, 0).map_err(map_error("members"))?;
            if member.state != MemberStatus::Vacant {
                members.push((number as u8, member));
            }
        }
        Ok(members)
    }

    /// Index of the group in hints.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// How the group's programs are attached.
    pub fn attach_kind(&self) -> AttachKind {
        self.host.borrow().kind
    }

    /// Whether the sentinel writes `live`; if not, the daemon does.
    pub fn sentinel_runs(&self) -> bool {
        self.host.borrow().sentinel.refused().is_none()
    }

    /// Writes a member's state to the map.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_state(&mut self, number: u8, state: MemberStatus) -> Result<(), Error> {
        let key = u32::from(number);
        let mut member = self.members.get(&key, 0).map_err(map_error("members"))?;
        if member.state != MemberStatus::Vacant && member.state != state {
            member.state = state;
            self.members.set(key, member, 0).map_err(map_error("members"))?;
        }
        Ok(())
    }

    /// Sets the VLANs of the group.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_vlans(&mut self, vlans: &[u16]) -> Result<(), Error> {
        let mut words = [0u64; 64];
        for &id in vlans.iter().filter(|&&id| id < 4096) {
            words[usize::from(id) / 64] |= 1 << (id % 64);
        }
        for (index, word) in words.into_iter().enumerate() {
            self.vlans.set(index as u32, word, 0).map_err(map_error("vlans"))?;
        }
        Ok(())
    }
}

fn name_in_map(name: &str) -> [i8; 16] {
    let mut text = [0; 16];
    for (place, byte) in text.iter_mut().take(15).zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    text
}

/// A member's interface name, from the map.
pub fn name_of(member: &Member) -> String {
    let bytes: Vec<u8> =
        member.name.iter().map(|byte| byte.cast_unsigned()).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ignore_missing(result: Result<(), MapError>, map: &'static str) -> Result<(), Error> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map_err(map_error(map)),
    }
}

const _: () = assert!(MAX_GROUPS <= u32::MAX as usize && size_of::<Steering>().is_multiple_of(8));
