//! Requests for one interface by `ioctl`. Reading names, flags and MTUs takes no `rtnl` lock, which another program may hold for long, and a
//! tenth of the time of a netlink message.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rtnetlink::packet_route::link::LinkFlags;

/// A socket for such requests, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Ioctl(OwnedFd);

impl Ioctl {
    /// Opens a socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?))
    }

    /// The present name of an interface, if it exists.
    pub fn name(&self, ifindex: u32) -> Option<String> {
        let mut request = request_for("")?;
        request.ifr_ifru.ifru_ifindex = ifindex.try_into().ok()?;
        self.call(libc::SIOCGIFNAME, &mut request).ok()?;
        let bytes = request.ifr_name.map(|byte| byte as u8);
        let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// The flags of an interface, if it exists.
    pub fn flags(&self, name: &str) -> Option<LinkFlags> {
        let mut request = request_for(name)?;
        self.call(libc::SIOCGIFFLAGS, &mut request).ok()?;
        // SAFETY: what SIOCGIFFLAGS writes.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        // The flags that have more than these bits are not among them.
        Some(LinkFlags::from_bits_retain(u32::from(flags as u16)))
    }

    /// The MTU of an interface in bytes, if it exists.
    pub fn mtu(&self, name: &str) -> Option<u32> {
        let mut request = request_for(name)?;
        self.call(libc::SIOCGIFMTU, &mut request).ok()?;
        // SAFETY: what SIOCGIFMTU writes.
        unsafe { request.ifr_ifru.ifru_mtu }.try_into().ok()
    }

    /// Makes a request. A pointer in it must be to what the kernel reads and writes for this number.
    pub(super) fn call(&self, number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: the descriptor is open; the kernel reads and writes an ifreq, whose name is terminated.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), number as _, &raw mut *request) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// A request for the interface of this name, otherwise zeros; `None`: no interface has so long a name.
pub(super) fn request_for(name: &str) -> Option<libc::ifreq> {
    // SAFETY: integers, arrays of them, and a pointer, which may be null.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Links, testing::in_namespace};

    #[test]
    fn name_flags_and_mtu_are_those_that_netlink_reports() {
        in_namespace(|links: Links| async move {
            let (pair, _) = links.add_pair("eth0", "far0").await;
            links.set_mtu(pair.ifindex, "eth0", 1400).await.unwrap();
            let ioctl = Ioctl::open().unwrap();
            let read = |ifindex| {
                let name = ioctl.name(ifindex).unwrap();
                (ioctl.flags(&name), ioctl.mtu(&name), name)
            };
            let reported = async |ifindex| {
                let device = links.device(ifindex).await.unwrap().unwrap();
                // IFF_LOWER_UP and the later ones have no room in an ifreq.
                let flags = LinkFlags::from_bits_retain(device.flags.bits() & 0xffff);
                (Some(flags), Some(device.mtu), device.name)
            };
            assert_eq!(read(pair.ifindex), reported(pair.ifindex).await);
            assert_eq!(ioctl.mtu("eth0"), Some(1400));
            assert!(ioctl.flags("eth0").unwrap().contains(LinkFlags::Up | LinkFlags::Multicast));
            links.set_up(&pair, false).await.unwrap();
            assert_eq!(read(pair.ifindex), reported(pair.ifindex).await);
            assert!(!ioctl.flags("eth0").unwrap().contains(LinkFlags::Up));
        });
    }

    #[test]
    fn interface_that_does_not_exist_has_neither_name_nor_flags() {
        in_namespace(|_| async {
            let ioctl = Ioctl::open().unwrap();
            for ifindex in [0, 9999, u32::MAX] {
                assert_eq!(ioctl.name(ifindex), None, "{ifindex}");
            }
            for name in ["", "absent0", "of-sixteen-bytes"] {
                assert_eq!((ioctl.flags(name), ioctl.mtu(name)), (None, None), "{name}");
            }
        });
    }
}
