//! The time between ticks of the sentinel, as an operator writes it.

use std::{fmt, str::FromStr, time::Duration};

/// 100 µs to 100 ms after a change. Where a tick takes longer than a tenth of it, ticks are less frequent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(Duration);

/// Shortest and longest.
const BOUNDS: [Duration; 2] = [Duration::from_micros(100), Duration::from_millis(100)];

/// The text is not a valid interval.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not a number with a unit.
    #[error("expected a whole number and a unit (us, ms, s), such as 500us or 1ms, got {0:?}")]
    Unreadable(String),
    /// It is too short or too long.
    #[error("{0} is out of range: the sentinel interval is 100us to 100ms")]
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

    /// In nanoseconds, as in the map `clock`.
    pub(super) fn nanos(self) -> u64 {
        self.0.as_nanos() as u64
    }

    /// The same the other way.
    pub(super) fn from_nanos(nanos: u64) -> Self {
        Self(Duration::from_nanos(nanos))
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
    fn intervals_parse_with_units_within_bounds() {
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
            "99us is out of range: the sentinel interval is 100us to 100ms"
        );
    }
}
