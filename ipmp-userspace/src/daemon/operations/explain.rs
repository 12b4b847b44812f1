//! `ipmpctl explain`: why a member is in its state.
//!
//! The summary gives the state, the reason and what to do. The reasons follow: whether it is active, its link, its probes and
//! those of other members, and settings.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{
    refusals::not_a_member,
    show::{self, probing::milliseconds},
};
use crate::{
    control::{
        duration::short,
        explanation::{Explanation, Recent, Timer, due},
        report::probing::Passed,
        request::Refused,
    },
    core::{
        Group, Time,
        member::{Condition, FullFrame, Hole, Loss, Member, Transition},
        probe::{
            FAILURES, ProbeSource, REPAIRS, SETTLE, TestAddress,
            direction::Finding,
            fdt,
            history::{LENGTH, Probe, ProbeProgress},
            prober::Prober,
            targets::{ASIDE, TargetUse},
        },
    },
    daemon::{clock::now, manager::Manager},
    types::{Direction, FailedDirection, Family, LinkState, OfflineCause, TargetMode},
};

/// Explains the state of a member.
pub async fn explain(manager: &Manager, member: &str) -> Result<Explanation, Refused> {
    let group = manager.group_of(member).ok_or_else(|| not_a_member(member))?;
    let reports = show::groups(manager, Some(group.name())).await?;
    let mut members = reports.into_iter().flat_map(|group| group.members);
    let (Some(report), Some(known)) =
        (members.find(|known| known.name == member), group.core.member_named(member))
    else {
        return Err(not_a_member(member));
    };
    let number = known.number();
    let (up_since, updelay) = (group.up_since(number), group.updelay_of(number));
    let view = View { group: &group.core, member: known, up_since, updelay, now: now() };
    Ok(Explanation {
        group: group.name().to_owned(),
        member: report,
        summary: view.summary(),
        reasons: [
            manager.sentinel_check.message().into_iter().collect(),
            group.hooks.messages(Some(known.number())),
            group.sysctls.messages(group.name(), Some(member)),
            group.test_addresses.conflicts(known.number(), member),
            view.reasons(),
        ]
        .concat(),
        recent: view.recent(),
        timers: view.timers(),
        events: manager.event_log.history(group.name(), member),
    })
}

/// A member and its group.
struct View<'a> {
    group: &'a Group,
    member: &'a Member,
    /// Since when its link is up in the datapath.
    up_since: Option<Time>,
    /// How long it must be up before the member is used.
    updelay: Duration,
    now: Time,
}

