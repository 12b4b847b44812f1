//! `ipmpctl health`: one line and the exit status of a monitoring plugin.

use std::io::Write;

use super::{
    error::{Error, Exit, HealthLevel},
    output::{Content, HealthSummary},
    verb::{Command, Invocation, Outcome},
};
use crate::{
    control::{
        Client,
        report::{AddressReport, GroupReport, MemberReport},
    },
    types::{GroupState, LinkState, MemberState, ProbeState},
};

/// Print the health of groups in one line, with the exit status of a monitoring plugin
///
/// The first word is the worst state of the groups. OK: every member functions. WARNING: a group works without full redundancy:
/// a member has failed, is absent or offline, or loses large packets, it has one member only, no target replies to probes, a target does not reply to
/// all members (the network is split), or another host has one of its addresses. CRITICAL: no member of a group functions, or a
/// named group does not exist. UNKNOWN: ipmpd does not run, does not reply, or has no group. After a bar the line has the number
/// of functioning members of each group as performance data.
///
/// Exit status, as Nagios, Icinga and Zabbix expect it: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl health               all groups
  ipmpctl health production0   one group")]
pub struct Health {
    /// Group interface or group name [default: all groups]
    groups: Vec<String>,
}

impl Command for Health {
    /// A daemon that cannot be reached is a state, and no error.
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let groups = Client::connect(invocation.socket).and_then(|mut client| client.groups());
        let health = match groups {
            Ok(groups) => of(&groups, &self.groups),
            Err(error) => Report::unknown(error.to_string()),
        };
        let Report { level, message, data } = health;
        let content = Content::Health { health: HealthSummary { status: level.as_str(), message: &message } };
        let printed = content.print(invocation.format, || format!("IPMP {level}: {message}{data}\n"));
        Ok(Outcome { exit: Exit::Health(level), printed })
    }
}

struct Report {
    level: HealthLevel,
    message: String,
    /// Performance data with its bar, or nothing.
    data: String,
}

impl Report {
    fn unknown(message: String) -> Self {
        Self { level: HealthLevel::Unknown, message, data: String::new() }
    }
}

/// The health of all groups, or of the named ones.
fn of(groups: &[GroupReport], names: &[String]) -> Report {
    let missing = names.iter().filter(|name| !groups.iter().any(|group| group.is_named(name)));
    let mut states: Vec<(HealthLevel, String)> =
        missing.map(|name| (HealthLevel::Critical, format!("there is no group {name}"))).collect();
    let chosen: Vec<&GroupReport> = groups
        .iter()
        .filter(|group| names.is_empty() || names.iter().any(|name| group.is_named(name)))
        .collect();
    if chosen.is_empty() && states.is_empty() {
        return Report::unknown("ipmpd has no group".into());
    }
    states.extend(chosen.iter().map(|group| state(group)));
    let level = states.iter().map(|(level, _)| *level).max().unwrap_or(HealthLevel::Unknown);
    let message = states.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ");
    let data = chosen.iter().map(|group| {
        let all = group.members.len();
        format!(" '{}'={};{all}:;1:;0;{all}", group.name, functioning(group))
    });
    let data: String = data.collect();
    let data = if data.is_empty() { data } else { format!(" |{data}") };
    Report { level, message, data }
}

fn functioning(group: &GroupReport) -> usize {
    group.members.iter().filter(|member| member.state == MemberState::Ok).count()
}

fn state(group: &GroupReport) -> (HealthLevel, String) {
    let (all, good) = (group.members.len(), functioning(group));
    let mut reasons: Vec<String> =
        group.members.iter().filter(|member| !member.is_in_order()).map(reason).collect();
    let is_redundant = reasons.is_empty() && all > 1;
    if all == 1 && reasons.is_empty() {
        reasons.push("no redundancy".into());
    }
    let unreachable = &group.detection.unreachable_families;
    reasons.extend(unreachable.iter().map(|family| format!("no target replies ({family})")));
    let split = &group.detection.split;
    reasons.extend(
        split
            .iter()
            .map(|split| format!("{} not reached by {}", split.target, split.not_reached_by.join(" "))),
    );
    let duplicates: Vec<&AddressReport> =
        group.addresses.iter().filter(|address| address.duplicate).collect();
    reasons.extend(duplicates.iter().map(|address| format!("another host has {}", address.address)));
    let level = match group.state {
        GroupState::Failed => HealthLevel::Critical,
        GroupState::Degraded | GroupState::Split => HealthLevel::Warning,
        GroupState::Ok
            if is_redundant && unreachable.is_empty() && split.is_empty() && duplicates.is_empty() =>
        {
            HealthLevel::Ok
        }
        GroupState::Ok => HealthLevel::Warning,
    };
    let mut text = format!("{} {}, {good} of {all} members", group.name, group.state);
    if !reasons.is_empty() {
        text.push_str(&format!(" ({})", reasons.join(", ")));
    }
    (level, text)
}

