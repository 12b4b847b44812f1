//! `ipmpctl detach`

use super::{dns::Before, error::Error, verb::Verb};
use crate::control::{Client, LastMember, Request, Response, report::GroupReport};

/// Detach an interface from its group
///
/// Detaching the last member requires one of --restore, --keep-group, --force and --move-back; for other members the first three have no effect.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ipmpctl detach eth1\n  ipmpctl detach eth0 --restore --confirm 120")]
pub struct Detach {
    /// Name of the member
    interface: String,
    #[command(flatten)]
    last: OfLast,
    /// Undo it after this time, 1 to 86400 seconds, unless `ipmpctl confirm` is entered before, from a new connection
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86400))]
    confirm: Option<u32>,
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

    fn send(&self, client: &mut Client, request: &Request) -> Result<Response, Error> {
        let interface = &self.interface;
        let of_last =
            |group: &GroupReport| matches!(group.members.as_slice(), [member] if member.name == *interface);
        // Only with the last member do the addresses leave the group.
        let group = if self.last.restore { client.groups()?.into_iter().find(of_last) } else { None };
        let dns = group.map(|group| Before::of(&[group.name], client));
        let response = client.call(request)?;
        Ok(match dns {
            Some(dns) => dns.move_to(interface, response),
            None => response,
        })
    }

    fn confirm(&self) -> Option<(String, u32)> {
        let OfLast { restore, keep_group, force, move_back } = self.last;
        let options = [
            (restore, " --restore"),
            (keep_group, " --keep-group"),
            (force, " --force"),
            (move_back, " --move-back"),
        ];
        let option = options.iter().find(|(given, _)| *given).map_or("", |(_, option)| option);
        Some((format!("detach {}{option}", self.interface), self.confirm?))
    }
}
