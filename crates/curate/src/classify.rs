//! Trains a quality classifier on labelled documents and says how good it is: confusion matrix, macro-F1, the curve
//! of thresholds and the histogram of scores (spec `CLN-02`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use smolt_data::document::Document;
use smolt_run::random::Stream;

use crate::fasttext::train::{self, Example, TrainSettings};
use crate::fasttext::{Error, Model};
use crate::steps::classifier::Scale;

smolt_run::recipe! {
    /// A quality classifier to train.
    pub struct ClassifySettings {
        /// Metadata key of the label: a number (rounded to a whole one) or a class name.
        pub label_key: String = String::from("label"),
        /// Share of each label's documents that is kept out of training and measured.
        pub held_out: f64 = 0.1,
        /// The class whose probability is the score; not for labels that are numbers.
        pub label: Option<String>,
        /// The training itself.
        pub train: TrainSettings,
    }
}

/// Bars of the histogram.
const BARS: usize = 20;

/// What a classifier is worth, measured on documents that it has not seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Documents it was trained on.
    pub trained: usize,
    /// Documents it was measured on.
    pub measured: usize,
    /// In the order of the matrix.
    pub labels: Vec<String>,
    /// `[actual][predicted]`, in documents. Labels that are numbers are predicted by rounding the score.
    pub confusion: Vec<Vec<u64>>,
    /// Share of documents on the diagonal.
    pub accuracy: f64,
    /// Mean over the labels of each one's F1.
    pub macro_f1: f64,
    /// Of each label, in their order.
    pub per_label: Vec<Rates>,
    /// What each threshold on the score would keep.
    pub thresholds: Vec<Threshold>,
    /// Scores of the measured documents.
    pub histogram: Histogram,
}

/// How well one label is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Share of what was predicted that is right; 0 when nothing was.
    pub precision: f64,
    /// Share of what is there that was predicted; 0 when nothing is.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

impl Rates {
    fn new(hits: u64, predicted: u64, actual: u64) -> Self {
        let share = |of: u64| if of == 0 { 0.0 } else { hits as f64 / of as f64 };
        let (precision, recall) = (share(predicted), share(actual));
        let f1 = if hits == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
        Self { precision, recall, f1 }
    }
}

/// One point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Threshold {
    /// Documents of at least this score are kept.
    pub threshold: f64,
    /// Share of documents kept.
    pub kept: f64,
    /// Against documents whose label is at least the threshold, or is the scored class.
    #[serde(flatten)]
    pub rates: Rates,
}

/// How many documents have which score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Histogram {
    /// The lowest score of the first bar.
    pub from: f64,
    /// The highest of the last.
    pub to: f64,
    /// `[label][bar]`, in documents.
    pub counts: Vec<Vec<u64>>,
}

/// The label of a document: numbers are rounded, so that scores of annotators who wrote `3.0` or `2.6` are classes.
fn label_of(document: &Document, key: &str) -> Option<String> {
    match document.metadata.get(key)? {
        Value::String(text) if !text.is_empty() => Some(text.replace(char::is_whitespace, "_")),
        Value::Number(number) => Some(format!("{}", number.as_f64()?.round() as i64)),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Trains on a stratified part of `documents` and measures on the rest. `progress` as in [`train::train`].
pub fn train(
    documents: &[Document],
    settings: &ClassifySettings,
    threads: usize,
    progress: &(dyn Fn(usize, f64) + Sync),
) -> Result<(Model, Evaluation), Error> {
    if !(0.0..1.0).contains(&settings.held_out) {
        return Err(Error::Training(format!("held_out is {}, expected 0 to under 1", settings.held_out)));
    }
    let mut by_label: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, document) in documents.iter().enumerate() {
        let key = &settings.label_key;
        let label = label_of(document, key).ok_or_else(|| {
            let name = document.id.clone().unwrap_or_else(|| format!("number {}", place + 1));
            Error::Training(format!("document {name} has no label: expected a number or name under `{key}`"))
        })?;
        by_label.entry(label).or_default().push(place);
    }
    let labels: Vec<String> = by_label.keys().cloned().collect();
    let scale = Scale::new(&labels, settings.label.as_deref())?;
    let (seen, held_out) = split(by_label.into_values(), settings);
    let examples = |places: &[(usize, usize)]| -> Vec<Example<'_>> {
        places.iter().map(|&(place, label)| Example { text: &documents[place].text, label }).collect()
    };
    let model = train::train(&examples(&seen), &labels, &settings.train, threads, progress)?;
    let evaluation = evaluate(&model, &scale, &examples(&held_out), seen.len(), threads);
    Ok((model, evaluation))
}

