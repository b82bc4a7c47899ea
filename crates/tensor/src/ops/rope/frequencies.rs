//! How fast each pair turns, in f64: the scheme as trained, and its extensions to longer contexts
//! (POS-03, POS-04, POS-06, POS-07).
//!
//! All functions take `dim`, the number of rotated features of a head (`rotary_dim`), of which there
//! are `dim / 2` pairs, and `base` (`rope_theta`; a higher one is ABF, POS-06). They follow
//! `modeling_rope_utils.py` of transformers, which computes the same in fp32.

use std::f64::consts::TAU;

/// Turning speeds of a head's pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Frequencies {
    /// Radians per position, `[dim / 2]`.
    pub per_pair: Vec<f64>,
    /// What cosines and sines are multiplied by (`attention_factor`): in q and in k, so that scores get its square.
    pub attention_factor: f64,
}

/// Settings of YaRN (Peng et al., 2023), under transformers' names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// How many times the trained length is reached. Where a configuration has none, it is
    /// `max_position_embeddings / original_max_position_embeddings`.
    pub factor: f64,
    /// The trained length.
    pub original_max_position_embeddings: usize,
    /// Pairs that turn at least so often within the trained length stay as they are.
    pub beta_fast: f64,
    /// Pairs that turn at most so often are slowed by `factor`.
    pub beta_slow: f64,
    /// Overrides the factor on cosines and sines that follows from the others.
    pub attention_factor: Option<f64>,
    /// Weight of the logarithm in the factor (DeepSeek); used together with `mscale_all_dim` only.
    pub mscale: Option<f64>,
    /// What the softmax is scaled by instead ([`yarn_mscale`]), so that the factor is divided by it.
    pub mscale_all_dim: Option<f64>,
    /// Whether the ends of the ramp are whole pairs.
    pub truncate: bool,
}

impl Yarn {
    /// The paper's settings for a factor and a trained length.
    pub fn new(factor: f64, original_max_position_embeddings: usize) -> Yarn {
        Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: true,
        }
    }
}

/// Settings of Llama 3.1's scheme, under transformers' names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3 {
    /// By how much slow pairs are slowed.
    pub factor: f64,
    /// Pairs that turn less often within the trained length are slowed by `factor`.
    pub low_freq_factor: f64,
    /// Pairs that turn more often stay as they are.
    pub high_freq_factor: f64,
    /// The trained length.
    pub original_max_position_embeddings: usize,
}

impl Frequencies {
    /// As trained: `base^(−k/(dim/2))` (`default`).
    ///
    /// # Panics
    /// When `dim` is odd, as all of these functions (configurations are checked before).
    pub fn plain(dim: usize, base: f64) -> Frequencies {
        assert!(dim.is_multiple_of(2), "rope: {dim} features make no pairs");
        let half = dim / 2;
        let per_pair = (0..half).map(|k| base.powf(-(k as f64) / half as f64)).collect();
        Frequencies { per_pair, attention_factor: 1.0 }
    }

    /// All pairs slowed by `factor`: positions are interpolated (`linear`; Chen et al., 2023).
    pub fn linear(dim: usize, base: f64, factor: f64) -> Frequencies {
        Self::plain(dim, base).map(|f| f / factor)
    }

    /// NTK-aware: a base at which the slowest pair is slowed by `factor`, and the fastest not at all.
    pub fn ntk(dim: usize, base: f64, factor: f64) -> Frequencies {
        Self::plain(dim, ntk_base(dim, base, factor))
    }

    /// NTK-aware by the length that is reached (`dynamic`): as trained for `length` up to `trained`
    /// (`max_position_embeddings`), from there on with the base for `factor·length/trained − (factor − 1)`.
    pub fn dynamic(dim: usize, base: f64, factor: f64, trained: usize, length: usize) -> Frequencies {
        let stretch = factor * length.max(trained) as f64 / trained as f64 - (factor - 1.0);
        Self::ntk(dim, base, stretch)
    }

    /// YaRN (`yarn`): fast pairs as trained, slow ones interpolated, a ramp over pairs between them.
    pub fn yarn(dim: usize, base: f64, yarn: &Yarn) -> Frequencies {
        let plain = Self::plain(dim, base);
        let (low, high) = yarn_ramp(dim, base, yarn);
        let per_pair = plain.per_pair.iter().enumerate().map(|(k, f)| {
            let slowed = ((k as f64 - low) / (high - low)).clamp(0.0, 1.0);
            f / yarn.factor * slowed + f * (1.0 - slowed)
        });
        Frequencies { per_pair: per_pair.collect(), attention_factor: yarn_attention_factor(yarn) }
    }

    /// Llama 3.1 (`llama3`): pairs by their turns within the trained length, in the middle a mean that is
    /// weighted by the turns.
    pub fn llama3(dim: usize, base: f64, llama3: &Llama3) -> Frequencies {
        let (low, high) = (llama3.low_freq_factor, llama3.high_freq_factor);
        Self::plain(dim, base).map(|f| {
            let turns = llama3.original_max_position_embeddings as f64 * f / TAU;
            if turns > high {
                f
            } else if turns < low {
                f / llama3.factor
            } else {
                let kept = (turns - low) / (high - low);
                (1.0 - kept) * f / llama3.factor + kept * f
            }
        })
    }

    /// Number of rotated features of a head.
    pub fn dim(&self) -> usize {
        2 * self.per_pair.len()
    }

