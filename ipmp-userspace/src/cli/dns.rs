//! `ipmpctl dns`, and name servers of systemd-resolved that follow the addresses.

use std::io::Write;

use super::{
    error::{Error, Exit},
    files::{Applied, Files, Parsed},
    verb::{self, Command, Invocation, Outcome},
};
use crate::{
    config::{Configuration, Group},
    control::{Client, Response, pending::HostStep},
    resolved,
};

/// Give systemd-resolved the name servers of the configuration files
///
/// Reads `dns` of each group in /etc/ipmp/ipmp.toml and /etc/ipmp/ipmp.d/*.toml, or in the named files only, and gives its servers
/// and search domains to the group interface, in place of those that it has. `ipmpctl apply` does the same. ipmp-dns.service does it
/// at the start of the host, since ipmpd may not change systemd-resolved. Only root may. Without a difference nothing happens.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl dns              the files in /etc/ipmp
  ipmpctl dns --dry-run    what would change
  ipmpctl dns draft.toml   one file")]
pub struct Dns {
    #[command(flatten)]
    files: Files,
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Command for Dns {
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let configuration = match self.files.parse(invocation) {
            Parsed::Valid { configuration, .. } => configuration,
            Parsed::Invalid(findings) => {
                return Ok(Applied::Invalid(findings).outcome(invocation.format, Exit::Refused));
            }
        };
        let mut notes = Vec::new();
        let mut failed = Vec::new();
        if with_dns(&configuration).next().is_some() {
            // It has the groups, and its network namespace.
            let client = verb::connect(invocation.socket, invocation.netns, false)?;
            check(&client).map_err(|why| Error::Dns(format!("name servers are not applied: {why}")))?;
            for result in apply(&configuration, self.dry_run) {
                match result {
                    Ok(note) => notes.push(note),
                    Err(error) => failed.push(error),
                }
            }
        }
        if !failed.is_empty() {
            return Err(Error::Dns(failed.join("; ")));
        }
        let changed = !notes.is_empty();
        Ok(Applied::Done { notes, changed }.outcome(invocation.format, Exit::Done))
    }
}

/// Whether systemd-resolved can be changed for the groups of this daemon; why not.
pub(super) fn check(client: &Client) -> Result<(), &'static str> {
    if !client.is_in_this_namespace() {
        return Err("systemd-resolved serves another network namespace than this ipmpd");
    }
    resolved::check()
}

/// The groups whose name servers are in the files.
pub(super) fn with_dns(configuration: &Configuration) -> impl Iterator<Item = &Group> {
    configuration.groups.iter().filter(|group| !group.dns.servers.is_empty() || !group.dns.search.is_empty())
}

/// Gives the group interfaces what the files have, or only compares: for each difference a note or an error.
pub(super) fn apply(configuration: &Configuration, dry_run: bool) -> Vec<Result<String, String>> {
    let one = |group: &Group| {
        let name = &group.name.value;
        let before = resolved::read(name);
        let wanted = wanted(group, &before);
        if wanted == before {
            return None;
        }
        let done = if dry_run { Ok(()) } else { resolved::set(name, &wanted) };
        let note = format!("{name}: set the name servers (systemd-resolved): {}", list(&wanted));
        Some(done.map(|()| note).map_err(|why| format!("name servers of {name} are not applied: {why}")))
    };
    with_dns(configuration).filter_map(one).collect()
}

/// What a group interface shall have; a list that the file does not have stays.
fn wanted(group: &Group, before: &resolved::Dns) -> resolved::Dns {
    let servers: Vec<String> = group.dns.servers.iter().map(|server| server.value.to_string()).collect();
    let domains: Vec<String> = group.dns.search.iter().map(|domain| domain.value.clone()).collect();
    resolved::Dns {
        servers: if servers.is_empty() { before.servers.clone() } else { servers },
        domains: if domains.is_empty() { before.domains.clone() } else { domains },
    }
}

/// What gives links back what they have now.
pub(super) fn undo_steps(links: &[String]) -> Vec<HostStep> {
    if !resolved::is_usable() {
        return Vec::new();
    }
    let step = |verb: &str, link: &String, values: Vec<String>| {
        // Without systemd-resolved there is nothing to restore.
        let mut command: Vec<String> =
            ["sh", "-c", "resolvectl \"$@\" || true", "sh", verb, link].map(Into::into).to_vec();
        command.extend(values);
        HostStep { first: false, command }
    };
    let of_link = |link: &String| {
        let before = resolved::read(link);
        if before.is_empty() {
            return vec![step("revert", link, Vec::new())];
        }
        [("dns", before.servers), ("domain", before.domains)]
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(verb, values)| step(verb, link, values))
            .collect::<Vec<_>>()
    };
    links.iter().flat_map(of_link).collect()
}

fn list(dns: &resolved::Dns) -> String {
    [dns.servers.clone(), dns.domains.clone()].concat().join(" ")
}

/// What links have before a change.
pub(super) struct Before(Vec<(String, resolved::Dns)>);

impl Before {
    /// Of these links; nothing, if systemd-resolved is not that of the daemon, or this user may not change it.
    pub(super) fn of(links: &[String], client: &Client) -> Self {
        if !client.is_in_this_namespace() || !resolved::is_usable() {
            return Self(Vec::new());
        }
        let read = links.iter().map(|link| (link.clone(), resolved::read(link)));
        Self(read.filter(|(_, dns)| !dns.is_empty()).collect())
    }

    /// The reply to a plan with a line for each link whose name servers move to another one.
    pub(super) fn plan(&self, link: &str, response: Response) -> Response {
        let Response::Done { mut notes, changed: true } = response else { return response };
        notes.extend(self.0.iter().map(|(from, dns)| {
            format!("{link}: move the name servers of {from} (systemd-resolved): {}", list(dns))
        }));
        Response::Done { notes, changed: true }
    }

    /// Moves it to another link after the change, which is done already: what fails is a note.
    pub(super) fn move_to(&self, link: &str, response: Response) -> Response {
        let Response::Done { mut notes, changed: true } = response else { return response };
        let mut all = resolved::read(link);
        for (from, dns) in &self.0 {
            all.add(dns);
            let servers = list(dns);
            // The link of a group that was removed has none any more.
            let moved = resolved::set(link, &all).map(|()| resolved::clear(from).unwrap_or_default());
            notes.push(match moved {
                Ok(()) => format!("moved the name servers of {from} to {link} (systemd-resolved): {servers}"),
                Err(why) => format!("cannot move the name servers of {from} to {link}: {why}"),
            });
        }
        Response::Done { notes, changed: true }
    }
}
