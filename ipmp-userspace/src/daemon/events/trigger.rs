//! What caused the daemon to act.

use crate::{control::Caller, core::Time};

/// The input that the daemon processes. Made once per dispatched event and passed along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trigger {
    /// The daemon starts, and finds the present configuration.
    #[default]
    Start,
    /// A hint of the datapath, written at this time.
    Datapath(Time),
    /// A netlink message, received at this time.
    Kernel(Time),
    /// A group interface was deleted.
    Dissolution,
    /// A client's request.
    Operator(Caller),
    /// A deadline, or a reply to a probe.
    Deadline,
    /// SIGTERM, SIGINT or SIGQUIT.
    Signal,
    /// SIGHUP: read the configuration file again.
    Hangup,
}

/// How a member lost its link, as far as its device shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLoss {
    /// It has no carrier, or a device below it has none.
    Carrier,
    /// It is administratively down.
    Down,
    /// There is no such device in this namespace any more.
    Deleted,
}
