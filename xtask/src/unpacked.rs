//! Programs of Debian packages that are run from the cache directory, not installed.
//!
//! What the tests run must not depend on what else is installed: where one package of QEMU's source is from backports, apt
//! refuses to install the others from the release. The packages are downloaded with all that they depend on, the C library
//! included, and each program is started by its own dynamic loader.

use crate::{debian, project, root};
use anyhow::{Context, Result, ensure};
use ipmp_ebpf_recipe::cache;
use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// Changes with what is unpacked and how, so that an older directory is not used.
const VERSION: u32 = 1;

/// The directory of what starts the programs.
const STARTERS: &str = "starters";

/// Packages and those of their programs that are run.
pub struct Programs {
    /// A name for the directory.
    name: &'static str,
    packages: &'static [&'static str],
    programs: &'static [&'static str],
}

/// The virtual machine's.
pub const VM: Programs = Programs {
    name: "vm",
    packages: &["qemu-system-x86", "busybox-static", "kmod", "xz-utils"],
    programs: &["qemu-system-x86_64", "busybox", "depmod", "modprobe", "xz"],
};

/// The services that the lab's tests run on a group.
pub const SERVICES: Programs = Programs {
    name: "services-4",
    packages: &[
        "busybox-static",
        "dnsmasq-base",
        "iptables",
        "keepalived",
        "nftables",
        "strace",
        "tmux",
        "wireguard-go",
        "wireguard-tools",
    ],
    programs: &[
        "busybox",
        "dnsmasq",
        "iptables-nft",
        "iptables-legacy",
        "ip6tables-legacy",
        "keepalived",
        "nft",
        "strace",
        "tmux",
        "wireguard-go",
        "wg",
    ],
};

/// What a group is compared with, besides the kernel's own.
pub const PEERS: Programs =
    Programs { name: "peers", packages: &["libteam-utils"], programs: &["teamd", "teamdctl"] };

/// What reads the metrics, in the soak.
pub const PROMETHEUS: Programs =
    Programs { name: "prometheus", packages: &["prometheus"], programs: &["prometheus", "promtool"] };

/// What reaches a host over the network while its NICs are attached, in the soak.
pub const SSH: Programs = Programs {
    name: "ssh",
    packages: &["openssh-client", "openssh-server"],
    programs: &["ssh", "ssh-keygen", "sshd"],
};

/// What runs programs of another architecture.
pub const QEMU_USER: Programs =
    Programs { name: "qemu-user", packages: &["qemu-user"], programs: &["qemu-aarch64"] };

/// What reads packages of RPM.
pub const RPM: Programs = Programs { name: "rpm", packages: &["rpm"], programs: &["rpm"] };

/// Unpacked packages.
#[derive(Clone)]
pub struct Unpacked {
    directory: PathBuf,
}

impl Programs {
    /// The unpacked packages; they are downloaded the first time.
    pub fn unpack(&self) -> Result<Unpacked> {
        let name = self.entry();
        let directory = cache::entry(&name, |scratch| -> Result<()> {
            let finished = cache::directory()?.join(&name);
            self.download(scratch)
                .with_context(|| format!("{} cannot be unpacked", self.packages.join(", ")))?;
            for program in self.programs {
                make_starter(scratch, &finished, program)?;
            }
            Ok(())
        })?;
        Ok(Unpacked { directory })
    }

    /// Whether [`Programs::unpack`] has been done.
    pub fn is_unpacked(&self) -> Result<bool> {
        Ok(cache::directory()?.join(self.entry()).is_dir())
    }

    /// The names of the packages, without what they depend on.
    pub fn packages(&self) -> String {
        self.packages.join(" ")
    }

    fn entry(&self) -> String {
        format!("programs-{VERSION}-{}", self.name)
    }

    fn download(&self, scratch: &Path) -> Result<()> {
        let mut packages = self.closure()?;
        if packages.is_empty() {
            debian::update()?;
            packages = self.closure()?;
        }
        ensure!(
            !packages.is_empty(),
            "the package lists of apt do not have them: run `apt-get update` as root"
        );
        println!("setup: downloading {} and {} packages in all", self.packages.join(", "), packages.len());
        let archives = scratch.join("archives");
        fs::create_dir(&archives).with_context(|| archives.display().to_string())?;
        let mut apt = apt_of_empty_system();
        apt.args(["download", "-qq"]).args(&packages).current_dir(&archives);
        if root::is_root() {
            // Otherwise apt downloads as a user that cannot write to root's cache, and warns.
            apt.args(["-o", "APT::Sandbox::User=root"]);
        }
        project::run(apt)?;
        for archive in fs::read_dir(&archives)? {
            let mut dpkg = Command::new("dpkg");
            dpkg.arg("-x").arg(archive?.path()).arg(scratch);
            project::run(dpkg)?;
        }
        fs::remove_dir_all(&archives).with_context(|| archives.display().to_string())
    }

    /// The packages and all that they depend on, as `NAME=VERSION`; none if the package lists lack one.
    fn closure(&self) -> Result<Vec<String>> {
        let output = apt_of_empty_system()
            .args(["install", "--simulate", "--no-install-recommends"])
            .args(self.packages)
            .stderr(Stdio::null())
            .output()
            .context("apt-get cannot be run")?;
        Ok(installed(&String::from_utf8_lossy(&output.stdout)))
    }
}

impl Unpacked {
    /// The directory of the programs.
    pub fn bin(&self) -> PathBuf {
        self.directory.join(STARTERS)
    }

