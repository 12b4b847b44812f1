//! A share in percent.

use std::{fmt, str::FromStr};

/// A share in hundredths of a percent, from 0 to 100%.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u16);

/// The text is no share, or out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Percent {
    const ALL: u16 = 100 * 100;

    /// One percent.
    pub const ONE: Self = Self(100);

    /// The nearest to a ratio from 0 to 1.
    pub fn of(ratio: f64) -> Self {
        // A conversion from a float saturates, and that of NaN is zero.
        Self(((ratio * f64::from(Self::ALL)).round() as u16).min(Self::ALL))
    }

    /// The ratio, from 0 to 1.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL)
    }

    /// The number of percent.
    pub fn number(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

/// `0.25%`, `1%`, `12.5%`: more than 0, at most two decimals.
impl FromStr for Percent {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let number = text.strip_suffix('%').ok_or(Unreadable)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(whole, 3) || !is_number(decimals, 2) {
            return Err(Unreadable);
        }
        let whole: u32 = whole.parse().map_err(|_| Unreadable)?;
        let hundredths: u32 = format!("{decimals:0<2}").parse().map_err(|_| Unreadable)?;
        let share = u16::try_from(whole * 100 + hundredths).map_err(|_| Unreadable)?;
        if (1..=Self::ALL).contains(&share) { Ok(Self(share)) } else { Err(Unreadable) }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_shares_keep_their_text() {
        for (text, ratio) in [
            ("0.01%", 0.0001),
            ("0.25%", 0.0025),
            ("0.5%", 0.005),
            ("1%", 0.01),
            ("12.5%", 0.125),
            ("100%", 1.0),
        ] {
            let share: Percent = text.parse().unwrap();
            assert_eq!((share.ratio(), share.to_string(), Percent::of(ratio)), (ratio, text.into(), share));
        }
        assert_eq!("1.50%".parse::<Percent>().unwrap().to_string(), "1.5%");
    }

    #[test]
    fn shares_without_sign_or_out_of_range_are_refused() {
        for text in [
            "", "%", "1", "0%", "0.001%", "100.01%", "101%", "-1%", "+1%", "1.%", ".5%", "1e1%", " 1%",
            "1 %", "0x1%", "1000%",
        ] {
            assert_eq!(text.parse::<Percent>(), Err(Unreadable), "{text:?}");
        }
    }

    #[test]
    fn ratios_out_of_range_are_cut_off() {
        assert_eq!([-1.0, 2.0, f64::NAN].map(Percent::of), [Percent(0), Percent(10_000), Percent(0)]);
    }
}
