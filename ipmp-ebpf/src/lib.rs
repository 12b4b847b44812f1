//! What the eBPF programs share: reading a network device, and counting.
#![no_std]

pub mod count;
pub mod device;
