//! How the veth pairs of a measurement are set up: offloads, queues, and where the stack handles what they receive.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::cable::End;
use lab::{Namespace, command};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd as _;

/// Queues of a device that has several.
const QUEUES: usize = 4;
/// Commands of linux/ethtool.h.
const GET_GRO: u32 = 0x2b;
const SET_GRO: u32 = 0x2c;

mod ioctl {
    // linux/sockios.h
    nix::ioctl_write_ptr_bad!(ethtool, 0x8946, libc::ifreq);
}

/// A kind of veth pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Veth {
    /// As `ip link add type veth` makes them: what they receive passes the backlog queue of a CPU.
    Default,
    /// With GRO at both ends, which makes the driver use NAPI instead of the backlog.
    Gro,
    /// The same with several queues, each with its own NAPI instance.
    GroQueues,
    /// With several queues, from which RPS distributes flows to the backlogs of all CPUs.
    RpsQueues,
}

impl Veth {
    /// All.
    pub const ALL: [Self; 4] = [Self::Default, Self::Gro, Self::GroQueues, Self::RpsQueues];

    /// Its name in the results.
    pub fn name(self) -> String {
        match self {
            Self::Default => "veth".into(),
            Self::Gro => "GRO (NAPI)".into(),
            Self::GroQueues => format!("GRO (NAPI), {QUEUES} queues"),
            Self::RpsQueues => format!("RPS, {QUEUES} queues"),
        }
    }

    /// Creates a pair, both ends up.
    pub fn create(self, near: &End, far: &End) -> Result<()> {
        let queues = match self {
            Self::Default | Self::Gro => String::new(),
            Self::GroQueues | Self::RpsQueues => format!("numtxqueues {QUEUES} numrxqueues {QUEUES}"),
        };
        near.namespace.ip(&format!(
            "link add {} {queues} type veth peer name {} {queues} netns {}",
            near.interface,
            far.interface,
            far.namespace.name()
        ))?;
        for end in [near, far] {
            let (namespace, interface) = (&end.namespace, end.interface.as_str());
            match self {
                Self::Default => {}
                Self::Gro | Self::GroQueues => set_gro(namespace, interface)?,
                Self::RpsQueues => set_rps(namespace, interface)?,
            }
            namespace.ip(&format!("link set dev {interface} up"))?;
        }
        Ok(())
    }
}

/// Enables GRO of a device, and checks that its driver has accepted it.
fn set_gro(namespace: &Namespace, interface: &str) -> Result<()> {
    let result = namespace.run(|| -> Result<bool> {
        ethtool(interface, SET_GRO, 1)?;
        Ok(ethtool(interface, GET_GRO, 0)? == 1)
    });
    let is_on = result.with_context(|| format!("cannot enable GRO of {interface}"))?;
    ensure!(is_on, "the driver of {interface} has not enabled GRO");
    Ok(())
}

/// A command of ethtool with one value, for a device of this thread's namespace. Returns the value afterwards.
fn ethtool(interface: &str, command: u32, value: u32) -> Result<u32> {
    /// struct ethtool_value of linux/ethtool.h
    #[repr(C)]
    struct Value {
        command: u32,
        value: u32,
    }
    let mut data = Value { command, value };
    // SAFETY: an ifreq of zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(interface.len() < request.ifr_name.len(), "{interface} is too long for the name of an interface");
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut data).cast();
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the descriptor is open, and the ifreq and the value that it points to outlive the call.
    unsafe { ioctl::ethtool(socket.as_raw_fd(), &raw const request) }?;
    Ok(data.value)
}

/// Has RPS distribute what each queue receives to all CPUs.
fn set_rps(namespace: &Namespace, interface: &str) -> Result<()> {
    let cpus = std::thread::available_parallelism()?.get().min(32);
    let mask = format!("{:x}", u32::MAX >> (32 - cpus));
    let path = |queue: usize| format!("/sys/class/net/{interface}/queues/rx-{queue}/rps_cpus");
    // `ip netns exec` mounts the sysfs of the namespace.
    let mut tee = Command::new("ip");
    tee.args(["netns", "exec", namespace.name(), "tee"]).args((0..QUEUES).map(path));
    command::run_with(&mut tee, &mask).map(drop)
}
