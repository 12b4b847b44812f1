//! Tests that measure do not run beside each other.
//!
//! Labs do not meet, but they share the processors: a stream at full rate in one is a disturbance in all others.

use std::fs::{self, File, OpenOptions};

use anyhow::{Context as _, Result};

use crate::remains::DIRECTORY;

/// The right to measure, on the whole machine. Given back when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct Alone {
    _lock: File,
}

impl Alone {
    /// Waits until nobody else measures.
    pub fn wait() -> Result<Self> {
        fs::create_dir_all(DIRECTORY)
            .with_context(|| format!("cannot make {DIRECTORY}: a lab needs root"))?;
        let path = format!("{DIRECTORY}/measuring");
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("cannot open {path}"))?;
        lock.lock().with_context(|| format!("cannot lock {path}"))?;
        Ok(Self { _lock: lock })
    }
}
