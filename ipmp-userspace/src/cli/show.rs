//! `ipmpctl show`: a block per interface, as `ifconfig -a` of the reference prints them (reference.md 7.2), with who
//! carries what, how much, and why not.

use std::{fmt::Write, net::IpAddr, time::Duration};

use ipmp_common::steer::SLOTS;

use super::Error;
use crate::control::{
    Request,
    duration::short,
    name,
    report::{
        AddressReport, Capture, Drops, GroupReport, Link, MemberReport, MemberState, Traffic,
        probing::{Detection, Means, Obstacle, Policy, Probing},
    },
};
use crate::core::probe::REPAIRS;

/// Show groups: their addresses, their members, who carries what, and which checks are in force
#[derive(Debug, clap::Args)]
pub struct Show {
    /// Name or group name of a group, or name of a member; every group without it
    name: Option<String>,
}

impl Show {
    pub(super) fn request(&self) -> Result<Request, Error> {
        if let Some(name) = &self.name {
            name::check_groupname(name)?;
        }
        Ok(Request::Show { name: self.name.clone() })
    }
}

/// Groups as text, with a blank line between them.
pub fn text(groups: &[GroupReport]) -> String {
    if groups.is_empty() {
        return "no IPMP groups\n".into();
    }
    groups.iter().map(group).collect::<Vec<_>>().join("\n")
}

/// Collects the lines of a block, indented as the reference does.
#[derive(Default)]
struct Blocks(String);

impl Blocks {
    fn head(&mut self, name: &str, flags: &[String], mtu: u32, index: u32) {
        let flags = flags.join(",");
        writeln!(self.0, "{name}: flags=<{flags}> mtu {mtu} index {index}").expect("a string grows");
    }

    fn line(&mut self, line: &str) {
        writeln!(self.0, "        {line}").expect("a string grows");
    }
}

fn group(group: &GroupReport) -> String {
    let mut blocks = Blocks::default();
    blocks.head(&group.name, &group.flags, group.mtu, group.ifindex);
    for data in &group.addresses {
        let inbound = data.inbound.as_deref().unwrap_or("nobody");
        blocks.line(&format!("{} inbound {inbound}", address(data)));
    }
    blocks.line(&format!("groupname {}", group.groupname));
    blocks.line(&verdict(group));
    let cast: Vec<_> = group.members.iter().filter(|member| member.cast).map(|m| m.name.as_str()).collect();
    let cast = if cast.is_empty() { "nobody".into() } else { cast.join(" ") };
    blocks.line(&detection(group));
    if let Some(dark) = dark(&group.detection) {
        blocks.line(&dark);
    }
    blocks.line(&format!("spread by {}, multicast and broadcast by {cast}", group.hash));
    blocks.line(&drops(group.drops));
    blocks.line(&capture(&group.capture));
    for each in &group.members {
        member(&mut blocks, group, each);
    }
    if !group.checks.is_empty() {
        writeln!(blocks.0, "{}: checks in force", group.name).expect("a string grows");
        group.checks.iter().for_each(|check| blocks.line(check));
    }
    blocks.0
}

fn member(blocks: &mut Blocks, group: &GroupReport, member: &MemberReport) {
    blocks.head(&member.name, &member.flags, member.mtu, member.ifindex);
    for own in &member.addresses {
        blocks.line(&address(own));
    }
    blocks.line(&format!("ether {}", member.mac));
    blocks.line(&format!("groupname {}", group.groupname));
    blocks.line(&duty(group, member));
    member.probing.iter().for_each(|one| blocks.line(&probing(one)));
    let share = f64::from(member.slots) * 100.0 / SLOTS as f64;
    blocks.line(&format!(
        "member {}, attached by {}, weight {}, first choice of {} of {SLOTS} slots ({share:.1}%)",
        member.number, member.attach, member.weight, member.slots
    ));
    let Traffic { out_packets, out_bytes, in_packets, in_bytes, failed_over_packets } = member.traffic;
    blocks.line(&format!(
        "out {out_packets} packets {out_bytes} bytes, in {in_packets} packets {in_bytes} bytes, stepped in for \
         {failed_over_packets} packets"
    ));
}

/// `inet ADDRESS netmask HEX [broadcast ADDRESS]`, or `inet6 ADDRESS/PREFIX`.
fn address(report: &AddressReport) -> String {
    let AddressReport { address, prefix, .. } = *report;
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let mut line = format!("inet {v4} netmask {mask:08x}");
            if prefix < 31 {
                let broadcast = std::net::Ipv4Addr::from(u32::from(v4) | !mask);
                write!(line, " broadcast {broadcast}").expect("a string grows");
            }
            line
        }
        IpAddr::V6(v6) => format!("inet6 {v6}/{prefix}"),
    }
}

/// The line that whoever was woken up reads first: how it stands, and because of whom.
fn verdict(group: &GroupReport) -> String {
    let state = group.state;
    let all = group.members.len();
    if all == 0 {
        return format!("state {state}: it has no members");
    }
    let carrying = group.members.iter().filter(|member| carries(member)).count();
    let mut line = match carrying {
        0 => format!("state {state}: none of its {all} members carries traffic"),
        1 => format!("state {state}: 1 of {all} members carries traffic"),
        _ => format!("state {state}: {carrying} of {all} members carry traffic"),
    };
    let idle: Vec<String> = group
        .members
        .iter()
        .filter(|member| !carries(member))
        .map(|member| format!("{} {}", member.name, why(member)))
        .collect();
    if !idle.is_empty() {
        write!(line, "; {}", idle.join(", ")).expect("a string grows");
    }
    line
}

