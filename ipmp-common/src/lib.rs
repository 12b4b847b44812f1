//! What `ipmpd` and its eBPF programs share: the layout of every map, and every rule that both sides apply.
//!
//! | module | what |
//! |---|---|
//! | [`maps`] | the values of the pinned maps, byte for byte, and the limits they imply |
//! | [`address`] | IP and MAC addresses as keys and as words |
//! | [`steer`] | preference lists and sets of members |
//! | [`select`] | the rule that selects a member of a list |
//! | [`hash`] | a flow's hash, for the policies that do not take the kernel's |
//! | [`frame`] | bounded reads of a frame, and what a frame is to us |
//! | [`nd`] | Neighbour Discovery messages and options |
//! | [`probe`] | the payload of an echo request that probes |
//! | [`reply`] | what answers a probe |
//!
//! The same code runs in the kernel, in the daemon, in `ipmpctl path` and in the property tests. It is `no_std`,
//! allocates nothing and cannot panic where the verifier would see it.
#![cfg_attr(not(test), no_std)]

pub mod address;
pub mod frame;
pub mod hash;
pub mod maps;
pub mod nd;
pub mod probe;
pub mod reply;
pub mod select;
pub mod steer;

/// Version of the map layouts and of their meaning: part of the pin path, so that a daemon never adopts maps
/// that it would misread.
pub const LAYOUT: u32 = 2;
