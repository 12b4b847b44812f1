//! `ipmpctl save`

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{
    error::Error,
    output, pending,
    verb::{Command, Invocation, Outcome},
};
use crate::{
    config::{self, files, save},
    control::{Client, pending::Store, report::GroupReport},
    link::{Links, Route, RouteEntry, show_mac},
    types::Origin,
};

/// Write the groups that run into the configuration files
///
/// Groups, settings, members, and the addresses and routes that commands and files added or that came from the NICs. What other
/// programs added is left out: virtual addresses, leases, addresses from router advertisements. A new member is written with the
/// permanent MAC of its NIC, if it has one. Comments and order stay. A group that no file has is written into ipmp.toml.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  ipmpctl save    what runs comes back after a reboot")]
pub struct Save {
    /// Directory of the configuration [default: /etc/ipmp, with --netns /etc/netns/NAME/ipmp]
    #[arg(long, value_name = "DIRECTORY")]
    config_dir: Option<PathBuf>,
    /// Print the files as they would be written, and write none
    #[arg(long)]
    dry_run: bool,
}

impl Command for Save {
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let directory = self.config_dir.clone().unwrap_or_else(|| config::directory(invocation.netns));
        // It could be undone, and a reboot must undo it, too.
        if !self.dry_run {
            pending::refuse_if_pending(invocation.socket)?;
        }
        let mut groups = Client::connect(invocation.socket)?.groups()?;
        let left_out: Vec<String> = groups.iter_mut().flat_map(keep_present_routes).collect();
        let mut texts = Vec::new();
        for path in files::found_in(&directory).map_err(|finding| Error::Save(finding.to_string()))? {
            let text = fs::read_to_string(&path).map_err(|error| failed("read", &path, &error))?;
            texts.push((path, text));
        }
        let saved = save::save(&texts, &directory.join("ipmp.toml"), &groups).map_err(Error::Save)?;
        if self.dry_run {
            let lines = saved.files.iter().flat_map(|(path, text)| {
                let lines = text.lines().map(str::to_owned);
                std::iter::once(format!("write {}:", path.display())).chain(lines)
            });
            let notes: Vec<String> = lines.chain(saved.notes).collect();
            return Ok(Outcome::done(output::notes(&notes, !saved.files.is_empty(), invocation.format)));
        }
        let mut notes = Vec::new();
        for (path, text) in &saved.files {
            write(path, text).map_err(|error| failed("write", path, &error))?;
            notes.push(format!("wrote {}", path.display()));
        }
        for (path, text) in &saved.files {
            texts.retain(|(other, _)| other != path);
            texts.push((path.clone(), text.clone()));
        }
        // What runs is in the files now, as after `apply`. Only the undo of a later change needs it.
        let _ = Store::of(invocation.socket).write_applied(&texts);
        notes.extend(saved.notes);
        notes.extend(left_out);
        Ok(Outcome::done(output::notes(&notes, !saved.files.is_empty(), invocation.format)))
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::Save(format!("cannot {what} {}: {error}", path.display()))
}

/// Replaces a file as a whole: after a crash it is the old or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    // A link stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mode = fs::metadata(&path).map_or(0o644, |known| known.permissions().mode() & 0o777);
    let new = path.with_extension("toml.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// Drops routes that came from a NIC and have been removed since. Returns a note for each route that files cannot describe. Where the
/// group is in another network namespace, all stay.
fn keep_present_routes(group: &mut GroupReport) -> Vec<String> {
    let Some((ifindex, routes)) = present_routes(group) else { return Vec::new() };
    let present: Vec<RouteEntry> = routes.iter().filter_map(|route| route.entry(ifindex)).collect();
    group.configuration.routes.retain(|route| {
        let is_it = |entry: &RouteEntry| {
            let (network, prefix) = entry.to;
            format!("{network}/{prefix}") == route.to
                && (entry.via, entry.table, entry.metric) == (route.via, route.table, route.metric)
        };
        route.origin == Origin::File || present.iter().any(is_it)
    });
    let others = routes.iter().filter(|route| route.is_static() && route.entry(ifindex).is_none());
    let note = |route| {
        format!("route {route} of {} is left out: configuration files cannot describe it", group.name)
    };
    others.map(note).collect()
}

fn present_routes(group: &GroupReport) -> Option<(u32, Vec<Route>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let links = Links::open().ok()?;
        let device = links.device_named(&group.name).await.ok()??;
        let is_it = device.ifindex == group.ifindex && show_mac(device.mac) == group.mac;
        let routes = links.routes_of(device.ifindex).ok().filter(|_| is_it)?;
        Some((device.ifindex, routes))
    })
}
