//! Probing on the network: the frames that are sent, and the MACs of targets.
//!
//! [`core::probe`](crate::core::probe) decides what is sent when.
//!
//! | module | contents |
//! |---|---|
//! | [`frame`] | the bytes of probes |
//! | [`random`] | unguessable cookies |
//! | [`neighbours`] | the MACs of targets |
//! | [`searches`] | searches for hosts |
//! | [`test_frames`] | frames between members |
//!
//! Frames leave through [`announce::Sender`](crate::announce::Sender), and answers come in through the datapath's ring
//! buffer. Frames between members have a socket of their own.

pub mod frame;
pub mod neighbours;
pub mod random;
pub mod searches;
pub mod test_frames;

pub use neighbours::{Found, Neighbours};
pub use searches::Searches;
pub use test_frames::{TestFrame, TestFrames};

#[cfg(test)]
mod tests;
