//! Reading a `struct net_device`: is it still the one we know, and has it a carrier?
//!
//! The kernel forgets a device's address when the device goes; its memory may then be anything. So every look
//! reads the state together with the interface index and the network namespace, and believes the state only if
//! both are what they were. `bpf_probe_read_kernel` fails softly on an address that is no longer mapped.

use core::mem::MaybeUninit;

use aya_ebpf::{Global, helpers::generated::bpf_probe_read_kernel};
use ipmp_common::maps::Device;

/// Most bytes of a `net_device` that are fetched at once: they lie on a stack of 512 bytes for all calls together.
pub const SPAN: usize = 112;

/// Offset of the first of `state`, `ifindex` and `nd_net` in a `net_device`, and bytes from there to the end of
/// the last; 0 bytes if they lie too far apart for one read, as they do before Linux 6.8.
#[unsafe(no_mangle)]
static SPAN_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static SPAN_LEN: Global<u32> = Global::new(0);
/// Offsets in a `net_device`.
#[unsafe(no_mangle)]
static OFF_STATE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_IFINDEX: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_ND_NET: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_OPERSTATE: Global<u32> = Global::new(0);
/// Offset of `dev` in a `sk_buff`.
#[unsafe(no_mangle)]
static OFF_SKB_DEV: Global<u32> = Global::new(0);

/// Reads a `T` of kernel memory.
///
/// # Safety
/// `T` must be an integer: any bytes may come back.
#[inline(always)]
pub unsafe fn read<T: Copy>(at: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes size_of::<T>() bytes, and checks the source itself.
    let error =
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, at as *const _) };
    // SAFETY: the helper wrote all of it (zeros when it failed), and T is an integer.
    if error == 0 { Some(unsafe { value.assume_init() }) } else { None }
}

/// The device's state word, if it is still the device that we know.
#[inline(always)]
pub fn state(device: &Device) -> Option<u64> {
    let (state, ifindex, netns): (u64, u32, u64);
    if SPAN_LEN.load() == 0 {
        // SAFETY: integers.
        unsafe {
            state = read(device.net_device + OFF_STATE.load() as u64)?;
            ifindex = read(device.net_device + OFF_IFINDEX.load() as u64)?;
            netns = read(device.net_device + OFF_ND_NET.load() as u64)?;
        }
    } else {
        let mut bytes = MaybeUninit::<[u64; SPAN / 8]>::uninit();
        let at = SPAN_AT.load();
        let from = (device.net_device + at as u64) as *const _;
        // SAFETY: user space sets SPAN_LEN to at most SPAN; the verifier, which sees the constant, holds us to it.
        if unsafe { bpf_probe_read_kernel(bytes.as_mut_ptr().cast(), SPAN_LEN.load(), from) } != 0 {
            return None;
        }
        let bytes = bytes.as_ptr().cast::<u8>();
        // SAFETY: the three offsets lie in the span that was read, again under the verifier's eyes.
        unsafe {
            state = bytes.add((OFF_STATE.load() - at) as usize).cast::<u64>().read();
            ifindex = bytes.add((OFF_IFINDEX.load() - at) as usize).cast::<u32>().read();
            netns = bytes.add((OFF_ND_NET.load() - at) as usize).cast::<u64>().read();
        }
    }
    (ifindex == device.ifindex && netns == device.netns).then_some(state)
}

/// Whether the device is still in the network namespace that we know it in.
#[inline(always)]
pub fn is_at_home(device: &Device) -> bool {
    // SAFETY: an integer.
    unsafe { read::<u64>(device.net_device + OFF_ND_NET.load() as u64) == Some(device.netns) }
}

/// The device's operational state (RFC 2863).
#[inline(always)]
pub fn operstate(device: &Device) -> Option<u8> {
    // A byte before Linux 6.8, an unsigned int since: on a little-endian machine its first byte either way.
    // SAFETY: an integer.
    unsafe { read(device.net_device + OFF_OPERSTATE.load() as u64) }
}

/// The device of a packet.
#[inline(always)]
pub fn of_packet(skb: *const core::ffi::c_void) -> Option<Device> {
    // SAFETY: integers; the program's context is the address of the `sk_buff` itself.
    unsafe {
        let net_device: u64 = read(skb.cast::<u8>().add(OFF_SKB_DEV.load() as usize) as u64)?;
        let netns: u64 = read(net_device + OFF_ND_NET.load() as u64)?;
        let ifindex: u32 = read(net_device + OFF_IFINDEX.load() as u64)?;
        Some(Device { net_device, netns, ifindex, pad: 0 })
    }
}
