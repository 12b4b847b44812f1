//! A DHCP client on a member itself receives replies of its server: replies to its MAC are passed, with any destination. Replies
//! to other MACs are accepted by the group.

use crate::{
    frames::*,
    harness::{CAST, FLOWS, INBOUND, Reason, STRANGER4, run},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// An offer (RFC 2131): BOOTREPLY, Ethernet, and the client's hardware address at 28.
fn offer(to: Mac, address: Ipv4Addr, client: Mac) -> Vec<u8> {
    let mut bootp = vec![0; 300];
    bootp[..3].copy_from_slice(&[2, 1, 6]);
    bootp[16..20].copy_from_slice(&STRANGER4.octets());
    bootp[28..34].copy_from_slice(&client);
    bootp[236..243].copy_from_slice(&[99, 130, 83, 99, 53, 1, 2]);
    ethernet(to, PEER_MAC, IPV4, &udp4(SERVER, address, (67, 68), &bootp))
}

#[test]
fn what_is_for_its_member_reaches_it() {
    lab::needs_root!();
    run(|bench| {
        for member in [FLOWS, CAST, INBOUND] {
            let mac = member_mac(member);
            bench.ingress(member, &offer(BROADCAST, Ipv4Addr::BROADCAST, mac)).is_untouched();
            bench.ingress(member, &offer(mac, STRANGER4, mac)).is_untouched();
            // The copies of a broadcast that the others receive are the group's.
            for other in (0..3).filter(|other| *other != member) {
                let copy = bench.ingress(other, &offer(BROADCAST, Ipv4Addr::BROADCAST, mac));
                if other == CAST {
                    copy.is_taken(CAST, &offer(BROADCAST, Ipv4Addr::BROADCAST, mac));
                } else {
                    copy.is_dropped(Reason::OtherCopy);
                }
            }
        }
    });
}

#[test]
fn what_is_for_others_is_the_groups() {
    lab::needs_root!();
    run(|bench| {
        for client in [GROUP_MAC, [2, 0, 0, 0, 7, 7]] {
            bench.is_taken_once(CAST, &offer(BROADCAST, Ipv4Addr::BROADCAST, client));
        }
        let to_group = offer(member_mac(INBOUND), STRANGER4, GROUP_MAC);
        bench.ingress(INBOUND, &to_group).is_taken(INBOUND, &with_destination(&to_group, GROUP_MAC));
        // No answer of a server: another port, a request, a message that is cut off before the hardware address.
        let mac = member_mac(INBOUND);
        let offer = offer(mac, STRANGER4, mac);
        for (at, value) in [(37, 67), (42, 1), (14, 0x46)] {
            let mut other = offer.clone();
            other[at] = value;
            bench.ingress(INBOUND, &other).is_taken(INBOUND, &with_destination(&other, GROUP_MAC));
        }
        let short = ethernet(mac, PEER_MAC, IPV4, &udp4(SERVER, STRANGER4, (67, 68), &[2, 1, 6, 0]));
        bench.ingress(INBOUND, &short).is_taken(INBOUND, &with_destination(&short, GROUP_MAC));
        let in_vlan = tagged(&offer, VLAN, 20);
        bench.ingress(INBOUND, &in_vlan).is_untouched();
    });
}
