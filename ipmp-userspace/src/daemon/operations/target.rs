//! Whom the operator wants probed: targets are written to the state file first, as settings are.

use std::net::IpAddr;

use crate::daemon::{
    event_loop::Engine,
    group::Group,
    operations::attach::{kernel, no_such_group},
    state_file::TargetState,
};
use crate::{
    control::{
        DataAddress, TargetReport,
        address::Error as AddressError,
        request::{Refused, reason},
        target::{self, Prober},
    },
    core::{
        Event, Input,
        probe::{ProbeSource, same_subnet},
    },
    types::{Family, TargetSource},
};

/// What is to become of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Wish {
    Add,
    Remove,
    Enable,
    Disable,
}

impl Engine {
    /// Changes the targets that the operator has named, all or none.
    pub(in crate::daemon) async fn change_targets(
        &mut self,
        group: &str,
        addresses: &[IpAddr],
        wish: Wish,
    ) -> Result<Vec<String>, Refused> {
        let known = self.groups.get(group).ok_or_else(|| no_such_group(group))?;
        let before = self.file.state.groups.get(group).map(|saved| saved.targets.clone()).unwrap_or_default();
        let (targets, mut notes) = changed(known, &before, addresses, wish)?;
        if wish == Wish::Add {
            self.vet_targets(group, addresses).await?;
        }
        self.save_targets(group, targets, before)?;
        notes.extend(self.instruct(group).await);
        if wish == Wish::Add || wish == Wish::Enable {
            notes.extend(self.not_probed(group, addresses));
        }
        Ok(notes)
    }

    fn save_targets(
        &mut self,
        group: &str,
        targets: Vec<TargetState>,
        before: Vec<TargetState>,
    ) -> Result<(), Refused> {
        let line =
            Event::SettingsChanged { group: group.to_owned(), member: None, settings: words(&targets) };
        self.file.state.groups.entry(group.to_owned()).or_default().targets = targets;
        if let Err(error) = self.file.save() {
            self.file.state.groups.entry(group.to_owned()).or_default().targets = before;
            return Err(kernel(&error));
        }
        self.teller.say(Some(group), &line);
        Ok(())
    }

    /// Refuses targets that are this host's own, or cannot be on the link of the group.
    pub(in crate::daemon) async fn vet_targets(
        &self,
        group: &str,
        addresses: &[IpAddr],
    ) -> Result<(), Refused> {
        let known = self.groups.get(group).ok_or_else(|| no_such_group(group))?;
        let there = self.links.addresses().await.map_err(|error| kernel(&error))?;
        let bad = |text: String| Err(Refused::new(reason::BAD_TARGET, text));
        for &address in addresses {
            if let Some((index, _)) = there.iter().find(|(_, own)| own.ip == address) {
                let device = self.links.device(*index).await.ok().flatten();
                let on = device.map_or_else(|| format!("interface {index}"), |device| device.name);
                return bad(format!("{address} is this host's own address, on {on}: name another host"));
            }
            let own = there.iter().filter(|(index, _)| known.is_own_device(*index)).map(|(_, own)| own);
            let own = own.filter(|own| own.ip.is_ipv4() == address.is_ipv4());
            let subnets: Vec<(IpAddr, u8)> = own.map(|own| (own.ip, own.prefix)).collect();
            // Whoever adds the targets before the addresses knows where they will be.
            if subnets.is_empty() {
                continue;
            }
            let Some((_, prefix)) = subnets.iter().find(|(own, prefix)| same_subnet(*own, address, *prefix))
            else {
                let mut subnets: Vec<String> = subnets.iter().map(|subnet| subnet_of(*subnet)).collect();
                subnets.sort_unstable();
                subnets.dedup();
                return bad(format!(
                    "{address} is not on the link of {group}, which reaches {}: name a host there, or give {group} or \
                     its members addresses of that subnet first",
                    subnets.join(" and ")
                ));
            };
            if let Err(error @ AddressError::OfNetwork { .. }) = DataAddress::new(address, *prefix) {
                return bad(error.to_string());
            }
        }
        Ok(())
    }

