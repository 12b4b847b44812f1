//! Random numbers from a seed that is printed, so that a run can be repeated.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Names the seed of a run to be repeated.
pub const VARIABLE: &str = "IPMP_SEED";

/// Random numbers.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From the seed in [`VARIABLE`], else from one of the clock. Prints it.
    ///
    /// # Panics
    /// When the variable is no number.
    pub fn with_printed_seed() -> Self {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let seed = match std::env::var(VARIABLE) {
            Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("{VARIABLE}={seed} is no number")),
            Err(_) => clock() & 0xffff_ffff,
        };
        println!("seed: {VARIABLE}={seed}");
        Self(seed)
    }

    /// The next number: splitmix64.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }

    /// Whether something happens that happens once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn choose<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A time up to `limit`.
    pub fn within(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.below(1 << 20) as f64 / f64::from(1 << 20))
    }
}
