//! Makes the programs that configure NICs leave them, by files that are added to their configuration, and back.
//!
//! A file of another program is never changed. Each NIC keeps its addresses and routes, which is checked before the next one; else
//! the file is removed again.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rtnetlink::packet_route::link::LinkFlags;

use crate::{
    link::{self, Address, Links, Route},
    owners::{Host, Kind, Nic},
};

/// How long a program may take until it has left a NIC.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing may change afterwards.
const SETTLED: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);
/// Begins the files: only such a file is removed.
const MARK: &str = "# Written by `ipmpctl handover`";

/// Why a NIC is not handed over.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text names the fields")]
pub enum Error {
    #[error("there is no interface {0}: `ip link` lists them")]
    NoInterface(String),
    #[error("cannot hand over {name}: its owner reads no files that could be added. {owner}")]
    NoFiles { name: String, owner: String },
    #[error(
        "cannot hand over {name}: the address {address} has a lifetime and would expire without {program}. Configure a static \
         address first, or keep the lease as the test address of {name} (attach --test-address dhcp, without a handover)"
    )]
    Lease { name: String, address: String, program: String },
    #[error("cannot hand over {name}: {} exists and was not written by ipmpctl; remove it first", path.display())]
    Exists { name: String, path: PathBuf },
    #[error("cannot write {}: {source}{}", path.display(), only_root(source))]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot run systemctl {verb} {unit}: {why}")]
    Service { verb: &'static str, unit: &'static str, why: String },
    #[error("{name} was not handed over, and everything is as before: {why}")]
    Undone { name: String, why: String },
    #[error(
        "{name} was not handed over: {why}; and that cannot be undone: {undo}. Run `ipmpctl handover --undo {name}`"
    )]
    Failed { name: String, why: String, undo: String },
    #[error(
        "{name} is a member of {group}: detach it first (ipmpctl detach {name}), or the program would configure a member"
    )]
    Member { name: String, group: String },
    #[error(
        "no program of the host configures NICs in this network namespace: attach them without a handover"
    )]
    OtherNamespace,
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

fn only_root(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { "; only root can hand over a NIC" } else { "" }
}

/// The file that makes a program leave a NIC, and its service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remedy {
    path: PathBuf,
    text: String,
    unit: &'static str,
}

/// That of a program, `None`: there is no such file.
fn remedy(kind: Kind, nic: &str) -> Option<Remedy> {
    let (path, lines, unit) = match kind {
        Kind::Networkd => (
            format!("/etc/systemd/network/01-ipmp-{nic}.network"),
            format!("[Match]\nName={nic}\n\n[Link]\nUnmanaged=yes\n"),
            "systemd-networkd.service",
        ),
        Kind::NetworkManager => (
            format!("/etc/NetworkManager/conf.d/ipmp-{nic}.conf"),
            format!("[keyfile]\nunmanaged-devices+=interface-name:{nic}\n"),
            "NetworkManager.service",
        ),
        Kind::Other => return None,
    };
    let text = format!("{MARK}; `ipmpctl handover --undo {nic}` removes it.\n{lines}");
    Some(Remedy { path: path.into(), text, unit })
}

/// Whether a file of ours makes a program leave a NIC.
pub fn is_handed_over(host: &Host, nic: &str) -> bool {
    let files = [Kind::Networkd, Kind::NetworkManager].into_iter().filter_map(|kind| remedy(kind, nic));
    files.into_iter().any(|remedy| is_ours(host, &remedy.path))
}

/// Whether systemd-networkd-wait-online has something to wait for. It would wait in vain, and fail after 120 s, where systemd-networkd
/// has no link since its NICs were handed over.
pub fn networkd_is_awaited(host: &Host) -> bool {
    let files = fs::read_dir(host.path("/etc/systemd/network")).into_iter().flatten().flatten();
    if !files.map(|file| file.path()).any(|file| has_mark(&file)) {
        return true;
    }
    let start = Instant::now();
    loop {
        match host.networkd_has_links() {
            None if start.elapsed() < PATIENCE => thread::sleep(POLL),
            has_links => return has_links.unwrap_or(true),
        }
    }
}

/// Whether a file is one of ours.
fn is_ours(host: &Host, path: &Path) -> bool {
    has_mark(&host.path(path))
}

fn has_mark(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.starts_with(MARK))
}

/// A NIC that is handed over.
#[derive(Debug)]
struct Step {
    name: String,
    ifindex: u32,
    mac: link::Mac,
    kind: Kind,
    program: String,
    remedy: Remedy,
}

impl Step {
    fn nic(&self) -> Nic<'_> {
        Nic { name: &self.name, ifindex: self.ifindex, mac: self.mac }
    }
}

