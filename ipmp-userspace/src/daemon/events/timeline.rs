//! The last failures and repairs of each group with the time of each phase, for `ipmpctl timeline`. They survive the daemon, in a
//! file for each group beside the state file; these are lost with the clock that their times are of.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{cause, trigger::Trigger};
use crate::{
    control::{monitor::rfc3339, timeline::Transition},
    core::{Cause, Event, Time},
    types::{Passage, Phase},
};

/// Transitions kept of each group.
pub const LENGTH: usize = 64;

/// What the daemon has done about an input.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// When the state machine had decided.
    pub decided: Time,
    /// When the masks of the datapath were written, if they changed.
    pub masks: Option<Time>,
    /// When announcements were sent, if any were.
    pub announced: Option<Time>,
}

/// The times of the probes before a failure: when the last reply was received, and when the first lost probe was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastProbes {
    /// The reply.
    pub replied: Option<Time>,
    /// The lost probe.
    pub lost: Option<Time>,
}

/// The transitions, by group, oldest first.
#[derive(Debug, Default)]
pub struct Timelines {
    directory: Option<PathBuf>,
    groups: BTreeMap<String, VecDeque<Transition>>,
    /// When the links of members came up that have not been repaired yet.
    ups: BTreeMap<String, Time>,
}

impl Timelines {
    /// Continues those of an earlier daemon, in this directory. A file that cannot be read is replaced.
    pub fn open(directory: PathBuf) -> Self {
        let mut groups = BTreeMap::new();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().into_string());
            match (fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?)), name) {
                (Ok(list), Ok(group)) => _ = groups.insert(group, list),
                (Ok(_), Err(name)) => log::warn!("{}: no name of a group", name.display()),
                (Err(error), _) => log::warn!("{}: {error}; its timeline is lost", path.display()),
            }
        }
        Self { directory: Some(directory), groups, ups: BTreeMap::new() }
    }

    /// The transitions of a group, oldest first.
    pub fn of(&self, group: &str) -> impl Iterator<Item = &Transition> {
        self.groups.get(group).into_iter().flatten()
    }

    /// Records what an event begins, or the phase that it ends. Returns the member whose failure it begins.
    pub fn record(
        &mut self,
        group: &str,
        trigger: &Trigger,
        (event, cause): (&Event, &Cause),
        work: Work,
        probes: impl FnOnce(&str) -> LastProbes,
    ) -> Option<String> {
        // What was so before the daemon ran has happened at an unknown time.
        if *trigger == Trigger::Start {
            return None;
        }
        let detected = match *trigger {
            Trigger::Datapath(at) => Some((Phase::Sentinel, at)),
            Trigger::Kernel(at) => Some((Phase::Netlink, at)),
            _ => None,
        };
        let (member, passage) = match (event, cause) {
            (Event::LinkUp { member }, _) => {
                if let Some((_, at)) = detected {
                    self.ups.insert(member.clone(), at);
                }
                return None;
            }
            (Event::NotLive { member }, _) => {
                self.stamp(group, member, Passage::Failure, detected);
                return None;
            }
            (Event::LinkDown { member }, _)
            | (Event::MemberFailed { .. } | Event::GroupUnusable { .. }, Cause::ProbesLost { member }) => {
                (member, Passage::Failure)
            }
            (Event::MemberRepaired { member, .. }, _) => (member, Passage::Repair),
            _ => return None,
        };
        let mut transition = Transition {
            time: rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            group: group.to_owned(),
            member: member.clone(),
            passage,
            cause: cause::describe(cause).map_or("trigger", |(word, _)| word).to_owned(),
            stamps: Vec::new(),
            failed_over_packets: 0,
            dropped_packets: 0,
        };
        let up = self.ups.remove(member).filter(|_| passage == Passage::Repair);
        let LastProbes { replied, lost } =
            if matches!(cause, Cause::ProbesLost { .. }) { probes(member) } else { LastProbes::default() };
        let stamps = [
            (Phase::LastReply, replied),
            (Phase::FirstLoss, lost),
            (Phase::LinkUp, up),
            (Phase::Decided, Some(work.decided)),
            (Phase::Masks, work.masks),
            (Phase::Announced, work.announced),
        ];
        let detected = detected.map(|(phase, at)| (phase, Some(at)));
        for (phase, at) in stamps.into_iter().chain(detected) {
            if let Some(at) = at {
                transition.stamp(phase, at.0.as_nanos() as u64);
            }
        }
        let list = self.groups.entry(group.to_owned()).or_default();
        let is_same = |last: &Transition| {
            let key = |of: &Transition| (of.member.clone(), of.passage, of.at(Phase::Decided));
            key(last) == key(&transition)
        };
        // The failure of the last member is reported as that of the group as well.
        if list.back().is_some_and(is_same) {
            return None;
        }
        if list.len() == LENGTH {
            list.pop_front();
        }
        list.push_back(transition);
        self.save(group);
        (passage == Passage::Failure).then(|| member.clone())
    }

    /// Adds to the last failure of a member what is known later.
    pub fn complete_failure(&mut self, group: &str, member: &str, complete: impl FnOnce(&mut Transition)) {
        let mut list = self.groups.get_mut(group).into_iter().flatten().rev();
        let is_its = |last: &&mut Transition| last.member == member && last.passage == Passage::Failure;
        let Some(failure) = list.find(is_its) else { return };
        let before = failure.clone();
        complete(failure);
        if *failure != before {
            self.save(group);
        }
    }

    /// The group was removed.
    pub fn forget(&mut self, group: &str) {
        if self.groups.remove(group).is_some() {
            self.save(group);
        }
    }

    /// Adds a phase to the last transition of a member, if that is the one of a failure or of a repair.
    pub fn stamp(&mut self, group: &str, member: &str, passage: Passage, phase: Option<(Phase, Time)>) {
        let list = self.groups.get_mut(group).into_iter().flatten();
        let last = list.rev().find(|transition| transition.member == member);
        let Some((phase, at)) = phase else { return };
        if let Some(last) = last.filter(|last| last.passage == passage && last.at(phase).is_none()) {
            last.stamp(phase, at.0.as_nanos() as u64);
            self.save(group);
        }
    }

    /// The group interfaces have other names now.
    pub fn rename(&mut self, names: &[(String, String)]) {
        let moved: Vec<_> = names.iter().map(|(before, now)| (now, self.groups.remove(before))).collect();
        for (now, list) in moved {
            let Some(mut list) = list else { continue };
            list.iter_mut().for_each(|transition| transition.group.clone_from(now));
            self.groups.insert(now.clone(), list);
        }
        names.iter().flat_map(|(before, now)| [before, now]).for_each(|name| self.save(name));
    }

    /// Writes the file of a group, or removes it. Not synchronized: it need not survive the kernel.
    fn save(&self, group: &str) {
        let Some(directory) = &self.directory else { return };
        let path = directory.join(group);
        let Some(list) = self.groups.get(group) else {
            let _ = fs::remove_file(path);
            return;
        };
        let text = serde_json::to_vec(list).expect("every key is a string");
        if let Err(error) = replace(directory, &path, &text) {
            log::debug!("cannot write {}: {error}", path.display());
        }
    }
}

