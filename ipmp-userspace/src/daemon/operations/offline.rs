//! `ipmpctl offline` and `ipmpctl online`.

use super::refusals::not_a_member;
use crate::{
    control::request::{Refused, reason},
    core::{Input, Refusal},
    daemon::{
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
    actions::feed(group, &mut context, event(number)).await.map_err(|refusal| {
        let reason = match refusal {
            Refusal::LastFunctioning(_) => reason::LAST_FUNCTIONING,
            Refusal::AlreadyOffline(_) => reason::ALREADY_OFFLINE,
            Refusal::NotOffline(_) => reason::NOT_OFFLINE,
            Refusal::DuplicateMac(_) => reason::DUPLICATE_MAC,
        };
        Refused::new(reason, refusal.to_string())
    })?;
    absence::record(group, &mut context, number);
    Ok(Vec::new())
}
