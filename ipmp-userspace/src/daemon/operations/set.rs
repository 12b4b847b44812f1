//! Settings that an operator changes: written to the state file first, so that the next daemon has them too.

use std::net::IpAddr;

use ipmp_common::steer::MemberSet;

use crate::daemon::{
    event_loop::Engine,
    events::{event_log::Origin, table},
    group::now,
    mpathd::Defaults,
    operations::attach::kernel,
    state_file::{SavedGroup, SavedMember, TargetState},
};
use crate::types::ProbePolicy;
use crate::{
    control::{
        Setting,
        request::{Refused, reason},
        setting::{self, Owner},
    },
    core::{self, Action, Event, Input},
    types::{CaptureMode, HashPolicy},
};

impl Engine {
    /// Changes settings of the group or the member of this name, all or none.
    pub(in crate::daemon) async fn set(
        &mut self,
        name: &str,
        settings: &[Setting],
    ) -> Result<Vec<String>, Refused> {
        let group = self.groups.values().find(|group| group.number_named(name).is_some());
        let group = group.map(|group| group.name().to_owned());
        let owner = match group {
            _ if self.groups.contains_key(name) => Owner::Group,
            Some(_) => Owner::Member,
            None => {
                let text = format!("{name} is neither a group nor a member of one; `ipmpctl show` lists all");
                return Err(Refused::new(reason::NO_SUCH_GROUP, text));
            }
        };
        let bad = |error: setting::Error| Refused::new(reason::BAD_SETTING, error.to_string());
        settings.iter().try_for_each(|setting| setting.check(name, owner)).map_err(bad)?;
        let notes = match &group {
            Some(group) if owner == Owner::Member => self.set_of_member(group, name, settings).await?,
            _ => self.set_of_group(name, settings).await?,
        };
        let words: Vec<String> = settings.iter().map(Setting::to_string).collect();
        let member = (owner == Owner::Member).then(|| name.to_owned());
        let group = group.unwrap_or_else(|| name.to_owned());
        let line = Event::SettingsChanged { group: group.clone(), member, settings: words.join(", ") };
        self.teller.say(Some(&group), &line);
        Ok(notes)
    }

    async fn set_of_group(&mut self, name: &str, settings: &[Setting]) -> Result<Vec<String>, Refused> {
        let targets = settings.iter().find_map(|setting| match setting {
            Setting::Targets(targets) => Some(targets.as_slice()),
            _ => None,
        });
        self.vet_targets(name, targets.unwrap_or_default()).await?;
        let saved = self.file.state.groups.entry(name.to_owned()).or_default();
        let before = saved.clone();
        settings.iter().for_each(|setting| saved.choose(setting));
        let result = self.file.save().map_err(|error| kernel(&error)).and_then(|()| self.apply(name));
        if let Err(refused) = result {
            self.file.state.groups.insert(name.to_owned(), before);
            self.save();
            return Err(refused);
        }
        let mut notes = self.instruct(name).await;
        notes.extend(targets.and_then(|targets| self.not_probed(name, targets)));
        Ok(notes)
    }

    /// Has the state machine of a group do as the state file says, and the defaults where that says nothing. Returns what
    /// whoever has asked for it should know. No verdict is lost.
    pub(in crate::daemon) async fn instruct(&mut self, name: &str) -> Vec<String> {
        let Some(saved) = self.file.state.groups.get(name) else { return Vec::new() };
        let settings = saved.core_settings(self.mpathd.defaults());
        let [targets, disabled] = saved.targets();
        let standbys: Vec<(u8, bool)> =
            saved.members.values().map(|member| (member.number, member.is_standby())).collect();
        let (groups, mut hands) = self.with_hands();
        let Some(group) = groups.get_mut(name) else { return Vec::new() };
        let mut events = Vec::new();
        if *group.core.settings() != settings {
            events.push(Input::Settings(settings));
        }
        let known = group.core.known_targets();
        if known.disabled != disabled {
            events.push(Input::DisabledTargets(disabled));
        }
        if known.explicit != targets {
            events.push(Input::Targets(targets));
        }
        for (member, standby) in standbys {
            if group.core.member(member).is_some_and(|known| known.standby() != standby) {
                events.push(Input::Standby { member, standby });
            }
        }
        let mut notes = Vec::new();
        for event in events {
            match group.core.handle(now(), event) {
                Ok(actions) => {
                    notes.extend(actions.iter().filter_map(|action| match action {
                        Action::Report(event @ Event::HighProbeRate { .. }, _) => {
                            Some(table::row(event).text)
                        }
                        _ => None,
                    }));
                    group.carry_out(&mut hands, actions).await;
                }
                Err(refusal) => log::error!(group = name; "{refusal}"),
            }
        }
        notes
    }

    /// Reads the defaults of all groups anew, which is what SIGHUP asks for.
    pub(in crate::daemon) async fn reread(&mut self) {
        self.teller.origin = Origin::Hangup;
        self.teller.say(None, &Event::ConfigReread);
        match self.mpathd.read() {
            Ok(lines) => lines.iter().for_each(|line| self.teller.say(None, line)),
            Err(error) => log::error!("{error}; everything stays as it was"),
        }
        for name in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.instruct(&name).await;
        }
    }

    /// Has the datapath of a group do as the state file says.
    fn apply(&mut self, name: &str) -> Result<(), Refused> {
        let Some(saved) = self.file.state.groups.get(name) else { return Ok(()) };
        let Some(group) = self.groups.get_mut(name) else { return Ok(()) };
        if group.datapath.policy() != saved.policy() {
            group.datapath.set_policy(saved.policy()).map_err(|error| kernel(&error))?;
        }
        group.datapath.set_capture(saved.capture());
        Ok(())
    }

    async fn set_of_member(
        &mut self,
        group: &str,
        name: &str,
        settings: &[Setting],
    ) -> Result<Vec<String>, Refused> {
        let members = self.file.state.groups.get_mut(group).map(|saved| &mut saved.members);
        if let Some(saved) = members.and_then(|members| members.get_mut(name)) {
            let before = saved.chosen.clone();
            settings.iter().for_each(|setting| setting.put_into(&mut saved.chosen));
            if let Err(error) = self.file.save() {
                let members = self.file.state.groups.get_mut(group).map(|saved| &mut saved.members);
                if let Some(saved) = members.and_then(|members| members.get_mut(name)) {
                    saved.chosen = before;
                }
                return Err(kernel(&error));
            }
            self.balance_weights(group).await;
        }
        Ok(self.instruct(group).await)
    }
}

