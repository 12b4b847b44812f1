//! Flap protection: a link that keeps coming and going is not believed at once.
//!
//! The reference's rule (reference 2.10): two link-ups within a minute are repaired at once, the third waits until
//! the second is a minute old. Ours grows: each hold-down that follows soon after another lasts twice as long, up to
//! [`Settings::longest_hold`], and the count starts anew when the link has kept still for as long as the next hold
//! would last. Failures are never held back.

use std::time::Duration;

use super::{Settings, Time};

/// Link-ups within [`Settings::flap_window`] after which the next one waits (reference 0.4, `LINK_UP_PERMIN`).
pub const UPS: u32 = 2;

/// What is remembered of a member's link-ups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flap {
    /// The last two link-ups, the older first.
    ups: [Option<Time>; UPS as usize],
    /// Hold-downs in a row.
    strikes: u32,
    /// Held down until then.
    until: Option<Time>,
    /// Whether the hold-down has been said since the last repair.
    said: bool,
}

impl Flap {
    /// A member that was found held down: for how long yet is not known, so it waits a full window.
    pub fn adopted(now: Time, settings: &Settings) -> Self {
        Self { ups: [None, Some(now)], strikes: 1, until: Some(now + settings.flap_window), said: true }
    }

    /// When the hold-down ends, if there is one.
    pub fn until(&self) -> Option<Time> {
        self.until
    }

    /// The link came up: whether it must wait.
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

    /// Ends the hold-down if its time has come; whether it has.
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

    /// Whether the hold-down is still to be said; it is said once until the next repair.
    pub fn say(&mut self) -> bool {
        !std::mem::replace(&mut self.said, true)
    }

    /// The member was repaired.
    pub fn repaired(&mut self) {
        self.said = false;
    }

    /// Forgets everything: the operator knows better.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Settings {
    /// How long the hold-down after this many others in a row lasts.
    fn hold(&self, strikes: u32) -> Duration {
        let doubled = 1u32.checked_shl(strikes).unwrap_or(u32::MAX);
        self.flap_window.saturating_mul(doubled).min(self.longest_hold.max(self.flap_window))
    }
}
