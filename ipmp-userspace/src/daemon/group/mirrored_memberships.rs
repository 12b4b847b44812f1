//! Multicast groups that programs joined on a member: the group interface joins them too.
//!
//! A program that joined a group on a NIC before it was attached receives nothing there any more: ingress redirects multicast
//! to the group interface. A UDP socket that joined on another interface receives it from there as well, unless it has
//! switched `IP_MULTICAST_ALL` off (`ip_mc_sf_allow`, `net/ipv4/igmp.c`; `inet6_mc_check`, `net/ipv6/mcast.c`). So it is enough
//! that the group interface receives the group. The memberships are those of sockets of the daemon, and end with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv6Addr},
};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::RunningGroup;
use crate::link::{self, Memberships};

/// Most groups that are joined: each has a socket.
const MOST: usize = 64;

/// The groups that the daemon has joined on the group interface.
#[derive(Debug, Default)]
pub struct MirroredMemberships {
    joined: BTreeMap<IpAddr, Socket>,
    /// Groups that could not be joined, as far as they were logged.
    failed: BTreeSet<IpAddr>,
}

/// The groups that programs joined on an interface: without those that the kernel joins for each IPv6 address (RFC 4291
/// 2.7.1) and for a router.
pub fn of_programs(memberships: &Memberships) -> BTreeSet<IpAddr> {
    let is_of_kernel = |group: &Ipv6Addr| {
        let is_solicited_node =
            group.segments()[..7] == [0xff02, 0, 0, 0, 0, 1, 0xff00 | group.segments()[6] & 0xff];
        let is_routers = group.segments()[1..] == [0, 0, 0, 0, 0, 0, 2];
        is_solicited_node || is_routers || group.segments()[1..] == [0, 0, 0, 0, 0, 0, 0x6a]
    };
    let v6 = memberships.v6.iter().filter(|group| !is_of_kernel(group)).map(|group| IpAddr::V6(*group));
    memberships.v4.iter().map(|group| IpAddr::V4(*group)).chain(v6).collect()
}

/// Joins what programs have joined on the members, and leaves what they have left.
pub fn update(groups: &mut BTreeMap<String, RunningGroup>) {
    let memberships = match link::memberships() {
        Ok(memberships) => memberships,
        Err(error) => return log::warn!("{error}; the members' multicast memberships are not followed"),
    };
    for group in groups.values_mut() {
        let of_members = group.members.values().filter_map(|member| memberships.get(&member.ifindex));
        let wanted: BTreeSet<IpAddr> = of_members.flat_map(of_programs).take(MOST).collect();
        let name = group.interface.name.clone();
        let ifindex = group.interface.ifindex;
        let mirrored = &mut group.mirrored;
        mirrored.joined.retain(|address, _| wanted.contains(address));
        mirrored.failed.retain(|address| wanted.contains(address));
        for address in wanted {
            if mirrored.joined.contains_key(&address) {
                continue;
            }
            match join(address, ifindex) {
                Ok(socket) => {
                    mirrored.failed.remove(&address);
                    mirrored.joined.insert(address, socket);
                    group.filters.multicast_changed();
                }
                Err(error) if mirrored.failed.insert(address) => {
                    log::warn!(group = name.as_str(); "cannot join {address} on {name}: {error}; programs that joined it on \
                        a member do not receive it: restart them so that they join it on {name}");
                }
                Err(_) => {}
            }
        }
    }
}

fn join(address: IpAddr, ifindex: u32) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    // Not bound: it receives nothing.
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    match address {
        IpAddr::V4(v4) => socket.join_multicast_v4_n(&v4, &InterfaceIndexOrAddress::Index(ifindex))?,
        IpAddr::V6(v6) => socket.join_multicast_v6(&v6, ifindex)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_of_the_kernel_are_not_of_programs() {
        let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let memberships = Memberships {
            v4: vec!["224.0.0.251".parse().unwrap()],
            v6: ["ff02::1:ff00:200", "ff02::2", "ff05::2", "ff02::6a", "ff02::fb", "ff02::1:3"]
                .map(v6)
                .into(),
            old_igmp: false,
        };
        let found: Vec<String> = of_programs(&memberships).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["224.0.0.251", "ff02::fb", "ff02::1:3"]);
    }
}
