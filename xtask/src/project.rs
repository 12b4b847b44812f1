//! Where things are in the checkout, and how its binaries are built.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

/// The root of the workspace.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map_or_else(|| xtask.into(), Path::to_path_buf)
}

/// The cargo that runs this xtask, in the root of the workspace.
pub fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(args);
    cargo
}

/// Where cargo puts what it builds.
pub fn target_directory() -> Result<PathBuf> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    ensure!(output.status.success(), "`cargo metadata` failed");
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo's metadata")?;
    Ok(metadata["target_directory"].as_str().context("cargo named no target directory")?.into())
}

/// An executable that cargo built.
pub struct Executable {
    /// The package it is of.
    pub package: String,
    /// The directory of that package, where its tests expect to run.
    pub package_dir: PathBuf,
    /// The name of the target.
    pub target: String,
    /// Whether it holds tests: cargo builds examples along with them.
    pub test: bool,
    /// Whether it is a file of integration tests.
    pub integration: bool,
    /// The file.
    pub path: PathBuf,
}

/// Runs a cargo command that builds, and returns the executables that it made or found fresh.
pub fn build(args: &[&str]) -> Result<Vec<Executable>> {
    executables_of(cargo(args)).with_context(|| format!("`cargo {}`", args.join(" ")))
}

fn executables_of(mut cargo: Command) -> Result<Vec<Executable>> {
    let output = cargo
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    ensure!(output.status.success(), "the build failed");
    let lines = String::from_utf8(output.stdout).context("cargo wrote something that is not UTF-8")?;
    let messages = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    Ok(messages.context("cargo's messages")?.iter().filter_map(executable).collect())
}

fn executable(message: &Value) -> Option<Executable> {
    let target = &message["target"];
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let package_dir = manifest.parent()?;
    Some(Executable {
        path: message["executable"].as_str()?.into(),
        package: package_name(message["package_id"].as_str()?),
        package_dir: package_dir.into(),
        target: target["name"].as_str()?.into(),
        test: message["profile"]["test"].as_bool()?,
        integration: target["kind"][0] == "test",
    })
}

/// The name in a package id: `path+file:///x/tests#ipmp-lab@0.1.0`, or `path+file:///x/xtask#0.1.0`.
fn package_name(id: &str) -> String {
    let (url, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name.into(),
        None => url.rsplit('/').next().unwrap_or(url).into(),
    }
}

/// The programs of ipmp-userspace.
pub const PROGRAMS: [&str; 3] = ["ipmpd", "ipmpctl", "ipmpstat"];

/// Builds `ipmpd` with another layout of the maps, which the test of an upgrade starts: `ipmpd-next-layout`, in the directory of
/// the other programs. They must be built afterwards: cargo puts this one in the place of `ipmpd` first.
pub fn next_layout_daemon() -> Result<()> {
    let features = ["--features", "ipmp-userspace/next-layout"];
    let arguments = ["build", "--release", "--locked", "--package", "ipmp-userspace", "--bin", "ipmpd"];
    let built = build(&[&arguments[..], &features].concat())?;
    let daemon = built.iter().find(|binary| binary.target == "ipmpd").context("cargo built no ipmpd")?;
    let path = daemon.path.with_file_name("ipmpd-next-layout");
    std::fs::copy(&daemon.path, &path).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(())
}

/// What cargo is called with to build the programs.
const RELEASE: [&str; 6] = ["build", "--release", "--locked", "--package", "ipmp-userspace", "--bins"];

/// The directory of `ipmpd`, `ipmpctl` and `ipmpstat`, built with optimisation.
pub fn release_binaries() -> Result<PathBuf> {
    directory_of_programs(&build(&RELEASE)?)
}

/// The same for another target.
pub fn release_binaries_for(target: &str, linker: &str) -> Result<PathBuf> {
    let mut cargo = cargo(&RELEASE);
    cargo.args(["--target", target]);
    cargo.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_")), linker);
    directory_of_programs(&executables_of(cargo).with_context(|| format!("the programs for {target}"))?)
}

/// The same, and the path of a program of the lab, built in one run of cargo.
pub fn release_binaries_and(lab: &str) -> Result<(PathBuf, PathBuf)> {
    let mut arguments =
        vec!["build", "--release", "--locked", "--package", "ipmp-userspace", "--package", "ipmp-lab"];
    for program in PROGRAMS.iter().copied().chain([lab]) {
        arguments.extend(["--bin", program]);
    }
    let built = build(&arguments)?;
    let program = built.iter().find(|binary| binary.target == lab);
    let program = program.with_context(|| format!("ipmp-lab has no program {lab}"))?;
    Ok((directory_of_programs(&built)?, program.path.clone()))
}

fn directory_of_programs(built: &[Executable]) -> Result<PathBuf> {
    for name in PROGRAMS {
        ensure!(built.iter().any(|binary| binary.target == name), "ipmp-userspace has no program {name}");
    }
    let directory = built.first().and_then(|binary| binary.path.parent());
    Ok(directory.context("cargo named no executable")?.into())
}

/// Runs a command and fails unless it succeeds.
pub fn run(mut command: Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{program} cannot be run"))?;
    if status.success() {
        return Ok(());
    }
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    bail!("`{program} {}` failed ({status})", words.join(" "))
}

/// A child's exit status as our own.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_ids_of_both_shapes_are_read() {
        assert_eq!(package_name("path+file:///src/ipmp/tests#ipmp-lab@0.1.0"), "ipmp-lab");
        assert_eq!(package_name("path+file:///src/ipmp/xtask#0.1.0"), "xtask");
    }

    #[test]
    fn only_messages_with_an_executable_count() {
        let message = |executable: Value| {
            serde_json::json!({
                "reason": "compiler-artifact", "package_id": "path+file:///src/tests#ipmp-lab@0.1.0",
                "manifest_path": "/src/tests/Cargo.toml", "target": { "name": "wire", "kind": ["test"] }, "profile": { "test": true },
                "executable": executable,
            })
        };
        let found = executable(&message("/src/target/release/deps/wire-1".into())).unwrap();
        assert_eq!((found.package.as_str(), found.target.as_str(), found.test), ("ipmp-lab", "wire", true));
        assert!(found.integration);
        assert_eq!(found.package_dir, Path::new("/src/tests"));
        assert!(executable(&message(Value::Null)).is_none());
    }
}
