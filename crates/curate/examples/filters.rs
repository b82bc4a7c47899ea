//! Gopher, C4 and FineWeb filters on a JSONL corpus, one thread: speed by CPU time of each and of all in one pass, and decisions to
//! compare with datatrove's (`bench/peers/curate_filters.py`).
//!
//! ```text
//! cargo run --release -p smolt-curate --example filters -- corpus.jsonl [--rounds 3] [--decisions ours.jsonl]
//!     [--words words.jsonl]
//! ```
//!
//! `--words` takes datatrove's own words and sentences from that file instead of finding them, and times nothing.

use std::error::Error;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use smolt_curate::analysis::{Analysis, Span};
use smolt_curate::steps::c4::C4;
use smolt_curate::steps::fineweb::FineWeb;
use smolt_curate::steps::gopher_quality::GopherQuality;
use smolt_curate::steps::gopher_repetition::GopherRepetition;
use smolt_curate::{Step, Verdict};
use smolt_data::document::{Document, Documents};
use smolt_run::recipe::defaults;

type Steps = Vec<(&'static str, Box<dyn Step>)>;

#[derive(Default)]
struct Options {
    corpus: PathBuf,
    rounds: usize,
    decisions: Option<PathBuf>,
    words: Option<PathBuf>,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options { rounds: 3, ..Options::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--rounds" => options.rounds = value()?.parse()?,
            "--decisions" => options.decisions = Some(value()?.into()),
            "--words" => options.words = Some(value()?.into()),
            _ => options.corpus = argument.into(),
        }
    }
    Ok(options)
}

fn steps() -> Result<Steps, Box<dyn Error>> {
    let refused = |_| "default settings were refused";
    Ok(vec![
        ("gopher_quality", Box::new(GopherQuality::new(defaults().map_err(refused)?)) as Box<dyn Step>),
        ("gopher_repetition", Box::new(GopherRepetition::new(defaults().map_err(refused)?)?)),
        ("c4", Box::new(C4::new(defaults().map_err(refused)?)?)),
        ("fineweb", Box::new(FineWeb::new(defaults().map_err(refused)?))),
    ])
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let documents = Documents::new(std::slice::from_ref(&options.corpus)).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = documents.iter().map(|document| document.text.len()).sum();
    println!("{} documents, {:.1} MB", documents.len(), bytes as f64 / 1e6);
    let steps = steps()?;
    if options.words.is_none() {
        for _ in 0..options.rounds {
            measure(&steps, &documents, bytes);
        }
    }
    if let Some(path) = &options.decisions {
        decide(&steps, &documents, &options, path)?;
    }
    Ok(())
}

fn measure(steps: &Steps, documents: &[Document], bytes: usize) {
    for (name, step) in steps {
        time(name, bytes, documents, |document, analysis| step.apply(document, analysis).keeps());
    }
    // Every step looks at every document, as if each had kept it: the most work that a pass can be.
    time("all, none skipped", bytes, documents, |document, analysis| {
        steps.iter().fold(true, |keeps, (_, step)| step.apply(document, analysis).keeps() && keeps)
    });
    time("all, in order", bytes, documents, |document, analysis| {
        steps.iter().all(|(_, step)| step.apply(document, analysis).keeps())
    });
}

fn time(
    name: &str,
    bytes: usize,
    documents: &[Document],
    mut keeps: impl FnMut(&mut Document, &mut Analysis) -> bool,
) {
    // The copies that C4 edits are made before the clock starts.
    let mut copies = documents.to_vec();
    let mut analysis = Analysis::default();
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut kept = 0;
    for document in &mut copies {
        analysis.text_changed();
        kept += usize::from(keeps(document, &mut analysis));
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu.zip(cpu_seconds()).map_or(seconds, |(before, after)| after - before);
    println!(
        "{name:18} {:8.2} MB/s  {cpu:8.3} s CPU, {seconds:8.3} s  kept {kept}",
        bytes as f64 / 1e6 / cpu
    );
}

/// CPU time of this thread, where Linux tells it: other programs do not slow it down, or less.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_ascii_whitespace().next()?.parse::<f64>().ok().map(|nanoseconds| nanoseconds * 1e-9)
}

fn decide(
    steps: &Steps,
    documents: &[Document],
    options: &Options,
    path: &PathBuf,
) -> Result<(), Box<dyn Error>> {
    let mut given = match &options.words {
        Some(path) => Some(BufReader::new(std::fs::File::open(path)?).lines()),
        None => None,
    };
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    for document in documents {
        let line = match &mut given {
            Some(lines) => Some(lines.next().ok_or("fewer lines of words than documents")??),
            None => None,
        };
        let mut decision = json!({});
        for (name, step) in steps {
            let mut analysis = match &line {
                Some(line) => given_words(line)?,
                None => Analysis::default(),
            };
            let mut document = document.clone();
            decision[*name] = match step.apply(&mut document, &mut analysis) {
                Verdict::Keep => Value::Null,
                Verdict::Reject(rejection) => rejection.reason.into(),
            };
            if *name == "c4" && decision[*name].is_null() {
                decision["c4_text"] = document.text.into();
            }
        }
        writeln!(out, "{decision}")?;
    }
    Ok(out.flush()?)
}

fn given_words(line: &str) -> Result<Analysis, Box<dyn Error>> {
    let value: Value = serde_json::from_str(line)?;
    let numbers = |key: &str| -> Vec<u64> {
        value[key].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
    };
    let words: Vec<Span> =
        numbers("words").chunks_exact(2).map(|pair| (pair[0] as u32, pair[1] as u32)).collect();
    Ok(Analysis::with_words(words, numbers("sentences").into_iter().map(|count| count as usize).collect()))
}
