//! The measured cases of the datapath: a program, a packet, and a state of the maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use ipmp_common::hash::{HashPolicy, filter_bit};
use ipmp_common::maps::Ip;
use lab::Mac;
use serde::Serialize;

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Out through the group interface.
    Egress,
    /// In through a member.
    Ingress,
}

/// The address family of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How the program reads the carrier and identity of a member's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Devices {
    /// As on this kernel: the pinned program itself.
    Pinned,
    /// By `bpf_probe_read_kernel`, as on kernels before 6.2.
    Helper,
    /// Not at all, as on a kernel that forbids it.
    Unread,
}

/// The test addresses of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TestAddresses {
    /// None.
    None,
    /// One that the filter distinguishes from the packet's address.
    Filtered,
    /// One that only a lookup distinguishes from the packet's address.
    LookedUp,
}

/// A case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Which program.
    pub direction: Direction,
    /// Which packet.
    pub family: Family,
    /// Egress: the hash policy.
    pub policy: HashPolicy,
    /// Which variant of the program.
    pub devices: Devices,
    /// Whether ingress looks for the first packet after a failure, which it stamps.
    pub stamps: bool,
    /// State of the maps.
    pub test_addresses: TestAddresses,
    /// Egress: the member is a macvlan on another device, whose carrier is read too.
    pub stacked: bool,
}

/// The datapath with each policy, then with each feature, then with all features.
pub fn all() -> Vec<Case> {
    use Direction::{Egress, Ingress};
    use Family::{V4, V6};
    let plain = |direction, family| Case {
        direction,
        family,
        policy: HashPolicy::Connection,
        devices: Devices::Pinned,
        stamps: true,
        test_addresses: TestAddresses::None,
        stacked: false,
    };
    let mut cases = Vec::new();
    for policy in HashPolicy::ALL {
        cases.extend([V4, V6].map(|family| Case { policy, ..plain(Egress, family) }));
    }
    for egress in [V4, V6].map(|family| plain(Egress, family)) {
        cases.push(Case { devices: Devices::Unread, ..egress });
        cases.push(Case { devices: Devices::Helper, ..egress });
        cases.push(Case { test_addresses: TestAddresses::Filtered, ..egress });
        cases.push(Case { test_addresses: TestAddresses::LookedUp, ..egress });
        cases.push(Case { stacked: true, ..egress });
    }
    for policy in HashPolicy::ALL {
        cases.extend([V4, V6].map(|family| Case {
            policy,
            test_addresses: TestAddresses::Filtered,
            stacked: true,
            ..plain(Egress, family)
        }));
    }
    for ingress in [V4, V6].map(|family| plain(Ingress, family)) {
        cases.push(ingress);
        cases.push(Case { devices: Devices::Unread, ..ingress });
        cases.push(Case { stamps: false, ..ingress });
        cases.push(Case { test_addresses: TestAddresses::Filtered, ..ingress });
        cases.push(Case { test_addresses: TestAddresses::LookedUp, ..ingress });
    }
    cases
}

impl Case {
    /// Whether all features that take time are enabled: reading the carrier and identity of a stacked member, and test
    /// addresses. A false positive of the filter is a case of its own.
    pub fn has_every_feature(&self) -> bool {
        self.direction == Direction::Egress
            && self.devices == Devices::Pinned
            && self.test_addresses == TestAddresses::Filtered
            && self.stacked
    }

    /// `egress v4 connection, stacked`.
    pub fn name(&self) -> String {
        let family = if self.family == Family::V4 { "v4" } else { "v6" };
        let mut name = match self.direction {
            Direction::Egress => format!("egress {family} {}", self.policy.as_str()),
            Direction::Ingress => format!("ingress {family}"),
        };
        if self.has_every_feature() {
            return name + ", every feature";
        }
        name += match self.devices {
            Devices::Pinned => "",
            Devices::Helper => ", devices read by helper calls",
            Devices::Unread => ", devices not read",
        };
        name += match self.test_addresses {
            TestAddresses::None => "",
            TestAddresses::Filtered => ", test addresses",
            TestAddresses::LookedUp => ", test addresses looked up",
        };
        name += if self.stamps { "" } else { ", without stamps" };
        name + if self.stacked { ", stacked member" } else { "" }
    }

    /// The packet: 18 bytes of UDP payload, from the group to a host or from a host to the group. `group` and `member`
    /// are Ethernet addresses.
    pub fn packet(&self, group: Mac, member: Mac) -> Vec<u8> {
        let (source, destination) = match self.direction {
            Direction::Egress => (group, HOST_MAC),
            Direction::Ingress => (HOST_MAC, member),
        };
        let ends = match self.direction {
            Direction::Egress => (data_address(self.family), host_address(self.family)),
            Direction::Ingress => (host_address(self.family), data_address(self.family)),
        };
        let ethernet = PacketBuilder::ethernet2(source, destination);
        let ip = match ends {
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            _ => unreachable!("both ends are of one family"),
        };
        let mut packet = Vec::new();
        let written = ip.udp(4096, 8192).write(&mut packet, &[0; 18]);
        written.expect("writing to a vector succeeds");
        packet
    }

    /// The test address of this case.
    pub fn test_address(&self) -> Option<IpAddr> {
        let wanted = match self.test_addresses {
            TestAddresses::None => return None,
            TestAddresses::Filtered => false,
            TestAddresses::LookedUp => true,
        };
        let data = data_address(self.family);
        let bit = |address: IpAddr| filter_bit(Ip::from(address));
        (1..=u16::MAX)
            .map(|number| match self.family {
                Family::V4 => Ipv4Addr::from(0x0a4d_0000 + u32::from(number)).into(),
                Family::V6 => Ipv6Addr::new(0xfd00, 0x178, 0, 0, 0, 0, 1, number).into(),
            })
            .find(|&address| (bit(address) == bit(data)) == wanted)
    }
}

/// The Ethernet address of the other host.
const HOST_MAC: Mac = [0x02, 0xb0, 0, 0, 0, 22];

fn data_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => lab::network::DATA.into(),
        Family::V6 => lab::network::DATA6.into(),
    }
}

fn host_address(family: Family) -> IpAddr {
    let v4 = Ipv4Addr::new(192, 168, 178, 22);
    match family {
        Family::V4 => v4.into(),
        Family::V6 => lab::network::counterpart(v4).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_names_are_unique() {
        let cases = all();
        let names: std::collections::HashSet<_> = cases.iter().map(Case::name).collect();
        assert_eq!(names.len(), cases.len(), "{names:?}");
    }

    #[test]
    fn test_address_matches_filter_only_when_looked_up() {
        for case in all().iter().filter(|case| case.test_addresses != TestAddresses::None) {
            let address = case.test_address().unwrap();
            let data = data_address(case.family);
            let same = filter_bit(Ip::from(address)) == filter_bit(Ip::from(data));
            assert_eq!(same, case.test_addresses == TestAddresses::LookedUp, "{}", case.name());
            assert_ne!(address, data);
        }
    }

    #[test]
    fn packet_is_from_group_or_for_member() {
        let (group, member) = ([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]);
        for case in all() {
            let packet = case.packet(group, member);
            match case.direction {
                Direction::Egress => assert_eq!(packet[6..12], group),
                Direction::Ingress => assert_eq!(packet[..6], member),
            }
            let length = if case.family == Family::V4 { 60 } else { 80 };
            assert_eq!(packet.len(), length, "{}", case.name());
        }
    }
}
