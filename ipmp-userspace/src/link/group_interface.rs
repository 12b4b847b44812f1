//! The group interface: a `dummy` where the kernel has it, else one end of a `veth` whose other end is never used.

use std::{fs, io};

use rtnetlink::{LinkDummy, LinkMessageBuilder, LinkUnspec, LinkVeth, packet_route::link::LinkMessage};

use super::{Device, Error, Links, sysctl};

/// The interface that owns a group's data addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInterface {
    /// Name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// MAC: locally administered, stable over restarts, and never seen on a wire.
    pub mac: [u8; 6],
    /// Of a veth: name and index of its far end, whose being up is the carrier.
    far: Option<(String, u32)>,
}

impl GroupInterface {
    /// Creates it: up, without carrier, with the settings of a group interface. Nothing is left behind on an error.
    pub async fn create(links: &Links, name: &str, groupname: &str, namespace: &str) -> Result<Self, Error> {
        let (mac, far) =
            identity(&links.devices()?, &machine(name, |path| fs::read_to_string(path))?, namespace, name);
        let dummy = LinkDummy::new(name).address(mac.to_vec()).build();
        match links.create(dummy, name).await {
            Ok(()) => {}
            Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => {
                let veth = LinkVeth::new(name, &far).address(mac.to_vec()).build();
                links.create(veth, name).await?;
            }
            Err(error) => return Err(error),
        }
        match Self::set_up(links, name, groupname).await {
            Ok(created) => Ok(created),
            Err(error) => {
                if let Ok(Some(device)) = links.device_named(name).await {
                    let _ = links.delete(device.ifindex, name).await;
                }
                Err(error)
            }
        }
    }

    async fn set_up(links: &Links, name: &str, groupname: &str) -> Result<Self, Error> {
        let this = Self::existing(links, name).await?.ok_or_else(|| Error::NoSuchInterface(name.into()))?;
        sysctl::apply(name, &sysctl::plan(name, sysctl::Role::Group)?)?;
        if let Some((far, _)) = &this.far {
            sysctl::apply(far, &sysctl::plan(far, sysctl::Role::FarEnd)?)?;
        }
        if groupname != name {
            links.add_name(this.ifindex, name, groupname).await?;
        }
        this.set_carrier(links, false).await?;
        // A dummy is made without ARP and multicast.
        let up = LinkMessageBuilder::<LinkUnspec>::new()
            .index(this.ifindex)
            .arp(true)
            .multicast(true)
            .up()
            .build();
        links.set(up, || format!("set {name} up")).await?;
        Ok(this)
    }

