//! What `ipmpctl top` knows: the last reports, rates, round-trip times and events, and what the operator has selected.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    time::Instant,
};

use crate::{
    control::{
        GroupReport, Request,
        monitor::EventRecord,
        probes::ProbeReport,
        report::{MemberReport, Traffic},
    },
    types::ProbeOutcome,
};

/// Probes of a member and target that are kept.
pub(super) const PROBES: usize = 60;
/// Events that are kept.
const EVENTS: usize = 200;
/// Pairs of member and target that are kept: those of 16 members with 16 targets in two families, twice.
const PAIRS: usize = 1024;

/// Traffic of a member in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub out_packets: f64,
    pub out_bits: f64,
    pub in_packets: f64,
    pub in_bits: f64,
}

impl Rates {
    /// Counters begin again when a member joins again.
    fn between(before: &Traffic, after: &Traffic, seconds: f64) -> Self {
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Self {
            out_packets: rate(before.out_packets, after.out_packets),
            out_bits: rate(before.out_bytes, after.out_bytes) * 8.0,
            in_packets: rate(before.in_packets, after.in_packets),
            in_bits: rate(before.in_bytes, after.in_bytes) * 8.0,
        }
    }
}

/// A change that waits for the operator's confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    member: String,
    is_offline: bool,
}

impl Question {
    pub fn offline(member: &MemberReport) -> Self {
        Self { member: member.name.clone(), is_offline: true }
    }

    pub fn online(member: &MemberReport) -> Self {
        Self { member: member.name.clone(), is_offline: false }
    }

    pub fn request(&self) -> Request {
        let interface = self.member.clone();
        if self.is_offline { Request::Offline { interface } } else { Request::Online { interface } }
    }

    pub fn text(&self) -> String {
        format!("Take {} {}? y: yes, any other key: no", self.member, self.state())
    }

    pub fn done(&self) -> String {
        format!("{} is now {}", self.member, self.state())
    }

    fn state(&self) -> &'static str {
        if self.is_offline { "offline" } else { "online" }
    }
}

/// The last probes from a member to a target, the newest last: round-trip time in nanoseconds; `None`: lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RoundTrips {
    /// Number and round-trip time.
    probes: VecDeque<(u16, Option<u64>)>,
}

impl RoundTrips {
    fn record(&mut self, number: u16, round_trip: Option<u64>) {
        // A late reply to a probe that was lost before.
        if let Some((_, known)) = self.probes.iter_mut().rev().find(|(known, _)| *known == number) {
            *known = round_trip;
            return;
        }
        if self.probes.len() == PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back((number, round_trip));
    }

    pub fn len(&self) -> usize {
        self.probes.len()
    }

    pub fn lost(&self) -> usize {
        self.probes.iter().filter(|(_, round_trip)| round_trip.is_none()).count()
    }

    /// The last one that was answered.
    pub fn last(&self) -> Option<u64> {
        self.probes.iter().rev().find_map(|(_, round_trip)| *round_trip)
    }

    /// The newest `count`, the newest last.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = Option<u64>> + Clone {
        let skipped = self.probes.len().saturating_sub(count);
        self.probes.iter().skip(skipped).map(|(_, round_trip)| *round_trip)
    }
}

/// Which probes [`RoundTrips`] has.
type Pair = (String, String, IpAddr);

#[derive(Debug)]
pub(super) struct Model {
    groups: Vec<GroupReport>,
    read_at: Instant,
    rates: HashMap<(String, String), Rates>,
    round_trips: BTreeMap<Pair, RoundTrips>,
    events: VecDeque<EventRecord>,
    group: usize,
    member: usize,
    pub question: Option<Question>,
    /// What an operation of the operator led to.
    pub status: Option<String>,
    /// Why there are no new reports.
    pub unreachable: Option<String>,
}

impl Model {
    pub fn new(groups: Vec<GroupReport>, read_at: Instant) -> Self {
        Self {
            groups,
            read_at,
            rates: HashMap::new(),
            round_trips: BTreeMap::new(),
            events: VecDeque::new(),
            group: 0,
            member: 0,
            question: None,
            status: None,
            unreachable: None,
        }
    }

