//! A number measured in several rounds.

use serde::{Deserialize, Serialize};

/// Order statistics of the rounds, in the unit of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median; of an even number, the mean of the two middle values.
    pub median: f64,
    /// The smallest.
    pub minimum: f64,
    /// The median of the lower half.
    pub lower_quartile: f64,
    /// The median of the upper half.
    pub upper_quartile: f64,
    /// The largest.
    pub maximum: f64,
}

impl Spread {
    /// The statistics of rounds in any order.
    ///
    /// # Panics
    /// When there are none.
    pub fn of(rounds: &[f64]) -> Self {
        let sorted = sorted(rounds);
        // With an odd number, the middle value is in neither half; with one round, it is both.
        let half = (sorted.len() / 2).max(1);
        Self {
            median: middle(&sorted),
            minimum: sorted[0],
            lower_quartile: middle(&sorted[..half]),
            upper_quartile: middle(&sorted[sorted.len() - half..]),
            maximum: sorted[sorted.len() - 1],
        }
    }

    /// The median and both quartiles with so many decimals: `0.97 (0.95 to 0.99)`.
    pub fn quartiles(&self, decimals: usize) -> String {
        let Self { median, lower_quartile, upper_quartile, .. } = self;
        format!("{median:.decimals$} ({lower_quartile:.decimals$} to {upper_quartile:.decimals$})")
    }

    /// The same in another unit.
    pub fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            median: change(self.median),
            minimum: change(self.minimum),
            lower_quartile: change(self.lower_quartile),
            upper_quartile: change(self.upper_quartile),
            maximum: change(self.maximum),
        }
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    assert!(!values.is_empty(), "no rounds");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_shown_with_decimals() {
        let spread = Spread::of(&[0.5, 1.0, 1.25]);
        assert_eq!(spread.quartiles(2), "1.00 (0.50 to 1.25)");
    }

    #[test]
    fn quartiles_of_odd_even_and_single_rounds() {
        let of = |rounds: &[f64]| {
            let Spread { median, minimum, lower_quartile, upper_quartile, maximum } = Spread::of(rounds);
            [minimum, lower_quartile, median, upper_quartile, maximum]
        };
        assert_eq!(of(&[5.0, 1.0, 4.0, 2.0, 3.0]), [1.0, 1.5, 3.0, 4.5, 5.0]);
        assert_eq!(of(&[4.0, 1.0, 3.0, 2.0]), [1.0, 1.5, 2.5, 3.5, 4.0]);
        assert_eq!(of(&[7.0]), [7.0; 5]);
    }
}
