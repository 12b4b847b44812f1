//! Source addresses of the TCP connections that this network namespace opens, by programs at the root of the cgroups.
//!
//! Nothing is pinned: without the daemon the addresses would not be kept up to date, and its end detaches the programs. Connections that
//! exist keep their addresses.

use std::{collections::BTreeMap, net::IpAddr};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, LpmTrie, MapData, lpm_trie::Key},
};
use ipmp_common::maps::{Ip, NO_SOURCE_SET, SourceSet};

use super::{
    Error,
    cgroup::{Cgroup, MODE},
    error::{map_error, one_line},
    objects::{self, Constants},
    pins::netns_cookie,
};

const PROGRAMS: [&str; 2] = ["spread_source4", "spread_source6"];
const PREFIXES: &str = "source_prefixes";
const SETS: &str = "source_sets";

/// A network: its address and the length of its prefix.
pub type Network = (IpAddr, u8);

/// Which addresses serve as source for which destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Sets of addresses.
    pub sets: Vec<Vec<IpAddr>>,
    /// Destinations, with the number of their set. `None`: the kernel selects the source, as for those that are in none of these
    /// networks.
    pub networks: BTreeMap<Network, Option<usize>>,
}

/// The programs, attached as long as this exists.
pub struct SourceSpread {
    networks: LpmTrie<MapData, [u8; 16], u32>,
    sets: HashMap<MapData, u32, SourceSet>,
    written: Sources,
    _object: Ebpf,
}

impl SourceSpread {
    /// Attaches the programs. Until [`write`](Self::write) they change nothing. The verifier takes its time: not for the main thread.
    ///
    /// # Errors
    /// [`Error::NoCgroup`], [`Error::Load`], [`Error::Attach`], [`Error::Map`] or [`Error::System`].
    pub fn open() -> Result<Self, Error> {
        let constants = Constants::default().long("NETNS", netns_cookie()?);
        let mut loader = EbpfLoader::new();
        constants.set_in(&mut loader);
        let mut object = loader
            .load(objects::SOURCE)
            .map_err(|error| Error::Load { program: PROGRAMS[0], reason: one_line(&error) })?;
        for name in PROGRAMS {
            let cgroup = Cgroup::root(name)?;
            let program = objects::load_sock_addr(&mut object, name)?;
            program.attach(&cgroup, MODE).map_err(|error| cgroup.refused(name, one_line(&error)))?;
        }
        let mut map = |name| object.take_map(name).expect("the object has this map");
        let networks = LpmTrie::try_from(map(PREFIXES)).map_err(map_error(PREFIXES))?;
        let sets = HashMap::try_from(map(SETS)).map_err(map_error(SETS))?;
        Ok(Self { networks, sets, written: Sources::default(), _object: object })
    }

    /// From now on, connections have these sources.
    ///
    /// # Errors
    /// [`Error::Map`]; then some have those before.
    pub fn write(&mut self, sources: Sources) -> Result<(), Error> {
        for (number, set) in (0..).zip(&sources.sets) {
            let addresses = set.iter().map(|address| Ip::from(*address));
            self.sets.insert(number, SourceSet::of(addresses), 0).map_err(map_error(SETS))?;
        }
        for (network, set) in &sources.networks {
            let set = set.map_or(NO_SOURCE_SET, |set| set as u32);
            self.networks.insert(&key(*network), set, 0).map_err(map_error(PREFIXES))?;
        }
        let before = std::mem::replace(&mut self.written, sources);
        for network in before.networks.keys().filter(|network| !self.written.networks.contains_key(network)) {
            self.networks.remove(&key(*network)).map_err(map_error(PREFIXES))?;
        }
        for number in self.written.sets.len()..before.sets.len() {
            self.sets.remove(&(number as u32)).map_err(map_error(SETS))?;
        }
        Ok(())
    }
}

