//! TAP members: a device whose carrier goes atomically, unlike veth's, and the pump that is its wire.
//!
//! Both ends of the wire are TAP devices: the member in the host's namespace, the port in the switch's. A thread
//! carries frames between them. The devices die with their descriptors, so nothing is left of them after a crash.
//!
//! Every wire has its own delay, as long as its pump is late: a flow that changes its member may overtake itself. Loss
//! is best judged on TAP members, order on veth members, whose frames are delivered within the sender's call.

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

/// Frames carried one way before the other way gets its turn.
const BATCH: usize = 64;
/// Longest frame: an Ethernet header, a VLAN tag, 64 KiB of payload.
const FRAME: usize = 18 + 65_536;
/// Length of a device's transmit ring. The pump shares two cores with everything else and may be late.
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

/// A TAP device: it exists as long as this value.
#[derive(Debug)]
pub struct Tap {
    name: String,
    file: File,
}

impl Tap {
    /// Makes a TAP device in a namespace. Frames are plain: no header before them, no segmentation left to us.
    pub fn create(namespace: &Namespace, name: &str) -> Result<Self> {
        ensure!(name.len() < libc::IFNAMSIZ, "{name} is longer than an interface name can be");
        let file = namespace
            .run(|| -> std::io::Result<File> {
                let mut options = OpenOptions::new();
                let file =
                    options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
                // SAFETY: an ifreq is plain bytes, for which zero is a value.
                let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
                for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                    *to = from as libc::c_char;
                }
                request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
                // SAFETY: the descriptor is open and the ifreq outlives the call.
                unsafe { ioctl::set_interface(file.as_raw_fd(), &raw const request) }?;
                Ok(file)
            })
            .with_context(|| format!("cannot make TAP device {name} in {}", namespace.name()))?;
        namespace.ip(&format!("link set {name} txqueuelen {RING}"))?;
        Ok(Self { name: name.to_owned(), file })
    }

    /// Gives or takes the carrier. A device that is down or deleted refuses.
    pub fn set_carrier(&self, carrier: bool) -> Result<()> {
        let value = libc::c_int::from(carrier);
        // SAFETY: the descriptor is open and the value outlives the call.
        unsafe { ioctl::set_carrier(self.file.as_raw_fd(), &raw const value) }
            .with_context(|| format!("cannot set the carrier of TAP device {}", self.name))?;
        Ok(())
    }
}

/// What the pump and its owner share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    pulled: AtomicBool,
    cut_outbound: AtomicBool,
    cut_inbound: AtomicBool,
    /// How often the pump found the member's ring empty.
    drained: AtomicU64,
    carried_outbound: AtomicU64,
    carried_inbound: AtomicU64,
    dropped_outbound: AtomicU64,
    dropped_inbound: AtomicU64,
}

/// Frames that a wire has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Member to switch, delivered.
    pub outbound: u64,
    /// Switch to member, delivered.
    pub inbound: u64,
    /// Member to switch, lost in the wire.
    pub dropped_outbound: u64,
    /// Switch to member, lost in the wire.
    pub dropped_inbound: u64,
}

/// The wire between two TAP devices: a thread that reads frames from one and writes them to the other.
#[derive(Debug)]
pub struct Wire {
    near: Arc<Tap>,
    far: Arc<Tap>,
    shared: Arc<Shared>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Joins two devices.
    pub fn join(near: Tap, far: Tap) -> Result<Self> {
        let (near, far) = (Arc::new(near), Arc::new(far));
        let shared = Arc::new(Shared::default());
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(EventFd::from_flags(flags).context("cannot make an eventfd")?);
        let pump = Pump { near: near.clone(), far: far.clone(), shared: shared.clone(), wake: wake.clone() };
        let thread = std::thread::Builder::new()
            .name(format!("wire {}", near.name))
            .spawn(move || pump.run())
            .context("cannot start the pump of a wire")?;
        Ok(Self { near, far, shared, wake, thread: Some(thread) })
    }

