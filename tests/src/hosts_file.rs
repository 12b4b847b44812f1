//! A hosts file of the lab, which replaces the machine's for single commands.
//!
//! A command gets a mount namespace of its own, in which the lab's file is mounted over `/etc/hosts`. The mount is not
//! visible to other programs and ends with the command.

use std::ffi::CString;
use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::network::Lab;

/// The hosts file that programs read.
const PATH: &std::ffi::CStr = c"/etc/hosts";

/// The names of the tutorial (1.5): its data address and its test addresses.
pub const TUTORIAL: [(&str, &str); 4] = [
    ("192.168.178.200", "hivemind-prod"),
    ("192.168.178.201", "hivemind-prod-e1000g0"),
    ("192.168.178.202", "hivemind-prod-e1000g1"),
    ("192.168.178.203", "hivemind-prod-rge0"),
];

/// The names of its chapter on classic IPMP (1.7.1), and those of its test addresses as its commands have them (1.7.3).
pub const CLASSIC: [(&str, &str); 6] = [
    ("192.168.178.200", "vhivemind-prod"),
    ("192.168.178.201", "vhivemind-e1000g0"),
    ("192.168.178.202", "vhivemind-e1000g1"),
    ("192.168.178.200", "vhidmind-prod"),
    ("192.168.178.201", "vhidmind-e1000g0"),
    ("192.168.178.202", "vhidmind-e1000g1"),
];

/// All names of the tutorial.
pub fn all() -> Vec<(&'static str, &'static str)> {
    [TUTORIAL.as_slice(), &CLASSIC].concat()
}

/// A hosts file in the directory of a lab.
#[derive(Clone, Debug)]
pub struct HostsFile {
    path: CString,
}

impl HostsFile {
    /// Writes a file with `localhost` and these names. `None` if it cannot be mounted over `/etc/hosts`: there is none,
    /// or a chroot hides the mount of `/`, which must not pass the new mount on to other namespaces.
    pub fn create(lab: &Lab, names: &[(&str, &str)]) -> Result<Option<Self>> {
        if !Path::new(PATH.to_str()?).is_file() || !root_is_a_mount()? {
            return Ok(None);
        }
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
        for (address, name) in names {
            let address: IpAddr = address.parse().with_context(|| format!("the address of {name}"))?;
            text.push_str(&format!("{address} {name}\n"));
        }
        let path = lab.directory().join("hosts");
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(Self { path: CString::new(path.as_os_str().as_bytes())? }))
    }

    /// Mounts this file over `/etc/hosts` for a command.
    pub fn mount_for(&self, command: &mut Command) {
        let path = self.path.clone();
        // SAFETY: between fork and exec there are three system calls, on strings that the closure owns.
        unsafe {
            command.pre_exec(move || {
                const NONE: Option<&std::ffi::CStr> = None;
                unshare(CloneFlags::CLONE_NEWNS)?;
                // Later mounts do not propagate to other namespaces.
                mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
                mount(Some(path.as_c_str()), PATH, NONE, MsFlags::MS_BIND, NONE)?;
                Ok(())
            });
        }
    }
}

/// Whether `/` is a mount that this process sees.
fn root_is_a_mount() -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the list of mounts")?;
    Ok(mounts.lines().any(|mount| mount.split(' ').nth(4) == Some("/")))
}
