//! An exhaustive search over the states of a group.
//!
//! Time advances in rounds, in which every member in service probes once. Between two rounds links, the paths behind
//! them, the router and the operator may change, a limited number of times in all. Two states are the same if only the
//! time differs. All reachable states are visited, breadth first, so that a fault is reported with a shortest way to it.
//!
//! The search is written here: a model checker crate would add a web server and two dozen crates for a loop over a queue.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::properties::check;
use crate::{
    core::{
        Input, Settings,
        group::{
            properties::Kernel,
            testing::{Wire, router},
        },
        member::Member,
        probe::{FAILURES, REPAIRS, history::ProbeProgress, prober::Prober},
    },
    types::{Family, MemberState},
};

const INTERVAL: Duration = Duration::from_secs(1);

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Move {
    Round,
    Cable(u8),
    Path(u8),
    Router,
    Operator(u8),
}

/// A group, its kernel, and how much may still happen to them.
#[derive(Clone)]
struct World {
    wire: Wire,
    kernel: Kernel,
    changes: u32,
}

impl World {
    fn new(members: u8, standbys: &[u8], settings: Settings, changes: u32) -> Self {
        let mut wire = Wire::new(settings);
        wire.rtt = Duration::ZERO;
        wire.routers(&[router(1)]);
        for member in 0..members {
            wire.join(member);
            wire.tell(Input::Standby { member, standby: standbys.contains(&member) });
            wire.test_address(member, Family::V4);
        }
        wire.run(20 * INTERVAL);
        let mut world = Self { wire, kernel: Kernel::default(), changes };
        world.settle();
        world
    }

    /// Applies the actions to the kernel, and drops records that no check reads.
    fn settle(&mut self) {
        for action in std::mem::take(&mut self.wire.actions) {
            self.kernel.apply(&action);
        }
        self.wire.said();
        self.wire.probes.clear();
        self.wire.searches.clear();
    }

    fn after(&self, what: Move) -> Self {
        let mut world = self.clone();
        let wire = &mut world.wire;
        match what {
            Move::Round => wire.run(INTERVAL),
            Move::Cable(member) => {
                let up = wire.group.member(member).unwrap().live();
                wire.link(member, !up);
            }
            Move::Path(member) => {
                if !wire.silent.remove(&member) {
                    wire.silent.insert(member);
                }
            }
            Move::Router => {
                if !wire.dead.remove(&router(1)) {
                    wire.dead.insert(router(1));
                }
            }
            Move::Operator(member) => {
                let offline = wire.group.member(member).unwrap().offline().is_some();
                let event = if offline { Input::Online { member } } else { Input::Offline { member } };
                // A refused input has no effect.
                drop(wire.ask(event));
            }
        }
        if !matches!(what, Move::Round) {
            world.changes -= 1;
        }
        world.settle();
        world
    }

    /// Everything that the future depends on.
    fn state(&self) -> String {
        let group = &self.wire.group;
        let member = |member: &Member| {
            let prober = member.prober(Family::V4).expect("a prober");
            let decided =
                |fate: &ProbeProgress| matches!(fate, ProbeProgress::Answered(_) | ProbeProgress::Lost);
            let last: Vec<_> = prober
                .history()
                .probes()
                .rev()
                .filter(|probe| probe.is_in_row() && decided(&probe.fate))
                // As far back as a verdict reads.
                .take(FAILURES as usize + 2)
                .map(|probe| (self.wire.now - probe.sent, probe.fate == ProbeProgress::Lost, probe.disputed))
                .collect();
            let burst = prober.burst().map(|burst| {
                let control = group.member(burst.control_member());
                let control = control.and_then(|control| control.prober(Family::V4)).map(Prober::history);
                burst.state(self.wire.now, prober.history(), control)
            });
            let replies = prober.history().last_answered(router(1));
            let untested = prober.untested_loss(self.wire.now).is_some();
            let answers = prober.history().answers().min(REPAIRS);
            let next = prober.next().map(|next| next - self.wire.now);
            let flags = (
                member.inactive(),
                member.usable(),
                member.probes_failed(),
                prober.failed(),
                replies,
                untested,
                prober.was_void,
                burst,
            );
            (member.condition(), member.link(), member.live(), member.offline(), flags, last, answers, next)
        };
        let members: Vec<_> = group.members().iter().map(member).collect();
        let roles =
            (group.active(), group.cast(), group.targets_unreachable(Family::V4), group.reported_unusable);
        format!("{members:?} {roles:?} {:?} {:?}", self.wire.silent, self.wire.dead)
    }

