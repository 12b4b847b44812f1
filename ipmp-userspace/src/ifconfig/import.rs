//! `ipmpctl import --hostname-dir`: from boot files of Solaris to a configuration file (docs/configuration.md).

use std::fmt::Write as _;

use super::{
    hostname::{Files, Place},
    plan::Wish,
    resolve,
};
use crate::control::{DataAddress, name};

/// Why the files have no equivalent.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    #[error("{place}: {text}")]
    Line { place: Place, text: String },
    #[error("no line of {0} has a group: there is nothing to import")]
    NoGroup(String),
}

/// Defaults of groups, from `default/mpathd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Failure detection time in milliseconds.
    pub fdt_ms: Option<u128>,
    /// Whether repaired members are used again.
    pub failback: Option<bool>,
}

#[derive(Debug, Default)]
struct Group {
    name: String,
    groupname: String,
    addresses: Vec<DataAddress>,
    /// Addresses of classic lines, with their members.
    homes: Vec<(DataAddress, String)>,
    members: Vec<Member>,
}

#[derive(Debug, Default)]
struct Member {
    name: String,
    test_addresses: Vec<DataAddress>,
    standby: bool,
}

/// The text of the configuration file, and notes as comments in it.
///
/// # Errors
/// The first line that has no equivalent.
pub fn configuration(files: Files, defaults: Defaults, source: &str) -> Result<String, Error> {
    let mut groups: Vec<Group> = Vec::new();
    let mut comments = Vec::new();
    for (place, line) in files.lines {
        let wrong = |text: String| Error::Line { place: place.clone(), text };
        let change = line.map_err(|error| wrong(error.to_string()))?;
        let mut notes = Vec::new();
        let wish =
            resolve::resolve(change, &files.names, &mut notes).map_err(|error| wrong(error.to_string()))?;
        comments.extend(notes.iter().map(|note| format!("{place}: {note}")));
        if !add(&mut groups, &wish).map_err(wrong)? {
            let interface = &wish.change.interface.name;
            comments.push(format!(
                "{place}: {interface} is in no group: configure it with the tools of this host"
            ));
        }
    }
    if groups.is_empty() {
        return Err(Error::NoGroup(source.into()));
    }
    Ok(print(&groups, defaults, &comments, source))
}

/// Adds what a line wants; whether it is for a group.
fn add(groups: &mut Vec<Group>, wish: &Wish) -> Result<bool, String> {
    let change = &wish.change;
    let name = &change.interface.name;
    if change.unplumb || !change.removed.is_empty() || change.group.as_deref() == Some("") {
        return Err("unplumb, removeif and an empty group name have no equivalent: remove the line".into());
    }
    if change.ipmp {
        let groupname = change.group.clone().unwrap_or_else(|| name.clone());
        let group = group_named(groups, &groupname, name);
        group.addresses.extend(wish.base.iter().chain(&wish.added));
        return Ok(true);
    }
    if let Some(group) = groups.iter_mut().find(|group| group.name == *name) {
        group.addresses.extend(wish.base.iter().chain(&wish.added));
        return Ok(true);
    }
    let known = groups.iter().find(|group| group.members.iter().any(|member| member.name == *name));
    let groupname = change.group.clone().or_else(|| known.map(|group| group.groupname.clone()));
    let Some(groupname) = groupname else { return Ok(false) };
    let own_name = if name::check_group(&groupname).is_ok() { groupname.clone() } else { free_name(groups) };
    let group = group_named(groups, &groupname, &own_name);
    if !group.members.iter().any(|member| member.name == *name) {
        group.members.push(Member { name: name.clone(), ..Member::default() });
    }
    let lines = wish.base.iter().map(|address| (*address, &change.base));
    for (address, line) in lines.chain(wish.added.iter().copied().zip(&change.added)) {
        if !line.is_test() {
            group.addresses.push(address);
            group.homes.push((address, name.clone()));
        } else if let Some(member) = group.members.iter_mut().find(|member| member.name == *name) {
            member.test_addresses.push(address);
        }
    }
    if let Some(member) = group.members.iter_mut().find(|member| member.name == *name) {
        member.standby = change.standby.unwrap_or(member.standby);
    }
    Ok(true)
}

fn group_named<'a>(groups: &'a mut Vec<Group>, groupname: &str, name: &str) -> &'a mut Group {
    let at = groups.iter().position(|group| group.groupname == groupname).unwrap_or_else(|| {
        groups.push(Group { name: name.into(), groupname: groupname.into(), ..Group::default() });
        groups.len() - 1
    });
    &mut groups[at]
}

/// The name of an interface where that of the group is none.
fn free_name(groups: &[Group]) -> String {
    let is_free = |name: &String| !groups.iter().any(|group| group.name == *name);
    (0..).map(|number: u32| format!("ipmp{number}")).find(is_free).unwrap_or_default()
}

