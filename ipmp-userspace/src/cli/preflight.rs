//! The SSH session in which a command is entered: the address and the route that it uses, before and after a change.

use std::{fs, io::Write, net::IpAddr};

use super::{error::Error, output::Format};
use crate::{
    control::{Client, Request, Response},
    link::{self, Links},
};

/// Most ancestors of this process that are read.
const ANCESTORS: usize = 16;

/// An SSH session to this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The client.
    peer: IpAddr,
    /// The address of this host.
    local: IpAddr,
    /// The interface that has the address.
    holder: String,
    /// The interface through which packets to the client leave.
    route: String,
    /// The route that they follow.
    entry: String,
}

/// Where an address or a route is after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum After {
    Stays,
    On(String),
    /// Removed, with the step.
    Removed(String),
}

impl Session {
    /// That of this process; `None`: it is in none, or the groups are in another network namespace.
    pub(super) fn present(client: &Client) -> Option<Self> {
        client.is_in_this_namespace().then(Self::of_this_process).flatten()
    }

    /// The same, for what is in this network namespace.
    pub(super) fn of_this_process() -> Option<Self> {
        Self::of(&ssh_connection()?)
    }

    /// By `$SSH_CONNECTION`: address and port of the client, address and port of this host.
    fn of(connection: &str) -> Option<Self> {
        let words: Vec<&str> = connection.split(' ').collect();
        let [peer, _, local, _] = words[..] else { return None };
        let address = |word: &str| word.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let (peer, local) = (address(peer)?, address(local)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let (holder, route, entry) = runtime.block_on(path(peer, local)).ok()??;
        Some(Self { peer, local, holder, route, entry })
    }

    /// The session, and what is of it after a change with these steps.
    pub(super) fn describe(&self, steps: &[String]) -> String {
        let Self { peer, local, holder, route, entry } = self;
        let now = format!(
            "SSH session from {peer}: {local} is on {holder}, and packets to {peer} leave through {route} by the route {entry}"
        );
        let address = self.address_after(steps);
        let packets = if route == holder { address.clone() } else { self.route_after(steps) };
        match (address, packets) {
            (After::Stays, After::Stays) => format!("{now}; both stay"),
            (After::Removed(step), _) | (_, After::Removed(step)) => format!("{now}; it may end: {step}"),
            (address, packets) => {
                let name = |after: After, before: &String| match after {
                    After::On(name) => name,
                    _ => before.clone(),
                };
                let (address, packets) = (name(address, holder), name(packets, route));
                format!("{now}; afterwards {local} is on {address}, and packets leave through {packets}")
            }
        }
    }

    fn address_after(&self, steps: &[String]) -> After {
        let Self { local, holder, .. } = self;
        let moves = format!("move {local}/");
        let has_moves = steps.iter().any(|step| step.contains(": move "));
        let of = |step: &String| {
            let (group, what) = step.split_once(": ")?;
            if what.starts_with(&moves) {
                let leaves = what.ends_with(&format!(" from {holder}"));
                return match what.rsplit_once(" to ") {
                    Some((_, to)) if group == holder => Some(After::On(to.to_owned())),
                    _ => leaves.then(|| After::On(group.to_owned())),
                };
            }
            let listed = what.strip_prefix("remove ").filter(|_| group == holder)?;
            let is_it = |address: &str| address.split('/').next() == Some(&local.to_string());
            listed.split(", ").any(is_it).then(|| After::Removed(step.clone()))
        };
        // The steps of files do not list what moves with an interface.
        let joins = |step: &String| {
            let (group, what) = step.split_once(": ")?;
            (!has_moves && is_attach(what, holder)).then(|| After::On(group.to_owned()))
        };
        let found = steps.iter().find_map(of).or_else(|| steps.iter().find_map(joins));
        found.or_else(|| removed(holder, steps)).unwrap_or(After::Stays)
    }

    fn route_after(&self, steps: &[String]) -> After {
        let route = &self.route;
        let of = |step: &String| {
            let (group, what) = step.split_once(": ")?;
            if is_attach(what, route)
                || what.starts_with("move route ") && what.ends_with(&format!(" from {route}"))
            {
                return Some(After::On(group.to_owned()));
            }
            let (_, to) = what.strip_prefix("move route ").filter(|_| group == route)?.rsplit_once(" to ")?;
            Some(After::On(to.to_owned()))
        };
        steps.iter().find_map(of).or_else(|| removed(route, steps)).unwrap_or(After::Stays)
    }
}

fn is_attach(what: &str, interface: &str) -> bool {
    what.strip_prefix("attach ").is_some_and(|rest| rest.split(' ').next() == Some(interface))
}

fn removed(group: &str, steps: &[String]) -> Option<After> {
    let step = steps.iter().find(|step| step.strip_prefix("remove group ") == Some(group))?;
    Some(After::Removed(step.clone()))
}

/// A line on the session of this process, for the plan of a change; none if nothing moves.
pub(super) fn line(client: &Client, change: &Request, planned: &Response) -> Option<String> {
    let Response::Done { notes, changed: true } = planned else { return None };
    let change = match change {
        Request::Plan { parameters, .. } => parameters,
        change => change,
    };
    let moves = matches!(
        change,
        Request::Attach { .. }
            | Request::Detach { .. }
            | Request::DetachAll { .. }
            | Request::RemoveAddress { .. }
            | Request::Apply { .. }
    );
    let session = moves.then(|| Session::present(client)).flatten()?;
    Some(session.describe(notes))
}

/// The reply to a plan with that line.
pub(super) fn with_line(client: &Client, change: &Request, planned: Response) -> Response {
    let line = line(client, change, &planned);
    with_note(planned, line)
}

/// A reply with one more note.
pub(super) fn with_note(response: Response, note: Option<String>) -> Response {
    match response {
        Response::Done { mut notes, changed } => {
            notes.extend(note);
            Response::Done { notes, changed }
        }
        response => response,
    }
}

/// Plans a change that waits for a confirmation, and prints that line as [`print()`] does. What would refuse the change refuses it
/// here.
pub(super) fn check(
    client: &mut Client,
    change: &Request,
    format: Format,
    out: &mut dyn Write,
) -> Result<Option<String>, Error> {
    let planned = client.call(&Request::plan(change.clone()))?;
    Ok(print(line(client, change, &planned), format, out))
}

/// Prints the line at once, since the session may not see what is printed later. With `--json` it is returned, for the notes of the
/// reply, which is one object.
pub(super) fn print(line: Option<String>, format: Format, out: &mut dyn Write) -> Option<String> {
    match (line, format) {
        (Some(line), Format::Text) => {
            // The change does not depend on it.
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
            None
        }
        (line, _) => line,
    }
}

/// The names of the interfaces that have the address and the route, and the route.
async fn path(peer: IpAddr, local: IpAddr) -> Result<Option<(String, String, String)>, link::Error> {
    let links = Links::open()?;
    let holder = links.addresses()?.into_iter().find(|(_, address)| address.ip == local);
    let route = links.route_towards(peer, local).await?;
    let (Some((holder, _)), Some((route, entry))) = (holder, route) else { return Ok(None) };
    let (holder, route) = (links.device(holder).await?, links.device(route).await?);
    Ok(holder.zip(route).map(|(holder, route)| (holder.name, route.name, entry.to_string())))
}

/// `$SSH_CONNECTION`, which sudo removes: then that of an ancestor of this process.
fn ssh_connection() -> Option<String> {
    if let Ok(connection) = std::env::var("SSH_CONNECTION") {
        return Some(connection);
    }
    let mut pid = nix::unistd::getppid().as_raw();
    for _ in 0..ANCESTORS {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let found =
            environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"SSH_CONNECTION="));
        if let Some(connection) = found {
            return String::from_utf8(connection.to_vec()).ok();
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name of the program, which can have spaces: state and parent.
        pid = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        if pid <= 1 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(holder: &str, route: &str) -> Session {
        Session {
            peer: [203, 0, 113, 9].into(),
            local: [192, 168, 178, 50].into(),
            holder: holder.into(),
            route: route.into(),
            entry: "default via 192.168.178.1".into(),
        }
    }

    #[test]
    fn session_follows_the_steps_of_a_plan() {
        let on = |address: &str, route: &str| {
            format!("; afterwards 192.168.178.50 is on {address}, and packets leave through {route}")
        };
        let attach = [
            "g0: attach eth0",
            "g0: move 192.168.178.50/24 from eth0",
            "g0: move route default via 192.168.178.1 from eth0",
        ];
        let test_address = [
            "g0: attach eth0",
            "g0: move 192.168.178.51/24 from eth0",
            "eth0: add test address 192.168.178.50/24",
        ];
        let detach = ["g0: move 192.168.178.50/24 to eth0", "g0: detach eth0", "remove group g0"];
        let both = "; both stay".to_owned();
        for (session, steps, expected) in [
            (session("eth0", "eth0"), &attach[..], on("g0", "g0")),
            (session("eth0", "eth9"), &attach[..], on("g0", "eth9")),
            (session("eth9", "eth0"), &attach[..], on("eth9", "g0")),
            (session("eth9", "eth9"), &attach[..], both.clone()),
            (session("eth0", "eth0"), &test_address[..], both.clone()),
            (session("g0", "g0"), &detach[..], on("eth0", "eth0")),
            (session("g0", "g0"), &["g0: detach eth1"], both.clone()),
            (
                session("g0", "g0"),
                &["g0: detach eth0", "remove group g0"],
                "; it may end: remove group g0".into(),
            ),
            (session("eth0", "eth0"), &["create group g0", "g0: attach eth0 with weight=3"], on("g0", "g0")),
            (
                session("g0", "g0"),
                &["g0: remove 10.0.0.1/24, 192.168.178.50/24"],
                "; it may end: g0: remove 10.0.0.1/24, 192.168.178.50/24".into(),
            ),
            (session("g0", "g0"), &["g0: remove 192.168.178.5/24"], both),
        ] {
            let steps: Vec<String> = steps.iter().map(|&step| step.into()).collect();
            let text = session.describe(&steps);
            assert!(text.ends_with(&expected), "{steps:?}: {text}");
        }
        let text = session("eth0", "eth0").describe(&[]);
        assert!(text.starts_with("SSH session from 203.0.113.9: 192.168.178.50 is on eth0, and packets to 203.0.113.9 leave through eth0 by the route default via 192.168.178.1;"));
    }

    #[test]
    fn line_is_printed_at_once_and_with_json_it_is_a_note() {
        let line = || Some("SSH session from 203.0.113.9".to_owned());
        let mut out = Vec::new();
        assert_eq!(print(line(), Format::Text, &mut out), None);
        assert_eq!(out, b"SSH session from 203.0.113.9\n");
        let note = print(line(), Format::Json, &mut out);
        let done = |notes: &[&str]| Response::Done {
            notes: notes.iter().map(|&note| note.into()).collect(),
            changed: true,
        };
        let response = with_note(done(&["e1000g0 has joined"]), note);
        assert_eq!(response, done(&["e1000g0 has joined", "SSH session from 203.0.113.9"]));
        assert_eq!(out.len(), 29);
    }

    #[test]
    fn session_is_found_by_its_connection() {
        crate::link::testing::in_namespace(|links| async move {
            let lo = links.device_named("lo").await.unwrap().unwrap();
            links.set_up(&lo, true).await.unwrap();
            links.add_address(lo.ifindex, "lo", &link::Address::new([10, 9, 9, 1].into(), 24)).await.unwrap();
            let found = path([10, 9, 9, 7].into(), [10, 9, 9, 1].into()).await.unwrap();
            assert_eq!(found, Some(("lo".into(), "lo".into(), "10.9.9.0/24".into())));
            assert_eq!(path([192, 0, 2, 1].into(), [10, 9, 9, 1].into()).await.unwrap(), None);
        });
        assert_eq!(Session::of("nonsense"), None);
    }
}