    /// Without further changes, every verdict becomes right.
    fn check_rest(&self) {
        let group = &self.wire.group;
        let router = self.wire.dead.is_empty();
        let good = |member: &Member| router && !self.wire.silent.contains(&member.number());
        let in_service = || group.members().iter().filter(|member| member.in_service());
        if in_service().any(good) {
            for member in in_service() {
                assert_eq!(member.functions(), good(member), "{member:?}");
            }
        } else if !group.settings().fail_open {
            assert!(in_service().all(|member| member.state() == MemberState::Failed));
        }
        assert_eq!(
            group.targets_unreachable(Family::V4),
            in_service().any(Member::functions) && !in_service().any(good)
        );
    }
}

/// Visits all states; their number.
fn visit(members: u8, standbys: &[u8], settings: Settings, changes: u32) -> usize {
    let settings = Settings { fdt: INTERVAL * FAILURES, ..settings };
    let mut moves = vec![Move::Router];
    for member in 0..members {
        moves.extend([Move::Cable(member), Move::Path(member), Move::Operator(member)]);
    }
    // The most remaining changes with which a state was seen: with fewer, nothing new can follow.
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut ways: Vec<(Option<usize>, Move)> = Vec::new();
    let first = World::new(members, standbys, settings, changes);
    seen.insert(first.state(), changes);
    let mut queue = VecDeque::from([(first, None)]);
    while let Some((world, way)) = queue.pop_front() {
        let state = world.state();
        let changes: &[Move] = if world.changes > 0 { &moves } else { &[] };
        for &what in [Move::Round].iter().chain(changes) {
            let trace = Trace { ways: &ways, way, what };
            let next = world.after(what);
            check(&next.wire, &next.kernel);
            let after = next.state();
            if matches!(what, Move::Round) && after == state {
                next.check_rest();
            }
            drop(trace);
            if seen.get(&after).is_some_and(|changes| *changes >= next.changes) {
                continue;
            }
            seen.insert(after, next.changes);
            ways.push((way, what));
            queue.push_back((next, Some(ways.len() - 1)));
        }
    }
    seen.len()
}

/// Prints how a faulty state was reached.
struct Trace<'a> {
    ways: &'a [(Option<usize>, Move)],
    way: Option<usize>,
    what: Move,
}

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut moves = vec![self.what];
            let mut at = self.way;
            while let Some((before, what)) = at.map(|at| self.ways[at]) {
                moves.push(what);
                at = before;
            }
            moves.reverse();
            println!("after {moves:?}");
        }
    }
}

#[test]
fn every_reachable_state_of_up_to_three_members_is_sound() {
    let closed = Settings { fail_open: false, ..Settings::default() };
    let stays = Settings { failback: crate::types::Failback::No, ..Settings::default() };
    for (members, standbys, settings, changes) in [
        (1, &[][..], Settings::default(), 4),
        (2, &[], Settings::default(), 3),
        (2, &[], closed, 2),
        (2, &[1], stays, 2),
        (3, &[], Settings::default(), 3),
        (3, &[2], Settings::default(), 2),
    ] {
        let count = visit(members, standbys, settings, changes);
        println!("{members} members, standbys {standbys:?}, {changes} changes: {count} states");
        assert!(count > 100, "{count} states are not all");
    }
}
