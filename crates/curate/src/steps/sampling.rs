//! Keeps a share of the documents, the same ones however the corpus is cut into files, shards and ranks.

use smolt_data::document::Document;
use smolt_run::random;

use crate::analysis::Analysis;
use crate::step::{Step, Verdict};

smolt_run::recipe! {
    /// Keeps a share of the documents, chosen by their ids (by their texts where there are none).
    pub struct SamplingSettings {
        /// Share that is kept, 0 to 1.
        pub share: f64,
        /// Another seed keeps others.
        pub seed: u64 = 0,
    }
}

/// The step `sampling`.
pub struct Sampling {
    share: f64,
    seed: u64,
}

impl Sampling {
    /// From its settings.
    pub fn new(settings: &SamplingSettings) -> Self {
        // Not the user's seed itself, so that no other draw from it is the same.
        Self { share: settings.share, seed: random::key(settings.seed, "curate.sampling") }
    }
}

impl Step for Sampling {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        let name = document.id.as_deref().unwrap_or(&document.text);
        let draw = (random::key(self.seed, name) >> 11) as f64 / (1u64 << 53) as f64;
        if draw < self.share { Verdict::Keep } else { Verdict::reject("not_sampled") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(share: f64, seed: u64) -> Vec<usize> {
        let step = Sampling::new(&SamplingSettings { share, seed });
        let keeps = |n: &usize| {
            let mut document = Document { id: Some(format!("doc-{n}")), ..Document::default() };
            step.apply(&mut document, &mut Analysis::default()).keeps()
        };
        (0..20_000).filter(keeps).collect()
    }

    #[test]
    fn the_share_is_met_and_larger_shares_hold_smaller_ones() {
        let (tenth, half) = (kept(0.1, 0), kept(0.5, 0));
        assert!((1_850..2_150).contains(&tenth.len()), "{}", tenth.len());
        assert!((9_750..10_250).contains(&half.len()), "{}", half.len());
        assert!(tenth.iter().all(|n| half.binary_search(n).is_ok()));
        assert_ne!(tenth, kept(0.1, 1));
        assert_eq!((kept(0.0, 0).len(), kept(1.0, 0).len()), (0, 20_000));
    }

    #[test]
    fn texts_stand_in_for_ids() {
        let step = Sampling::new(&SamplingSettings { share: 0.5, seed: 3 });
        let keeps = |text: String| {
            let mut document = Document { text, ..Document::default() };
            step.apply(&mut document, &mut Analysis::default()).keeps()
        };
        let kept = (0..1000).filter(|n| keeps(format!("text {n}"))).count();
        assert!((420..580).contains(&kept), "{kept}");
    }
}
