//! `ipmpctl target`: whom a group's members probe.

use std::{fmt::Write as _, thread, time::Duration};

use clap::Subcommand;

use super::{Error, host};
use crate::control::{Client, Request, Response, TargetReport, name, target};

/// How long hosts are given to answer.
const ANSWERS: Duration = Duration::from_secs(2);

/// Name the targets that a group's members probe, or see which there are
///
/// Targets that are added are the only ones that are probed, up to five of a family in turn. Without any, the targets of
/// host routes and the routers are, and without those hosts that answer a multicast probe.
#[derive(Debug, clap::Args)]
pub struct Target {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add targets
    Add(Of),
    /// Remove targets that were added
    Del(Of),
    /// Probe targets again that were disabled
    Enable(Of),
    /// Keep targets that were added in the list, and do not probe them
    Disable(Of),
    /// List targets: where they come from, and what they are to the members that choose them
    ///
    /// FROM is explicit (added), host_route, router, or multicast. STATE is active (probed in turn), inactive (enough
    /// others are probed), slow or unresponsive (excluded for a minute), disabled, or unused (other targets are preferred,
    /// or no member can reach it).
    List(In),
    /// Look for hosts that answer a multicast probe, forget those that were found before, and list who answers
    Discover(In),
}

#[derive(Debug, clap::Args)]
struct Of {
    /// Their addresses, as 192.168.178.1, or their names
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
    #[command(flatten)]
    of: In,
}

#[derive(Debug, clap::Args)]
struct In {
    /// Name of the group
    #[arg(long, value_name = "GROUP")]
    group: String,
}

impl Target {
    pub(super) fn request(&self) -> Result<Request, Error> {
        let (addresses, of): (&[String], &In) = match &self.verb {
            Verb::Add(verb) | Verb::Del(verb) | Verb::Enable(verb) | Verb::Disable(verb) => {
                (&verb.addresses, &verb.of)
            }
            Verb::List(of) | Verb::Discover(of) => (&[], of),
        };
        name::check_group(&of.group)?;
        let group = of.group.clone();
        let addresses = host::addresses(addresses)?;
        target::check(&addresses).map_err(host::Error::from)?;
        Ok(match self.verb {
            Verb::Add(_) => Request::AddTarget { group, addresses },
            Verb::Del(_) => Request::RemoveTarget { group, addresses },
            Verb::Enable(_) => Request::EnableTarget { group, addresses },
            Verb::Disable(_) => Request::DisableTarget { group, addresses },
            Verb::List(_) => Request::ListTargets { group },
            Verb::Discover(_) => Request::DiscoverTargets { group },
        })
    }
}

/// Gives hosts time to answer, and lists those that did.
pub(super) fn discovered(client: &mut Client, group: String) -> Result<Response, Error> {
    thread::sleep(ANSWERS);
    Ok(match client.call(&Request::ListTargets { group })? {
        Response::Targets(targets) => {
            Response::Targets(targets.into_iter().filter(|target| target.answered).collect())
        }
        other => other,
    })
}

/// Targets as text: a line for each member that chooses one.
pub fn text(targets: &[TargetReport]) -> String {
    if targets.is_empty() {
        return "no targets\n".into();
    }
    let mut rows = vec![["TARGET", "FROM", "STATE", "MEMBER", "RTT"].map(str::to_owned)];
    for target in targets {
        let (address, from) = (target.address.to_string(), target.source.to_string());
        if target.members.is_empty() {
            let state = if target.enabled { "unused" } else { "disabled" };
            rows.push([address, from, state.into(), "--".into(), "--".into()]);
            continue;
        }
        for prober in &target.members {
            let rtt = prober.rtt_us.map_or_else(|| "--".into(), |us| format!("{:.2}ms", us as f64 / 1000.0));
            let status = prober.status.to_string();
            rows.push([address.clone(), from.clone(), status, prober.member.clone(), rtt]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; 4] = std::array::from_fn(width);
    let mut text = String::new();
    for [address, from, state, member, rtt] in &rows {
        let [a, f, s, m] = widths;
        writeln!(text, "{address:a$}  {from:f$}  {state:s$}  {member:m$}  {rtt}").expect("a string grows");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::target::Prober,
        types::{TargetSource, TargetStatus},
    };

    #[test]
    fn targets_are_listed_with_those_who_choose_them() {
        let prober = |member: &str, status, rtt_us| Prober { member: member.into(), status, rtt_us };
        let target = |address: &str, source, enabled, members| TargetReport {
            address: address.parse().unwrap(),
            source,
            enabled,
            answered: false,
            members,
        };
        let both = vec![
            prober("eth0", TargetStatus::Active, Some(417)),
            prober("eth10", TargetStatus::Unresponsive, None),
        ];
        assert_eq!(
            text(&[
                target("192.168.178.1", TargetSource::Explicit, true, both),
                target("192.168.178.20", TargetSource::Explicit, false, vec![]),
                target("fe80::1", TargetSource::Router, true, vec![]),
            ]),
            "TARGET          FROM      STATE         MEMBER  RTT\n\
             192.168.178.1   explicit  active        eth0    0.42ms\n\
             192.168.178.1   explicit  unresponsive  eth10   --\n\
             192.168.178.20  explicit  disabled      --      --\n\
             fe80::1         router    unused        --      --\n"
        );
        assert_eq!(text(&[]), "no targets\n");
    }
}
