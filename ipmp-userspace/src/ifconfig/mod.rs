//! `ipmp-ifconfig`: the part of `ifconfig` of Solaris that administers IPMP (docs/solaris.md).
//!
//! [`grammar`] reads a line, [`plan`] says what it changes on a [`host`], [`mod@display`] shows interfaces. Nothing is changed before
//! the whole line is known to be valid.

pub mod classic;
pub mod display;
pub mod grammar;
pub mod host;
pub mod netmask;
pub mod plan;

use std::{
    ffi::OsString,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, ToSocketAddrs},
    path::Path,
};

use crate::{
    cli,
    control::{Client, DataAddress, Response, address, client, request, socket},
};
use grammar::{Broadcast, Change, Line, Logical, Mask, Show};
use host::Host;
use plan::{Action, Plan, Wish};

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    #[error(transparent)]
    Grammar(#[from] grammar::Error),
    #[error(transparent)]
    Plan(#[from] plan::Error),
    #[error(transparent)]
    Missing(#[from] display::Missing),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Command(#[from] cli::Error),
    #[error(transparent)]
    Address(#[from] address::Error),
    #[error("cannot resolve {name}: {source}; specify an address, or add {name} to /etc/hosts")]
    Lookup { name: String, source: io::Error },
    #[error("{name} has no {family} address: specify one")]
    Family { name: String, family: &'static str },
    #[error("{0:?} is not an IP address: write one like 192.168.178.200")]
    NotAnAddress(String),
    #[error("{0} has no prefix length: write {0}/64, or the prefix length of its network")]
    NoPrefix(IpAddr),
    #[error("the broadcast address of {address} is {own}, not {given}: write broadcast +")]
    Broadcast { address: DataAddress, own: Ipv4Addr, given: Ipv4Addr },
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        Self::Command(error.into())
    }
}

impl From<socket::Error> for Error {
    fn from(error: socket::Error) -> Self {
        Self::Command(error.into())
    }
}

/// Runs the command with these arguments, the program's name first. Returns the exit status: 0, or 1 after an error.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let mut words = arguments.into_iter().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().map_or("ifconfig".into(), |name| name.to_string_lossy());
    let mut notes = Vec::new();
    let result = execute(&words.collect::<Vec<_>>(), &mut notes);
    for note in &notes {
        let _ = writeln!(err, "{program}: {}", cli::one_line(note));
    }
    match result {
        Ok(printed) => {
            let _ = out.write_all(printed.as_bytes());
            0
        }
        Err(error) => {
            let _ = writeln!(err, "{program}: {}", cli::one_line(&error.to_string()));
            1
        }
    }
}

/// Returns what is to be printed.
fn execute(words: &[String], notes: &mut Vec<String>) -> Result<String, Error> {
    match grammar::parse(words)? {
        Line::Show(what) => display(&what),
        Line::Change(change) => {
            let wish = resolve(change, notes)?;
            let mut client = cli::connect(&socket::path(None, None)?, None, true)?;
            let plan = plan::plan(&wish, &Host::read(Some(&mut client))?)?;
            apply(&mut client, &plan, notes)?;
            Ok(plan.printed)
        }
    }
}

/// Without a daemon there are no groups to show.
fn display(what: &Show) -> Result<String, Error> {
    let mut client = match Client::connect(&socket::path(None, None)?) {
        Ok(client) => Some(client),
        Err(client::Error::Contact { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let host = Host::read(client.as_mut())?;
    Ok(display::show(what, &host, nix::unistd::geteuid().is_root())?)
}

/// Does what is planned. After an error what was done is undone.
fn apply(client: &mut Client, plan: &Plan, notes: &mut Vec<String>) -> Result<(), Error> {
    let mut done = Vec::new();
    for (action, undo) in &plan.steps {
        match act(client, action, notes) {
            Ok(changed) => done.extend(undo.as_ref().filter(|_| changed)),
            Err(error) => {
                notes.clear();
                for undo in done.iter().rev() {
                    if let Err(error) = client.call(undo)
                        && !has_no_group(&error)
                    {
                        notes.push(format!("cannot undo what was done before: {error}"));
                    }
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The group was removed with its last member.
fn has_no_group(error: &client::Error) -> bool {
    matches!(error, client::Error::Refused { reason, .. } if reason == request::reason::NO_SUCH_GROUP)
}

/// Does one step. Returns whether it changed anything.
fn act(client: &mut Client, action: &Action, notes: &mut Vec<String>) -> Result<bool, Error> {
    match action {
        Action::Request(request) => {
            request.check().map_err(cli::Error::from)?;
            match client.call(request)? {
                Response::Done { notes: more, changed } => {
                    notes.extend(more);
                    Ok(changed)
                }
                _ => Ok(false),
            }
        }
        Action::Link { interface, up } => {
            let host = Host::read(None)?;
            let device = host.device(interface).ok_or_else(|| plan::Error::NoInterface(interface.clone()))?;
            host::set_up(device, *up)?;
            Ok(true)
        }
    }
}

/// Resolves the names in a line, and finds the netmasks that it does not give.
fn resolve(change: Change, notes: &mut Vec<String>) -> Result<Wish, Error> {
    let v6 = change.v6;
    let base = match &change.base.address {
        Some(text) => Some(data_address(text, &change.base, v6, notes)?),
        None => None,
    };
    let mut added = Vec::new();
    for line in &change.added {
        added.push(data_address(line.address.as_deref().unwrap_or_default(), line, v6, notes)?);
    }
    let removed = change.removed.iter().map(|text| ip(text, v6)).collect::<Result<_, _>>()?;
    Ok(Wish { change, base, added, removed })
}

fn data_address(text: &str, line: &Logical, v6: bool, notes: &mut Vec<String>) -> Result<DataAddress, Error> {
    let (host, prefix) = match text.split_once('/') {
        Some((host, prefix)) => (host, Some(prefix)),
        None => (text, None),
    };
    let found = ip(host, v6)?;
    let address = match (prefix, line.netmask, found) {
        (Some(prefix), _, _) => format!("{found}/{prefix}").parse()?,
        (None, Some(Mask::Prefix(prefix)), _) => DataAddress::new(found, prefix)?,
        (None, _, IpAddr::V4(v4)) => {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            let (prefix, source) = netmask::prefix(v4, &read(netmask::NETMASKS), &read(netmask::ROUTES));
            let address = DataAddress::new(found, prefix)?;
            notes.push(format!("{v4}: netmask {} from {source}", Ipv4Addr::from(netmask::bits(prefix))));
            address
        }
        (None, _, IpAddr::V6(_)) => return Err(Error::NoPrefix(found)),
    };
    if let (Some(Broadcast::Is(given)), IpAddr::V4(v4)) = (line.broadcast, found) {
        let own = Ipv4Addr::from(u32::from(v4) | !netmask::bits(address.prefix()));
        if own != given {
            return Err(Error::Broadcast { address, own, given });
        }
    }
    Ok(address)
}

/// An address, or that of a host name.
fn ip(text: &str, v6: bool) -> Result<IpAddr, Error> {
    let family = if v6 { "IPv6" } else { "IPv4" };
    let none = || Error::Family { name: text.into(), family };
    if let Ok(address) = text.parse::<IpAddr>() {
        return if address.is_ipv6() == v6 { Ok(address) } else { Err(none()) };
    }
    // 192.168.178.300 is a typing error, not a name: no DNS query for it.
    if text.contains([':', '/']) || !text.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return Err(Error::NotAnAddress(text.into()));
    }
    let found = (text, 0).to_socket_addrs().map_err(|source| Error::Lookup { name: text.into(), source })?;
    found.map(|socket| socket.ip()).find(|address| address.is_ipv6() == v6).ok_or_else(none)
}
