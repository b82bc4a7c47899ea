//! `smolt eval rank`: how many rivals each model beats, and which are on the front of size against wins (spec WRP-02).

use crate::{Outcome, output};
use smolt_eval::record::{self, Results};
use smolt_eval::stats::win_rate::{Entrant, Standing, standings};
use smolt_run::error::Failure;
use smolt_run::plot::{Dot, ScatterPlot};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders of results, one for each model
    #[arg(required = true, num_args = 2..)]
    results: Vec<PathBuf>,
    /// File for a plot of the models beaten over the model's size
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let all =
        args.results.iter().map(|folder| record::read_results(folder)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = all[0].tasks.iter().map(record::TaskResult::name).collect();
    let shared: Vec<String> = names
        .into_iter()
        .filter(|name| all.iter().all(|results| comparable(&all[0], results, name)))
        .collect();
    if shared.is_empty() {
        return Err(Failure::bad_input(
            "the models have no task in common that was asked of all in the same way",
        ));
    }
    let entrant = |results: &Results| {
        let score = |name: &String| Some(task(results, name)?.scores.primary()?.value);
        Entrant {
            model: results.model.path.clone(),
            parameters: results.model.parameters.unwrap_or(0),
            scores: shared.iter().filter_map(score).collect(),
        }
    };
    let standings = standings(&all.iter().map(entrant).collect::<Vec<_>>())?;
    if let Some(file) = &args.svg {
        smolt_run::atomic::write(file, plot(&standings, shared.len()).svg().as_bytes())?;
    }
    if args.json {
        output::json(&serde_json::json!({"tasks": shared, "standings": standings}));
        return Ok(ExitCode::SUCCESS);
    }
    let row = |standing: &Standing| {
        vec![
            standing.model.clone(),
            output::thousands(standing.parameters),
            format!("{:.2} of {}", standing.models_beaten, standing.rivals),
            format!("{:.1}", standing.win_rate_percent),
            if standing.pareto { "yes" } else { "no" }.into(),
        ]
    };
    let header = ["model", "parameters", "models beaten", "win rate %", "on the front"];
    output::line(output::table(&header, &standings.iter().map(row).collect::<Vec<_>>()));
    output::line(format_args!("over {} tasks: {}", shared.len(), shared.join(", ")));
    Ok(ExitCode::SUCCESS)
}

/// Models beaten over size; a model whose size is not known has no place.
fn plot(standings: &[Standing], tasks: usize) -> ScatterPlot {
    let dot = |standing: &Standing| Dot {
        name: standing.model.clone(),
        group: if standing.pareto { "on the front" } else { "behind it" }.into(),
        x: standing.parameters as f64,
        y: standing.models_beaten,
    };
    ScatterPlot {
        title: format!("Models beaten over {tasks} tasks"),
        x_label: "parameters".into(),
        y_label: "models beaten".into(),
        log_x: true,
        diagonal: false,
        dots: standings.iter().map(dot).collect(),
    }
}

fn task<'a>(results: &'a Results, name: &str) -> Option<&'a record::TaskResult> {
    results.tasks.iter().find(|task| task.name() == name)
}

fn comparable(first: &Results, other: &Results, name: &str) -> bool {
    matches!((task(first, name), task(other, name)), (Some(a), Some(b)) if a.comparable(b).is_ok())
}
