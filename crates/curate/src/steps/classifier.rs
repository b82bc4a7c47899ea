//! Quality classifier: scores documents with a linear n-gram model (spec `CLN-02`, `CLN-04`).
//!
//! Where the labels are numbers (0–5, as FineWeb-Edu's annotations) the score is the expected label; with class
//! names it is the probability of one of them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::fasttext::{Error, Model};
use crate::recipe::check_metadata_key;
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// Scores documents with a classifier that `smolt data classify train` or fastText trained.
    pub struct ClassifierSettings {
        /// The model, `.bin` or `.ftz`.
        pub model: PathBuf,
        /// Documents of a lower score are rejected; none when left out.
        pub min_score: Option<f64>,
        /// The label whose probability is the score; not for labels that are numbers.
        pub label: Option<String>,
        /// Metadata key that the score is written to.
        pub key: String = String::from("quality_score"),
    }
}

impl ClassifierSettings {
    /// Files among the settings, to be resolved before use.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        vec![&mut self.model]
    }
}

/// How a model's probabilities become one score.
#[derive(Clone, Debug, PartialEq)]
pub enum Scale {
    /// The value of each label: the score is the expected value.
    Values(Vec<f64>),
    /// The score is the probability of this label.
    Label(usize),
}

impl Scale {
    /// Numbers make a scale; otherwise `label` must name one of `labels`.
    pub fn new(labels: &[String], label: Option<&str>) -> Result<Self, Error> {
        let shown = || labels.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        let Some(label) = label else {
            let values: Result<Vec<f64>, _> = labels.iter().map(|label| label.parse()).collect();
            return match values {
                Ok(values) if values.iter().all(|value| value.is_finite()) => Ok(Self::Values(values)),
                _ => Err(Error::Training(format!(
                    "the labels are {}; say which one to score with `label`",
                    shown()
                ))),
            };
        };
        let place = labels.iter().position(|known| known == label);
        place.map(Self::Label).ok_or_else(|| {
            Error::Training(format!("label {label:?} is not one of the model's, which are {}", shown()))
        })
    }

    /// The score that stands for `probabilities`, one per label.
    pub fn score(&self, probabilities: &[f32]) -> f64 {
        match self {
            Self::Values(values) => {
                let total: f64 = probabilities.iter().map(|p| f64::from(*p)).sum();
                let sum: f64 = values.iter().zip(probabilities).map(|(value, p)| value * f64::from(*p)).sum();
                // One-against-all probabilities do not sum to 1.
                sum / total
            }
            Self::Label(label) => f64::from(probabilities[*label]),
        }
    }
}

/// A model with its scale.
pub struct Scorer {
    model: Model,
    scale: Scale,
}

impl Scorer {
    /// Loads a model; `label` as in [`ClassifierSettings::label`].
    pub fn load(path: &Path, label: Option<&str>) -> Result<Self, Error> {
        let model = Model::load(path)?;
        let scale = Scale::new(model.labels(), label)?;
        Ok(Self { model, scale })
    }

    /// `None` for a text in which the model knows nothing.
    pub fn score(&self, text: &str) -> Option<f64> {
        let score = self.scale.score(&self.model.probabilities(text)?);
        score.is_finite().then_some(score)
    }
}

/// The step `classifier`.
pub struct Classifier {
    scorer: Scorer,
    min_score: Option<f64>,
    key: String,
}

impl Classifier {
    /// Loads the model.
    pub fn new(settings: &ClassifierSettings) -> Result<Self, Error> {
        check_metadata_key(&settings.key).map_err(|problem| Error::Training(format!("key: {problem}")))?;
        let scorer = Scorer::load(&settings.model, settings.label.as_deref())?;
        Ok(Self { scorer, min_score: settings.min_score, key: settings.key.clone() })
    }
}

impl Step for Classifier {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        let Some(score) = self.scorer.score(&document.text) else { return Verdict::reject("no_score") };
        document.metadata.insert(self.key.clone(), Value::from((score * 1e4).round() / 1e4));
        match self.min_score {
            Some(least) if score < least => Verdict::Reject(Rejection {
                reason: "low_quality_score",
                detail: format!("score {score:.3}"),
            }),
            _ => Verdict::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{ClassifySettings, train};

    fn document(text: &str, label: Value) -> Document {
        let mut document = Document { text: text.to_owned(), ..Document::default() };
        document.metadata.insert("label".into(), label);
        document
    }

    #[test]
    fn scores_are_expected_labels_or_probabilities() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let scale = Scale::new(&names(&["5", "0", "1"]), None).unwrap();
        assert_eq!(scale.score(&[0.5, 0.25, 0.25]), 2.75);
        assert_eq!(scale.score(&[1.0, 1.0, 0.0]), 2.5);
        assert_eq!(Scale::new(&names(&["bad", "good"]), Some("good")).unwrap().score(&[0.25, 0.75]), 0.75);
        assert!(Scale::new(&names(&["bad", "good"]), None).unwrap_err().to_string().contains("`label`"));
        assert!(Scale::new(&names(&["bad"]), Some("good")).unwrap_err().to_string().contains("\"good\""));
    }

    #[test]
    fn the_score_cannot_take_the_place_of_a_field() {
        let settings =
            ClassifierSettings { model: "none".into(), min_score: None, label: None, key: "text".into() };
        assert!(Classifier::new(&settings).err().unwrap().to_string().contains("\"text\""));
    }

    #[test]
    fn trained_then_applied() {
        let documents: Vec<Document> = (0..60)
            .map(|n| match n % 2 {
                0 => document("theorem proof lemma and a long careful explanation", Value::from(5)),
                _ => document("click here buy now cheap cheap", Value::from(0)),
            })
            .collect();
        let defaults: ClassifySettings = smolt_run::recipe::defaults().unwrap();
        let settings = ClassifySettings {
            train: crate::fasttext::train::TrainSettings {
                bucket: 1000,
                dim: 8,
                epochs: 20,
                ..defaults.train.clone()
            },
            ..defaults
        };
        let (model, _) = train(&documents, &settings, 2, &|_, _| {}).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("quality.bin");
        model.save(&path).unwrap();
        let settings =
            ClassifierSettings { model: path, min_score: Some(3.0), label: None, key: "edu".into() };
        let step = Classifier::new(&settings).unwrap();
        let mut good = document("a careful proof of the lemma", Value::Null);
        assert!(step.apply(&mut good, &mut Analysis::default()).keeps());
        assert!(good.metadata["edu"].as_f64().unwrap() > 3.0);
        let mut bad = document("buy cheap now", Value::Null);
        let verdict = step.apply(&mut bad, &mut Analysis::default());
        assert!(matches!(verdict, Verdict::Reject(Rejection { reason: "low_quality_score", .. })));
        assert!(bad.metadata["edu"].as_f64().unwrap() < 3.0);
    }
}
