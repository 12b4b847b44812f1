//! Frames of a kind counted on every wire: a storm, a duplicate, a frame on the wrong wire.
//!
//! The kernel counts; nothing is read and nobody is woken. A frame is counted once on every wire that it goes through.

use std::sync::Mutex;

use anyhow::{Context as _, Result};
use socket2::SockFilter;

use crate::cable::Cable;
use crate::network::Lab;
use crate::packet::PacketSocket;

/// One counter for every cable of a lab.
#[derive(Debug)]
pub struct Counters {
    wires: Vec<Wire>,
}

#[derive(Debug)]
struct Wire {
    name: String,
    socket: PacketSocket,
    counted: Mutex<u64>,
}

impl Counters {
    /// Counts frames that match a filter (see [`crate::filter`]) from now on, on every cable.
    pub fn start(lab: &Lab, filter: &[SockFilter]) -> Result<Self> {
        let wires = lab.cables().map(|cable| Wire::start(cable, filter)).collect::<Result<_>>()?;
        Ok(Self { wires })
    }

    /// Frames so far on one wire, both ways together.
    ///
    /// # Panics
    /// When the lab has no cable of that name.
    pub fn on(&self, cable: &str) -> u64 {
        let wire = self.wires.iter().find(|wire| wire.name == cable);
        wire.unwrap_or_else(|| panic!("no {cable} in this lab")).count()
    }

    /// Frames so far on every wire, by the cable's name.
    pub fn all(&self) -> Vec<(&str, u64)> {
        self.wires.iter().map(|wire| (wire.name.as_str(), wire.count())).collect()
    }

    /// The largest number of any wire.
    pub fn most(&self) -> u64 {
        self.wires.iter().map(Wire::count).max().unwrap_or(0)
    }
}

impl Wire {
    fn start(cable: &Cable, filter: &[SockFilter]) -> Result<Self> {
        let far = cable.far();
        let socket = PacketSocket::open(&far.namespace, Some(&far.interface), filter)
            .with_context(|| format!("cannot count on {}", cable.name()))?;
        // Nobody reads: a frame that does not fit is counted all the same.
        socket.set_buffer(1)?;
        Ok(Self { name: cable.name().to_owned(), socket, counted: Mutex::new(0) })
    }

    /// The kernel starts at nought again with every answer, so they are added up.
    fn count(&self) -> u64 {
        let mut counted = self.counted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *counted += self.socket.statistics().map_or(0, |(frames, _)| u64::from(frames));
        *counted
    }
}
