//! Flap protection: a flapping link is not used at once when it comes back.
//!
//! The rule of the reference (docs/reference.md 2.10): two link-ups within a minute are repaired at once, the third waits
//! until the second is a minute old. Here hold-downs grow: each one that soon follows another lasts twice as long, up to
//! [`Settings::longest_hold`], and the count restarts when the link has been stable for as long as the next hold-down
//! would last. Failures are never delayed.

use std::time::Duration;

use super::{settings::Settings, time::Time};

/// Link-ups within [`Settings::flap_window`] after which the next one waits (docs/reference.md 0.4, `LINK_UP_PERMIN`).
pub const UPS: u32 = 2;

/// The link-ups of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flap {
    /// The last two link-ups, the older first.
    ups: [Option<Time>; UPS as usize],
    /// Hold-downs in a row.
    strikes: u32,
    /// End of the hold-down.
    until: Option<Time>,
    /// Whether the hold-down was reported since the last repair.
    reported: bool,
}

impl Flap {
    /// An adopted member in a hold-down: the time left is unknown, so it waits a full window.
    pub fn adopted(now: Time, settings: &Settings) -> Self {
        Self { ups: [None, Some(now)], strikes: 1, until: Some(now + settings.flap_window), reported: true }
    }

    /// When the hold-down ends, if there is one.
    pub fn until(&self) -> Option<Time> {
        self.until
    }

    /// The link came up; whether it must wait.
    pub fn link_up(&mut self, now: Time, settings: &Settings) -> bool {
        let [older, newer] = self.ups;
        if newer.is_some_and(|newer| now - newer > settings.hold(self.strikes)) {
            self.strikes = 0;
        }
        let flaps = older.is_some_and(|older| now - older < settings.flap_window);
        self.ups = [newer, Some(now)];
        if flaps && self.until.is_none() {
            self.strikes += 1;
        }
        if flaps || self.until.is_some() {
            let since = newer.unwrap_or(now);
            self.until = self.until.max(Some(since + settings.hold(self.strikes - 1)));
        }
        self.until.is_some()
    }

    /// Ends the hold-down if it has expired; whether it has.
    pub fn expire(&mut self, now: Time) -> bool {
        let over = self.until.is_some_and(|until| until <= now);
        if over {
            self.until = None;
        }
        over
    }

    /// Ends the hold-down: the member is needed.
    pub fn release(&mut self) {
        self.until = None;
    }

    /// Whether the hold-down has not been reported since the last repair; from now on it has.
    pub fn is_unreported(&mut self) -> bool {
        !std::mem::replace(&mut self.reported, true)
    }

    /// The member was repaired.
    pub fn repaired(&mut self) {
        self.reported = false;
    }

    /// Forgets all link-ups, at the operator's request.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Settings {
    /// Length of the hold-down after this many others in a row.
    fn hold(&self, strikes: u32) -> Duration {
        let doubled = 1u32.checked_shl(strikes).unwrap_or(u32::MAX);
        self.flap_window.saturating_mul(doubled).min(self.longest_hold.max(self.flap_window))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn third_link_up_in_a_minute_waits_until_second_is_a_minute_old() {
        let (mut flap, settings) = (Flap::default(), Settings::default());
        assert!(!flap.link_up(at(1000), &settings));
        assert!(!flap.link_up(at(1020), &settings));
        assert!(flap.link_up(at(1050), &settings));
        assert_eq!(flap.until(), Some(at(1080)));
        assert!(!flap.expire(at(1079)) && flap.expire(at(1080)));
        assert_eq!(flap.until(), None);
    }

    #[test]
    fn link_ups_30_s_apart_are_not_flapping() {
        let (mut flap, settings) = (Flap::default(), Settings::default());
        assert!((0..100).all(|up| !flap.link_up(at(1000 + 30 * up), &settings)));
    }

    #[test]
    fn hold_downs_grow_until_link_is_stable() {
        let (mut flap, settings) = (Flap::default(), Settings::default());
        let mut now = 1000;
        let mut holds = Vec::new();
        for _ in 0..9 {
            while !flap.link_up(at(now), &settings) {
                now += 1;
            }
            let until = flap.until().unwrap();
            holds.push((until - at(now)).as_secs() + 1);
            now = until.0.as_secs();
            assert!(flap.expire(until));
        }
        assert_eq!(holds, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        now += 3601;
        while !flap.link_up(at(now), &settings) {
            now += 1;
        }
        assert_eq!(flap.until().unwrap() - at(now - 1), settings.flap_window);
    }

    proptest! {
        /// The guarantee of the reference.
        #[test]
        fn at_most_two_link_ups_are_accepted_in_a_minute(gaps in proptest::collection::vec(0..90u64, 1..60)) {
            let (mut flap, settings, mut now) = (Flap::default(), Settings::default(), 1000);
            let mut accepted: Vec<Time> = Vec::new();
            for gap in gaps {
                now += gap;
                flap.expire(at(now));
                if !flap.link_up(at(now), &settings) {
                    accepted.push(at(now));
                }
                prop_assert!(flap.until().is_none_or(|until| until > at(now)));
            }
            for three in accepted.windows(3) {
                prop_assert!(three[2] - three[0] >= settings.flap_window, "{three:?}");
            }
        }
    }
}
