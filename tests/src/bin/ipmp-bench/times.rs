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
