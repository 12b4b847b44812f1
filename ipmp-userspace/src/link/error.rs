//! What can go wrong between us and the kernel's network configuration.

use std::io;

/// A request to the kernel failed. The text names the interface and what was wanted of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket could be had.
    #[error(
        "cannot open a netlink socket: {0}; ipmpd needs a network namespace of Linux and the right to open sockets"
    )]
    Socket(#[source] io::Error),
    /// The interface does not exist in this network namespace.
    #[error("there is no interface {0} in this network namespace; `ip link` lists those that exist")]
    NoSuchInterface(String),
    /// The kernel refused.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was wanted, with the name of the interface.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A sysctl could not be read or written.
    #[error("cannot {what} {path}: {source}")]
    Sysctl {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket(source) | Self::Kernel { source, .. } | Self::Sysctl { source, .. } => {
                source.raw_os_error()
            }
            Self::NoSuchInterface(_) => Some(libc::ENODEV),
        }
    }

    /// Whether the device does not exist (any more). Its removal has undone what was configured on it.
    pub fn is_missing(&self) -> bool {
        matches!(self.errno(), Some(libc::ENODEV | libc::ENXIO | libc::ENOENT))
    }

    pub(super) fn kernel(what: String, error: rtnetlink::Error) -> Self {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        Self::Kernel { what, source }
    }
}
