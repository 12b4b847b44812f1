//! The datapath of one group: its maps, its programs, and the words that the daemon writes.

mod addresses;
mod figures;
mod learnt;
mod words;

use std::{
    cell::RefCell, collections::BTreeMap, mem::offset_of, net::IpAddr, path::PathBuf, rc::Rc, time::Duration,
};

use aya::{
    EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray},
};
use aya_log::EbpfLogger;
use ipmp_common::{
    hash::HashPolicy,
    maps::{
        Address, AddressKind, Counters, Device, Drops, GROUP_ITSELF, Ip, Learnt, MAX_ADDRESSES, MAX_GROUPS,
        MAX_LEARNT, MAX_LOWER, MacKey, Member, MemberStatus, ReplyCounters, ReplyWindows, Steering,
    },
    steer::{MAX_MEMBERS, SLOTS},
};

use super::{
    AttachKind, Error, Host,
    attach::{Hook, Place},
    error::{map_error, one_line},
    mapped::Mapped,
    objects::{self, Constants},
    pins::{self, Shape},
    sentinel::SHARED,
};

/// A group to load, or to take over.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// Name of the group interface.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: [u8; 6],
    /// How packets find their slots.
    pub policy: HashPolicy,
    /// How long a member's link must be good before it is trusted again.
    pub updelay: Duration,
}

/// A member to attach, or to take over.
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
pub const SHAPES: [Shape; 11] = [
    Shape { name: "members", kind: 2, key: 4, value: size_of::<Member>(), entries: MAX_MEMBERS },
    Shape { name: "slots", kind: 2, key: 4, value: 8, entries: SLOTS },
    Shape { name: "steering", kind: 2, key: 4, value: size_of::<Steering>(), entries: 1 },
    Shape {
        name: "addresses",
        kind: 1,
        key: 16,
        value: size_of::<Address>(),
        entries: MAX_ADDRESSES as usize,
    },
    Shape { name: "learnt", kind: 9, key: 16, value: size_of::<Learnt>(), entries: MAX_LEARNT as usize },
    Shape { name: "own_macs", kind: 1, key: 8, value: 4, entries: MAX_MEMBERS + 1 },
    Shape { name: "vlans", kind: 2, key: 4, value: 8, entries: 64 },
    Shape { name: "counters", kind: 6, key: 4, value: size_of::<Counters>(), entries: MAX_MEMBERS },
    Shape { name: "drops", kind: 6, key: 4, value: size_of::<Drops>(), entries: 1 },
    Shape {
        name: "reply_counters",
        kind: 6,
        key: 4,
        value: size_of::<ReplyCounters>(),
        entries: MAX_MEMBERS,
    },
    Shape { name: "reply_windows", kind: 2, key: 4, value: size_of::<ReplyWindows>(), entries: MAX_MEMBERS },
];

const INDEX: usize = offset_of!(Steering, index) / 8;
/// Name of the pins at the far end of the group interface.
const SINK: &str = "sink";

/// The datapath of one group.
pub struct Group {
    host: Rc<RefCell<Host>>,
    spec: GroupSpec,
    directory: PathBuf,
    index: u32,
    steering: Mapped,
    slots: Mapped,
    members: Array<MapData, Member>,
    addresses: HashMap<MapData, Ip, Address>,
    learnt: HashMap<MapData, Ip, Learnt>,
    own_macs: HashMap<MapData, MacKey, u32>,
    vlans: Array<MapData, u64>,
    counters: PerCpuArray<MapData, Counters>,
    drops: PerCpuArray<MapData, Drops>,
    reply_counters: PerCpuArray<MapData, ReplyCounters>,
    loggers: BTreeMap<String, EbpfLogger<&'static dyn log::Log>>,
}

/// The group's index in `live` and `watch`, if its pins say it.
pub(super) fn pinned_index(directory: &std::path::Path) -> Option<u32> {
    let maps = directory.join("maps");
    let steering = pins::typed::<Array<_, Steering>>(&maps, "steering", Map::Array).ok()?;
    u32::try_from(steering.get(&0, 0).ok()?.index.checked_sub(1)?).ok()
}

