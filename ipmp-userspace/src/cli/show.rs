//! `ipmpctl show`: a block per interface, as `ifconfig -a` of OpenSolaris prints them (docs/reference.md 7.2), with state,
//! traffic and the reason why a member does not transmit.

use std::{fmt::Write, io, net::IpAddr, time::Duration};

use ipmp_common::steer::SLOTS;

use super::{
    error::Error,
    output::{Content, Format},
    verb::Verb,
};
use crate::core::probe::REPAIRS;
use crate::{
    control::{
        Client, Request, Response,
        duration::short,
        report::{
            AddressReport, Capture, Degraded, DirectionFailure, Drops, Exchanged, GroupReport, Loss,
            MemberReport, Moving, MtuHole, Traffic, Xdp,
            probing::{Detection, Passed, Probing, SplitTarget},
        },
    },
    types::{Direction, Failback, LinkState, MemberState, ProbeMethod, ProbeObstacle, network::netmask},
};

/// Show groups and members: state, addresses, failure detection, traffic and drops
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl show               every group with its members
  ipmpctl show production0   one group with its members
  ipmpctl show eth0          one member")]
pub struct Show {
    /// Group interface, group name or member [default: all groups]
    name: Option<String>,
}

impl Verb for Show {
    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Show { name: self.name.clone() })
    }

    fn run(
        &self,
        mut client: Client,
        request: Request,
        format: Format,
        _out: &mut dyn io::Write,
    ) -> Result<String, Error> {
        // The reply is what is printed. With hundreds of groups, reading and writing it would take longer than making it.
        if format == Format::Json && self.name.is_none() {
            return Ok(client.call_unparsed(&request)? + "\n");
        }
        Ok(self.print(client.call(&request)?, format))
    }

    fn print(&self, response: Response, format: Format) -> String {
        let Response::Show(groups) = response else { return String::new() };
        match self.name.as_deref().and_then(|name| find_member(&groups, name)) {
            Some((group, member)) => {
                Content::Member { group: &group.name, member }.print(format, || member_text(group, member))
            }
            None => Content::Groups { groups: &groups }.print(format, || text(&groups)),
        }
    }
}

/// The member of this name, unless the name is that of a group. The daemon replies with the group of a member.
fn find_member<'a>(groups: &'a [GroupReport], name: &str) -> Option<(&'a GroupReport, &'a MemberReport)> {
    if groups.iter().any(|group| group.is_named(name)) {
        return None;
    }
    let members = groups.iter().flat_map(|group| group.members.iter().map(move |member| (group, member)));
    members.into_iter().find(|(_, member)| member.name == name)
}

/// Groups as text, with a blank line between them.
pub(super) fn text(groups: &[GroupReport]) -> String {
    if groups.is_empty() {
        return "no IPMP groups\n".into();
    }
    groups.iter().map(group).collect::<Vec<_>>().join("\n")
}

/// Collects the lines of blocks, indented as in the output of `ifconfig -a`.
#[derive(Default)]
struct Blocks(String);

impl Blocks {
    fn head(&mut self, name: &str, flags: &[String], mtu: u32, index: u32) {
        let flags = flags.join(",");
        writeln!(self.0, "{name}: flags=<{flags}> mtu {mtu} index {index}")
            .expect("writing to a string cannot fail");
    }

    fn line(&mut self, line: &str) {
        writeln!(self.0, "        {line}").expect("writing to a string cannot fail");
    }
}

fn group(group: &GroupReport) -> String {
    let mut blocks = Blocks::default();
    blocks.head(&group.name, &group.flags, group.mtu, group.ifindex);
    for data in &group.addresses {
        let inbound = data.inbound.as_deref().unwrap_or("none");
        let preferred = data.preferred.as_ref().filter(|preferred| data.inbound.as_ref() != Some(preferred));
        let preferred = preferred.map_or(String::new(), |preferred| format!(" (preferred {preferred})"));
        let duplicate = if data.duplicate { ", duplicate: another host has it" } else { "" };
        blocks.line(&format!("{} inbound {inbound}{preferred}{duplicate}", address(data)));
    }
    blocks.line(&format!("groupname {}", group.groupname));
    blocks.line(&group_state(group));
    let cast: Vec<_> = group.members.iter().filter(|member| member.cast).map(|m| m.name.as_str()).collect();
    let cast = if cast.is_empty() { "none".into() } else { cast.join(" ") };
    blocks.line(&detection(group));
    if let Some(line) = unreachable_targets(&group.detection) {
        blocks.line(&line);
    }
    for SplitTarget { target, reached_by, not_reached_by } in &group.detection.split {
        let (on, not_on) = (reached_by.join(" "), not_reached_by.join(" "));
        blocks.line(&format!("split: {target} replies on {on}, not on {not_on}"));
    }
    blocks.line(&format!("hash {}, multicast and broadcast on {cast}", group.hash));
    blocks.line(&drops(group.drops));
    blocks.line(&capture(&group.capture));
    for each in &group.members {
        member(&mut blocks, group, each);
    }
    if !group.checks.is_empty() {
        writeln!(blocks.0, "{}: checks", group.name).expect("writing to a string cannot fail");
        group.checks.iter().for_each(|check| blocks.line(check));
    }
    blocks.0
}