fn carries(member: &MemberReport) -> bool {
    member.usable && member.live
}

/// Why a member carries nothing.
fn why(member: &MemberReport) -> &'static str {
    let probes_failed = member.live && member.probing.iter().any(|probing| probing.failed);
    match (member.state, member.link) {
        (MemberState::Offline, _) => "is offline",
        (MemberState::Failed, Link::Down) => "failed, no link",
        (MemberState::Failed, _) if probes_failed => "failed, its probes are not answered",
        (MemberState::Failed, _) => "failed",
        (_, Link::Down) => "has no link",
        _ if member.inactive && member.standby => "is inactive, a standby",
        _ if member.inactive => "is inactive",
        _ if member.usable => "has a link that is not trusted yet",
        _ => "is not used yet",
    }
}

fn duty(group: &GroupReport, member: &MemberReport) -> String {
    let mut line = format!("state {}, link {}, ", member.state, member.link);
    if carries(member) {
        line.push_str("carries traffic");
        if member.state == MemberState::Failed {
            line.push_str(", since no other member works");
        }
    } else {
        write!(line, "carries nothing: it {}", why(member)).expect("a string grows");
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
        write!(line, ", inbound {}", inbound.join(" ")).expect("a string grows");
    }
    line
}

/// How failures are detected, in the words of `ipmpctl set`.
fn detection(group: &GroupReport) -> String {
    let Detection { configured_ms, interval_us, raised, failback, fail_open, probe, targets, .. } =
        &group.detection;
    let yes = |yes: &bool| if *yes { "yes" } else { "no" };
    let probe = match probe {
        Policy::Off => "off",
        Policy::Auto => "auto",
        Policy::Arp => "arp",
        Policy::Nd => "nd",
    };
    let mut line = match group.fdt_ms {
        None => "detection by links alone".to_owned(),
        Some(now) => {
            let every = short(Duration::from_micros(*interval_us));
            format!(
                "detection by links and probes within {}, one every {every}",
                short(Duration::from_millis(now))
            )
        }
    };
    if let Some(raised) = raised {
        write!(
            line,
            ", instead of {}, since {} took up to {} on {}",
            short(Duration::from_millis(*configured_ms)),
            raised.target,
            short(Duration::from_micros(raised.took_us)),
            raised.member
        )
        .expect("a string grows");
    }
    write!(line, "; failback={} fail-open={} probe={probe}", yes(failback), yes(fail_open))
        .expect("a string grows");
    if !targets.is_empty() {
        let targets: Vec<String> = targets.iter().map(IpAddr::to_string).collect();
        write!(line, " targets={}", targets.join(",")).expect("a string grows");
    }
    line
}

/// Whom nobody can be blamed for.
fn dark(detection: &Detection) -> Option<String> {
    let dark: Vec<String> = detection.dark.iter().map(ToString::to_string).collect();
    (!dark.is_empty()).then(|| {
        format!("no target answers on any member ({}): members are judged by their links", dark.join(" "))
    })
}

/// Where a member's probes go in a family, and what comes of them.
fn probing(probing: &Probing) -> String {
    let family = probing.family;
    let address = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let means = match (probing.means, probing.obstacle) {
        (Some(Means::Echo), _) => format!("by echo from {}", address(probing.test_address)),
        (Some(Means::Arp), _) => "by ARP".into(),
        (Some(Means::Nd), _) => "by neighbour solicitations".into(),
        (None, Some(Obstacle::NotUnique)) => {
            return format!(
                "not probed ({family}): its test address {} is not unique in the group",
                address(probing.test_address)
            );
        }
        (None, _) => return format!("not probed ({family}): its test address is awaited"),
    };
    let verdict = match (probing.failed, probing.losses) {
        (true, _) => format!("failed, {} of {REPAIRS} answers in a row", probing.answers.min(REPAIRS)),
        (false, 0) => "ok".into(),
        (false, losses) => format!("ok, {losses} lost in a row"),
    };
    let mode = probing.mode;
    let in_use = probing.targets.iter().filter(|target| target.aside.is_none());
    let in_use: Vec<String> = in_use.map(|target| target.address.to_string()).collect();
    if in_use.is_empty() {
        return format!("probed ({family}) {means}: no target is known ({mode})");
    }
    let aside = probing.targets.len() - in_use.len();
    let aside = if aside == 0 { String::new() } else { format!(", {aside} set aside") };
    format!("probed ({family}) {means}: {verdict}, targets {} ({mode}){aside}", in_use.join(" "))
}

fn drops(drops: Drops) -> String {
    let Drops { no_member, foreign_source, truncated, reflected, other_copy } = drops;
    format!(
        "dropped: no member {no_member}, foreign source {foreign_source}, truncated {truncated}; suppressed: reflected \
         {reflected}, other copy {other_copy}"
    )
}

/// Whether a capture on the group interface shows what leaves.
fn capture(capture: &Capture) -> String {
    let Capture { mode, active, copies } = capture;
    let now = if *active { "outbound packets are shown to captures" } else { "no outbound packet is copied" };
    format!("capture {mode}: {now}, {copies} copied so far")
}

#[cfg(test)]
mod tests;
