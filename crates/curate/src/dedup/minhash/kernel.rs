//! The inner loop of MinHash: the least value of each hash function over all shingles of a document.
//!
//! Plain loops over lanes, which the compiler turns into vectors; on x86-64 compiled once more for AVX2 and AVX-512.
//! Integers only, so every path gives the same bits.

use super::permutation::{PRIME, parameters};

/// Hash functions taken together: factors, addends and minima of two AVX-512 registers each stay in registers.
const LANES: usize = 16;

type Lanes = [u64; LANES];

/// All hash functions of a configuration.
pub(super) struct Permutations {
    blocks: Vec<(Lanes, Lanes)>,
    count: usize,
    mask: u64,
    path: fn(&Lanes, &Lanes, u64, &[u64]) -> Lanes,
}

impl Permutations {
    /// `mask` cuts the values down to the precision.
    pub(super) fn new(seed: u32, count: usize, mask: u64) -> Self {
        let (factors, addends) = parameters(seed, count);
        let lanes = |values: &[u64]| {
            let mut lanes = [0; LANES];
            lanes[..values.len()].copy_from_slice(values);
            lanes
        };
        let blocks =
            factors.chunks(LANES).zip(addends.chunks(LANES)).map(|(a, b)| (lanes(a), lanes(b))).collect();
        Self { blocks, count, mask, path: fastest() }
    }

    /// Replaces `signature` with the minima over `shingles`, in the order of the hash functions.
    pub(super) fn minima(&self, shingles: &[u64], signature: &mut Vec<u64>) {
        signature.clear();
        for (factors, addends) in &self.blocks {
            signature.extend((self.path)(factors, addends, self.mask, shingles));
        }
        signature.truncate(self.count);
    }
}

#[inline(always)]
fn minima(factors: &Lanes, addends: &Lanes, mask: u64, shingles: &[u64]) -> Lanes {
    // Residues are below 2^61, so their order is the same with a sign, which vectors compare in fewer steps.
    let mut least = [i64::MAX; LANES];
    for &shingle in shingles {
        for lane in 0..LANES {
            let value = shingle.wrapping_mul(factors[lane]).wrapping_add(addends[lane]);
            // 2^61 is 1 modulo the prime; what is left is below the prime plus 8, so one subtraction is enough.
            let folded = ((value & PRIME) + (value >> 61)) as i64;
            let reduced = folded - PRIME as i64;
            let residue = if reduced < 0 { folded } else { reduced } & mask as i64;
            least[lane] = least[lane].min(residue);
        }
    }
    least.map(|least| least as u64)
}

fn portable(factors: &Lanes, addends: &Lanes, mask: u64, shingles: &[u64]) -> Lanes {
    minima(factors, addends, mask, shingles)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(factors: &Lanes, addends: &Lanes, mask: u64, shingles: &[u64]) -> Lanes {
    minima(factors, addends, mask, shingles)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
fn avx512(factors: &Lanes, addends: &Lanes, mask: u64, shingles: &[u64]) -> Lanes {
    minima(factors, addends, mask, shingles)
}

#[cfg(target_arch = "x86_64")]
fn fastest() -> fn(&Lanes, &Lanes, u64, &[u64]) -> Lanes {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
        // SAFETY: the processor has the features that the function is compiled for.
        |a, b, mask, shingles| unsafe { avx512(a, b, mask, shingles) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: as above.
        |a, b, mask, shingles| unsafe { avx2(a, b, mask, shingles) }
    } else {
        portable
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn fastest() -> fn(&Lanes, &Lanes, u64, &[u64]) -> Lanes {
    portable
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_is_the_definition(
            shingles in prop::collection::vec(prop_oneof![any::<u64>(), u64::MAX - 9..], 1..50),
            count in 1usize..40,
            bits32 in any::<bool>(),
        ) {
            let mask = if bits32 { u64::from(u32::MAX) } else { u64::MAX };
            let (a, b) = parameters(7, count);
            let expected: Vec<u64> = (0..count)
                .map(|n| {
                    let of = |&x: &u64| x.wrapping_mul(a[n]).wrapping_add(b[n]) % PRIME;
                    shingles.iter().map(|shingle| of(shingle) & mask).min().unwrap()
                })
                .collect();
            let mut permutations = Permutations::new(7, count, mask);
            let mut signature = vec![1, 2, 3];
            permutations.minima(&shingles, &mut signature);
            prop_assert_eq!(&signature, &expected);
            permutations.path = portable;
            permutations.minima(&shingles, &mut signature);
            prop_assert_eq!(&signature, &expected);
        }

        #[test]
        fn residues_at_the_border(near in -9i64..9, fold in 0u64..8) {
            // With factor 1 and addend 0 the hash is the residue itself.
            let value = (fold << 61).wrapping_add((PRIME as i64).wrapping_add(near) as u64);
            let residue = minima(&[1; LANES], &[0; LANES], u64::MAX, &[value]);
            prop_assert_eq!(residue, [value % PRIME; LANES]);
        }
    }
}
