//! Debian's system for a guest: its root directory, made from packages into the cache.
//!
//! On the host's root only the command runs. A system has systemd as its first process, which starts the services of Debian's
//! packages: what is tested there is how the project is installed and booted.

use crate::setup::Setup;
use crate::{project, root};
use anyhow::{Result, ensure};
use clap::ValueEnum;
use ipmp_ebpf_recipe::cache;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// Changes with what the system holds, so that an older directory is not used.
const VERSION: u32 = 4;

/// The packages beside those that every Debian has.
const PACKAGES: &str = "systemd,systemd-sysv,udev,dbus,kmod,iproute2,iputils-ping,iputils-arping,openssh-server,openssh-client,\
                        procps,ifupdown,nftables,tcpdump,libcap2-bin,ethtool,network-manager,netplan.io,cloud-init,systemd-resolved,rpm";

/// Programs that configure network cards or name servers, of which a test starts one: their units, and a file that keeps them from starting.
const NOT_STARTED: [&str; 4] = [
    "NetworkManager.service",
    "NetworkManager-wait-online.service",
    "NetworkManager-dispatcher.service",
    "systemd-resolved.service",
];
const NO_CLOUD_INIT: &str = "etc/cloud/cloud-init.disabled";

/// The program that makes it.
const MAKER: &str = "mmdebstrap";

/// A system for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// Debian 12, with systemd 252.
    Debian12,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debian12 => "debian12",
        })
    }
}

impl System {
    fn suite(self) -> &'static str {
        match self {
            Self::Debian12 => "bookworm",
        }
    }

    /// The root directory; it is made the first time. Its files belong to root.
    pub fn unpack(self, setup: &Setup) -> Result<PathBuf> {
        let name = format!("system-{VERSION}-{self}");
        let finished = cache::directory()?.join(&name);
        if finished.is_dir() {
            return Ok(finished);
        }
        setup.ensure(&[MAKER])?;
        cache::entry(&name, |scratch| self.make(scratch))
    }

    fn make(self, scratch: &Path) -> Result<()> {
        println!("vm: making a root directory of {self}");
        let mut make = root::command(MAKER, &[("DEBIAN_FRONTEND", OsStr::new("noninteractive"))]);
        make.args(["--mode=root", "--variant=minbase", "--quiet"]).arg(format!("--include={PACKAGES}"));
        // A password is never needed, and a machine ID belongs to one boot.
        make.args(["--customize-hook=rm -f \"$1/etc/machine-id\" \"$1/etc/ssh/ssh_host_\"*"]);
        // No terminal is there to log in.
        make.args(["--customize-hook=chroot \"$1\" systemctl mask --quiet getty@tty1.service serial-getty@ttyS0.service"]);
        make.arg(format!(
            "--customize-hook=chroot \"$1\" systemctl mask --quiet {}; touch \"$1/{NO_CLOUD_INIT}\"",
            NOT_STARTED.join(" ")
        ));
        make.arg(self.suite()).arg(scratch);
        project::run(make)?;
        ensure!(scratch.join("lib/systemd/systemd").exists(), "{MAKER} made no system with systemd");
        Ok(())
    }
}
