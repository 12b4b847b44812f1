//! The multicast filters of devices: which multicast MACs each lets in.
//!
//! `/proc/net/dev_mcast` has every device's list, with the entries of all users: IPv4, IPv6, a packet socket, a device
//! stacked on top. Netlink has no such list before Linux 6.15, and then one of IP groups alone. The file speaks of the
//! network namespace of the thread whose it is.
//!
//! An entry of `SIOCADDMULTI` exists once, however often it is requested, and stays when the process that requested it
//! has ended: a member continues to receive without the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
};

use super::{
    Error, Mac,
    ioctl::{Ioctl, request_for},
};

/// The lists of the devices of the calling thread's network namespace.
const LISTS: &str = "/proc/thread-self/net/dev_mcast";

/// The multicast MACs that one device lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Multicast {
    /// All of them.
    pub all: BTreeSet<Mac>,
    /// Those that were requested by [`accept`], by us or by hand (`ip maddress add`).
    pub requested: BTreeSet<Mac>,
}

/// The lists of all devices that have one, by interface index.
pub fn lists() -> Result<BTreeMap<u32, Multicast>, Error> {
    match fs::read_to_string(LISTS) {
        Ok(text) => Ok(parse(&text)),
        Err(source) => Err(Error::Kernel { what: format!("read {LISTS}"), source }),
    }
}

/// Reads lines of an interface index, a name, two counts and a MAC. Lines without a MAC of six bytes are left out.
pub fn parse(text: &str) -> BTreeMap<u32, Multicast> {
    let mut lists: BTreeMap<u32, Multicast> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [index, _, _, requested, mac] = words[..] else { continue };
        let (Ok(index), Some(mac)) = (index.parse(), parse_mac(mac)) else { continue };
        let list = lists.entry(index).or_default();
        list.all.insert(mac);
        if requested != "0" {
            list.requested.insert(mac);
        }
    }
    lists
}

/// Twelve hexadecimal digits.
fn parse_mac(digits: &str) -> Option<Mac> {
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 12)?;
    let [_, _, mac @ ..] = number.to_be_bytes();
    Some(mac)
}

/// Lets a device receive what is sent to a multicast MAC. A device without a filter receives it anyway.
pub fn accept(ifindex: u32, mac: Mac) -> Result<(), Error> {
    match request(ifindex, mac, libc::SIOCADDMULTI) {
        // The kernel's error for a driver without a multicast filter.
        Err(error) if error.errno() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// Takes [`accept`] back. That there is nothing to take back is no error.
pub fn refuse(ifindex: u32, mac: Mac) -> Result<(), Error> {
    match request(ifindex, mac, libc::SIOCDELMULTI) {
        Err(error) if error.is_missing() || error.errno() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

fn request(ifindex: u32, mac: Mac, number: libc::c_ulong) -> Result<(), Error> {
    let verb = if number == libc::SIOCADDMULTI { "let in" } else { "no longer let in" };
    let failed = |name: &str, source: io::Error| Error::Kernel {
        what: format!("have {name} {verb} what is sent to {}", super::show_mac(mac)),
        source,
    };
    let here = format!("interface {ifindex}");
    let ioctl = Ioctl::open().map_err(|error| failed(&here, error))?;
    let missing = |name: &str| failed(name, io::Error::from_raw_os_error(libc::ENODEV));
    let name = ioctl.name(ifindex).ok_or_else(|| missing(&here))?;
    let mut request = request_for(&name).ok_or_else(|| missing(&name))?;
    // SAFETY: all zeros so far, which is a socket address; zero is also AF_UNSPEC, the family that the kernel wants here.
    let address = unsafe { &mut request.ifr_ifru.ifru_hwaddr };
    for (place, byte) in address.sa_data.iter_mut().zip(mac) {
        *place = byte as libc::c_char;
    }
    ioctl.call(number, &mut request).map_err(|error| failed(&name, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MDNS: Mac = [0x01, 0, 0x5e, 0, 0, 0xfb];
    const NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];

    #[test]
    fn a_list_is_read_by_device_and_by_who_asked() {
        // As Linux 6.18 prints it; a tunnel has addresses of four bytes.
        let text = "2    eth0            1     0     333300000001\n\
                    2    eth0            1     1     01005e0000fb\n\
                    4    tunl0           1     0     e0000001\n\
                    11   production0     2     0     333300000001\n";
        let lists = parse(text);
        assert_eq!(lists.keys().copied().collect::<Vec<_>>(), [2, 11]);
        assert_eq!(lists[&2].all, BTreeSet::from([MDNS, NODES]));
        assert_eq!(lists[&2].requested, BTreeSet::from([MDNS]));
        assert_eq!(lists[&11].requested, BTreeSet::new());
    }

    #[test]
    fn no_text_is_read_as_what_it_is_not() {
        for text in [
            "",
            "\n",
            "2 eth0 1 0\n",
            "x eth0 1 0 333300000001\n",
            "2 eth0 1 0 3333000000zz\n",
            "2 eth0 1 0 1\n",
        ] {
            assert_eq!(parse(text), BTreeMap::new(), "{text:?}");
        }
    }
}
