//! A cable between a host and a switch, or between two switches, and its faults.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::namespace::Namespace;
use crate::netlink::State;
use crate::nic::{Nic, Unbound};
use crate::tap::Wire;
use crate::{TIMEOUT, wait_until};

/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;

/// A cable with its two ends. The near end is at the host (at Switch A for the cable between the switches), the far end
/// is the switch port. Faults are made at the switch port, away from the programs under test.
///
/// A cable finds its ports by name, so it still works after a member is deleted and recreated.
#[derive(Debug)]
pub struct Cable {
    name: String,
    near: End,
    far: End,
    kind: Kind,
}

/// The type of a cable.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A veth pair.
    Veth,
    /// Two TAP devices and the thread between them.
    Tap(Wire),
    /// QEMU, between a network card and its port.
    Nic(Nic),
}

/// One end of a cable: an interface in a namespace.
#[derive(Clone, Debug)]
pub struct End {
    /// The namespace of the host or switch.
    pub namespace: Namespace,
    /// The interface in that namespace.
    pub interface: String,
}

/// The direction of frames in a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the near end to the switch.
    Outbound,
    /// From the switch to the near end.
    Inbound,
}

/// The time of a change: it took effect between the two instants.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Immediately before the request to the kernel.
    pub before: Instant,
    /// Immediately after the kernel has replied.
    pub after: Instant,
}

/// Counters of the switch port at the far end, as the switch sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Frames received from the cable.
    pub rx_packets: u64,
    /// Frames sent into the cable.
    pub tx_packets: u64,
    /// Frames from the cable that the port dropped: between its stop and the loss of the carrier.
    pub rx_dropped: u64,
    /// Frames for the cable that the port dropped.
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

    /// The host's end.
    pub fn near(&self) -> &End {
        &self.near
    }

    /// The switch port.
    pub fn far(&self) -> &End {
        &self.far
    }

    /// The user-space wire of a TAP member; `None` for others.
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
    /// On veth the far port is stopped a moment before the carrier goes down. The port drops frames in between and counts
    /// them in `rx_dropped`. On TAP the carrier goes down first, and frames sent before still arrive. On network cards no
    /// frame passes when this returns, but the driver may report the carrier later.
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

    /// Plugs the cable in again. When this returns, the far port forwards. The near end may report its carrier later.
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
                    wait_until(TIMEOUT, forwards),
                    "{} of {} is not up {TIMEOUT:?} after it was plugged in",
                    self.far.interface,
                    self.name
                );
                timed(|| nic.set_near(true))?
            }
        };
        self.settle_port()?;
        Ok(change)
    }

    /// RTM_GETLINK makes the kernel process a carrier change of the port at once, which it may otherwise delay for a second.
    /// A real switch does not have this delay.
    fn settle_port(&self) -> Result<()> {
        self.far.namespace.link(&self.far.interface).map(drop)
    }

    /// Drops every frame in both directions while the carrier stays up.
    pub fn cut(&self) -> Result<Change> {
        timed(|| {
            self.cut_direction(Direction::Outbound)?;
            self.cut_direction(Direction::Inbound).map(drop)
        })
    }

    /// Drops every frame in one direction while the carrier stays up.
    pub fn cut_direction(&self, direction: Direction) -> Result<Change> {
        timed(|| match self.wire() {
            Some(wire) => {
                wire.cut(direction);
                Ok(())
            }
            None => self.far.namespace.netlink().drop_frames(&self.far.interface, direction),
        })
    }

    /// Drops packets of more than so many bytes in both directions, as a switch port with a smaller MTU. Only of veth pairs.
    pub fn drop_larger(&self, bytes: u32) -> Result<Change> {
        ensure!(self.is_veth(), "{} is no veth pair", self.name);
        timed(|| {
            let netlink = self.far.namespace.netlink();
            let drop = |direction| netlink.drop_larger(&self.far.interface, direction, bytes + ETHERNET);
            drop(Direction::Outbound)?;
            drop(Direction::Inbound)
        })
    }

    /// Drops this share of the frames in both directions, chosen at random. Only of veth pairs.
    pub fn lose(&self, percent: u8) -> Result<Change> {
        ensure!(self.is_veth(), "{} is no veth pair", self.name);
        timed(|| {
            let netlink = self.far.namespace.netlink();
            let drop = |direction| netlink.drop_share(&self.far.interface, direction, percent);
            drop(Direction::Outbound)?;
            drop(Direction::Inbound)
        })
    }

    /// Reverts every cut.
    pub fn restore(&self) -> Result<Change> {
        timed(|| match self.wire() {
            Some(wire) => {
                wire.restore();
                Ok(())
            }
            None => self.far.namespace.netlink().pass_frames(&self.far.interface),
        })
    }

    /// Removes the driver of the network card at the near end, and so its interface.
    pub fn unbind_driver(&self) -> Result<Unbound> {
        match &self.kind {
            Kind::Nic(nic) => Unbound::unbind(*nic, &self.near.namespace, &self.near.interface),
            Kind::Veth | Kind::Tap(_) => bail!("{} is not that of a network card", self.name),
        }
    }

    /// The carrier of the near end.
    pub fn carrier(&self) -> Result<bool> {
        Ok(self.near.namespace.link(&self.near.interface)?.carrier)
    }

    /// Waits until the carrier of the near end is up or down; an error after `timeout`.
    pub fn wait_carrier(&self, carrier: bool, timeout: Duration) -> Result<()> {
        let seen = wait_until(timeout, || self.carrier().is_ok_and(|now| now == carrier));
        ensure!(
            seen,
            "{} ({}) still {} carrier after {timeout:?}",
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
