//! The `hostname.*` files of the tutorial (1.6.3, 1.7.4).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::Lab;
use crate::hosts_file;

/// Names and contents of files.
pub type Files = &'static [(&'static str, &'static str)];

/// 1.6.3, with link-based failure detection.
pub const LINK_BASED: Files = &[
    ("production0", "ipmp group production0 hivemind-prod up\n"),
    ("e1000g0", "group production0 -failover up\n"),
    ("e1000g1", "group production0 -failover up\n"),
    ("rge0", "group production0 -failover up\n"),
];
/// 1.6.3, with probes.
pub const PROBE_BASED: Files = &[
    ("production0", "ipmp group production0 hivemind-prod up\n"),
    ("e1000g0", "group production0 -failover hivemind-prod-e1000g0 up\n"),
    ("e1000g1", "group production0 -failover hivemind-prod-e1000g1 up\n"),
    ("rge0", "group production0 -failover hivemind-prod-rge0 up\n"),
];
/// 1.7.4, with link-based failure detection.
pub const CLASSIC_LINK_BASED: Files = &[
    ("e1000g0", "vhivemind-prod netmask + broadcast + group production0 up\n"),
    ("e1000g1", "group production0 up\n"),
];
/// 1.7.4, with probes.
pub const CLASSIC_PROBE_BASED: Files = &[
    (
        "e1000g0",
        "vhivemind-e1000g0 deprecated -failover netmask + broadcast + group production0 up \\\n\
         addif vhivemind-prod netmask + broadcast + up\n",
    ),
    ("e1000g1", "vhivemind-e1000g1 deprecated -failover netmask + broadcast + group production0 up\n"),
];
/// A directory like `/etc` of Solaris, without hostname files.
pub fn directory(lab: &Lab) -> Result<PathBuf> {
    let directory = lab.directory().join("solaris");
    fs::create_dir_all(directory.join("default"))?;
    let hosts: String =
        hosts_file::all().iter().map(|(address, name)| format!("{address} {name}\n")).collect();
    fs::write(directory.join("hosts"), hosts)?;
    fs::write(directory.join("netmasks"), "192.168.178.0 255.255.255.0\n")?;
    Ok(directory)
}

/// Replaces the hostname files.
pub fn write(directory: &Path, files: Files) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"hostname.") {
            fs::remove_file(entry.path())?;
        }
    }
    for (interface, text) in files {
        fs::write(directory.join(format!("hostname.{interface}")), text)?;
    }
    Ok(())
}
