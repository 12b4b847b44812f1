//! Debian's kernels: which there are, how one is got, and which modules a boot needs.

use crate::unpacked::Unpacked;
use crate::{debian, project, root};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use ipmp_ebpf_recipe::cache;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs};

/// A kernel to boot.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// What Debian 12 boots: no tcx.
    #[value(name = "6.1")]
    V6_1,
    /// What Debian 13 boots, as Debian 12 has it too.
    #[value(name = "6.12")]
    V6_12,
}

impl Kernel {
    /// Every kernel, the oldest first.
    pub const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        })
    }
}

/// A kernel package, unpacked in the cache.
pub struct Files {
    /// The compressed kernel.
    pub image: PathBuf,
    /// Its modules: what is `/lib/modules/VERSION` when it runs.
    pub modules: PathBuf,
}

/// The modules that a boot takes until the host's root is there: the bus, the shared directories, the writable layer.
const BOOT: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// The modules of a disk.
const DISK: [&str; 3] = ["virtio_blk", "ext4", "crc32c_generic"];

impl Kernel {
    fn version(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// The kernel's files; its package is downloaded the first time.
    pub fn unpack(self, programs: &Unpacked) -> Result<Files> {
        let directory =
            cache::entry(&format!("kernel-{}", self.version()), |scratch| self.download(scratch, programs))?;
        let image = only_entry(&directory.join("boot"), "vmlinuz-")?;
        let version =
            image.file_name().and_then(|name| name.to_str()?.strip_prefix("vmlinuz-")).unwrap_or_default();
        let modules = directory.join("lib/modules").join(version);
        ensure!(modules.is_dir(), "{} is not there: remove {}", modules.display(), directory.display());
        Ok(Files { image, modules })
    }

    fn download(self, directory: &Path, programs: &Unpacked) -> Result<()> {
        let package = match self.newest_package()? {
            Some(package) => package,
            None => {
                debian::update()?;
                let version = self.version();
                self.newest_package()?.with_context(|| {
                    format!("no package linux-image-{version}.*-amd64 is to be had: add bookworm-security to the sources of apt")
                })?
            }
        };
        println!("vm: getting {package}");
        let mut apt = Command::new("apt-get");
        apt.args(["download", "-qq", &package]).current_dir(directory);
        if root::is_root() {
            // Otherwise apt downloads as a user that cannot write to root's cache, and warns.
            apt.args(["-o", "APT::Sandbox::User=root"]);
        }
        project::run(apt)?;
        let archive = only_entry(directory, "linux-image-")?;
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("-x").arg(&archive).arg(directory);
        project::run(dpkg)?;
        fs::remove_file(&archive).with_context(|| format!("{} cannot be removed", archive.display()))?;
        let version = package.trim_start_matches("linux-image-");
        let mut depmod = Command::new(programs.bin().join("depmod"));
        depmod.arg("--basedir").arg(directory).arg(version);
        project::run(depmod)
    }

    /// The newest package of this version that the package lists have.
    fn newest_package(self) -> Result<Option<String>> {
        let output = Command::new("apt-cache")
            .args(["search", "--names-only", r"^linux-image-[0-9.]+[-+0-9a-z]*-amd64$"])
            .output()
            .context("apt-cache cannot be run")?;
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = found.lines().filter_map(|line| line.split_whitespace().next());
        Ok(newest(names, self.version()).map(str::to_owned))
    }
}

/// The newest of `names` that is of `version` and a plain kernel: neither for clouds nor real-time.
fn newest<'a>(names: impl Iterator<Item = &'a str>, version: &str) -> Option<&'a str> {
    let release = |name: &'a str| -> Option<Vec<u32>> {
        let rest = name.strip_prefix("linux-image-")?.strip_suffix("-amd64")?;
        let rest = rest.strip_prefix(version)?.strip_prefix('.')?.replace("+deb", "-");
        // 0-52 of 6.1.0-52, 117-12 of 6.12.117+deb12
        rest.split(['.', '-']).map(|part| part.parse().ok()).collect()
    };
    names.filter_map(|name| Some((release(name)?, name))).max().map(|(_, name)| name)
}

