//! The payload of an echo request that probes; the reply contains the same.
//!
//! ```text
//!   ICMP or ICMPv6 header: type, code 0, checksum, identifier, sequence
//!   0  MARK    12 bytes, readable in a capture; ingress recognizes replies by it
//!   12 cookie   8 bytes, a random number of that probe alone, little endian
//! ```

/// The first bytes of every payload.
pub const MARK: [u8; 12] = *b"ipmp probe: ";
/// Offset of the cookie in the payload.
pub const COOKIE_AT: usize = MARK.len();
/// Bytes of the payload.
pub const PAYLOAD: usize = COOKIE_AT + size_of::<u64>();
/// Bytes of an ICMP or ICMPv6 echo header.
pub const HEADER: usize = 8;

/// ICMP types (RFC 792).
pub const ECHO_REPLY: u8 = 0;
/// Echo request.
pub const ECHO: u8 = 8;
/// ICMPv6 types (RFC 4443).
pub const ECHO_V6: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY_V6: u8 = 129;
