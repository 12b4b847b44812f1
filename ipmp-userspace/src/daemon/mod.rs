//! The daemon: receives what happens on this host, lets the groups decide, and applies what they decide.
//!
//! | module | subject |
//! |---|---|
//! | [`event_loop`] | wait for events and dispatch them |
//! | `operations` | what clients request, one file a verb |
//! | `group` | one group: its state machine, its devices, its maps |
//! | `startup` | lock, real-time priority, adoption, teardown |
//! | `events` | the event log, its history, the logger, the journal |
//! | [`state_file`] | records that survive the daemon |
//! | [`migration`] | move addresses and routes without a gap |
//! | [`mpathd`] | defaults from `/etc/default/mpathd` |
//! | `statistics` | probe statistics on SIGUSR1 |
//! | `alarm` | the timer of the loop |

mod alarm;
pub mod event_loop;
pub mod events;
mod group;
pub mod migration;
pub mod mpathd;
mod operations;
mod startup;
pub mod state_file;
mod statistics;
#[cfg(test)]
mod tests;

pub use event_loop::{Engine, Error};
pub use events::logging;
pub use startup::teardown::teardown;
