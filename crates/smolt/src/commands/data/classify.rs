//! `smolt data classify train|score`: quality classifiers of words and n-grams (spec CLN-02).

use super::percent;
use crate::Outcome;
use crate::device::DeviceArgs;
use crate::output::{self, thousands};
use clap::Subcommand;
use serde_json::json;
use smolt_curate::classify::{self, ClassifySettings, Evaluation};
use smolt_curate::steps::classifier::Scorer;
use smolt_data::document::{Document, Documents};
use smolt_data::format::write::DocumentWriter;
use smolt_run::error::Failure;
use smolt_run::progress::Progress;
use smolt_run::recipe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Train on labelled documents; measures on a part that is kept out
    Train(Train),
    /// Write documents with their scores
    Score(Score),
}

#[derive(clap::Args)]
pub(crate) struct Train {
    /// Files of documents with a label each
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// The model to write, NAME.bin, in fastText's format
    #[arg(long)]
    out: PathBuf,
    /// Override a setting: label_key, held_out, label, train.dim, train.epochs, train.lr, train.word_ngrams, …
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the evaluation as JSON and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(clap::Args)]
pub(crate) struct Score {
    /// Files of documents
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// A model that `train` or fastText wrote
    #[arg(long)]
    model: PathBuf,
    /// The class whose probability is the score, where labels are no numbers
    #[arg(long)]
    label: Option<String>,
    /// Metadata key to put the score under
    #[arg(long, default_value = "score")]
    key: String,
    /// The file to write: .jsonl, .jsonl.zst, .jsonl.gz or .parquet
    #[arg(long)]
    out: PathBuf,
}

pub(super) fn run(action: &Action) -> Outcome {
    match action {
        Action::Train(args) => train(args),
        Action::Score(args) => score(args),
    }
}

fn train(args: &Train) -> Outcome {
    let mut settings = recipe::Document::parse("--set", b"")?;
    for set in &args.set {
        settings.set(set)?;
    }
    let settings: ClassifySettings = settings.read()?;
    let documents = Documents::new(&args.inputs).collect::<Result<Vec<Document>, _>>()?;
    let progress = match args.json {
        true => Progress::hidden(),
        false => Progress::new(settings.train.epochs as u64, "epoch"),
    };
    let progress = Mutex::new(progress);
    let tell = |epoch: usize, loss: f64| {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.set(epoch as u64, &format!("loss {loss:.4}"));
    };
    let (model, evaluation) = classify::train(&documents, &settings, args.device.threads(), &tell)?;
    model.save(&args.out)?;
    match args.json {
        true => output::json(&evaluation),
        false => output::line(report(&evaluation)),
    }
    Ok(ExitCode::SUCCESS)
}

fn report(e: &Evaluation) -> String {
    let mut header = vec!["actual \\ predicted"];
    header.extend(e.labels.iter().map(String::as_str));
    header.extend(["recall, %", "F1, %"]);
    let row = |(i, label): (usize, &String)| {
        let mut row = vec![label.clone()];
        row.extend(e.confusion[i].iter().map(|&count| thousands(count)));
        row.extend([percent(e.per_label[i].recall), percent(e.per_label[i].f1)]);
        row
    };
    let confusion = output::table(&header, &e.labels.iter().enumerate().map(row).collect::<Vec<_>>());
    let kept: Vec<Vec<String>> = e
        .thresholds
        .iter()
        .map(|t| {
            let shares = [t.kept, t.rates.precision, t.rates.recall].map(percent);
            [vec![format!("{:.2}", t.threshold)], shares.to_vec()].concat()
        })
        .collect();
    let thresholds = output::table(&["score at least", "kept, %", "precision, %", "recall, %"], &kept);
    let (trained, measured) = (thousands(e.trained as u64), thousands(e.measured as u64));
    let (accuracy, f1) = (percent(e.accuracy), percent(e.macro_f1));
    format!(
        "{confusion}\n\n{thresholds}\n\ntrained on {trained} documents, measured on {measured}: accuracy {accuracy} %, macro-F1 {f1} %"
    )
}

fn score(args: &Score) -> Outcome {
    let scorer = Scorer::load(&args.model, args.label.as_deref())?;
    let mut writer = DocumentWriter::create(&args.out)?;
    let (mut scored, mut without) = (0, 0);
    for document in Documents::new(&args.inputs) {
        let mut document = document?;
        match scorer.score(&document.text) {
            Some(score) => {
                document.metadata.insert(args.key.clone(), json!(score));
                scored += 1;
            }
            None => without += 1,
        }
        writer.write(&document)?;
    }
    writer.finish()?;
    if scored == 0 {
        return Err(Failure::bad_input(format!(
            "{}: knows no word of these documents",
            args.model.display()
        )));
    }
    output::line(format_args!(
        "{} documents scored, {} without a known word, in {}",
        thousands(scored),
        thousands(without),
        args.out.display()
    ));
    Ok(ExitCode::SUCCESS)
}
