//! The control socket: Varlink over a Unix socket, as `net.ipmp.Manager.varlink` documents it.
//!
//! A call becomes a [`Request`] on a channel to the daemon; its [`Response`] or [`Refused`] becomes the reply. Syntax and
//! permission are checked here, feasibility by the daemon.

pub mod address;
pub mod client;
pub mod detection;
pub mod duration;
pub mod explanation;
pub mod link_delay;
pub mod monitor;
pub mod name;
pub mod path;
pub mod peer;
pub mod pending;
pub mod probes;
pub mod report;
pub mod request;
pub mod server;
pub mod setting;
pub mod socket;
pub mod target;
pub mod test_address;
pub mod timeline;
pub mod verb;
pub mod wire;

pub use address::DataAddress;
pub use client::Client;
pub use report::GroupReport;
pub use request::{Caller, LastMember, Refused, Request, Response, Sender};
pub use setting::Setting;
pub use target::TargetReport;
pub use test_address::TestAddressSpec;

/// The interface definition, which is the reply to `GetInterfaceDescription`.
pub const DEFINITION: &str = include_str!("net.ipmp.Manager.varlink");
