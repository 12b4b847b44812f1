//! The name servers of systemd-resolved follow the addresses.

use crate::{
    control::{Client, Response, pending::HostStep},
    resolved::{self, Dns},
};

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
        let Dns { servers, domains } = resolved::read(link);
        [("dns", servers), ("domain", domains)]
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(verb, values)| step(verb, link, values))
            .collect::<Vec<_>>()
    };
    links.iter().flat_map(of_link).collect()
}

fn list(dns: &Dns) -> String {
    [dns.servers.clone(), dns.domains.clone()].concat().join(" ")
}

/// What links have before a change.
pub(super) struct Before(Vec<(String, Dns)>);

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
