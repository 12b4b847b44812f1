//! Shared by `ipmpd` and its eBPF programs: the layout of every map, and every rule that both sides apply.
//!
//! | module | content |
//! |---|---|
//! | [`maps`] | the values of the pinned maps, and their limits |
//! | [`address`] | IP and MAC addresses as keys and as words |
//! | [`steer`] | preference lists and sets of members |
//! | [`select`] | the rule that selects a member of a list |
//! | [`hash`] | the hash of a flow, for the policies that do not use the kernel's |
//! | [`frame`] | bounded reads of a frame, and the classification of its payload |
//! | [`nd`] | Neighbour Discovery messages and options |
//! | [`probe`] | the payload of an echo request that probes |
//! | [`reply`] | which frames are replies to probes |
//! | [`transition`] | members to which flows move, or from which, as they become idle |
//!
//! The same code runs in the kernel, in the daemon, in `ipmpctl path` and in the property tests. It is `no_std`, does not
//! allocate, and does not panic in code that eBPF compiles.
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
pub mod transition;

/// Version of the map layouts: part of the pin path, so that a daemon never adopts maps of another layout unread.
pub const LAYOUT: u32 = 2 + cfg!(feature = "next-layout") as u32;
