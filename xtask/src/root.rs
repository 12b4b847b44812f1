//! Becoming root for what needs it, and for nothing else: no build runs as root that its user did not start as root.

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chroot, geteuid};
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::process::Command;

/// Environment variables that reach a command run as root, besides those named by the caller.
const KEPT: [&str; 7] =
    ["RUST_BACKTRACE", "RUST_LOG", "NO_COLOR", "TERM", "IPMP_ATTACH", "IPMP_SOCKET", "PROPTEST_CASES"];

/// Whether this process is root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// `program` as root: through sudo if need be, with `variables` set. Arguments may be added.
pub fn command(program: impl AsRef<OsStr>, variables: &[(&str, &OsStr)]) -> Command {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(variables.iter().copied());
        return command;
    }
    // sudo clears the environment, and its policy may forbid -E: `env` sets what is wanted on the other side.
    let mut command = Command::new("sudo");
    command.args(["--", "env"]);
    let kept = KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let named = variables.iter().map(|(name, value)| (*name, value.to_os_string()));
    for (name, value) in kept.chain(named) {
        let mut word = std::ffi::OsString::from(name);
        word.push("=");
        word.push(value);
        command.arg(word);
    }
    command.arg(program);
    command
}

/// In a chroot whose root is no mount, gives this process a mount namespace in which it is one. Tests give programs private
/// mounts, which the kernel refuses where the mount of `/` is out of reach. Without root, or elsewhere, does nothing.
pub fn ensure_mount() -> Result<()> {
    if !is_root() || is_mount("/")? {
        return Ok(());
    }
    own_mount().context("the root directory of this chroot cannot be made a mount")
}

fn is_mount(path: &str) -> Result<bool> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").context("the mounts cannot be read: is /proc mounted?")?;
    Ok(mounts.lines().any(|mount| mount.split(' ').nth(4) == Some(path)))
}

fn own_mount() -> Result<()> {
    const NONE: Option<&str> = None;
    let (root, directory) = (File::open("/")?, env::current_dir()?);
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Entering a mount namespace leaves the chroot, from which the mount of the root can be neither seen nor changed.
    setns(File::open("/proc/self/ns/mnt")?, CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let path = fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()))?;
    mount(Some(&path), &path, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    chroot(&path)?;
    Ok(env::set_current_dir(directory)?)
}
