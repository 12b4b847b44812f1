//! Declared test addresses that another program removed are added again; if that happens again and again, the conflict is
//! reported, and the address is added after a pause.

use std::{net::IpAddr, time::Duration};

use rtnetlink::packet_route::link::LinkFlags;

use super::{Error, add, saved};
use crate::{
    control::{TestAddressSpec, duration::short},
    core::{Event, Time},
    daemon::{
        clock::now,
        group::{Context, RunningGroup},
    },
    link::{Address, Device},
};

/// Time from a removal until the address is added again: `ip address flush` deletes until none is left, and a program that
/// replaces an address adds it itself.
const PAUSE: Duration = Duration::from_millis(500);
/// How often an address is added again within [`WINDOW`].
const TIMES: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// How often other programs removed one declared address, or its routing rule.
#[derive(Clone, Debug, Default)]
pub struct Removals {
    /// When they removed it.
    times: Vec<Time>,
    /// When it is added again, while it is missing.
    due: Option<Time>,
    /// Why it is missing longer than [`PAUSE`].
    conflict: Option<String>,
}

impl Removals {
    /// When a missing address is added again.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// Why it is missing, in a sentence that begins with what is missing.
    pub fn message(&self, missing: &str) -> Option<String> {
        let pause = short(self.due? - now());
        let why = self.conflict.as_ref()?;
        Some(format!("{missing}: {why}; it is added again in {pause}"))
    }

    /// Another program removed it. Returns why it is not added again soon.
    pub fn removed(&mut self, time: Time) -> Option<String> {
        self.times.retain(|removed| time - *removed < WINDOW);
        self.times.push(time);
        self.due = Some(time + PAUSE);
        (self.times.len() > TIMES)
            .then(|| format!("another program has removed it {} times within a minute", self.times.len()))
    }

    /// It is not added again soon. Returns whether that is new.
    pub fn delay(&mut self, time: Time, why: &str) -> bool {
        self.due = Some(time + WINDOW);
        self.conflict.replace(why.to_owned()).as_deref() != Some(why)
    }

    /// It could not be added when it was due.
    pub fn postpone(&mut self, time: Time) {
        if self.due.is_some_and(|due| due <= time) {
            self.due = Some(time + PAUSE);
        }
    }

    /// It is present.
    pub fn present(&mut self) {
        (self.due, self.conflict) = (None, None);
    }
}

/// Adds configured addresses that were lost while the interface was down, or that another program removed. Returns all
/// addresses of the member.
pub async fn put_back(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    number: u8,
    device: &Device,
) -> Result<Vec<Address>, Error> {
    let up = device.flags.contains(LinkFlags::Up);
    let present = context.links.addresses_of(device.ifindex)?;
    let Some(name) = group.members.get(&number).map(|member| member.name.clone()) else { return Ok(present) };
    let record = saved(context.file, group.name(), &name);
    let named = record.map(|saved| saved.named.clone()).unwrap_or_default();
    let mut has_added = false;
    for declared in named {
        let Some(ip) = declared.address().map(|address| address.address()) else { continue };
        let state = group.test_addresses.member(number);
        if !up {
            state.seen.remove(&ip);
            state.removals.remove(&ip);
        } else if present.iter().any(|address| address.ip == ip) {
            state.seen.insert(ip);
            if let Some(removals) = state.removals.get_mut(&ip) {
                removals.present();
            }
        } else {
            has_added |= put_back_one(group, context, (number, &name), declared, ip).await?;
        }
    }
    group.test_addresses.member(number).up = up;
    if has_added { Ok(context.links.addresses_of(device.ifindex)?) } else { Ok(present) }
}

/// Adds one missing address, or reports why not. Returns whether it was added.
async fn put_back_one(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    (number, name): (u8, &str),
    declared: TestAddressSpec,
    ip: IpAddr,
) -> Result<bool, Error> {
    let time = now();
    let state = group.test_addresses.member(number);
    // Present before: another program removed it.
    if state.seen.remove(&ip) {
        if let Some(why) = state.removals.entry(ip).or_default().removed(time) {
            report_conflict(group, context, (number, name), ip, why);
        }
        return Ok(false);
    }
    let due = state.removals.get(&ip).and_then(Removals::due);
    if due.is_some_and(|due| due > time) {
        return Ok(false);
    }
    match add(group, context, number, declared).await {
        Ok(()) => {
            let state = group.test_addresses.member(number);
            state.seen.insert(ip);
            if let Some(removals) = state.removals.get_mut(&ip) {
                removals.present();
            }
            if due.is_some() {
                let line = Event::TestAddressRestored { member: name.to_owned(), address: ip };
                context.log(group.name(), &line);
            }
            Ok(true)
        }
        Err(Error::Link(error)) if !error.is_missing() => {
            report_conflict(group, context, (number, name), ip, error.to_string());
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn report_conflict(
    group: &mut RunningGroup,
    context: &Context<'_>,
    (number, member): (u8, &str),
    address: IpAddr,
    why: String,
) {
    let removals = group.test_addresses.member(number).removals.entry(address).or_default();
    if removals.delay(now(), &why) {
        let line = Event::TestAddressConflict { member: member.to_owned(), address, why };
        context.log(group.name(), &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_removed_four_times_within_a_minute_is_a_conflict() {
        let at = |seconds: u64| Time(Duration::from_secs(1000 + seconds));
        let mut removals = Removals::default();
        for seconds in [0, 1, 2u64] {
            assert_eq!(removals.removed(at(seconds)), None);
        }
        assert!(removals.removed(at(3)).is_some());
        // Only one of them was in the last minute.
        assert_eq!(removals.removed(at(62)), None);
        assert_eq!(removals.due(), Some(at(62) + PAUSE));
        removals.postpone(at(62));
        assert_eq!(removals.due(), Some(at(62) + PAUSE));
        removals.postpone(at(70));
        assert_eq!(removals.due(), Some(at(70) + PAUSE));
        assert!(removals.delay(at(71), "REASON") && !removals.delay(at(72), "REASON"));
        assert_eq!(removals.due(), Some(at(72) + WINDOW));
        removals.present();
        assert_eq!(removals.due(), None);
    }
}
