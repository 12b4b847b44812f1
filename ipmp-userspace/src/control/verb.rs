//! The table of verbs: the method of each in `net.ipmp.Manager.varlink`, who may call it, and its reply.

use super::request::Request;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Every user. No daemon is started for it.
    Read,
    /// Root and the group `ipmp`.
    Change,
}

/// The parameters of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// `notes`.
    Notes,
    /// `groups`.
    Groups,
    /// `targets`.
    Targets,
    /// `explanation`.
    Explanation,
    /// `path`.
    Path,
    /// `simulation`.
    Simulation,
    /// `transitions`.
    Transitions,
    /// `state`.
    State,
    /// One `event` in each of many replies.
    Events,
    /// One `probe` in each of many replies.
    Probes,
}

/// A verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerbInfo {
    /// Name of the method, and of the variant of [`Request`].
    pub method: &'static str,
    /// Who may call it.
    pub permission: Permission,
    /// What it replies.
    pub reply: ReplyKind,
}

impl VerbInfo {
    /// Whether there is more than one reply.
    pub fn streams(&self) -> bool {
        matches!(self.reply, ReplyKind::Events | ReplyKind::Probes)
    }
}

macro_rules! verbs {
    ($($method:ident: $permission:ident -> $reply:ident,)+) => {
        /// Every verb.
        pub const VERBS: &[VerbInfo] = &[
            $(VerbInfo {
                method: stringify!($method),
                permission: Permission::$permission,
                reply: ReplyKind::$reply,
            },)+
        ];

        impl Request {
            /// Its row in the table. A request without one does not compile.
            pub fn verb(&self) -> VerbInfo {
                match self {
                    $(Self::$method { .. } => VerbInfo {
                        method: stringify!($method),
                        permission: Permission::$permission,
                        reply: ReplyKind::$reply,
                    },)+
                }
            }
        }
    };
}

verbs! {
    Create: Change -> Notes,
    Destroy: Change -> Notes,
    Attach: Change -> Notes,
    Detach: Change -> Notes,
    DetachAll: Change -> Notes,
    AddAddress: Change -> Notes,
    RemoveAddress: Change -> Notes,
    AddTestAddress: Change -> Notes,
    RemoveTestAddress: Change -> Notes,
    Offline: Change -> Notes,
    Drain: Change -> Notes,
    Online: Change -> Notes,
    Set: Change -> Notes,
    AddTarget: Change -> Notes,
    RemoveTarget: Change -> Notes,
    EnableTarget: Change -> Notes,
    DisableTarget: Change -> Notes,
    AddTargetRoute: Change -> Notes,
    RemoveTargetRoute: Change -> Notes,
    Apply: Change -> Notes,
    RecordState: Read -> State,
    CheckGateways: Change -> Notes,
    RestoreState: Change -> Notes,
    Plan: Change -> Notes,
    DiscoverTargets: Change -> Notes,
    ListTargets: Read -> Targets,
    Show: Read -> Groups,
    Monitor: Read -> Events,
    Probes: Read -> Probes,
    Explain: Read -> Explanation,
    Path: Read -> Path,
    Simulate: Read -> Simulation,
    Timeline: Read -> Transitions,
}

impl Request {
    /// Whether it only reports what would change.
    pub fn is_dry_run(&self) -> bool {
        matches!(
            self,
            Self::Plan { .. } | Self::Attach { dry_run: true, .. } | Self::Apply { dry_run: true, .. }
        )
    }

    /// The request that reports what a change would do.
    pub fn plan(change: Self) -> Self {
        Self::Plan { method: change.verb().method.to_owned(), parameters: Box::new(change) }
    }

    /// Whether it changes anything, so that it needs root or the group `ipmp`.
    pub fn changes(&self) -> bool {
        self.verb().permission == Permission::Change
    }
}
