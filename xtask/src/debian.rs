//! Debian packages: which are there, which can be had, and their installation.

use crate::{project, root};
use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the lab runs besides the project's own binaries.
pub const LAB: &[&str] = &["iproute2", "iputils-arping", "iputils-ping", "libcap2-bin", "procps"];

/// What the lab's tests run besides, and cannot unpack: systemd-networkd, which is not enabled when it is installed.
pub const TESTS: &[&str] = &["systemd"];

/// What libFuzzer is compiled by.
pub const FUZZ: &[&str] = &["g++"];

/// The newest Rust that Debian has, and its library source.
pub const COMPILER: &[&str] = &["rustc-web", "rust-web-src"];

/// The clippy of that compiler.
pub const CLIPPY: &[&str] = &["rust-web-clippy"];

/// What links programs for the other architecture, with its C library.
pub const CROSS_AARCH64: &[&str] = &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];
pub const CROSS_X86_64: &[&str] = &["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"];

/// What checks packages of Debian.
pub const LINTIAN: &[&str] = &["lintian"];

/// Whether this system has Debian's package tools.
pub fn is_debian() -> bool {
    Path::new("/usr/bin/apt-get").exists() && Path::new("/usr/bin/dpkg-query").exists()
}

/// Those of `packages` that are not installed.
pub fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${binary:Package} ${db:Status-Status}\n"])
        .args(packages)
        .stderr(Stdio::null())
        .output()
        .context("dpkg-query cannot be run")?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed: HashSet<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .map(|name| name.split(':').next().unwrap_or(name))
        .collect();
    Ok(packages.iter().copied().filter(|package| !installed.contains(package)).collect())
}

/// The version of `package` that would be installed, as the package lists have it.
pub fn candidate(package: &str) -> Result<Option<String>> {
    let output =
        Command::new("apt-cache").args(["policy", package]).output().context("apt-cache cannot be run")?;
    let policy = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = policy.lines().find_map(|line| line.trim_start().strip_prefix("Candidate: "));
    Ok(version.filter(|version| *version != "(none)").map(str::to_owned))
}

/// Updates the package lists, as root. apt reports a list that cannot be downloaded; it is no error, as the others may suffice.
pub fn update() -> Result<()> {
    let status = apt_get(&["update", "-qq"])?.status().context("apt-get cannot be run")?;
    if !status.success() {
        eprintln!(
            "setup: `apt-get update` failed ({status}): going on with the package lists that are there"
        );
    }
    Ok(())
}

/// Installs `packages`, as root. Never removes another package for them.
pub fn install(packages: &[&str]) -> Result<()> {
    let mut apt = apt_get(&["install", "-qq", "-y", "--no-install-recommends", "--no-remove"])?;
    apt.args(packages);
    project::run(apt).with_context(|| {
        let list = packages.join(" ");
        format!("install them by hand (`apt-get install {list}`), then run `cargo xtask setup` again")
    })
}

fn apt_get(args: &[&str]) -> Result<Command> {
    let sudo = root::is_root() || Path::new("/usr/bin/sudo").exists();
    ensure!(
        sudo,
        "packages have to be installed, which needs root, and there is no sudo: run `cargo xtask setup` as root once"
    );
    let mut apt = root::command("apt-get", &[("DEBIAN_FRONTEND", OsStr::new("noninteractive"))]);
    apt.args(args).stdin(Stdio::null());
    Ok(apt)
}