impl Group {
    /// Loads a group's maps and its egress program, or takes them over where they are pinned, and attaches egress.
    pub(super) fn open(host: Rc<RefCell<Host>>, spec: &GroupSpec) -> Result<Self, Error> {
        let directory = host.borrow().pins.group(&spec.name);
        let is_new = !directory.exists();
        let group = Self::open_in(host, spec, directory.clone());
        if group.is_err() && is_new {
            // What was made by halves goes.
            pins::remove_all(&directory)?;
        }
        group
    }

    fn open_in(host: Rc<RefCell<Host>>, spec: &GroupSpec, directory: PathBuf) -> Result<Self, Error> {
        let maps = directory.join("maps");
        for part in ["maps", "programs", "links", "clsact"] {
            pins::make_directory(&directory.join(part))?;
        }
        for shape in &SHAPES {
            shape.check(&maps)?;
        }
        let index = match pinned_index(&directory) {
            Some(index) => index,
            None => host.borrow().free_index()?,
        };
        // The first load makes and pins the maps; egress of an earlier daemon goes on until it is replaced below.
        let device = host.borrow_mut().finder.find(&spec.name, spec.ifindex)?;
        let object = load(&host.borrow(), spec, &directory, index, None)?;
        let mut group = Self {
            steering: Mapped::new(
                "steering",
                &pins::open_map(&maps, "steering")?,
                size_of::<Steering>() / 8,
            )?,
            slots: Mapped::new("slots", &pins::open_map(&maps, "slots")?, SLOTS)?,
            members: pins::typed(&maps, "members", Map::Array)?,
            addresses: pins::typed(&maps, "addresses", Map::HashMap)?,
            learnt: pins::typed(&maps, "learnt", Map::LruHashMap)?,
            own_macs: pins::typed(&maps, "own_macs", Map::HashMap)?,
            vlans: pins::typed(&maps, "vlans", Map::Array)?,
            counters: pins::typed(&maps, "counters", Map::PerCpuArray)?,
            drops: pins::typed(&maps, "drops", Map::PerCpuArray)?,
            reply_counters: pins::typed(&maps, "reply_counters", Map::PerCpuArray)?,
            loggers: BTreeMap::new(),
            host,
            spec: spec.clone(),
            directory,
            index,
        };
        group.steering.store(INDEX, u64::from(index) + 1);
        group.own_macs.insert(MacKey::new(spec.mac), GROUP_ITSELF, 0).map_err(map_error("own_macs"))?;
        group.attach_program(&group.egress_place(), device, object)?;
        group.host.borrow().sentinel.watch_group(index, device);
        Ok(group)
    }

    /// Attaches the program of a loaded object to a device, in place of the one that was there.
    fn attach_program(&mut self, place: &Place, device: Device, mut object: aya::Ebpf) -> Result<(), Error> {
        let kind = self.host.borrow().kind;
        let program = objects::load(&mut object, place.hook.program())?;
        let same_device = self.mark_device(&place.pin, device)?;
        place.attach(program, kind, same_device)?;
        self.take_logger(&place.pin, object);
        Ok(())
    }

    /// Throws away what arrives at the far end of a group interface that is a veth: copies for those who capture.
    ///
    /// # Errors
    /// [`Error::Vanished`], [`Error::Load`], [`Error::Attach`] or [`Error::Pin`].
    pub fn seal_far_end(&mut self, name: &str, ifindex: u32) -> Result<(), Error> {
        let device = self.host.borrow_mut().finder.find(name, ifindex)?;
        let place =
            Place { interface: name.to_owned(), ifindex, ..self.place(Hook::FarEnd, SINK.to_owned()) };
        let object = load(&self.host.borrow(), &self.spec, &self.directory, self.index, None)?;
        self.attach_program(&place, device, object)
    }

    /// Spreads flows by another policy: egress is replaced at once, by one with another constant.
    ///
    /// # Errors
    /// [`Error::Vanished`], [`Error::Load`], [`Error::Attach`] or [`Error::Pin`]; the policy is then what it was.
    pub fn set_policy(&mut self, policy: HashPolicy) -> Result<(), Error> {
        let spec = GroupSpec { policy, ..self.spec.clone() };
        let device = self.host.borrow_mut().finder.find(&spec.name, spec.ifindex)?;
        let object = load(&self.host.borrow(), &spec, &self.directory, self.index, None)?;
        self.attach_program(&self.egress_place(), device, object)?;
        self.spec = spec;
        Ok(())
    }

    /// How flows are spread.
    pub fn policy(&self) -> HashPolicy {
        self.spec.policy
    }

