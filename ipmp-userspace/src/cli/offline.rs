//! `ipmpctl offline`

use std::ops::RangeInclusive;

use super::{
    error::Error,
    verb::{DryRun, Verb},
};
use crate::control::{Request, setting::LIMITS};

/// Take a member out of service; its traffic moves to the other members
///
/// The member stays offline until ipmpctl online. With --drain it gets no new flows at once, and is set offline when none is active
/// on it; ipmpctl online ends that, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ipmpctl offline eth0\n  ipmpctl offline eth0 --drain 60")]
pub struct Offline {
    /// Name of the member
    interface: String,
    /// Wait until no flow is active on the member, at most so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(drain_range()))]
    drain: Option<u16>,
    #[command(flatten)]
    plan: DryRun,
}

fn drain_range() -> RangeInclusive<i64> {
    i64::from(*LIMITS.start())..=i64::from(*LIMITS.end())
}

impl Verb for Offline {
    fn request(&self) -> Result<Request, Error> {
        let interface = self.interface.clone();
        Ok(match self.drain {
            Some(seconds) => Request::Drain { interface, seconds },
            None => Request::Offline { interface },
        })
    }

    fn is_dry_run(&self) -> bool {
        self.plan.dry_run
    }
}