/// What must stay.
struct Before {
    is_up: bool,
    addresses: Vec<Address>,
    routes: Vec<Route>,
}

/// Handovers on a host.
pub struct Handover<'a> {
    host: &'a Host,
    runtime: tokio::runtime::Runtime,
    links: Links,
}

impl<'a> Handover<'a> {
    /// Of this host, in the network namespace of the calling thread.
    pub fn new(host: &'a Host) -> Result<Self, Error> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
        let links = {
            let _runtime = runtime.enter();
            Links::open()?
        };
        Ok(Self { host, runtime, links })
    }

    /// What would be done, a line each, and whether anything would.
    pub fn plan(&self, nics: &[String]) -> Result<(Vec<String>, bool), Error> {
        let (steps, mut lines) = self.steps(nics)?;
        lines.extend(steps.iter().map(|step| {
            let Remedy { path, unit, .. } = &step.remedy;
            format!(
                "{}: hand over from {}: write {}, restart {unit}",
                step.name,
                step.program,
                path.display()
            )
        }));
        Ok((lines, !steps.is_empty()))
    }

    /// What an undo would do, a line each.
    pub fn plan_undo(&self, nics: &[String]) -> Vec<String> {
        self.files_of(nics)
            .iter()
            .map(|(name, Remedy { path, unit, .. })| {
                format!("{name}: remove {}, restart {unit}", path.display())
            })
            .collect()
    }

