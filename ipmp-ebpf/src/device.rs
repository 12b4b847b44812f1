//! Reading a `struct net_device`: whether it is still the same device, and whether it has a carrier.
//!
//! When a device is deleted, its memory may be reused. So every read of the state includes interface index and network namespace, and
//! the state is valid only if both still match. Reads of an unmapped address return an error. See
//! `docs/design/leaving-and-returning.md`.
//!
//! Where the kernel has `bpf_rdonly_cast` (Linux 6.2), a read is a load instruction. Before that it is a call of
//! `bpf_probe_read_kernel`, which takes as long as the rest of egress.

use core::{
    ffi::c_void,
    mem::{MaybeUninit, transmute},
};

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_loop, bpf_probe_read_kernel},
};
use ipmp_common::{
    address::Mac,
    maps::{Device, MAX_NAMESPACES, RDONLY_CAST},
};

/// BTF type of `struct net_device`, for the cast; 0 where the kernel has no cast.
#[unsafe(no_mangle)]
static NET_DEVICE: Global<u32> = Global::new(0);
/// The same of `struct sk_buff`.
#[unsafe(no_mangle)]
static SK_BUFF: Global<u32> = Global::new(0);
/// Offsets in a `net_device`.
#[unsafe(no_mangle)]
static OFF_STATE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_IFINDEX: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_ND_NET: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_OPERSTATE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_PTYPE_ALL: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_PROMISCUITY: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_UPPER: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_DEV_ADDR: Global<u32> = Global::new(0);
/// Offset of `dev` in a `sk_buff`.
#[unsafe(no_mangle)]
static OFF_SKB_DEV: Global<u32> = Global::new(0);

/// Offsets in a `net`.
#[unsafe(no_mangle)]
static OFF_NET_LIST: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_NET_COOKIE: Global<u32> = Global::new(0);

/// `bpf_rdonly_cast`: the object as a readable pointer. rustc emits no relocation for a kernel function, so this calls an
/// unused helper number, which user space replaces by the function.
///
/// # Safety
/// Reads through the result may return any bytes.
#[inline(always)]
unsafe fn cast(object: u64, kind: u32) -> *const u8 {
    // SAFETY: the number of a call, as for every helper.
    let function: unsafe extern "C" fn(u64, u64) -> *const u8 = unsafe { transmute(RDONLY_CAST as usize) };
    // SAFETY: the verifier knows the function.
    unsafe { function(object, u64::from(kind)) }
}

/// Reads a `T` of a `net_device`.
///
/// # Safety
/// `T` must be an integer: any bytes may be returned.
#[inline(always)]
unsafe fn field<T: Copy>(net_device: u64, offset: u32) -> Option<T> {
    // SAFETY: the caller's.
    unsafe { load(net_device, &NET_DEVICE, offset) }
}

/// Reads a `T` of an object of this type.
///
/// # Safety
/// As of [`field`].
#[inline(always)]
unsafe fn load<T: Copy>(object: u64, kind: &Global<u32>, offset: u32) -> Option<T> {
    if kind.load() != 0 {
        // SAFETY: the verifier checks the offset against the type; a fault reads as zero.
        Some(unsafe { cast(object, kind.load()).add(offset as usize).cast::<T>().read_volatile() })
    } else {
        // SAFETY: the caller's.
        unsafe { read(object + u64::from(offset)) }
    }
}

/// Reads a `T` of kernel memory.
///
/// # Safety
/// `T` must be an integer: any bytes may be returned.
#[inline(always)]
unsafe fn read<T: Copy>(at: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes size_of::<T>() bytes, and checks the source itself.
    let error =
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, at as *const _) };
    // SAFETY: the helper wrote all of it (zeros when it failed), and T is an integer.
    if error == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// `net_device.state`, if it is still the same device.
#[inline(always)]
pub fn state(device: &Device) -> Option<u64> {
    // SAFETY: integers.
    let (state, ifindex, netns): (u64, u32, u64) = unsafe {
        (
            field(device.net_device, OFF_STATE.load())?,
            field(device.net_device, OFF_IFINDEX.load())?,
            field(device.net_device, OFF_ND_NET.load())?,
        )
    };
    (ifindex == device.ifindex && netns == device.netns).then_some(state)
}

/// Whether the device is still in the same network namespace.
#[inline(always)]
pub fn is_at_home(device: &Device) -> bool {
    // SAFETY: an integer.
    unsafe { field::<u64>(device.net_device, OFF_ND_NET.load()) == Some(device.netns) }
}

/// Whether a packet was received by this device.
#[inline(always)]
pub fn has_received(device: &Device, skb: *const c_void) -> bool {
    // SAFETY: an integer; the program's context is the address of the `sk_buff` itself.
    unsafe { load::<u64>(skb as u64, &SK_BUFF, OFF_SKB_DEV.load()) == Some(device.net_device) }
}

