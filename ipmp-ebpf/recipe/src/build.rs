//! The recipe: one set of flags for all toolchains.

use crate::btf;
use crate::command::run;
use crate::flags::CODEGEN;
use crate::{Missing, TARGET, Toolchain};
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The objects that `ipmpd` carries, named as the binaries of `ipmp-ebpf` are.
pub const OBJECTS: [&str; 6] = ["datapath", "sentinel", "evidence", "connections", "source", "device"];

/// `datapath` built with the feature `log`: an object of its own, since the map of aya-log is not a BTF map.
pub const DATAPATH_LOG: &str = "datapath-log";

/// The environment variables that change what [`Objects::make`] does.
pub const ENVIRONMENT: [&str; 4] =
    ["IPMP_BPF_RUSTC", "IPMP_BPF_RUST_SRC", "IPMP_BPF_LINKER", "IPMP_BPF_OBJECTS"];

/// The objects of `crate_dir`, in `out_dir`.
#[derive(Debug)]
pub struct Objects<'a> {
    /// The directory of `ipmp-ebpf`.
    pub crate_dir: &'a Path,
    /// Where the objects go, and the target directory `bpf`.
    pub out_dir: &'a Path,
    /// The architecture that the programs will run on, as `CARGO_CFG_TARGET_ARCH` has it.
    pub arch: &'a str,
    /// Features of `ipmp-ebpf` for all objects.
    pub features: &'a [&'a str],
}

impl Objects<'_> {
    /// Compiles [`OBJECTS`] and [`DATAPATH_LOG`], or copies them from `IPMP_BPF_OBJECTS`, and returns the files of the toolchain
    /// that the result depends on.
    ///
    /// # Errors
    ///
    /// [`Missing`], whose text names the remedy, or is the compiler's output.
    pub fn make(&self) -> Result<Vec<PathBuf>, Missing> {
        // Objects built elsewhere have no features.
        let prebuilt = env::var_os("IPMP_BPF_OBJECTS").filter(|v| !v.is_empty() && self.features.is_empty());
        if let Some(from) = prebuilt {
            return self.copy_prebuilt(Path::new(&from));
        }
        let toolchain = Toolchain::find()?;
        toolchain.build(self)?;
        Ok(vec![toolchain.compiler.core(), toolchain.compiler.rustc, toolchain.linker])
    }

    fn copy_prebuilt(&self, from: &Path) -> Result<Vec<PathBuf>, Missing> {
        let mut used = Vec::new();
        for name in OBJECTS.into_iter().chain([DATAPATH_LOG]) {
            let object = from.join(name);
            if !object.is_file() {
                return Err(Missing::Object(object));
            }
            copy(&object, &self.out_dir.join(name))?;
            used.push(object);
        }
        Ok(used)
    }
}

impl Toolchain {
    /// Compiles the objects. `cargo` is the caller's, the compiler is ours.
    ///
    /// # Errors
    ///
    /// [`Missing`]: cargo's output, or what the sysroot lacks.
    pub fn build(&self, objects: &Objects<'_>) -> Result<(), Missing> {
        let built = objects.out_dir.join("bpf").join(TARGET).join("release");
        let features = objects.features.join(",");
        let bins = ["build", "--bins", "--features", &features];
        run(self.cargo(objects, &bins)?, "compiling the eBPF programs")?;
        for name in OBJECTS {
            finish(&built.join(name), &objects.out_dir.join(name), false)?;
        }
        let log = ["build", "--bin", OBJECTS[0], "--features", "log", "--features", &features];
        run(self.cargo(objects, &log)?, "compiling the eBPF datapath with its log")?;
        finish(&built.join(OBJECTS[0]), &objects.out_dir.join(DATAPATH_LOG), true)
    }

    /// A cargo command on the eBPF crate with all the flags of the recipe, such as `build` or `check`.
    ///
    /// # Errors
    ///
    /// [`Missing`]: what the sysroot lacks.
    pub fn cargo(&self, objects: &Objects<'_>, what: &[&str]) -> Result<Command, Missing> {
        let sysroot = self.sysroot()?;
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // The outer build's settings for its own target, profile and wrappers must not reach this one.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_foreign) {
                cargo.env_remove(name);
            }
        }
        cargo
            .current_dir(objects.crate_dir)
            .env("RUSTC", &self.compiler.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags(&sysroot, objects.arch).join("\x1f"))
            .args(what)
            .args(["--release", "--locked", "--target", TARGET, "--target-dir"])
            .arg(objects.out_dir.join("bpf"));
        Ok(cargo)
    }

    fn rustflags(&self, sysroot: &Path, arch: &str) -> Vec<String> {
        let mut flags = vec![
            format!("--sysroot={}", sysroot.display()),
            format!("--cfg=bpf_target_arch=\"{arch}\""),
            "-Clink-arg=--btf".into(),
            format!("-Clinker={}", self.linker.display()),
        ];
        flags.extend(CODEGEN.map(String::from));
        flags
    }
}

fn is_foreign(name: &str) -> bool {
    const PREFIXES: [&str; 5] =
        ["CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_TARGET_"];
    const NAMES: [&str; 5] =
        ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_INCREMENTAL", "TARGET"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

/// Copies a linked object, with the names that `bpftool` expects in its BTF. `keeps_lines`: with the lines of source, for debugging.
fn finish(linked: &Path, object: &Path, keeps_lines: bool) -> Result<(), Missing> {
    let bytes = fs::read(linked).map_err(Missing::file(linked))?;
    let named = btf::name_chars(&bytes);
    let finished = if keeps_lines { named } else { named.and_then(|object| btf::without_lines(&object)) };
    let finished = finished.ok_or_else(|| io::Error::other("it has no BTF, or an unexpected one"));
    fs::write(object, finished.map_err(Missing::file(linked))?).map_err(Missing::file(object))
}

fn copy(from: &Path, to: &Path) -> Result<(), Missing> {
    fs::copy(from, to).map(drop).map_err(Missing::file(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_outer_build_are_removed() {
        for name in [
            "CARGO_CFG_TARGET_OS",
            "CARGO_FEATURE_X",
            "CARGO_PROFILE_RELEASE_LTO",
            "RUSTFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            assert!(is_foreign(name), "{name}");
        }
        for name in ["CARGO", "CARGO_HOME", "CARGO_NET_OFFLINE", "PATH", "CARGO_MAKEFLAGS"] {
            assert!(!is_foreign(name), "{name}");
        }
    }
}
