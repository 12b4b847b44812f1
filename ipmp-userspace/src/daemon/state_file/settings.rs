//! Settings of the operator in saved records, and their defaults.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipmp_common::{
    hash::HashPolicy,
    maps::{CaptureMode, SHORT_UPDELAY_NS, updelay_ns, updelay_word},
    steer::MemberSet,
};

use super::{SavedGroup, SavedMember, SavedTarget};
use crate::{
    announce::Pace,
    control::Setting,
    core::{self},
    daemon::mpathd::Defaults,
    types::{ProbePolicy, SysctlPolicy, XdpMode},
};

/// The value of a setting where it is chosen; of several the last.
macro_rules! chosen {
    ($settings:expr, $setting:ident) => {
        $settings.iter().rev().find_map(|setting| match setting {
            Setting::$setting(value) => Some(*value),
            _ => None,
        })
    };
}

/// Weight of a member whose speed is unknown: that of 1 Gbit/s.
pub const DEFAULT_WEIGHT: u32 = 1000;

/// How long links must be up before their members are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updelays {
    /// Of members without their own.
    pub group: Duration,
    /// Of single members, by number.
    pub own: BTreeMap<u8, Duration>,
}

impl Updelays {
    /// The delay of a member; `alone`: no member of its group is live.
    pub fn of(&self, member: u8, alone: bool) -> Duration {
        let own = self.own.get(&member).map(|delay| delay.as_millis() as u32);
        Duration::from_nanos(updelay_ns(updelay_word(own), self.group.as_nanos() as u64, alone))
    }
}

impl Default for Updelays {
    fn default() -> Self {
        Self { group: Duration::from_nanos(SHORT_UPDELAY_NS), own: BTreeMap::new() }
    }
}

impl SavedGroup {
    /// Stores a setting of the operator.
    pub fn choose(&mut self, setting: &Setting) {
        match setting {
            Setting::Targets(targets) => {
                let target = |&address: &IpAddr| SavedTarget { address, disabled: false };
                self.targets = targets.iter().map(target).collect();
            }
            setting => setting.put_into(&mut self.chosen),
        }
    }

    /// The settings of the state machine.
    pub fn core_settings(&self, defaults: Defaults) -> core::Settings {
        let chosen = &self.chosen;
        let seconds = |seconds: u16| Duration::from_secs(seconds.into());
        let usual = core::Settings::default();
        core::Settings {
            fdt: chosen!(chosen, Fdt).map_or(defaults.fdt, |time| time.duration()),
            failback: chosen!(chosen, Failback).unwrap_or(defaults.failback.into()),
            failback_limit: chosen!(chosen, FailbackLimit).map_or(usual.failback_limit, seconds),
            confirm: chosen!(chosen, Confirm).unwrap_or(usual.confirm),
            evidence: chosen!(chosen, Evidence).unwrap_or(usual.evidence),
            fail_open: chosen!(chosen, FailOpen).unwrap_or(usual.fail_open),
            probe: self.probing(),
            split: chosen!(chosen, Split).unwrap_or(usual.split),
            loss_warn: chosen!(chosen, LossWarn).unwrap_or(usual.loss_warn),
            loss_fail: chosen!(chosen, LossFail).unwrap_or(usual.loss_fail),
            ..usual
        }
    }

    /// Whether the sources of TCP connections are spread over the data addresses.
    pub fn spreads_sources(&self) -> bool {
        chosen!(self.chosen, SourceSpread).unwrap_or(false)
    }

    /// Whether `ipmp-ifconfig` shows the group as classic IPMP does.
    pub fn is_classic(&self) -> bool {
        chosen!(self.chosen, Classic).unwrap_or_default()
    }

    /// Whether, and how, members without a test address are probed.
    pub fn probing(&self) -> ProbePolicy {
        chosen!(self.chosen, Probe).unwrap_or_default()
    }

    /// What happens to kernel settings that another program changes.
    pub fn sysctl_policy(&self) -> SysctlPolicy {
        chosen!(self.chosen, ManageSysctls).unwrap_or_default()
    }

    /// Updates the weights of the members, and returns them by number.
    pub fn update_weights(&mut self) -> Vec<(u8, u32)> {
        // The speed of an interface that never existed is read when it appears.
        let is_expected = |member: &&SavedMember| member.absent.is_some() && member.speed.is_none();
        let guessed = self.members.values().filter(|member| member.chosen_weight().is_none());
        let mut guessed = guessed.filter(|member| !is_expected(member));
        let all_known = guessed.all(|member| member.speed.is_some());
        for member in self.members.values_mut() {
            let speed = || member.speed.filter(|_| all_known);
            member.weight = member.chosen_weight().or_else(speed).unwrap_or(DEFAULT_WEIGHT);
        }
        self.members.values().map(|member| (member.number, member.weight)).collect()
    }

    /// The standby members.
    pub fn standbys(&self) -> MemberSet {
        self.members.values().filter(|member| member.is_standby()).map(|member| member.number).collect()
    }

    /// The explicit targets that are not probed.
    pub fn disabled_targets(&self) -> Vec<IpAddr> {
        let [_, disabled] = self.targets();
        disabled
    }

    /// The enabled and the disabled explicit targets.
    pub fn targets(&self) -> [Vec<IpAddr>; 2] {
        [false, true].map(|disabled| {
            let targets = self.targets.iter().filter(|target| target.disabled == disabled);
            targets.map(|target| target.address).collect()
        })
    }