    /// A file of the packages.
    pub fn file(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// The directory of shared libraries: of /usr/lib, where QEMU's modules are below it.
    pub fn libraries(&self) -> Result<PathBuf> {
        let loader = loader(&self.directory)?;
        let triplet = loader.parent().and_then(Path::file_name).context("a loader has a directory")?;
        Ok(self.directory.join("usr/lib").join(triplet))
    }
}

/// `PATH` with these programs before all others.
pub fn path(programs: &[Unpacked]) -> OsString {
    let mut path = OsString::new();
    for unpacked in programs {
        path.push(unpacked.bin());
        path.push(":");
    }
    path.push(env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()));
    path
}

/// apt-get on the host's package lists, for a system on which nothing is installed.
fn apt_of_empty_system() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-o", "Dir::State::status=/dev/null", "-o", "Debug::NoLocking=1"]).stdin(Stdio::null());
    apt
}

/// `NAME=VERSION` of each line `Inst NAME (VERSION ...`.
fn installed(simulation: &str) -> Vec<String> {
    let package = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        Some(format!("{name}={}", rest.split_whitespace().next()?))
    };
    simulation.lines().filter_map(package).collect()
}

/// The dynamic loader of the C library.
fn loader(directory: &Path) -> Result<PathBuf> {
    for libraries in [directory.join("lib"), directory.join("usr/lib")] {
        for below in fs::read_dir(&libraries).into_iter().flatten().flatten() {
            for file in fs::read_dir(below.path()).into_iter().flatten().flatten() {
                if file.file_name().to_string_lossy().starts_with("ld-linux") {
                    return Ok(file.path());
                }
            }
        }
    }
    anyhow::bail!("{} holds no dynamic loader", directory.display())
}

/// Makes the starter of a program in `scratch`, which will be renamed to `finished`: a script that starts a dynamic program by its loader, or
/// a link to a static one.
fn make_starter(scratch: &Path, finished: &Path, program: &str) -> Result<()> {
    let place = ["usr/sbin", "usr/bin", "sbin", "bin"]
        .into_iter()
        .map(|bin| PathBuf::from(format!("{bin}/{program}")));
    let place = place.into_iter().find(|place| scratch.join(place).symlink_metadata().is_ok());
    let place = follow_links(scratch, place.with_context(|| format!("no package holds {program}"))?);
    let starters = scratch.join(STARTERS);
    fs::create_dir_all(&starters).with_context(|| starters.display().to_string())?;
    let starter = starters.join(program);
    let loader = loader(scratch)?;
    let mut verify = Command::new(&loader);
    verify.arg("--verify").arg(scratch.join(&place)).stdout(Stdio::null()).stderr(Stdio::null());
    let is_dynamic = verify.status().with_context(|| loader.display().to_string())?.success();
    if !is_dynamic {
        return symlink(Path::new("..").join(&place), &starter)
            .with_context(|| starter.display().to_string());
    }
    let loader = finished.join(loader.strip_prefix(scratch)?);
    let directory =
        loader.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let libraries: Vec<String> = [format!("lib/{directory}"), format!("usr/lib/{directory}")]
        .into_iter()
        .chain(private_libraries(scratch, &directory))
        .map(|libraries| finished.join(libraries).display().to_string())
        .collect();
    // iptables has its modules there.
    let modules = finished.join(format!("usr/lib/{directory}/xtables"));
    let script = format!(
        "#!/bin/sh\nexport XTABLES_LIBDIR='{}'\nexec '{}' --argv0 '{program}' --library-path '{}' '{}' \"$@\"\n",
        modules.display(),
        loader.display(),
        libraries.join(":"),
        finished.join(place).display()
    );
    fs::write(&starter, script).with_context(|| starter.display().to_string())?;
    fs::set_permissions(&starter, fs::Permissions::from_mode(0o755))
        .with_context(|| starter.display().to_string())
}

/// The file at the end of symbolic links, as they are when `directory` is the root.
fn follow_links(directory: &Path, mut place: PathBuf) -> PathBuf {
    while let Ok(target) = fs::read_link(directory.join(&place)) {
        let parent = place.parent().unwrap_or(Path::new(""));
        place = match target.strip_prefix("/") {
            Ok(target) => target.into(),
            Err(_) => parent.join(target),
        };
    }
    place
}

/// Directories below those of all libraries that hold some too, such as PulseAudio's.
fn private_libraries(scratch: &Path, directory: &str) -> Vec<String> {
    let parent = format!("usr/lib/{directory}");
    let entries = fs::read_dir(scratch.join(&parent)).into_iter().flatten().flatten();
    let holds_libraries = |path: &Path| {
        let files = fs::read_dir(path).into_iter().flatten().flatten();
        files.into_iter().any(|file| file.file_name().to_string_lossy().contains(".so"))
    };
    entries
        .filter(|entry| entry.path().is_dir() && holds_libraries(&entry.path()))
        .map(|entry| format!("{parent}/{}", entry.file_name().to_string_lossy()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulation_lists_names_and_versions() {
        let simulation = "Reading package lists...\nInst libc6 (2.36-9+deb12u14 Debian:12.13/oldstable [amd64]) []\n\
                          Conf libc6 (2.36-9+deb12u14 Debian:12.13/oldstable [amd64])\nInst kmod (30+20221128-1 Debian [amd64])\n";
        assert_eq!(installed(simulation), ["libc6=2.36-9+deb12u14", "kmod=30+20221128-1"]);
    }
}
