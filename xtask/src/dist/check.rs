//! What the packages must contain: `packaging/files.txt`.

use super::{output, tree::Files};
use crate::setup::Setup;
use crate::{debian, project, unpacked};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The list of files in the checkout.
const LIST: &str = "packaging/files.txt";

/// Whether a file of the tree is in the package of RPM, whose systems have systemd.
pub fn in_rpm(path: &str) -> bool {
    !path.starts_with("etc/init.d/")
}

/// The list: `MODE PATH` in each line.
pub fn expected() -> Result<Files> {
    let list = fs::read_to_string(project::root().join(LIST)).context(LIST)?;
    files(list.lines().filter(|line| !line.starts_with('#'))).context(LIST)
}

/// Fails with the differences.
pub fn same(found: &Files, expected: &Files) -> Result<()> {
    let only_in = |one: &Files, other: &Files| {
        let lines = one.iter().filter(|(path, mode)| other.get(*path) != Some(*mode));
        lines.map(|(path, mode)| format!("{mode:o} /{path}\n")).collect::<String>()
    };
    let (missing, more) = (only_in(expected, found), only_in(found, expected));
    ensure!(
        missing.is_empty() && more.is_empty(),
        "the files differ from {LIST}, which has to be changed if that is intended\nmissing:\n{missing}not in the list:\n{more}"
    );
    Ok(())
}

/// Compares the files of a package of Debian.
pub fn deb(package: &Path, expected: &Files) -> Result<()> {
    if !debian::is_debian() {
        println!("dist: the .deb is not checked: this system has no dpkg-deb");
        return Ok(());
    }
    let list = output(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    let lines: Vec<String> = list.lines().filter_map(line_of_tar).collect();
    same(&files(lines.iter().map(String::as_str))?, expected).context("the .deb")
}

/// `-rwxr-xr-x root/root 1234 2026-01-01 00:00 ./usr/bin/x` as `755 /usr/bin/x`; none for a directory.
fn line_of_tar(line: &str) -> Option<String> {
    let permissions = line.strip_prefix('-')?.get(..9)?;
    let mode = permissions.chars().fold(0, |mode, one| mode * 2 + u32::from(one != '-'));
    let (_, path) = line.split_once(" ./")?;
    Some(format!("{mode:o} /{path}"))
}

/// Compares the files of a package of RPM, read by Debian's rpm.
pub fn rpm(package: &Path, expected: &Files, setup: &Setup) -> Result<()> {
    if !debian::is_debian() {
        println!("dist: the .rpm is not checked: this system has no apt-get to get Debian's rpm");
        return Ok(());
    }
    let rpm = setup.unpack(&unpacked::RPM)?;
    let mut query = Command::new(rpm.bin().join("rpm"));
    query.env("RPM_CONFIGDIR", rpm.file("usr/lib/rpm"));
    query.args(["-qp", "--nosignature", "--queryformat", "[%{FILEMODES:octal} %{FILENAMES}\n]"]).arg(package);
    let list = output(&mut query)?;
    // 100755: the type of the file before its permissions.
    let found = files(list.lines().filter_map(|line| line.strip_prefix("100")))?;
    let expected = expected.iter().filter(|(path, _)| in_rpm(path)).map(|(path, mode)| (path.clone(), *mode));
    same(&found, &expected.collect()).context("the .rpm")
}

/// Runs lintian, which must have no error and no warning.
pub fn lintian(package: &Path, setup: &Setup) -> Result<()> {
    setup.ensure(debian::LINTIAN)?;
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--allow-root", "--tag-display-limit", "0"]).arg(package);
    project::run(lintian)
}

fn files<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Files> {
    let file = |line: &'a str| {
        let (mode, path) =
            line.split_once(" /").with_context(|| format!("expected MODE /PATH, got {line:?}"))?;
        let mode = u32::from_str_radix(mode, 8).with_context(|| line.to_owned())?;
        Ok((path.to_owned(), mode))
    };
    lines.map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_of_an_archive_are_read() {
        let line = "-rwxr-xr-x root/root   1234 2026-01-01 00:00 ./usr/bin/ipmpctl";
        assert_eq!(line_of_tar(line).as_deref(), Some("755 /usr/bin/ipmpctl"));
        assert_eq!(line_of_tar("drwxr-xr-x root/root 0 2026-01-01 00:00 ./usr/bin/"), None);
    }

    #[test]
    fn differences_are_named_in_both_directions() {
        let list = files(["755 /usr/sbin/ipmpd", "644 /etc/a"].into_iter()).unwrap();
        same(&list, &list).unwrap();
        let other = files(["644 /usr/sbin/ipmpd", "644 /etc/a", "644 /b"].into_iter()).unwrap();
        let error = same(&other, &list).unwrap_err().to_string();
        assert!(
            error.contains("missing:\n755 /usr/sbin/ipmpd\nnot in the list:\n644 /b\n644 /usr/sbin/ipmpd"),
            "{error}"
        );
    }
}