    /// Positions per turn of each pair (POS-04): as trained `2π·base^(k/(dim/2))`.
    pub fn wavelengths(&self) -> Vec<f64> {
        self.per_pair.iter().map(|f| TAU / f).collect()
    }

    /// Pairs that never complete a turn within `length` positions: their angles there mean one distance
    /// each, but none beyond is ever trained (POS-04).
    pub fn unfinished(&self, length: usize) -> Vec<usize> {
        let wavelengths = self.wavelengths();
        (0..wavelengths.len()).filter(|&k| wavelengths[k] > length as f64).collect()
    }

    fn map(mut self, change: impl Fn(f64) -> f64) -> Frequencies {
        self.per_pair.iter_mut().for_each(|f| *f = change(*f));
        self
    }
}

/// `0.1·mscale·ln(factor) + 1`, and 1 where nothing is extended. DeepSeek multiplies the softmax scale
/// by the square of this with `mscale_all_dim`; cosines and sines know nothing of it.
pub fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// The base at which the slowest of the pairs, `dim/2 − 1`, is slowed by `factor`.
fn ntk_base(dim: usize, base: f64, factor: f64) -> f64 {
    // One pair: the power is infinite, and so may the base be: pair 0 turns by 1 whatever the base.
    base * factor.powf(dim as f64 / (dim as f64 - 2.0))
}

fn yarn_attention_factor(yarn: &Yarn) -> f64 {
    // A weight of zero counts as none, as in Python.
    let weight = |mscale: Option<f64>| mscale.filter(|&m| m != 0.0);
    match (yarn.attention_factor, weight(yarn.mscale), weight(yarn.mscale_all_dim)) {
        (Some(given), ..) => given,
        (None, Some(mscale), Some(all)) => yarn_mscale(yarn.factor, mscale) / yarn_mscale(yarn.factor, all),
        _ => yarn_mscale(yarn.factor, 1.0),
    }
}

/// The pairs where slowing begins and where it is complete.
fn yarn_ramp(dim: usize, base: f64, yarn: &Yarn) -> (f64, f64) {
    // The pair, as a real number, that turns so often within the trained length.
    let pair = |turns: f64| {
        let trained = yarn.original_max_position_embeddings as f64;
        dim as f64 * (trained / (turns * TAU)).ln() / (2.0 * base.ln())
    };
    let (low, high) = (pair(yarn.beta_fast), pair(yarn.beta_slow));
    let (low, high) = if yarn.truncate { (low.floor(), high.ceil()) } else { (low, high) };
    // The upper bound counts features, not pairs: as transformers and DeepSeek do.
    let (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
    // A ramp of no length would divide by zero.
    (low, if low == high { high + 0.001 } else { high })
}

#[cfg(test)]
mod tests {
    use super::{Frequencies, Llama3, Yarn, yarn_mscale};
    use crate::ops::testing::assert_close;

    #[test]
    fn nothing_is_extended_by_one() {
        let plain = Frequencies::plain(64, 1e4);
        let llama3 = Llama3 {
            factor: 1.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 2048,
        };
        for same in [
            Frequencies::linear(64, 1e4, 1.0),
            Frequencies::ntk(64, 1e4, 1.0),
            Frequencies::dynamic(64, 1e4, 4.0, 2048, 2048),
            Frequencies::dynamic(64, 1e4, 4.0, 2048, 7),
            Frequencies::yarn(64, 1e4, &Yarn::new(1.0, 2048)),
            Frequencies::llama3(64, 1e4, &llama3),
        ] {
            assert_close("per_pair", &same.per_pair, &plain.per_pair, 1e-15);
            assert_eq!(same.attention_factor, 1.0);
        }
    }

    #[test]
    fn ntk_slows_the_last_pair_by_the_factor_and_the_first_not_at_all() {
        let (plain, ntk) = (Frequencies::plain(64, 1e4), Frequencies::ntk(64, 1e4, 4.0));
        assert_eq!(ntk.per_pair[0], 1.0);
        assert!((plain.per_pair[31] / ntk.per_pair[31] - 4.0).abs() < 1e-12);
        assert_eq!(Frequencies::ntk(2, 1e4, 4.0).per_pair, [1.0]);
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_interpolates_slow_ones() {
        let (plain, yarn) = (Frequencies::plain(64, 1e4), Frequencies::yarn(64, 1e4, &Yarn::new(4.0, 4096)));
        let slowed: Vec<f64> = plain.per_pair.iter().zip(&yarn.per_pair).map(|(p, y)| p / y).collect();
        assert_eq!(slowed[0], 1.0);
        assert!((slowed[31] - 4.0).abs() < 1e-12);
        assert!(slowed.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
        assert!((yarn.attention_factor - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-15);
        assert_eq!(yarn_mscale(0.5, 1.0), 1.0);
    }

    #[test]
    fn wavelengths_grow_by_the_base() {
        let f = Frequencies::plain(64, 1e4);
        let want: Vec<f64> =
            (0..32).map(|k| std::f64::consts::TAU * 1e4f64.powf(f64::from(k) / 32.0)).collect();
        assert_close("wavelengths", &f.wavelengths(), &want, 1e-12);
        let unfinished = f.unfinished(2048);
        let first = unfinished[0];
        assert!(want[first - 1] <= 2048.0 && want[first] > 2048.0);
        assert_eq!(unfinished, (first..32).collect::<Vec<_>>());
        assert_eq!((f.unfinished(6).len(), f.unfinished(1 << 20).len(), f.dim()), (32, 0, 64));
    }
}
