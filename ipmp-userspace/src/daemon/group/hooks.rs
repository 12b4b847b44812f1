//! Whether the group's programs are attached, and the first or last at their hooks.
//!
//! Other programs can remove them (`tc qdisc del`, `bpftool link detach`) or attach theirs before them: a tcx program that
//! returns `TCX_PASS` ends the chain. The kernel reports changes of qdiscs and filters, but none of tcx: hence the period.

use std::{collections::BTreeMap, time::Duration};

use super::{Context, RunningGroup, actions};
use crate::{
    core::{Event, Input, Time},
    daemon::clock::{now, stretched},
    datapath::{ProgramOrder, order::OtherProgram},
};

/// Time between two checks of a group, on a host with at most [`PER_PERIOD`].
const PERIOD: Duration = Duration::from_secs(1);
/// Most groups that are checked in a [`PERIOD`]. With more, each of them is checked less often, so that it never costs more: there is a
/// system call for each interface.
const PER_PERIOD: usize = 64;
/// Time from a message of the kernel to the check: several changes cause one.
const SETTLE: Duration = Duration::from_millis(2);
/// Time between two attempts to attach a program that could not be attached.
const RETRY: Duration = Duration::from_secs(5);
/// How often a program is moved within [`WINDOW`]: a program that moves itself back each time wins, and is reported.
const MOVES: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// The programs of a group, as last checked.
#[derive(Debug, Default)]
pub struct Hooks {
    due: Time,
    /// By the name of their pins.
    programs: BTreeMap<String, Checked>,
}

#[derive(Debug, Default)]
struct Checked {
    program: &'static str,
    interface: String,
    member: Option<u8>,
    /// Programs of others that run before it.
    ahead: Vec<OtherProgram>,
    /// Why it cannot be attached, if it is missing.
    missing: Option<String>,
    /// When it is attached again at the earliest.
    retry: Time,
    /// When it was moved.
    moved: Vec<Time>,
}

impl Hooks {
    /// When the next check is due.
    pub fn next(&self) -> Time {
        self.due
    }

    /// The kernel has reported a change.
    pub fn changed(&mut self) {
        self.due = self.due.min(now() + SETTLE);
    }

    /// What is wrong at the hooks of a member, and of the group interface; of all members without one. A sentence each.
    pub fn messages(&self, member: Option<u8>) -> Vec<String> {
        let concerned =
            |checked: &&Checked| member.is_none() || checked.member.is_none() || checked.member == member;
        self.programs.values().filter(concerned).flat_map(Checked::messages).collect()
    }
}

impl Checked {
    fn messages(&self) -> Vec<String> {
        let Self { program, interface, .. } = self;
        let missing = self
            .missing
            .as_ref()
            .map(|why| format!("the {program} program on {interface} is missing: {why}"));
        let ahead = self.ahead.iter().map(|other| {
            format!("on {interface}, {other} runs before the {program} program and can withhold packets from the group")
        });
        missing.into_iter().chain(ahead).collect()
    }
}

/// Checks all programs of a group, one of so many, and attaches those again that are missing or not in their place.
pub async fn check(group: &mut RunningGroup, context: &mut Context<'_>, groups: usize) {
    let time = now();
    group.hooks.due = time.next_multiple(stretched(PERIOD, groups, PER_PERIOD));
    let orders = group.datapath.program_orders();
    group.hooks.programs.retain(|pin, _| orders.iter().any(|found| found.pin == *pin));
    for found in orders {
        check_one(group, context, time, found).await;
    }
}

async fn check_one(group: &mut RunningGroup, context: &mut Context<'_>, time: Time, found: ProgramOrder) {
    let ProgramOrder { pin, program, member, interface, order } = found;
    let state = group.hooks.programs.entry(pin.clone()).or_default();
    (state.program, state.interface, state.member) = (program, interface.clone(), member);
    state.moved.retain(|moved| time - *moved < WINDOW);
    let is_displaced = order.is_attached && !order.is_in_place && state.moved.len() < MOVES;
    let is_wrong = (!order.is_attached || is_displaced) && state.retry <= time;
    // Else it is checked again when its program is loaded.
    if is_wrong && group.datapath.is_put_back_ready(&pin) {
        match group.datapath.put_back(&pin) {
            Ok(()) if order.is_attached => {
                let place = if program == "egress" { "last" } else { "first" };
                let others = match list(&order.ahead) {
                    others if others.is_empty() || program == "egress" => String::new(),
                    others => format!(": {others}"),
                };
                state.moved.push(time);
                context.log(group.core.name(), &Event::ProgramMoved { program, interface, place, others });
                // Programs that ran before egress still do.
                if program != "egress" {
                    state.ahead.clear();
                }
                return;
            }
            Ok(()) => {
                state.missing = None;
                state.ahead.clear();
                context.log(group.core.name(), &Event::ProgramRestored { program, interface });
                // What runs before it now is seen next time.
                return tell(group, context, member, true).await;
            }
            Err(error) if error.is_vanished() => return,
            Err(error) => {
                state.retry = time + RETRY;
                let why = error.to_string();
                if !order.is_attached && state.missing.as_ref() != Some(&why) {
                    state.missing = Some(why.clone());
                    context.log(group.core.name(), &Event::ProgramMissing { program, interface, why });
                    return tell(group, context, member, false).await;
                }
            }
        }
    }
    if order.is_attached {
        for other in order.ahead.iter().filter(|other| !state.ahead.contains(other)) {
            let (interface, other) = (state.interface.clone(), other.to_string());
            context.log(group.core.name(), &Event::ProgramAhead { program, interface, other });
        }
        state.ahead = order.ahead;
        if state.missing.take().is_some() {
            tell(group, context, member, true).await;
        }
    }
}

async fn tell(group: &mut RunningGroup, context: &mut Context<'_>, member: Option<u8>, attached: bool) {
    if let Some(member) = member {
        actions::tell(group, context, Input::Program { member, attached }).await;
    }
}

fn list(others: &[OtherProgram]) -> String {
    others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
