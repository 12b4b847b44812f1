//! A time measured several times.

use std::fmt;
use std::time::Duration;

use lab::percentile;
use serde::{Deserialize, Serialize};

use crate::outbound::microseconds;

/// Percentiles in microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Times {
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile: of fewer than a hundred times the longest.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// All times, in the order of measurement.
    pub all: Vec<f64>,
}

impl Times {
    /// The percentiles of these times.
    ///
    /// # Panics
    /// When there are none.
    pub fn of(times: &[Duration]) -> Self {
        let of = |percent| microseconds(percentile(times, percent));
        let all = times.iter().map(|time| microseconds(*time)).collect();
        Self { p50: of(50.0), p95: of(95.0), p99: of(99.0), max: of(100.0), all }
    }

    /// The 90th percentile.
    pub fn p90(&self) -> f64 {
        let times: Vec<Duration> =
            self.all.iter().map(|microseconds| Duration::from_secs_f64(microseconds / 1e6)).collect();
        microseconds(percentile(&times, 90.0))
    }

    /// Cells of a table, in milliseconds: p50, p90, p99, max.
    pub fn cells_ms(&self) -> [String; 4] {
        [self.p50, self.p90(), self.p99, self.max].map(|us| format!("{:.2}", us / 1e3))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "p50 {:>7.2} ms   p95 {:>7.2} ms   max {:>7.2} ms",
            self.p50 / 1e3,
            self.p95 / 1e3,
            self.max / 1e3
        )
    }
}
