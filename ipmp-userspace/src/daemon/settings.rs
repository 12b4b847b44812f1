//! Settings that an operator changes: written to the state file first, so that the next daemon has them too.

use super::{
    attach::kernel,
    engine::Engine,
    state::{GroupState, MemberState},
};
use crate::{
    control::{
        Setting,
        request::{Refused, reason},
        setting::{self, Owner},
    },
    core::LogLine,
};

impl Engine {
    /// Changes settings of the group or the member of this name, all or none.
    pub(super) async fn set(&mut self, name: &str, settings: &[Setting]) -> Result<Vec<String>, Refused> {
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
        match &group {
            Some(group) if owner == Owner::Member => self.set_of_member(group, name, settings).await?,
            _ => self.set_of_group(name, settings)?,
        }
        let words: Vec<String> = settings.iter().map(Setting::to_string).collect();
        let member = (owner == Owner::Member).then(|| name.to_owned());
        let group = group.unwrap_or_else(|| name.to_owned());
        let line = LogLine::Set { group: group.clone(), member, settings: words.join(", ") };
        self.teller.say(Some(&group), &line);
        Ok(Vec::new())
    }

    fn set_of_group(&mut self, name: &str, settings: &[Setting]) -> Result<(), Refused> {
        let saved = self.file.state.groups.entry(name.to_owned()).or_default();
        let before = saved.chosen.clone();
        settings.iter().for_each(|setting| setting.put_into(&mut saved.chosen));
        let result = self.file.save().map_err(|error| kernel(&error)).and_then(|()| self.apply(name));
        if result.is_err() {
            self.file.state.groups.entry(name.to_owned()).or_default().chosen = before;
            self.save();
        }
        result
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

    async fn set_of_member(&mut self, group: &str, name: &str, settings: &[Setting]) -> Result<(), Refused> {
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
        Ok(())
    }
}

impl GroupState {
    /// What the operator has set, or else the default, of one setting.
    fn last<T>(&self, of: impl Fn(&Setting) -> Option<T>) -> Option<T> {
        self.chosen.iter().rev().find_map(of)
    }

    /// Whether captures are shown what leaves.
    pub(super) fn capture(&self) -> ipmp_common::maps::Capture {
        let mode = |setting: &Setting| match setting {
            Setting::Capture(mode) => Some(*mode),
            _ => None,
        };
        self.last(mode).unwrap_or_default()
    }

    /// How flows find their slots.
    pub(super) fn policy(&self) -> ipmp_common::hash::Policy {
        let policy = |setting: &Setting| match setting {
            Setting::Hash(policy) => Some(*policy),
            _ => None,
        };
        self.last(policy).unwrap_or(super::group::POLICY)
    }
}

impl MemberState {
    /// The weight that the operator has given it.
    pub(super) fn chosen_weight(&self) -> Option<u32> {
        self.chosen.iter().rev().find_map(|setting| match setting {
            Setting::Weight(weight) => Some(*weight),
            _ => None,
        })
    }
}
