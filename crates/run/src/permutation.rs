//! A keyed permutation of `0..len` in O(1) memory: shuffling a data set of any size needs no index (spec `MYS-02`).

use crate::random::Philox;

/// Even, so that the two halves have their own widths again at the end; eight keeps small domains well mixed too.
const ROUNDS: usize = 8;

/// A bijection of `0..len`: an unbalanced Feistel network over the next power of two, with cycle walking.
#[derive(Clone, Debug)]
pub struct KeyedPermutation {
    len: u64,
    left_bits: u32,
    right_bits: u32,
    round_keys: [u64; ROUNDS],
}

impl KeyedPermutation {
    /// `key` comes from [`crate::random::key`]. Any `len` is fine, 0 included.
    pub fn new(len: u64, key: u64) -> Self {
        // At least one bit on each side; fewer than 2 * len values, so a walk takes two steps on average at most.
        let bits = (64 - len.saturating_sub(1).leading_zeros()).max(2);
        let philox = Philox::new(key);
        let mut round_keys = [0u64; ROUNDS];
        for (round, slot) in round_keys.iter_mut().enumerate() {
            let [low, high, ..] = philox.block(round as u128);
            *slot = u64::from(low) | (u64::from(high) << 32);
        }
        Self { len, left_bits: bits / 2, right_bits: bits - bits / 2, round_keys }
    }

    /// The number of items.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True when there are no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where item `i` goes. `i` is taken modulo `len`; an empty permutation answers 0.
    pub fn get(&self, i: u64) -> u64 {
        if self.len < 2 {
            return 0;
        }
        // Starting inside 0..len, the cycle comes back inside, so the walk ends.
        let mut value = self.feistel(i % self.len);
        while value >= self.len {
            value = self.feistel(value);
        }
        value
    }

    fn feistel(&self, value: u64) -> u64 {
        let (mut left_bits, mut right_bits) = (self.left_bits, self.right_bits);
        let mut left = value >> right_bits;
        let mut right = value & mask(right_bits);
        for round_key in self.round_keys {
            let mixed = left ^ (mix(right ^ round_key) & mask(left_bits));
            (left, right) = (right, mixed);
            std::mem::swap(&mut left_bits, &mut right_bits);
        }
        (left << right_bits) | right
    }
}

/// Both halves have at most 32 bits.
fn mask(bits: u32) -> u64 {
    (1u64 << bits) - 1
}

/// The finaliser of SplitMix64, taken from its high bits where the mixing is best.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_bijective(len: u64, key: u64) {
        let permutation = KeyedPermutation::new(len, key);
        let mut seen = vec![false; len as usize];
        for i in 0..len {
            let to = permutation.get(i) as usize;
            assert!(!seen[to], "len {len} key {key}: {to} twice");
            seen[to] = true;
        }
    }

    #[test]
    fn small_and_boundary_lengths_are_bijective() {
        for len in (0..70).chain([127, 128, 129, 1000, 4095, 4096, 4097, 65_536, 65_537]) {
            for key in [0, 1, u64::MAX] {
                assert_bijective(len, key);
            }
        }
        assert_eq!(KeyedPermutation::new(0, 1).get(5), 0);
    }

    proptest! {
        #[test]
        fn any_length_is_bijective(len in 0u64..5_000, key: u64) {
            assert_bijective(len, key);
        }

        #[test]
        fn huge_lengths_stay_in_range(len in (1u64 << 40)..=u64::MAX, key: u64, i: u64) {
            let permutation = KeyedPermutation::new(len, key);
            prop_assert!(permutation.get(i % len) < len);
            let (a, b) = (i % len, (i.wrapping_add(1)) % len);
            prop_assert!(a == b || permutation.get(a) != permutation.get(b));
        }
    }

    /// Every order of three items appears about equally often over keys.
    #[test]
    fn keys_reach_every_order() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6_000 {
            let p = KeyedPermutation::new(3, crate::random::key(seed, "order"));
            *counts.entry([p.get(0), p.get(1), p.get(2)]).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6, "{counts:?}");
        assert!(counts.values().all(|&c| (700..1300).contains(&c)), "{counts:?}");
    }
}
