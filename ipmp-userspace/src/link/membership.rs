//! The multicast groups that interfaces listen to, as the kernel reports them to switches by IGMP and MLD.
//!
//! Netlink reports IPv4 groups since Linux 6.15 only; `/proc/net/igmp` and `/proc/net/igmp6` always have. They speak of
//! the network namespace of the thread whose they are. Source filters of sockets are in neither.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::Error;

const IGMP: &str = "/proc/thread-self/net/igmp";
const MLD: &str = "/proc/thread-self/net/igmp6";

/// All hosts: every host is a member, and none reports it (RFC 3376 5).
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// All nodes: likewise (RFC 3810 6).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What one interface listens to, but for what is never reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memberships {
    /// IPv4 groups.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6 groups.
    pub v6: Vec<Ipv6Addr>,
    /// Whether a querier of the link speaks an older IGMP than version 3.
    pub old_igmp: bool,
}

/// What the interfaces of the calling thread's network namespace listen to, by their index. A kernel without IPv6 has no
/// groups of it.
pub fn memberships() -> Result<BTreeMap<u32, Memberships>, Error> {
    let unreadable = |path| move |source| Error::Kernel { what: format!("read {path}"), source };
    let v4 = fs::read_to_string(IGMP).map_err(unreadable(IGMP))?;
    let v6 = match fs::read_to_string(MLD) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(unreadable(MLD))?,
    };
    Ok(Memberships::parse(&v4, &v6))
}

impl Memberships {
    /// Reads both tables. Lines that are none of theirs are left out.
    pub fn parse(igmp: &str, mld: &str) -> BTreeMap<u32, Self> {
        let mut found = BTreeMap::new();
        parse_igmp(igmp, &mut found);
        parse_mld(mld, &mut found);
        found
    }
}

/// Reads a line for every interface (index, name, colon, number of groups, version of the querier), and after it a line
/// for every group, which begins with a tab and its address: the number in memory, in hexadecimal digits.
fn parse_igmp(text: &str, found: &mut BTreeMap<u32, Memberships>) {
    let mut index = 0;
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if !line.starts_with('\t') {
            let Ok(number) = first.parse() else { continue };
            index = number;
            let entry: &mut Memberships = found.entry(index).or_default();
            entry.old_igmp = words.last().is_some_and(|version| version != "V3");
        } else if let Ok(number) = u32::from_str_radix(first, 16) {
            let group = Ipv4Addr::from(number.to_ne_bytes());
            if group != ALL_HOSTS {
                found.entry(index).or_default().v4.push(group);
            }
        }
    }
}

/// Reads lines of index, name, the 32 hexadecimal digits of a group, and more.
fn parse_mld(text: &str, found: &mut BTreeMap<u32, Memberships>) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let index = words.next().and_then(|index| index.parse().ok());
        let group = words.nth(1).and_then(|digits| u128::from_str_radix(digits, 16).ok()).map(Ipv6Addr::from);
        let (Some(index), Some(group)) = (index, group) else { continue };
        // What does not leave the host, or its interface, is not reported.
        let scope = group.octets()[1] & 0xf;
        if group != ALL_NODES && scope > 1 {
            found.entry(index).or_default().v6.push(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn igmp_as_the_kernel_writes_it() {
        let number = |group: Ipv4Addr| format!("{:08X}", u32::from_ne_bytes(group.octets()));
        let (all, mine, other) =
            (number(ALL_HOSTS), number(Ipv4Addr::new(224, 0, 0, 178)), number(Ipv4Addr::new(239, 1, 2, 3)));
        let text = format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
             1\tlo        :     1      V3\n\t\t\t\t{all}     1 0:00000000\t\t0\n\
             7\tproduction0:     3      V3\n\t\t\t\t{mine}     1 0:00000000\t\t0\n\
             \t\t\t\t{all}     1 0:00000000\t\t0\n\
             9\teth0      :     1      V2\n\t\t\t\t{other}     2 1:00000FA0\t\t1\n"
        );
        let mut found = BTreeMap::new();
        parse_igmp(&text, &mut found);
        assert_eq!(found[&1], Memberships::default());
        assert_eq!(found[&7].v4, [Ipv4Addr::new(224, 0, 0, 178)]);
        assert_eq!(found[&9].v4, [Ipv4Addr::new(239, 1, 2, 3)]);
        assert_eq!([1, 7, 9].map(|index| found[&index].old_igmp), [false, false, true]);
    }

    #[test]
    fn mld_as_the_kernel_writes_it() {
        let text = "7    production0     ff0200000000000000000001ff000200     1 00000004 0\n\
                    7    production0     ff020000000000000000000000000001     1 0000000C 0\n\
                    7    production0     ff010000000000000000000000000001     1 00000008 0\n";
        let mut found = BTreeMap::new();
        parse_mld(text, &mut found);
        assert_eq!(found[&7].v6, ["ff02::1:ff00:200".parse::<Ipv6Addr>().unwrap()]);
    }

    #[test]
    fn what_was_joined_is_found() {
        crate::link::testing::in_namespace(|links| async move {
            let (eth0, _) = links.add_pair("eth0", "sw0").await;
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            let socket = socket2::Socket::from(socket);
            let group = Ipv4Addr::new(239, 178, 0, 1);
            let interface = socket2::InterfaceIndexOrAddress::Index(eth0.ifindex);
            socket.join_multicast_v4_n(&group, &interface).unwrap();
            let found = memberships().unwrap();
            assert_eq!(found[&eth0.ifindex].v4, [group]);
        });
    }
}
