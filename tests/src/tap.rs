//! TAP members, whose carrier goes down atomically, unlike that of veth devices.
//!
//! Both ends of a wire are TAP devices: the member in the host's namespace, the port in the switch's. A thread (the
//! pump) forwards frames between them. The kernel deletes the devices when their descriptors are closed, so nothing is
//! left after a crash.
//!
//! Every wire delays frames as long as its pump is late, so a flow that moves to another member may be reordered. Tests
//! of loss use TAP members; tests of order use veth members, whose frames are delivered within the sender's call.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::cable::{Change, Direction};
use crate::clock;
use crate::namespace::Namespace;

/// Frames forwarded in one direction before the other direction is served.
const BATCH: usize = 64;
/// Longest frame: an Ethernet header, a VLAN tag, 64 KiB of payload.
const FRAME: usize = 18 + 65_536;
/// Length of a device's transmit ring, in frames. Long, because the pump may be late.
const RING: u32 = 10_000;

mod ioctl {
    // linux/if_tun.h. The argument of TUNSETIFF is an ifreq, though its number says int.
    nix::ioctl_write_ptr_bad!(
        set_interface,
        nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
        libc::ifreq
    );
    nix::ioctl_write_ptr!(set_carrier, b'T', 226, libc::c_int);
}

/// A TAP device. Dropping this value deletes it.
#[derive(Debug)]
pub struct Tap {
    name: String,
    file: File,
}

impl Tap {
    /// Creates a TAP device in a namespace, without packet information header and without offloads.
    pub fn create(namespace: &Namespace, name: &str) -> Result<Self> {
        ensure!(name.len() < libc::IFNAMSIZ, "{name} is longer than an interface name can be");
        let file = namespace
            .run(|| -> std::io::Result<File> {
                let mut options = OpenOptions::new();
                let file =
                    options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
                // SAFETY: zero is a value of every field of an ifreq.
                let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
                for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                    *to = from as libc::c_char;
                }
                request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
                // SAFETY: the descriptor is open and the ifreq outlives the call.
                unsafe { ioctl::set_interface(file.as_raw_fd(), &raw const request) }?;
                Ok(file)
            })
            .with_context(|| format!("cannot create TAP device {name} in {}", namespace.name()))?;
        namespace.ip(&format!("link set {name} txqueuelen {RING}"))?;
        Ok(Self { name: name.to_owned(), file })
    }

    /// Has the device receive a frame. The driver and the stack handle it in this call.
    pub fn deliver(&self, frame: &[u8]) -> Result<()> {
        let written = (&self.file).write(frame);
        written.map(drop).with_context(|| format!("cannot pass a frame to TAP device {}", self.name))
    }

    /// Takes a frame that the device has sent; `None`: it has sent none. Returns its length.
    pub fn take(&self, buffer: &mut [u8]) -> Option<usize> {
        (&self.file).read(buffer).ok()
    }

    /// Sets the carrier. An error if the device is down or deleted.
    pub fn set_carrier(&self, carrier: bool) -> Result<()> {
        let value = libc::c_int::from(carrier);
        // SAFETY: the descriptor is open and the value outlives the call.
        unsafe { ioctl::set_carrier(self.file.as_raw_fd(), &raw const value) }
            .with_context(|| format!("cannot set the carrier of TAP device {}", self.name))?;
        Ok(())
    }
}

/// State shared with the pump.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    pulled: AtomicBool,
    cut_outbound: AtomicBool,
    cut_inbound: AtomicBool,
    /// How often the pump has found the member's ring empty.
    drained: AtomicU64,
    forwarded_outbound: AtomicU64,
    forwarded_inbound: AtomicU64,
    dropped_outbound: AtomicU64,
    dropped_inbound: AtomicU64,
}

/// Frame counters of a wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Member to switch, delivered.
    pub outbound: u64,
    /// Switch to member, delivered.
    pub inbound: u64,
    /// Member to switch, dropped by the wire.
    pub dropped_outbound: u64,
    /// Switch to member, dropped by the wire.
    pub dropped_inbound: u64,
}

/// The wire between two TAP devices: a thread that reads frames from each device and writes them to the other.
#[derive(Debug)]
pub struct Wire {
    near: Arc<Tap>,
    far: Arc<Tap>,
    shared: Arc<Shared>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Connects two devices.
    pub fn join(near: Tap, far: Tap) -> Result<Self> {
        let (near, far) = (Arc::new(near), Arc::new(far));
        let shared = Arc::new(Shared::default());
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(EventFd::from_flags(flags).context("cannot create an eventfd")?);
        let pump = Pump { near: near.clone(), far: far.clone(), shared: shared.clone(), wake: wake.clone() };
        let thread = std::thread::Builder::new()
            .name(format!("wire {}", near.name))
            .spawn(move || pump.run())
            .context("cannot start the pump of a wire")?;
        Ok(Self { near, far, shared, wake, thread: Some(thread) })
    }

