//! Frames cut off inside their headers: dropped as truncated on the way out, left to the stack on the way in. Those that
//! the kernel does not run programs with ([`Bench::runs`]) are sent for real.

use crate::{frames::*, harness::*};

/// What a frame is, the frame, and how many bytes of it suffice to tell its way.
type Sample = (&'static str, Vec<u8>, usize);

/// A frame of every kind with headers, to a host.
fn samples(macs: (Mac, Mac), v4: (Ipv4Addr, Ipv4Addr), v6: (Ipv6Addr, Ipv6Addr)) -> Vec<Sample> {
    let of = |ethertype, packet: &[u8]| ethernet(macs.1, macs.0, ethertype, packet);
    vec![
        ("IPv4", of(IPV4, &udp4(v4.0, v4.1, (1, 2), b"")), 14 + 20),
        ("IPv6", of(IPV6, &udp6(v6.0, v6.1, (1, 2), b"")), 14 + 40),
        ("ARP", of(ARP, &arp(1, (macs.0, v4.0), (NO_MAC, v4.1))), 14 + 28),
        ("ICMPv6", of(IPV6, &icmp6_packet(128, v6.0, v6.1, b"")), 14 + 40 + 1),
        ("NS", of(IPV6, &solicitation(v6.0, v6.1, v6.1, &[])), 14 + 40 + 24),
        ("NA", of(IPV6, &advertisement(v6.0, v6.1, v6.0, SOLICITED, &[])), 14 + 40 + 24),
        ("redirect", of(IPV6, &redirect(v6.0, v6.1, v6.0, v6.1, &[])), 14 + 40 + 24),
        ("RS", of(IPV6, &icmp6_packet(133, v6.0, v6.1, &[0; 4])), 14 + 40 + 1),
        ("RA", of(IPV6, &icmp6_packet(134, v6.0, v6.1, &[0; 12])), 14 + 40 + 1),
    ]
}

/// The same behind a tag.
fn in_vlan((what, frame, enough): Sample, vlan: u16) -> Sample {
    (what, tagged(&frame, VLAN, vlan), enough + 4)
}

#[test]
fn ours_are_dropped_as_truncated() {
    lab::needs_root!();
    run(|bench| {
        let plain = samples((GROUP_MAC, PEER_MAC), (DATA4, PEER4), (DATA6, PEER6));
        let in_vlans = plain.clone().into_iter().map(|sample| in_vlan(sample, 20));
        let mut really_sent = 0;
        for (what, frame, enough) in plain.clone().into_iter().chain(in_vlans) {
            // The first byte of the message selects the list; writing the MAC needs the checksum, too.
            let enough = if matches!(what, "RS" | "RA") { enough + 3 } else { enough };
            for length in 14..enough {
                println!("{what} of {length} bytes");
                if bench.runs(&frame[..length]) {
                    bench.egress(&frame[..length]).is_dropped(Reason::Truncated);
                } else {
                    let expected = (false, Tally::dropped(Reason::Truncated));
                    assert_eq!(bench.send(&frame[..length]), expected);
                    really_sent += 1;
                }
            }
            assert_eq!(bench.egress(&frame[..enough]).verdict, Verdict::Redirect, "{what} of {enough} bytes");
        }
        let report = ethernet(multicast_mac6(MLD_ROUTERS), GROUP_MAC, IPV6, &mld_report(DATA_LOCAL6));
        for length in 14 + 40..14 + 40 + 9 {
            bench.egress(&report[..length]).is_dropped(Reason::Truncated);
        }
        assert!(really_sent >= plain.len(), "bare Ethernet headers are among them");
    });
}

#[test]
fn others_are_left_to_the_stack() {
    lab::needs_root!();
    run(|bench| {
        bench.group.set_vlans(&[20]).unwrap();
        let mut really_sent = Vec::new();
        for destination in [member_mac(CAST), BROADCAST, GROUP_MAC, PEER_MAC] {
            let plain = samples((PEER_MAC, destination), (PEER4, DATA4), (PEER_LOCAL6, DATA6));
            for (what, frame, enough) in plain {
                // Unicast to a data address needs that address and nothing behind it.
                let enough = if destination == member_mac(CAST) { enough.min(14 + 40) } else { enough };
                for length in 14..enough {
                    println!("{what} of {length} bytes to {}", lab::show_mac(destination));
                    if bench.runs(&frame[..length]) {
                        bench.ingress(CAST, &frame[..length]).is_untouched();
                    } else {
                        really_sent.push(frame[..length].to_vec());
                    }
                }
            }
            // A tag cut off is no header at all.
            for length in 15..18 {
                let frame = tagged(&ethernet(destination, PEER_MAC, IPV4, &[]), VLAN, 20);
                bench.ingress(CAST, &frame[..length]).is_untouched();
            }
        }
        assert_eq!(bench.receive(CAST, &really_sent), Tally::default());
    });
}
