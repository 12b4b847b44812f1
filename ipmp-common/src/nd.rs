//! Neighbour Discovery (RFC 4861): the messages and the one kind of option that steering rewrites.

/// ICMPv6 types of Neighbour Discovery.
pub const ROUTER_SOLICITATION: u8 = 133;
/// Router Advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour Solicitation.
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour Advertisement.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Redirect.
pub const REDIRECT: u8 = 137;

/// Option type of the link-layer address of the sender (NS, RS, RA).
pub const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// Option type of the link-layer address of the target (NA, Redirect).
pub const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// Head of a Neighbour Solicitation or Advertisement, and of a Redirect: ICMPv6 header, then the target.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub struct Neighbour {
    /// ICMPv6 type.
    pub kind: u8,
    /// ICMPv6 code, 0.
    pub code: u8,
    /// ICMPv6 checksum.
    pub check: [u8; 2],
    /// Flags of an advertisement (R, S, O in the top bits), reserved otherwise.
    pub flags: [u8; 4],
    /// The solicited or advertised address.
    pub target: [u8; 16],
}

/// Head of any option.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub struct OptionHead {
    /// Option type.
    pub kind: u8,
    /// Length in units of 8 bytes, this head included; 0 is malformed.
    pub len: u8,
}

/// A link-layer address option of an Ethernet: 8 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub struct LinkLayerOption {
    /// Type and length.
    pub head: OptionHead,
    /// The MAC.
    pub mac: [u8; 6],
}

/// Bytes from the start of the ICMPv6 header to the first option, by ICMPv6 type; `None` if the type is not
/// Neighbour Discovery.
#[inline(always)]
pub const fn options_at(kind: u8) -> Option<usize> {
    match kind {
        ROUTER_SOLICITATION => Some(8),
        ROUTER_ADVERTISEMENT => Some(16),
        NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT => Some(24),
        REDIRECT => Some(40),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_rfc() {
        assert_eq!(size_of::<Neighbour>(), 24);
        assert_eq!(size_of::<LinkLayerOption>(), 8);
        assert_eq!(options_at(NEIGHBOUR_SOLICITATION), Some(size_of::<Neighbour>()));
    }
}