    /// What it has carried and lost.
    pub fn carried(&self) -> Carried {
        Carried {
            outbound: self.shared.carried_outbound.load(Relaxed),
            inbound: self.shared.carried_inbound.load(Relaxed),
            dropped_outbound: self.shared.dropped_outbound.load(Relaxed),
            dropped_inbound: self.shared.dropped_inbound.load(Relaxed),
        }
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

    /// The member's carrier goes in one step; frames that were sent before it went still reach the switch, whose
    /// port goes dark after them.
    pub(crate) fn pull(&self) -> Result<Change> {
        let before = Instant::now();
        self.shared.pulled.store(true, SeqCst);
        self.near.set_carrier(false)?;
        let after = Instant::now();
        // Twice: a frame may have been on its way into the ring while the carrier went.
        for _ in 0..2 {
            let seen = self.shared.drained.load(SeqCst);
            let drained = clock::wait_until(Duration::from_secs(2), || {
                self.poke();
                self.shared.drained.load(SeqCst) >= seen + 2
            });
            ensure!(drained, "the wire of {} did not run empty after its carrier went", self.near.name);
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

    fn poke(&self) {
        // A full counter wakes the pump just as well.
        let _ = self.wake.write(1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.poke();
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

/// How carrying one batch ended.
#[derive(PartialEq, Eq)]
enum Batch {
    Empty,
    More,
    Gone,
}

impl Pump {
    fn run(&self) {
        clock::keep_time();
        let mut frame = vec![0; FRAME];
        let (mut near_gone, mut far_gone) = (false, false);
        while !self.shared.stop.load(SeqCst) {
            // A deleted device polls as an error for ever: from then on it is no longer asked.
            let mut waiting = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
            if !near_gone {
                waiting.push(PollFd::new(self.near.file.as_fd(), PollFlags::POLLIN));
            }
            if !far_gone {
                waiting.push(PollFd::new(self.far.file.as_fd(), PollFlags::POLLIN));
            }
            if poll(&mut waiting, PollTimeout::NONE).is_err() {
                continue;
            }
            let _ = self.wake.read();
            loop {
                let outbound = if near_gone { Batch::Empty } else { self.outbound(&mut frame) };
                let inbound = if far_gone { Batch::Empty } else { self.inbound(&mut frame) };
                if outbound != Batch::More {
                    self.shared.drained.fetch_add(1, SeqCst);
                }
                near_gone |= outbound == Batch::Gone;
                far_gone |= inbound == Batch::Gone;
                if (outbound != Batch::More && inbound != Batch::More) || self.shared.stop.load(SeqCst) {
                    break;
                }
            }
        }
    }

    fn outbound(&self, frame: &mut [u8]) -> Batch {
        let shared = &self.shared;
        carry(&self.near, &self.far, frame, &shared.carried_outbound, &shared.dropped_outbound, || {
            shared.cut_outbound.load(Relaxed)
        })
    }

    fn inbound(&self, frame: &mut [u8]) -> Batch {
        let shared = &self.shared;
        carry(&self.far, &self.near, frame, &shared.carried_inbound, &shared.dropped_inbound, || {
            shared.cut_inbound.load(Relaxed) || shared.pulled.load(Relaxed)
        })
    }
}

fn carry(
    from: &Tap,
    to: &Tap,
    frame: &mut [u8],
    carried: &AtomicU64,
    dropped: &AtomicU64,
    cut: impl Fn() -> bool,
) -> Batch {
    for _ in 0..BATCH {
        let length = match (&from.file).read(frame) {
            Ok(length) => length,
            Err(error) => match error.raw_os_error() {
                // EBADFD: the device was deleted. EIO and the rest: it is down.
                Some(libc::EBADFD | libc::EBADF) => return Batch::Gone,
                _ => return Batch::Empty,
            },
        };
        let delivered = !cut() && (&to.file).write(&frame[..length]).is_ok();
        if delivered { carried } else { dropped }.fetch_add(1, Relaxed);
    }
    Batch::More
}
