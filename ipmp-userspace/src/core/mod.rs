//! What a group does and why: pure state machines.
//!
//! No clock, no socket, no netlink, no async: an [`Event`] goes in with the time it happened, [`Action`]s come out.
//! Whoever calls carries them out in the order given, and calls again at the deadline it was told.

mod event;

pub use event::{Action, Attachment, Event, Link, LogLine, Refusal, Time};