/// Why a member does not function, or drops packets.
fn reason(member: &MemberReport) -> String {
    let why = match member.state {
        MemberState::Failed if member.link == LinkState::Down => ", link down",
        MemberState::Failed if member.probe == ProbeState::Failed => ", probes lost",
        MemberState::Ok if let Some(hole) = member.mtu_hole => {
            return format!("{} loses packets larger than {} bytes", member.name, hole.passes);
        }
        MemberState::Ok if let Some(router) = member.unreached_router => {
            return format!("{} does not reach the default router {router}", member.name);
        }
        MemberState::Ok if let Some(degraded) = member.degraded => {
            return format!("{} loses {}% of its packets", member.name, degraded.percent);
        }
        _ => "",
    };
    format!("{} {}{why}", member.name, member.state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::report::{probing::SplitTarget, sample},
        types::Family,
    };

    fn group(name: &str, states: &[MemberState]) -> GroupReport {
        let mut group = GroupReport { name: name.into(), addresses: vec![], ..sample() };
        let template = group.members[0].clone();
        group.members = states
            .iter()
            .enumerate()
            .map(|(number, state)| MemberReport {
                name: format!("eth{number}"),
                state: *state,
                ..template.clone()
            })
            .collect();
        group.state = match functioning(&group) {
            0 => GroupState::Failed,
            all if all == states.len() => GroupState::Ok,
            _ => GroupState::Degraded,
        };
        group
    }

    fn line(groups: &[GroupReport], names: &[&str]) -> (u8, String) {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let Report { level, message, data } = of(groups, &names);
        (level.code(), format!("IPMP {level}: {message}{data}"))
    }

    #[test]
    fn worst_group_decides_and_every_reason_is_named() {
        use MemberState::{Absent, Failed, Offline, Ok};
        let good = || group("one", &[Ok, Ok, Ok]);
        assert_eq!(line(&[good()], &[]), (0, "IPMP OK: one ok, 3 of 3 members | 'one'=3;3:;1:;0;3".into()));
        let mut degraded = group("two", &[Ok, Failed, Offline, Absent]);
        degraded.members[1].link = LinkState::Down;
        assert_eq!(
            line(&[good(), degraded.clone()], &[]),
            (
                1,
                "IPMP WARNING: one ok, 3 of 3 members; two degraded, 1 of 4 members (eth1 failed, link down, eth2 offline, \
                 eth3 absent) | 'one'=3;3:;1:;0;3 'two'=1;4:;1:;0;4"
                    .into()
            )
        );
        assert_eq!(line(&[good(), degraded], &["one"]).0, 0);
        let mut failed = group("three", &[Failed]);
        failed.members[0].probe = ProbeState::Failed;
        assert_eq!(
            line(&[failed, good()], &[]),
            (
                2,
                "IPMP CRITICAL: three failed, 0 of 1 members (eth0 failed, probes lost); one ok, 3 of 3 members | \
                 'three'=0;1:;1:;0;1 'one'=3;3:;1:;0;3"
                    .into()
            )
        );
        assert_eq!(line(&[good()], &["x"]), (2, "IPMP CRITICAL: there is no group x".into()));
        assert_eq!(line(&[], &[]), (3, "IPMP UNKNOWN: ipmpd has no group".into()));
    }

    #[test]
    fn group_without_full_redundancy_is_a_warning() {
        use MemberState::Ok;
        let alone = group("one", &[Ok]);
        assert_eq!(
            line(&[alone], &[]),
            (1, "IPMP WARNING: one ok, 1 of 1 members (no redundancy) | 'one'=1;1:;1:;0;1".into())
        );
        let mut duplicate = group("one", &[Ok, Ok]);
        duplicate.addresses = vec![sample().addresses[1].clone()];
        duplicate.detection.unreachable_families = vec![Family::V4];
        duplicate.detection.split = vec![SplitTarget {
            target: [192, 168, 178, 1].into(),
            reached_by: vec!["e1000g0".into()],
            not_reached_by: vec!["rge0".into()],
        }];
        let (code, text) = line(&[duplicate], &[]);
        assert_eq!(code, 1);
        assert!(text.contains("(no target replies (inet), 192.168.178.1 not reached by rge0, another host has 2001:db8::200)"), "{text}");
    }
}
