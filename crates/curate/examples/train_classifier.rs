//! Trains a classifier on one JSONL file and measures it on another, for `bench/peers/classifier.py`:
//! `train_classifier TRAIN TEST MODEL THREADS [key=value …]`.

use std::path::Path;
use std::time::Instant;

use smolt_curate::classify::evaluate;
use smolt_curate::fasttext::Model;
use smolt_curate::fasttext::train::{Example, TrainSettings, train};
use smolt_curate::steps::classifier::Scale;
use smolt_data::document::{Document, JsonLines};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn load(path: &str) -> Fallible<Vec<Document>> {
    Ok(JsonLines::<Document>::open(Path::new(path))?.collect::<Result<_, _>>()?)
}

fn label(document: &Document) -> &str {
    document.metadata.get("label").and_then(|label| label.as_str()).unwrap_or_default()
}

fn examples<'a>(documents: &'a [Document], labels: &[String]) -> Vec<Example<'a>> {
    let place = |document| labels.iter().position(|known| known == label(document)).unwrap_or_default();
    documents.iter().map(|document| Example { text: &document.text, label: place(document) }).collect()
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seen, unseen, path, threads, sets @ ..] = &arguments[..] else {
        return Err("TRAIN TEST MODEL THREADS [key=value …]".into());
    };
    let mut recipe = smolt_run::recipe::Document::parse("arguments", b"")?;
    for set in sets {
        recipe.set(set)?;
    }
    let settings: TrainSettings = recipe.read()?;
    let threads = threads.parse()?;
    let (seen, unseen) = (load(seen)?, load(unseen)?);
    let mut labels: Vec<String> = seen.iter().map(|document| label(document).to_owned()).collect();
    labels.sort();
    labels.dedup();
    let start = Instant::now();
    let model = train(&examples(&seen, &labels), &labels, &settings, threads, &|_, _| {})?;
    let training = start.elapsed().as_secs_f64();
    model.save(Path::new(path))?;
    let model = Model::load(Path::new(path))?;
    let scale = Scale::new(model.labels(), model.labels().first().map(String::as_str))?;
    let start = Instant::now();
    let found = evaluate(&model, &scale, &examples(&unseen, &labels), seen.len(), 1);
    let seconds = start.elapsed().as_secs_f64();
    let bytes: usize = unseen.iter().map(|document| document.text.len()).sum();
    let predicting = bytes as f64 / 1e6 / seconds;
    println!(
        "{}",
        serde_json::json!({"accuracy": found.accuracy, "macro_f1": found.macro_f1, "seconds": training, "predict_mb_s": predicting})
    );
    Ok(())
}
