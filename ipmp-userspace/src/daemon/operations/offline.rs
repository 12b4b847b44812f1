//! `ipmpctl offline` and `ipmpctl online`.

use std::time::Duration;

use super::refusals::not_a_member;
use crate::{
    control::request::{Refused, reason},
    core::{Input, Refusal},
    daemon::{
        clock::now,
        events::trigger::Trigger,
        group::{Context, RunningGroup, absence, actions},
        manager::Manager,
    },
};

/// Takes a member out of service.
pub async fn offline(manager: &mut Manager, trigger: &Trigger, member: &str) -> Result<Vec<String>, Refused> {
    feed(manager, trigger, member, None, |member| Input::Offline { member }).await
}

/// Takes a member out of service once no flow is active on it, or after so many seconds. The next daemon continues.
pub async fn drain(
    manager: &mut Manager,
    trigger: &Trigger,
    member: &str,
    seconds: u16,
) -> Result<Vec<String>, Refused> {
    let limit = Duration::from_secs(seconds.into());
    feed(manager, trigger, member, Some(limit), |member| Input::Drain { member, limit }).await
}

/// Puts an offline member back into service.
pub async fn online(manager: &mut Manager, trigger: &Trigger, member: &str) -> Result<Vec<String>, Refused> {
    feed(manager, trigger, member, None, |member| Input::Online { member }).await
}

async fn feed(
    manager: &mut Manager,
    trigger: &Trigger,
    member: &str,
    drain: Option<Duration>,
    event: impl FnOnce(u8) -> Input,
) -> Result<Vec<String>, Refused> {
    let (groups, mut context) = manager.context(trigger);
    let found = groups.values_mut().find_map(|group| {
        let number = group.number_named(member)?;
        Some((group, number))
    });
    let (group, number) = found.ok_or_else(|| not_a_member(member))?;
    actions::feed(group, &mut context, event(number)).await.map_err(|refusal| refused(&refusal))?;
    absence::record(group, &mut context, number);
    record_drain(group, &mut context, number, drain);
    Ok(Vec::new())
}

/// Records until when a member is drained, or that it is not. A daemon that is killed before has not replied.
fn record_drain(group: &RunningGroup, context: &mut Context<'_>, number: u8, drain: Option<Duration>) {
    let Some(saved) = context.file.state.groups.get_mut(group.name()) else { return };
    let Some(saved) = saved.members.get_mut(&number) else { return };
    let until = drain.map(|limit| (now() + limit).0.as_millis() as u64);
    if std::mem::replace(&mut saved.drained_until_ms, until) != until {
        context.file.save_or_log();
    }
}

/// Refuses what the group would refuse. Returns its name.
pub fn check(manager: &Manager, member: &str, event: impl FnOnce(u8) -> Input) -> Result<String, Refused> {
    let group = manager.group_of(member).ok_or_else(|| not_a_member(member))?;
    let number = group.number_named(member).ok_or_else(|| not_a_member(member))?;
    group.core.clone().handle(now(), event(number)).map_err(|refusal| refused(&refusal))?;
    Ok(group.name().to_owned())
}

fn refused(refusal: &Refusal) -> Refused {
    let reason = match refusal {
        Refusal::LastFunctioning(_) => reason::LAST_FUNCTIONING,
        Refusal::AlreadyOffline(_) => reason::ALREADY_OFFLINE,
        Refusal::NotOffline(_) => reason::NOT_OFFLINE,
        Refusal::DuplicateMac(_) => reason::DUPLICATE_MAC,
    };
    Refused::new(reason, refusal.to_string())
}
