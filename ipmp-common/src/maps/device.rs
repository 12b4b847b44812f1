//! Network devices in the kernel, and how their state is read.

/// A network device in the kernel. If one of the three values no longer matches, the device was deleted or moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Device {
    /// Address of its `struct net_device`.
    pub net_device: u64,
    /// Address of the `struct net` it lives in.
    pub netns: u64,
    /// Interface index.
    pub ifindex: u32,
    /// In [`Watch`](super::Watch), of a member's own device: [`updelay_word`](super::updelay_word). Zero elsewhere.
    pub updelay: u32,
}

/// Offsets into `struct net_device` and `struct sk_buff`, from the kernel's BTF, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// `net_device.state`
    pub state: u32,
    /// `net_device.ifindex`
    pub ifindex: u32,
    /// `net_device.nd_net`
    pub nd_net: u32,
    /// `net_device.operstate`: a byte before Linux 6.8, an `unsigned int` since.
    pub operstate: u32,
    /// `sk_buff.dev`
    pub skb_dev: u32,
    /// `net_device.ptype_all`, the list of packet sockets for every protocol on the device; 0 where the kernel keeps it elsewhere.
    pub ptype_all: u32,
    /// `net_device.promiscuity`; 0: unknown.
    pub promiscuity: u32,
    /// `net_device.adj_list.upper`, the list of devices on top of the device; 0: unknown.
    pub upper: u32,
    /// `net_device.dev_addr`; 0: unknown.
    pub dev_addr: u32,
    /// `net.list`, the list of all network namespaces; 0: unknown.
    pub net_list: u32,
    /// `net.net_cookie`
    pub net_cookie: u32,
}

/// Maximum number of network namespaces whose cookies are read at once.
pub const MAX_NAMESPACES: usize = 1024;

/// Bits of `net_device.state`: `include/linux/netdevice.h`, `enum netdev_state_t`. Unchanged since Linux 2.6.
pub mod link_state {
    /// The device is up.
    pub const START: u64 = 1 << 0;
    /// It has not been removed from the bus.
    pub const PRESENT: u64 = 1 << 1;
    /// It has no carrier.
    pub const NOCARRIER: u64 = 1 << 2;
    /// It waits for an external event (802.1X).
    pub const DORMANT: u64 = 1 << 4;

    /// Whether a device in this state can transmit: egress checks it for every packet.
    #[inline(always)]
    pub const fn can_transmit(state: u64) -> bool {
        state & (START | PRESENT | NOCARRIER) == START | PRESENT
    }
    /// Whether it is operational, with its operational state (RFC 2863: 0 unknown, 6 up).
    #[inline(always)]
    pub const fn is_operational(state: u64, operstate: u8) -> bool {
        can_transmit(state) && state & DORMANT == 0 && (operstate == 0 || operstate == 6)
    }
}
