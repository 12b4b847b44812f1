//! A cable between a machine and a switch (or between two switches), and what can happen to it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::clock;
use crate::namespace::Namespace;
use crate::netlink::State;
use crate::nic::Nic;
use crate::tap::Wire;

/// How long the port of a network card may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cable with its two ends. The near end is the machine's (Switch A's for the cable between the switches), the far
/// end is the switch port. Everything that happens to a cable happens at the switch port, out of the way of the
/// programs under test.
///
/// A cable finds its ports by name, so it survives that a member is deleted and made anew.
#[derive(Debug)]
pub struct Cable {
    name: String,
    near: End,
    far: End,
    kind: Kind,
}

/// What a cable is made of.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A veth pair.
    Veth,
    /// A pump between two TAP devices.
    Tap(Wire),
    /// What the emulator has between a network card and its port.
    Nic(Nic),
}

/// One end of a cable: an interface in a namespace.
#[derive(Clone, Debug)]
pub struct End {
    /// The namespace of the machine or switch.
    pub namespace: Namespace,
    /// The interface there.
    pub interface: String,
}

/// The way that frames go through a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the near end to the switch.
    Outbound,
    /// From the switch to the near end.
    Inbound,
}

/// When something was done: it took effect between the two instants.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Taken right before the kernel was asked.
    pub before: Instant,
    /// Taken right after it had answered.
    pub after: Instant,
}

/// Counters of the switch port at the far end, as the switch sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Frames that came in from the cable.
    pub rx_packets: u64,
    /// Frames that went out into the cable.
    pub tx_packets: u64,
    /// Frames from the cable that died in the port: after it had stopped, before the carrier fell.
    pub rx_dropped: u64,
    /// Frames for the cable that died in the port.
    pub tx_dropped: u64,
}

impl Cable {
    pub(crate) fn new(name: String, near: End, far: End, kind: Kind) -> Self {
        Self { name, near, far, kind }
    }

    /// `cable 1`, as in the figure.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's end.
    pub fn near(&self) -> &End {
        &self.near
    }

    /// The switch port.
    pub fn far(&self) -> &End {
        &self.far
    }

    /// The user-space wire of a TAP member; nothing for others.
    pub fn wire(&self) -> Option<&Wire> {
        match &self.kind {
            Kind::Tap(wire) => Some(wire),
            Kind::Veth | Kind::Nic(_) => None,
        }
    }

    /// Whether this is a veth pair.
    pub(crate) fn is_veth(&self) -> bool {
        matches!(self.kind, Kind::Veth)
    }

    /// Pulls the cable: both ends lose their carrier.
    ///
    /// On veth the far port stops a moment before the carrier falls; frames in between die in the port and are seen
    /// in its `rx_dropped`. On TAP the carrier goes first, and what was sent before it went still arrives. On network
    /// cards nothing passes any more when this returns; when the driver will say so is the driver's affair.
    pub fn pull(&self) -> Result<Change> {
        let change = match &self.kind {
            Kind::Tap(wire) => wire.pull()?,
            Kind::Veth => timed(|| self.far.namespace.netlink().set_up(&self.far.interface, false))?,
            Kind::Nic(nic) => {
                let change = timed(|| nic.set_near(false))?;
                nic.set_far(false)?;
                change
            }
        };
        self.settle_port()?;
        Ok(change)
    }

    /// Plugs the cable in again. When this returns, the far port forwards; how soon the near end believes in its
    /// carrier is the near end's affair.
    pub fn replug(&self) -> Result<Change> {
        let change = match &self.kind {
            Kind::Tap(wire) => wire.replug()?,
            Kind::Veth => timed(|| self.far.namespace.netlink().set_up(&self.far.interface, true))?,
            Kind::Nic(nic) => {
                nic.set_far(true)?;
                let forwards = || {
                    self.far.namespace.link(&self.far.interface).is_ok_and(|link| link.operstate == State::Up)
                };
                ensure!(
                    clock::wait_until(PATIENCE, forwards),
                    "{} of {} is not up {PATIENCE:?} after it was plugged in",
                    self.far.interface,
                    self.name
                );
                timed(|| nic.set_near(true))?
            }
        };
        self.settle_port()?;
        Ok(change)
    }

    /// Being asked for a link, the kernel acts at once on a change of its carrier that it would otherwise leave for up
    /// to a second: a switch is not that slow.
    fn settle_port(&self) -> Result<()> {
        self.far.namespace.link(&self.far.interface).map(drop)
    }

    /// Kills the path silently: both directions drop every frame, the carrier stays.
    pub fn cut(&self) -> Result<Change> {
        timed(|| {
            self.cut_direction(Direction::Outbound)?;
            self.cut_direction(Direction::Inbound).map(drop)
        })
    }

    /// Kills one direction silently.
    pub fn cut_direction(&self, direction: Direction) -> Result<Change> {
        timed(|| match self.wire() {
            Some(wire) => {
                wire.cut(direction);
                Ok(())
            }
            None => self.far.namespace.netlink().drop_frames(&self.far.interface, direction),
        })
    }

    /// Takes back every silent cut.
    pub fn restore(&self) -> Result<Change> {
        timed(|| match self.wire() {
            Some(wire) => {
                wire.restore();
                Ok(())
            }
            None => self.far.namespace.netlink().pass_frames(&self.far.interface),
        })
    }

    /// Whether the near end sees a carrier now.
    pub fn carrier(&self) -> Result<bool> {
        Ok(self.near.namespace.link(&self.near.interface)?.carrier)
    }

    /// Waits until the near end sees a carrier, or sees none; an error if it does not in time.
    pub fn wait_carrier(&self, carrier: bool, patience: Duration) -> Result<()> {
        let seen = clock::wait_until(patience, || self.carrier().is_ok_and(|now| now == carrier));
        ensure!(
            seen,
            "{} ({}) still {} carrier after {patience:?}",
            self.name,
            self.near.interface,
            if carrier { "has no" } else { "has its" }
        );
        Ok(())
    }

    /// The far port's counters.
    pub fn port(&self) -> Result<PortStatistics> {
        let statistics = self.far.namespace.link(&self.far.interface)?.statistics;
        Ok(PortStatistics {
            rx_packets: statistics.rx_packets,
            tx_packets: statistics.tx_packets,
            rx_dropped: statistics.rx_dropped,
            tx_dropped: statistics.tx_dropped,
        })
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Change> {
    let before = Instant::now();
    work()?;
    Ok(Change { before, after: Instant::now() })
}
