//! Probing, where it meets the network: what is sent, and what the kernel knows of who is to answer.
//!
//! [`core::probe`](crate::core::probe) decides; here is what it takes to do it.
//!
//! | module | what |
//! |---|---|
//! | [`frame`] | the bytes of probes |
//! | [`random`] | what nobody can guess |
//! | [`neighbours`] | the MACs of targets |
//! | [`searches`] | looking for hosts |
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
