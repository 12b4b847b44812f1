//! Groups: their behaviour as pure state machines.
//!
//! No clock, no socket, no netlink, no async: an [`Input`] with its time produces [`Action`]s. The caller applies them in
//! order, and calls again at [`Group::deadline`].
//!
//! | module | subject |
//! |---|---|
//! | [`input`](Input), [`action`](Action) | the interface: inputs of a group, and the actions that it requests |
//! | [`event`](Event), [`cause`](Cause) | what happened, and why |
//! | [`settings`](Settings) | the operator's settings |
//! | [`group`] | the group: states of its members, roles, events |
//! | [`member`] | one member: the state of its link |
//! | [`probe`] | probing: targets, losses, replies, verdicts |
//! | [`flap`] | flap protection |
//! | [`slots`] | steering slots: which member transmits which flow, and which one replaces it |
//! | [`binding`] | which member's MAC answers for which data address |
//! | [`vlan_roles`] | the same for addresses on VLANs of the group |
//! | [`cast`] | which member transmits and receives multicast and broadcast |
//! | [`role`] | the preference lists of both roles |
//! | [`path`] | which member transmits a packet, and what is left of a group that loses members |

mod action;
mod adopted;
pub mod binding;
pub mod cast;
mod cause;
mod event;
pub mod flap;
pub mod group;
mod input;
pub mod member;
pub mod path;
pub mod probe;
pub mod role;
mod settings;
pub mod slots;
mod time;
pub mod vlan_roles;

pub use action::Action;
pub use adopted::Adopted;
pub use cause::Cause;
pub use event::Event;
pub use group::Group;
pub use input::{Attachment, Input, Refusal};
pub use settings::Settings;
pub use time::Time;
