//! Source addresses of connections that this host opens.

use super::Ip;

/// Maximum number of addresses in a set.
pub const MAX_SOURCES: usize = 64;
/// Maximum number of sets.
pub const MAX_SOURCE_SETS: u32 = 256;
/// Maximum number of prefixes of destinations.
pub const MAX_SOURCE_PREFIXES: u32 = 16_384;
/// In place of a set: the kernel selects the source address.
pub const NO_SOURCE_SET: u32 = u32::MAX;

/// Addresses that serve equally as source for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SourceSet {
    /// Number of addresses: at least 1, at most [`MAX_SOURCES`].
    pub count: u32,
    /// Zero.
    pub pad: u32,
    /// The addresses, then unspecified ones.
    pub addresses: [Ip; MAX_SOURCES],
}

impl SourceSet {
    /// A set of these addresses; of those beyond [`MAX_SOURCES`] none.
    pub fn of(addresses: impl IntoIterator<Item = Ip>) -> Self {
        let mut set = Self { count: 0, pad: 0, addresses: [Ip::UNSPECIFIED; MAX_SOURCES] };
        for (place, address) in set.addresses.iter_mut().zip(addresses) {
            *place = address;
            set.count += 1;
        }
        set
    }
}