impl View<'_> {
    /// Its state, the reason and what to do, in one sentence.
    fn summary(&self) -> String {
        let (name, member) = (self.member.name(), self.member);
        if member.absent() {
            return format!(
                "{name} is absent: its device was deleted or moved to another network namespace; it rejoins when the device \
                 returns, and `ipmpctl detach {name}` removes it from {}",
                self.group.name()
            );
        }
        match member.offline() {
            Some(OfflineCause::Operator) => {
                return format!("{name} is offline by the operator; `ipmpctl online {name}` ends that");
            }
            Some(OfflineCause::DuplicateMac) => {
                return format!(
                    "{name} is offline: {} has the same hardware address; change one of them, and {name} returns to \
                     service",
                    self.twin().unwrap_or("another member")
                );
            }
            None => {}
        }
        match member.condition() {
            Condition::New => format!("{name} has just joined: its link is not trusted yet"),
            Condition::Down if member.link() == LinkState::Down => {
                format!(
                    "{name} has failed: its link is down; check the cable, the switch port and whether the \
                     interface is up"
                )
            }
            Condition::Down => format!("{name} has failed: the datapath has detected loss of carrier"),
            Condition::Returning => {
                format!("{name} has failed, and its link is up again: it is used after the updelay")
            }
            Condition::Held => format!(
                "{name} is in hold-down: its link was flapping; `ipmpctl offline {name}` and `ipmpctl online \
                 {name}` end that"
            ),
            Condition::Ok if !member.receives() => format!(
                "{name} has failed: its ingress program is missing, so that the group receives nothing through it"
            ),
            Condition::Ok if member.probes_failed() => {
                let anyway =
                    if member.active() { "; it is still active, since no other member works" } else { "" };
                let path = self.direction().map(|path| format!("; {path}")).unwrap_or_default();
                format!("{name} has failed: its link is up, and its probes {}{path}{anyway}", self.lacking())
            }
            Condition::Ok if let Some(router) = member.unreached_router() => format!(
                "{name} works and does not reach the default router {router}, which other members reach; check the links between \
                 the switches"
            ),
            Condition::Ok if let Some(hole) = member.hole() => format!(
                "{name} works for small packets only: those larger than {} bytes are lost; check the MTU of the switch ports \
                 behind it",
                hole.passes
            ),
            Condition::Ok if let Some(loss) = member.loss() => format!(
                "{name} works and is degraded: it loses {} of its packets; check its cable, transceivers and switch port",
                loss.lost
            ),
            Condition::Ok if member.inactive() => {
                format!("{name} works and is inactive: {}", self.why_inactive())
            }
            Condition::Ok => format!("{name} works: its link is up, {}", self.evidence()),
        }
    }

    /// In which direction its path has failed, and what to check.
    fn direction(&self) -> Option<&'static str> {
        let mut failed = self.probers().filter(|(_, prober)| prober.failed());
        if failed.any(|(_, prober)| prober.history().answers() > 0) {
            return None;
        }
        Some(match self.group.failed_direction(self.member.number())?.direction {
            FailedDirection::Receive => "it does not receive; check the transmitter of its switch port",
            FailedDirection::Transmit => "it does not transmit; check the receiver of its switch port",
            FailedDirection::Both => "it neither receives nor transmits; check its cable and its switch port",
            FailedDirection::Beyond => {
                "it reaches other members; check the path from its switch to the targets"
            }
            FailedDirection::Unknown => return None,
        })
    }

    /// What frames between it and another member have shown.
    fn frames(&self) -> Option<String> {
        let Finding { direction, peer, at } = self.group.failed_direction(self.member.number())?;
        let peer = self.group.member(peer)?.name();
        let discarded = match self.group.unexpected_test_frames() {
            0 => String::new(),
            count => format!(" In {}, {count} unexpected frames were discarded.", self.group.name()),
        };
        Some(format!("It {}; found {} ago.{discarded}", direction.describe(peer), short(self.now - at)))
    }

    /// What is missing for a repair.
    fn lacking(&self) -> String {
        let of = |(family, prober): (Family, &Prober)| {
            let answers = prober.history().answers().min(REPAIRS);
            match (prober.capable(), answers) {
                (false, _) => format!("have no target ({family})"),
                (true, 0) => format!("are not answered ({family})"),
                (true, _) => format!("have {answers} of {REPAIRS} answers in a row ({family})"),
            }
        };
        let failed = self.probers().filter(|(_, prober)| prober.failed());
        let missing: Vec<String> = failed.map(of).collect();
        if missing.is_empty() { "have failed".into() } else { missing.join(", and ") }
    }

    /// The evidence that it works.
    fn evidence(&self) -> String {
        let enabled: Vec<(Family, &Prober)> = self.probers().filter(|(_, prober)| prober.enabled()).collect();
        if enabled.is_empty() {
            return "and it is not probed".into();
        }
        if enabled.iter().all(|(_, prober)| !prober.capable()) {
            return "and it has no probe target".into();
        }
        let losing = |prober: &Prober| prober.history().losses() > 0;
        if enabled.iter().any(|(family, prober)| losing(prober) && self.group.targets_unreachable(*family)) {
            return "and only that counts: no target replies on any member".into();
        }
        if let Some((_, prober)) = enabled.iter().find(|(_, prober)| losing(prober)) {
            return format!("and its last {} lost", probes(prober.history().losses()));
        }
        if enabled.iter().any(|(_, prober)| prober.history().answered()) {
            "and its probes are answered".into()
        } else {
            "and its first probe is pending".into()
        }
    }

    fn why_inactive(&self) -> String {
        let group = self.group.name();
        if self.member.standby() {
            format!("it is a standby, and the other members of {group} are active")
        } else {
            format!(
                "it was repaired while others were active, and {group} has failback=no; `ipmpctl set {group} \
                 failback=yes` activates it"
            )
        }
    }

    /// The reasons, the most important first.
    fn reasons(&self) -> Vec<String> {
        let mut reasons = vec![self.role(), self.link()];
        reasons.extend(self.frames());
        reasons.extend(self.member.hole().map(|Hole { target, passes, elsewhere }| {
            format!(
                "Packets larger than {passes} bytes to {target} are lost; on another member {elsewhere} bytes pass to it and \
                 back."
            )
        }));
        reasons.extend(self.member.loss().map(|Loss { of, window, lost, others, .. }| {
            format!(
                "Of its {} in {} min {lost} are lost, on other members {others}.",
                of.plural(),
                window.as_secs() / 60
            )
        }));
        reasons.extend(self.group.exchanged(self.member).map(|FullFrame { bytes, at }| {
            let ago = short(self.now - at);
            format!("Frames with {bytes} bytes pass to other members and back, last proven {ago} ago.")
        }));
        if self.probers().next().is_none() {
            reasons.push(self.not_probed());
        }
        for (family, prober) in self.probers() {
            reasons.push(self.how(family, prober));
            if prober.capable() {
                reasons.push(self.verdict(family, prober));
                reasons.push(self.comparison(family));
                reasons.extend(self.passed(family, prober));
            }
        }
        reasons.extend(self.raised());
        for family in Family::ALL {
            let split = self.group.split(self.now, family);
            reasons.extend(split.iter().map(|target| format!("{family}: the network is split: {target}.")));
        }
        for (target, found) in self.group.unreliable_targets(self.now) {
            reasons.push(format!(
                "Target {target} is unreliable: it answered by {}, and not each echo request, {} ago; such losses do not count.",
                if target.is_ipv4() { "ARP" } else { "Neighbour Discovery" },
                short(self.now - found)
            ));
        }
        reasons
    }

    /// Whether it is active, and why not.
    fn role(&self) -> String {
        let member = self.member;
        let standby = if member.standby() { " It is a standby." } else { "" };
        let cast = if self.group.cast() == Some(member.number()) {
            ", and transmits multicast and broadcast"
        } else {
            ""
        };
        if member.active() && member.live() {
            return format!("It is active{cast}.{standby}{}", self.moving());
        }
        let why = if member.absent() {
            "it is absent"
        } else if member.offline().is_some() {
            "it is offline"
        } else if member.held_until().is_some() {
            "it is in hold-down after flapping"
        } else if member.inactive() {
            "it is inactive, and used only if no other member can transmit"
        } else if member.unreached_router().is_some() && member.functions() {
            "it does not reach the default router, which another member reaches, and the group has split=prefer-router"
        } else if member.hole().is_some() && member.functions() {
            "large packets are lost on it, and pass on another member"
        } else if member.loss().is_some_and(|loss| loss.is_avoided) && member.functions() {
            "it loses more packets than loss-fail permits, and another member loses less"
        } else if !member.receives() {
            "its ingress program is missing"
        } else if member.probes_failed() && self.group.active().is_empty() {
            "its probes have failed, and the group has fail-open=no"
        } else if member.probes_failed() && member.condition() == Condition::Ok {
            "its probes have failed, and others work"
        } else {
            "the datapath reports its link down"
        };
        format!("It is not active: {why}.{standby}")
    }

    /// Where its flows move, while they do.
    fn moving(&self) -> String {
        let Some(Transition { direction, limit, .. }) = self.member.transition() else {
            return String::new();
        };
        let what = match direction {
            Direction::Returning => {
                "It was repaired, and the group has failback=idle: flows return to it when they are idle"
            }
            Direction::Leaving => {
                "The member that it replaced was repaired: flows leave it when they are idle"
            }
            Direction::Draining => "It is drained: it is set offline when no flow is active on it",
        };
        format!(" {what}, after {} at the latest.", short(limit - self.now))
    }

    fn link(&self) -> String {
        let kernel = match self.member.link() {
            LinkState::Up => "up",
            LinkState::Down => "down",
            LinkState::Unknown => "unknown to its driver, and taken as up",
        };
        let datapath = match (self.member.live(), self.up_since) {
            (true, _) => "up in the datapath".to_owned(),
            (false, Some(since)) => {
                let remaining = (since + self.updelay) - self.now;
                format!(
                    "up in the datapath for {}, used in {} (updelay {})",
                    short(self.now - since),
                    short(remaining),
                    short(self.updelay)
                )
            }
            (false, None) => "down in the datapath".to_owned(),
        };
        let held = self
            .member
            .held_until()
            .map(|until| format!("; hold-down after flapping for another {}", short(until - self.now)));
        format!("Link: {kernel}; {datapath}{}.", held.unwrap_or_default())
    }

    fn not_probed(&self) -> String {
        let policy = self.group.settings().probe;
        format!(
            "It is not probed: it has no test address, and {} has probe={policy}; path failures while the link is \
             up are not detected.",
            self.group.name()
        )
    }

    /// How it is probed in a family, and its targets.
    fn how(&self, family: Family, prober: &Prober) -> String {
        let every = short(self.interval());
        let how = match (prober.means(), self.member.test_address(family)) {
            (Some(ProbeSource::Echo { source, prefix }), _) => {
                format!("probed every {every} by ICMP echo from {source}/{prefix}")
            }
            (Some(ProbeSource::Arp), _) => format!("probed every {every} by ARP without a sender address"),
            (Some(ProbeSource::Nd), _) => format!("probed every {every} by neighbour solicitations"),
            (None, TestAddress::Is { address, .. }) => {
                return format!(
                    "{family}: not probed: its test address {address} is not unique in the group."
                );
            }
            (None, _) => {
                return format!("{family}: not probed until a DHCP client adds its test address.");
            }
        };
        // A member out of service is not probed.
        let how = if prober.next().is_some() { how } else { format!("not probed now, else {how}") };
        let source = match prober.targets().mode() {
            TargetMode::Explicit => "named by the operator",
            TargetMode::Routes => "from the routing table",
            TargetMode::Multicast => "found by multicast",
            TargetMode::Disabled => "not used",
        };
        let active: Vec<String> =
            prober.targets().active().map(|target| target.address.to_string()).collect();
        if active.is_empty() {
            return format!("{family}: {how}; no target is known; multicast probes search for one.");
        }
        let aside =
            prober.targets().all().iter().filter(|t| matches!(t.status, TargetUse::Excluded(..))).count();
        let aside = if aside == 0 { String::new() } else { format!(", {aside} more excluded") };
        format!("{family}: {how}; targets {source}: {}{aside}.", active.join(" "))
    }

    /// The result of its probes.
    fn verdict(&self, family: Family, prober: &Prober) -> String {
        let history = prober.history();
        let (losses, answers) = (history.losses(), history.answers());
        if prober.failed() {
            let best = prober.targets().active().map(|target| history.answers_of(target.address)).max();
            let best = best.unwrap_or_default().max(answers).min(REPAIRS);
            return format!(
                "{family} has failed: {best} of {REPAIRS} answers in a row, over all targets or from one."
            );
        }
        if losses >= FAILURES && !prober.settled(self.now) {
            let joined = short(self.settles(prober) - self.now);
            return format!(
                "{family}: {losses} losses in a row do not count yet: it has just joined and received no reply; \
                 they count in {joined}."
            );
        }
        if losses >= FAILURES {
            return format!(
                "{family}: {losses} losses in a row do not count: no other member receives replies either."
            );
        }
        if losses > 0 {
            return format!("{family}: {losses} of {FAILURES} losses in a row until a failure.");
        }
        match answers {
            0 => format!("{family}: no probe has a result yet."),
            answers if answers as usize == LENGTH => {
                format!("{family}: the last {LENGTH} probes were answered.")
            }
            answers => format!("{family}: the last {} answered.", probes(answers)),
        }
    }

    /// The largest packet that passed both ways.
    fn passed(&self, family: Family, prober: &Prober) -> Option<String> {
        let Passed { bytes, target, ago_ms } = show::probing::passed(prober, self.now)?;
        let ago = short(Duration::from_millis(ago_ms));
        Some(format!("{family}: packets of {bytes} bytes pass to {target} and back, last proven {ago} ago."))
    }

    /// Which other members receive replies: losses count only if one does.
    fn comparison(&self, family: Family) -> String {
        let others = self.group.members().iter().filter(|other| other.number() != self.member.number());
        let (mut answered, mut silent) = (Vec::new(), Vec::new());
        for other in others {
            let Some(prober) = other.prober(family).filter(|prober| prober.capable()) else { continue };
            let history = prober.history();
            let is_answered = history.losses() == 0 && history.answered();
            if is_answered { answered.push(other.name()) } else { silent.push(other.name()) }
        }
        let unreachable =
            if self.group.targets_unreachable(family) { " No target replies on any member." } else { "" };
        match (answered.is_empty(), silent.is_empty()) {
            (true, true) => format!("{family}: no other member is probed to compare with.{unreachable}"),
            (true, false) => {
                format!("{family}: no other member receives replies: {}.{unreachable}", silent.join(" "))
            }
            (false, true) => format!("{family}: other members with replies: {}.", answered.join(" ")),
            (false, false) => {
                format!(
                    "{family}: other members with replies: {}; without: {}.",
                    answered.join(" "),
                    silent.join(" ")
                )
            }
        }
    }

    fn raised(&self) -> Option<String> {
        let (slow, fdt) = (self.group.slowest()?, self.group.fdt()?);
        Some(format!(
            "The failure detection time of {} is {} instead of {}: {} took up to {} on {} {} ago.",
            self.group.name(),
            short(fdt.current()),
            short(fdt.configured()),
            slow.target,
            short(slow.took),
            slow.member,
            short(self.now - slow.at)
        ))
    }

    /// Its last probes, target by target.
    fn recent(&self) -> Vec<Recent> {
        let mut recent = Vec::new();
        for (family, prober) in self.probers() {
            let mut outcomes: BTreeMap<IpAddr, String> = BTreeMap::new();
            for probe in prober.history().probes().filter(|probe| !probe.is_of_search()) {
                outcomes.entry(probe.target).or_default().push(letter(probe));
            }
            let of = |(target, outcomes)| Recent { family, target, outcomes };
            recent.extend(outcomes.into_iter().map(of));
        }
        recent
    }

    /// What happens next without any event, the next first.
    fn timers(&self) -> Vec<Timer> {
        let mut timers: Vec<(Time, &str, Option<String>)> = Vec::new();
        timers.extend(self.member.held_until().map(|until| (until, due::HOLD_DOWN, None)));
        let trusted = self.up_since.filter(|_| !self.member.live()).map(|since| since + self.updelay);
        timers.extend(trusted.map(|at| (at, due::LINK, None)));
        for (family, prober) in self.probers() {
            let of = || Some(family.to_string());
            timers.extend(prober.next().map(|next| (next, due::PROBE, of())));
            if prober.capable() && !prober.settled(self.now) {
                timers.push((self.settles(prober), due::SETTLED, of()));
            }
            for target in prober.targets().all() {
                if let TargetUse::Excluded(_, since) = target.status {
                    timers.push((since + ASIDE, due::TARGET, Some(target.address.to_string())));
                }
            }
        }
        timers.extend(self.group.slowest().map(|slow| (slow.at + fdt::SETTLE, due::FDT, None)));
        timers.sort();
        let timer = |(at, what, of): (Time, &str, _)| Timer {
            what: what.into(),
            of,
            in_ms: milliseconds(at - self.now),
        };
        timers.into_iter().map(timer).collect()
    }

    /// When its losses count even if it has received no reply.
    fn settles(&self, prober: &Prober) -> Time {
        prober.joined() + SETTLE
    }

    fn probers(&self) -> impl Iterator<Item = (Family, &Prober)> {
        Family::ALL.into_iter().filter_map(|family| Some((family, self.member.prober(family)?)))
    }

    fn interval(&self) -> Duration {
        self.group.fdt().map_or(fdt::DEFAULT / FAILURES, |fdt| fdt.interval())
    }

    fn twin(&self) -> Option<&str> {
        let mut others = self.group.members().iter().filter(|other| other.number() != self.member.number());
        others.find(|other| other.mac() == self.member.mac()).map(Member::name)
    }
}

/// The letter for the outcome of a probe.
fn letter(probe: &Probe) -> char {
    match probe.fate {
        ProbeProgress::Answered(_) => '!',
        ProbeProgress::Lost => '.',
        ProbeProgress::Discarded | ProbeProgress::Doubtful => '?',
        ProbeProgress::Unsent => '-',
        ProbeProgress::Wanted | ProbeProgress::Pending => '~',
    }
}

fn probes(count: u32) -> String {
    if count == 1 { "probe was".into() } else { format!("{count} probes were") }
}

#[cfg(test)]
mod tests;
