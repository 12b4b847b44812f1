//! Shared by the eBPF programs: reading a network device, and counters.
#![no_std]

pub mod count;
pub mod device;
