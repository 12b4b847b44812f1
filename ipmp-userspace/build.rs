//! Builds the eBPF objects that `ipmpd` carries, by the recipe of `ipmp-ebpf/recipe`, into `$OUT_DIR`.

use ipmp_ebpf_recipe::{ENVIRONMENT, Objects};
use std::env;
use std::path::{Path, PathBuf};
use std::process;

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    let crate_dir = root.join("ipmp-ebpf");
    for source in [
        "ipmp-ebpf/src",
        "ipmp-ebpf/Cargo.toml",
        "ipmp-ebpf/Cargo.lock",
        "ipmp-common/Cargo.toml",
        "ipmp-common/src",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    for name in ENVIRONMENT {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let out_dir = variable("OUT_DIR");
    let arch = variable("CARGO_CFG_TARGET_ARCH");
    let features: &[&str] =
        if env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some() { &["next-layout"] } else { &[] };
    let objects = Objects { crate_dir: &crate_dir, out_dir: Path::new(&out_dir), arch: &arch, features };
    match objects.make() {
        Ok(used) => {
            for file in used {
                println!("cargo::rerun-if-changed={}", file.display());
            }
        }
        Err(missing) => {
            // A compiler's many lines belong on standard error; cargo wants an error in one.
            let text = missing.to_string();
            let (summary, details) = text.split_once('\n').unwrap_or((&text, ""));
            eprintln!("{details}");
            println!("cargo::error={summary}");
            process::exit(1);
        }
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
