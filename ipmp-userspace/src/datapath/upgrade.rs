//! Groups whose maps have an older layout (docs/design/adoption.md, "Another layout").
//!
//! The content of their maps is written into maps of the present layout. Then their links and programs, which still use the old
//! maps, are moved into the directory of the present layout, where adoption replaces them as it does for any group. A process
//! that is killed meanwhile leaves the old programs at work, and the next one continues.

#[cfg(any(test, feature = "next-layout"))]
mod layout_2;
#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuValues},
};
use ipmp_common::{
    LAYOUT,
    maps::{Address, Counters, Drops, Ip, Learnt, MacKey, Member, ReplyCounters, Steering, Watch},
    steer::{MAX_MEMBERS, MemberSet, Preference},
};

use super::{
    Error, Host,
    error::map_error,
    group,
    pins::{self, Pins},
};

/// Reads the maps of a group, from its directory and that of the sentinel.
type Read = fn(&Path, &Path) -> Result<Contents, Error>;

/// The older layouts that are read.
const READERS: &[(u32, Read)] = &[
    // The unit tests call the present layout an older one.
    #[cfg(test)]
    (1, layout_2::read),
    #[cfg(feature = "next-layout")]
    (2, layout_2::read),
];

/// What moves from the old directory of a group, beside the content of its maps. The first one is there when that is complete.
const MOVED: [&str; 4] = ["links", "programs", "clsact", "devices"];

/// A group that an ipmpd with an older layout had left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// Its name.
    pub group: String,
    /// The older layout.
    pub layout: u32,
}

/// The content of a group's maps, and what the sentinel has about it, in the present layout.
struct Contents {
    members: Vec<Member>,
    slots: Vec<Preference>,
    /// Its index is that of the old sentinel.
    steering: Steering,
    addresses: Vec<(Ip, Address)>,
    learnt: Vec<(Ip, Learnt)>,
    own_macs: Vec<(MacKey, u32)>,
    vlans: Vec<u64>,
    counters: Vec<PerCpuValues<Counters>>,
    drops: Vec<PerCpuValues<Drops>>,
    reply_counters: Vec<PerCpuValues<ReplyCounters>>,
    /// None of a group that was not complete.
    monitored: Option<Monitored>,
}

/// What the sentinel has about a group.
struct Monitored {
    watch: Watch,
    live: MemberSet,
    good_since: [u64; MAX_MEMBERS],
}

/// The pins of older layouts in the calling thread's network namespace, oldest first.
///
/// # Errors
/// [`Error::NewerLayout`] or [`Error::UnreadLayout`] if groups of such a layout are there; [`Error::Pin`].
pub fn older() -> Result<Vec<(u32, Pins)>, Error> {
    let found = removable()?;
    for (layout, pins) in &found {
        let is_read = READERS.iter().any(|(known, _)| known == layout);
        if !is_read && !pins.groups()?.is_empty() {
            return Err(Error::UnreadLayout { path: pins.root().to_owned(), layout: *layout });
        }
    }
    Ok(found)
}

/// The same, if they are to be removed: no content is read.
///
/// # Errors
/// [`Error::NewerLayout`] or [`Error::Pin`].
pub fn removable() -> Result<Vec<(u32, Pins)>, Error> {
    let mut found = pins::of_other_layouts()?;
    for (layout, pins) in found.iter().filter(|(layout, _)| *layout > LAYOUT) {
        if !pins.groups()?.is_empty() {
            return Err(Error::NewerLayout { path: pins.root().to_owned(), layout: *layout });
        }
    }
    found.retain(|(layout, _)| *layout < LAYOUT);
    Ok(found)
}

/// Moves every group of an older layout into the present one. Its programs stay those of the older one until they are replaced;
/// the older sentinel, which they need until then, keeps running.
///
/// # Errors
/// Any [`Error`]; the groups then work as before.
pub(super) fn run(host: &mut Host, older: &[(u32, Pins)]) -> Result<Vec<Upgraded>, Error> {
    let mut upgraded = Vec::new();
    let mut highest = None;
    for (layout, pins) in older {
        let Some((_, read)) = READERS.iter().find(|(known, _)| known == layout) else { continue };
        for group in pins.groups()? {
            if !host.pins.group(&group).join(MOVED[0]).exists() {
                let contents = read(&pins.group(&group), &pins.sentinel())?;
                highest = highest.max(Some(contents.write(host, &group)?));
            }
            upgraded.push(Upgraded { group, layout: *layout });
        }
    }
    // Once, when it knows all groups: until then, members that it does not know yet would not be live.
    if let Some(highest) = highest {
        host.sentinel.start(highest)?;
    }
    for (_, pins) in older {
        for group in pins.groups()? {
            move_parts(&pins.group(&group), &host.pins.group(&group))?;
        }
    }
    Ok(upgraded)
}