    /// A note on those of these targets that no member can probe.
    pub(in crate::daemon) fn not_probed(&self, group: &str, addresses: &[IpAddr]) -> Option<String> {
        let known = self.groups.get(group)?;
        let policy = known.core.settings().probe;
        let members = known.core.members();
        let missed = addresses.iter().filter(|&&address| {
            let family = Family::of(address);
            let means = |member: &crate::core::member::Member| {
                ProbeSource::of(family, member.test_address(family), policy)
            };
            !members.iter().any(|member| means(member).is_some_and(|means| means.reaches(family, address)))
        });
        let missed: Vec<&IpAddr> = missed.collect();
        if members.is_empty() || missed.is_empty() {
            return None;
        }
        let list: Vec<String> = missed.iter().map(ToString::to_string).collect();
        let by = if missed.iter().all(|address| address.is_ipv4()) { "arp" } else { "auto" };
        Some(format!(
            "no member probes {} yet: \
             give members test addresses in the same subnet (`ipmpctl test-address add`), or \
             probe without any by `ipmpctl set {group} probe={by}`",
            list.join(", ")
        ))
    }

    /// Has hosts looked for now.
    pub(in crate::daemon) async fn discover(&mut self, group: &str) -> Result<Vec<String>, Refused> {
        let known = self.groups.get(group).ok_or_else(|| no_such_group(group))?;
        let mut probers =
            known.core.members().iter().flat_map(|member| {
                Family::ALL.into_iter().filter_map(|family| member.prober(family)?.means())
            });
        if !probers.any(|means| matches!(means, ProbeSource::Echo { .. })) {
            return Err(Refused::new(
                reason::NO_TEST_ADDRESS,
                format!(
                    "no member of {group} has a test address to look for hosts from: \
                     give members test addresses (`ipmpctl test-address add`), or \
                     name targets with `ipmpctl target add`"
                ),
            ));
        }
        let (groups, mut hands) = self.with_hands();
        if let Some(group) = groups.get_mut(group) {
            group.tell(&mut hands, Input::Discover).await;
        }
        Ok(Vec::new())
    }

    /// The targets that a group knows.
    pub(in crate::daemon) fn list_targets(&self, group: &str) -> Result<Vec<TargetReport>, Refused> {
        let known = self.groups.get(group).ok_or_else(|| no_such_group(group))?;
        let named =
            self.file.state.groups.get(group).map(|saved| saved.targets.as_slice()).unwrap_or_default();
        let targets = known.core.known_targets();
        let mut reports: Vec<TargetReport> = Vec::new();
        let named = named.iter().map(|target| (target.address, TargetSource::Explicit));
        let found = [
            (&targets.hosts, TargetSource::HostRoute),
            (&targets.routers, TargetSource::Router),
            (&targets.answering, TargetSource::Multicast),
        ];
        let found = found.iter().flat_map(|(list, source)| list.iter().map(|address| (*address, *source)));
        for (address, source) in named.chain(found) {
            if reports.iter().all(|report| report.address != address) {
                reports.push(TargetReport {
                    address,
                    source,
                    enabled: !targets.disabled.contains(&address),
                    answered: targets.answering.contains(&address),
                    members: probers(known, address),
                });
            }
        }
        Ok(reports)
    }
}

