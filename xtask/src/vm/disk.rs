//! The disk of a guest: what it writes outlives the machine, so that it can be booted again.

use crate::project;
use crate::setup::Setup;
use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Size in bytes. The file takes only what is written.
const SIZE: u64 = 1 << 30;

/// Makes an image with an empty ext4 file system, unless the file is there.
pub fn ensure(path: &Path, setup: &Setup) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    setup.ensure(&["e2fsprogs"])?;
    let make = || -> Result<()> {
        let file = File::create_new(path)?;
        file.set_len(SIZE)?;
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.arg("-q").arg(path).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        project::run(mkfs)
    };
    make()
        .inspect_err(|_| drop(fs::remove_file(path)))
        .with_context(|| format!("{} cannot be made", path.display()))
}
