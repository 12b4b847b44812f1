//! Counts frames of a kind on every cable, to detect storms, duplicates, and frames on a wrong cable.
//!
//! The kernel counts; no frame is read. A frame is counted once on each cable that it passes.

use std::sync::Mutex;

use anyhow::{Context as _, Result};
use socket2::SockFilter;

use crate::cable::Cable;
use crate::network::Lab;
use crate::packet::PacketSocket;

/// A counter for every cable of a lab.
#[derive(Debug)]
pub struct FrameCounters {
    cables: Vec<CableCounter>,
}

#[derive(Debug)]
struct CableCounter {
    name: String,
    socket: PacketSocket,
    counted: Mutex<u64>,
}

impl FrameCounters {
    /// Starts to count frames that match a filter (see [`crate::filter`]) on every cable.
    pub fn start(lab: &Lab, filter: &[SockFilter]) -> Result<Self> {
        let cables = lab.cables().map(|cable| CableCounter::start(cable, filter)).collect::<Result<_>>()?;
        Ok(Self { cables })
    }

    /// Frames so far on one cable, both directions together.
    ///
    /// # Panics
    /// When the lab has no cable of that name.
    pub fn on(&self, cable: &str) -> u64 {
        let counter = self.cables.iter().find(|counter| counter.name == cable);
        counter.unwrap_or_else(|| panic!("this lab has no {cable}")).count()
    }

    /// Frames so far on every cable, by name.
    pub fn all(&self) -> Vec<(&str, u64)> {
        self.cables.iter().map(|counter| (counter.name.as_str(), counter.count())).collect()
    }

    /// The highest count of all cables.
    pub fn max(&self) -> u64 {
        self.cables.iter().map(CableCounter::count).max().unwrap_or(0)
    }
}

impl CableCounter {
    fn start(cable: &Cable, filter: &[SockFilter]) -> Result<Self> {
        let far = cable.far();
        let socket = PacketSocket::open(&far.namespace, Some(&far.interface), filter)
            .with_context(|| format!("cannot count on {}", cable.name()))?;
        // The kernel counts also frames that do not fit the buffer, and no frame is read.
        socket.set_buffer(1)?;
        Ok(Self { name: cable.name().to_owned(), socket, counted: Mutex::new(0) })
    }

    /// The kernel resets its counter with every read.
    fn count(&self) -> u64 {
        let mut counted = self.counted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *counted += self.socket.statistics().map_or(0, |(frames, _)| u64::from(frames));
        *counted
    }
}
