//! Errors of `ipmpctl`, and the exit status and `--json` reason of each.

use std::{fmt, io};

use super::{host, start};
use crate::{
    control::{client, duration::Span, request, setting, socket},
    handover,
};

/// Exit status of `ipmpctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Done,
    /// Refused by the daemon, or failed.
    Refused,
    /// Invalid command line, name, address or setting.
    Usage,
    /// The daemon does not run and could not be started.
    NoDaemon,
    /// Permission denied.
    NotPermitted,
    /// The daemon ended during `monitor`.
    DaemonEnded,
    /// `diff --exit-code` found differences.
    Differs,
    /// The result of `health`, with the exit status of a monitoring plugin.
    Health(HealthLevel),
}

/// State of a service as monitoring plugins report it, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthLevel {
    /// Full redundancy.
    Ok,
    /// It works.
    Warning,
    /// Nothing is known.
    Unknown,
    /// It does not work.
    Critical,
}

impl HealthLevel {
    /// Exit status of the plugin.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Unknown => "UNKNOWN",
            Self::Critical => "CRITICAL",
        }
    }
}

impl fmt::Display for HealthLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Exit {
    /// The process's exit status.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::NoDaemon => 3,
            Self::NotPermitted => 4,
            Self::DaemonEnded => 5,
            Self::Differs => 10,
            Self::Health(level) => level.code(),
        }
    }

    /// `reason` in `--json` where the daemon sent none.
    fn reason(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "failed",
            Self::Usage => "usage",
            Self::NoDaemon => "no-daemon",
            Self::NotPermitted => "not-permitted",
            Self::DaemonEnded => "daemon-ended",
            Self::Differs => "differs",
            Self::Health(_) => "health",
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid arguments.
    #[error("{0}")]
    Usage(String),
    /// Invalid name or address, or one given twice.
    #[error(transparent)]
    Invalid(#[from] request::Invalid),
    /// Invalid address, target or test address.
    #[error(transparent)]
    Address(#[from] host::Error),
    /// Invalid setting.
    #[error(transparent)]
    Setting(#[from] setting::Error),
    /// Invalid `--netns`.
    #[error(transparent)]
    Socket(#[from] socket::Error),
    /// The daemon refused, or cannot be reached.
    #[error(transparent)]
    Daemon(#[from] client::Error),
    /// The daemon could not be started.
    #[error(transparent)]
    Start(#[from] start::Error),
    /// `wait-online` has waited long enough.
    #[error("not online after {timeout}: {missing}")]
    NotOnline {
        /// What is missing.
        missing: String,
        /// How long it has waited.
        timeout: Span,
    },
    /// `save` cannot write the files.
    #[error("{0}")]
    Save(String),
    /// A change waits for its confirmation, or nothing does.
    #[error("{0}")]
    Confirm(String),
    /// What `import` has read has no equivalent.
    #[error("{0}")]
    Import(String),
    /// Another program configures a NIC.
    #[error("{0}")]
    InUse(String),
    /// systemd-resolved does not take name servers.
    #[error("{0}")]
    Dns(String),
    /// A NIC is not handed over.
    #[error(transparent)]
    Handover(#[from] handover::Error),
    /// `metrics` cannot serve.
    #[error("{0}")]
    Metrics(String),
    /// `hooks` cannot run them.
    #[error("{0}")]
    Hooks(String),
    /// Packets of members cannot be read.
    #[error("{0}")]
    Capture(String),
    /// The user may not read packets.
    #[error("cannot read the packets of {0}: permission denied; run the command as root")]
    CapturePermission(String),
    /// No packet was observed.
    #[error("{0}")]
    NotObserved(String),
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
}

impl Error {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Invalid(_) | Self::Setting(_) | Self::Socket(_) => Exit::Usage,
            Self::Address(error) if error.is_lookup() => Exit::Refused,
            Self::Address(_) => Exit::Usage,
            Self::Daemon(client::Error::NotPermitted(_)) | Self::CapturePermission(_) => Exit::NotPermitted,
            Self::Daemon(client::Error::Contact { .. } | client::Error::Unreachable { .. })
            | Self::Start(_) => Exit::NoDaemon,
            Self::Daemon(client::Error::Stopped(_) | client::Error::Killed(_)) => Exit::DaemonEnded,
            Self::Daemon(_)
            | Self::NotOnline { .. }
            | Self::Confirm(_)
            | Self::Import(_)
            | Self::Dns(_)
            | Self::Handover(_)
            | Self::InUse(_)
            | Self::Metrics(_)
            | Self::Hooks(_)
            | Self::Save(_)
            | Self::Capture(_)
            | Self::NotObserved(_)
            | Self::Output(_) => Exit::Refused,
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Daemon(client::Error::Refused { reason, .. }) => reason,
            // The same argument twice is an error of the command line, as clap reports others.
            Self::Invalid(request::Invalid::InterfaceTwice(_)) => self.exit().reason(),
            Self::Invalid(error) => error.reason(),
            Self::Address(_) => request::reason::BAD_ADDRESS,
            Self::Setting(_) => request::reason::BAD_SETTING,
            Self::NotOnline { .. } | Self::NotObserved(_) => "timeout",
            Self::InUse(_) => request::reason::IN_USE,
            other => other.exit().reason(),
        }
    }
}
