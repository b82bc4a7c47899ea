//! `smolt eval subset`: a small part of a task that ranks models as the whole does (spec EVL-07, PEV-13).

use crate::{Outcome, output};
use smolt_eval::evaluate::Sample;
use smolt_eval::record;
use smolt_eval::stats::subset::{Agreement, Responses, Selection, select};
use smolt_eval::task::Formulation;
use smolt_run::error::Failure;
use smolt_run::plot::{Dot, ScatterPlot};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders of results, one for each model that was asked the whole task
    #[arg(required = true, num_args = 3..)]
    results: Vec<PathBuf>,
    /// The task
    #[arg(long)]
    task: String,
    /// cloze, multiple_choice or generation
    #[arg(long, default_value = "cloze")]
    formulation: String,
    /// Items to keep
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// How many of the models, the last ones, only check the choice
    #[arg(long, default_value_t = 0)]
    held_out: usize,
    /// File for the chosen ids, one a line: what `dataset.filter` can be made of
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// File for a plot of each model's score on the chosen items over that on all
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let formulation: Formulation = serde_json::from_value(args.formulation.clone().into())
        .map_err(|e| Failure::bad_input(format!("--formulation: {e}")))?;
    let (mut items, mut scores, mut models) = (Vec::new(), Vec::new(), Vec::new());
    for folder in &args.results {
        let results = record::read_results(folder)?;
        let of = |task: &&record::TaskResult| task.task == args.task && task.how.formulation == formulation;
        let metric =
            results.tasks.iter().find(of).map(|task| task.scores.primary.clone()).ok_or_else(|| {
                Failure::bad_input(format!("{}: `{}` was not asked here", folder.display(), args.task))
            })?;
        let samples = record::read_samples(&record::samples_path(folder, &args.task, formulation))?;
        models.push(results.model.path.clone());
        let values: BTreeMap<&str, f64> =
            samples.iter().map(|s| (s.id.as_str(), value(s, &metric))).collect();
        if items.is_empty() {
            items = samples.iter().map(|sample| sample.id.clone()).collect();
        }
        let row: Option<Vec<f64>> = items.iter().map(|id| values.get(id.as_str()).copied()).collect();
        scores.push(row.ok_or_else(|| {
            Failure::bad_input(format!(
                "{}: other items of `{}` were asked here",
                folder.display(),
                args.task
            ))
        })?);
    }
    let held_out: Vec<usize> = (scores.len().saturating_sub(args.held_out)..scores.len()).collect();
    let responses = Responses { items, scores };
    let chosen = select(&responses, &held_out, args.count)?;
    if let Some(path) = &args.ids {
        let lines: String = chosen.items.iter().map(|&i| format!("{}\n", responses.items[i])).collect();
        smolt_run::atomic::write(path, lines.as_bytes())?;
    }
    if let Some(file) = &args.svg {
        let plot = plot(&args.task, &models, &responses, &chosen, &held_out);
        smolt_run::atomic::write(file, plot.svg().as_bytes())?;
    }
    if args.json {
        output::json(&chosen);
        return Ok(ExitCode::SUCCESS);
    }
    let row = |name: &str, of: &Agreement| {
        let correlation = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
        vec![
            name.into(),
            of.models.to_string(),
            correlation(of.spearman),
            correlation(of.kendall),
            format!("{:+.1}", 100.0 * of.bias),
            format!("{:.1}", 100.0 * of.mean_error),
        ]
    };
    let mut rows = vec![row("chosen, on the models it was chosen by", &chosen.chosen_by)];
    rows.extend(chosen.held_out.as_ref().map(|of| row("chosen, on held-out models", of)));
    rows.extend(chosen.hashed_held_out.as_ref().map(|of| row("by hash, on held-out models", of)));
    let header = ["items", "models", "Spearman ρ", "Kendall τ", "bias", "mean error"];
    output::line(output::table(&header, &rows));
    output::line(format_args!("{} of {} items", chosen.items.len(), responses.items.len()));
    Ok(ExitCode::SUCCESS)
}

/// Each model's score on the chosen items over that on all, and how well both rank alike.
fn plot(
    task: &str,
    models: &[String],
    responses: &Responses,
    chosen: &Selection,
    held_out: &[usize],
) -> ScatterPlot {
    let mean = |scores: Vec<f64>| 100.0 * scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let dot = |(at, (name, scores)): (usize, (&String, &Vec<f64>))| Dot {
        name: name.clone(),
        group: if held_out.contains(&at) { "held-out models" } else { "models it was chosen by" }.into(),
        x: mean(scores.clone()),
        y: mean(chosen.items.iter().map(|&item| scores[item]).collect()),
    };
    let told = chosen.held_out.filter(|of| of.spearman.is_some());
    let agreement = told.unwrap_or(chosen.chosen_by);
    let rho = agreement.spearman.map_or("-".into(), |rho| format!("{rho:.3}"));
    let tau = agreement.kendall.map_or("-".into(), |tau| format!("{tau:.3}"));
    ScatterPlot {
        title: format!("{task}: {} of {} items, ρ {rho}, τ {tau}", chosen.items.len(), responses.items.len()),
        x_label: "score on all items, %".into(),
        y_label: "score on the chosen items, %".into(),
        log_x: false,
        diagonal: true,
        dots: models.iter().zip(&responses.scores).enumerate().map(dot).collect(),
    }
}

fn value(sample: &Sample, metric: &str) -> f64 {
    sample.values.get(metric).copied().unwrap_or(0.0)
}
