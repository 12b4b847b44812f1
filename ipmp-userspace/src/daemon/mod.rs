//! The daemon: receives what happens on this host, lets the groups decide, and applies what they decide.
//!
//! | module | subject |
//! |---|---|
//! | [`event_loop`] | wait for events and dispatch them |
//! | `hints` | messages of the datapath: a member has failed |
//! | `loading` | loading programs while the loop reacts to failures |
//! | `manager` | the state that all share |
//! | [`memory`] | returning free memory to the kernel |
//! | `kernel_changes` | changes of devices, addresses, neighbours and routes |
//! | `operations` | requests of clients, one file a verb |
//! | `group` | one running group: its state machine, devices and maps |
//! | `startup` | lock, adoption, teardown |
//! | `events` | the event log, its history, the logger, the journal |
//! | [`state_file`] | records that outlive the daemon |
//! | `renames` | following interfaces that other programs rename |
//! | `returns` | devices of absent members that are back |
//! | `sentinel_check` | starting the sentinel again if it has stopped |
//! | `tcp_evidence` | timeouts of TCP connections, as evidence of path failures |
//! | `tcp_losses` | a thread that counts what TCP connections lose on each member |
//! | [`migration`] | moving addresses and routes without interruption |
//! | [`mpathd`] | defaults from `/etc/default/mpathd` |
//! | `statistics` | probe statistics on SIGUSR1 |
//! | `watchdog` | the watchdog of the service manager |
//! | `arguments` | the command line |
//! | `alarm`, `clock` | the timer of the loop, and its clock |
//!
//! Imports lead from `event_loop` over `startup`, `kernel_changes` and `operations` to `manager`, and from there to `group`,
//! `state_file` and `events`; never back.

mod again;
mod alarm;
mod arguments;
mod clock;
pub mod event_loop;
pub mod events;
mod group;
mod hints;
mod kernel_changes;
mod loading;
mod manager;
pub mod memory;
pub mod migration;
pub mod mpathd;
mod operations;
mod renames;
mod returns;
mod sentinel_check;
mod source_spread;
mod startup;
pub mod state_file;
mod statistics;
mod tcp_evidence;
mod tcp_losses;
#[cfg(test)]
mod tests;
mod watchdog;

pub use arguments::Arguments;
pub use event_loop::EventLoop;
pub use events::logging;
pub use startup::{Error, teardown::teardown};
