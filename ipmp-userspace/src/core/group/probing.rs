//! What probes make of the members of a group. [`crate::core::probe`] has the rules; this is where the members meet.
//!
//! A member and its company, another member that functions (reference 2.13, with decisions of ours). What changes is
//! bold: the state that is shown, and the lines that are said.
//!
//! | the member | company | link down | link up | 5 losses | 10 answers | no targets | a target | no test address | a test address | offline | online |
//! |---|---|---|---|---|---|---|---|---|---|---|---|
//! | ok | yes | **failed** DF | – | **failed** F | – | **unknown** | – | – | – | **offline** O | n |
//! | ok | no | **failed** DX | – | K | – | **unknown** | – | – | – | l | n |
//! | no targets | yes | **failed** DF | – | – | – | – | **ok** | **ok** | – | **offline** O | n |
//! | no targets | no | **failed** DX | – | – | – | – | **ok** | **ok** | – | l | n |
//! | failed | yes | D | – | – | **ok** R | – | – | **ok** R | – | **offline** O | n |
//! | failed | no | D | – | – | **ok** RS | – | – | **ok** RS | – | **offline** O | n |
//! | failed, no targets | yes | D | – | – | – | – | – | **ok** R | – | **offline** O | n |
//! | failed, no targets | no | D | – | – | – | – | – | **ok** RS | – | **offline** O | n |
//! | link down | any | – | U | – | – | – | – | – | – | **offline** O | n |
//! | offline | yes | DF | – | – | – | – | – | – | – | a | **ok** I |
//! | offline | no | D | – | – | – | – | – | – | – | a | **ok** IS |
//! | not probed | yes | **failed** DF | – | – | – | – | – | – | – | **offline** O | n |
//! | not probed | no | **failed** DX | – | – | – | – | – | – | – | l | n |
//! | not probed, link down | yes | – | **ok** UR | – | – | – | – | – | – | **offline** O | n |
//! | not probed, link down | no | – | **ok** URS | – | – | – | – | – | – | **offline** O | n |
//!
//! Lines: **D** link down, **U** link up, **F** failure, **R** repair, **X** all unusable, **S** at least one usable,
//! **K** no target answers, **O** offline, **I** online. Refusals: **n** it is not offline, **a** it is offline already,
//! **l** nobody else functions.
//!
//! Where it is not the reference: a member is not blamed for losses while nobody else is answered (5 losses without
//! company; there the reference fails the whole group, as we do with `fail_open` off), offline and online are said, and
//! a test address that a DHCP client has lost repairs nobody.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{Group, Settings, spare::Back};
use crate::core::{
    Action, LogLine, Time, Why,
    member::{Condition, Member},
    probe::{
        DISCOVER, FAILURES, FIND, Family, GRACE, Means, Proof, TestAddress, Via,
        fdt::Fdt,
        history::{Answer, LENGTH},
        outcome::Outcome,
        prober::{Prober, Round},
        targets::{Fault, Known, Mode},
        verdict,
    },
};

/// Below this failure detection time the load on the targets is worth a warning.
const MANY: Duration = Duration::from_millis(100);

/// What a group knows that its members' probers share.
#[derive(Clone, Debug)]
pub(super) struct Probes {
    fdt: Fdt,
    known: Known,
    /// Targets of ARP and ND probes that were asked for.
    neighbours: BTreeMap<IpAddr, Neighbour>,
    /// The families in which nobody is answered, and nobody is to blame.
    dark: [bool; 2],
    /// Addresses, targets or members have changed.
    pub(super) stale: bool,
    /// What this event wants sent.
    pub(super) wanted: Vec<Action>,
    /// Who raised the failure detection time last.
    slowest: Option<Slow>,
    /// Somebody wants to know of every probe.
    pub(super) watched: bool,
    /// The probes that are over with this event, while somebody wants to know.
    pub(super) outcomes: Vec<Outcome>,
}

