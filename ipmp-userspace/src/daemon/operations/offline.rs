//! `ipmpctl offline` and `ipmpctl online`.

use super::refusals::not_a_member;
use crate::{
    control::request::{Refused, reason},
    core::{Input, Refusal},
    daemon::{
        clock::now,
        events::trigger::Trigger,
        group::{absence, actions},
        manager::Manager,
    },
};

/// Takes a member out of service.
pub async fn offline(manager: &mut Manager, trigger: &Trigger, member: &str) -> Result<Vec<String>, Refused> {
    feed(manager, trigger, member, |member| Input::Offline { member }).await
}

/// Puts an offline member back into service.
pub async fn online(manager: &mut Manager, trigger: &Trigger, member: &str) -> Result<Vec<String>, Refused> {
    feed(manager, trigger, member, |member| Input::Online { member }).await
}

async fn feed(
    manager: &mut Manager,
    trigger: &Trigger,
    member: &str,
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
    Ok(Vec::new())
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
