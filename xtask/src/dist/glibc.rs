//! Which C library a program needs, from the symbol versions in its ELF file.

use anyhow::{Context, Result, ensure};
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use std::fs;
use std::path::Path;

/// The newest that may be needed: that of RHEL 9. Debian 12 has 2.36.
const NEWEST: (u32, u32) = (2, 34);

/// Fails if a program needs a newer C library than all supported systems have.
pub fn check(program: &Path) -> Result<()> {
    let file = fs::read(program).with_context(|| program.display().to_string())?;
    let versions = versions(&file).with_context(|| program.display().to_string())?;
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
    fn program_with_newer_symbol_version_is_refused_by_name() {
        let mut file = fs::read(env::current_exe().unwrap()).unwrap();
        check(&env::current_exe().unwrap()).unwrap();
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
        let refused = check(&path).unwrap_err().to_string();
        fs::remove_file(&path).unwrap();
        assert!(refused.contains(&format!("needs {planted}, but may need GLIBC_2.34")), "{refused}");
    }
}