fn print(groups: &[Group], defaults: Defaults, comments: &[String], source: &str) -> String {
    let mut text = format!("# From the hostname files of {source}\n");
    for comment in comments {
        let _ = writeln!(text, "# {comment}");
    }
    text += &print_defaults(defaults);
    for group in groups {
        let _ = writeln!(text, "\n[group.{}]", key(&group.name));
        if group.groupname != group.name {
            let _ = writeln!(text, "groupname = {}", quoted(&group.groupname));
        }
        let _ = writeln!(text, "addresses = [{}]", list(&group.addresses));
        for (address, member) in &group.homes {
            let _ = writeln!(
                text,
                "# to have its inbound traffic on {member}: ipmpctl address add {address} --group {} --inbound {member}",
                group.name
            );
        }
        let _ = writeln!(text, "\n[group.{}.members]", key(&group.name));
        for member in &group.members {
            let tests = (!member.test_addresses.is_empty())
                .then(|| format!("test-addresses = [{}]", list(&member.test_addresses)));
            let standby = member.standby.then(|| "standby = true".to_owned());
            let keys: Vec<String> = tests.into_iter().chain(standby).collect();
            let value = if keys.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", keys.join(", ")) };
            let _ = writeln!(text, "{} = {value}", key(&member.name));
        }
    }
    text
}

/// The table `[defaults]`; empty without any.
pub fn print_defaults(defaults: Defaults) -> String {
    let mut text = String::new();
    if defaults != Defaults::default() {
        text.push_str("\n[defaults]\n");
        if let Some(fdt) = defaults.fdt_ms {
            let _ = writeln!(text, "fdt = \"{fdt}ms\"");
        }
        if let Some(failback) = defaults.failback {
            let _ = writeln!(text, "failback = {failback}");
        }
    }
    text
}

fn list(addresses: &[DataAddress]) -> String {
    addresses.iter().map(|address| quoted(&address.to_string())).collect::<Vec<_>>().join(", ")
}

/// A key of TOML: bare where it can be.
fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.bytes().all(is_bare) { name.into() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ifconfig::{hostname, resolve::Names};

    fn imported(files: &[(&str, &str)]) -> Result<String, Error> {
        let lines = files.iter().flat_map(|(name, text)| hostname::lines(name, text)).collect();
        let hosts = "192.168.178.200 prod\n192.168.178.201 test0\n192.168.178.202 test1\n";
        let names = Names {
            hosts: Some(resolve::hosts(hosts).collect()),
            netmasks: "192.168.178.0 255.255.255.0\n".into(),
            routes: String::new(),
        };
        configuration(Files { lines, names }, Defaults { fdt_ms: Some(100), failback: Some(false) }, "/etc")
    }

    #[test]
    fn new_files_become_group_with_members() {
        let text = imported(&[
            ("hostname.production0", "ipmp group Production prod up\n"),
            ("hostname.e1000g0", "group Production -failover test0 up\n"),
            ("hostname.rge0", "group Production -failover standby up\n"),
            ("hostname.other0", "10.0.0.1/8\n"),
        ]);
        assert_eq!(
            text.unwrap(),
            "# From the hostname files of /etc\n\
             # hostname.production0:1: 192.168.178.200: netmask 255.255.255.0 from /etc/netmasks\n\
             # hostname.e1000g0:1: 192.168.178.201: netmask 255.255.255.0 from /etc/netmasks\n\
             # hostname.other0:1: other0 is in no group: configure it with the tools of this host\n\
             \n[defaults]\nfdt = \"100ms\"\nfailback = false\n\
             \n[group.production0]\ngroupname = \"Production\"\naddresses = [\"192.168.178.200/24\"]\n\
             \n[group.production0.members]\n\
             e1000g0 = { test-addresses = [\"192.168.178.201/24\"] }\nrge0 = { standby = true }\n"
        );
    }

    #[test]
    fn classic_files_become_group_of_new_model_which_check_accepts() {
        let text = imported(&[
            (
                "hostname.e1000g0",
                "test0 deprecated -failover netmask + broadcast + group production0 up \\\naddif prod up\n",
            ),
            ("hostname.e1000g1", "test1 deprecated -failover netmask + broadcast + group production0 up\n"),
        ])
        .unwrap();
        assert!(
            text.contains("addresses = [\"192.168.178.200/24\"]\n# to have its inbound traffic on e1000g0: "),
            "{text}"
        );
        let path = std::env::temp_dir().join(format!("ipmp-import-{}.toml", std::process::id()));
        std::fs::write(&path, &text).unwrap();
        let (configuration, findings) = crate::config::load(std::slice::from_ref(&path));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(configuration.groups[0].members.len(), 2);
        assert!(
            findings.iter().all(|finding| finding.severity != crate::config::Severity::Error),
            "{findings:?}"
        );
    }

    #[test]
    fn lines_without_equivalent_are_refused_with_their_place() {
        for (text, expected) in [
            ("group production0 missing up", "hostname.eth0:1: missing is in no hosts file: "),
            ("up\nunplumb", "hostname.eth0:2: unplumb, removeif and an empty group name have no equivalent"),
            ("mtu 9000", "hostname.eth0:1: mtu is not supported: "),
            ("prod", "no line of /etc has a group"),
        ] {
            let error = imported(&[("hostname.eth0", text)]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
