//! What a group does and why: pure state machines.
//!
//! No clock, no socket, no netlink, no async: an [`Input`] goes in with the time it happened, [`Action`]s come out.
//! Whoever calls carries them out in the order given, and calls again at the deadline it was told.
//!
//! | module | what |
//! |---|---|
//! | [`input`](Input) | inputs of a group and the actions that it requests |
//! | [`event`](Event) | what happened, and why |
//! | [`group`] | the group: members' states, the active list, log lines |
//! | [`member`] | one member: what its link makes of it |
//! | [`probe`] | probing: targets, losses, answers, and whose failure they are |
//! | [`flap`] | flap protection |
//! | [`slots`] | steering slots: who carries which flow, and who steps in for whom |
//! | [`binding`] | which member's MAC answers for which data address |
//! | [`cast`] | who carries multicast and broadcast |
//! | [`role`] | the lists of both roles |

pub mod binding;
pub mod cast;
mod event;
pub mod flap;
pub mod group;
mod input;
pub mod member;
pub mod probe;
pub mod role;
pub mod slots;

pub use event::{Cause, Event};
pub use group::{Adopted, Group, Settings};
pub use input::{Action, Attachment, Input, Refusal, Time};
