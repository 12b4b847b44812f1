//! Time between two looks of the sentinel, as an operator writes it.

use std::{fmt, str::FromStr, time::Duration};

/// Time between ticks of the sentinel, 100 µs to 100 ms. Half of it, in the mean, is part of every outage inbound. A tick
/// costs about a microsecond, and with more than [`ipmp_common::maps::MEMBERS_PER_TICK`] members ticks are the rarer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(Duration);

/// Shortest and longest.
const BOUNDS: [Duration; 2] = [Duration::from_micros(100), Duration::from_millis(100)];

/// What was written is no interval.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no number with a unit.
    #[error("{0:?} is no time: write a whole number and its unit, as 500us or 1ms")]
    Unreadable(String),
    /// It is too short or too long.
    #[error("{0} is out of bounds: the sentinel looks every 100us to 100ms")]
    OutOfBounds(String),
}

impl Default for Interval {
    fn default() -> Self {
        Self(Duration::from_micros(500))
    }
}

impl Interval {
    /// The time.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// So many of them.
    pub(super) fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count.try_into().unwrap_or(u32::MAX)))
    }

    /// Of what the sentinel's clock says, which another version may have written; `None`: it has not run yet.
    pub(super) fn from_nanos(nanos: u64) -> Option<Self> {
        (nanos != 0).then_some(Self(Duration::from_nanos(nanos)))
    }
}

impl FromStr for Interval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unreadable = || Error::Unreadable(text.to_owned());
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(unreadable)?;
        let micros = match &text[digits..] {
            "us" | "µs" => 1,
            "ms" => 1000,
            "s" => 1_000_000,
            _ => return Err(unreadable()),
        };
        let number: u64 = text[..digits].parse().map_err(|_| unreadable())?;
        let time = Duration::from_micros(number.saturating_mul(micros));
        if (BOUNDS[0]..=BOUNDS[1]).contains(&time) {
            Ok(Self(time))
        } else {
            Err(Error::OutOfBounds(text.to_owned()))
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        if micros.is_multiple_of(1000) {
            write!(f, "{} ms", micros / 1000)
        } else {
            write!(f, "{micros} µs")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_bounds() {
        let read = |text: &str| text.parse::<Interval>().map(|interval| interval.to_string());
        assert_eq!(read("500us").unwrap(), "500 µs");
        assert_eq!(read("500us").unwrap(), Interval::default().to_string());
        assert_eq!(read("1500µs").unwrap(), "1500 µs");
        assert_eq!(read("1ms").unwrap(), "1 ms");
        assert_eq!(read("100us").unwrap(), "100 µs");
        assert_eq!(read("100ms").unwrap(), "100 ms");
        for text in ["", "5", "ms", "1.5ms", "-1ms", "1 ms", "1h", "99999999999999999999ms", "+1ms"] {
            assert_eq!(read(text), Err(Error::Unreadable(text.to_owned())));
        }
        for text in ["0us", "99us", "101ms", "1s", "9999999999999999999s"] {
            assert_eq!(read(text), Err(Error::OutOfBounds(text.to_owned())));
        }
        assert_eq!(
            read("99us").unwrap_err().to_string(),
            "99us is out of bounds: the sentinel looks every 100us to 100ms"
        );
    }
}
