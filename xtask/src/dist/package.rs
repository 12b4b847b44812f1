//! Packs the tree.

use super::check::in_rpm;
use super::{Release, output, tree::Tree};
use crate::project;
use crate::setup::Setup;
use crate::tool::Tool;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// xz is run as a program.
const DEB: Tool = Tool {
    package: "cargo-deb",
    binary: "cargo-deb",
    version: "3.8.0",
    arguments: &["--no-default-features", "--features", "debug-id"],
};
const RPM: Tool =
    Tool { package: "cargo-generate-rpm", binary: "cargo-generate-rpm", version: "0.21.1", arguments: &[] };

/// Writes the manifest that both tools read, in a directory with all that it names.
pub fn manifest(release: &Release, tree: &Tree, requires: &BTreeSet<String>) -> Result<PathBuf> {
    let packaging = project::root().join("packaging");
    let directory = release.work.join("package");
    for scripts in ["deb", "rpm"] {
        let (from, to) = (packaging.join(scripts), directory.join(scripts));
        fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
        for file in fs::read_dir(&from).with_context(|| from.display().to_string())? {
            let file = file?;
            fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    fs::write(directory.join("empty.rs"), "")?;
    let common = fs::read_to_string(packaging.join("package.toml"))?;
    let version = format!("[package]\nversion = \"{}\"\n", release.version);
    let mut text = common.replacen("[package]\n", &version, 1);
    // The table of what the .rpm requires is the last in the file.
    for one in requires {
        writeln!(text, "\"{one}\" = \"*\"")?;
    }
    for (path, mode) in &tree.files {
        let source = tree.root.join(path);
        let source = source.display();
        writeln!(text, "\n[[package.metadata.deb.assets]]")?;
        writeln!(text, "source = \"{source}\"\ndest = \"{path}\"\nmode = \"{mode:o}\"")?;
        if in_rpm(path) {
            writeln!(text, "\n[[package.metadata.generate-rpm.assets]]")?;
            writeln!(text, "source = \"{source}\"\ndest = \"/{path}\"\nmode = \"{mode:o}\"")?;
            writeln!(text, "doc = {}", path.starts_with("usr/share/doc/"))?;
        }
    }
    let path = directory.join("Cargo.toml");
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Makes the package of Debian.
pub fn deb(release: &Release, manifest: &Path, setup: &Setup) -> Result<PathBuf> {
    let Release { version, architecture, directory, .. } = release;
    let deb = directory.join(format!("ipmp_{version}_{}.deb", architecture.debian()));
    let mut cargo_deb = tool(&DEB, release, manifest, setup)?;
    cargo_deb
        .args(["--no-build", "--no-strip", "--compress-system", "--quiet", "--target"])
        .arg(architecture.target())
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--output")
        .arg(&deb);
    project::run(cargo_deb)?;
    Ok(deb)
}

/// Makes the package of RPM.
pub fn rpm(release: &Release, manifest: &Path, setup: &Setup) -> Result<PathBuf> {
    let Release { version, architecture, directory, .. } = release;
    let rpm = directory.join(format!("ipmp-{version}-1.{}.rpm", architecture.name()));
    let mut generate = tool(&RPM, release, manifest, setup)?;
    generate.args(["--auto-req", "disabled", "--arch", architecture.name(), "--output"]).arg(&rpm);
    project::run(generate)?;
    Ok(rpm)
}

fn tool(tool: &Tool, release: &Release, manifest: &Path, setup: &Setup) -> Result<Command> {
    let mut command = Command::new(tool.path(setup)?);
    command.current_dir(manifest.parent().context("a manifest is in a directory")?);
    command.env("SOURCE_DATE_EPOCH", &release.time).env_remove("CARGO_TARGET_DIR");
    Ok(command)
}

/// Makes an archive of a tree, which is unpacked into `/`.
pub fn tarball(release: &Release, root: &Path, file: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--xz", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime=@{}", release.time))
        .arg("--file")
        .arg(file)
        .arg("--directory")
        .arg(root)
        .arg(".");
    project::run(tar)
}

/// Writes `SHA256SUMS` of all files.
pub fn checksums(directory: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name());
    }
    names.sort();
    let sums = output(Command::new("sha256sum").current_dir(directory).args(names))?;
    fs::write(directory.join("SHA256SUMS"), &sums)?;
    print!("{sums}");
    Ok(())
}
