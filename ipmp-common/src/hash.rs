//! The hash of a flow, for the policies that do not use the kernel's.
//!
//! `connection` uses the socket's transmit hash, or the kernel's flow dissector without a socket, and nothing from here. `flow` and `destination` are reproducible: the same packet gives the same slot on
//! every boot and every host, so that `ipmpctl path` can predict the member of a flow.

use crate::address::Ip;

/// What a packet's slot depends on. Set per group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(strum::Display, strum::EnumString, strum::IntoStaticStr, serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case"),
    strum(serialize_all = "snake_case")
)]
#[repr(u32)]
pub enum HashPolicy {
    /// The socket's transmit hash: constant while a connection is healthy, re-rolled by TCP at each
    /// retransmission timeout.
    Connection = 0,
    /// Addresses, protocol and ports: for forwarded traffic.
    Flow = 1,
    /// The destination address alone, as Solaris does.
    Destination = 2,
}

impl HashPolicy {
    /// Every policy, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Connection, Self::Flow, Self::Destination];

    /// The policy as it is written in commands and reports.
    #[cfg(feature = "user")]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Odd constants of splitmix64 and XXH64, one for each part of a flow.
const MULTIPLIERS: [u64; 5] = [
    0x9e37_79b9_7f4a_7c15,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];
/// Constants of the end of XXH64.
const MIX: [u64; 2] = [0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9];

/// The hash of a flow's parts: 32 well-mixed bits.
///
/// The parts are numbers, in which the last byte of an address is in the lowest bits: a product depends on them in all of its bits.
/// The multiplications of the parts do not wait for each other; then follows the end of XXH64, which mixes their sum. Two flows have
/// the same sum only by chance, since the multipliers have no small common multiples. It does not resist an attacker who chooses
/// addresses to overload one member; the kernel's keyed hash (`connection`) does.
#[inline(always)]
pub const fn hash<const PARTS: usize>(parts: [u64; PARTS]) -> u32 {
    const { assert!(PARTS <= MULTIPLIERS.len()) };
    let mut sum = 0u64;
    let mut part = 0;
    while part < PARTS {
        sum = sum.wrapping_add(parts[part].wrapping_mul(MULTIPLIERS[part]));
        part += 1;
    }
    let mixed = (sum ^ sum >> 33).wrapping_mul(MIX[0]);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(MIX[1]);
    (mixed >> 32) as u32
}

/// The bit of an address in a 64-bit Bloom filter. On a match, a lookup decides.
#[inline(always)]
pub const fn filter_bit(ip: Ip) -> u64 {
    let [high, low] = ip.words();
    1 << ((high ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steer::{SLOTS, slot};
    use std::array::from_fn;

    /// The parts of the flow with this number, in one of many patterns of real networks.
    type Pattern<const PARTS: usize> = fn(u32) -> [u64; PARTS];

    fn v4(source: u32, destination: u32) -> u64 {
        u64::from(source) << 32 | u64::from(destination)
    }

    fn v6(address: u128) -> [u64; 2] {
        let address = 0x2001_0db8 << 96 | address;
        [(address >> 64) as u64, address as u64]
    }

    fn last(protocol: u8, source: u32, destination: u32) -> u64 {
        u64::from(protocol) << 32 | u64::from(source << 16 | destination)
    }

    const HOST: u32 = 0xc0a8_01c8;
    const PEER: u32 = 0x0a00_0000;

    /// 65,536 flows over 4096 slots: the fullest slot of an ideal hash has 16 ± 4·4 of them.
    fn uses_all_slots<const PARTS: usize>(name: &str, pattern: Pattern<PARTS>) {
        let mut load = vec![0u32; SLOTS];
        for number in 0..65_536 {
            load[slot(hash(pattern(number))) as usize] += 1;
        }
        let (least, most) = (load.iter().min().unwrap(), load.iter().max().unwrap());
        assert!(*least >= 1 && *most <= 40, "{name}: {least} to {most} flows in a slot");
    }

    #[test]
    fn patterns_of_ipv4_flows_use_all_slots() {
        let patterns: [(&str, Pattern<2>); 8] = [
            ("clients of one server", |n| [v4(PEER, HOST + n), last(6, 40_000, 443)]),
            ("networks", |n| [v4(PEER, n << 16), last(6, 40_000, 443)]),
            ("ports of one client", |n| [v4(PEER, HOST), last(6, n, 443)]),
            ("ports of one server", |n| [v4(PEER, HOST), last(17, 5000, n)]),
            ("both ports", |n| [v4(PEER, HOST), last(17, n >> 8, n & 255)]),
            ("equal ports", |n| [v4(PEER, HOST), last(17, n, n)]),
            ("clients and their ports", |n| [v4(PEER, HOST + (n >> 8)), last(6, 32_768 + (n & 255), 443)]),
            ("sources and destinations", |n| [v4(PEER + (n >> 8), HOST + (n & 255)), last(50, 0, 0)]),
        ];
        for (name, pattern) in patterns {
            uses_all_slots(name, pattern);
        }
    }

    #[test]
    fn patterns_of_ipv6_flows_use_all_slots() {
        fn flow(source: u128, destination: u128, last: u64) -> [u64; 5] {
            let ([a, b], [c, d]) = (v6(source), v6(destination));
            [a, b, c, d, last]
        }
        let patterns: [(&str, Pattern<5>); 5] = [
            ("clients of one server", |n| flow(1, n.into(), last(6, 40_000, 443))),
            ("networks", |n| flow(1, u128::from(n) << 64 | 1, last(6, 40_000, 443))),
            ("autoconfigured", |n| flow(1, 0x0200_5eff_fe00_0000 + u128::from(n), last(6, 40_000, 443))),
            ("ports of one client", |n| flow(1, 2, last(6, n, 443))),
            ("sources and destinations", |n| flow((n >> 8).into(), (n & 255).into(), last(50, 0, 0))),
        ];
        for (name, pattern) in patterns {
            uses_all_slots(name, pattern);
        }
    }

    #[test]
    fn patterns_of_destinations_use_all_slots() {
        uses_all_slots::<1>("IPv4 hosts", |n| [(PEER + n).into()]);
        uses_all_slots::<1>("IPv4 networks", |n| [(n << 16).into()]);
        uses_all_slots::<2>("IPv6 hosts", |n| v6(n.into()));
        uses_all_slots::<2>("IPv6 networks", |n| v6(u128::from(n) << 64 | 1));
        uses_all_slots::<2>("autoconfigured", |n| v6(0x0200_5eff_fe00_0000 + u128::from(n)));
    }

    /// Each bit of the parts changes each bit of the slot in half of all flows: 2,048 of them, ± 6 standard deviations of 1.1 %.
    #[test]
    fn each_bit_of_a_flow_changes_each_bit_of_its_slot_with_even_odds() {
        fn check<const PARTS: usize>() {
            const FLOWS: u64 = 2_048;
            for bit in 0..PARTS * 64 {
                let mut changed = [0; SLOTS.ilog2() as usize];
                for flow in 0..FLOWS {
                    // Counters, not random numbers: real addresses have few different bits.
                    let parts: [u64; PARTS] = from_fn(|part| flow.wrapping_mul(0x1_0001_0001 + part as u64));
                    let mut other = parts;
                    other[bit / 64] ^= 1 << (bit % 64);
                    let difference = slot(hash(parts)) ^ slot(hash(other));
                    changed.iter_mut().enumerate().for_each(|(to, count)| *count += difference >> to & 1);
                }
                for (to, count) in changed.iter().enumerate() {
                    let odds = f64::from(*count) / FLOWS as f64;
                    assert!(
                        (0.4..0.6).contains(&odds),
                        "bit {bit} of {PARTS} parts, bit {to} of the slot: {odds}"
                    );
                }
            }
        }
        check::<1>();
        check::<2>();
        check::<5>();
    }
}
