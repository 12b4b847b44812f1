//! Addresses: bytes in map keys, words on the stack of a program.

/// An IP address as a map key: IPv4 in its IPv4-mapped form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, align(8))]
pub struct Ip {
    /// In network byte order.
    pub octets: [u8; 16],
}

impl Ip {
    /// The unspecified address, `::`.
    pub const UNSPECIFIED: Self = Self::v6([0; 16]);

    /// An IPv6 address from two words with its bytes in memory order. Words, because the verifier requires aligned stack
    /// accesses, and the compiler would copy byte arrays one byte at a time.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        // SAFETY: sixteen bytes are sixteen bytes.
        Self::v6(unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(words) })
    }

    /// Its bytes as two words in memory order.
    #[inline(always)]
    pub const fn words(self) -> [u64; 2] {
        // SAFETY: sixteen bytes are sixteen bytes.
        unsafe { core::mem::transmute::<[u8; 16], [u64; 2]>(self.octets) }
    }

    /// An IPv4 address, `::ffff:a.b.c.d`, from a word with its bytes in memory order.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        let mapped = u32::from_ne_bytes([0, 0, 0xff, 0xff]) as u64;
        let low = if cfg!(target_endian = "little") {
            mapped | (word as u64) << 32
        } else {
            mapped << 32 | word as u64
        };
        Self::from_words([0, low])
    }

    /// An IPv4 address.
    #[inline(always)]
    pub const fn v4(address: [u8; 4]) -> Self {
        Self::from_v4_word(u32::from_ne_bytes(address))
    }

    /// An IPv6 address.
    #[inline(always)]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self { octets }
    }
}

impl From<core::net::IpAddr> for Ip {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(address) => Self::v4(address.octets()),
            core::net::IpAddr::V6(address) => Self::v6(address.octets()),
        }
    }
}

impl From<Ip> for core::net::IpAddr {
    fn from(ip: Ip) -> Self {
        core::net::Ipv6Addr::from(ip.octets).to_canonical()
    }
}

/// A MAC as a map key, padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, align(8))]
pub struct MacKey {
    /// The MAC.
    pub mac: [u8; 6],
    /// Zeros.
    pub pad: [u8; 2],
}

impl MacKey {
    /// The key of a MAC.
    #[inline(always)]
    pub const fn new(mac: [u8; 6]) -> Self {
        Self { mac, pad: [0; 2] }
    }
}

impl From<Mac> for MacKey {
    #[inline(always)]
    fn from(mac: Mac) -> Self {
        // SAFETY: eight bytes of either type, any of them a value of the other.
        unsafe { core::mem::transmute(mac.0.to_le()) }
    }
}

/// A MAC as a number, its first byte in the lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Mac(pub u64);

impl Mac {
    /// The MAC in the lowest bits of a word; the others are ignored.
    #[inline(always)]
    pub const fn in_lowest_bits(word: u64) -> Self {
        Self(word & 0xffff_ffff_ffff)
    }
    /// Whether it is a multicast or broadcast MAC.
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        self.0 & 1 == 1
    }
    /// Its bytes in transmission order.
    #[inline(always)]
    pub const fn bytes(self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }
}

/// In the usual form: `02:00:5e:00:00:01`.
impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [first, rest @ ..] = self.bytes();
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl From<[u8; 6]> for Mac {
    #[inline(always)]
    fn from([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_keys_from_frames_and_from_user_space_are_equal() {
        let mac = [0x02, 0xfc, 1, 2, 3, 0xff];
        assert_eq!(MacKey::from(Mac::from(mac)), MacKey::new(mac));
    }

    #[test]
    fn addresses_convert_to_keys_and_back() {
        for text in ["192.168.178.200", "2001:db8::1", "fe80::1"] {
            let address: core::net::IpAddr = text.parse().unwrap();
            assert_eq!(core::net::IpAddr::from(Ip::from(address)), address);
        }
    }
}
