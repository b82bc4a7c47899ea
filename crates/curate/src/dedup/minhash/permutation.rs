//! The hash functions of MinHash: `(a·x + b mod 2^64) mod 2^61−1`, with datatrove's `a` and `b`.
//!
//! They come from numpy's `RandomState(seed).randint`, so the Mersenne Twister (Matsumoto and Nishimura, 1998) and
//! numpy's way to bound it are here too.

/// 2^61 − 1, a prime.
pub(super) const PRIME: u64 = (1 << 61) - 1;

const STATE: usize = 624;
const SHIFT: usize = 397;

/// MT19937 as numpy's `RandomState` seeds and reads it.
struct MersenneTwister {
    state: [u32; STATE],
    used: usize,
}

impl MersenneTwister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; STATE];
        for at in 1..STATE {
            let before = state[at - 1];
            state[at] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(at as u32);
        }
        Self { state, used: STATE }
    }

    fn twist(&mut self) {
        for at in 0..STATE {
            let joined = (self.state[at] & 0x8000_0000) | (self.state[(at + 1) % STATE] & 0x7FFF_FFFF);
            let odd = if joined & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[at] = self.state[(at + SHIFT) % STATE] ^ (joined >> 1) ^ odd;
        }
        self.used = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.used == STATE {
            self.twist();
        }
        let mut word = self.state[self.used];
        self.used += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9D2C_5680;
        word ^= (word << 15) & 0xEFC6_0000;
        word ^ (word >> 18)
    }

    fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.next_u32());
        (high << 32) | u64::from(self.next_u32())
    }

    /// Uniform in `low..PRIME`: numpy masks to the next power of two and draws again above the bound.
    fn below_prime(&mut self, low: u64) -> u64 {
        let range = PRIME - 1 - low;
        loop {
            let value = self.next_u64() & PRIME;
            if value <= range {
                return low + value;
            }
        }
    }
}

/// Factors and addends, `count` each; all factors are drawn first.
pub(super) fn parameters(seed: u32, count: usize) -> (Vec<u64>, Vec<u64>) {
    let mut random = MersenneTwister::new(seed);
    let factors = (0..count).map(|_| random.below_prime(1)).collect();
    let addends = (0..count).map(|_| random.below_prime(0)).collect();
    (factors, addends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twister_is_the_reference_one() {
        // The 10,000th output for the seed 5489, as the C++ standard fixes it.
        let mut random = MersenneTwister::new(5489);
        let word = (0..10_000).map(|_| random.next_u32()).last();
        assert_eq!(word, Some(4_123_659_995));
    }

    #[test]
    fn parameters_are_numpys() {
        let (a, b) = parameters(1, 112);
        assert_eq!(a[..3], [775_169_054_918_279_404, 1_758_426_461_858_698_313, 2_109_959_069_025_162]);
        assert_eq!(b[..3], [1_062_448_801_025_099_917, 1_324_811_268_927_594_100, 1_217_488_311_597_731_462]);
    }
}
