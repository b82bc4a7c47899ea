//! Applies one step to a JSONL file, for the comparisons in `bench/peers/`:
//! `apply_step STEP FILE [key=value …]` prints `{"reason", "document"}` a line, and its own time on stderr.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use smolt_curate::analysis::Analysis;
use smolt_curate::step::{Step, Verdict};
use smolt_curate::steps;
use smolt_data::document::{Document, JsonLines};
use smolt_run::recipe::{self, Recipe};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn settings<T: Recipe>(sets: &[String]) -> Fallible<T> {
    let mut document = recipe::Document::parse("arguments", b"")?;
    for set in sets {
        document.set(set)?;
    }
    Ok(document.read()?)
}

fn step(name: &str, sets: &[String]) -> Fallible<Box<dyn Step>> {
    Ok(match name {
        "classifier" => Box::new(steps::classifier::Classifier::new(&settings(sets)?)?),
        "cleanup" => Box::new(steps::cleanup::Cleanup::new(&settings(sets)?)),
        "code" => Box::new(steps::code::Code::new(&settings(sets)?)),
        "encoding" => Box::new(steps::encoding::Encoding::new(&settings(sets)?)),
        #[cfg(feature = "html")]
        "html_text" => Box::new(steps::html_text::HtmlText::new(&settings(sets)?)),
        "language" => Box::new(steps::language::Language::new(&settings(sets)?)?),
        "pii" => Box::new(steps::pii::Pii::new(&settings(sets)?)),
        "repeated_ngrams" => Box::new(steps::repeated_ngrams::RepeatedNgrams::new(&settings(sets)?)),
        "url" => Box::new(steps::url::Url::new(&settings(sets)?)?),
        _ => return Err(format!("no step {name}").into()),
    })
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, path, sets @ ..] = &arguments[..] else { return Err("STEP FILE [key=value …]".into()) };
    let step = step(name, sets)?;
    let documents = JsonLines::<Document>::open(Path::new(path))?.collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = documents.iter().map(|document| document.text.len()).sum();
    let mut analysis = Analysis::default();
    let mut results = Vec::with_capacity(documents.len());
    let start = Instant::now();
    for mut document in documents {
        analysis.text_changed();
        let verdict = step.apply(&mut document, &mut analysis);
        results.push((document, verdict));
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (document, verdict) in results {
        let reason = match verdict {
            Verdict::Keep => String::new(),
            Verdict::Reject(rejection) => rejection.reason.to_owned(),
        };
        let line = serde_json::json!({"reason": reason, "document": document});
        writeln!(out, "{line}")?;
    }
    eprintln!("{seconds:.3} s, {:.2} MB/s", bytes as f64 / 1e6 / seconds);
    Ok(())
}