/// Removes the sentinels of older layouts, if no group is left there: without its pin, the kernel cancels the timer (`bpf_any_put`
/// in `kernel/bpf/inode.c`, `array_map_free_timers_wq` in `kernel/bpf/arraymap.c`).
///
/// # Errors
/// [`Error::Pin`].
pub(super) fn finish(older: &[(u32, Pins)]) -> Result<(), Error> {
    for (_, pins) in older {
        if pins.groups()?.is_empty() {
            pins::remove_all(&pins.sentinel())?;
            pins.remove_if_empty();
        }
    }
    Ok(())
}

fn move_parts(from: &Path, to: &Path) -> Result<(), Error> {
    for part in MOVED {
        match fs::rename(from.join(part), to.join(part)) {
            // It was moved before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(|source| Error::Pin { path: to.join(part), source })?,
        }
    }
    pins::remove_all(from)
}

impl Contents {
    /// Creates the maps of a group with this content, in place of what an earlier attempt left, and has its members monitored.
    /// Returns its index.
    fn write(self, host: &mut Host, group: &str) -> Result<u32, Error> {
        let directory = host.pins.group(group);
        pins::remove_all(&directory)?;
        let index = host.free_index()?;
        group::create_maps(host, &directory, index)?;
        let maps = directory.join("maps");
        write_array(&maps, "members", self.members)?;
        write_array(&maps, "slots", self.slots)?;
        write_hash(&maps, "addresses", Map::HashMap, self.addresses)?;
        write_hash(&maps, "learnt", Map::HashMap, self.learnt)?;
        write_hash(&maps, "own_macs", Map::HashMap, self.own_macs)?;
        write_array(&maps, "vlans", self.vlans)?;
        write_per_cpu(&maps, "counters", self.counters)?;
        write_per_cpu(&maps, "drops", self.drops)?;
        write_per_cpu(&maps, "reply_counters", self.reply_counters)?;
        // Last: with its index, the group is complete.
        write_array(&maps, "steering", vec![Steering { index: u64::from(index) + 1, ..self.steering }])?;
        if let Some(Monitored { watch, live, good_since }) = self.monitored {
            host.sentinel.resume(index, &watch, live, good_since)?;
        }
        Ok(index)
    }
}

#[cfg(any(test, feature = "next-layout"))]
fn read_array<T: Pod>(directory: &Path, name: &'static str) -> Result<Vec<T>, Error> {
    let map: Array<MapData, T> = pins::typed(directory, name, Map::Array)?;
    (0..map.len()).map(|key| map.get(&key, 0).map_err(map_error(name))).collect()
}

#[cfg(any(test, feature = "next-layout"))]
fn read_per_cpu<T: Pod>(directory: &Path, name: &'static str) -> Result<Vec<PerCpuValues<T>>, Error> {
    let map: PerCpuArray<MapData, T> = pins::typed(directory, name, Map::PerCpuArray)?;
    (0..map.len()).map(|key| map.get(&key, 0).map_err(map_error(name))).collect()
}

#[cfg(any(test, feature = "next-layout"))]
fn read_hash<K: Pod, V: Pod>(
    directory: &Path,
    name: &'static str,
    variant: fn(MapData) -> Map,
) -> Result<Vec<(K, V)>, Error> {
    let map: HashMap<MapData, K, V> = pins::typed(directory, name, variant)?;
    // The old programs still run: an entry that they remove meanwhile ends the walk.
    Ok(map.iter().map_while(Result::ok).collect())
}

fn write_array<T: Pod>(directory: &Path, name: &'static str, values: Vec<T>) -> Result<(), Error> {
    let mut map: Array<MapData, T> = pins::typed(directory, name, Map::Array)?;
    (0..map.len()).zip(values).try_for_each(|(key, value)| map.set(key, value, 0)).map_err(map_error(name))
}

fn write_per_cpu<T: Pod>(
    directory: &Path,
    name: &'static str,
    values: Vec<PerCpuValues<T>>,
) -> Result<(), Error> {
    let mut map: PerCpuArray<MapData, T> = pins::typed(directory, name, Map::PerCpuArray)?;
    (0..map.len()).zip(values).try_for_each(|(key, value)| map.set(key, value, 0)).map_err(map_error(name))
}

fn write_hash<K: Pod, V: Pod>(
    directory: &Path,
    name: &'static str,
    variant: fn(MapData) -> Map,
    entries: Vec<(K, V)>,
) -> Result<(), Error> {
    let mut map: HashMap<MapData, K, V> = pins::typed(directory, name, variant)?;
    entries.into_iter().try_for_each(|(key, value)| map.insert(key, value, 0)).map_err(map_error(name))
}
