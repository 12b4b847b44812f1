//! The control socket: Varlink over a Unix socket, as `net.ipmp.Manager.varlink` documents it.
//!
//! A client's call becomes a [`Request`] on a channel to the engine, and the engine's [`Response`] or [`Refused`] the
//! reply. What may be said is checked here, who may say it too; whether it is possible is the engine's business.

pub mod address;
pub mod client;
pub mod detection;
pub mod duration;
pub mod explanation;
pub mod monitor;
pub mod name;
pub mod peer;
pub mod probes;
pub mod report;
pub mod request;
pub mod server;
pub mod setting;
pub mod socket;
pub mod target;
pub mod test_address;
pub mod verb;
pub mod wire;

pub use address::DataAddress;
pub use client::Client;
pub use report::GroupReport;
pub use request::{Caller, LastMember, Refused, Request, Response, Sender};
pub use server::serve;
pub use setting::Setting;
pub use target::TargetReport;
pub use test_address::TestAddressSpec;

/// The interface definition, word for word what the daemon answers to `GetInterfaceDescription`.
pub const DEFINITION: &str = include_str!("net.ipmp.Manager.varlink");
