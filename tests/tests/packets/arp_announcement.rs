//! ARP announcements (RFC 5227, and the older reply form): sender and target are the same address.

use crate::{
    frames::*,
    harness::{CAST, DATA4, INBOUND, PEER4, run},
};

#[test]
fn ours_leave_by_the_inbound_member() {
    lab::needs_root!();
    run(|bench| {
        let request = |mac| ethernet(BROADCAST, mac, ARP, &arp(1, (mac, DATA4), (NO_MAC, DATA4)));
        bench.egress(&request(GROUP_MAC)).leaves_by(INBOUND, &request(member_mac(INBOUND)));
        let broadcast = |mac| ethernet(BROADCAST, mac, ARP, &arp(1, (mac, DATA4), (BROADCAST, DATA4)));
        bench.egress(&broadcast(GROUP_MAC)).leaves_by(INBOUND, &broadcast(member_mac(INBOUND)));
        // arping -A names the sender as the target, with its MAC.
        let reply = |mac| ethernet(BROADCAST, mac, ARP, &arp(2, (mac, DATA4), (mac, DATA4)));
        bench.egress(&reply(GROUP_MAC)).leaves_by(INBOUND, &reply(member_mac(INBOUND)));
    });
}

#[test]
fn others_are_taken_once() {
    lab::needs_root!();
    run(|bench| {
        for operation in [1, 2] {
            let received = |address| {
                ethernet(BROADCAST, PEER_MAC, ARP, &arp(operation, (PEER_MAC, address), (NO_MAC, address)))
            };
            // A neighbour's: the cast member. One that claims our address: where the address lives.
            for (address, taker) in [(PEER4, CAST), (DATA4, INBOUND)] {
                bench.is_taken_once(taker, &received(address));
            }
        }
    });
}
