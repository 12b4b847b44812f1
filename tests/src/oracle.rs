//! No frame on any wire ever carries the group's MAC: not as Ethernet source, not in ARP, not in an ND option.
//!
//! The oracle listens on every switch port, so it sees what really is on the cables, also frames that a silent cut
//! swallows there. Its filter runs in the kernel; as long as nothing is wrong it is woken by ND messages alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::namespace::Namespace;
use crate::network::Lab;
use crate::packet::PacketSocket;
use crate::{Mac, filter, show_mac};

/// Copies of offending frames kept for the report.
const KEPT: usize = 64;
/// How often a listener looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// A watch on all wires of a lab for one Ethernet address.
#[derive(Debug)]
pub struct Oracle {
    mac: Mac,
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    count: u64,
    kept: Vec<Sighting>,
    missed: u64,
}

/// A frame that carries the address.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// The namespace and port it was seen on.
    pub port: String,
    /// It left the switch there; else it came from the cable.
    pub outgoing: bool,
    /// When it was read, shortly after it was there.
    pub at: Instant,
    /// Where in the frame the address is.
    pub place: Place,
    /// The frame, from the Ethernet header on.
    pub frame: Vec<u8>,
}

/// Where a frame carries an address.
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
    /// Watches all wires of a lab for an address: the group's.
    pub fn watch(lab: &Lab, mac: Mac) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut ports: HashMap<String, (Namespace, HashMap<u32, String>)> = HashMap::new();
        for (cable, end) in lab.ports() {
            let index = end.namespace.link(&end.interface)?.index;
            let entry = ports.entry(end.namespace.name().to_owned());
            let (_, names) = entry.or_insert_with(|| (end.namespace.clone(), HashMap::new()));
            names.insert(index, format!("{} ({} of {})", cable.name(), end.interface, end.namespace.name()));
        }
        let mut listeners = Vec::new();
        for (namespace, names) in ports.into_values() {
            let socket = PacketSocket::open(&namespace, None, &filter::carries(mac))?;
            socket.set_buffer(8 << 20)?;
            let shared = shared.clone();
            let listener = std::thread::Builder::new()
                .name("oracle".into())
                .spawn(move || listen(&socket, &namespace, names, mac, &shared))
                .context("cannot start the oracle")?;
            listeners.push(listener);
        }
        Ok(Self { mac, shared, listeners })
    }

    /// What was found so far.
    pub fn sightings(&self) -> Vec<Sighting> {
        self.found().kept.clone()
    }

    /// Stops watching; everything that was on a wire before has been looked at. An error shows the first frames that
    /// carried the address, in full; or says that frames were missed.
    pub fn verdict(mut self) -> Result<()> {
        self.stop();
        let found = self.found();
        ensure!(found.missed == 0, "the oracle missed {} frames: it cannot say", found.missed);
        let shown: Vec<String> = found.kept.iter().take(8).map(Sighting::to_string).collect();
        ensure!(
            found.count == 0,
            "{} frames carry the group's MAC {}:\n{}",
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

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.shared.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for listener in self.listeners.drain(..) {
            if let Err(panic) = listener.join()
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Display for Sighting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = if self.outgoing { "from the switch" } else { "to the switch" };
        let bytes: Vec<String> = self.frame.iter().take(96).map(|byte| format!("{byte:02x}")).collect();
        write!(out, "  {} {way}, {:?}: {}", self.port, self.place, bytes.join(" "))
    }
}

fn listen(
    socket: &PacketSocket,
    namespace: &Namespace,
    mut ports: HashMap<u32, String>,
    mac: Mac,
    shared: &Shared,
) {
    let mut buffer = vec![0; 2048];
    loop {
        // Read before looking: what was sent before the stop is still read after it.
        let stopping = shared.stop.load(SeqCst);
        let patience = if stopping { Duration::ZERO } else { LOOK };
        let seen = socket.receive(&mut buffer, patience).unwrap_or_else(|error| panic!("oracle: {error:#}"));
        let Some(seen) = seen else {
            if stopping {
                break;
            }
            continue;
        };
        let frame = &buffer[..seen.length.min(buffer.len())];
        let Some(place) = carries(frame, mac) else { continue };
        let port = ports.entry(seen.index).or_insert_with(|| name_of(namespace, seen.index));
        if port.starts_with("br0 ") {
            continue; // the bridge itself is no wire
        }
        let mut found = shared.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        found.count += 1;
        if found.kept.len() < KEPT {
            let sighting = Sighting {
                port: port.clone(),
                outgoing: seen.outgoing,
                at: Instant::now(),
                place,
                frame: frame.to_vec(),
            };
            found.kept.push(sighting);
        }
    }
    let missed = socket.statistics().map_or(0, |(_, missed)| missed);
    let mut found = shared.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    found.missed += u64::from(missed);
}

/// A port that came after the watch began: a member made anew.
fn name_of(namespace: &Namespace, index: u32) -> String {
    let links = namespace.netlink().links().unwrap_or_default();
    let name =
        links.into_iter().find(|(known, _)| *known == index).map_or(format!("#{index}"), |(_, name)| name);
    format!("{name} of {}", namespace.name())
}

/// Where a frame carries an address, if it does.
pub fn carries(frame: &[u8], mac: Mac) -> Option<Place> {
    let at = |offset: usize| frame.get(offset..offset + 6) == Some(&mac[..]);
    if at(6) {
        return Some(Place::Source);
    }
    // A tag may stand before the payload when the device did not take it off.
    let tag = if frame.get(12..14) == Some(&[0x81, 0x00]) { 4 } else { 0 };
    match *frame.get(12 + tag..14 + tag)? {
        [0x08, 0x06] if at(22 + tag) => Some(Place::ArpSender),
        [0x08, 0x06] if at(32 + tag) => Some(Place::ArpTarget),
        [0x86, 0xdd] if frame.get(20 + tag) == Some(&58) => nd_option(frame.get(54 + tag..)?, mac),
        _ => None,
    }
}

/// RFC 4861 section 4: where the options of each message begin, and what they look like.
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
    fn finds_the_address_wherever_it_may_stand() {
        let mut frame = vec![0; 60];
        assert_eq!(carries(&frame, MAC), None);
        frame[6..12].copy_from_slice(&MAC);
        assert_eq!(carries(&frame, MAC), Some(Place::Source));

        let mut arp = vec![0; 60];
        arp[12..14].copy_from_slice(&[8, 6]);
        arp[32..38].copy_from_slice(&MAC);
        assert_eq!(carries(&arp, MAC), Some(Place::ArpTarget));
        arp[22..28].copy_from_slice(&MAC);
        assert_eq!(carries(&arp, MAC), Some(Place::ArpSender));

        let mut solicitation = vec![0; 86];
        solicitation[12..14].copy_from_slice(&[0x86, 0xdd]);
        solicitation[20] = 58;
        solicitation[54] = 135;
        solicitation[78..80].copy_from_slice(&[1, 1]);
        assert_eq!(carries(&solicitation, MAC), None);
        solicitation[80..86].copy_from_slice(&MAC);
        assert_eq!(carries(&solicitation, MAC), Some(Place::NdOption));
        solicitation[79] = 0;
        assert_eq!(carries(&solicitation, MAC), None);
    }

    #[test]
    fn a_destination_is_no_offence() {
        let mut frame = vec![0; 60];
        frame[..6].copy_from_slice(&MAC);
        assert_eq!(carries(&frame, MAC), None);
    }
}