    /// The group interface of this name, if an interface that can be one exists.
    pub async fn existing(links: &Links, name: &str) -> Result<Option<Self>, Error> {
        let Some(device) = links.device_named(name).await?.filter(|device| device.name == name) else {
            return Ok(None);
        };
        let far = match device.kind.as_str() {
            "dummy" => None,
            // It keeps its name when the group interface is renamed.
            "veth" => match links.device(device.peer.unwrap_or(0)).await? {
                Some(far) if Self::is_far_end(&far) => Some((far.name, far.ifindex)),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(Self { name: device.name, ifindex: device.ifindex, mac: device.mac, far }))
    }

    /// Of a veth: name and index of its far end.
    pub fn far_end(&self) -> Option<(String, u32)> {
        self.far.clone()
    }

    /// Whether a device is the far end of a group interface, which must not be used otherwise.
    pub fn is_far_end(device: &Device) -> bool {
        device.kind == "veth" && device.name.starts_with(FAR_PREFIX)
    }

    /// Gives the interface a carrier, or takes it away: routing daemons see whether the group can send.
    pub async fn set_carrier(&self, links: &Links, carrier: bool) -> Result<(), Error> {
        let what = || format!("set the carrier of {} {}", self.name, if carrier { "on" } else { "off" });
        links.set(self.carrier_message(carrier), what).await
    }

    fn carrier_message(&self, carrier: bool) -> LinkMessage {
        match &self.far {
            None => LinkMessageBuilder::<LinkUnspec>::new().index(self.ifindex).carrier(carrier).build(),
            Some((_, far)) => {
                let message = LinkMessageBuilder::<LinkUnspec>::new().index(*far);
                if carrier { message.up() } else { message.down() }.build()
            }
        }
    }
}

/// MAC of a new group interface, and the name that its far end would have: those that derive from its name, unless a group that had
/// this name and was renamed has them. Groups with one MAC would also have one IPv6 link-local address.
fn identity(devices: &[Device], machine: &str, namespace: &str, name: &str) -> ([u8; 6], String) {
    let mut text = name.to_owned();
    loop {
        let (mac, far) = (stable_mac(machine, namespace, &text), far_name(&text));
        if devices.iter().all(|device| device.mac != mac && device.name != far) {
            return (mac, far);
        }
        text.push('+');
    }
}

/// How the names of far ends begin.
const FAR_PREFIX: &str = "ipmpfar-";

/// Name of the far end of a group interface that is a veth: 14 bytes.
fn far_name(name: &str) -> String {
    format!("{FAR_PREFIX}{:06x}", hash(name.as_bytes()) & 0xff_ffff)
}

/// An identifier of this machine that survives a reboot. What cannot be read now can be at the next start: the MAC would be another one.
fn machine(name: &str, read: impl Fn(&str) -> io::Result<String>) -> Result<String, Error> {
    for path in ["/etc/machine-id", "/proc/sys/kernel/hostname"] {
        match read(path) {
            Ok(text) if text.trim().is_empty() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(text) => return Ok(text),
            Err(source) => {
                return Err(Error::Kernel {
                    what: format!("read {path}, from which the MAC of {name} derives"),
                    source,
                });
            }
        }
    }
    Ok(String::new())
}

/// MAC of a group interface: the same at every start; another for every machine, namespace and group. Its IPv6
/// link-local address derives from it, so that two hosts on one link must not have the same.
fn stable_mac(machine: &str, namespace: &str, name: &str) -> [u8; 6] {
    let [_, _, _, tail @ ..] =
        hash(format!("{}\0{namespace}\0{name}", machine.trim()).as_bytes()).to_be_bytes();
    let [b, c, d, e, f] = tail;
    // Locally administered (bit 1), unicast (bit 0 clear).
    [0x02, b, c, d, e, f]
}

/// FNV-1a, 64 bits, with its bits mixed once more (the finalizer of MurmurHash3): short texts that differ in one
/// character differ everywhere. Fixed for ever, since MACs derive from it.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mixed = (fnv ^ fnv >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ mixed >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_identifier_that_cannot_be_read_is_refused_and_not_replaced() {
        let machine = |id: Result<&str, i32>, hostname: &str| {
            machine("g0", |path| match id.map_err(io::Error::from_raw_os_error) {
                Ok(text) if path == "/etc/machine-id" => Ok(text.to_owned()),
                Err(error) if path == "/etc/machine-id" => Err(error),
                _ => Ok(hostname.to_owned()),
            })
        };
        assert_eq!(machine(Ok("1234\n"), "host\n").unwrap(), "1234\n");
        assert_eq!(machine(Ok("\n"), "host\n").unwrap(), "host\n");
        assert_eq!(machine(Err(libc::ENOENT), "host\n").unwrap(), "host\n");
        let refused = machine(Err(libc::EMFILE), "host\n").unwrap_err().to_string();
        assert!(
            refused.starts_with("cannot read /etc/machine-id, from which the MAC of g0 derives: "),
            "{refused}"
        );
    }

    #[test]
    fn the_mac_is_stable_local_and_its_own() {
        let mac = |machine, namespace, name| stable_mac(machine, namespace, name);
        assert_eq!(mac("m", "", "production0"), mac("m\n", "", "production0"));
        let all = [mac("m", "", "a0"), mac("n", "", "a0"), mac("m", "x", "a0"), mac("m", "", "a1")];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(one[0] & 3, 2, "{one:02x?} is not a local unicast MAC");
            assert!(!all[..at].contains(one), "{one:02x?} twice");
        }
    }

    #[test]
    fn the_mac_of_a_version_is_that_of_the_next() {
        assert_eq!(stable_mac("0123456789abcdef", "", "production0"), [2, 220, 180, 155, 181, 183]);
    }

    #[test]
    fn the_far_end_has_a_name_that_an_interface_can_have() {
        assert!(far_name("fifteen-bytes-0").len() <= 15);
        assert_ne!(far_name("a0"), far_name("a1"));
    }
}
