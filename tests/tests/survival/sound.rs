//! What must hold of the groups whenever nothing changes, read from outside: reports, pinned maps, netlink, replies to ARP.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{Array, HashMap, Map, MapData};
use ipmp::types::{GroupState, ProbePolicy};
use ipmp_common::maps::{Address, Ip, Steering};
use ipmp_common::steer::MemberSet;
use lab::show_mac;
use serde_json::Value;

use super::*;

/// How long replies to ARP requests are waited for.
const REPLIES: Duration = Duration::from_millis(30);
/// Slots of a group.
const SLOTS: u32 = 4096;

/// A NIC of the host as a test has left it.
#[derive(Clone, Debug)]
pub struct Nic {
    pub name: String,
    pub first_name: String,
    pub exists: bool,
    pub is_plugged: bool,
    /// Whether it has its first interface index.
    pub has_first_index: bool,
}

/// Groups and interfaces of a host at one moment.
pub struct Sound<'a> {
    lab: &'a Lab,
    nics: &'a [Nic],
    groups: Vec<GroupReport>,
    /// Interfaces by name, as `ip -j address` prints them.
    links: BTreeMap<String, Value>,
    pins: PathBuf,
}

macro_rules! hold {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

impl<'a> Sound<'a> {
    pub fn read(lab: &'a Lab, daemon: &Daemon<'_>, nics: &'a [Nic]) -> Result<Self, String> {
        let shown = daemon.ctl("show --json").map_err(|error| format!("{error:#}"))?;
        let mut shown: Value = serde_json::from_str(&shown).map_err(|error| error.to_string())?;
        let groups =
            serde_json::from_value(shown["groups"].take()).map_err(|error| format!("no report: {error}"))?;
        let links = lab.host().ip("-j address show").map_err(|error| format!("{error:#}"))?;
        let links: Vec<Value> = serde_json::from_str(&links).map_err(|error| error.to_string())?;
        let name = |link: &Value| link["ifname"].as_str().unwrap_or_default().to_owned();
        let links = links.into_iter().map(|link| (name(&link), link)).collect();
        let cookie = lab.host().cookie().map_err(|error| format!("{error:#}"))?;
        let pins = format!("/sys/fs/bpf/ipmp/v{LAYOUT}/{cookie}").into();
        Ok(Self { lab, nics, groups, links, pins })
    }

    /// The names of the groups, or what does not hold.
    pub fn check(self) -> Result<Vec<String>, String> {
        let names: BTreeSet<&str> = self.groups.iter().map(|group| group.name.as_str()).collect();
        hold!(names.len() == self.groups.len(), "two groups have one name");
        let entries = fs::read_dir(&self.pins).into_iter().flatten().flatten();
        let pinned: BTreeSet<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        for name in &pinned {
            let is_known = names.contains(name.as_str()) || name == "sentinel-of-all-groups";
            hold!(is_known, "pins of {name}, but no such group");
        }
        let mut members = BTreeSet::new();
        for group in &self.groups {
            for member in group.members.iter().filter(|member| member.ifindex != 0) {
                hold!(members.insert(member.ifindex), "{} is a member twice", member.name);
            }
            self.check_members(group).map_err(|why| format!("{}: {why}", group.name))?;
            self.check_maps(group).map_err(|why| format!("{}: {why}", group.name))?;
            self.check_interface(group).map_err(|why| format!("{}: {why}", group.name))?;
            self.check_wire(group).map_err(|why| format!("{}: {why}", group.name))?;
        }
        Ok(self.groups.into_iter().map(|group| group.name).collect())
    }

    /// Whether a NIC is up and its cable is plugged in.
    fn has_link(&self, nic: &Nic) -> bool {
        nic.exists && nic.is_plugged && self.flags(&nic.name).contains(&"UP")
    }

    /// The flags of an interface.
    fn flags(&self, name: &str) -> Vec<&str> {
        let flags = self.links.get(name).and_then(|link| link["flags"].as_array());
        flags.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The report agrees with itself, with the kernel and with what was done to the NICs.
    fn check_members(&self, group: &GroupReport) -> Result<(), String> {
        let numbers: BTreeSet<u8> = group.members.iter().map(|member| member.number).collect();
        hold!(numbers.len() == group.members.len(), "two members have one number");
        let is_probed = group.detection.probe != ProbePolicy::Off
            || group.members.iter().any(|member| !member.probing.is_empty());
        for member in &group.members {
            let name = &member.name;
            let (state, link) = (member.state, self.links.get(name));
            if state == MemberState::Absent {
                hold!(member.ifindex == 0 && !member.usable, "{name} is absent and usable");
                continue;
            }
            let index = link.and_then(|link| link["ifindex"].as_u64());
            hold!(index == Some(member.ifindex.into()), "{name} has index {index:?}");
            hold!(!member.usable || state != MemberState::Offline, "{name} is offline and usable");
            hold!(!member.usable || !member.inactive, "{name} is inactive and usable");
            hold!(!member.active || member.usable, "{name} is active and not usable");
            hold!(
                (state == MemberState::Offline) == member.offline.is_some(),
                "{name} is {state:?}, offline: {:?}",
                member.offline
            );
            let nic = self.nics.iter().find(|nic| nic.name == *name);
            if let Some(nic) = nic.filter(|nic| !self.has_link(nic)) {
                hold!(!member.live, "{nic:?} is live");
                hold!(!matches!(state, MemberState::Ok), "{nic:?} is {state:?}");
                hold!(!member.active, "{nic:?} is active");
            }
        }
        let ok = group.members.iter().filter(|member| member.state == MemberState::Ok).count();
        let state = match ok {
            0 => GroupState::Failed,
            all if all == group.members.len() => GroupState::Ok,
            _ => GroupState::Degraded,
        };
        hold!(is_probed || group.state == state, "{:?} with {ok} members ok", group.state);
        // A group with a link that can transmit does, whatever has been pulled before.
        let can = |member: &MemberReport| {
            member.offline.is_none()
                && self.nics.iter().any(|nic| nic.name == member.name && self.has_link(nic))
                && member.ifindex != 0
        };
        let active = group.members.iter().filter(|member| member.active).count();
        hold!(active > 0 || !group.members.iter().any(can), "no member is active, but one has a link");
        let cast = group.members.iter().filter(|member| member.cast).count();
        hold!(cast == usize::from(active > 0), "{cast} cast members with {active} active");
        for address in &group.addresses {
            let inbound = address.inbound.as_ref();
            hold!(
                !address.up || address.duplicate || inbound.is_some() == (active > 0),
                "{} has inbound member {inbound:?} with {active} active",
                address.address
            );
            let named = group.members.iter().find(|member| Some(&member.name) == inbound);
            hold!(
                inbound.is_none() || named.is_some_and(|member| member.active && member.live),
                "{} has inbound member {inbound:?}",
                address.address
            );
        }
        let slots: u32 = group.members.iter().map(|member| member.slots).sum();
        hold!(group.members.is_empty() || slots == SLOTS, "{slots} slots");
        Ok(())
    }

    /// The maps are what the report says.
    fn check_maps(&self, group: &GroupReport) -> Result<(), String> {
        let open = |name: &str| {
            let path = self.pins.join(&group.name).join("maps").join(name);
            MapData::from_pin(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let steering: Array<_, Steering> = Map::Array(open("steering")?).try_into().unwrap();
        let steering = steering.get(&0, 0).map_err(|error| error.to_string())?;
        let of = |is: fn(&MemberReport) -> bool| -> MemberSet {
            group.members.iter().filter(|member| is(member)).map(|member| member.number).collect()
        };
        let usable = of(|member| member.usable);
        hold!(steering.usable == usable, "the map has usable {:?}, the report {usable:?}", steering.usable);
        let active = of(|member| member.active && member.live);
        let name = |number: Option<u8>| {
            let member = group.members.iter().find(|member| Some(member.number) == number);
            member.map(|member| member.name.clone())
        };
        let cast = group.members.iter().find(|member| member.cast).map(|member| member.name.clone());
        let first = name(steering.cast.first_in(active));
        hold!(first == cast, "the map has cast member {first:?}, the report {cast:?}");
        let addresses: HashMap<_, Ip, Address> = Map::HashMap(open("addresses")?).try_into().unwrap();
        let mut data = BTreeMap::new();
        for entry in addresses.iter() {
            let (ip, value) = entry.map_err(|error| error.to_string())?;
            if matches!(value.kind, ipmp_common::maps::AddressKind::Data) {
                data.insert(IpAddr::from(ip), name(value.inbound.first_in(active)));
            }
        }
        for address in group.addresses.iter().filter(|address| address.inbound.is_some()) {
            let found = data.get(&address.address);
            hold!(
                found == Some(&address.inbound),
                "{}: the map has inbound member {found:?}, the report {:?}",
                address.address,
                address.inbound
            );
        }
        for ip in data.keys() {
            let is_reported = group.addresses.iter().any(|address| address.address == *ip);
            hold!(is_reported, "the map has {ip}, the report does not");
        }
        Ok(())
    }

    /// The group interface is what the report says.
    fn check_interface(&self, group: &GroupReport) -> Result<(), String> {
        let Some(link) = self.links.get(&group.name) else { return Err("there is no interface".into()) };
        hold!(link["ifindex"] == group.ifindex, "its index is {}", link["ifindex"]);
        hold!(link["mtu"] == group.mtu, "its MTU is {}, {} reported", link["mtu"], group.mtu);
        let has_carrier = !self.flags(&group.name).contains(&"NO-CARRIER");
        let is_active = group.members.iter().any(|member| member.active);
        hold!(has_carrier == is_active, "carrier {has_carrier}, active members {is_active}");
        let known: BTreeSet<String> =
            group.addresses.iter().map(|known| format!("{}/{}", known.address, known.prefix)).collect();
        let present = link["addr_info"].as_array().into_iter().flatten();
        let text = |address: &Value| {
            format!("{}/{}", address["local"].as_str().unwrap_or_default(), address["prefixlen"])
        };
        let present: BTreeSet<String> = present.map(text).collect();
        hold!(known == present, "it has {present:?}, the report {known:?}");
        Ok(())
    }

    /// Of the members, the inbound one replies for an address.
    fn check_wire(&self, group: &GroupReport) -> Result<(), String> {
        let is_on_link = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().starts_with(&[192, 168, 178]),
            IpAddr::V6(_) => false,
        };
        let mut addresses = group.addresses.iter().filter(|known| known.up && is_on_link(&known.address));
        let Some(known) = addresses.next() else { return Ok(()) };
        let replies =
            self.lab.peer(1).resolve(known.address, REPLIES).map_err(|error| format!("{error:#}"))?;
        // Linux replies on every interface for every address of the host (arp_ignore=0), so those that are no members do, too.
        let macs: Vec<String> = replies
            .iter()
            .map(|reply| show_mac(reply.mac))
            .filter(|mac| group.members.iter().any(|member| member.mac == *mac))
            .collect();
        let inbound = group.members.iter().find(|member| Some(&member.name) == known.inbound.as_ref());
        let expected: Vec<String> = inbound.map(|member| member.mac.clone()).into_iter().collect();
        hold!(macs == expected, "{}: replies from {macs:?}, not {expected:?}", known.address);
        Ok(())
    }
}