    /// Our files, with the NICs that programs leave by them.
    fn files_of<'n>(&self, nics: &'n [String]) -> Vec<(&'n String, Remedy)> {
        let kinds = [Kind::Networkd, Kind::NetworkManager];
        let files = nics
            .iter()
            .flat_map(|name| kinds.into_iter().filter_map(move |kind| Some((name, remedy(kind, name)?))));
        files.filter(|(_, remedy)| is_ours(self.host, &remedy.path)).collect()
    }

    /// Makes the programs leave NICs, one at a time, all or none. Returns a note for each, and those that have changed.
    pub fn hand_over(&self, nics: &[String]) -> Result<(Vec<String>, Vec<String>), Error> {
        let (steps, mut notes) = self.steps(nics)?;
        for (at, step) in steps.iter().enumerate() {
            if let Err(error) = self.execute(step) {
                let done: Vec<String> = steps[..at].iter().map(|step| step.name.clone()).collect();
                self.undo(&done)?;
                return Err(error);
            }
            let Step { name, program, remedy, .. } = step;
            notes.push(format!("{name}: handed over from {program} by {}", remedy.path.display()));
        }
        Ok((notes, steps.into_iter().map(|step| step.name).collect()))
    }

    /// Removes the files of NICs, and restarts the programs that then configure them. Returns a note for each file.
    pub fn undo(&self, nics: &[String]) -> Result<Vec<String>, Error> {
        let (mut notes, mut units) = (Vec::new(), Vec::new());
        for (name, Remedy { path, unit, .. }) in self.files_of(nics) {
            let failed = |source| Error::Write { path: path.clone(), source };
            fs::remove_file(self.host.path(&path)).map_err(failed)?;
            notes.push(format!("{name}: removed {}", path.display()));
            if !units.contains(&unit) {
                units.push(unit);
            }
        }
        units.into_iter().try_for_each(|unit| systemctl("restart", unit))?;
        Ok(notes)
    }

    /// Checks all NICs before anything changes. Notes on those that no program configures.
    fn steps(&self, nics: &[String]) -> Result<(Vec<Step>, Vec<String>), Error> {
        let (mut steps, mut notes) = (Vec::new(), Vec::new());
        for name in nics {
            let device = self.runtime.block_on(self.links.device_named(name))?;
            let device = device.ok_or_else(|| Error::NoInterface(name.clone()))?;
            let name = device.name.clone();
            let nic = Nic { name: &name, ifindex: device.ifindex, mac: device.mac };
            let Some(owner) = self.host.owner(&nic) else {
                notes.push(format!("{name}: no program configures it"));
                continue;
            };
            let Some(remedy) = remedy(owner.kind, &name) else {
                return Err(Error::NoFiles { owner: owner.describe(&name), name });
            };
            let addresses = self.links.addresses_of(device.ifindex)?;
            let ends = |address: &&Address| {
                address.is_global() && address.lifetime.is_some_and(|(valid, _)| valid != u32::MAX)
            };
            if let Some(address) = addresses.iter().find(ends) {
                return Err(Error::Lease { name, address: address.to_string(), program: owner.program });
            }
            let exists = self.host.path(&remedy.path).exists();
            if exists && !is_ours(self.host, &remedy.path) {
                return Err(Error::Exists { name, path: remedy.path });
            }
            let (ifindex, mac) = (device.ifindex, device.mac);
            steps.push(Step { name, ifindex, mac, kind: owner.kind, program: owner.program, remedy });
        }
        Ok((steps, notes))
    }

    fn execute(&self, step: &Step) -> Result<(), Error> {
        let before = self.read(step.ifindex)?;
        let result = self.write(&step.remedy).and_then(|()| self.restart(step));
        let result = result.map_err(|error| error.to_string()).and_then(|()| self.prove(step, &before));
        let Err(why) = result else { return Ok(()) };
        let name = step.name.clone();
        match self.undo(std::slice::from_ref(&name)) {
            Ok(_) => Err(Error::Undone { name, why }),
            Err(undo) => Err(Error::Failed { name, why, undo: undo.to_string() }),
        }
    }

    /// Restarts a program so that it leaves the NIC.
    fn restart(&self, step: &Step) -> Result<(), Error> {
        let unit = step.remedy.unit;
        if step.kind != Kind::NetworkManager {
            return systemctl("restart", unit);
        }
        systemctl("stop", unit)?;
        // With this file NetworkManager activates the connection again at its start ("assume").
        let path = PathBuf::from(format!("/run/NetworkManager/devices/{}", step.ifindex));
        let removed = match fs::remove_file(self.host.path(&path)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Write { path, source }),
            _ => Ok(()),
        };
        systemctl("start", unit).and(removed)
    }

    fn write(&self, remedy: &Remedy) -> Result<(), Error> {
        let path = self.host.path(&remedy.path);
        let write = || {
            let directory = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(directory)?;
            let mut options = fs::OpenOptions::new();
            // No other file is followed or replaced, except one of ours.
            options.write(true).create(true).truncate(true).mode(0o644).custom_flags(nix::libc::O_NOFOLLOW);
            let mut file = options.open(&path)?;
            file.write_all(remedy.text.as_bytes())?;
            file.sync_all()?;
            fs::File::open(directory)?.sync_all()
        };
        write().map_err(|source| Error::Write { path: remedy.path.clone(), source })
    }

    fn read(&self, ifindex: u32) -> Result<Before, Error> {
        let device = self.runtime.block_on(self.links.device(ifindex))?;
        let addresses = self.links.addresses_of(ifindex)?;
        let routes = self.links.routes_of(ifindex)?;
        let is_up = device.is_some_and(|device| device.flags.contains(LinkFlags::Up));
        Ok(Before { is_up, addresses: addresses.into_iter().filter(Address::is_global).collect(), routes })
    }

    /// The program has left the NIC, and all is there that was.
    fn prove(&self, step: &Step, before: &Before) -> Result<(), String> {
        let Step { name, program, .. } = step;
        let start = Instant::now();
        while !self.host.has_left(step.kind, &step.nic()) || !is_unmanaged(step) {
            if start.elapsed() > PATIENCE {
                return Err(format!("{program} still configures it after {} s", PATIENCE.as_secs()));
            }
            thread::sleep(POLL);
        }
        let settled = Instant::now();
        while settled.elapsed() < SETTLED {
            let now = self.read(step.ifindex).map_err(|error| error.to_string())?;
            if before.is_up && !now.is_up {
                return Err(format!("{program} has set {name} down"));
            }
            let has = |address: &&Address| !now.addresses.iter().any(|other| other.ip == address.ip);
            if let Some(address) = before.addresses.iter().find(has) {
                return Err(format!("{program} has removed {address}"));
            }
            let had = |address: &&Address| !before.addresses.iter().any(|other| other.ip == address.ip);
            if let Some(address) = now.addresses.iter().find(had) {
                return Err(format!("another program has added {address} meanwhile"));
            }
            let has = |route: &&Route| !now.routes.iter().any(|other| other.same_route(route));
            if let Some(route) = before.routes.iter().find(has) {
                return Err(format!("{program} has removed the route {route}"));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

/// NetworkManager itself reports that it has left a NIC; where its command line is missing, its files have to do.
fn is_unmanaged(step: &Step) -> bool {
    if step.kind != Kind::NetworkManager {
        return true;
    }
    let mut command = Command::new("nmcli");
    command
        .args(["--terse", "--get-values", "GENERAL.STATE", "device", "show", &step.name])
        .env("LC_ALL", "C");
    match command.output() {
        // "10 (unmanaged)"
        Ok(output) => String::from_utf8_lossy(&output.stdout).starts_with("10"),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn systemctl(verb: &'static str, unit: &'static str) -> Result<(), Error> {
    let failed = |why: String| Error::Service { verb, unit, why };
    let output = Command::new("systemctl").args([verb, unit]).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(failed(text.lines().next().unwrap_or("it failed").to_owned()))
}