impl Files {
    /// The modules of [`BOOT`], of [`DISK`] if there is one, and all they depend on, each after what it needs, decompressed.
    pub fn boot_modules(&self, has_disk: bool, programs: &Unpacked) -> Result<Vec<(String, Vec<u8>)>> {
        let file = self.modules.join("modules.dep");
        let dependencies = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        let builtin = fs::read_to_string(self.modules.join("modules.builtin")).unwrap_or_default();
        let mut order = Vec::new();
        for wanted in BOOT.into_iter().chain(DISK.into_iter().filter(|_| has_disk)) {
            match loading_order(&dependencies, wanted) {
                Some(modules) => order.extend(modules),
                None => ensure!(
                    builtin.lines().any(|path| module_name(path) == wanted),
                    "the kernel in {} has no module {wanted}",
                    self.modules.display()
                ),
            }
        }
        let mut seen = Vec::new();
        let mut modules = Vec::new();
        for path in order {
            if !seen.contains(&path) {
                seen.push(path);
                modules.push((format!("{}.ko", module_name(path)), self.read_module(path, programs)?));
            }
        }
        Ok(modules)
    }

    fn read_module(&self, path: &str, programs: &Unpacked) -> Result<Vec<u8>> {
        let path = self.modules.join(path);
        if path.extension().is_some_and(|extension| extension == "xz") {
            let mut xz = Command::new(programs.bin().join("xz"));
            let output = xz.arg("-dc").arg(&path).output().context("xz cannot be run")?;
            if !output.status.success() {
                bail!("{} cannot be decompressed", path.display());
            }
            return Ok(output.stdout);
        }
        fs::read(&path).with_context(|| format!("{}", path.display()))
    }
}

/// The paths of `wanted` and of what it depends on, in the order they are to be loaded. A line of modules.dep names a module's
/// dependencies so that each comes before those it needs.
fn loading_order<'a>(dependencies: &'a str, wanted: &str) -> Option<Vec<&'a str>> {
    let (path, needed) = dependencies.lines().find_map(|line| {
        let (path, needed) = line.split_once(':')?;
        (module_name(path) == wanted).then_some((path, needed))
    })?;
    Some(needed.split_whitespace().rev().chain([path]).collect())
}

/// `9pnet_virtio` of `kernel/net/9p/9pnet_virtio.ko.xz`; file names have dashes where module names may not.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The only entry of a directory whose name starts with `prefix`.
fn only_entry(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("{}", directory.display()))?;
    let found = entries.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    Ok(found.with_context(|| format!("{} holds no {prefix}*", directory.display()))?.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_plain_kernel_is_taken() {
        let names = [
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-52-amd64",
            "linux-image-6.1.0-52-rt-amd64",
            "linux-image-6.1.0-53-cloud-amd64",
            "linux-image-6.12.99+deb12-amd64",
            "linux-image-6.12.117+deb12-amd64",
            "linux-image-6.12-amd64",
        ];
        assert_eq!(newest(names.into_iter(), "6.1"), Some("linux-image-6.1.0-52-amd64"));
        assert_eq!(newest(names.into_iter(), "6.12"), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(newest(names.into_iter(), "6.18"), None);
    }

    #[test]
    fn a_module_is_loaded_after_what_it_needs() {
        let dependencies = "kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko kernel/fs/fscache/fscache.ko\n\
                            kernel/fs/fscache/fscache.ko: kernel/fs/netfs/netfs.ko\nkernel/drivers/virtio/virtio-ring.ko.xz:\n";
        let order = loading_order(dependencies, "9p").unwrap();
        assert_eq!(order.first(), Some(&"kernel/fs/fscache/fscache.ko"));
        assert_eq!(order.last(), Some(&"kernel/fs/9p/9p.ko"));
        assert_eq!(
            loading_order(dependencies, "virtio_ring"),
            Some(vec!["kernel/drivers/virtio/virtio-ring.ko.xz"])
        );
        assert_eq!(loading_order(dependencies, "overlay"), None);
    }
}
