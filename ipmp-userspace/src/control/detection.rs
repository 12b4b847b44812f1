//! A failure detection time as an argument: `10s`, `100ms`.

use std::{fmt, str::FromStr, time::Duration};

use super::duration::Span;
use crate::core::probe::fdt::SHORTEST;

/// Longest configurable time.
const LONGEST: Duration = Duration::from_secs(3600);

/// A failure detection time, from 10 ms to an hour. `Display` keeps the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetectionTime(Span);

/// The text is no time, or out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl DetectionTime {
    /// The valid values, as help texts show them.
    pub const VALUES: &str = "10ms..3600s";

    /// The time.
    pub fn duration(self) -> Duration {
        self.0.duration()
    }
}

impl FromStr for DetectionTime {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let time = Span::read(text).map(Self).ok_or(Unreadable)?;
        if (SHORTEST..=LONGEST).contains(&time.duration()) { Ok(time) } else { Err(Unreadable) }
    }
}

impl fmt::Display for DetectionTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_times_keep_their_text() {
        for (text, milliseconds) in [
            ("10ms", 10),
            ("100ms", 100),
            ("1500ms", 1500),
            ("1s", 1000),
            ("10s", 10_000),
            ("3600s", 3_600_000),
        ] {
            let time: DetectionTime = text.parse().unwrap();
            assert_eq!(
                (time.duration(), time.to_string()),
                (Duration::from_millis(milliseconds), text.into())
            );
        }
    }

    #[test]
    fn times_without_unit_or_out_of_range_are_refused() {
        for text in [
            "",
            "10",
            "s",
            "9ms",
            "0s",
            "3601s",
            "3600001ms",
            "1.5s",
            "-1s",
            "+1s",
            " 1s",
            "1 s",
            "1S",
            "1m",
            "10us",
            "99999999999s",
            "0x10ms",
        ] {
            assert_eq!(text.parse::<DetectionTime>(), Err(Unreadable), "{text:?}");
        }
    }
}