fn member_text(group: &GroupReport, one: &MemberReport) -> String {
    let mut blocks = Blocks::default();
    member(&mut blocks, group, one);
    blocks.0
}

fn member(blocks: &mut Blocks, group: &GroupReport, member: &MemberReport) {
    blocks.head(&member.name, &member.flags, member.mtu, member.ifindex);
    for own in &member.addresses {
        blocks.line(&address(own));
    }
    blocks.line(&format!("ether {}", member.mac));
    blocks.line(&format!("groupname {}", group.groupname));
    blocks.line(&member_state(group, member));
    if let Some(identity) = &member.recognised_by {
        blocks.line(&format!(
            "its device was deleted or moved; it rejoins when a device with {identity} appears"
        ));
    }
    if let Some(Moving { direction, in_ms }) = member.moving {
        let what = match direction {
            Direction::Returning => "gets new flows; others return to it when they are idle",
            Direction::Leaving => "gets no new flows; others leave it when they are idle",
            Direction::Draining => "gets no new flows; it is set offline when no flow is active on it",
        };
        blocks.line(&format!(
            "{direction}: {what}, after {} at the latest",
            short(Duration::from_millis(in_ms))
        ));
    }
    if let Some(MtuHole { target, passes, elsewhere }) = member.mtu_hole {
        blocks.line(&format!(
            "packets larger than {passes} bytes to {target} are lost; {elsewhere} bytes pass on another member"
        ));
    }
    if let Some(router) = member.unreached_router {
        blocks.line(&format!("the default router {router} is not reached; it is on another member"));
    }
    if let Some(DirectionFailure { direction, peer, .. }) = &member.failed_direction {
        blocks.line(&direction.describe(peer));
    }
    member.degraded.iter().for_each(|one| blocks.line(&degraded(one)));
    member.probing.iter().for_each(|one| blocks.line(&probing(one)));
    lost_probes(&member.loss).iter().for_each(|line| blocks.line(line));
    if let Some(Exchanged { bytes, ago_ms }) = member.exchanged {
        let ago = short(Duration::from_millis(ago_ms));
        blocks.line(&format!("{bytes} bytes passed to and from other members {ago} ago"));
    }
    let share = f64::from(member.slots) * 100.0 / SLOTS as f64;
    blocks.line(&format!(
        "member {}, attached by {}, updelay {}, weight {}, preferred in {} of {SLOTS} slots ({share:.1}%)",
        member.number,
        member.attach,
        short(Duration::from_millis(member.updelay_ms)),
        member.weight,
        member.slots
    ));
    let Traffic { out_packets, out_bytes, in_packets, in_bytes, failed_over_packets } = member.traffic;
    blocks.line(&format!(
        "out {out_packets} packets {out_bytes} bytes, in {in_packets} packets {in_bytes} bytes, failed over \
         {failed_over_packets} packets"
    ));
    if let Some(early) = &member.xdp {
        blocks.line(&xdp(early));
    }
}

fn degraded(degraded: &Degraded) -> String {
    let Degraded { of, minutes, percent, others_percent, .. } = degraded;
    let of = of.plural();
    format!("degraded: {percent}% of the {of} in {minutes} min are lost; {others_percent}% on other members")
}

/// The probes that were lost, with the bounds of the share that the path loses; `None`: none was.
fn lost_probes(loss: &[Loss]) -> Option<String> {
    let of = |Loss { minutes, probes, lost, least_percent, most_percent }: &Loss| {
        format!("{lost} of {probes} in {minutes} min ({least_percent}% to {most_percent}%)")
    };
    let all: Vec<String> = loss.iter().filter(|loss| loss.probes > 0).map(of).collect();
    loss.iter().any(|loss| loss.lost > 0).then(|| format!("probes lost: {}", all.join(", ")))
}

