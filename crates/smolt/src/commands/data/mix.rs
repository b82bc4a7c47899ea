//! `smolt data mix`: the mixture of a recipe on paper (spec DMX-03, DMX-04, MIX-03, MIX-04).

use super::percent;
use crate::Outcome;
use crate::commands::train::load_recipe;
use crate::output::{self, thousands};
use serde::Serialize;
use smolt_data::order::{Mixture, Plan, PlannedSource, Stage};
use smolt_data::shard::Shard;
use smolt_run::error::Failure;
use smolt_run::plot::{LinePlot, Panel, Series};
use smolt_train::recipe::Train;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A training recipe (TOML); its shards need not exist, but epochs are known only of those that do
    recipe: PathBuf,
    /// Override a setting, e.g. --set train.train_steps=100
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Multiply the weight of a source, and show which others fall
    #[arg(long, value_name = "SOURCE=FACTOR")]
    raise: Option<String>,
    /// Draw the stages: shares by category and the learning rate, over tokens
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Serialize)]
struct Summary {
    tokens: u64,
    stages: Vec<StageSummary>,
    sources: Vec<SourceSummary>,
    differences: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct StageSummary {
    name: String,
    first_step: u64,
    steps: u64,
    tokens: u64,
    /// Category → share of the tokens by the weights, in percent.
    percent: BTreeMap<String, f64>,
}

#[derive(Serialize)]
struct SourceSummary {
    name: String,
    category: String,
    tokens: u64,
    share: f64,
    /// Of shards that exist.
    epochs: Option<f64>,
    /// Of each stage, by the weights.
    share_by_stage: Vec<f64>,
    /// Epochs of each stage.
    epochs_by_stage: Vec<Option<f64>>,
}

pub(super) fn run(a: &Args) -> Outcome {
    let recipe = load_recipe(&a.recipe, &a.set)?;
    let chunks = chunks(&recipe)?;
    let stages = recipe.stages()?;
    let plan = plan(&recipe, &chunks, stages.clone())?;
    let summary = summary(&recipe, &chunks, &plan);
    if let Some(path) = &a.svg {
        let svg = chart(&recipe, &summary)?;
        smolt_run::atomic::write(path, svg.as_bytes())?;
    }
    let raised = match &a.raise {
        Some(raise) => Some(self::plan(&recipe, &chunks, raised(&recipe, stages, raise)?)?),
        None => None,
    };
    if a.json {
        output::json(&serde_json::json!({"mix": summary, "raised": raised}));
        return Ok(ExitCode::SUCCESS);
    }
    print(&summary);
    if let Some(raised) = raised {
        print_raised(&plan, &raised, &chunks);
    }
    Ok(ExitCode::SUCCESS)
}

/// Chunks of each shard that exists.
fn chunks(recipe: &Train) -> Result<Vec<Option<u64>>, Failure> {
    let length = recipe.train.sequence_length as u64 + 1;
    let count = |source: &smolt_train::recipe::Source| {
        let path = Path::new(&source.path);
        match path.exists() {
            true => Ok(Some(Shard::open(path)?.n_tokens() / length)),
            false => Ok(None),
        }
    };
    recipe.data.sources.iter().map(count).collect()
}

fn plan(recipe: &Train, chunks: &[Option<u64>], stages: Vec<Stage>) -> Result<Plan, Failure> {
    // A shard that is not there yet is taken as large as any.
    let sources = recipe.data.sources.iter().zip(chunks);
    let sources: Vec<(String, u64)> =
        sources.map(|(source, chunks)| (source.name.clone(), chunks.unwrap_or(1 << 60))).collect();
    let mixture = Mixture::staged(&sources, stages, recipe.seed)?;
    Ok(Plan::of(&mixture, recipe.train.train_steps.saturating_mul(recipe.train.global_batch_size as u64)))
}

fn raised(recipe: &Train, mut stages: Vec<Stage>, raise: &str) -> Result<Vec<Stage>, Failure> {
    let bad = |problem: &str| Failure::bad_input(format!("--raise {raise}: {problem}"));
    let (name, factor) = raise.split_once('=').ok_or_else(|| bad("write SOURCE=FACTOR"))?;
    let source = recipe.data.sources.iter().position(|source| source.name == name);
    let source = source.ok_or_else(|| bad("data.sources has no such name"))?;
    let factor: f64 = factor.parse().map_err(|_| bad("the factor is not a number"))?;
    stages.iter_mut().for_each(|stage| stage.weights[source] *= factor);
    Ok(stages)
}

fn summary(recipe: &Train, chunks: &[Option<u64>], plan: &Plan) -> Summary {
    let (length, batch) = (recipe.train.sequence_length as u64, recipe.train.global_batch_size as u64);
    let category = |i: usize| {
        let source = &recipe.data.sources[i];
        source.category.clone().unwrap_or_else(|| source.name.clone())
    };
    let stages: Vec<StageSummary> = plan
        .stages
        .iter()
        .map(|stage| {
            let mut percent: BTreeMap<String, f64> = BTreeMap::new();
            for (i, source) in stage.sources.iter().enumerate() {
                *percent.entry(category(i)).or_default() += 100.0 * source.target_share;
            }
            StageSummary {
                name: stage.name.clone(),
                first_step: stage.first_sample / batch.max(1) + 1,
                steps: stage.samples / batch.max(1),
                tokens: stage.samples * length,
                percent,
            }
        })
        .collect();
    let source = |(i, source): (usize, &PlannedSource)| {
        let by_stage = || plan.stages.iter().map(|stage| &stage.sources[i]);
        SourceSummary {
            name: source.name.clone(),
            category: category(i),
            tokens: source.samples * length,
            share: source.share,
            epochs: chunks[i].map(|_| source.epochs),
            share_by_stage: by_stage().map(|s| s.target_share).collect(),
            epochs_by_stage: by_stage().map(|s| chunks[i].map(|_| s.epochs)).collect(),
        }
    };
    Summary {
        tokens: plan.samples * length,
        differences: differences(recipe, &stages),
        sources: plan.sources.iter().enumerate().map(source).collect(),
        warnings: plan.warnings(),
        stages,
    }
}

/// What was stated against what the recipe does (spec MIX-04), and weights that miss 1 (spec REF-03).
fn differences(recipe: &Train, stages: &[StageSummary]) -> Vec<String> {
    let mut lines = Vec::new();
    for (stated, stage) in recipe.data.stages.iter().zip(stages) {
        let name = &stage.name;
        let sum: f64 = stated.weights.values().sum();
        if stated.mix.is_empty() && (sum - 1.0).abs() > 1e-9 && (0.9..1.1).contains(&sum) {
            lines.push(format!(
                "stage \"{name}\": the weights sum to {sum:.6}, not 1; shares are of that sum"
            ));
        }
        let Some(stated) = &stated.stated else { continue };
        if let Some(tokens) = stated.tokens {
            let (is, change) = (stage.tokens as f64, stage.tokens as f64 / tokens - 1.0);
            if change.abs() > 5e-3 {
                lines.push(format!(
                    "stage \"{name}\": stated {} tokens, the recipe trains on {} ({:+.1} %)",
                    short(tokens),
                    short(is),
                    100.0 * change
                ));
            }
        }
        for (category, stated) in &stated.percent {
            let is = stage.percent.get(category).copied().unwrap_or(0.0);
            if (is - stated).abs() >= 0.05 {
                lines.push(format!(
                    "stage \"{name}\": stated {stated} % {category}, the recipe has {is:.1} % ({:+.1})",
                    is - stated
                ));
            }
        }
    }
    lines
}

/// `8.14T`, `47.2B`, `3.07M`.
fn short(n: f64) -> String {
    for (size, unit) in [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")] {
        if n >= size {
            return format!("{:.2}{unit}", n / size);
        }
    }
    format!("{n:.0}")
}

fn print(s: &Summary) {
    output::line(format_args!("{} tokens", thousands(s.tokens)));
    let categories: Vec<&String> =
        s.stages.first().map_or(Vec::new(), |stage| stage.percent.keys().collect());
    let mut header = vec!["stage", "first step", "steps", "tokens"];
    let titles: Vec<String> = categories.iter().map(|category| format!("{category} %")).collect();
    header.extend(titles.iter().map(String::as_str));
    let row = |stage: &StageSummary| {
        let mut row = vec![
            stage.name.clone(),
            thousands(stage.first_step),
            thousands(stage.steps),
            short(stage.tokens as f64),
        ];
        row.extend(categories.iter().map(|category| format!("{:.1}", stage.percent[*category])));
        row
    };
    output::line(output::table(&header, &s.stages.iter().map(row).collect::<Vec<_>>()));
    let mut header =
        vec!["source".to_owned(), "category".into(), "tokens".into(), "%".into(), "epochs".into()];
    header.extend(
        s.stages.iter().skip(usize::from(s.stages.len() == 1)).map(|stage| format!("{} %", stage.name)),
    );
    let row = |source: &SourceSummary| {
        let mut row = vec![
            source.name.clone(),
            source.category.clone(),
            short(source.tokens as f64),
            percent(source.share),
            epochs(source.epochs),
        ];
        if source.share_by_stage.len() > 1 {
            row.extend(source.share_by_stage.iter().map(|&share| format!("{:.3}", 100.0 * share)));
        }
        row
    };
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    output::line("");
    output::line(output::table(&header, &s.sources.iter().map(row).collect::<Vec<_>>()));
    for line in s.differences.iter().chain(&s.warnings) {
        output::line(line);
    }
}

fn epochs(epochs: Option<f64>) -> String {
    epochs.map_or_else(|| "–".into(), |epochs| format!("{epochs:.2}"))
}

fn print_raised(was: &Plan, now: &Plan, chunks: &[Option<u64>]) {
    let rows: Vec<Vec<String>> = was
        .sources
        .iter()
        .zip(&now.sources)
        .zip(chunks)
        .map(|((was, now), chunks)| {
            let of = |source: &PlannedSource| epochs(chunks.map(|_| source.epochs));
            vec![was.name.clone(), percent(was.target_share), percent(now.target_share), of(was), of(now)]
        })
        .collect();
    output::line("");
    output::line(output::table(&["source", "% was", "% now", "epochs were", "epochs now"], &rows));
    now.warnings().iter().for_each(output::line);
}

/// Shares by category, stacked, and the learning rate over tokens (spec MIX-03).
fn chart(recipe: &Train, s: &Summary) -> Result<String, Failure> {
    let wsd = recipe.wsd()?;
    let per_step = (recipe.train.global_batch_size * recipe.train.sequence_length) as f64;
    let mut below = vec![0.0; s.stages.len()];
    let mut series = Vec::new();
    for category in s.stages.first().map_or(Vec::new(), |stage| stage.percent.keys().collect()) {
        let mut points = Vec::new();
        for (stage, below) in s.stages.iter().zip(&mut below) {
            *below += stage.percent[category];
            let (first, last) = ((stage.first_step - 1) as f64, (stage.first_step - 1 + stage.steps) as f64);
            points.extend([(first * per_step, *below), (last * per_step, *below)]);
        }
        series.push(Series::new(category.clone(), points));
    }
    let steps = recipe.train.train_steps;
    let rate = |i: u64| {
        let step = 1 + (u128::from(i) * u128::from(steps.saturating_sub(1)) / 500) as u64;
        (step as f64 * per_step, recipe.optimizer.learning_rate * wsd.factor(step))
    };
    let panel = |y_label: &str, series| Panel { y_label: y_label.into(), log_y: false, series };
    let plot = LinePlot {
        title: "Stages of the mixture".into(),
        x_label: "tokens".into(),
        log_x: false,
        panels: vec![
            panel("% of tokens, stacked", series),
            panel("learning rate", vec![Series::new("learning rate", (0..=500).map(rate).collect())]),
        ],
    };
    Ok(plot.svg())
}
