//! A failure detection time as an argument: `10s`, `100ms`.

use std::{fmt, str::FromStr, time::Duration};

use crate::core::probe::fdt::SHORTEST;

/// Longest configurable time.
const LONGEST: Duration = Duration::from_secs(3600);

/// A failure detection time, from 10 ms to an hour. `Display` keeps the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetectionTime {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    Seconds,
}

/// The text is not a failure detection time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl DetectionTime {
    /// The valid values, as help texts show them.
    pub const VALUES: &str = "10ms..3600s";

    /// The time.
    pub fn duration(self) -> Duration {
        match self.unit {
            Unit::Milliseconds => Duration::from_millis(self.count.into()),
            Unit::Seconds => Duration::from_secs(self.count.into()),
        }
    }
}

impl FromStr for DetectionTime {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(Unreadable)?;
        let unit = match &text[digits..] {
            "ms" => Unit::Milliseconds,
            "s" => Unit::Seconds,
            _ => return Err(Unreadable),
        };
        let count = text[..digits].parse().map_err(|_| Unreadable)?;
        let time = Self { count, unit };
        if (SHORTEST..=LONGEST).contains(&time.duration()) { Ok(time) } else { Err(Unreadable) }
    }
}

impl fmt::Display for DetectionTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
        };
        write!(f, "{}{unit}", self.count)
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