    fn place(&self, hook: Hook, pin: String) -> Place {
        let (interface, ifindex) = (self.spec.name.clone(), self.spec.ifindex);
        Place { interface, ifindex, hook, directory: self.directory.clone(), pin }
    }

    fn egress_place(&self) -> Place {
        self.place(Hook::Egress, "egress".to_owned())
    }

    fn ingress_place(&self, number: u8, name: &str, ifindex: u32) -> Place {
        let pin = format!("ingress-{number}");
        Place { interface: name.to_owned(), ifindex, ..self.place(Hook::Ingress, pin) }
    }

    /// Remembers, in the name of a directory among the pins, which device a link was made for; says whether it was this
    /// one before. An index is never given twice in one namespace, and the address tells namespaces apart.
    fn mark_device(&self, pin: &str, device: Device) -> Result<bool, Error> {
        let marks = self.directory.join("devices");
        pins::make_directory(&marks)?;
        let mark = format!("{pin}-{}-{:x}", device.ifindex, device.net_device);
        let mut known = false;
        for entry in std::fs::read_dir(&marks).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == mark {
                known = true;
            } else if name.starts_with(&format!("{pin}-")) && !known {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
        pins::make_directory(&marks.join(mark))?;
        Ok(known)
    }

    fn unmark_device(&self, pin: &str) {
        for entry in std::fs::read_dir(self.directory.join("devices")).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("{pin}-")) {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }

    fn take_logger(&mut self, pin: &str, mut object: aya::Ebpf) {
        if self.host.borrow().log {
            match EbpfLogger::init(&mut object) {
                Ok(logger) => drop(self.loggers.insert(pin.to_owned(), logger)),
                Err(error) => log::warn!("the log of the datapath cannot be read: {}", one_line(&error)),
            }
        }
    }

    /// Hands on what the datapath has logged, with `ipmpd --datapath-log`.
    pub fn flush_log(&mut self) {
        for logger in self.loggers.values_mut() {
            logger.flush();
        }
    }

    /// Attaches a member, or takes it over: its place in the maps, its ingress program, and the sentinel's watch. It
    /// carries nothing before a list names it and `usable` has it.
    ///
    /// # Errors
    /// [`Error::Vanished`], [`Error::Load`], [`Error::Attach`], [`Error::Map`] or [`Error::Pin`]; a new member then has
    /// no place.
    pub fn attach(&mut self, spec: &MemberSpec) -> Result<(), Error> {
        let place = self.ingress_place(spec.number, &spec.name, spec.ifindex);
        let was_here = place.is_pinned();
        let result = self.attach_at(spec, &place);
        if result.is_err() && !was_here {
            self.detach(spec.number)?;
        }
        result
    }

    /// Whether a device is administratively up; `None`: there is none with this index any more.
    pub fn is_up(&self, name: &str, ifindex: u32) -> Option<bool> {
        self.host.borrow_mut().finder.is_up(name, ifindex).ok()
    }

    fn attach_at(&mut self, spec: &MemberSpec, place: &Place) -> Result<(), Error> {
        let host = Rc::clone(&self.host);
        let mut devices = vec![host.borrow_mut().finder.find(&spec.name, spec.ifindex)?];
        for &below in spec.lower.iter().take(MAX_LOWER) {
            devices.push(host.borrow_mut().finder.find(&format!("below {}", spec.name), below)?);
        }
        let number = u32::from(spec.number);
        let before = self.members.get(&number, 0).map_err(map_error("members"))?;
        let mut lower = [Device::default(); MAX_LOWER];
        lower[..devices.len() - 1].copy_from_slice(&devices[1..]);
        let mut name = [0u8; 16];
        let length = spec.name.len().min(15);
        name[..length].copy_from_slice(&spec.name.as_bytes()[..length]);
        let member = Member {
            device: devices[0],
            mac: spec.mac,
            lowers: (devices.len() - 1) as u16,
            state: if before.state == MemberStatus::Vacant { MemberStatus::Unknown } else { before.state },
            pad: 0,
            name,
            lower,
        };
        if before.mac != spec.mac && before.state != MemberStatus::Vacant {
            let _ = self.own_macs.remove(&MacKey::new(before.mac));
        }
        self.own_macs.insert(MacKey::new(spec.mac), number, 0).map_err(map_error("own_macs"))?;
        self.members.set(number, member, 0).map_err(map_error("members"))?;
        let object = load(&host.borrow(), &self.spec, &self.directory, self.index, Some(spec.number))?;
        self.attach_program(place, devices[0], object)?;
        let mut host = host.borrow_mut();
        host.sentinel.arm(self.index, spec.number, &devices, self.spec.updelay);
        host.sentinel.start(self.index)
    }

    /// Detaches a member; its device may be gone.
    ///
    /// # Errors
    /// [`Error::Map`] or [`Error::Pin`].
    pub fn detach(&mut self, number: u8) -> Result<(), Error> {
        let key = u32::from(number);
        let member = self.members.get(&key, 0).map_err(map_error("members"))?;
        self.set_usable(self.usable().without(number));
        self.set_reserve(self.reserve().without(number));
        self.host.borrow().sentinel.disarm(self.index, number);
        let place = self.ingress_place(number, &name_of(&member), member.device.ifindex);
        place.detach()?;
        self.unmark_device(&place.pin);
        self.loggers.remove(&place.pin);
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
            self.forget_address(address)?;
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
        self.host.borrow().sentinel.forget(self.index);
        pins::remove_all(&self.directory)
    }

    /// The members that the map holds, by number.
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

    /// Whether the sentinel keeps `live`; if not, the daemon does.
    pub fn sentinel_runs(&self) -> bool {
        self.host.borrow().sentinel.refused().is_none()
    }

    /// Shows a member's state in the map.
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

    /// Says which VLANs are the group's.
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

/// Detaches and removes what is pinned of a group, with no [`Group`] open.
pub(super) fn remove_pinned(directory: &std::path::Path) -> Result<(), Error> {
    let place = |pin: &str, hook| Place {
        interface: pin.to_owned(),
        ifindex: marked_device(directory, pin).unwrap_or(0),
        hook,
        directory: directory.to_owned(),
        pin: pin.to_owned(),
    };
    place("egress", Hook::Egress).detach()?;
    place(SINK, Hook::FarEnd).detach()?;
    for number in 0..MAX_MEMBERS {
        place(&format!("ingress-{number}"), Hook::Ingress).detach()?;
    }
    pins::remove_all(directory)
}

/// Index of the device that a pin was made for.
fn marked_device(directory: &std::path::Path, pin: &str) -> Option<u32> {
    std::fs::read_dir(directory.join("devices")).into_iter().flatten().flatten().find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.strip_prefix(&format!("{pin}-"))?.split('-').next()?.parse().ok()
    })
}

