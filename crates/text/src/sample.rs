//! A sample of documents that holds a given share of each source's bytes (spec `TOK-02`).

/// Decides document by document; the same documents in the same order are always decided alike.
///
/// What was taken follows `rate` × what was seen, to within one document, so the sample is spread over the whole source.
#[derive(Clone, Debug)]
pub struct ByBytes {
    rate: f64,
    seen: u64,
    taken: u64,
}

impl ByBytes {
    /// A sample of `rate` (0 to 1) of the bytes that come.
    pub fn new(rate: f64) -> Self {
        Self { rate: rate.clamp(0.0, 1.0), seen: 0, taken: 0 }
    }

    /// Whether the next document, of `bytes` bytes, belongs to the sample.
    pub fn takes(&mut self, bytes: u64) -> bool {
        self.seen += bytes;
        // Half of it may be beyond the share: the error then stays around zero.
        let takes = self.taken as f64 + bytes as f64 / 2.0 <= self.rate * self.seen as f64;
        if takes {
            self.taken += bytes;
        }
        takes
    }

    /// Bytes taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }
}

/// The rate for each source, given its bytes and its weight: the largest sample in the proportions of the weights that
/// repeats nothing, and has at most `most` bytes.
pub fn rates(sources: &[(u64, f64)], most: Option<u64>) -> Vec<f64> {
    let total: f64 = sources.iter().map(|(_, weight)| weight).sum();
    let possible = |&(bytes, weight): &(u64, f64)| bytes as f64 * total / weight;
    let weighted = sources.iter().filter(|(_, weight)| *weight > 0.0);
    let whole = weighted.map(possible).fold(f64::INFINITY, f64::min);
    let whole = most.map_or(whole, |most| whole.min(most as f64));
    let rate = |&(bytes, weight): &(u64, f64)| match bytes {
        0 => 0.0,
        _ => (whole * weight / total / bytes as f64).clamp(0.0, 1.0),
    };
    sources.iter().map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_mirror_the_weights() {
        let rates = rates(&[(1000, 0.5), (100, 0.3), (10_000, 0.2)], None);
        // 100 bytes are 30 %: 166.7 and 66.7 bytes of the others.
        for (rate, wanted) in rates.iter().zip([0.166_67, 1.0, 0.006_667]) {
            assert!((rate - wanted).abs() < 1e-4, "{rates:?}");
        }
        assert_eq!(super::rates(&[(1000, 1.0)], Some(250)), [0.25]);
        assert_eq!(super::rates(&[(1000, 2.0)], None), [1.0]);
        assert_eq!(super::rates(&[(0, 1.0)], None), [0.0]);
    }

    proptest! {
        #[test]
        fn the_sample_follows_its_rate(rate in 0.0..=1.0f64, sizes in prop::collection::vec(0u64..1000, 0..200)) {
            let mut sample = ByBytes::new(rate);
            let mut seen = 0;
            for &size in &sizes {
                sample.takes(size);
                seen += size;
                prop_assert!((sample.taken() as f64 - rate * seen as f64).abs() <= 1000.0);
            }
            if rate == 1.0 {
                prop_assert_eq!(sample.taken(), seen);
            }
        }
    }
}