    /// Selects the group that has this name, or this member; `false`: there is none.
    pub fn select(&mut self, name: &str) -> bool {
        for (number, group) in self.groups.iter().enumerate() {
            let member = group.members.iter().position(|member| member.name == name);
            if group.is_named(name) || member.is_some() {
                (self.group, self.member) = (number, member.unwrap_or_default());
                return true;
            }
        }
        false
    }

    /// New reports. The selection stays on the group and the member that it was on, wherever they are now.
    pub fn read(&mut self, groups: Vec<GroupReport>, at: Instant) {
        let seconds = at.duration_since(self.read_at).as_secs_f64().max(0.001);
        let mut rates = HashMap::new();
        for group in &groups {
            let before = self.groups.iter().find(|before| before.name == group.name);
            for member in &group.members {
                let known =
                    before.and_then(|group| group.members.iter().find(|before| before.name == member.name));
                if let Some(known) = known {
                    let key = (group.name.clone(), member.name.clone());
                    rates.insert(key, Rates::between(&known.traffic, &member.traffic, seconds));
                }
            }
        }
        let selected = self.group().map(|group| group.name.clone());
        let member = self.selected_member().map(|member| member.name.clone());
        (self.groups, self.rates, self.read_at, self.unreachable) = (groups, rates, at, None);
        let group = selected.and_then(|name| self.groups.iter().position(|group| group.name == name));
        self.group = group.unwrap_or_else(|| self.group.min(self.groups.len().saturating_sub(1)));
        let position = |group: &GroupReport| {
            group.members.iter().position(|report| Some(&report.name) == member.as_ref())
        };
        let members = self.group().map_or(0, |group| group.members.len());
        self.member =
            self.group().and_then(position).unwrap_or_else(|| self.member.min(members.saturating_sub(1)));
        let groups = &self.groups;
        self.round_trips.retain(|(group, member, _), _| {
            groups.iter().any(|report| {
                report.name == *group && report.members.iter().any(|report| report.name == *member)
            })
        });
    }

    pub fn record_event(&mut self, event: EventRecord) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub fn record_probe(&mut self, probe: &ProbeReport) {
        let round_trip = match probe.outcome {
            ProbeOutcome::Answered => probe.network_ns,
            ProbeOutcome::Lost => None,
            // It shows nothing of the path.
            _ => return,
        };
        let pair = (probe.group.clone(), probe.member.clone(), probe.target);
        if self.round_trips.len() < PAIRS || self.round_trips.contains_key(&pair) {
            self.round_trips.entry(pair).or_default().record(probe.number, round_trip);
        }
    }

    pub fn move_selection(&mut self, by: isize) {
        let members = self.group().map_or(0, |group| group.members.len());
        self.member = self.member.saturating_add_signed(by).min(members.saturating_sub(1));
    }

    pub fn move_group(&mut self, by: isize) {
        let count = self.groups.len().max(1);
        self.group = (self.group + count).saturating_add_signed(by) % count;
        self.member = 0;
    }

    /// The selected group.
    pub fn group(&self) -> Option<&GroupReport> {
        self.groups.get(self.group)
    }

    /// The number of the selected group from 1, and of all groups.
    pub fn place(&self) -> (usize, usize) {
        (self.group + 1, self.groups.len())
    }

    pub fn selected_member(&self) -> Option<&MemberReport> {
        self.group()?.members.get(self.member)
    }

    /// Its number.
    pub fn selected(&self) -> usize {
        self.member
    }

    /// Of a member of the selected group; `None`: there is only one report with it.
    pub fn rates(&self, member: &str) -> Option<Rates> {
        let group = self.group()?;
        self.rates.get(&(group.name.clone(), member.to_owned())).copied()
    }

    /// Of the selected group: member, target and the probes between them, in the order of the members.
    pub fn round_trips(&self) -> Vec<(&str, IpAddr, &RoundTrips)> {
        let Some(group) = self.group() else { return Vec::new() };
        let of = |name: &str| {
            let first = (group.name.clone(), name.to_owned(), IpAddr::from([0, 0, 0, 0]));
            let pairs = self.round_trips.range(first..);
            pairs.take_while(move |((_, member, _), _)| member == name).collect::<Vec<_>>()
        };
        let names = group.members.iter().map(|member| member.name.as_str());
        names.flat_map(of).map(|((_, member, target), trips)| (member.as_str(), *target, trips)).collect()
    }

