//! Percentiles.

use std::time::Duration;

/// The smallest time that at least `percent` of all times do not exceed.
///
/// # Panics
/// When there are no times.
pub fn percentile(times: &[Duration], percent: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_a_measured_time() {
        let times: Vec<Duration> = (1..=200).rev().map(Duration::from_micros).collect();
        let of = |percent| percentile(&times, percent).as_micros();
        assert_eq!([50.0, 95.0, 100.0].map(of), [100, 190, 200]);
        assert_eq!(percentile(&times[..1], 50.0), times[0]);
    }
}
