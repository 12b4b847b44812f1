//! Checks that no frame on any cable contains the group's MAC: not as Ethernet source, not in ARP, not in an ND option.
//!
//! The oracle captures on every switch port, also frames that a cut cable drops there. Its socket filter passes only
//! matching frames and ND messages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::namespace::Namespace;
use crate::network::Lab;
use crate::packet::{PacketSocket, Seen};
use crate::{Mac, Worker, filter, show_mac};

/// Frames kept for the report.
const KEPT: usize = 64;

/// A capture on all cables of a lab for one Ethernet address.
#[derive(Debug)]
pub struct Oracle {
    mac: Mac,
    found: Arc<Mutex<Found>>,
    workers: Vec<Worker<Result<u32>>>,
}

#[derive(Debug, Default)]
struct Found {
    count: u64,
    kept: Vec<Sighting>,
}

/// A frame that contains the address.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// The cable, the port and its namespace.
    pub port: String,
    /// Whether the switch sent it; otherwise the switch received it.
    pub outgoing: bool,
    /// When it was read.
    pub at: Instant,
    /// The field that contains the address.
    pub place: Place,
    /// The frame, from the Ethernet header on.
    pub frame: Vec<u8>,
}

/// A field that contains an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Ethernet source.
    Source,
    /// ARP sender hardware address.
    ArpSender,
    /// ARP target hardware address.
    ArpTarget,
    /// Source or target link-layer address option of a Neighbour Discovery message.
    NdOption,
}

impl Oracle {
    /// Starts to capture on all cables of a lab, for the MAC of the group.
    pub fn watch(lab: &Lab, mac: Mac) -> Result<Self> {
        let found: Arc<Mutex<Found>> = Arc::default();
        let mut ports: HashMap<String, (Namespace, HashMap<u32, String>)> = HashMap::new();
        for (cable, end) in lab.ports() {
            let index = end.namespace.link(&end.interface)?.index;
            let entry = ports.entry(end.namespace.name().to_owned());
            let (_, names) = entry.or_insert_with(|| (end.namespace.clone(), HashMap::new()));
            names.insert(index, format!("{} ({} of {})", cable.name(), end.interface, end.namespace.name()));
        }
        let mut workers = Vec::new();
        for (namespace, mut names) in ports.into_values() {
            let socket = PacketSocket::open(&namespace, None, &filter::contains(mac))?;
            socket.set_buffer(8 << 20)?;
            let found = found.clone();
            workers.push(Worker::start("oracle", move |stop| {
                socket.receive_until(stop, |seen, frame| {
                    record(&found, &namespace, &mut names, (mac, seen, frame));
                })
            })?);
        }
        Ok(Self { mac, found, workers })
    }

    /// The frames found so far, [`KEPT`] at most.
    pub fn sightings(&self) -> Vec<Sighting> {
        locked(&self.found).kept.clone()
    }

    /// Stops after all frames sent so far are checked. An error shows the first frames that contain the address, or
    /// reports that frames were missed.
    pub fn verdict(mut self) -> Result<()> {
        let mut missed = 0;
        for worker in self.workers.drain(..) {
            missed += worker.stop()?;
        }
        ensure!(missed == 0, "the oracle missed {missed} frames: the result is not valid");
        let found = locked(&self.found);
        let shown: Vec<String> = found.kept.iter().take(8).map(Sighting::to_string).collect();
        ensure!(
            found.count == 0,
            "{} frames contain the group's MAC {}:\n{}",
            found.count,
            show_mac(self.mac),
            shown.join("\n")
        );
        Ok(())
    }

    /// [`Oracle::verdict`] at the end of a test.
    ///
    /// # Panics
    /// When the verdict is an error.
    pub fn assert_clean(self) {
        self.verdict().unwrap_or_else(|error| panic!("{error}"));
    }
}

fn locked(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Display for Sighting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let direction = if self.outgoing { "from the switch" } else { "to the switch" };
        let bytes: Vec<String> = self.frame.iter().take(96).map(|byte| format!("{byte:02x}")).collect();
        write!(out, "  {} {direction}, {:?}: {}", self.port, self.place, bytes.join(" "))
    }
}

