//! A hosts file of the lab's own, in the place of the machine's for single commands.
//!
//! `/etc` belongs to the machine, so a command that is to know other names gets a mount namespace of its own, in which
//! the lab's file covers the machine's. Nobody else sees it, and it goes with the command.

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

/// Where every program looks for names.
const PLACE: &std::ffi::CStr = c"/etc/hosts";

/// The names of the tutorial (1.5): its data address and its test addresses.
pub const TUTORIAL: [(&str, &str); 4] = [
    ("192.168.178.200", "hivemind-prod"),
    ("192.168.178.201", "hivemind-prod-e1000g0"),
    ("192.168.178.202", "hivemind-prod-e1000g1"),
    ("192.168.178.203", "hivemind-prod-rge0"),
];

/// A hosts file in the directory of a lab.
#[derive(Clone, Debug)]
pub struct Hosts {
    path: CString,
}

impl Hosts {
    /// Writes one with `localhost` and these names. Nothing where the machine has no hosts file that could be covered.
    pub fn of(lab: &Lab, names: &[(&str, &str)]) -> Result<Option<Self>> {
        if !Path::new(PLACE.to_str()?).is_file() {
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

    /// Lets a command see this file as `/etc/hosts`.
    pub fn cover(&self, command: &mut Command) {
        let path = self.path.clone();
        // SAFETY: between fork and exec there are three system calls, on strings that the closure owns.
        unsafe {
            command.pre_exec(move || {
                const NONE: Option<&std::ffi::CStr> = None;
                unshare(CloneFlags::CLONE_NEWNS)?;
                // What is mounted from here on is nobody else's business.
                mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
                mount(Some(path.as_c_str()), PLACE, NONE, MsFlags::MS_BIND, NONE)?;
                Ok(())
            });
        }
    }
}
