//! An updelay as an argument: `200ms`, `35s`.

use std::{fmt, str::FromStr, time::Duration};

use super::detection::Unreadable;
use super::duration::Span;

/// Longest configurable time.
const LONGEST: Duration = Duration::from_secs(600);

/// How long a link must be up before its member is used, from 0 to ten minutes. `Display` keeps the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkDelay(Span);

impl LinkDelay {
    /// The valid values, as help texts show them.
    pub const VALUES: &str = "0ms..600s";

    /// The time.
    pub fn duration(self) -> Duration {
        self.0.duration()
    }
}

impl FromStr for LinkDelay {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let delay = Span::read(text).map(Self).ok_or(Unreadable)?;
        if delay.duration() <= LONGEST { Ok(delay) } else { Err(Unreadable) }
    }
}

impl fmt::Display for LinkDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_from_zero_to_ten_minutes_with_unit() {
        for (text, milliseconds) in
            [("0ms", 0), ("0s", 0), ("1ms", 1), ("35s", 35_000), ("600s", 600_000), ("600000ms", 600_000)]
        {
            let delay: LinkDelay = text.parse().unwrap();
            let expected = (Duration::from_millis(milliseconds), text.to_owned());
            assert_eq!((delay.duration(), delay.to_string()), expected);
        }
        for text in ["", "0", "600", "601s", "600001ms", "-1s", "1.5s", "1m", "99999999999s"] {
            assert_eq!(text.parse::<LinkDelay>(), Err(Unreadable), "{text:?}");
        }
    }
}
