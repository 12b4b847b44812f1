//! Changes of several steps: recorded before the first step, so that the next daemon finishes what a killed one has begun.

use serde::{Deserialize, Serialize};

use super::{Error, StateFile};
use crate::control::{LastMember, request::ConfigurationFile};

/// A change that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unfinished {
    /// A group is created. It will be removed.
    Create {
        /// Its name.
        group: String,
    },
    /// A group is removed. It will be removed.
    Destroy {
        /// Its name.
        group: String,
    },
    /// Interfaces are attached. They will be detached, and get back what came from them.
    Attach {
        /// The group.
        group: String,
        /// The interfaces, in this order.
        interfaces: Vec<String>,
        /// The group is created with them.
        is_new: bool,
    },
    /// A member is detached. It will be detached.
    Detach {
        /// The group.
        group: String,
        /// The member.
        interface: String,
        /// What happens to the group.
        last: Option<LastMember>,
    },
    /// All members are detached. They will be detached.
    DetachAll {
        /// The groups.
        groups: Vec<String>,
    },
    /// Configuration files are applied. They will be applied.
    Apply {
        /// The files.
        files: Vec<ConfigurationFile>,
        /// These are all files: other groups of files are removed.
        complete: bool,
    },
}

impl std::fmt::Display for Unfinished {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Create { group } => write!(out, "create {group}"),
            Self::Destroy { group } => write!(out, "destroy {group}"),
            Self::Attach { group, interfaces, .. } => {
                write!(out, "attach {} to {group}", interfaces.join(" "))
            }
            Self::Detach { group, interface, .. } => write!(out, "detach {interface} from {group}"),
            Self::DetachAll { groups } => write!(out, "detach --all from {}", groups.join(" ")),
            Self::Apply { files, .. } => {
                let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
                write!(out, "apply {}", paths.join(" "))
            }
        }
    }
}

impl StateFile {
    /// Records that a change begins, within those that have begun before.
    ///
    /// # Errors
    /// The file cannot be written: the change must not begin.
    pub fn begin(&mut self, change: Unfinished) -> Result<(), Error> {
        self.state.unfinished.push(change);
        self.save().inspect_err(|_| drop(self.state.unfinished.pop()))
    }

    /// The change that began last has been made, or undone.
    pub fn end(&mut self) {
        self.state.unfinished.pop();
        self.save_or_log();
    }
}
