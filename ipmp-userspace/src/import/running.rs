//! A bond or a team that runs, by netlink; the configuration of a team by its teamd.

use std::{
    fs,
    io::{Read, Write},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::{Bond, Error, Member, Place, teamd};
use crate::{
    control::DataAddress,
    link::{Address, BondOptions, Device, Links, Route},
};

/// Longest configuration that teamd may send, in bytes.
const LARGEST: usize = 1 << 16;
const TIMEOUT: Duration = Duration::from_secs(2);

/// What the kernel has of a bond or a team.
#[derive(Clone, Debug)]
pub struct Running {
    /// The device.
    pub device: Device,
    /// Options of a bond.
    pub options: Option<BondOptions>,
    /// Every other interface.
    pub others: Vec<Device>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// The routes through it.
    pub routes: Vec<Route>,
}

impl Running {
    /// Reads it. Interfaces and addresses are those of this network namespace.
    ///
    /// # Errors
    /// There is no such bond, or the kernel refused.
    pub async fn read(links: &Links, name: &str) -> Result<Self, Error> {
        let failed = |text: String| Error::Bond { name: name.into(), text };
        let kernel = |error: crate::link::Error| failed(error.to_string());
        let device = links.device_named(name).await.map_err(kernel)?;
        let device =
            device.ok_or_else(|| failed("there is neither a file nor an interface of this name".into()))?;
        if !matches!(device.kind.as_str(), "bond" | "team") {
            return Err(failed(
                "it is no bond and no team: ipmpctl attach takes an interface as it is".into(),
            ));
        }
        let mut others = links.devices().map_err(kernel)?;
        others.retain(|other| other.ifindex != device.ifindex);
        Ok(Self {
            options: links.bond_options(device.ifindex).await.map_err(kernel)?,
            addresses: links.addresses_of(device.ifindex).map_err(kernel)?,
            routes: links.routes_of(device.ifindex).map_err(kernel)?,
            device,
            others,
        })
    }

    /// Its ports, in the order in which they were created.
    pub fn ports(&self) -> impl Iterator<Item = &Device> {
        self.others.iter().filter(|other| other.master == Some(self.device.ifindex))
    }

    /// The bond.
    ///
    /// # Errors
    /// No group can replace it: another device is on it.
    pub fn bond(&self) -> Result<Bond, Error> {
        let name = &self.device.name;
        let place = Place { file: name.into(), line: 0 };
        let mut bond = Bond::named(name, place.clone());
        if let Some(master) = self.device.master {
            let master = self.others.iter().find(|other| other.ifindex == master);
            let (of, kind) = master.map_or(("another device", ""), |master| (&master.name, &master.kind));
            return Err(bond.error(format!(
                "it is a port of {of} ({kind}), and a group interface cannot be one: give the addresses to the group, or keep \
                 the bond"
            )));
        }
        let above: Vec<&str> = self
            .others
            .iter()
            .filter(|other| other.below == Some(self.device.ifindex))
            .map(|other| other.name.as_str())
            .collect();
        if !above.is_empty() {
            return Err(bond.error(format!(
                "it has {} on it, which a group cannot take: import its files, and create these on the group interface",
                above.join(", ")
            )));
        }
        match &self.options {
            Some(options) => self.options(options, &place, &mut bond)?,
            None => team(&place, &mut bond)?,
        }
        for port in self.ports() {
            bond.add_member(Member { permanent_mac: port.permanent_mac, ..Member::named(&port.name) });
        }
        self.addresses(&place, &mut bond);
        for route in self.routes.iter().filter(|route| !route.is_of_kernel() && !route.is_link_local()) {
            match route.entry(self.device.ifindex) {
                Some(entry) if route.is_static() || bond.dynamic.is_empty() => {
                    bond.routes.push((place.clone(), entry));
                }
                // Of the program that adds the addresses.
                Some(_) => {}
                None => bond.note(&place, format_args!("route {route} has no equivalent")),
            }
        }
        Ok(bond)
    }

    fn options(&self, options: &BondOptions, place: &Place, bond: &mut Bond) -> Result<(), Error> {
        for (option, value) in &options.options {
            bond.set(place, option, value)?;
        }
        let primary = options.primary.and_then(|index| self.ports().find(|port| port.ifindex == index));
        bond.primary = primary.map(|port| port.name.clone());
        Ok(())
    }

    fn addresses(&self, place: &Place, bond: &mut Bond) {
        for address in self.addresses.iter().filter(|address| address.is_global()) {
            match (address.lifetime, address.ip) {
                (Some(_), IpAddr::V4(_)) if !bond.dynamic.contains(&"DHCP") => bond.dynamic.push("DHCP"),
                (Some(_), IpAddr::V6(_)) if !bond.dynamic.contains(&"router advertisements") => {
                    bond.dynamic.push("router advertisements");
                }
                (Some(_), _) => {}
                (None, ip) => match DataAddress::new(ip, address.prefix) {
                    Ok(data) => bond.addresses.push(data),
                    Err(error) => bond.note(place, error),
                },
            }
        }
    }
}

/// Fills a bond from the teamd of a team.
fn team(place: &Place, bond: &mut Bond) -> Result<(), Error> {
    let text = read_from_teamd(&format!("/run/teamd/{}.sock", bond.name)).map_err(|why| {
        bond.error(format!("its teamd does not reply ({why}): name its configuration file instead"))
    })?;
    teamd::configure(place, &text, bond)
}

/// The configuration that teamd uses (`teamd/teamd_usock.c` of libteam).
fn read_from_teamd(path: &str) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let file = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None);
    let file = file.map_err(|error| failed(&error))?;
    let address = UnixAddr::new(path).map_err(|error| failed(&error))?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&file), &address).map_err(|error| failed(&error))?;
    let mut stream = std::os::unix::net::UnixStream::from(file);
    stream.set_read_timeout(Some(TIMEOUT)).map_err(|error| failed(&error))?;
    stream.write_all(b"REQUEST\nConfigDumpActual\n").map_err(|error| failed(&error))?;
    let mut reply = vec![0; LARGEST];
    let length = stream.read(&mut reply).map_err(|error| failed(&error))?;
    let reply = String::from_utf8_lossy(&reply[..length]).into_owned();
    match reply.trim_end_matches('\0').split_once("REPLY_SUCCESS\n") {
        Some((_, text)) => Ok(text.into()),
        None => Err("it refused the request".into()),
    }
}

