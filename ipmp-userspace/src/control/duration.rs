//! Times as people read and write them.

use std::{fmt, time::Duration};

/// A time as an argument: a whole number with a unit, `100ms` or `10s`. `Display` keeps the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    Seconds,
}

impl Span {
    /// Reads it; `None`: the text is none.
    pub fn read(text: &str) -> Option<Self> {
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let unit = match unit {
            "ms" => Unit::Milliseconds,
            "s" => Unit::Seconds,
            _ => return None,
        };
        Some(Self { count: digits.parse().ok()?, unit })
    }

    /// The time.
    pub fn duration(self) -> Duration {
        match self.unit {
            Unit::Milliseconds => Duration::from_millis(self.count.into()),
            Unit::Seconds => Duration::from_secs(self.count.into()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
        };
        write!(f, "{}{unit}", self.count)
    }
}

/// A time in the unit that suits it, with two digits at least from a second to ten: `300 µs`, `200 ms`, `2.4 s`, `43 s`.
pub fn short(time: Duration) -> String {
    let (micros, millis) = (time.as_micros(), time.as_millis());
    match millis {
        0 if micros > 0 => format!("{micros} µs"),
        0..1000 => format!("{millis} ms"),
        1000..10_000 if millis % 1000 >= 100 => format!("{:.1} s", (millis / 100) as f64 / 10.0),
        _ => format!("{} s", millis / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let ms = Duration::from_millis;
        for (time, text) in [
            (ms(0), "0 ms"),
            (Duration::from_micros(300), "300 µs"),
            (ms(200), "200 ms"),
            (ms(1000), "1 s"),
            (ms(2000), "2 s"),
            (ms(2450), "2.4 s"),
            (ms(9999), "9.9 s"),
            (ms(43_999), "43 s"),
        ] {
            assert_eq!(short(time), text);
        }
    }
}
