//! The library that `ipmpd`, `ipmpctl` and `ipmpstat` are made of.
//!
//! Data flows one way: kernel event → [`core`] → actions → the kernel. No module calls back up.

pub mod announce;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod datapath;
pub mod firewall;
pub mod handover;
pub mod ifconfig;
pub mod import;
pub mod link;
pub mod owners;
pub mod priority;
pub mod probe;
pub mod resolved;
pub mod stat;
pub mod types;
