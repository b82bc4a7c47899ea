//! The page of an evaluation: scores with their errors, and every kind of item to look at (spec EVL-09, PEV-22).

use crate::output::thousands;
use crate::report::{STYLE, escape};
use smolt_eval::evaluate::{Sample, Written};
use smolt_eval::record::{self, Results, TaskResult};
use smolt_run::error::Failure;
use smolt_run::plot::{Bar, BarChart};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Items on the page per task: as many wrong as right ones, so that the page stays small.
const SHOWN: usize = 40;

/// Characters of a text on the page.
const MOST_TEXT: usize = 6000;

/// The page's name within a folder of results.
pub(crate) const FILE: &str = "report.html";

/// Writes `report.html` into a folder of results.
pub(crate) fn write(folder: &Path, results: &Results) -> Result<PathBuf, Failure> {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Evaluation of {0}</title><style>{STYLE}</style></head><body>\
         <h1>Evaluation of {0}</h1>",
        escape(&results.model.path)
    );
    head(&mut page, results);
    let bar = |task: &TaskResult| {
        let score = task.scores.primary()?;
        let (value, error) = (100.0 * score.value, Some(100.0 * score.stderr));
        Some([
            Bar { name: task.name(), group: "model".into(), value, error },
            Bar {
                name: String::new(),
                group: "random".into(),
                value: 100.0 * task.scores.random_baseline,
                error: None,
            },
        ])
    };
    let bars = results.tasks.iter().filter_map(bar).flatten().collect();
    page.push_str(&BarChart { title: "Primary scores".into(), y_label: "%".into(), bars }.svg());
    for task in &results.tasks {
        let path = record::samples_path(folder, &task.task, task.how.formulation);
        let samples = if path.exists() { record::read_samples(&path)? } else { Vec::new() };
        task_section(&mut page, task, &samples);
    }
    page.push_str("</body></html>\n");
    let path = folder.join(FILE);
    smolt_run::atomic::write(&path, page.as_bytes())?;
    Ok(path)
}

fn head(page: &mut String, results: &Results) {
    let model = &results.model;
    let _ = write!(
        page,
        "<p>{}, {} parameters, {}, context {}; smolt {} on {}; {}.</p>",
        escape(&model.hash.chars().take(16).collect::<String>()),
        model.parameters.map_or("unknown".into(), thousands),
        escape(&model.precision),
        model.context_length,
        escape(&results.smolt),
        escape(&results.machine),
        escape(&results.date)
    );
}

fn percent(x: f64) -> String {
    format!("{:.2}", 100.0 * x)
}

fn task_section(page: &mut String, task: &TaskResult, samples: &[Sample]) {
    let scores = &task.scores;
    let _ = write!(page, "<h2>{}</h2><p>", escape(&task.name()));
    let data = &task.dataset;
    let _ = write!(
        page,
        "{} items of {} ({}, revision {}, rows {}), {} examples before each; a guess scores {} %",
        thousands(scores.items as u64),
        escape(&data.path),
        escape(&data.split),
        escape(data.revision.as_deref().unwrap_or("local")),
        escape(&data.hash),
        task.few_shot,
        percent(scores.random_baseline)
    );
    if let Some(frequent) = scores.most_frequent {
        let _ = write!(page, ", the most frequent answer {} %", percent(frequent));
    }
    let counts = &scores.counts;
    let _ = write!(
        page,
        ". {} prompts cut, {} answers cut, {} reasonings without end, {} answers in which nothing was found. \
         Contamination: {}. {}.</p>{}<table><tr><th>score</th><th>%</th><th>±</th></tr>",
        counts.truncated_prompts,
        counts.truncated_answers,
        counts.unclosed_reasoning,
        counts.nothing_extracted,
        task.contamination.as_ref().map_or("not measured".into(), |found| escape(&found.summary())),
        escape(&task.standing.to_string()),
        contaminated(task),
    );
    for (name, score) in &scores.metrics {
        let (value, error) = match name.as_str() {
            "answer_bits_per_byte" => (format!("{:.3}", score.value), format!("{:.3}", score.stderr)),
            _ => (percent(score.value), percent(score.stderr)),
        };
        let mark = if *name == scores.primary { " ★" } else { "" };
        let _ = write!(page, "<tr><td>{}{mark}</td><td>{value}</td><td>{error}</td></tr>", escape(name));
    }
    page.push_str("</table>");
    subsets(page, task);
    items(page, task, samples);
}