/// No reader sees a part of the file.
fn replace(directory: &Path, path: &Path, text: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let new = directory.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).inspect_err(|_| _ = fs::remove_file(&new))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ETH0: fn() -> String = || "eth0".into();

    fn at(milliseconds: u64) -> Time {
        Time(Duration::from_millis(milliseconds))
    }

    fn record(timelines: &mut Timelines, trigger: &Trigger, event: &Event, cause: &Cause) {
        let work = Work { decided: at(2), masks: None, announced: Some(at(3)) };
        let probes = LastProbes { replied: Some(at(0)), lost: Some(at(1)) };
        timelines.record("g", trigger, (event, cause), work, |_| probes);
    }

    fn phases(timelines: &Timelines) -> Vec<(Passage, Vec<Phase>)> {
        let phases = |transition: &Transition| transition.stamps.iter().map(|stamp| stamp.phase).collect();
        timelines.of("g").map(|transition| (transition.passage, phases(transition))).collect()
    }

    #[test]
    fn pull_then_netlink_then_repair_are_two_transitions() {
        let mut timelines = Timelines::default();
        let (down, up) = (Event::LinkDown { member: ETH0() }, Event::LinkUp { member: ETH0() });
        let lost = Cause::LinkLost { member: ETH0() };
        record(&mut timelines, &Trigger::Datapath(at(1)), &down, &lost);
        timelines.stamp("g", "eth0", Passage::Failure, Some((Phase::Netlink, at(9))));
        timelines.stamp("g", "eth0", Passage::Failure, Some((Phase::Netlink, at(10))));
        let repaired = Event::MemberRepaired { member: ETH0(), group: "g".into() };
        record(&mut timelines, &Trigger::Kernel(at(1)), &up, &Cause::LinkRestored { member: ETH0() });
        record(
            &mut timelines,
            &Trigger::Datapath(at(2)),
            &repaired,
            &Cause::UpdelayPassed { member: ETH0() },
        );
        use Phase::{Announced, Decided, LinkUp, Netlink, Sentinel};
        let expected = [
            (Passage::Failure, vec![Sentinel, Decided, Announced, Netlink]),
            (Passage::Repair, vec![LinkUp, Sentinel, Decided, Announced]),
        ];
        assert_eq!(phases(&timelines), expected);
        assert_eq!(timelines.of("g").next().unwrap().at(Netlink), Some(9_000_000));
        timelines.stamp("g", "eth0", Passage::Failure, Some((Phase::Masks, at(20))));
        assert_eq!(phases(&timelines), expected, "the last transition is a repair");
    }

    #[test]
    fn silent_failure_begins_with_its_probes() {
        let mut timelines = Timelines::default();
        let failed = Event::MemberFailed { member: ETH0(), group: "g".into() };
        record(&mut timelines, &Trigger::Deadline, &failed, &Cause::ProbesLost { member: ETH0() });
        use Phase::{Announced, Decided, FirstLoss, LastReply};
        assert_eq!(phases(&timelines), [(Passage::Failure, vec![LastReply, FirstLoss, Decided, Announced])]);
        let unusable = Event::GroupUnusable { group: "g".into() };
        record(&mut timelines, &Trigger::Deadline, &unusable, &Cause::ProbesLost { member: ETH0() });
        record(&mut timelines, &Trigger::Start, &Event::LinkDown { member: ETH0() }, &Cause::Trigger);
        // The one that follows from a link is counted with the link.
        record(&mut timelines, &Trigger::Deadline, &failed, &Cause::LinkLost { member: ETH0() });
        assert_eq!(phases(&timelines).len(), 1);
    }

    #[test]
    fn last_transitions_survive_daemon_and_end_with_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("timelines");
        let mut timelines = Timelines::open(path.clone());
        for number in 0..LENGTH as u64 + 3 {
            let (down, lost) = (Event::LinkDown { member: ETH0() }, Cause::LinkLost { member: ETH0() });
            let work = Work { decided: at(number), masks: None, announced: None };
            let trigger = Trigger::Kernel(at(number));
            timelines.record("g", &trigger, (&down, &lost), work, |_| LastProbes::default());
        }
        timelines.rename(&[("g".into(), "h".into())]);
        timelines.rename(&[("h".into(), "g".into())]);
        let before: Vec<Transition> = timelines.of("g").cloned().collect();
        let mut later = Timelines::open(path.clone());
        assert_eq!(later.of("g").cloned().collect::<Vec<_>>(), before);
        assert_eq!((before.len(), before[0].at(Phase::Netlink)), (LENGTH, Some(3_000_000)));
        later.forget("g");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        fs::write(path.join("g"), "{").unwrap();
        assert_eq!(Timelines::open(path).of("g").count(), 0);
    }
}