fn record(
    found: &Mutex<Found>,
    namespace: &Namespace,
    ports: &mut HashMap<u32, String>,
    (mac, seen, frame): (Mac, &Seen, &[u8]),
) {
    let Some(place) = find_mac(frame, mac) else { return };
    let port = ports.entry(seen.index).or_insert_with(|| name_of(namespace, seen.index));
    if port.starts_with("br0 ") {
        return; // the bridge itself has no cable
    }
    let mut found = locked(found);
    found.count += 1;
    if found.kept.len() < KEPT {
        let (port, at, frame) = (port.clone(), Instant::now(), frame.to_vec());
        found.kept.push(Sighting { port, outgoing: seen.outgoing, at, place, frame });
    }
}

/// The name of a port that was created later: that of a recreated member.
fn name_of(namespace: &Namespace, index: u32) -> String {
    let links = namespace.netlink().links().unwrap_or_default();
    let name =
        links.into_iter().find(|(known, _)| *known == index).map_or(format!("#{index}"), |(_, name)| name);
    format!("{name} of {}", namespace.name())
}

/// The field of a frame that contains an address, if any.
pub fn find_mac(frame: &[u8], mac: Mac) -> Option<Place> {
    let at = |offset: usize| frame.get(offset..offset + 6) == Some(&mac[..]);
    if at(6) {
        return Some(Place::Source);
    }
    // A VLAN tag that the device did not remove.
    let tag = if frame.get(12..14) == Some(&[0x81, 0x00]) { 4 } else { 0 };
    match *frame.get(12 + tag..14 + tag)? {
        [0x08, 0x06] if at(22 + tag) => Some(Place::ArpSender),
        [0x08, 0x06] if at(32 + tag) => Some(Place::ArpTarget),
        [0x86, 0xdd] if frame.get(20 + tag) == Some(&58) => nd_option(frame.get(54 + tag..)?, mac),
        _ => None,
    }
}

/// RFC 4861 section 4: the offset of the options of each message, and their format.
fn nd_option(message: &[u8], mac: Mac) -> Option<Place> {
    let start = match *message.first()? {
        133 => 8,
        134 => 16,
        135 | 136 => 24,
        137 => 40,
        _ => return None,
    };
    let mut options = message.get(start..)?;
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return None;
        }
        if matches!(kind, 1 | 2) && options[2..8] == mac {
            return Some(Place::NdOption);
        }
        options = &options[length..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    #[test]
    fn address_is_found_in_every_field() {
        let mut frame = vec![0; 60];
        assert_eq!(find_mac(&frame, MAC), None);
        frame[6..12].copy_from_slice(&MAC);
        assert_eq!(find_mac(&frame, MAC), Some(Place::Source));

        let mut arp = vec![0; 60];
        arp[12..14].copy_from_slice(&[8, 6]);
        arp[32..38].copy_from_slice(&MAC);
        assert_eq!(find_mac(&arp, MAC), Some(Place::ArpTarget));
        arp[22..28].copy_from_slice(&MAC);
        assert_eq!(find_mac(&arp, MAC), Some(Place::ArpSender));

        let mut solicitation = vec![0; 86];
        solicitation[12..14].copy_from_slice(&[0x86, 0xdd]);
        solicitation[20] = 58;
        solicitation[54] = 135;
        solicitation[78..80].copy_from_slice(&[1, 1]);
        assert_eq!(find_mac(&solicitation, MAC), None);
        solicitation[80..86].copy_from_slice(&MAC);
        assert_eq!(find_mac(&solicitation, MAC), Some(Place::NdOption));
        solicitation[79] = 0;
        assert_eq!(find_mac(&solicitation, MAC), None);
    }

    #[test]
    fn ethernet_destination_is_ignored() {
        let mut frame = vec![0; 60];
        frame[..6].copy_from_slice(&MAC);
        assert_eq!(find_mac(&frame, MAC), None);
    }
}
