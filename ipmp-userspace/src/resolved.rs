//! The name servers that systemd-resolved has for a link: they belong where the addresses are.
//!
//! By `resolvectl`, in `ipmpctl` as root: the daemon has no D-Bus, and polkit would refuse its user.

use std::{path::Path, process::Command};

use crate::owners::ROOT_VARIABLE;

/// It exists while systemd-resolved runs.
const SOCKET: &str = "/run/systemd/resolve/io.systemd.Resolve";

/// Name servers and domains of a link, as `resolvectl` prints and takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains; with `~` those that are only routed there.
    pub domains: Vec<String>,
}

impl Dns {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.domains.is_empty()
    }

    /// Adds those of another link that are missing here.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in [(&mut self.servers, &other.servers), (&mut self.domains, &other.domains)] {
            let missing: Vec<String> = from.iter().filter(|value| !to.contains(value)).cloned().collect();
            to.extend(missing);
        }
    }
}

/// Whether systemd-resolved runs, and this user may change it.
pub fn is_usable() -> bool {
    check().is_ok()
}

/// Checks that systemd-resolved runs, and that this user may change it.
///
/// # Errors
/// Why not, with the remedy.
pub fn check() -> Result<(), &'static str> {
    let root = std::env::var_os(ROOT_VARIABLE).unwrap_or_else(|| "/".into());
    if !Path::new(&root).join(&SOCKET[1..]).exists() {
        return Err("systemd-resolved does not run on this host: write them to /etc/resolv.conf");
    }
    let is_root = nix::unistd::geteuid().is_root();
    is_root.then_some(()).ok_or("only root may change systemd-resolved: enter ipmpctl dns as root")
}

/// What a link has; nothing, where that cannot be read.
pub fn read(link: &str) -> Dns {
    let list = |verb| resolvectl(&[verb, link]).map(|text| values(&text)).unwrap_or_default();
    Dns { servers: list("dns"), domains: list("domain") }
}

/// Gives a link these name servers and domains, and no others.
///
/// # Errors
/// What `resolvectl` prints.
pub fn set(link: &str, dns: &Dns) -> Result<(), String> {
    for (verb, values) in [("dns", &dns.servers), ("domain", &dns.domains)] {
        let mut arguments = vec![verb, link];
        arguments.extend(values.iter().map(String::as_str));
        if values.is_empty() {
            // An empty text removes all.
            arguments.push("");
        }
        resolvectl(&arguments)?;
    }
    Ok(())
}

/// Removes what a link has.
///
/// # Errors
/// What `resolvectl` prints.
pub fn clear(link: &str) -> Result<(), String> {
    resolvectl(&["revert", link]).map(drop)
}

/// The values in `Link 2 (eth0): 192.0.2.53 192.0.2.54`.
fn values(text: &str) -> Vec<String> {
    let list = text.lines().find_map(|line| Some(line.split_once("): ")?.1)).unwrap_or_default();
    list.split_whitespace().map(Into::into).collect()
}

fn resolvectl(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("resolvectl").args(arguments).env("LC_ALL", "C").output();
    let output = output.map_err(|error| format!("cannot run resolvectl: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let error = text(&output.stderr);
    Err(format!("resolvectl {}: {}", arguments.join(" "), error.lines().next().unwrap_or("it failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_resolvectl_becomes_values() {
        assert_eq!(values("Link 2 (eth0): 192.0.2.53 2001:db8::53\n"), ["192.0.2.53", "2001:db8::53"]);
        assert_eq!(values("Link 2 (eth0): example.net ~.\n"), ["example.net", "~."]);
        assert_eq!(values("Link 2 (eth0):\n"), [""; 0]);
        assert_eq!(values(""), [""; 0]);
    }

    #[test]
    fn name_servers_of_two_links_are_added_once() {
        let dns = |servers: &[&str], domains: &[&str]| Dns {
            servers: servers.iter().map(|&text| text.into()).collect(),
            domains: domains.iter().map(|&text| text.into()).collect(),
        };
        let mut group = dns(&["192.0.2.53"], &[]);
        group.add(&dns(&["192.0.2.53", "192.0.2.54"], &["example.net"]));
        assert_eq!(group, dns(&["192.0.2.53", "192.0.2.54"], &["example.net"]));
    }
}
