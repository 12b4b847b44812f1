//! Link speed: `SIOCETHTOOL` with `ETHTOOL_GSET`, which the kernel answers for every driver that knows its speed.

use std::{mem, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `ETHTOOL_GSET` of include/uapi/linux/ethtool.h.
const ETHTOOL_GSET: u32 = 1;

/// `struct ethtool_cmd` of include/uapi/linux/ethtool.h.
#[repr(C)]
#[derive(Default)]
struct EthtoolCmd {
    cmd: u32,
    supported: u32,
    advertising: u32,
    speed: u16,
    duplex: u8,
    port: u8,
    phy_address: u8,
    transceiver: u8,
    autoneg: u8,
    mdio_support: u8,
    maxtxpkt: u32,
    maxrxpkt: u32,
    speed_hi: u16,
    eth_tp_mdix: u8,
    eth_tp_mdix_ctrl: u8,
    lp_advertising: u32,
    reserved: [u32; 2],
}

/// Speed of an interface in Mbit/s, if its driver knows it now.
pub fn speed(name: &str) -> Option<u32> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let mut command = EthtoolCmd { cmd: ETHTOOL_GSET, ..Default::default() };
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut command).cast();
    // SAFETY: the name is terminated, and the data points to a command that outlives the call and has the size
    // that the kernel writes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    let speed = u32::from(command.speed_hi) << 16 | u32::from(command.speed);
    (result == 0 && !matches!(speed, 0 | 0xffff | u32::MAX)).then_some(speed)
}
