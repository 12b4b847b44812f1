//! What a program needs of the system that it runs on, from its ELF file: architecture, C library, other libraries.

use crate::architecture::Architecture;
use anyhow::{Context, Result, bail, ensure};
use object::Endianness;
use object::elf::{DT_NEEDED, EM_AARCH64, EM_X86_64, FileHeader64};
use object::read::elf::{FileHeader as _, SectionHeader as _};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The newest that may be needed: that of RHEL 9. Debian 12 has 2.36.
const NEWEST: (u32, u32) = (2, 34);

/// A program that was read.
pub struct Program {
    pub architecture: Architecture,
    /// The libraries and versions that it needs, as RPM names them: `libc.so.6(GLIBC_2.34)(64bit)`.
    pub requires: BTreeSet<String>,
}

/// Reads a program. Fails if it needs a newer C library than all supported systems have.
pub fn read(program: &Path) -> Result<Program> {
    let file = fs::read(program).with_context(|| program.display().to_string())?;
    check(program, &file)?;
    let program = || program.display().to_string();
    let architecture = architecture(&file).with_context(program)?;
    Ok(Program { architecture, requires: requires(&file).with_context(program)? })
}

fn architecture(file: &[u8]) -> Result<Architecture> {
    let header = FileHeader64::<Endianness>::parse(file)?;
    match header.e_machine(header.endian()?) {
        EM_X86_64 => Ok(Architecture::X86_64),
        EM_AARCH64 => Ok(Architecture::Aarch64),
        other => bail!("it is for an architecture without packages (ELF machine {other})"),
    }
}

/// The tools of RPM and of Debian read them only from programs of the machine's own architecture.
fn requires(file: &[u8]) -> Result<BTreeSet<String>> {
    let header = FileHeader64::<Endianness>::parse(file)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, file)?;
    let mut requires = BTreeSet::new();
    for section in sections.iter() {
        if let Some((entries, strings)) = section.dynamic(endian, file)? {
            let strings = sections.strings(endian, file, strings)?;
            for entry in entries.iter().filter(|entry| entry.d_tag.get(endian) == DT_NEEDED) {
                let place = u32::try_from(entry.d_val.get(endian)).context("the name of a library")?;
                let name = strings.get(place).ok().context("the name of a library")?;
                requires.insert(format!("{}()(64bit)", String::from_utf8_lossy(name)));
            }
        }
        let Some((mut needed, strings)) = section.gnu_verneed(endian, file)? else { continue };
        let strings = sections.strings(endian, file, strings)?;
        while let Some((library, mut of_library)) = needed.next()? {
            let library = String::from_utf8_lossy(library.file(endian, strings)?).into_owned();
            while let Some(version) = of_library.next()? {
                let version = String::from_utf8_lossy(version.name(endian, strings)?);
                requires.insert(format!("{library}({version})(64bit)"));
            }
        }
    }
    Ok(requires)
}

fn check(program: &Path, file: &[u8]) -> Result<()> {
    let versions = versions(file).with_context(|| program.display().to_string())?;
    ensure!(!versions.is_empty(), "{} has no symbol versions of glibc", program.display());
    let newer: Vec<_> = versions.into_iter().filter(|version| !is_old_enough(version)).collect();
    let (major, minor) = NEWEST;
    ensure!(
        newer.is_empty(),
        "{} needs {}, but may need GLIBC_{major}.{minor} at most: build it on an older system, or without what needs it \
         (`nm --dynamic` lists the symbols)",
        program.display(),
        newer.join(", ")
    );
    Ok(())
}

/// The versions of glibc's symbols that an ELF file needs.
fn versions(file: &[u8]) -> Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(file)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, file)?;
    let mut versions = Vec::new();
    for section in sections.iter() {
        let Some((mut needed, strings)) = section.gnu_verneed(endian, file)? else { continue };
        let strings = sections.strings(endian, file, strings)?;
        while let Some((_, mut of_library)) = needed.next()? {
            while let Some(version) = of_library.next()? {
                let name = String::from_utf8_lossy(version.name(endian, strings)?).into_owned();
                if name.starts_with("GLIBC_") {
                    versions.push(name);
                }
            }
        }
    }
    Ok(versions)
}

/// Whether all supported systems have it. Names without a number, such as `GLIBC_ABI_DT_RELR`, are of later versions.
fn is_old_enough(version: &str) -> bool {
    let numbers = version.trim_start_matches("GLIBC_").split('.').map(str::parse::<u32>);
    match numbers.collect::<Result<Vec<_>, _>>().as_deref() {
        Ok([major, minor, ..]) => (*major, *minor) <= NEWEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;

    #[test]
    fn versions_up_to_that_of_rhel_9_are_accepted() {
        for old in ["GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.34"] {
            assert!(is_old_enough(old), "{old}");
        }
        for new in ["GLIBC_2.35", "GLIBC_3.0", "GLIBC_PRIVATE", "GLIBC_ABI_DT_RELR"] {
            assert!(!is_old_enough(new), "{new}");
        }
    }

    #[test]
    fn architecture_and_libraries_of_a_program_are_read() {
        let program = read(&env::current_exe().unwrap()).unwrap();
        assert_eq!(program.architecture.name(), env::consts::ARCH);
        assert!(program.requires.contains("libc.so.6()(64bit)"), "{:?}", program.requires);
        assert!(
            program.requires.iter().any(|one| one.starts_with("libc.so.6(GLIBC_2.")),
            "{:?}",
            program.requires
        );
    }

    #[test]
    fn program_with_newer_symbol_version_is_refused_by_name() {
        let mut file = fs::read(env::current_exe().unwrap()).unwrap();
        check(Path::new("itself"), &file).unwrap();
        let highest = versions(&file).unwrap().into_iter().max_by_key(|name| name.len()).unwrap();
        assert!(highest.starts_with("GLIBC_2."), "{highest}");
        // In the table of strings, one digit higher than any that there is.
        let planted = format!("GLIBC_9{}", &highest["GLIBC_2".len()..]);
        let name = [highest.as_bytes(), b"\0"].concat();
        let places: Vec<_> = file.windows(name.len()).enumerate().filter(|(_, at)| *at == name).collect();
        let places: Vec<usize> = places.into_iter().map(|(place, _)| place).collect();
        for place in places {
            file[place..place + planted.len()].copy_from_slice(planted.as_bytes());
        }
        let path = env::temp_dir().join(format!("ipmp-glibc-{}", std::process::id()));
        fs::write(&path, file).unwrap();
        let refused = read(&path).err().unwrap().to_string();
        fs::remove_file(&path).unwrap();
        assert!(refused.contains(&format!("needs {planted}, but may need GLIBC_2.34")), "{refused}");
    }
}
