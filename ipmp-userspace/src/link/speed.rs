//! Link speed: `SIOCETHTOOL` with `ETHTOOL_GSET`, which the kernel answers for every driver that knows its speed.

use super::ioctl::{Ioctl, request_for};

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
    let mut command = EthtoolCmd { cmd: ETHTOOL_GSET, ..Default::default() };
    let mut request = request_for(name)?;
    // It outlives the call and has the size that the kernel writes.
    request.ifr_ifru.ifru_data = (&raw mut command).cast();
    Ioctl::open().ok()?.call(libc::SIOCETHTOOL, &mut request).ok()?;
    let speed = u32::from(command.speed_hi) << 16 | u32::from(command.speed);
    (!matches!(speed, 0 | 0xffff | u32::MAX)).then_some(speed)
}
