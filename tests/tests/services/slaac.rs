//! Router advertisements (of dnsmasq): the group interface accepts them, its members do not.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use lab::dhcp::dnsmasq;
use lab::ping;
use lab::production::GROUP;
use lab::{Lab, MS, Production, Program, TIMEOUT, wait_until};

use crate::{data_addresses, wait_inbound, without_addresses};

/// The prefixes that the router advertises, a /64 each: the first from the start, the other later.
const FIRST: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x178, 9, 0, 0, 0, 0, 0);
const LATER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x178, 0xa, 0, 0, 0, 0, 0);
/// A host behind the router.
const BEYOND: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);

/// Makes the router advertise itself and these prefixes, at once and then as in RFC 4861 section 6.2.4.
fn advertise(lab: &Lab, prefixes: &[Ipv6Addr]) -> Program {
    let ranges = prefixes.iter().map(|prefix| format!("--dhcp-range={prefix},ra-only,64,600"));
    let services: Vec<String> = std::iter::once("--enable-ra".to_owned()).chain(ranges).collect();
    dnsmasq(lab, &services.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
}

/// The addresses that the group has of a prefix.
fn addresses_of(production: &Production<'_>, prefix: Ipv6Addr) -> BTreeSet<Ipv6Addr> {
    let all = data_addresses(production).into_iter().filter_map(|known| match known.address {
        IpAddr::V6(address) if address.segments()[..4] == prefix.segments()[..4] => Some(address),
        _ => None,
    });
    all.collect()
}

/// Waits until the group has a stable and a temporary address of a prefix, with inbound members.
fn wait_addresses(production: &Production<'_>, prefix: Ipv6Addr) -> BTreeSet<Ipv6Addr> {
    let two = || addresses_of(production, prefix).len() == 2;
    assert!(wait_until(TIMEOUT, two), "not two of {prefix}:\n{}", production.show());
    let addresses = addresses_of(production, prefix);
    for address in &addresses {
        wait_inbound(production, (*address).into());
    }
    addresses
}

/// Checks that the group is reachable at these addresses, and reaches a host behind the advertised router.
fn assert_reached(lab: &Lab, addresses: &BTreeSet<Ipv6Addr>, what: &str) {
    for address in addresses {
        let ping = lab.router().ping((*address).into(), 5, 10 * MS, TIMEOUT).unwrap();
        assert_eq!((ping.answered, ping.duplicates), (5, 0), "{what}: {address} from the router");
    }
    let ping = ping(lab.host(), None, BEYOND.into(), 5, 10 * MS, TIMEOUT).unwrap();
    assert_eq!((ping.answered, ping.duplicates), (5, 0), "{what}: beyond the router");
}

/// Checks that no member has a global address or a default route.
fn assert_members_unconfigured(lab: &Lab, what: &str) {
    for member in lab.members() {
        let name = member.name();
        let addresses = lab.host().ip(&format!("-6 -br address show dev {name} scope global")).unwrap();
        let routes = lab.host().ip(&format!("-6 route show default dev {name}")).unwrap();
        assert!(addresses.is_empty() && routes.is_empty(), "{what}: {name} has {addresses}{routes}");
    }
}

#[test]
fn router_advertisements_configure_only_the_group() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let router = lab.router().namespace();
    router.sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
    for prefix in [FIRST, LATER] {
        router.ip(&format!("addr add {prefix}1/64 dev eth0 nodad")).unwrap();
    }
    router.ip(&format!("addr add {BEYOND}/128 dev lo nodad")).unwrap();
    // Privacy extensions, enabled before there is a group.
    lab.host().sysctl("net.ipv6.conf.default.use_tempaddr", "2").unwrap();
    let production = without_addresses(&lab);
    let mut advertiser = advertise(&lab, &[FIRST]);
    let first = wait_addresses(&production, FIRST);
    let [a, b, c, d, e, f] = lab.host().link(GROUP).unwrap().mac;
    let stable = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    assert!(first.contains(&Ipv6Addr::from(u128::from(FIRST) | u128::from(stable))), "{first:?}");
    let routes = lab.host().ip("-6 route show default").unwrap();
    assert!(routes.contains(&format!("dev {GROUP} proto ra")), "{routes}");
    assert_reached(&lab, &first, "advertised");
    assert_members_unconfigured(&lab, "advertised");
    println!("{first:?}; {}", routes.trim());

    let out = production.cast().unwrap();
    lab.member(&out).cable().pull().unwrap();
    assert!(wait_until(TIMEOUT, || production.cast().unwrap() != out), "{}", production.show());
    assert_reached(&lab, &first, "the cast member is unplugged");
    assert_eq!(addresses_of(&production, FIRST), first);

    // New advertisements can only be received by another member.
    advertiser.terminate().unwrap();
    let advertiser = advertise(&lab, &[FIRST, LATER]);
    let later = wait_addresses(&production, LATER);
    assert_reached(&lab, &later, "advertised while the first cast member is unplugged");
    println!("while {out} is unplugged: {later:?}");

    lab.member(&out).cable().replug().unwrap();
    production.wait_usable(lab.members().len()).unwrap();
    assert_reached(&lab, &first, "the cast member is plugged in again");
    assert_reached(&lab, &later, "the cast member is plugged in again");
    assert_members_unconfigured(&lab, "the cast member is plugged in again");
    drop(advertiser);
    production.assert_clean();
}
