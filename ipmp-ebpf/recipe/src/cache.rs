//! The cache directory for results that take long to make: `$XDG_CACHE_HOME/ipmp`, or `~/.cache/ipmp`.

use crate::Missing;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The cache directory. It need not exist yet.
///
/// # Errors
///
/// [`Missing::Home`] when the environment names no home.
pub fn directory() -> Result<PathBuf, Missing> {
    let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    // A relative XDG_CACHE_HOME is to be ignored, says the XDG base directory specification.
    let base =
        set("XDG_CACHE_HOME").filter(|p| p.is_absolute()).or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.ok_or(Missing::Home)?.join("ipmp"))
}

/// Returns the directory `name` of the cache, made by `make` if it is not there.
///
/// `make` fills a scratch directory, which is renamed when it is complete, under a lock: several builds may run at the same
/// time, and a killed build leaves no incomplete entry.
///
/// # Errors
///
/// Whatever `make` returns, and [`Missing::File`].
pub fn entry<E: From<Missing>>(name: &str, make: impl FnOnce(&Path) -> Result<(), E>) -> Result<PathBuf, E> {
    entry_in(&directory()?, name, make)
}

fn entry_in<E: From<Missing>>(
    cache: &Path,
    name: &str,
    make: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let finished = cache.join(name);
    if finished.is_dir() {
        return Ok(finished);
    }
    fs::create_dir_all(cache).map_err(Missing::file(cache))?;
    let lock_path = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock_path).map_err(Missing::file(&lock_path))?;
    lock.lock().map_err(Missing::file(&lock_path))?;
    if finished.is_dir() {
        return Ok(finished);
    }
    let scratch = cache.join(format!("{name}.partial"));
    if scratch.exists() {
        fs::remove_dir_all(&scratch).map_err(Missing::file(&scratch))?;
    }
    fs::create_dir_all(&scratch).map_err(Missing::file(&scratch))?;
    make(&scratch)?;
    fs::rename(&scratch, &finished).map_err(Missing::file(&finished))?;
    Ok(finished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    fn scratch(name: &str) -> PathBuf {
        let path = env::temp_dir().join(format!("ipmp-recipe-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn concurrent_callers_make_an_entry_once() {
        let cache = scratch("once");
        let made = AtomicU32::new(0);
        thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    let path = entry_in(&cache, "thing", |dir| {
                        made.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(20));
                        fs::write(dir.join("file"), "whole").map_err(Missing::file(dir))
                    })
                    .unwrap();
                    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "whole");
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
        fs::remove_dir_all(cache).unwrap();
    }

    #[test]
    fn failed_entry_is_not_taken_as_complete() {
        let cache = scratch("failure");
        let failed = entry_in(&cache, "thing", |dir| {
            fs::write(dir.join("half"), "").unwrap();
            Err(Missing::Home)
        });
        assert!(matches!(failed, Err(Missing::Home)));
        assert!(!cache.join("thing").exists());
        let made = entry_in(&cache, "thing", |_| Ok::<_, Missing>(())).unwrap();
        assert!(!made.join("half").exists(), "the files of the failed attempt must be removed");
        fs::remove_dir_all(cache).unwrap();
    }
}