/// The targets that there are then, and notes.
fn changed(
    group: &Group,
    before: &[TargetState],
    addresses: &[IpAddr],
    wish: Wish,
) -> Result<(Vec<TargetState>, Vec<String>), Refused> {
    let (mut targets, mut notes) = (before.to_vec(), Vec::new());
    for &address in addresses {
        let at = targets.iter().position(|target| target.address == address);
        match (wish, at) {
            (Wish::Add, None) => targets.push(TargetState { address, disabled: false }),
            (Wish::Add, Some(at)) => return Err(already(group.name(), &targets[at])),
            (_, None) => return Err(not_named(group, address)),
            (Wish::Remove, Some(at)) => drop(targets.remove(at)),
            (Wish::Enable | Wish::Disable, Some(at)) => {
                let disabled = wish == Wish::Disable;
                if std::mem::replace(&mut targets[at].disabled, disabled) == disabled {
                    let what = if disabled { "disabled" } else { "enabled" };
                    notes.push(format!("{address} is {what} already"));
                }
            }
        }
    }
    if targets.len() > target::MOST {
        return Err(Refused::new(reason::BAD_TARGET, target::Error::Many.to_string()));
    }
    Ok((targets, notes))
}

fn already(group: &str, target: &TargetState) -> Refused {
    let address = target.address;
    let remedy = if target.disabled {
        format!(", and disabled: `ipmpctl target enable {address} --group {group}` has it probed again")
    } else {
        format!("; `ipmpctl target list --group {group}` lists all")
    };
    Refused::new(reason::TARGET_EXISTS, format!("{address} is a target of {group} already{remedy}"))
}

fn not_named(group: &Group, address: IpAddr) -> Refused {
    let (name, known) = (group.name(), group.core.known_targets());
    let found = [
        (&known.hosts, "a host route leads to it"),
        (&known.routers, "it is a router"),
        (&known.answering, "it answered a multicast probe"),
    ];
    let found = found.iter().find(|(list, _)| list.contains(&address));
    let text = match found {
        Some((_, how)) => format!(
            "{address} was not added to the targets of {name}, but found: {how}; add it first, and it is yours to change"
        ),
        None => format!("{address} is no target of {name}; `ipmpctl target list --group {name}` lists all"),
    };
    Refused::new(reason::NO_SUCH_TARGET, text)
}

/// What a target is to the members that choose it.
fn probers(group: &Group, address: IpAddr) -> Vec<Prober> {
    let members = group.core.members().iter();
    members
        .filter_map(|member| {
            let target = member.prober(Family::of(address))?.targets().get(address)?;
            Some(Prober {
                member: member.name().to_owned(),
                status: target.status.into(),
                rtt_us: target.rtt.average().map(|rtt| rtt.as_micros() as u64),
            })
        })
        .collect()
}

/// As it is said that targets were set.
fn words(targets: &[TargetState]) -> String {
    let word = |target: &TargetState| {
        let disabled = if target.disabled { " (disabled)" } else { "" };
        format!("{}{disabled}", target.address)
    };
    let list: Vec<String> = targets.iter().map(word).collect();
    if list.is_empty() { "targets=auto".to_owned() } else { format!("targets={}", list.join(",")) }
}

/// The subnet of an address.
fn subnet_of((address, prefix): (IpAddr, u8)) -> String {
    let network = match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::from((u32::from(v4) & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::from((u128::from(v6) & mask).to_be_bytes())
        }
    };
    format!("{network}/{prefix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_named_by_their_first_address() {
        for (address, prefix, subnet) in [
            ("192.168.178.200", 24, "192.168.178.0/24"),
            ("192.168.178.200", 32, "192.168.178.200/32"),
            ("10.1.2.3", 0, "0.0.0.0/0"),
            ("2001:db8::21", 64, "2001:db8::/64"),
            ("2001:db8::21", 0, "::/0"),
        ] {
            assert_eq!(subnet_of((address.parse().unwrap(), prefix)), subnet);
        }
    }

    #[test]
    fn what_was_set_is_said_with_what_is_left_alone() {
        let target = |address: &str, disabled| TargetState { address: address.parse().unwrap(), disabled };
        assert_eq!(words(&[]), "targets=auto");
        assert_eq!(
            words(&[target("10.0.0.1", false), target("10.0.0.2", true)]),
            "targets=10.0.0.1,10.0.0.2 (disabled)"
        );
    }
}