    /// Events of the selected group and of the host, the newest first.
    pub fn events(&self) -> impl Iterator<Item = &EventRecord> {
        let group = self.group().map(|group| group.name.as_str());
        self.events.iter().rev().filter(move |event| event.group.is_none() || event.group.as_deref() == group)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::{monitor, probes, report::sample};

    #[test]
    fn rates_are_those_of_the_time_between_two_reports() {
        let begin = Instant::now();
        let mut model = Model::new(vec![sample()], begin);
        assert_eq!(model.rates("e1000g0"), None);
        let mut later = sample();
        later.members[0].traffic.out_packets += 100;
        later.members[0].traffic.out_bytes += 10_000;
        later.members[0].traffic.in_packets = 0;
        model.read(vec![later], begin + Duration::from_secs(2));
        let rates = Rates { out_packets: 50.0, out_bits: 40_000.0, in_packets: 0.0, in_bits: 0.0 };
        assert_eq!(model.rates("e1000g0"), Some(rates));
    }

    #[test]
    fn selection_stays_on_member_and_group_that_move() {
        let mut other = sample();
        other.name = "backup0".into();
        other.groupname = "backup0".into();
        other.members.truncate(1);
        let now = Instant::now();
        let mut model = Model::new(vec![sample()], now);
        assert!(!model.select("eth0"));
        assert!(model.select("rge0"));
        let mut moved = sample();
        moved.members.remove(0);
        model.read(vec![other.clone(), moved], now);
        assert_eq!((model.place(), model.selected()), ((2, 2), 1));
        assert_eq!(model.selected_member().unwrap().name, "rge0");
        model.move_selection(5);
        model.move_group(1);
        assert_eq!((model.place(), model.selected_member().unwrap().name.as_str()), ((1, 2), "e1000g0"));
        model.move_group(-1);
        model.read(vec![other], now);
        assert_eq!((model.place(), model.selected()), ((1, 1), 0));
        model.read(vec![], now);
        assert_eq!((model.group(), model.selected_member()), (None, None));
        model.move_group(1);
        model.move_selection(1);
        assert!(model.round_trips().is_empty());
    }

    #[test]
    fn late_reply_corrects_loss_and_old_probes_leave() {
        let mut model = Model::new(vec![sample()], Instant::now());
        let probe =
            |number, outcome, network_ns| ProbeReport { number, outcome, network_ns, ..probes::sample() };
        for number in 0..70 {
            model.record_probe(&probe(number, ProbeOutcome::Answered, Some(u64::from(number))));
        }
        model.record_probe(&probe(70, ProbeOutcome::Lost, None));
        let [(member, target, trips)] = model.round_trips()[..] else { panic!("one pair") };
        assert_eq!((member, target.to_string().as_str()), ("rge0", "192.168.178.1"));
        assert_eq!((trips.len(), trips.lost(), trips.last()), (PROBES, 1, Some(69)));
        assert_eq!(trips.newest(3).collect::<Vec<_>>(), [Some(68), Some(69), None]);
        model.record_probe(&probe(70, ProbeOutcome::Answered, Some(4)));
        let trips = model.round_trips()[0].2;
        assert_eq!((trips.len(), trips.lost(), trips.last()), (PROBES, 0, Some(4)));
        // The member has left.
        let mut report = sample();
        report.members.pop();
        model.read(vec![report], Instant::now());
        assert!(model.round_trips().is_empty());
    }

    #[test]
    fn events_of_other_groups_are_not_shown() {
        let mut model = Model::new(vec![sample()], Instant::now());
        for (number, group) in [(1, Some("production0")), (2, Some("backup0")), (3, None)] {
            let group = group.map(str::to_owned);
            model.record_event(EventRecord { group, sequence: number, ..monitor::sample() });
        }
        assert_eq!(model.events().map(|event| event.sequence).collect::<Vec<_>>(), [3, 1]);
    }
}