impl SavedGroup {
    /// The operator sets something.
    fn choose(&mut self, setting: &Setting) {
        match setting {
            Setting::Targets(targets) => {
                let target = |&address: &IpAddr| TargetState { address, disabled: false };
                self.targets = targets.iter().map(target).collect();
            }
            setting => setting.put_into(&mut self.chosen),
        }
    }

    /// What the state machine of the group is told.
    pub(in crate::daemon) fn core_settings(&self, defaults: Defaults) -> core::Settings {
        let fdt = |setting: &Setting| match setting {
            Setting::Fdt(time) => Some(time.duration()),
            _ => None,
        };
        let failback = |setting: &Setting| match setting {
            Setting::Failback(yes) => Some(*yes),
            _ => None,
        };
        let fail_open = |setting: &Setting| match setting {
            Setting::FailOpen(yes) => Some(*yes),
            _ => None,
        };
        let usual = core::Settings::default();
        core::Settings {
            fdt: self.last(fdt).unwrap_or(defaults.fdt),
            failback: self.last(failback).unwrap_or(defaults.failback),
            fail_open: self.last(fail_open).unwrap_or(usual.fail_open),
            probe: self.probing(),
            ..usual
        }
    }

    /// Whether members without a test address are probed.
    pub(in crate::daemon) fn probing(&self) -> ProbePolicy {
        let policy = |setting: &Setting| match setting {
            Setting::Probe(policy) => Some(*policy),
            _ => None,
        };
        self.last(policy).unwrap_or_default()
    }

    /// The members that are to be standbys.
    pub(in crate::daemon) fn standbys(&self) -> MemberSet {
        self.members.values().filter(|member| member.is_standby()).map(|member| member.number).collect()
    }

    /// The targets that the operator wants probed, and those that he wants left alone.
    fn targets(&self) -> [Vec<IpAddr>; 2] {
        [false, true].map(|disabled| {
            let targets = self.targets.iter().filter(|target| target.disabled == disabled);
            targets.map(|target| target.address).collect()
        })
    }

    /// What the operator has set, or else the default, of one setting.
    fn last<T>(&self, of: impl Fn(&Setting) -> Option<T>) -> Option<T> {
        self.chosen.iter().rev().find_map(of)
    }

    /// Whether captures are shown what leaves.
    pub(in crate::daemon) fn capture(&self) -> CaptureMode {
        let mode = |setting: &Setting| match setting {
            Setting::Capture(mode) => Some(*mode),
            _ => None,
        };
        self.last(mode).unwrap_or_default()
    }

    /// How flows find their slots.
    pub(in crate::daemon) fn policy(&self) -> HashPolicy {
        let policy = |setting: &Setting| match setting {
            Setting::Hash(policy) => Some(*policy),
            _ => None,
        };
        self.last(policy).unwrap_or(crate::daemon::group::POLICY)
    }
}

impl SavedMember {
    /// Whether the operator wants it to be a standby.
    pub(in crate::daemon) fn is_standby(&self) -> bool {
        self.chosen.contains(&Setting::Standby(true))
    }

    /// The weight that the operator has given it.
    pub(in crate::daemon) fn chosen_weight(&self) -> Option<u32> {
        self.chosen.iter().rev().find_map(|setting| match setting {
            Setting::Weight(weight) => Some(*weight),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn chosen(texts: &[&str]) -> SavedGroup {
        let mut group = SavedGroup::default();
        texts.iter().for_each(|text| group.choose(&text.parse().unwrap()));
        group
    }

    #[test]
    fn a_group_does_as_it_was_set_and_else_as_the_defaults_say() {
        let defaults = Defaults { fdt: Duration::from_secs(3), failback: false };
        let settings = |texts: &[&str]| chosen(texts).core_settings(defaults);
        let usual = core::Settings::default();
        assert_eq!(settings(&[]), core::Settings { fdt: defaults.fdt, failback: false, ..usual });
        let own = ["fdt=100ms", "failback=yes", "fail-open=no", "probe=arp"];
        assert_eq!(
            settings(&own),
            core::Settings {
                fdt: Duration::from_millis(100),
                failback: true,
                fail_open: false,
                probe: ProbePolicy::Arp,
                ..usual
            }
        );
        assert_eq!(settings(&["fdt=1s", "fdt=2s"]).fdt, Duration::from_secs(2), "the last word counts");
    }

    #[test]
    fn targets_that_are_set_are_the_only_ones_and_enabled() {
        let mut group = chosen(&["targets=10.0.0.1,10.0.0.2"]);
        group.targets[0].disabled = true;
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        assert_eq!(group.targets(), [vec![ip(2)], vec![ip(1)]]);
        group.choose(&"targets=10.0.0.1".parse().unwrap());
        assert_eq!(group.targets(), [vec![ip(1)], vec![]]);
        group.choose(&"targets=auto".parse().unwrap());
        assert!(group.targets.is_empty());
    }
}