type Places = Vec<(usize, usize)>;

/// `(place, label)` of the documents to train on and of those held out, each in input order.
fn split(by_label: impl Iterator<Item = Vec<usize>>, settings: &ClassifySettings) -> (Places, Places) {
    let (mut seen, mut held_out) = (Vec::new(), Vec::new());
    for (label, mut places) in by_label.enumerate() {
        Stream::new(settings.train.seed, "classify.split", label as u64).shuffle(&mut places);
        let out = (places.len() as f64 * settings.held_out).round() as usize;
        let out = out.min(places.len() - 1);
        held_out.extend(places[..out].iter().map(|&place| (place, label)));
        seen.extend(places[out..].iter().map(|&place| (place, label)));
    }
    seen.sort_unstable();
    held_out.sort_unstable();
    (seen, held_out)
}

/// Measures `model` on `examples`, whose labels are the model's own.
pub fn evaluate(
    model: &Model,
    scale: &Scale,
    examples: &[Example<'_>],
    trained: usize,
    threads: usize,
) -> Evaluation {
    let labels = model.labels();
    let answers = answers(model, scale, examples, threads);
    let mut confusion = vec![vec![0u64; labels.len()]; labels.len()];
    for (example, answer) in examples.iter().zip(&answers) {
        confusion[example.label][answer.label] += 1;
    }
    let per_label: Vec<Rates> = (0..labels.len())
        .map(|label| {
            let predicted = confusion.iter().map(|row| row[label]).sum();
            Rates::new(confusion[label][label], predicted, confusion[label].iter().sum())
        })
        .collect();
    let right: u64 = (0..labels.len()).map(|label| confusion[label][label]).sum();
    Evaluation {
        trained,
        measured: examples.len(),
        labels: labels.to_vec(),
        accuracy: right as f64 / examples.len().max(1) as f64,
        macro_f1: per_label.iter().map(|rates| rates.f1).sum::<f64>() / labels.len() as f64,
        per_label,
        thresholds: thresholds(scale, examples, &answers),
        histogram: histogram(scale, labels.len(), examples, &answers),
        confusion,
    }
}

#[derive(Clone, Copy)]
struct Answer {
    label: usize,
    score: f64,
}

fn answer(model: &Model, scale: &Scale, text: &str) -> Answer {
    let uniform = || vec![1.0 / model.labels().len() as f32; model.labels().len()];
    let probabilities = model.probabilities(text).unwrap_or_else(uniform);
    let score = scale.score(&probabilities);
    let best = |values: &mut dyn Iterator<Item = f64>| {
        let first = |best: (usize, f64), (place, value): (usize, f64)| {
            if value > best.1 { (place, value) } else { best }
        };
        values.enumerate().fold((0, f64::NEG_INFINITY), first).0
    };
    let label = match scale {
        Scale::Values(values) => best(&mut values.iter().map(|value| -(value - score).abs())),
        Scale::Label(_) => best(&mut probabilities.iter().map(|p| f64::from(*p))),
    };
    Answer { label, score }
}

fn answers(model: &Model, scale: &Scale, examples: &[Example<'_>], threads: usize) -> Vec<Answer> {
    let of = |part: &[Example<'_>]| {
        part.iter().map(|example| answer(model, scale, example.text)).collect::<Vec<_>>()
    };
    let size = examples.len().div_ceil(threads.max(1)).max(1);
    let parts: Vec<_> = examples.chunks(size).map(|part| (part, Mutex::new(Vec::new()))).collect();
    std::thread::scope(|scope| {
        for (part, found) in &parts {
            scope.spawn(|| *found.lock().unwrap_or_else(PoisonError::into_inner) = of(part));
        }
    });
    let open =
        |(_, found): (_, Mutex<Vec<Answer>>)| found.into_inner().unwrap_or_else(PoisonError::into_inner);
    parts.into_iter().flat_map(open).collect()
}

fn thresholds(scale: &Scale, examples: &[Example<'_>], answers: &[Answer]) -> Vec<Threshold> {
    let points: Vec<f64> = match scale {
        Scale::Values(values) => {
            let mut values = values.clone();
            values.sort_by(f64::total_cmp);
            let middle = |pair: &[f64]| [(pair[0] + pair[1]) / 2.0, pair[1]];
            values.windows(2).flat_map(middle).collect()
        }
        Scale::Label(_) => (1..BARS).map(|step| step as f64 / BARS as f64).collect(),
    };
    let good = |example: &Example<'_>, threshold: f64| match scale {
        Scale::Values(values) => values[example.label] >= threshold,
        Scale::Label(label) => example.label == *label,
    };
    let point = |threshold: f64| {
        let (mut hits, mut kept, mut actual) = (0, 0, 0);
        for (example, answer) in examples.iter().zip(answers) {
            let (is, has) = (answer.score >= threshold, good(example, threshold));
            kept += u64::from(is);
            actual += u64::from(has);
            hits += u64::from(is && has);
        }
        let share = kept as f64 / examples.len().max(1) as f64;
        Threshold { threshold, kept: share, rates: Rates::new(hits, kept, actual) }
    };
    points.into_iter().map(point).collect()
}

fn histogram(scale: &Scale, labels: usize, examples: &[Example<'_>], answers: &[Answer]) -> Histogram {
    let (from, to) = match scale {
        Scale::Values(values) => {
            let bounds = |(low, high): (f64, f64), value: &f64| (low.min(*value), high.max(*value));
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), bounds)
        }
        Scale::Label(_) => (0.0, 1.0),
    };
    let mut counts = vec![vec![0; BARS]; labels];
    for (example, answer) in examples.iter().zip(answers) {
        let bar = ((answer.score - from) / (to - from) * BARS as f64) as usize;
        counts[example.label][bar.min(BARS - 1)] += 1;
    }
    Histogram { from, to, counts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Vec<Document> {
        let words = ["zero", "one", "two", "three"];
        (0..200)
            .map(|n| {
                let mut document = Document::default();
                let label = n % 4;
                document.text = format!("text {} of {} number {}", words[label], words[label], n % 7);
                document.metadata.insert("label".into(), Value::from(label as f64 + 0.2));
                document
            })
            .collect()
    }

    fn settings() -> ClassifySettings {
        let defaults: ClassifySettings = smolt_run::recipe::defaults().unwrap();
        let train = TrainSettings { bucket: 500, dim: 8, epochs: 20, ..defaults.train.clone() };
        ClassifySettings { train, ..defaults }
    }

    #[test]
    fn the_split_is_stratified_and_the_evaluation_adds_up() {
        let (_, evaluation) = train(&documents(), &settings(), 2, &|_, _| {}).unwrap();
        assert_eq!((evaluation.trained, evaluation.measured), (180, 20));
        assert_eq!(evaluation.labels, ["0", "1", "2", "3"]);
        assert!(evaluation.confusion.iter().all(|row| row.iter().sum::<u64>() == 5));
        assert_eq!(evaluation.histogram.counts.iter().flatten().sum::<u64>(), 20);
        assert!(evaluation.accuracy > 0.9 && evaluation.macro_f1 > 0.9, "{evaluation:?}");
        let thresholds: Vec<f64> = evaluation.thresholds.iter().map(|point| point.threshold).collect();
        assert_eq!(thresholds, [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]);
        assert!(evaluation.thresholds.windows(2).all(|pair| pair[0].kept >= pair[1].kept));
        let json = serde_json::to_value(&evaluation).unwrap();
        assert!(json["thresholds"][0]["precision"].is_number());
    }

    #[test]
    fn the_same_for_any_number_of_threads() {
        let run = |threads| {
            let (model, evaluation) = train(&documents(), &settings(), threads, &|_, _| {}).unwrap();
            (model.to_bytes().unwrap(), evaluation)
        };
        assert!(run(1) == run(3));
    }

    #[test]
    fn rates_of_known_counts() {
        let rates = Rates::new(2, 4, 3);
        assert_eq!((rates.precision, rates.recall), (0.5, 2.0 / 3.0));
        assert!((rates.f1 - 4.0 / 7.0).abs() < 1e-12);
        assert_eq!(Rates::new(0, 0, 0), Rates::default());
    }

    #[test]
    fn documents_without_label_are_named() {
        let mut documents = documents();
        documents[3].metadata.clear();
        let error = train(&documents, &settings(), 1, &|_, _| {}).err().unwrap().to_string();
        assert!(error.contains("number 4") && error.contains("`label`"), "{error}");
    }
}
