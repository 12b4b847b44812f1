//! Changes to inputs, by a generator whose every run is the same: for the seconds that every test run has for this. What
//! libFuzzer does is cleverer, as it sees which branches an input takes.

/// A generator (xorshift64*, <https://doi.org/10.1145/2845077>).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator with a seed that is not 0.
    pub fn new(seed: u64) -> Self {
        assert_ne!(seed, 0, "it would give nothing but zeros");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below this one, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }
}

/// An input made of one, with pieces of another.
pub fn mutate(random: &mut Random, input: &[u8], other: &[u8], longest: usize) -> Vec<u8> {
    const INTERESTING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'0', b'\n'];
    let mut bytes = input.to_vec();
    for _ in 0..1 << random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = INTERESTING[random.below(INTERESTING.len())],
            2 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            3 => bytes.truncate(at),
            4 => bytes.insert(at, INTERESTING[random.below(INTERESTING.len())]),
            5 if at < bytes.len() => {
                let end = at + 1 + random.below((bytes.len() - at).min(16));
                bytes.drain(at..end);
            }
            _ => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(32)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes.truncate(longest);
    bytes
}
