//! The directory tree that all packages contain.

use super::{Release, output};
use crate::{man, project};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the programs are installed.
const PROGRAMS: [(&str, &str); 3] = [("ipmpd", "usr/sbin"), ("ipmpctl", "usr/bin"), ("ipmpstat", "usr/bin")];

/// Directories of the checkout of which all files are installed, with their mode.
const DIRECTORIES: [(&str, &str, u32); 11] = [
    ("packaging/sbin", "usr/sbin", 0o755),
    ("packaging/systemd", "usr/lib/systemd/system", 0o644),
    (
        "packaging/systemd-networkd-wait-online.service.d",
        "usr/lib/systemd/system/systemd-networkd-wait-online.service.d",
        0o644,
    ),
    ("packaging/sysusers.d", "usr/lib/sysusers.d", 0o644),
    ("packaging/sysv", "etc/init.d", 0o755),
    ("docs", "usr/share/doc/ipmp", 0o644),
    ("docs/benchmarks", "usr/share/doc/ipmp/benchmarks", 0o644),
    ("packaging/networkd", "usr/share/doc/ipmp/examples/networkd", 0o644),
    ("packaging/prometheus", "usr/share/doc/ipmp/examples/prometheus", 0o644),
    ("packaging/grafana", "usr/share/doc/ipmp/examples/grafana", 0o644),
    ("docs/design", "usr/share/doc/ipmp/design", 0o644),
];

/// Files of the checkout.
const FILES: [(&str, &str); 3] = [
    ("README.md", "usr/share/doc/ipmp/README.md"),
    ("ipmp-userspace/etc/ipmp.toml", "usr/share/doc/ipmp/examples/ipmp.toml"),
    ("packaging/deb/copyright", "usr/share/doc/ipmp/copyright"),
];

/// Completions as they are generated, and their places: zsh of Debian and of other systems search different directories.
const COMPLETIONS: [(&str, &str); 4] = [
    ("ipmpctl.bash", "usr/share/bash-completion/completions/ipmpctl"),
    ("ipmpctl.fish", "usr/share/fish/vendor_completions.d/ipmpctl.fish"),
    ("_ipmpctl", "usr/share/zsh/vendor-completions/_ipmpctl"),
    ("_ipmpctl", "usr/share/zsh/site-functions/_ipmpctl"),
];

/// Texts that are made and compressed: the licences of the crates, and a changelog.
const TEXTS: [&str; 2] = ["usr/share/doc/ipmp/licences.txt", "usr/share/doc/ipmp/changelog"];

/// Paths below the root, without a leading slash, with their modes.
pub type Files = BTreeMap<String, u32>;

/// Two trees.
pub struct Tree {
    /// What is installed.
    pub root: PathBuf,
    pub files: Files,
    /// The debug symbols of the programs.
    pub debug: PathBuf,
}

/// Makes the trees.
pub fn make(release: &Release, programs: &Path, licences: &str) -> Result<Tree> {
    let mut tree =
        Tree { root: release.work.join("root"), files: Files::new(), debug: release.work.join("debug") };
    for (program, directory) in PROGRAMS {
        let installed = format!("{directory}/{program}");
        tree.copy(&programs.join(program), &installed, 0o755)?;
        tree.split_symbols(&installed, &release.architecture.gnu("objcopy"))?;
    }
    for Source { from, to, mode, is_compressed } in sources(&release.work.join("man"))? {
        if is_compressed {
            tree.compress(&fs::read_to_string(&from).with_context(|| from.display().to_string())?, &to)?;
        } else {
            tree.copy(&from, &to, mode)?;
        }
    }
    for (to, text) in TEXTS.into_iter().zip([licences, &changelog(release)?]) {
        tree.compress(text, to)?;
    }
    Ok(tree)
}

/// The files that [`make`] installs, without the programs. Man pages and completions are generated into this directory.
pub fn planned(generated: &Path) -> Result<Files> {
    let programs = PROGRAMS.map(|(program, directory)| (format!("{directory}/{program}"), 0o755));
    let sources = sources(generated)?.into_iter().map(|source| match source.is_compressed {
        true => (format!("{}.gz", source.to), source.mode),
        false => (source.to, source.mode),
    });
    let texts = TEXTS.map(|to| (format!("{to}.gz"), 0o644));
    Ok(programs.into_iter().chain(sources).chain(texts).collect())
}

/// A file that is installed as it is, or compressed.
struct Source {
    from: PathBuf,
    to: String,
    mode: u32,
    is_compressed: bool,
}

/// The files of the checkout, and those that are generated into this directory.
fn sources(generated: &Path) -> Result<Vec<Source>> {
    man::generate(generated)?;
    let mut sources = Vec::new();
    let mut add = |from: PathBuf, to: String, mode, is_compressed| {
        sources.push(Source { from, to, mode, is_compressed });
    };
    for (from, to, mode) in DIRECTORIES {
        let from = project::root().join(from);
        for name in names(&from)? {
            add(from.join(&name), format!("{to}/{name}"), mode, false);
        }
    }
    for (from, to) in FILES {
        add(project::root().join(from), to.into(), 0o644, false);
    }
    for section in ["man1", "man5", "man8"] {
        let from = generated.join(section);
        for name in names(&from)? {
            add(from.join(&name), format!("usr/share/man/{section}/{name}"), 0o644, true);
        }
    }
    for (from, to) in COMPLETIONS {
        add(generated.join("completions").join(from), to.into(), 0o644, false);
    }
    Ok(sources)
}

/// In the form of Debian.
fn changelog(release: &Release) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", "--date"]).arg(format!("@{}", release.time));
    let (version, date) = (&release.version, output(&mut date)?);
    Ok(format!(
        "ipmp ({version}) unstable; urgency=medium\n\n  * Version {version}.\n\n -- The ipmp authors <ipmp@ipmp.invalid>  {date}"
    ))
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        if entry.path().is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl Tree {
    /// The place of a file, whose directory is made.
    fn add(&mut self, path: &str, mode: u32) -> Result<PathBuf> {
        self.files.insert(path.into(), mode);
        place(&self.root, path)
    }

    fn copy(&mut self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let place = self.add(to, mode)?;
        fs::copy(from, &place).with_context(|| from.display().to_string())?;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Writes `path.gz`.
    fn compress(&mut self, text: &str, path: &str) -> Result<()> {
        let place = self.add(&format!("{path}.gz"), 0o644)?;
        let plain = place.with_extension("");
        fs::write(&plain, text)?;
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o644))?;
        let mut gzip = Command::new("gzip");
        gzip.args(["-9", "--no-name", "--force"]).arg(plain);
        project::run(gzip)
    }

    /// Moves the symbols of a program where debuggers find them: `/usr/lib/debug`, by the link in the program.
    fn split_symbols(&self, path: &str, objcopy: &str) -> Result<()> {
        let program = self.root.join(path);
        let symbols = place(&self.debug, &format!("usr/lib/debug/{path}.debug"))?;
        let mut keep = Command::new(objcopy);
        keep.args(["--only-keep-debug", "--compress-debug-sections"]).arg(&program).arg(&symbols);
        project::run(keep)?;
        fs::set_permissions(&symbols, fs::Permissions::from_mode(0o644))?;
        let mut strip = Command::new(objcopy);
        strip.arg("--strip-unneeded").arg(format!("--add-gnu-debuglink={}", symbols.display())).arg(&program);
        project::run(strip)
    }
}

fn place(root: &Path, path: &str) -> Result<PathBuf> {
    let place = root.join(path);
    let parent = place.parent().unwrap_or(root);
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    Ok(place)
}
