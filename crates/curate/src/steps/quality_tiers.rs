//! Quality tiers: score thresholds as separate datasets, the large one for early and the best for late stages of
//! training (spec `DSR-02`).

use std::collections::BTreeMap;

use serde_json::Value;
use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// Writes each document's tier to its metadata, from a score that an earlier step or the source gave it.
    pub struct QualityTiersSettings {
        /// Metadata key of the score.
        pub key: String = String::from("quality_score"),
        /// Name of each tier and its lowest score; a document belongs to the highest tier that it reaches.
        pub tiers: BTreeMap<String, f64>,
    }
}

/// Metadata key that the tier is written to.
pub const TIER: &str = "tier";

/// The step `quality_tiers`.
pub struct QualityTiers {
    key: String,
    /// The highest first.
    tiers: Vec<(String, f64)>,
}

impl QualityTiers {
    /// Orders the tiers.
    pub fn new(settings: &QualityTiersSettings) -> Self {
        let mut tiers: Vec<_> = settings.tiers.clone().into_iter().collect();
        tiers.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Self { key: settings.key.clone(), tiers }
    }
}

impl Step for QualityTiers {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        let Some(score) = document.metadata.get(&self.key).and_then(Value::as_f64) else {
            return Verdict::reject("no_score");
        };
        match self.tiers.iter().find(|(_, lowest)| score >= *lowest) {
            Some((name, _)) => {
                document.metadata.insert(TIER.to_owned(), Value::String(name.clone()));
                Verdict::Keep
            }
            None => Verdict::Reject(Rejection { reason: "below_tiers", detail: format!("score {score:.3}") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_highest_tier_that_is_reached() {
        let tiers = BTreeMap::from([("broad".to_owned(), 3.0), ("best".to_owned(), 4.0)]);
        let step = QualityTiers::new(&QualityTiersSettings { key: "s".into(), tiers });
        let apply = |score: Value| {
            let mut document = Document::default();
            document.metadata.insert("s".into(), score);
            let verdict = step.apply(&mut document, &mut Analysis::default());
            (document.metadata.get(TIER).cloned(), verdict.keeps())
        };
        assert_eq!(apply(json!(4)), (Some(json!("best")), true));
        assert_eq!(apply(json!(3.99)), (Some(json!("broad")), true));
        assert_eq!(apply(json!(2.9)), (None, false));
        assert_eq!(apply(json!("4")), (None, false));
    }
}