/// A member's interface name, as the map holds it.
pub fn name_of(member: &Member) -> String {
    let end = member.name.iter().position(|&byte| byte == 0).unwrap_or(member.name.len());
    String::from_utf8_lossy(&member.name[..end]).into_owned()
}

fn ignore_missing(result: Result<(), MapError>, map: &'static str) -> Result<(), Error> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map_err(map_error(map)),
    }
}

/// Loads the datapath object with the constants of the group, and of a member for its ingress.
fn load(
    host: &Host,
    spec: &GroupSpec,
    directory: &std::path::Path,
    index: u32,
    member: Option<u8>,
) -> Result<aya::Ebpf, Error> {
    let [a, b, c, d, e, f] = spec.mac;
    let constants = Constants::of(&host.kernel)
        .word("GROUP", index)
        .word("GROUP_IFINDEX", spec.ifindex)
        .long("GROUP_MAC", u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
        .word("POLICY", spec.policy as u32)
        .word("READ_DEVICES", u32::from(host.reads_devices))
        .word("MEMBER", u32::from(member.unwrap_or(0)));
    let maps = directory.join("maps");
    let sentinel = host.pins.sentinel();
    let mut loader = EbpfLoader::new();
    constants.hand_to(&mut loader);
    for shape in &SHAPES {
        loader.map_pin_path(shape.name, maps.join(shape.name));
    }
    for shared in SHARED {
        loader.map_pin_path(shared, sentinel.join(shared));
    }
    loader
        .load(&host.kernel.adapt(if host.log { objects::DATAPATH_LOG } else { objects::DATAPATH }))
        .map_err(|error| Error::Load { program: "datapath", reason: one_line(&error) })
}

const _: () = assert!(MAX_GROUPS <= u32::MAX as usize && size_of::<Steering>().is_multiple_of(8));
