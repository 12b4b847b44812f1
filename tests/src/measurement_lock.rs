//! Tests that measure must not run at the same time: labs share the CPUs, and a stream at full rate in one of them
//! disturbs all others.

use std::fs::{File, OpenOptions};

use anyhow::{Context as _, Result};

use crate::cleanup::{DIRECTORY, create_directory};

/// The machine-wide lock for measurements. Released when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct MeasurementLock {
    _lock: File,
}

impl MeasurementLock {
    /// Waits until no other test measures.
    pub fn acquire() -> Result<Self> {
        create_directory()?;
        let path = format!("{DIRECTORY}/measuring");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("cannot open {path}"))?;
        lock.lock().with_context(|| format!("cannot lock {path}"))?;
        Ok(Self { _lock: lock })
    }
}