/// Name servers and domains that other programs configured for an interface, as `KEY=VALUE` files that they keep.
pub fn add_resolver(bond: &mut Bond, root: &Path, ifindex: u32) {
    let place = bond.place.clone();
    for (directory, servers) in [("run/systemd/resolve/netif", "SERVERS"), ("run/systemd/netif/links", "DNS")]
    {
        let Ok(text) = fs::read_to_string(root.join(directory).join(ifindex.to_string())) else { continue };
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                key if key == servers => bond.add_dns(&place, value),
                "DOMAINS" => bond.add_search(&place, value),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::host::Host,
        import::{Found, print},
        link::RouteEntry,
    };

    fn running() -> Running {
        let device = |name: &str, ifindex: u32, kind: &str| Device {
            kind: kind.into(),
            ..Device::sample(name, ifindex)
        };
        let port = |name: &str, ifindex: u32| Device {
            master: Some(9),
            permanent_mac: Some([2, 0, 0, 0, 0, ifindex as u8]),
            ..Device::sample(name, ifindex)
        };
        let options = [("mode", "1"), ("updelay", "200"), ("xmit_hash_policy", "1")];
        let options = options.map(|(option, value)| (option, value.to_owned())).to_vec();
        let route = RouteEntry::default_through("192.0.2.1".parse().unwrap());
        Running {
            device: device("bond0", 9, "bond"),
            options: Some(BondOptions { options, primary: Some(4), active: Some(4) }),
            others: vec![device("lo", 1, ""), port("eth0", 3), port("eth1", 4), device("eth2", 5, "")],
            addresses: vec![
                Address::new("192.0.2.5".parse().unwrap(), 24),
                Address::new("fe80::1".parse().unwrap(), 64),
            ],
            routes: vec![Route::of_entry(&route, 9)],
        }
    }

    #[test]
    fn running_bond_becomes_group_with_its_ports_addresses_and_routes() {
        let found = Found { bonds: vec![running().bond().unwrap()], notes: Vec::new() };
        let text = print(&found, "bond0", &Host::default(), false).unwrap();
        assert_eq!(
            text,
            "# From bond0\n\n\
             # bond0: xmit_hash_policy 1 has no equivalent: flows are distributed by the setting hash\n\
             # bond0 used one port at a time: without standby = true all members are used\n\
             [group.bond0]\naddresses = [\"192.0.2.5/24\"]\ngateways = [\"192.0.2.1\"]\nupdelay = \"200ms\"\n\
             \n[group.bond0.members]\n\
             eth0 = { match = { permanent-mac = \"02:00:00:00:00:03\" }, standby = true }\n\
             eth1 = { match = { permanent-mac = \"02:00:00:00:00:04\" } }\n"
        );
    }

    #[test]
    fn lease_is_external_and_devices_on_the_bond_are_refused() {
        let mut leased = running();
        leased.addresses[0].lifetime = Some((600, 600));
        let bond = leased.bond().unwrap();
        assert_eq!((bond.dynamic.as_slice(), bond.addresses.len()), (&["DHCP"][..], 0));

        let mut stacked = running();
        stacked.others[3].below = Some(9);
        let error = stacked.bond().unwrap_err().to_string();
        assert!(error.starts_with("bond0: it has eth2 on it, which a group cannot take: "), "{error}");

        let mut port = running();
        port.device.master = Some(5);
        port.others[3].kind = "bridge".into();
        let error = port.bond().unwrap_err().to_string();
        assert!(
            error.starts_with("bond0: it is a port of eth2 (bridge), and a group interface cannot be one: "),
            "{error}"
        );

        let mut team = running();
        team.options = None;
        let error = team.bond().unwrap_err().to_string();
        assert!(error.starts_with("bond0: its teamd does not reply ("), "{error}");
        assert!(error.ends_with("): name its configuration file instead"), "{error}");
    }

    #[test]
    fn configuration_is_requested_from_teamd() {
        use nix::sys::socket::{Backlog, MsgFlags, accept, bind, listen, recv, send};
        use std::os::fd::AsRawFd;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("team0.sock");
        let server = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::empty(), None).unwrap();
        bind(server.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&server, Backlog::new(1).unwrap()).unwrap();
        let teamd = std::thread::spawn(move || {
            let client = accept(server.as_raw_fd()).unwrap();
            let mut request = [0; 64];
            let length = recv(client, &mut request, MsgFlags::empty()).unwrap();
            assert_eq!(&request[..length], b"REQUEST\nConfigDumpActual\n");
            send(client, b"REPLY_SUCCESS\n{\"device\": \"team0\"}", MsgFlags::empty()).unwrap();
        });
        assert_eq!(read_from_teamd(path.to_str().unwrap()).unwrap(), "{\"device\": \"team0\"}");
        teamd.join().unwrap();
    }

    #[test]
    fn name_servers_of_the_interface_are_read() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("run/systemd/resolve/netif");
        fs::create_dir_all(&directory).unwrap();
        fs::write(
            directory.join("9"),
            "# This is private data. Do not parse.\nSERVERS=192.0.2.53\nDOMAINS=example.net\n",
        )
        .unwrap();
        let mut bond = running().bond().unwrap();
        add_resolver(&mut bond, root.path(), 9);
        assert_eq!((bond.dns.len(), bond.search.as_slice()), (1, &["example.net".to_owned()][..]));
    }
}