/// The key of a network. IPv4 addresses are IPv4-mapped.
fn key((address, prefix): Network) -> Key<[u8; 16]> {
    let length = if address.is_ipv4() { u32::from(prefix) + 96 } else { prefix.into() };
    Key::new(length, Ip::from(address).octets)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
        os::fd::AsRawFd as _,
    };

    use nix::sched::{CloneFlags, unshare};
    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::datapath::tests::{in_new_namespace, ip};

    const V4: [&str; 4] = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"];
    const V6: [&str; 3] = ["fd01::1", "fd01::2", "fd01::3"];

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn network(text: &str) -> Network {
        let (address, prefix) = text.split_once('/').unwrap();
        (address.parse().unwrap(), prefix.parse().unwrap())
    }

    /// A host with these addresses on its loopback interface, which listens on all of them: where.
    fn host() -> TcpListener {
        ip("link set lo up");
        V4.iter().for_each(|address| ip(&format!("address add {address}/32 dev lo")));
        V6.iter().for_each(|address| ip(&format!("address add {address}/64 dev lo nodad")));
        TcpListener::bind("[::]:0").unwrap()
    }

    /// The source of a new connection to an address of this host.
    fn source(listener: &TcpListener, to: &str) -> IpAddr {
        let to = SocketAddr::new(to.parse().unwrap(), listener.local_addr().unwrap().port());
        let client = TcpStream::connect(to).unwrap();
        drop(listener.accept().unwrap());
        client.local_addr().unwrap().ip()
    }

    /// The sources of 64 connections.
    fn sources(listener: &TcpListener, to: &str) -> BTreeSet<IpAddr> {
        (0..64).map(|_| source(listener, to)).collect()
    }

    fn set(texts: &[&str]) -> BTreeSet<IpAddr> {
        addresses(texts).into_iter().collect()
    }

    #[test]
    fn connections_have_each_address_of_the_set_of_their_destination() {
        in_new_namespace(|| {
            let listener = host();
            let mut spread = SourceSpread::open().unwrap();
            let to =
                [("10.1.0.2", "10.1.0.2"), ("fd01::3", "fd01::3"), ("::ffff:10.1.0.2", "::ffff:10.1.0.2")];
            let by_kernel: Vec<_> = to.iter().map(|(to, _)| sources(&listener, to)).collect();
            assert!(by_kernel.iter().all(|sources| sources.len() == 1), "{by_kernel:?}");
            let all = Sources {
                sets: vec![addresses(&V4), addresses(&V6[..2])],
                networks: [
                    (network("10.1.0.0/16"), Some(0)),
                    (network("10.1.0.4/32"), None),
                    (network("fd01::/16"), Some(1)),
                ]
                .into(),
            };
            spread.write(all.clone()).unwrap();
            assert_eq!(sources(&listener, "10.1.0.2"), set(&V4));
            assert_eq!(sources(&listener, "fd01::3"), set(&V6[..2]));
            // A socket of IPv6 that connects to an IPv4 address.
            let mapped: Vec<_> = V4.iter().map(|address| format!("::ffff:{address}")).collect();
            let mapped: Vec<&str> = mapped.iter().map(String::as_str).collect();
            assert_eq!(sources(&listener, "::ffff:10.1.0.2"), set(&mapped));
            assert_eq!(sources(&listener, "10.1.0.4").len(), 1, "a longer prefix without a set");
            assert_eq!(source(&listener, "127.0.0.1"), addresses(&["127.0.0.1"])[0], "no prefix");

            // What is removed has no effect any more.
            let fewer = Sources {
                sets: vec![addresses(&V4[2..])],
                networks: [(network("10.1.0.0/16"), Some(0))].into(),
            };
            spread.write(fewer).unwrap();
            assert_eq!(sources(&listener, "10.1.0.2"), set(&V4[2..]));
            assert_eq!(sources(&listener, "10.1.0.4"), set(&V4[2..]));
            assert_eq!(sources(&listener, "fd01::3"), by_kernel[1]);
            // An address that does not exist any more: the kernel selects one.
            ip("address del 10.1.0.3/32 dev lo");
            ip("address del 10.1.0.4/32 dev lo");
            assert_eq!(sources(&listener, "10.1.0.2").len(), 1);
            spread.write(all).unwrap();
            drop(spread);
            assert_eq!(sources(&listener, "fd01::3"), by_kernel[1]);
        });
    }

    #[test]
    fn sockets_with_a_source_or_device_of_udp_and_of_other_namespaces_keep_what_they_have() {
        in_new_namespace(|| {
            let listener = host();
            let mut spread = SourceSpread::open().unwrap();
            let networks = [(network("10.1.0.0/16"), Some(0))].into();
            spread.write(Sources { sets: vec![addresses(&V4[2..])], networks }).unwrap();
            let to = SocketAddr::new(V4[1].parse().unwrap(), listener.local_addr().unwrap().port());
            assert!(set(&V4[2..]).contains(&source(&listener, V4[1])));
            let connected = |socket: Socket| {
                socket.connect(&to.into()).unwrap();
                socket.local_addr().unwrap().as_socket().unwrap()
            };
            let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();

            let bound = socket();
            bound.bind(&SocketAddr::new(V4[0].parse().unwrap(), 0).into()).unwrap();
            assert_eq!(connected(bound).ip(), addresses(&V4)[0]);
            let with_port = socket();
            with_port.bind(&"0.0.0.0:0".parse::<SocketAddr>().unwrap().into()).unwrap();
            let port = with_port.local_addr().unwrap().as_socket().unwrap().port();
            let local = connected(with_port);
            assert_eq!((local.port(), set(&V4[2..]).contains(&local.ip())), (port, false));
            let on_device = socket();
            on_device.bind_device(Some(b"lo")).unwrap();
            assert!(!set(&V4[2..]).contains(&connected(on_device).ip()));
            let datagrams = UdpSocket::bind("0.0.0.0:0").unwrap();
            assert!(datagrams.as_raw_fd() >= 0);
            datagrams.connect(to).unwrap();
            assert!(!set(&V4[2..]).contains(&datagrams.local_addr().unwrap().ip()));

            let elsewhere = std::thread::spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                let listener = host();
                sources(&listener, "10.1.0.2").len()
            });
            assert_eq!(elsewhere.join().unwrap(), 1);
        });
    }
}