    /// How long links must be up before their members are used.
    pub fn updelays(&self) -> Updelays {
        let own = |member: &SavedMember| Some((member.number, chosen!(member.chosen, Updelay)?.duration()));
        let group = chosen!(self.chosen, Updelay).map(|delay| delay.duration());
        Updelays {
            group: group.unwrap_or(Updelays::default().group),
            own: self.members.values().filter_map(own).collect(),
        }
    }

    /// The members that drop frames before the kernel handles them, by number.
    pub fn early_drops(&self) -> BTreeMap<u8, XdpMode> {
        let members = self.members.values().map(|member| (member.number, member.xdp()));
        members.filter(|(_, mode)| *mode != XdpMode::Off).collect()
    }

    /// Whether captures on the group interface show outgoing packets.
    pub fn capture(&self) -> CaptureMode {
        chosen!(self.chosen, Capture).unwrap_or_default()
    }

    /// How the addresses are announced.
    pub fn announce_pace(&self) -> Pace {
        let mut pace = Pace::default();
        for setting in &self.chosen {
            match setting {
                Setting::AddressDetection(detect) => pace.detect = *detect,
                Setting::AnnounceCount(count) => pace.count = *count,
                Setting::AnnounceInterval(seconds) => pace.interval = Duration::from_secs((*seconds).into()),
                Setting::AnnounceRate(rate) => pace.rate = *rate,
                _ => {}
            }
        }
        pace
    }

    /// How flows are distributed.
    pub fn hash_policy(&self) -> HashPolicy {
        chosen!(self.chosen, Hash).unwrap_or(HashPolicy::Connection)
    }
}

impl SavedMember {
    /// Whether it is configured as a standby.
    pub fn is_standby(&self) -> bool {
        self.chosen.contains(&Setting::Standby(true))
    }

    /// Whether it drops frames before the kernel handles them.
    pub fn xdp(&self) -> XdpMode {
        chosen!(self.chosen, Xdp).unwrap_or_default()
    }

    /// The weight that the operator has set.
    pub fn chosen_weight(&self) -> Option<u32> {
        chosen!(self.chosen, Weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Confirm, Failback, Percent, SplitPolicy};

    fn chosen(texts: &[&str]) -> SavedGroup {
        let mut group = SavedGroup::default();
        texts.iter().for_each(|text| group.choose(&text.parse().unwrap()));
        group
    }

    #[test]
    fn group_settings_override_defaults() {
        let defaults = Defaults { fdt: Duration::from_secs(3), failback: false };
        let settings = |texts: &[&str]| chosen(texts).core_settings(defaults);
        let usual = core::Settings::default();
        assert_eq!(settings(&[]), core::Settings { fdt: defaults.fdt, failback: Failback::No, ..usual });
        let own = [
            "fdt=100ms",
            "confirm=even",
            "evidence=off",
            "failback=idle",
            "failback-limit=60s",
            "fail-open=no",
            "probe=arp",
            "split=keep",
            "loss-warn=off",
            "loss-fail=2.5%",
        ];
        assert_eq!(
            settings(&own),
            core::Settings {
                fdt: Duration::from_millis(100),
                confirm: Confirm::Even,
                evidence: false,
                failback: Failback::Idle,
                failback_limit: Duration::from_secs(60),
                fail_open: false,
                probe: ProbePolicy::Arp,
                split: SplitPolicy::Keep,
                loss_warn: None,
                loss_fail: Some(Percent::of(0.025)),
                ..usual
            }
        );
        assert_eq!(settings(&["fdt=1s", "fdt=2s"]).fdt, Duration::from_secs(2), "the last value counts");
    }

    #[test]
    fn announcements_are_paced_as_set() {
        assert_eq!(chosen(&[]).announce_pace(), Pace::default());
        let own = ["announce-rate=15", "announce-count=2", "announce-interval=3s", "address-detection=yes"];
        let pace = Pace { rate: Some(15), count: Some(2), interval: Duration::from_secs(3), detect: true };
        assert_eq!(chosen(&own).announce_pace(), pace);
        let again = ["announce-rate=15", "announce-count=2", "announce-rate=auto", "announce-count=auto"];
        assert_eq!(chosen(&again).announce_pace(), Pace::default());
    }

    #[test]
    fn own_updelay_of_member_precedes_that_of_group() {
        let ms = Duration::from_millis;
        assert_eq!(chosen(&[]).updelays(), Updelays { group: ms(200), own: BTreeMap::new() });
        let mut group = chosen(&["updelay=35s"]);
        for (number, setting) in [(0, "updelay=0ms"), (1, "standby=on")] {
            let member = serde_json::json!({
                "number": number, "name": "", "ifindex": 0, "weight": 1, "speed": null, "settings": [],
                "was_down": false, "chosen": [setting],
            });
            group.members.insert(number, serde_json::from_value(member).unwrap());
        }
        let updelays = group.updelays();
        assert_eq!([0, 1].map(|member| updelays.of(member, false)), [ms(0), ms(35_000)]);
        assert_eq!([0, 1].map(|member| updelays.of(member, true)), [ms(0), ms(200)]);
    }

    #[test]
    fn set_targets_replaces_all_targets_and_enables_them() {
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
