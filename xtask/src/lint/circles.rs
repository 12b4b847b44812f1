//! Import circles between the modules of a crate.
//!
//! A module is a file. It imports another one if a path in it leads there: in a `use`, in an expression, or in the arguments of
//! a macro. A name that a module re-exports leads to where it is defined. A module and those below it may import each other:
//! such imports are not counted. Tests are not read.

mod crates;
mod graph;
mod names;

use anyhow::{Result, ensure};
use crates::Crate;
use std::path::Path;

/// The crates that are checked, by the directories of their sources.
const CRATES: [&str; 5] =
    ["ipmp-userspace/src", "ipmp-ebpf/src", "ipmp-ebpf/recipe/src", "ipmp-common/src", "xtask/src"];

/// Prints every circle below `root`, and fails if there is one.
pub fn check(root: &Path) -> Result<()> {
    let mut circles = 0;
    for directory in CRATES {
        for crate_root in crates::roots(&root.join(directory))? {
            let found = Crate::read(&crate_root)?.circles();
            for circle in &found {
                println!("{directory}: {} modules import each other:", circle.len());
                for import in circle {
                    println!("  {import}");
                }
            }
            circles += found.len();
        }
    }
    println!("{circles} import circles");
    ensure!(circles == 0, "modules import each other in a circle");
    Ok(())
}

#[cfg(test)]
mod tests;
