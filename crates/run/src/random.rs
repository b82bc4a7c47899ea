//! Counter-based randomness: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
//!
//! A stream is a pure function of (seed, name, index), so any worker, thread or resumed run draws the same numbers
//! without saved state, and two names never share a stream (spec `MYS-04`).

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// The 64-bit key of `name` under `seed`: the first 8 bytes of BLAKE3(seed as little-endian bytes, name).
pub fn key(seed: u64, name: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    let hash = hasher.finalize();
    let mut first = [0u8; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Philox4x32-10 as a pure function of key and counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// `key`: low word first, as Random123 orders it.
    pub fn new(key: u64) -> Self {
        Self { key: [key as u32, (key >> 32) as u32] }
    }

    /// The 128 random bits at `counter` (low word first).
    #[inline]
    pub fn block(&self, counter: u128) -> [u32; 4] {
        let mut c = [counter as u32, (counter >> 32) as u32, (counter >> 64) as u32, (counter >> 96) as u32];
        let mut k = self.key;
        for _ in 0..ROUNDS {
            let low = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
            let high = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
            c = [
                (high >> 32) as u32 ^ c[1] ^ k[0],
                high as u32,
                (low >> 32) as u32 ^ c[3] ^ k[1],
                low as u32,
            ];
            k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
        }
        c
    }
}

/// A sequential reader of one Philox stream: counter = (index << 64) + block number.
#[derive(Clone, Debug)]
pub struct Stream {
    philox: Philox,
    counter: u128,
    words: [u32; 4],
    used: usize,
    spare_normal: Option<f64>,
}

impl Stream {
    /// The stream of `name` under `seed` for item `index` (a sample, a row, an epoch).
    pub fn new(seed: u64, name: &str, index: u64) -> Self {
        Self::from_key(key(seed, name), index)
    }

    /// The same from a key already derived with [`key`].
    pub fn from_key(key: u64, index: u64) -> Self {
        let counter = u128::from(index) << 64;
        Self { philox: Philox::new(key), counter, words: [0; 4], used: 4, spare_normal: None }
    }

    /// The next 32 random bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.words = self.philox.block(self.counter);
            self.counter = self.counter.wrapping_add(1);
            self.used = 0;
        }
        let word = self.words[self.used];
        self.used += 1;
        word
    }

    /// The next 64 random bits, low word first.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | (u64::from(self.next_u32()) << 32)
    }

    /// Uniform in `0..n` without bias (Lemire's multiplication with rejection). `below(0)` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Uniform in [0, 1) with 53 random bits.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Standard normal by Box–Muller. The same on every platform as far as its `ln`, `sin` and `cos` agree.
    pub fn normal(&mut self) -> f64 {
        if let Some(value) = self.spare_normal.take() {
            return value;
        }
        // 1 - uniform is in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare_normal = Some(radius * sin);
        radius * cos
    }

    /// Fisher–Yates shuffle in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// One item, uniformly; `None` for an empty slice.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(words: [u32; 4]) -> u128 {
        words.iter().rev().fold(0, |sum, &w| (sum << 32) | u128::from(w))
    }

    /// `kat_vectors` of Random123.
    #[test]
    fn known_answers() {
        let zero = Philox::new(0).block(0);
        assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox::new(u64::MAX).block(u128::MAX);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = Philox::new(0x299f_31d0_a409_3822).block(counter([
            0x243f_6a88,
            0x85a3_08d3,
            0x1319_8a2e,
            0x0370_7344,
        ]));
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn streams_are_pure_functions_of_seed_name_and_index() {
        let draw = |seed, name, index| {
            let mut s = Stream::new(seed, name, index);
            [s.next_u64(), s.next_u64(), s.next_u64()]
        };
        assert_eq!(draw(1, "a", 0), draw(1, "a", 0));
        assert_ne!(draw(1, "a", 0), draw(2, "a", 0));
        assert_ne!(draw(1, "a", 0), draw(1, "b", 0));
        assert_ne!(draw(1, "a", 0), draw(1, "a", 1));
    }

    #[test]
    fn moments_are_right() {
        let mut s = Stream::new(7, "moments", 0);
        let n = 200_000;
        let uniform: f64 = (0..n).map(|_| s.uniform()).sum::<f64>() / n as f64;
        assert!((uniform - 0.5).abs() < 0.005, "{uniform}");
        let normal: Vec<f64> = (0..n).map(|_| s.normal()).collect();
        let mean = normal.iter().sum::<f64>() / n as f64;
        let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn below_is_in_range_and_even() {
        let mut s = Stream::new(3, "below", 0);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[s.below(6) as usize] += 1;
        }
        assert!(counts.iter().all(|&c| (9_500..10_500).contains(&c)), "{counts:?}");
        assert_eq!(s.below(0), 0);
        assert_eq!(s.below(1), 0);
        assert!(s.below(u64::MAX) < u64::MAX);
    }

    #[test]
    fn shuffle_permutes_and_choose_handles_empty() {
        let mut s = Stream::new(3, "shuffle", 0);
        let mut items: Vec<u32> = (0..100).collect();
        s.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
        assert_eq!(s.choose::<u8>(&[]), None);
        assert_eq!(s.choose(&[5]), Some(&5));
    }
}