/// Frames that a member drops by XDP.
fn xdp(xdp: &Xdp) -> String {
    let Xdp { mode, attached, why, reflected, other_copy, flooded, passed } = xdp;
    let now = match (attached, why) {
        (true, _) => "attached".to_owned(),
        (false, Some(why)) => format!("not attached: {why}"),
        (false, None) => "not attached: waiting until another member works".to_owned(),
    };
    format!(
        "xdp {mode} ({now}), dropped: reflected {reflected}, duplicate {other_copy}, flooded {flooded}; not dropped while \
         captured, promiscuous or used by other devices {passed}"
    )
}

/// `inet ADDRESS netmask HEX [broadcast ADDRESS]`, or `inet6 ADDRESS/PREFIX`.
fn address(report: &AddressReport) -> String {
    let AddressReport { address, prefix, .. } = *report;
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::from(netmask(prefix));
            let mut line = format!("inet {v4} netmask {mask:08x}");
            if prefix < 31 {
                let broadcast = std::net::Ipv4Addr::from(u32::from(v4) | !mask);
                write!(line, " broadcast {broadcast}").expect("writing to a string cannot fail");
            }
            line
        }
        IpAddr::V6(v6) => format!("inet6 {v6}/{prefix}"),
    }
}

/// The group's state, and each member that does not transmit with the reason.
fn group_state(group: &GroupReport) -> String {
    let state = group.state;
    let all = group.members.len();
    if all == 0 {
        return format!("state {state}: no members");
    }
    let active = group.members.iter().filter(|member| transmits(member)).count();
    let mut line = match active {
        1 => format!("state {state}: 1 of {all} members transmits"),
        _ => format!("state {state}: {active} of {all} members transmit"),
    };
    for member in group.members.iter().filter(|member| !transmits(member)) {
        write!(line, "; {}: {}", member.name, why(member)).expect("writing to a string cannot fail");
    }
    line
}

fn transmits(member: &MemberReport) -> bool {
    member.usable && member.live
}

/// Why a member does not transmit.
fn why(member: &MemberReport) -> &'static str {
    let probes_failed = member.live && member.probing.iter().any(|probing| probing.failed);
    match (member.state, member.link) {
        (MemberState::Absent, _) => "absent",
        (MemberState::Offline, _) => "offline",
        (MemberState::Failed, LinkState::Down) => "failed, link down",
        (MemberState::Failed, _) if probes_failed => "failed, no replies to probes",
        (MemberState::Failed, _) => "failed",
        (_, LinkState::Down) => "link down",
        _ if member.unreached_router.is_some() && !member.usable && !member.inactive => {
            "the default router is not reached"
        }
        _ if member.mtu_hole.is_some() && !member.usable && !member.inactive => "large packets are lost",
        _ if member.degraded.is_some_and(|degraded| degraded.avoided)
            && !member.usable
            && !member.inactive =>
        {
            "packets are lost"
        }
        _ if member.inactive && member.standby => "inactive (standby)",
        _ if member.inactive => "inactive",
        _ if member.usable => "link not trusted yet",
        _ => "not in use yet",
    }
}

fn member_state(group: &GroupReport, member: &MemberReport) -> String {
    let mut line = format!("state {}, link {}, ", member.state, member.link);
    if transmits(member) {
        line.push_str("transmits");
        if member.state == MemberState::Failed {
            line.push_str(" (no other member is usable)");
        }
    } else {
        line.push_str("does not transmit");
        let why = why(member);
        // State and link are in this line already.
        if !["absent", "failed", "failed, link down", "link down", "offline"].contains(&why) {
            write!(line, ": {why}").expect("writing to a string cannot fail");
        }
    }
    if member.cast {
        line.push_str(", multicast and broadcast");
    }
    let inbound: Vec<String> = group
        .addresses
        .iter()
        .filter(|data| data.inbound.as_ref() == Some(&member.name))
        .map(|data| data.address.to_string())
        .collect();
    if !inbound.is_empty() {
        write!(line, ", inbound {}", inbound.join(" ")).expect("writing to a string cannot fail");
    }
    line
}

