//! `ipmpctl import`: a configuration file from what another system or another program had.

use std::{
    fs,
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{
    apply,
    error::{Error, Exit},
    output,
    pending::{self, Change},
    preflight::{self, Session},
    replace::Kernel,
    verb::{Command, Invocation, Outcome},
};
use crate::{
    config::{self, host::Host},
    control::{Client, Response, name, pending::ReplacedBond},
    daemon::mpathd,
    ifconfig::{
        hostname,
        import::{self as boot_files, Defaults},
    },
    import::{self, Bond, Found, running::Running},
};

/// Print the configuration file for bonds, teams and boot files of other programs
///
/// Reads a bond or a team that runs, if a name without / is no file. Else reads .netdev and .network files of systemd-networkd, netplan's .yaml, /etc/network/interfaces, .nmconnection files of
/// NetworkManager, the JSON of teamd, /etc/default/mpathd, and directories with them, and changes nothing. A group has the name
/// of its bond. What has no equivalent is printed as comments. Ports that this host has are recognised by their permanent MACs.
///
/// With --hostname-dir: reads hostname.*, hostname6.*, hosts, netmasks and default/mpathd of a Solaris host. Names are those of
/// the directory's hosts file and of /etc/hosts.
///
/// With --apply: replaces a bond that runs, also over an SSH session through it. A backup port is released and becomes the first
/// member of the group, the gateway is reached through it, addresses and routes move, and the last port follows. The bond stays,
/// renamed and down, until this is confirmed; the undo puts it back.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("how").args(["confirm", "dry_run"])))]
#[command(after_help = "Examples:
  ipmpctl import bond0                     a bond that runs
  ipmpctl import bond0 --apply --dry-run   what would change
  ipmpctl import bond0 --apply --confirm 120
  ipmpctl import /etc/netplan > /etc/ipmp/ipmp.toml
  ipmpctl import /etc/systemd/network/*bond0*
  ipmpctl import --hostname-dir /mnt/solaris/etc > /etc/ipmp/ipmp.toml")]
pub struct Import {
    /// A bond or a team that runs, or files of other programs and directories with them
    #[arg(
        value_name = "BOND|FILE",
        required_unless_present = "hostname_dir",
        conflicts_with = "hostname_dir"
    )]
    files: Vec<PathBuf>,
    /// Directory with the files hostname.*
    #[arg(long, value_name = "DIRECTORY")]
    hostname_dir: Option<PathBuf>,
    /// The switch does not aggregate the ports: import bonds of mode 802.3ad, balance-xor and balance-rr, too
    #[arg(long)]
    switch_ports_independent: bool,
    /// Replace the bond by the group; needs --confirm or --dry-run
    #[arg(long, requires = "how", conflicts_with = "hostname_dir")]
    apply: bool,
    /// Undo it after this time, 1 to 86400 seconds, unless `ipmpctl confirm` is entered before, from a new connection
    #[arg(long, value_name = "SECONDS", requires = "apply", value_parser = clap::value_parser!(u32).range(1..=86400))]
    confirm: Option<u32>,
    /// Print the steps and the firewall rules that will not apply, and change nothing
    #[arg(long, requires = "apply")]
    dry_run: bool,
}

impl Command for Import {
    fn execute(&self, invocation: &Invocation<'_>, out: &mut dyn Write) -> Result<Outcome, Error> {
        if self.apply {
            return self.replace(invocation, out).map(Outcome::done);
        }
        let printed = match (&self.hostname_dir, self.files.as_slice()) {
            (Some(directory), _) => of_boot_files(directory),
            (None, [directory]) if has_boot_files(directory) => of_boot_files(directory),
            (None, [name]) if is_interface(name) => self.of_bond(name),
            (None, files) => of_files(files, self.switch_ports_independent),
        };
        Ok(Outcome { exit: Exit::Done, printed: printed.map_err(Error::Import)? })
    }
}

/// Whether an argument names an interface.
fn is_interface(name: &Path) -> bool {
    name.components().count() == 1 && !name.exists() && name::check_interface(&name.to_string_lossy()).is_ok()
}

impl Import {
    fn of_bond(&self, name: &Path) -> Result<String, String> {
        let kernel = Kernel::open().map_err(|error| error.to_string())?;
        let running = kernel.read(&name.to_string_lossy()).map_err(|error| error.to_string())?;
        self.describe(&running).map(|(_, text)| text)
    }

    /// A bond that runs, and its configuration file.
    fn describe(&self, running: &Running) -> Result<(Bond, String), String> {
        let mut bond = running.bond().map_err(|error| error.to_string())?;
        import::running::add_resolver(&mut bond, Path::new("/"), running.device.ifindex);
        let found = Found { bonds: vec![bond.clone()], notes: Vec::new() };
        let host = Host::read()?;
        let text = import::print(&found, &running.device.name, &host, self.switch_ports_independent);
        Ok((bond, text.map_err(|error| error.to_string())?))
    }

    /// Replaces a bond; without a time for the confirmation, prints what would be done.
    fn replace(&self, invocation: &Invocation<'_>, out: &mut dyn Write) -> Result<String, Error> {
        let [name] = self.files.as_slice() else {
            return Err(Error::Usage("--apply replaces one bond that runs: name it".into()));
        };
        if !is_interface(name) {
            return Err(Error::Usage(format!(
                "--apply replaces a bond that runs, and {} is none",
                name.display()
            )));
        }
        let kernel = Kernel::open()?;
        let running = kernel.read(&name.to_string_lossy())?;
        let (bond, text) = self.describe(&running).map_err(Error::Import)?;
        let gateways: Vec<IpAddr> = bond
            .routes
            .iter()
            .filter(|(_, route)| route.to.1 == 0)
            .filter_map(|(_, route)| route.via)
            .collect();
        let (configuration, _) = config::parse(&[(PathBuf::from(name), text.clone())]);
        let replaced = ReplacedBond::of(&kernel, &running)?;
        let rules = replaced.firewall_rules(&kernel)?;
        let session = Session::of_this_process()
            .map(|session| session.describe(&replaced.moves(&running, &replaced.name)));
        let Some(seconds) = self.confirm else {
            let mut lines = replaced.steps(&running, &configuration, &gateways)?;
            lines.extend(rules.into_iter().chain(session));
            return Ok(output::notes(&lines, true, invocation.format));
        };
        let change = Change {
            text: format!("import {} --apply", replaced.name),
            seconds,
            directory: config::directory(invocation.netns),
            bond: Some(replaced.clone()),
            ..Change::default()
        };
        let make = |client: &mut Client| {
            let note = preflight::print(session, invocation.format, out);
            let mut notes = replaced.replace(client, &kernel, &text, &gateways)?;
            notes.extend(rules.into_iter().chain(note));
            let response = Response::Done { notes, changed: true };
            Ok(apply::with_name_servers(response, &configuration, client, false))
        };
        match pending::execute(invocation, change, make)? {
            Response::Done { notes, changed } => Ok(output::notes(&notes, changed, invocation.format)),
            _ => Ok(String::new()),
        }
    }
}

fn has_boot_files(directory: &Path) -> bool {
    let is_boot_file = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("hostname.");
    fs::read_dir(directory).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_boot_file)))
}

fn of_boot_files(directory: &Path) -> Result<String, String> {
    let files = hostname::read(directory).map_err(|error| error.to_string())?;
    let defaults = defaults(&directory.join("default/mpathd"))?;
    let source = directory.display().to_string();
    boot_files::configuration(files, defaults, &source).map_err(|error| error.to_string())
}

fn of_files(files: &[PathBuf], switch_ports_independent: bool) -> Result<String, String> {
    let is_mpathd = |path: &&PathBuf| path.file_name().is_some_and(|name| name == "mpathd");
    let (mpathd, others): (Vec<&PathBuf>, Vec<&PathBuf>) = files.iter().partition(is_mpathd);
    let mut text = String::new();
    if let Some(path) = mpathd.first() {
        if !path.is_file() {
            return Err(format!("cannot read {}: it is no file", path.display()));
        }
        text = format!("# From {}\n{}", path.display(), boot_files::print_defaults(defaults(path)?));
        if others.is_empty() {
            return Ok(text);
        }
        text.push('\n');
    }
    let others: Vec<PathBuf> = others.into_iter().cloned().collect();
    let found = import::files::read(&others).map_err(|error| error.to_string())?;
    let names: Vec<String> = others.iter().map(|path| path.display().to_string()).collect();
    // Without it the members have the names of the files.
    let host = Host::read().unwrap_or_default();
    let printed = import::print(&found, &names.join(" "), &host, switch_ports_independent);
    Ok(text + &printed.map_err(|error| error.to_string())?)
}

fn defaults(path: &Path) -> Result<Defaults, String> {
    let text = hostname::text(path).map_err(|error| error.to_string())?.unwrap_or_default();
    let (found, _) = mpathd::parse(&text, path);
    let usual = mpathd::Defaults::default();
    Ok(Defaults {
        fdt_ms: (found.fdt != usual.fdt).then_some(found.fdt.as_millis()),
        failback: (found.failback != usual.failback).then_some(found.failback),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mpathd_file_beside_bond_gives_defaults_and_group_of_one_file_that_check_accepts() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("mpathd"), "FAILURE_DETECTION_TIME=1000\nFAILBACK=no\n").unwrap();
        let bond = "network:\n  bonds:\n    bond0:\n      interfaces: [none0, none1]\n      addresses: [10.0.0.5/24]\n      \
                    parameters: {mode: active-backup, primary: none0}\n";
        fs::write(path("a.yaml"), bond).unwrap();
        let only = of_files(&[path("mpathd")], false).unwrap();
        assert!(only.ends_with("\n\n[defaults]\nfdt = \"1000ms\"\nfailback = false\n"), "{only}");
        let both = of_files(&[path("a.yaml"), path("mpathd")], false).unwrap();
        assert!(both.starts_with(&only), "{both}");
        assert!(both.ends_with("[group.bond0.members]\nnone0 = {}\nnone1 = { standby = true }\n"), "{both}");
        let (configuration, findings) = crate::config::parse(&[(PathBuf::new(), both)]);
        assert!(
            findings.iter().all(|finding| finding.severity != crate::config::Severity::Error),
            "{findings:?}"
        );
        assert_eq!((configuration.defaults.len(), configuration.groups.len()), (2, 1));

        fs::write(path("hostname.eth0"), "group Production 10.0.0.1/24 up\n").unwrap();
        assert!(has_boot_files(directory.path()) && !has_boot_files(&path("mpathd")));
        let refused = |path: PathBuf, expected: &str| {
            let error = of_files(&[path], false).unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
        };
        fs::write(path("ifcfg-bond0"), "DEVICE=bond0\n").unwrap();
        fs::write(path("long.yaml"), vec![b' '; (1 << 20) + 1]).unwrap();
        refused(path("ifcfg-bond0"), "nmcli connection migrate converts them");
        refused(path("hostname.eth0"), "it is of no known format");
        refused(path("long.yaml"), "is longer than 1048576 bytes");
        refused(path("missing"), "missing: No such file");
    }
}