    /// Its frame counters.
    pub fn forwarded(&self) -> Forwarded {
        Forwarded {
            outbound: self.shared.forwarded_outbound.load(Relaxed),
            inbound: self.shared.forwarded_inbound.load(Relaxed),
            dropped_outbound: self.shared.dropped_outbound.load(Relaxed),
            dropped_inbound: self.shared.dropped_inbound.load(Relaxed),
        }
    }

    /// Passes a frame to the member as if it came from the cable: see [`Tap::deliver`].
    pub fn deliver(&self, frame: &[u8]) -> Result<()> {
        self.near.deliver(frame)
    }

    pub(crate) fn cut(&self, direction: Direction) {
        match direction {
            Direction::Outbound => self.shared.cut_outbound.store(true, SeqCst),
            Direction::Inbound => self.shared.cut_inbound.store(true, SeqCst),
        }
    }

    pub(crate) fn restore(&self) {
        self.shared.cut_outbound.store(false, SeqCst);
        self.shared.cut_inbound.store(false, SeqCst);
    }

    /// The member's carrier goes down atomically. Frames sent before still reach the switch, whose port then loses its
    /// carrier too.
    pub(crate) fn pull(&self) -> Result<Change> {
        let before = Instant::now();
        self.shared.pulled.store(true, SeqCst);
        self.near.set_carrier(false)?;
        let after = Instant::now();
        // Twice: a frame may have been on its way into the ring while the carrier changed.
        for _ in 0..2 {
            let seen = self.shared.drained.load(SeqCst);
            let drained = crate::wait_until(Duration::from_secs(2), || {
                self.wake_pump();
                self.shared.drained.load(SeqCst) >= seen + 2
            });
            ensure!(drained, "the wire of {} did not drain after its carrier loss", self.near.name);
        }
        self.far.set_carrier(false)?;
        Ok(Change { before, after })
    }

    pub(crate) fn replug(&self) -> Result<Change> {
        let before = Instant::now();
        self.far.set_carrier(true)?;
        self.near.set_carrier(true)?;
        self.shared.pulled.store(false, SeqCst);
        Ok(Change { before, after: Instant::now() })
    }

    fn wake_pump(&self) {
        // A full counter wakes the pump, too.
        let _ = self.wake.write(1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.wake_pump();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Pump {
    near: Arc<Tap>,
    far: Arc<Tap>,
    shared: Arc<Shared>,
    wake: Arc<EventFd>,
}

/// The result of forwarding one batch.
#[derive(PartialEq, Eq)]
enum Batch {
    Empty,
    More,
    Deleted,
}

impl Pump {
    fn run(&self) {
        clock::use_realtime_priority();
        let mut frame = vec![0; FRAME];
        let (mut near_deleted, mut far_deleted) = (false, false);
        while !self.shared.stop.load(SeqCst) {
            // A deleted device always polls as an error, so it is no longer polled.
            let mut waiting = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
            if !near_deleted {
                waiting.push(PollFd::new(self.near.file.as_fd(), PollFlags::POLLIN));
            }
            if !far_deleted {
                waiting.push(PollFd::new(self.far.file.as_fd(), PollFlags::POLLIN));
            }
            if poll(&mut waiting, PollTimeout::NONE).is_err() {
                continue;
            }
            let _ = self.wake.read();
            loop {
                let outbound = if near_deleted { Batch::Empty } else { self.outbound(&mut frame) };
                let inbound = if far_deleted { Batch::Empty } else { self.inbound(&mut frame) };
                if outbound != Batch::More {
                    self.shared.drained.fetch_add(1, SeqCst);
                }
                near_deleted |= outbound == Batch::Deleted;
                far_deleted |= inbound == Batch::Deleted;
                if (outbound != Batch::More && inbound != Batch::More) || self.shared.stop.load(SeqCst) {
                    break;
                }
            }
        }
    }

    fn outbound(&self, frame: &mut [u8]) -> Batch {
        let shared = &self.shared;
        forward(&self.near, &self.far, frame, &shared.forwarded_outbound, &shared.dropped_outbound, || {
            shared.cut_outbound.load(Relaxed)
        })
    }

    fn inbound(&self, frame: &mut [u8]) -> Batch {
        let shared = &self.shared;
        forward(&self.far, &self.near, frame, &shared.forwarded_inbound, &shared.dropped_inbound, || {
            shared.cut_inbound.load(Relaxed) || shared.pulled.load(Relaxed)
        })
    }
}

fn forward(
    from: &Tap,
    to: &Tap,
    frame: &mut [u8],
    forwarded: &AtomicU64,
    dropped: &AtomicU64,
    cut: impl Fn() -> bool,
) -> Batch {
    for _ in 0..BATCH {
        let length = match (&from.file).read(frame) {
            Ok(length) => length,
            Err(error) => match error.raw_os_error() {
                // EBADFD: the device was deleted. EIO and the rest: it is down.
                Some(libc::EBADFD | libc::EBADF) => return Batch::Deleted,
                _ => return Batch::Empty,
            },
        };
        let delivered = !cut() && (&to.file).write(&frame[..length]).is_ok();
        if delivered { forwarded } else { dropped }.fetch_add(1, Relaxed);
    }
    Batch::More
}