/// Clean and contaminated items apart, and the documents that hold most of them.
fn contaminated(task: &TaskResult) -> String {
    let Some(contamination) = &task.contamination else { return String::new() };
    let mut html = String::new();
    for line in super::contamination::lines(&task.name(), Some(contamination)) {
        let _ = write!(html, "<p>{}</p>", escape(&line));
    }
    let worst = contamination.by_n.first().map(|found| found.worst.as_slice()).unwrap_or_default();
    if !worst.is_empty() {
        html.push_str("<details><summary>documents with most items</summary><ul>");
        for document in worst {
            let name = document.source.as_deref().unwrap_or_default();
            let line = format!(
                "{} document {} {name}: {} items, such as {}: {}",
                document.shard, document.document, document.items, document.example, document.excerpt
            );
            let _ = write!(html, "<li>{}</li>", escape(&line));
        }
        html.push_str("</ul></details>");
    }
    html
}

fn subsets(page: &mut String, task: &TaskResult) {
    let scores = &task.scores;
    if scores.subsets.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<details><summary>{} subsets</summary><table><tr><th>subset</th><th>items</th><th>{}</th><th>±</th></tr>",
        scores.subsets.len(),
        escape(&scores.primary)
    );
    for (name, metrics) in &scores.subsets {
        if let Some(score) = metrics.get(&scores.primary) {
            let _ = write!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(name),
                score.n,
                percent(score.value),
                percent(score.stderr)
            );
        }
    }
    page.push_str("</table></details>");
}

/// Wrong and right items, the first of each.
fn items(page: &mut String, task: &TaskResult, samples: &[Sample]) {
    let right = |sample: &&Sample| sample.values.get(&task.scores.primary).is_some_and(|&value| value >= 1.0);
    let (good, bad): (Vec<&Sample>, Vec<&Sample>) = samples.iter().partition(right);
    for (class, title, of) in [("missed", "not solved", bad), ("met", "solved", good)] {
        if of.is_empty() {
            continue;
        }
        let shown = of.len().min(SHOWN / 2);
        let _ = write!(
            page,
            "<details><summary class=\"{class}\">{} items {title}, the first {shown}</summary>",
            thousands(of.len() as u64)
        );
        for sample in of.into_iter().take(shown) {
            item(page, task, sample);
        }
        page.push_str("</details>");
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST_TEXT) {
        Some((at, _)) => format!("{} […]", escape(&text[..at])),
        None => escape(text),
    }
}

fn item(page: &mut String, task: &TaskResult, sample: &Sample) {
    let _ = write!(page, "<h4>item {}</h4><pre>{}</pre>", escape(&sample.id), cut(&sample.prompt));
    if !sample.candidates.is_empty() {
        let picked = sample.picks.get(&task.scores.primary);
        page.push_str("<table><tr><th>candidate</th><th>ln P</th><th>tokens</th><th></th></tr>");
        for (i, candidate) in sample.candidates.iter().enumerate() {
            let marks = [(Some(i) == sample.answer, "right"), (Some(&i) == picked, "picked")];
            let said: Vec<&str> = marks.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
            let _ = write!(
                page,
                "<tr><td>{}{}</td><td>{:.3}</td><td>{}</td><td>{}</td></tr>",
                cut(candidate.prompt.as_deref().unwrap_or_default()),
                cut(&candidate.continuation),
                candidate.log_likelihood,
                candidate.tokens,
                said.join(", ")
            );
        }
        page.push_str("</table>");
        return;
    }
    let _ = write!(page, "<p>accepted: {}</p>", cut(&sample.answers.join(" | ")));
    for Written { generated, reasoning, judged } in &sample.written {
        let _ = write!(
            page,
            "<pre>{}</pre><p>ended by {:?}, reasoning {reasoning:?}",
            cut(&generated.text),
            generated.finish
        );
        if let Some(log_likelihood) = generated.log_likelihood {
            let _ = write!(page, ", ln P {log_likelihood:.3} over {} tokens", generated.tokens);
        }
        for verdict in judged {
            let found = verdict.extracted.as_deref().unwrap_or("nothing found");
            let _ = write!(page, "; {}: “{}” → {}", escape(&verdict.metric), cut(found), verdict.value);
        }
        page.push_str("</p>");
    }
}
