//! `ipmpctl detach`

use super::{error::Error, verb::Verb};
use crate::control::{LastMember, Request};

/// Detach an interface from its group
///
/// Detaching the last member requires one of --restore, --keep-group, --force and --move-back; for other members the first three have no effect.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ipmpctl detach eth1\n  ipmpctl detach eth0 --restore")]
pub struct Detach {
    /// Name of the member
    interface: String,
    #[command(flatten)]
    last: OfLast,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct OfLast {
    /// Last member: restore addresses and routes to the interface and remove the group
    #[arg(long)]
    restore: bool,
    /// Last member: keep the empty group and its addresses
    #[arg(long)]
    keep_group: bool,
    /// Last member: remove the group and its addresses
    #[arg(long)]
    force: bool,
    /// Any member: return the addresses and routes that came from the interface to it; the group stays
    #[arg(long)]
    move_back: bool,
}

impl Verb for Detach {
    fn request(&self) -> Result<Request, Error> {
        let last = match self.last {
            OfLast { restore: true, .. } => Some(LastMember::Restore),
            OfLast { keep_group: true, .. } => Some(LastMember::KeepGroup),
            OfLast { force: true, .. } => Some(LastMember::Force),
            OfLast { move_back: true, .. } => Some(LastMember::MoveBack),
            _ => None,
        };
        Ok(Request::Detach { interface: self.interface.clone(), last })
    }
}
