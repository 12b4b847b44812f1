//! `ipmpctl target`: the hosts that a group's members probe.

use std::{fmt::Write as _, io::Write, net::IpAddr, thread, time::Duration};

use clap::Subcommand;

use super::{
    error::Error,
    host,
    output::{Content, Format, notes},
    verb::{DryRun, Verb},
};
use crate::control::{Client, Request, Response, TargetReport};

/// How long `discover` waits for replies.
const REPLY_TIME: Duration = Duration::from_secs(2);

/// Configure and list the hosts that a group's members probe
///
/// Targets that were added are the only ones that are probed, up to five per family in turn. Without any, the next hops and
/// host routes of the routing table are used, and without these the hosts that reply to a multicast probe.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl target add 192.168.178.1 --group production0
  ipmpctl target list --group production0
  ipmpctl target route 192.168.178.2")]
pub struct Target {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add targets
    Add(Targets),
    /// Remove targets that were added; a note names addresses that are no targets
    Del(Targets),
    /// Probe disabled targets again
    Enable(Targets),
    /// Keep targets that were added in the list, but do not probe them
    Disable(Targets),
    /// Add host routes to hosts, which makes them targets of the group: as `ip route add ADDRESS dev GROUP`
    ///
    /// Hosts with a host route precede routers. Without --group, the route leads through the group whose subnet, or that of a test
    /// address, has the address. A route lasts until the group is removed or the host restarts: ipmp-target@ADDRESS.service
    /// adds it at each start.
    Route(Routes),
    /// List targets, with their source and their state on each member that uses them
    ///
    /// FROM is explicit (added), host_route, router or multicast. STATE is active (probed in turn), inactive (not needed,
    /// enough others are active), slow or unresponsive (excluded for 60 s), disabled, or unused (better ones exist, or no
    /// member can reach it).
    List(InGroup),
    /// Search for hosts that reply to a multicast probe, for 2 s, and list them
    ///
    /// Hosts that were found before are forgotten.
    Discover(Search),
}

#[derive(Debug, clap::Args)]
struct Targets {
    /// Addresses, for example 192.168.178.1, or host names
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
    #[command(flatten)]
    of: InGroup,
    #[command(flatten)]
    plan: DryRun,
}

#[derive(Debug, clap::Args)]
struct Search {
    #[command(flatten)]
    of: InGroup,
    #[command(flatten)]
    plan: DryRun,
}

#[derive(Debug, clap::Args)]
struct Routes {
    /// Addresses, for example 192.168.178.2, or host names
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// Remove the host routes through the group, or through every group
    #[arg(long)]
    remove: bool,
    /// Name of the group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    #[command(flatten)]
    plan: DryRun,
}

#[derive(Debug, clap::Args)]
struct InGroup {
    /// Name of the group
    #[arg(long, value_name = "GROUP")]
    group: String,
}

impl Targets {
    /// Group and addresses.
    fn read(&self) -> Result<(String, Vec<IpAddr>), Error> {
        Ok((self.of.group.clone(), host::addresses(&self.addresses)?))
    }
}

impl Verb for Target {
    fn request(&self) -> Result<Request, Error> {
        Ok(match &self.action {
            Action::Add(targets) => {
                let (group, addresses) = targets.read()?;
                Request::AddTarget { group, addresses }
            }
            Action::Del(targets) => {
                let (group, addresses) = targets.read()?;
                Request::RemoveTarget { group, addresses }
            }
            Action::Enable(targets) => {
                let (group, addresses) = targets.read()?;
                Request::EnableTarget { group, addresses }
            }
            Action::Disable(targets) => {
                let (group, addresses) = targets.read()?;
                Request::DisableTarget { group, addresses }
            }
            Action::Route(Routes { addresses, remove, group, .. }) => {
                let (group, addresses) = (group.clone(), host::addresses(addresses)?);
                if *remove {
                    Request::RemoveTargetRoute { group, addresses }
                } else {
                    Request::AddTargetRoute { group, addresses }
                }
            }
            Action::List(of) => Request::ListTargets { group: of.group.clone() },
            Action::Discover(search) => Request::DiscoverTargets { group: search.of.group.clone() },
        })
    }

    fn is_dry_run(&self) -> bool {
        match &self.action {
            Action::Add(targets)
            | Action::Del(targets)
            | Action::Enable(targets)
            | Action::Disable(targets) => targets.plan.dry_run,
            Action::Route(routes) => routes.plan.dry_run,
            Action::Discover(search) => search.plan.dry_run,
            Action::List(_) => false,
        }
    }

    fn run(
        &self,
        mut client: Client,
        request: Request,
        format: Format,
        _out: &mut dyn Write,
    ) -> Result<String, Error> {
        let mut response = client.call(&request)?;
        if let Request::DiscoverTargets { group } = request {
            thread::sleep(REPLY_TIME);
            response = client.call(&Request::ListTargets { group })?;
            if let Response::Targets(targets) = &mut response {
                targets.retain(|target| target.answered);
            }
        }
        Ok(self.print(response, format))
    }

    fn print(&self, response: Response, format: Format) -> String {
        match response {
            Response::Targets(targets) => {
                Content::Targets { targets: &targets }.print(format, || text(&targets))
            }
            Response::Done { notes: lines, changed } => notes(&lines, changed, format),
            _ => String::new(),
        }
    }
}

/// Targets as text: a line for each member that chooses one.
fn text(targets: &[TargetReport]) -> String {
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
    fn text_lists_one_line_per_member_that_uses_a_target() {
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
