//! Classic IPMP (docs/solaris.md): at which logical interface of which member an address of a group is shown.
//!
//! An address from a classic line has a home: a member, and the number of one of its logical interfaces. While that member
//! receives for it, it is shown there; else at the lowest free number of the member that receives; if none receives, at the
//! one that received last.

use std::collections::BTreeSet;

use crate::control::report::{AddressReport, GroupReport};

/// A logical interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<'a> {
    /// Name of the member.
    pub member: &'a str,
    /// Its number; 0 is the member itself.
    pub number: u16,
    /// Its address.
    pub address: &'a AddressReport,
    /// The address is a data address.
    pub is_data: bool,
}

/// The logical interfaces of a family, in the order of the members and of their numbers. A member without a base address has
/// none with number 0.
pub fn place(group: &GroupReport, v6: bool) -> Vec<Placed<'_>> {
    let mut placed = Placement::default();
    for member in &group.members {
        let own = member.addresses.iter().filter(|known| known.address.is_ipv6() == v6);
        for (number, address) in (0..).zip(own) {
            placed.put(Placed { member: &member.name, number, address, is_data: false });
        }
    }
    let data = group.addresses.iter().filter(|known| known.address.is_ipv6() == v6);
    let (at_home, away): (Vec<_>, Vec<_>) = data.partition(|address| {
        home(address).is_some_and(|(member, number)| {
            receiver(group, address) == Some(member) && !placed.has(member, number)
        })
    });
    for address in at_home {
        if let Some((member, number)) = home(address) {
            placed.put(Placed { member, number, address, is_data: true });
        }
    }
    for address in away {
        let Some(member) = receiver(group, address) else { continue };
        let number = placed.free(member);
        placed.put(Placed { member, number, address, is_data: true });
    }
    let mut all = placed.all;
    let position = |name: &str| group.members.iter().position(|member| member.name == name);
    all.sort_by_key(|one| (position(one.member), one.number));
    all
}

/// The home of an address: a member, and the number of its logical interface.
pub fn home(address: &AddressReport) -> Option<(&str, u16)> {
    Some((address.preferred.as_deref()?, address.logical?))
}

/// The base address of this member is a data address that is shown elsewhere.
pub fn is_base_away(group: &GroupReport, member: &str, placed: &[Placed<'_>], v6: bool) -> bool {
    let mut data = group.addresses.iter().filter(|known| known.address.is_ipv6() == v6);
    data.any(|known| home(known) == Some((member, 0))) && !placed.iter().any(|one| is_at(one, member, 0))
}

/// The free numbers of logical interfaces of this member, from 1, that are no homes either.
pub fn free_numbers(group: &GroupReport, member: &str, v6: bool) -> impl Iterator<Item = u16> {
    let homes = group.addresses.iter().filter_map(home).filter(|(of, _)| *of == member);
    let placed = place(group, v6);
    let shown = placed.iter().filter(|one| one.member == member).map(|one| one.number);
    let taken: BTreeSet<u16> = shown.chain(homes.map(|(_, number)| number)).collect();
    (1..=u16::MAX).filter(move |number| !taken.contains(number))
}

fn is_at(one: &Placed<'_>, member: &str, number: u16) -> bool {
    one.member == member && one.number == number
}

/// The member that receives, or received last. An address that no member has received for is at its home, or at the first one.
fn receiver<'a>(group: &'a GroupReport, address: &'a AddressReport) -> Option<&'a str> {
    let known = |name: &&str| group.members.iter().any(|member| member.name == **name);
    let of = [&address.inbound, &address.last_inbound, &address.preferred];
    let named = of.into_iter().flatten().map(String::as_str).find(known);
    named.or_else(|| group.members.first().map(|member| member.name.as_str()))
}

#[derive(Default)]
struct Placement<'a> {
    all: Vec<Placed<'a>>,
}

impl<'a> Placement<'a> {
    fn put(&mut self, one: Placed<'a>) {
        self.all.push(one);
    }

    fn has(&self, member: &str, number: u16) -> bool {
        self.all.iter().any(|one| is_at(one, member, number))
    }

    fn free(&self, member: &str) -> u16 {
        (1..u16::MAX).find(|number| !self.has(member, *number)).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report;

    fn address(text: &str, inbound: Option<&str>, last: &str, home: Option<(&str, u16)>) -> AddressReport {
        AddressReport {
            inbound: inbound.map(str::to_owned),
            last_inbound: Some(last.to_owned()),
            preferred: home.map(|(member, _)| member.to_owned()),
            logical: home.map(|(_, number)| number),
            ..AddressReport::new(text.parse().unwrap(), 24)
        }
    }

    fn shown(addresses: Vec<AddressReport>, test: bool) -> Vec<String> {
        let mut group = GroupReport { addresses, ..report::sample() };
        if !test {
            group.members[0].addresses.clear();
        }
        let placed = place(&group, false);
        let mut shown: Vec<String> = placed
            .iter()
            .map(|one| format!("{}:{} {}", one.member, one.number, one.address.address))
            .collect();
        for member in &group.members {
            if is_base_away(&group, &member.name, &placed, false) {
                shown.push(format!("{}:0 -", member.name));
            }
        }
        shown
    }

    #[test]
    fn address_is_at_home_while_its_member_receives_else_at_lowest_free_number() {
        let base = |inbound| address("10.0.0.1", inbound, "e1000g0", Some(("e1000g0", 0)));
        let second = |inbound| address("10.0.0.2", inbound, "e1000g1", Some(("e1000g0", 1)));
        let (zero, one) = (Some("e1000g0"), Some("e1000g1"));
        assert_eq!(
            shown(vec![base(zero), second(zero)], false),
            ["e1000g0:0 10.0.0.1", "e1000g0:1 10.0.0.2"]
        );
        assert_eq!(
            shown(vec![base(one), second(one)], false),
            ["e1000g1:1 10.0.0.1", "e1000g1:2 10.0.0.2", "e1000g0:0 -"]
        );
        // None receives: each stays where it was.
        assert_eq!(
            shown(vec![base(None), second(None)], false),
            ["e1000g0:0 10.0.0.1", "e1000g1:1 10.0.0.2"]
        );
        // The base is a test address, which stays.
        assert_eq!(shown(vec![second(one)], true), ["e1000g0:0 192.168.178.201", "e1000g1:1 10.0.0.2"]);
        // An address without home, on a member with a home at the same number.
        let other = address("10.0.0.9", zero, "e1000g0", None);
        assert_eq!(shown(vec![other, second(zero)], false), ["e1000g0:1 10.0.0.2", "e1000g0:2 10.0.0.9"]);
    }

    #[test]
    fn new_number_is_neither_shown_nor_a_home() {
        let mut group = report::sample();
        group.addresses = vec![
            address("10.0.0.1", Some("e1000g1"), "e1000g1", Some(("e1000g0", 1))),
            address("10.0.0.2", Some("e1000g0"), "e1000g0", None),
        ];
        assert_eq!(free_numbers(&group, "e1000g0", false).next(), Some(2));
        assert_eq!(free_numbers(&group, "e1000g1", false).take(2).collect::<Vec<_>>(), [2, 3]);
    }
}
