//! `smolt train`

use crate::device::DeviceArgs;
use crate::during_training::DuringTraining;
use crate::output::{self, bytes, note, thousands};
use crate::{Outcome, model_folder};
use serde_json::json;
use smolt_run::error::Failure;
use smolt_run::progress::Progress;
use smolt_run::{recipe, signal};
use smolt_train::recipe::Train;
use smolt_train::session::{self, Event, Options, Start, StepHook, Summary};
use smolt_train::trainer::StepReport;
use smolt_train::validate::DomainLoss;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A recipe (TOML)
    recipe: PathBuf,
    /// Folder of the run [default: runs/NAME of the recipe]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Continue what the folder holds; an empty one starts fresh
    #[arg(long)]
    resume: bool,
    /// On resume, let stages of the data that have not begun differ from those the run was started with
    #[arg(long, requires = "resume")]
    change_stages: bool,
    /// Override a setting, e.g. --set train.train_steps=100
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Evaluate checkpoints between steps by this plan (TOML)
    #[arg(long, value_name = "PLAN")]
    evaluate: Option<PathBuf>,
    /// Print the result as JSON and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// The recipe in `file` with `set` on top: checked, its paths found from its own folder, a run that the model comes from
/// replaced by its newest checkpoint.
pub(crate) fn load_recipe(file: &Path, set: &[String]) -> Result<Train, Failure> {
    let mut recipe: Train = recipe::load(file, set)?;
    recipe.anchor(file.parent().unwrap_or(Path::new(".")));
    recipe.check().map_err(|e| Failure { message: format!("{}: {e}", file.display()), ..e })?;
    if let Some(from) = &mut recipe.model.from {
        *from = model_folder::resolve(Path::new(from))?.display().to_string();
    }
    Ok(recipe)
}

pub(crate) fn run(args: Args) -> Outcome {
    let recipe = load_recipe(&args.recipe, &args.set)?;
    let name = args.recipe.file_stem().unwrap_or_default();
    let out = args.out.unwrap_or_else(|| Path::new("runs").join(name));
    signal::install().map_err(|e| Failure::failed(format!("cannot handle signals: {e}")))?;
    let argv: Vec<String> = std::env::args().collect();
    let options = Options {
        out: &out,
        resume: args.resume,
        change_stages: args.change_stages,
        cpu: args.device.cpu()?,
        version: env!("CARGO_PKG_VERSION"),
        args: &argv,
    };
    let mut bar = Bar::new(args.json);
    if let Some(plan) = &args.evaluate {
        bar.evaluation = Some(DuringTraining::new(plan, &recipe, &out, args.device.threads())?);
    }
    let summary = session::run(recipe, options, &mut bar)?;
    let evaluation = bar.evaluation.as_ref().map(DuringTraining::cost);
    bar.finish(&summary);
    if args.json {
        let validation: serde_json::Map<_, _> = summary
            .validation
            .iter()
            .map(|l| (l.name.clone(), json!({"loss": l.loss, "bits_per_byte": l.bits_per_byte})))
            .collect();
        output::json(&json!({
            "step": summary.step,
            "stopped": summary.stopped.map(|s| s.name()),
            "checkpoint": summary.checkpoint.display().to_string(),
            "tokens_per_second": summary.tokens_per_second,
            "peak_rss_bytes": smolt_run::resources::peak_rss_bytes(),
            "validation": validation,
            "evaluation": evaluation,
        }));
    }
    Ok(summary.stopped.map_or(ExitCode::SUCCESS, |s| ExitCode::from(s.exit_code())))
}

/// The progress bar of a training run.
pub(crate) struct Bar {
    progress: Option<Progress>,
    quiet: bool,
    /// Tokens per second, smoothed.
    speed: f64,
    /// What checkpoints are evaluated by.
    evaluation: Option<DuringTraining>,
}

impl Bar {
    pub(crate) fn new(quiet: bool) -> Bar {
        Bar { progress: None, quiet, speed: 0.0, evaluation: None }
    }

    fn say(&self, text: &str) {
        match &self.progress {
            _ if self.quiet => {}
            Some(progress) => progress.note(text),
            None => note!("{text}"),
        }
    }

    fn evaluate(&mut self, how: impl FnOnce(&mut DuringTraining) -> (Vec<Event>, String)) -> Vec<Event> {
        let Some((events, line)) = self.evaluation.as_mut().map(how) else { return Vec::new() };
        if !line.is_empty() {
            self.say(&line);
        }
        events
    }

    pub(crate) fn finish(self, summary: &Summary) {
        if let Some(progress) = self.progress {
            progress.finish();
        }
        if self.quiet {
            return;
        }
        if let Some(signal) = summary.stopped {
            note!("stopped by {} after step {}; --resume goes on", signal.name(), summary.step);
        }
        if let Some(evaluation) = &self.evaluation {
            note!("{}", evaluation.summary());
        }
        note!("{} holds the model after step {}", summary.checkpoint.display(), summary.step);
    }
}

impl StepHook for Bar {
    fn start(&mut self, s: &Start) {
        self.say(&format!(
            "{} parameters, predicted peak memory {}, {} thread(s), {}",
            thousands(s.parameters as u64),
            bytes(s.predicted_memory),
            s.threads,
            s.isa
        ));
        self.say(&format!("precision: {}", s.precision));
        let row = |g: &smolt_train::optimizer::Group| {
            let (count, tensors) = (thousands(g.parameters as u64), g.tensors.to_string());
            vec![g.name.to_string(), count, tensors, g.weight_decay.to_string()]
        };
        let rows: Vec<Vec<String>> = s.groups.iter().map(row).collect();
        self.say(&output::table(&["parameter group", "parameters", "tensors", "weight decay"], &rows));
        if !self.quiet {
            let mut progress = Progress::new(s.train_steps, "train");
            progress.set(s.step, "");
            self.progress = Some(progress);
        }
    }

    fn step(&mut self, r: &StepReport) {
        let speed = r.tokens as f64 / r.seconds.max(1e-9);
        self.speed = if self.speed == 0.0 { speed } else { 0.9 * self.speed + 0.1 * speed };
        if let Some(progress) = &mut self.progress {
            let text = format!("loss {:.4}  {} tokens/s", r.loss, thousands(self.speed as u64));
            progress.set(r.step, &text);
        }
    }

    fn validation(&mut self, step: u64, losses: &[DomainLoss]) {
        let parts: Vec<String> =
            losses.iter().map(|l| format!("{} {:.4} bits/byte", l.name, l.bits_per_byte)).collect();
        self.say(&format!("step {step}: {}", parts.join(", ")));
    }

    fn checkpoint(&mut self, step: u64, folder: &Path) -> Vec<Event> {
        self.evaluate(|evaluation| evaluation.checkpoint(step, folder))
    }

    fn resumed(&mut self, step: u64, folder: &Path) -> Vec<Event> {
        self.evaluate(|evaluation| evaluation.resumed(step, folder))
    }

    fn note(&mut self, text: &str) {
        self.say(text);
    }
}
