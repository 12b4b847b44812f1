//! `ipmpctl detach`

use super::{
    dns::Before,
    error::Error,
    handover,
    verb::{DryRun, Verb},
};
use crate::{
    control::{Client, LastMember, Request, Response, report::GroupReport},
    handover::{Handover, is_handed_over},
    types::MemberState,
};

/// Detach an interface from its group, or all interfaces
///
/// Detaching the last member requires one of --restore, --keep-group, --force and --move-back; for other members the first three
/// have no effect. With --all either all interfaces are detached or none; the host is then as before the first attach. If the
/// interface is in no group, nothing changes, and a note reports it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl detach eth1
  ipmpctl detach eth0 --restore --confirm 120
  ipmpctl detach --all --restore")]
pub struct Detach {
    /// Name of the member
    #[arg(required_unless_present = "all")]
    interface: Option<String>,
    /// All members of all groups, those that were attached last first: what came from each returns to it, what was added to the
    /// groups is removed with them, and programs that `handover` made leave the interfaces configure them again
    #[arg(long, requires = "restore", conflicts_with = "interface")]
    all: bool,
    /// With --all: only the members of this group
    #[arg(long, value_name = "GROUP", requires = "all")]
    group: Option<String>,
    #[command(flatten)]
    last: OfLast,
    /// Undo it after this time, 1 to 86400 seconds, unless `ipmpctl confirm` is entered before, from a new connection
    #[arg(long, value_name = "SECONDS", conflicts_with = "dry_run", value_parser = clap::value_parser!(u32).range(1..=86400))]
    confirm: Option<u32>,
    #[command(flatten)]
    plan: DryRun,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct OfLast {
    /// Last member: restore addresses and routes to the interface and remove the group
    #[arg(long)]
    restore: bool,
    /// Last member: keep the empty group and its addresses
    #[arg(long)]
    keep_group: bool,
    /// Last member: remove the group and its addresses
    #[arg(long)]
    force: bool,
    /// Any member: return the addresses and routes that came from the interface to it; the group stays
    #[arg(long)]
    move_back: bool,
}

impl Verb for Detach {
    fn request(&self) -> Result<Request, Error> {
        let Some(interface) = self.interface.clone() else {
            return Ok(Request::DetachAll { group: self.group.clone() });
        };
        let last = match self.last {
            OfLast { restore: true, .. } => Some(LastMember::Restore),
            OfLast { keep_group: true, .. } => Some(LastMember::KeepGroup),
            OfLast { force: true, .. } => Some(LastMember::Force),
            OfLast { move_back: true, .. } => Some(LastMember::MoveBack),
            _ => None,
        };
        Ok(Request::Detach { interface, last })
    }

    fn is_dry_run(&self) -> bool {
        self.plan.dry_run
    }

    fn plan(&self, client: &mut Client, request: &Request) -> Result<Response, Error> {
        let groups = client.groups()?;
        let response = client.call(request)?;
        let dns = if self.last.restore { self.dns(&groups, client) } else { Vec::new() };
        let response = dns.iter().fold(response, |response, (dns, to)| dns.plan(to, response));
        let Response::Done { mut notes, changed: true } = response else { return Ok(response) };
        if self.all
            && client.is_in_this_namespace()
            && let Ok(host) = handover::host()
        {
            notes.extend(Handover::new(&host)?.plan_undo(&self.members(&groups)));
        }
        Ok(Response::Done { notes, changed: true })
    }

    fn send(&self, client: &mut Client, request: &Request) -> Result<Response, Error> {
        let groups = if self.last.restore { client.groups()? } else { Vec::new() };
        let dns = self.dns(&groups, client);
        let response = client.call(request)?;
        let response = dns.iter().fold(response, |response, (dns, to)| dns.move_to(to, response));
        if !self.all {
            return Ok(response);
        }
        Ok(self.undo_handover(&self.members(&groups), client, response))
    }

    fn confirm(&self) -> Option<(String, u32)> {
        let OfLast { restore, keep_group, force, move_back } = self.last;
        let options = [
            (restore, " --restore"),
            (keep_group, " --keep-group"),
            (force, " --force"),
            (move_back, " --move-back"),
        ];
        let option = options.iter().find(|(given, _)| *given).map_or("", |(_, option)| option);
        let group = self.group.as_ref().map(|group| format!(" --group {group}")).unwrap_or_default();
        let what = self.interface.as_deref().unwrap_or("--all");
        Some((format!("detach {what}{group}{option}"), self.confirm?))
    }
}

impl Detach {
    /// The name servers of the groups that the request removes, each with the interface that gets them: only with the last member
    /// do the addresses leave a group.
    fn dns<'g>(&self, groups: &'g [GroupReport], client: &Client) -> Vec<(Before, &'g str)> {
        let leaving = groups.iter().filter(|group| self.ends(group));
        let with_last = leaving.filter_map(|group| {
            let member = group.members.iter().find(|member| member.state != MemberState::Absent)?;
            Some((Before::of(std::slice::from_ref(&group.name), client), member.name.as_str()))
        });
        with_last.collect()
    }

    /// The members of these groups.
    fn members(&self, groups: &[GroupReport]) -> Vec<String> {
        let members = groups.iter().filter(|group| self.ends(group)).flat_map(|group| &group.members);
        members.map(|member| member.name.clone()).collect()
    }

    /// Whether the request removes a group.
    fn ends(&self, group: &GroupReport) -> bool {
        match &self.interface {
            Some(name) => matches!(group.members.as_slice(), [member] if member.name == *name),
            None => self.group.as_ref().is_none_or(|name| *name == group.name),
        }
    }

    /// Has the programs that `handover` made leave the interfaces configure them again. The change is done already: what fails is
    /// a note.
    fn undo_handover(&self, members: &[String], client: &Client, response: Response) -> Response {
        let Response::Done { mut notes, changed: true } = response else { return response };
        let Some(host) = handover::host().ok().filter(|_| client.is_in_this_namespace()) else {
            return Response::Done { notes, changed: true };
        };
        let mut nics = members.to_vec();
        nics.retain(|name| is_handed_over(&host, name));
        if nics.is_empty() {
            return Response::Done { notes, changed: true };
        }
        let command = format!("ipmpctl handover --undo {}", nics.join(" "));
        if self.confirm.is_some() {
            notes.push(format!(
                "no program configures {} until this is entered after the confirmation: {command}",
                nics.join(", ")
            ));
            return Response::Done { notes, changed: true };
        }
        match Handover::new(&host).and_then(|work| work.undo(&nics)) {
            Ok(more) => notes.extend(more),
            Err(error) => notes.push(format!("{error}; then enter: {command}")),
        }
        Response::Done { notes, changed: true }
    }
}