/// Who is slower than the failure detection time that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// On which member.
    pub member: String,
    /// The target.
    pub target: IpAddr,
    /// How long it took then, conservatively.
    pub took: Duration,
    /// When the time was raised for it.
    pub at: Time,
}

/// A target without an answer of its own kind: what ordinary ARP or ND says of it.
#[derive(Clone, Copy, Debug, Default)]
struct Neighbour {
    /// Its MAC, and since when it is known.
    found: Option<([u8; 6], Time)>,
    /// When it was asked for last.
    asked: Option<Time>,
}

impl Probes {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            fdt: Fdt::new(settings.fdt),
            known: Known::default(),
            neighbours: BTreeMap::new(),
            dark: [false; 2],
            stale: false,
            wanted: Vec::new(),
            slowest: None,
            watched: false,
            outcomes: Vec::new(),
        }
    }
}

impl Group {
    /// The failure detection time as it is now, and as it was asked for; `None` while nobody is probed.
    pub fn fdt(&self) -> Option<Fdt> {
        self.members.iter().any(|member| member.probing.enabled()).then_some(self.probes.fdt)
    }

    /// Why the failure detection time is longer than was asked for, while it is.
    pub fn slowest(&self) -> Option<&Slow> {
        let raised = self.probes.fdt.current() > self.probes.fdt.configured();
        self.probes.slowest.as_ref().filter(|_| raised)
    }

    /// Whether no target answers on any member, so that nobody can be blamed.
    pub fn dark(&self, family: Family) -> bool {
        self.probes.dark[family.index()]
    }

    /// What is known of targets.
    pub fn known_targets(&self) -> &Known {
        &self.probes.known
    }

