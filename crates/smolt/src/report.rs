//! The HTML report: one file, no scripts, readable in light and dark mode.

use crate::model_folder::ModelFolder;
use crate::output::{bytes, thousands};
use crate::skills::{Sample, Scores, SkillScores};
use serde_json::Value;
use smolt_eval::stats::Score;
use smolt_infer::sampling::Sampling;
use smolt_infer::{Settings, generate};
use smolt_run::error::{Failure, FileError};
use smolt_run::metrics;
use smolt_run::plot::{Bar, BarChart, LinePlot, Panel, Series};
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_text::template::Message;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// A training run on the page.
pub(crate) struct Training {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

/// Where everything on the page comes from.
pub(crate) struct Inputs<'a> {
    pub(crate) title: &'a str,
    pub(crate) runs: Vec<Training>,
    pub(crate) eval: PathBuf,
    pub(crate) before: Option<PathBuf>,
    pub(crate) prompts: &'a [String],
    pub(crate) model_before: Option<PathBuf>,
    pub(crate) model_after: Option<PathBuf>,
    pub(crate) threads: usize,
}

pub(crate) const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;\
color:#222;background:#fff}table{border-collapse:collapse;margin:1rem 0}th,td{padding:.2rem .8rem;text-align:right;\
border-bottom:1px solid #8884}th:first-child,td:first-child{text-align:left}pre{background:#8881;padding:1rem;\
overflow-x:auto;white-space:pre-wrap}.met{color:#00734f}.missed{color:#b03a00}details{margin:1rem 0}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}.met{color:#3fd6a8}.missed{color:#ff8f4a}}";

/// Text as HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Writes the page.
pub(crate) fn html(inputs: &Inputs<'_>) -> Result<String, Failure> {
    let scores = read_scores(&inputs.eval)?;
    let before = inputs.before.as_deref().map(read_scores).transpose()?;
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style></head><body><h1>{0}</h1>",
        escape(inputs.title)
    );
    bars(&mut page, &scores);
    score_table(&mut page, "Scores of the final model", &scores);
    score_chart(&mut page, &scores);
    if let Some(before) = &before {
        score_table(&mut page, "Scores before SFT", before);
    }
    for run in &inputs.runs {
        training(&mut page, run)?;
    }
    conversations(&mut page, inputs)?;
    answers(&mut page, &scores.samples);
    for run in &inputs.runs {
        let recipe = read(&run.folder.join("recipe.lock.toml"))?;
        let name = escape(&run.name);
        let _ = write!(
            page,
            "<details><summary>Resolved recipe of {name}</summary><pre>{}</pre></details>",
            escape(&recipe)
        );
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

fn read(path: &Path) -> Result<String, Failure> {
    Ok(std::fs::read_to_string(path).map_err(|e| FileError::reading(path, e))?)
}

fn read_scores(folder: &Path) -> Result<Scores, Failure> {
    let path = folder.join("scores.json");
    serde_json::from_str(&read(&path)?).map_err(|e| Failure::bad_input(format!("{}: {e}", path.display())))
}

fn percent(score: Option<Score>) -> String {
    score.map_or("–".into(), |s| format!("{:.1} ± {:.1}", 100.0 * s.value, 100.0 * s.stderr))
}

/// What the model should reach, and whether it does.
fn bars(page: &mut String, s: &Scores) {
    let mut rows = Vec::new();
    let m = &s.macro_average;
    let margin = 100.0 * (m.cloze.value - m.best_baseline());
    rows.push((
        "cloze accuracy above the best of chance, most frequent answer and n-gram, points",
        format!("{margin:.1}"),
        "≥ 15",
        margin >= 15.0,
    ));
    if let Some(exact) = m.exact_match {
        let value = 100.0 * exact.value;
        rows.push(("exact match of chat answers, %", format!("{value:.1}"), "≥ 30", value >= 30.0));
    }
    if let Some(ended) = s.ended {
        let value = 100.0 * ended.value;
        rows.push((
            "chat answers that end within the limit, %",
            format!("{value:.1}"),
            "≥ 95",
            value >= 95.0,
        ));
    }
    if let (Some(ours), Some(zstd)) = (s.bits_per_byte, s.zstd_bits_per_byte) {
        let saved = 100.0 * (1.0 - ours / zstd);
        let name = "bits per byte on held-out works below zstd -19 --patch-from, %";
        rows.push((name, format!("{saved:.1} ({ours:.3} against {zstd:.3})"), "≥ 10", saved >= 10.0));
    }
    page.push_str("<h2>Bars</h2><table><tr><th>measure</th><th>value</th><th>bar</th><th></th></tr>");
    for (name, value, bar, met) in rows {
        let (class, verdict) = if met { ("met", "met") } else { ("missed", "missed") };
        let _ = write!(
            page,
            "<tr><td>{name}</td><td>{value}</td><td>{bar}</td><td class=\"{class}\">{verdict}</td></tr>"
        );
    }
    page.push_str("</table>");
}

fn score_table(page: &mut String, title: &str, scores: &Scores) {
    let _ = write!(
        page,
        "<h2>{title}</h2><p>Accuracy in %, ± one standard error. Cloze: the answer with the largest log-likelihood per \
         character. Exact match: the chat answer, compared as text.</p><table><tr><th>skill</th><th>cloze</th>\
         <th>exact match</th><th>chance</th><th>most frequent</th><th>n-gram</th><th>untrained</th></tr>"
    );
    for s in scores.skills.iter().chain([&scores.macro_average]) {
        let SkillScores { skill, cloze, exact_match, chance, most_frequent, ngram, untrained, .. } = s;
        let _ = write!(page, "<tr><td>{}</td>", escape(skill));
        for score in [Some(*cloze), *exact_match, Some(*chance), Some(*most_frequent), *ngram, *untrained] {
            let _ = write!(page, "<td>{}</td>", percent(score));
        }
        page.push_str("</tr>");
    }
    page.push_str("</table>");
}

fn score_chart(page: &mut String, scores: &Scores) {
    let mut all = Vec::new();
    for s in &scores.skills {
        let mut bar = |group: &str, score: Option<Score>| {
            if let Some(score) = score {
                let (value, error) = (100.0 * score.value, Some(100.0 * score.stderr));
                all.push(Bar { name: s.skill.clone(), group: group.to_string(), value, error });
            }
        };
        bar("model, cloze", Some(s.cloze));
        bar("model, exact match", s.exact_match);
        bar("n-gram", s.ngram);
        bar("chance", Some(s.chance));
    }
    let chart = BarChart { title: "Accuracy by skill".into(), y_label: "%".into(), bars: all };
    page.push_str(&chart.svg());
}

/// Curves of one run.
fn training(page: &mut String, run: &Training) -> Result<(), Failure> {
    let lines = metrics::read(&run.folder.join("metrics.jsonl"))?;
    let series = |key: &str| -> Vec<(f64, f64)> {
        lines.iter().filter_map(|l| Some((l["step"].as_f64()?, l[key].as_f64()?))).collect()
    };
    let validation = |line: &Value| line["validation_bits_per_byte"].as_object().cloned().unwrap_or_default();
    let mut domains: Vec<String> =
        lines.iter().flat_map(|l| validation(l).keys().cloned().collect::<Vec<_>>()).collect();
    domains.sort();
    domains.dedup();
    let of_domain = |name: &String| {
        let points =
            lines.iter().filter_map(|l| Some((l["step"].as_f64()?, validation(l).get(name)?.as_f64()?)));
        Series::new(name.clone(), points.collect())
    };
    let panel = |label: &str, series: Vec<Series>| Panel { y_label: label.into(), log_y: false, series };
    let plot = |title: String, panels: Vec<Panel>| {
        LinePlot { title, x_label: "step".into(), log_x: false, panels }.svg()
    };
    let name = escape(&run.name);
    let last = lines.last();
    let tokens = last.and_then(|l| l["tokens"].as_u64()).unwrap_or(0);
    let _ = write!(page, "<h2>{name}</h2><p>{} steps, {} tokens.</p>", lines.len(), thousands(tokens));
    let mut panels = vec![panel("loss (nats per token)", vec![Series::new("training loss", series("loss"))])];
    if !domains.is_empty() {
        panels.push(panel("validation (bits per byte)", domains.iter().map(of_domain).collect()));
    }
    page.push_str(&plot(format!("{}: loss", run.name), panels));
    let rate = Series::new("learning rate", series("learning_rate"));
    let norm = Series::new("gradient norm", series("grad_norm"));
    let panels = vec![panel("learning rate", vec![rate]), panel("gradient norm", vec![norm])];
    page.push_str(&plot(format!("{}: schedule", run.name), panels));
    let speed = Series::new("tokens per second", series("tokens_per_second"));
    page.push_str(&plot(format!("{}: throughput", run.name), vec![panel("tokens per second", vec![speed])]));
    let environment: Value =
        serde_json::from_str(&read(&run.folder.join("environment.json"))?).unwrap_or_default();
    let fact = |key: &str| escape(environment[key].as_str().unwrap_or("?"));
    let _ = write!(
        page,
        "<p>Computed on {} ({}). Peak memory so far: {}.</p>",
        fact("cpu_model"),
        fact("os"),
        bytes(smolt_run::resources::peak_rss_bytes().unwrap_or(0))
    );
    Ok(())
}

/// The same prompts put to the model before and after SFT.
fn conversations(page: &mut String, inputs: &Inputs<'_>) -> Result<(), Failure> {
    let (Some(before), Some(after)) = (&inputs.model_before, &inputs.model_after) else { return Ok(()) };
    if inputs.prompts.is_empty() {
        return Ok(());
    }
    let cpu = Cpu::new(inputs.threads).map_err(|e| Failure::bad_input(e.to_string()))?;
    let chat = ModelFolder::load(after)?;
    let template = chat.template()?;
    let prompts = inputs
        .prompts
        .iter()
        .map(|p| Ok(template.encode(&chat.tokenizer, &[Message::new("user", p.clone())], true)?.ids))
        .collect::<Result<Vec<_>, Failure>>()?;
    let settings =
        Settings { max_tokens: 48, stop: chat.stop_tokens(), sampling: Sampling::default(), seed: 0 };
    let answer = |folder: &ModelFolder| -> Result<Vec<String>, Failure> {
        let capacity = folder.loaded.model.config().max_position_embeddings;
        let mut decoder = folder.decoder(&cpu, Precision::Fp32, 8, capacity);
        let answers = generate(&mut decoder, &prompts, &settings, |_, _| ControlFlow::Continue(()))
            .map_err(|e| Failure::bad_input(e.to_string()))?;
        Ok(answers.iter().map(|a| folder.tokenizer.decode(&a.tokens, true)).collect())
    };
    let (first, second) = (answer(&ModelFolder::load(before)?)?, answer(&chat)?);
    page.push_str("<h2>The same prompts before and after SFT</h2><table><tr><th>prompt</th><th>before</th><th>after</th></tr>");
    for ((prompt, before), after) in inputs.prompts.iter().zip(first).zip(second) {
        let cell = |text: &str| {
            format!("<td style=\"text-align:left;white-space:pre-wrap\">{}</td>", escape(text.trim()))
        };
        let _ = write!(page, "<tr>{}{}{}</tr>", cell(prompt), cell(&before), cell(&after));
    }
    page.push_str("</table>");
    Ok(())
}

fn answers(page: &mut String, samples: &[Sample]) {
    if samples.is_empty() {
        return;
    }
    page.push_str("<h2>Test questions and answers</h2><table><tr><th>skill</th><th>question</th><th>answer</th><th>expected</th></tr>");
    for s in samples {
        let cell =
            |text: &str| format!("<td style=\"text-align:left;white-space:pre-wrap\">{}</td>", escape(text));
        let _ = write!(
            page,
            "<tr><td>{}</td>{}{}{}</tr>",
            escape(&s.skill),
            cell(&s.question),
            cell(&s.answer),
            cell(&s.expected)
        );
    }
    page.push_str("</table>");
}