/// Whether a packet socket for every protocol is bound to this device: its list is not empty, so it does not point to itself. Sockets
/// for all devices are in another list.
#[inline(always)]
pub fn is_captured(device: &Device) -> bool {
    let offset = OFF_PTYPE_ALL.load();
    // SAFETY: an integer.
    let first = unsafe { field::<u64>(device.net_device, offset) };
    offset != 0
        && first.is_some_and(|first| first != 0 && first != device.net_device + u64::from(offset))
        && state(device).is_some()
}

/// Whether neither a packet socket for every protocol nor promiscuous mode nor another device uses what the device receives: no VLAN,
/// macvlan, bridge or the like on top, in whatever network namespace. False if it is not the same device any more.
#[inline(always)]
pub fn is_used_by_group_alone(device: &Device) -> bool {
    let (captures, upper) = (OFF_PTYPE_ALL.load(), OFF_UPPER.load());
    // SAFETY: integers. A list that is empty points to itself.
    unsafe {
        field(device.net_device, captures) == Some(device.net_device + u64::from(captures))
            && field(device.net_device, upper) == Some(device.net_device + u64::from(upper))
            && field(device.net_device, OFF_PROMISCUITY.load()) == Some(0u32)
            && state(device).is_some()
    }
}

/// The device's MAC.
#[inline(always)]
pub fn mac(device: &Device) -> Option<Mac> {
    // SAFETY: integers. `dev_addr` points to MAX_ADDR_LEN bytes.
    let bytes: u64 = unsafe { read(field(device.net_device, OFF_DEV_ADDR.load())?)? };
    Some(Mac::in_lowest_bits(u64::from_le(bytes)))
}

/// The device's operational state (RFC 2863).
#[inline(always)]
pub fn operstate(device: &Device) -> Option<u8> {
    // A byte before Linux 6.8, an unsigned int since: on a little-endian machine its first byte either way.
    // SAFETY: an integer.
    unsafe { field(device.net_device, OFF_OPERSTATE.load()) }
}

/// The device of a packet.
#[inline(always)]
pub fn of_packet(skb: *const c_void) -> Option<Device> {
    // SAFETY: integers; the program's context is the address of the `sk_buff` itself.
    unsafe {
        let net_device: u64 = read(skb.cast::<u8>().add(OFF_SKB_DEV.load() as usize) as u64)?;
        let netns: u64 = read(net_device + OFF_ND_NET.load() as u64)?;
        let ifindex: u32 = read(net_device + OFF_IFINDEX.load() as u64)?;
        Some(Device { net_device, netns, ifindex, updelay: 0 })
    }
}

/// Writes the cookies of all network namespaces, from that of the packet on, and returns their number; 0 if not all were found. One of
/// them is no cookie: it is read beside the head of the list, which is in no namespace.
///
/// The kernel changes the list with `list_add_tail_rcu` and `list_del_rcu`, and programs run in a read-side critical section of RCU.
///
/// # Safety
/// There must be room for [`MAX_NAMESPACES`] cookies.
#[inline(always)]
pub unsafe fn namespaces(skb: *const c_void, cookies: *mut u64) -> i32 {
    let to_cookie = u64::from(OFF_NET_COOKIE.load()).wrapping_sub(u64::from(OFF_NET_LIST.load()));
    let Some(device) = of_packet(skb) else { return 0 };
    let first = device.netns + u64::from(OFF_NET_LIST.load());
    let mut walk = Walk { node: first, first, to_cookie, cookies };
    // The kernel verifies the body of a `for` once for each turn, the callback once.
    // SAFETY: the callback gets the address of `walk`.
    let turns = unsafe { bpf_loop(MAX_NAMESPACES as u32, step as *mut c_void, (&raw mut walk).cast(), 0) };
    if walk.node == first { turns as i32 } else { 0 }
}

/// The list of network namespaces while it is read.
struct Walk {
    node: u64,
    first: u64,
    to_cookie: u64,
    cookies: *mut u64,
}

/// The callback of `bpf_loop`: one namespace. Not zero at the end of the list, or where it cannot be read.
extern "C" fn step(place: u64, walk: *mut Walk) -> i64 {
    // SAFETY: the `Walk` of `namespaces`, with room for as many cookies; integers.
    unsafe {
        let walk = &mut *walk;
        let cookie = read(walk.node.wrapping_add(walk.to_cookie)).unwrap_or(0);
        *walk.cookies.add(place as usize % MAX_NAMESPACES) = cookie;
        walk.node = read(walk.node).unwrap_or(0);
        i64::from(walk.node == walk.first || walk.node == 0)
    }
}