    /// How the operator wants it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn set(&mut self, settings: Settings) {
        let before = std::mem::replace(&mut self.settings, settings);
        if settings.fdt != before.fdt {
            self.probes.fdt.set(settings.fdt);
            self.realign();
        }
        self.probes.stale = true;
        if settings.fdt < MANY && settings.fdt != before.fdt {
            let rounds = Duration::from_secs(1).as_nanos() / self.probes.fdt.interval().as_nanos().max(1);
            let per_second = rounds as u32 * self.members.len().max(1) as u32;
            self.say(|group| LogLine::ManyProbes { group, fdt: settings.fdt, per_second });
        }
        if settings.failback && !before.failback {
            self.release_spares();
        }
        self.reconcile();
    }

    /// The interval is another: all members begin anew, apart from each other.
    fn realign(&mut self) {
        self.members.iter_mut().flat_map(|member| member.probing.all_mut()).for_each(Prober::realign);
    }

    pub(super) fn set_test_address(&mut self, number: u8, family: Family, address: TestAddress) {
        if let Some(member) = self.member_mut(number) {
            member.probing.addresses[family.index()] = address;
            self.probes.stale = true;
        }
    }

    pub(super) fn set_targets(&mut self, targets: Vec<IpAddr>) {
        self.probes.known.explicit = targets;
        self.probes.stale = true;
    }

    pub(super) fn set_routes(&mut self, family: Family, hosts: Vec<IpAddr>, routers: Vec<IpAddr>) {
        for (known, now) in [(&mut self.probes.known.hosts, hosts), (&mut self.probes.known.routers, routers)]
        {
            known.retain(|address| Family::of(*address) != family);
            known.extend(now);
        }
        self.probes.stale = true;
    }

    pub(super) fn host_answered(&mut self, address: IpAddr) {
        let hosts = &mut self.probes.known.answering;
        let of_family = hosts.iter().filter(|host| Family::of(**host) == Family::of(address)).count();
        if !hosts.contains(&address) && of_family < LENGTH {
            hosts.push(address);
            self.probes.stale = true;
        }
    }

    /// Hosts that once answered are looked for anew.
    pub(super) fn forget_hosts(&mut self, families: impl IntoIterator<Item = Family>) {
        for family in families {
            let hosts = &mut self.probes.known.answering;
            let before = hosts.len();
            hosts.retain(|host| Family::of(*host) != family);
            self.probes.stale |= hosts.len() != before;
        }
    }

    pub(super) fn set_neighbour(&mut self, now: Time, address: IpAddr, mac: [u8; 6]) {
        // What nobody asked for is nothing.
        if let Some(neighbour) = self.probes.neighbours.get_mut(&address)
            && neighbour.found.is_none_or(|(known, _)| known != mac)
        {
            neighbour.found = Some((mac, now));
        }
    }

    pub(super) fn sent(&mut self, now: Time, number: u8, family: Family, sequence: u16, cookie: Option<u64>) {
        let interval = self.probes.fdt.interval();
        if let Some(prober) = self.prober_mut(number, family) {
            prober.sent(sequence, cookie, now, interval);
        }
        if cookie.is_none() {
            self.tell_outcome(now, number, family, sequence);
        }
    }

    pub(super) fn answered(&mut self, now: Time, number: u8, target: IpAddr, proof: Proof, at: Time) {
        let family = Family::of(target);
        let mac = self.probes.neighbours.get(&target).and_then(|neighbour| neighbour.found);
        let Some(member) = self.member_mut(number).filter(|member| member.in_service()) else { return };
        let Some(prober) = member.probing.probers[family.index()].as_mut() else { return };
        let fits = match (proof, prober.means) {
            (Proof::Echo { .. }, Some(Means::Echo { .. })) => true,
            (Proof::Mac(proof), Some(Means::Arp | Means::Nd)) => mac.is_some_and(|(mac, _)| mac == proof),
            _ => false,
        };
        if !fits {
            prober.counters.forged += 1;
            return;
        }
        let Answer::Genuine { sequence, rtt, newest } = prober.answer(target, proof, at) else { return };
        if newest {
            self.learn_time(now, number, target, rtt);
        }
        self.tell_outcome(now, number, family, sequence);
    }

    /// A target took this long to answer: whether the interval is right for it.
    fn learn_time(&mut self, now: Time, number: u8, target: IpAddr, rtt: Duration) {
        let (family, interval) = (Family::of(target), self.probes.fdt.interval());
        let Some(member) = self.member_mut(number) else { return };
        let (name, functions) = (member.name().to_owned(), member.functions());
        let Some(prober) = member.probing.probers[family.index()].as_mut() else { return };
        // While it has failed, or the answer is older than any that is remembered, it teaches nothing.
        if !functions || rtt > interval.saturating_mul(LENGTH as u32) {
            return;
        }
        let Some(conservative) = prober.targets.sample(target, rtt, interval) else { return };
        if conservative > interval {
            if prober.targets.is_exceptional(target, interval) {
                prober.targets.set_aside(now, target, Fault::Slow);
                self.say_because(Why::Probes, |_| LogLine::TargetAside { member: name, target, slow: true });
            } else if let Some(fdt) = self.probes.fdt.raise(now, conservative) {
                let configured = self.probes.fdt.configured();
                self.probes.slowest =
                    Some(Slow { member: name.clone(), target, took: conservative, at: now });
                self.realign();
                self.say_because(Why::Probes, |group| LogLine::FdtRaised {
                    member: name,
                    family,
                    group,
                    configured,
                    fdt,
                });
            }
        } else if conservative < interval / 4 {
            let functioning = self.members.iter().filter(|member| member.functions());
            let slowest =
                functioning.flat_map(|member| member.probing.all()).filter_map(|p| p.targets.slowest());
            let slowest = slowest.max().unwrap_or_default();
            if let Some(fdt) = self.probes.fdt.lower(now, slowest) {
                self.realign();
                self.say_because(Why::Probes, |group| LogLine::FdtLowered {
                    member: name,
                    family,
                    group,
                    fdt,
                });
            }
        }
    }

    /// Decides on the probes whose time is over.
    pub(super) fn judge(&mut self, now: Time) {
        let interval = self.probes.fdt.interval();
        let due = self.watched_until(now);
        let mut aside = Vec::new();
        for member in &mut self.members {
            for prober in member.probing.probers.iter_mut().flatten() {
                if prober.judge(now, interval).lost > 0
                    && let Some(target) = prober.set_dead_target_aside(now)
                {
                    aside.push((member.attachment.name.clone(), target));
                }
            }
        }
        for (member, family, sequence) in due {
            self.tell_outcome(now, member, family, sequence);
        }
        for (member, target) in aside {
            self.say_because(Why::Probes, |_| LogLine::TargetAside { member, target, slow: false });
        }
        self.lose_neighbours();
    }

    /// Stops the ARP and ND probes of a target that answers on no member: it may be starting up, and would take them
    /// for somebody with its address (RFC 5227).
    fn lose_neighbours(&mut self) {
        for (&address, neighbour) in &mut self.probes.neighbours {
            let Some((_, since)) = neighbour.found else { continue };
            let probers = self.members.iter().filter(|member| member.in_service());
            let mut probers = probers
                .filter_map(|member| member.probing.probers[Family::of(address).index()].as_ref())
                .filter(|prober| matches!(prober.means, Some(Means::Arp | Means::Nd)))
                .filter(|prober| prober.targets.active().any(|target| target.address == address))
                .peekable();
            let probed = probers.peek().is_some();
            if probed && probers.all(|prober| prober.history.losses_since(address, since) >= FAILURES) {
                neighbour.found = None;
            }
        }
    }

    /// What every event may have changed: who is probed and whom, who rests, and what that makes of the members.
    pub(super) fn attend(&mut self, now: Time) {
        loop {
            if std::mem::take(&mut self.probes.stale) {
                self.revise(now);
            }
            self.wake_and_rest(now);
            self.complain(now);
            self.decide(now);
            if !self.probes.stale {
                break;
            }
        }
    }

    /// Who is probed, how, and whom.
    fn revise(&mut self, now: Time) {
        for at in 0..self.members.len() {
            for family in Family::ALL {
                self.revise_prober(at, family);
            }
        }
        let known = &self.probes.known;
        let tests: Vec<IpAddr> = self.members.iter().flat_map(test_addresses).collect();
        let own: Vec<IpAddr> = self.addresses().map(|(address, _)| address).chain(tests).collect();
        for member in &mut self.members {
            for family in Family::ALL {
                let Some(prober) = member.probing.probers[family.index()].as_mut() else { continue };
                let (mode, targets) = known.choose(|target| {
                    prober.means.is_some_and(|means| means.reaches(family, target)) && !own.contains(&target)
                });
                prober.set_targets(now, mode, &targets);
            }
        }
        let probers = || self.members.iter().flat_map(|member| member.probing.all());
        let used: Vec<IpAddr> =
            probers().flat_map(|prober| prober.targets.all()).map(|target| target.address).collect();
        self.probes.neighbours.retain(|address, _| used.contains(address));

        // A member without a test address is worth a word where others are tested.
        let tested = self
            .members
            .iter()
            .any(|member| member.probing.addresses.iter().any(|address| *address != TestAddress::None));
        let mut now_configured = Vec::new();
        for member in &mut self.members {
            let without = tested && member.offline.is_none() && !member.probing.enabled();
            if !without {
                member.probing.without = None;
                if std::mem::take(&mut member.probing.said_without) && member.probing.enabled() {
                    now_configured.push(member.attachment.name.clone());
                }
            } else if member.probing.without.is_none() {
                member.probing.without = Some(now);
            }
        }
        for member in now_configured {
            self.say(|_| LogLine::TestAddressNow { member });
        }
    }

    fn revise_prober(&mut self, at: usize, family: Family) {
        let policy = self.settings.probe;
        let member = &self.members[at];
        let address = member.probing.addresses[family.index()];
        let twin = self.is_twin_address(at, family);
        let means = Means::of(family, address, policy).filter(|_| !twin);
        let name = member.name().to_owned();
        let was_twin = member.probing.twin[family.index()];
        if let (true, false, TestAddress::Is { address, .. }) = (twin, was_twin, address) {
            self.say(|_| LogLine::TestAddressTwin { member: name, address });
        } else if was_twin && !twin && matches!(means, Some(Means::Echo { .. })) {
            self.say(|_| LogLine::TestAddressNow { member: name });
        }
        let Member { condition, probing, flap, .. } = &mut self.members[at];
        probing.twin[family.index()] = twin;
        let wanted = address != TestAddress::None || means.is_some();
        let prober = &mut probing.probers[family.index()];
        if !wanted {
            *prober = None;
            return;
        }
        // Who is down, or was found failed, has to be repaired.
        let failed = probing.failed || !matches!(condition, Condition::New | Condition::Ok);
        let prober = prober.get_or_insert_with(|| Prober::new(probing.joined, failed));
        if prober.means != means {
            prober.set_means(means);
        }
        if means.is_some() && flap.until().is_some() {
            // The ten answers are what damps it from now on.
            flap.release();
        }
    }

    /// Whether somebody else in the group has a member's test address.
    fn is_twin_address(&self, at: usize, family: Family) -> bool {
        let TestAddress::Is { address, .. } = self.members[at].probing.addresses[family.index()] else {
            return false;
        };
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != at);
        others.flat_map(|(_, member)| test_addresses(member)).any(|other| other == address)
            || self.addresses().any(|(data, _)| data == address)
    }

    /// Probers work while their members are in service.
    fn wake_and_rest(&mut self, now: Time) {
        let interval = self.probes.fdt.interval();
        let share =
            self.name.bytes().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        for number in self.members.iter().map(Member::number).collect::<Vec<_>>() {
            let Some(member) = self.member_mut(number) else { continue };
            if member.probing.enabled()
                && member.condition == Condition::Held
                && member.flap.until().is_none()
            {
                let turn = member.settle();
                self.turned(number, turn, None);
            }
            let Some(member) = self.member_mut(number) else { continue };
            let in_service = member.in_service();
            for family in Family::ALL {
                let Some(prober) = &mut member.probing.probers[family.index()] else { continue };
                if in_service {
                    prober.wake(now, interval, number << 1 | family.index() as u8, share);
                } else if prober.next().is_some() {
                    prober.rest();
                }
            }
        }
    }

    /// Says who has been without a test address for too long.
    fn complain(&mut self, now: Time) {
        for at in 0..self.members.len() {
            let probing = &mut self.members[at].probing;
            if !probing.said_without && probing.without.is_some_and(|since| now - since >= GRACE) {
                probing.said_without = true;
                let member = self.members[at].name().to_owned();
                let why = Why::NoTestAddress { member: member.clone() };
                self.say_because(why, |_| LogLine::NoTestAddress { member });
            }
        }
    }

    /// Judges the members: who has failed, who is repaired, and whether anybody can be blamed at all.
    fn decide(&mut self, now: Time) {
        if self.members.iter().all(|member| member.probing.all().next().is_none() && !member.probing.failed) {
            self.probes.dark = [false; 2];
            return;
        }
        // A verdict can make another one possible: who is repaired is evidence. Each member turns twice at most.
        for _ in 0..=self.members.len() {
            let numbers: Vec<u8> = self.members.iter().map(Member::number).collect();
            let turned = numbers.into_iter().filter(|&number| self.decide_on(now, number)).count();
            if turned == 0 {
                break;
            }
        }
        for family in Family::ALL {
            self.look_for_light(now, family);
        }
    }

    /// Judges a member; whether that has changed anything.
    fn decide_on(&mut self, now: Time, number: u8) -> bool {
        let mut all = false;
        if self.member(number).is_some_and(Member::in_service) {
            for family in Family::ALL {
                match self.verdict(now, number, family) {
                    Some(Verdict::Repaired) => {
                        if let Some(prober) = self.prober_mut(number, family) {
                            prober.failed = false;
                        }
                    }
                    Some(Verdict::Failed) => {
                        if let Some(prober) = self.prober_mut(number, family) {
                            prober.fail();
                        }
                    }
                    Some(Verdict::AllFailed) => all = true,
                    None => {}
                }
            }
        }
        if all {
            return self.fail_all();
        }
        let Some(member) = self.member_mut(number) else { return false };
        let failed = member.probing.verdict();
        if std::mem::replace(&mut member.probing.failed, failed) == failed {
            return false;
        }
        if failed {
            self.probes_failed(number)
        } else {
            self.probes_recovered(number)
        }
        true
    }

    fn verdict(&self, now: Time, number: u8, family: Family) -> Option<Verdict> {
        let member = self.member(number)?;
        let prober = member.prober(family).filter(|prober| prober.capable())?;
        if prober.failed {
            return prober.repaired().then_some(Verdict::Repaired);
        }
        let losing = prober.history.losing().filter(|_| prober.settled(now))?;
        let others = || self.members.iter().filter(|other| other.number() != number && other.functions());
        let probers = others().filter_map(|other| other.prober(family));
        let evidence = probers.map(|prober| (prober.history(), prober.targets()));
        if verdict::is_own(&losing, self.probes.fdt.interval(), evidence) {
            return Some(Verdict::Failed);
        }
        if self.settings.fail_open {
            return None;
        }
        // As the reference: a member that is not probed is as good as one that is answered.
        let unprobed = others().any(|other| !other.probing.enabled());
        // One that has failed already is neither: it does not take others with it.
        Some(if unprobed || member.probing.failed { Verdict::Failed } else { Verdict::AllFailed })
    }

    /// Nobody is answered, and the operator wants nobody to carry then: all fail at once, and one line says so.
    fn fail_all(&mut self) -> bool {
        let functioning = self.members.iter_mut().filter(|member| member.functions());
        for member in functioning.filter(|member| member.probing.enabled()) {
            member.probing.all_mut().for_each(Prober::fail);
            member.probing.failed = true;
            member.inactive = false;
        }
        self.why = Why::Probes;
        self.reconcile();
        self.refresh(true);
        true
    }

    fn probes_failed(&mut self, number: u8) {
        let Some(member) = self.member_mut(number) else { return };
        let offline = member.offline.is_some();
        let mut before = member.clone();
        before.probing.failed = false;
        member.inactive = false;
        // Of a member whose link is down, or which was never seen working, no failure is news.
        if before.functions() {
            let name = before.name().to_owned();
            self.why = Why::ProbesLost { member: name.clone() };
            self.lost_one(&before);
            if self.anybody_functions() || self.members.iter().any(Self::could_be_let_go) {
                self.say(|group| LogLine::Failure { member: name, group });
            }
            self.refresh(!offline);
        }
        self.reconcile();
    }

    fn probes_recovered(&mut self, number: u8) {
        let Some(member) = self.member(number) else { return };
        if member.condition == Condition::Ok {
            let (name, offline) = (member.name().to_owned(), member.offline.is_some());
            self.why = Why::ProbesAnswered { member: name.clone() };
            self.say(|group| LogLine::Repair { member: name, group });
            if !offline {
                self.came_back(number, Back::Repaired);
            }
            self.refresh(false);
        }
        self.reconcile();
    }

    /// Says when nobody is answered any more, and when somebody is again.
    fn look_for_light(&mut self, now: Time, family: Family) {
        let judged = || {
            let members = self.members.iter().filter(|member| member.functions());
            let probers = members.filter_map(|member| member.prober(family));
            probers.filter(|prober| prober.capable() && prober.settled(now))
        };
        let anybody = judged().next().is_some();
        // One that has failed shows, too, whether there is somebody to answer.
        let working = || {
            let members = self.members.iter().filter(|member| member.in_service());
            members.filter_map(|member| member.prober(family)).filter(|prober| prober.capable())
        };
        let light = working().any(|prober| prober.history.losses() == 0 && prober.history.answered());
        let dark = anybody && !light && judged().all(|prober| prober.history.losing().is_some());
        let hosts_alone = judged().all(|prober| prober.targets.mode() == Mode::Multicast);
        let was = self.probes.dark[family.index()];
        if dark && !was {
            self.probes.dark[family.index()] = true;
            self.say_because(Why::Probes, |group| LogLine::Dark { group, family });
            if hosts_alone {
                self.forget_hosts([family]);
            }
        } else if was && (light || !anybody) {
            self.probes.dark[family.index()] = false;
            if light {
                self.say_because(Why::Probes, |group| LogLine::DarkOver { group, family });
            }
        }
    }

    /// Sends the probes whose time has come.
    pub(super) fn probe_round(&mut self, now: Time) {
        let interval = self.probes.fdt.interval();
        let idle = interval.max(DISCOVER);
        let mut missed = Vec::new();
        for member in &mut self.members {
            let number = member.number();
            for family in Family::ALL {
                let Some(prober) = member.probing.probers[family.index()].as_mut() else { continue };
                let Some(means) = prober.means else { continue };
                let neighbours = &mut self.probes.neighbours;
                let found = |target: &IpAddr| neighbours.get(target).and_then(|neighbour| neighbour.found);
                let by_mac = !matches!(means, Means::Echo { .. });
                let Some((round, skipped)) =
                    prober.round(now, interval, idle, |target| !by_mac || found(&target).is_some())
                else {
                    continue;
                };
                if skipped > 0 && round != Round::Idle {
                    missed.push((member.attachment.name.clone(), family, skipped));
                }
                if let Round::Probe { sequence, target } = round {
                    let via = match (means, found(&target)) {
                        (Means::Echo { source, .. }, _) => Via::Echo(source),
                        (Means::Arp, Some((mac, _))) => Via::Arp(mac),
                        (Means::Nd, Some((mac, _))) => Via::Nd(mac),
                        (Means::Arp | Means::Nd, None) => continue,
                    };
                    self.probes.wanted.push(Action::Probe { member: number, target, via, sequence });
                }
                if let Means::Echo { source, .. } = means {
                    if prober.looks(now, idle) {
                        self.probes.wanted.push(Action::FindHosts { member: number, source });
                    }
                    continue;
                }
                for target in prober.targets.active().map(|target| target.address) {
                    let neighbour = neighbours.entry(target).or_default();
                    let due = neighbour.asked.is_none_or(|asked| now - asked >= FIND);
                    if neighbour.found.is_none() && due {
                        neighbour.asked = Some(now);
                        self.probes.wanted.push(Action::FindNeighbour(target));
                    }
                }
            }
        }
        for (member, family, missed) in missed {
            self.say_because(Why::Probes, |_| LogLine::MissedProbes { member, family, missed });
        }
    }

    /// When a probe, or a word, is due.
    pub(super) fn probe_deadline(&self) -> impl Iterator<Item = Time> {
        let probers = self.members.iter().flat_map(|member| member.probing.all());
        let silent = self.members.iter().filter(|member| !member.probing.said_without);
        let words = silent.filter_map(|member| member.probing.without).map(|since| since + GRACE);
        probers.filter_map(Prober::deadline).chain(words)
    }

    fn prober_mut(&mut self, number: u8, family: Family) -> Option<&mut Prober> {
        self.member_mut(number)?.probing.probers[family.index()].as_mut()
    }
}

/// What probes say of a member in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Failed,
    AllFailed,
    Repaired,
}

fn test_addresses(member: &Member) -> impl Iterator<Item = IpAddr> {
    member.probing.addresses.iter().filter_map(|address| match address {
        TestAddress::Is { address, .. } => Some(*address),
        TestAddress::None | TestAddress::Awaited => None,
    })
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