/// How failures are detected, with the settings as `ipmpctl set` accepts them.
fn detection(group: &GroupReport) -> String {
    let Detection {
        configured_ms,
        interval_us,
        raised,
        failback_policy: failback,
        failback_limit_ms,
        fail_open,
        confirm,
        evidence,
        probe,
        split_policy,
        loss_warn_percent,
        loss_fail_percent,
        targets,
        ..
    } = &group.detection;
    let yes = |yes: &bool| if *yes { "yes" } else { "no" };
    let share = |share: &Option<f64>| share.map_or("off".to_owned(), |share| format!("{share}%"));
    let mut line = match group.fdt_ms {
        None => "failure detection by link state".to_owned(),
        Some(now) => format!(
            "failure detection by link state and probes, {}, a probe every {}",
            short(Duration::from_millis(now)),
            short(Duration::from_micros(*interval_us))
        ),
    };
    if let Some(raised) = raised {
        write!(
            line,
            ", raised from {} by {}: up to {} on {}",
            short(Duration::from_millis(*configured_ms)),
            raised.target,
            short(Duration::from_micros(raised.took_us)),
            raised.member
        )
        .expect("writing to a string cannot fail");
    }
    let limit = match failback {
        Failback::Idle => format!(" failback-limit={}s", failback_limit_ms / 1000),
        Failback::Yes | Failback::No => String::new(),
    };
    write!(
        line,
        "; failback={failback}{} fail-open={} confirm={confirm} evidence={} probe={probe} split={split_policy} loss-warn={} loss-fail={}",
        limit,
        yes(fail_open),
        if *evidence { "on" } else { "off" },
        share(loss_warn_percent),
        share(loss_fail_percent)
    )
    .expect("writing to a string cannot fail");
    if !targets.is_empty() {
        let targets: Vec<String> = targets.iter().map(IpAddr::to_string).collect();
        write!(line, " targets={}", targets.join(",")).expect("writing to a string cannot fail");
    }
    line
}

/// The families in which no target replies to any member.
fn unreachable_targets(detection: &Detection) -> Option<String> {
    let families: Vec<String> = detection.unreachable_families.iter().map(ToString::to_string).collect();
    (!families.is_empty()).then(|| {
        format!("no target replies on any member ({}): link state alone decides", families.join(" "))
    })
}

/// A member's probes in one family: method, result and targets.
fn probing(probing: &Probing) -> String {
    let family = probing.family;
    let address = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let method = match (probing.method, probing.obstacle) {
        (Some(ProbeMethod::Echo), _) => format!("by ICMP echo from {}", address(probing.test_address)),
        (Some(ProbeMethod::Arp), _) => "by ARP".into(),
        (Some(ProbeMethod::Nd), _) => "by neighbour solicitations".into(),
        (None, Some(ProbeObstacle::NotUnique)) => {
            return format!(
                "not probed ({family}): test address {} is not unique in the group",
                address(probing.test_address)
            );
        }
        (None, _) => return format!("not probed ({family}): waiting for its test address"),
    };
    let result = match (probing.failed, probing.losses) {
        (true, _) => format!("failed, {} of {REPAIRS} replies in a row", probing.replies.min(REPAIRS)),
        (false, 0) => "ok".into(),
        (false, losses) => format!("ok, {losses} lost in a row"),
    };
    let mode = probing.mode;
    let in_use = probing.targets.iter().filter(|target| target.excluded.is_none());
    let in_use: Vec<String> = in_use.map(|target| target.address.to_string()).collect();
    if in_use.is_empty() {
        return format!("probed ({family}) {method}: no target found ({mode})");
    }
    let excluded = match probing.targets.len() - in_use.len() {
        0 => String::new(),
        count => format!(", {count} excluded"),
    };
    let passed = probing.passed.map_or(String::new(), |Passed { bytes, ago_ms, .. }| {
        format!("; {bytes} bytes passed both ways {} ago", short(Duration::from_millis(ago_ms)))
    });
    format!("probed ({family}) {method}: {result}, targets {} ({mode}){excluded}{passed}", in_use.join(" "))
}

fn drops(drops: Drops) -> String {
    let Drops { no_member, foreign_source, truncated, reflected, other_copy } = drops;
    format!(
        "dropped: no usable member {no_member}, foreign source MAC {foreign_source}, truncated {truncated}; suppressed: \
         reflected {reflected}, duplicate {other_copy}"
    )
}

/// Whether captures on the group interface show outbound packets.
fn capture(capture: &Capture) -> String {
    let Capture { mode, active, copies } = capture;
    let now = if *active { "active" } else { "inactive" };
    format!("capture {mode} ({now}), {copies} outbound packets copied")
}

#[cfg(test)]
mod tests;
