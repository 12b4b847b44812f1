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

/// An unfinished hash: words go in one by one, [`Hash::finish`] gives 32 well-mixed bits.
///
/// The mixing is MurmurHash3's (x86, 32 bit): multiplications, rotations and shifts only. It does
/// not resist an attacker who chooses addresses to overload one member; the kernel's keyed hash (`connection`) does.
#[derive(Clone, Copy)]
pub struct Hash(u32);

impl Hash {
    /// The initial state.
    #[inline(always)]
    pub const fn new() -> Self {
        Self(0x9747_b28c)
    }
    /// Adds 32 bits.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u32) -> Self {
        let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
        Self((self.0 ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64))
    }
    /// Adds an IPv6 address, folded into one word first: four words would cost ten nanoseconds a packet.
    ///
    /// The upper half of a product by an odd number takes part in every bit below it, and differs wherever the upper half of the
    /// factor alone differs: neighbours, whose last bytes are loaded as the uppermost, never share a word.
    #[inline(always)]
    #[must_use]
    pub const fn address(self, address: Ip) -> Self {
        let [high, low] = address.words();
        let folded = high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        self.word((folded >> 32) as u32)
    }
    /// The hash.
    #[inline(always)]
    pub const fn finish(self) -> u32 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
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

    /// 65,536 neighbouring destinations over 4096 slots: the fullest slot of an ideal hash holds 16 ± 4·4.
    #[test]
    fn neighbouring_ipv4_destinations_use_all_slots() {
        let mut load = vec![0u32; SLOTS];
        for host in 0..65_536u32 {
            load[slot(Hash::new().word((0x0a00_0000 + host).to_be()).finish()) as usize] += 1;
        }
        assert!(load.iter().all(|&flows| (1..=40).contains(&flows)), "{:?}", load.iter().max());
    }

    #[test]
    fn neighbouring_ipv6_destinations_and_networks_use_all_slots() {
        let networks = |number: u32| (u128::from(number) << 64) + 1;
        let hosts = |number: u32| u128::from(number);
        // As autoconfiguration derives them from the MACs of one vendor.
        let autoconfigured = |number: u32| 0x0200_5eff_fe00_0000 + u128::from(number);
        for places in [networks, hosts, autoconfigured] {
            let mut load = vec![0u32; SLOTS];
            for number in 0..65_536 {
                let address = std::net::IpAddr::from(std::net::Ipv6Addr::from_bits(
                    (0x2001_0db8 << 96) + places(number),
                ));
                load[slot(Hash::new().address(Ip::from(address)).finish()) as usize] += 1;
            }
            assert!(load.iter().all(|&flows| (1..=40).contains(&flows)), "{:?}", load.iter().max());
        }
    }

    #[test]
    fn ports_alone_change_the_slot() {
        let at = |port: u32| slot(Hash::new().word(1).word(2).word(6).word(port).finish());
        let distinct: std::collections::HashSet<_> = (0..1000).map(at).collect();
        assert!(distinct.len() > 850, "{} of 1000 ports have a slot of their own", distinct.len());
    }
}
