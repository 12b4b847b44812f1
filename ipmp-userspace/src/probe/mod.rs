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
//!
//! Frames leave through [`announce::Sender`](crate::announce::Sender), and answers come in through the datapath's ring
//! buffer.

pub mod frame;
pub mod neighbours;
pub mod random;
pub mod searches;

pub use neighbours::{Found, Neighbours};
pub use searches::Searches;

#[cfg(test)]
mod tests;
