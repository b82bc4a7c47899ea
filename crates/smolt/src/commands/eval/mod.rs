//! `smolt eval`

pub(crate) mod access;
mod check;
mod compare;
pub(crate) mod contamination;
pub(crate) mod plan;
mod prompts;
mod rank;
mod replicate;
pub(crate) mod report;
mod ruler;
mod samples;
pub(crate) mod server;
mod signal;
mod subset;
mod tasks;
mod thinkfollow;
pub(crate) mod watch;

use crate::device::DeviceArgs;
use crate::evaluation::{self, Job};
use crate::model_folder::RopeArgs;
use crate::{Outcome, output};
use smolt_eval::evaluate::How;
use smolt_eval::task::{Formulation, SUITES, Task, builtin};
use smolt_run::error::Failure;
use smolt_train::recipe::PrecisionSetting;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    evaluation: Evaluation,
}

#[derive(clap::Subcommand)]
pub(crate) enum Action {
    /// Measure how long a context a model masters: RULER and needles
    Ruler(ruler::Args),
    /// Say whether a model heeds /think and /no_think, turn by turn
    Thinkfollow(thinkfollow::Args),
    /// Say which tasks are worth deciding by, from the evaluated checkpoints of runs
    Signal(signal::Args),
    /// Rank models by how many others they beat
    Rank(rank::Args),
    /// Say how often to sample each question for a wanted error
    Samples(samples::Args),
    /// Choose a small part of a task that ranks models as the whole does
    Subset(subset::Args),
    /// List the built-in tasks and suites
    Tasks(tasks::Args),
    /// Say whether one model is better than another, task by task
    Compare(compare::Args),
    /// Show prompts exactly as a model reads them
    Prompts(prompts::Args),
    /// Find faults of prompts, extraction and scores
    Check(check::Args),
    /// Look for the items of tasks in training data
    Contamination(contamination::Args),
    /// Show when held-out benchmarks were opened, and why
    Access(access::Args),
    /// Evaluate every checkpoint of a run as it appears
    Watch(watch::Args),
    /// Say whether published scores are reproduced; exit code 1 if not
    Replicate(replicate::Args),
}

#[derive(clap::Args)]
struct Evaluation {
    /// A Hugging Face folder, or a run's folder for its newest checkpoint
    #[arg(required_unless_present = "server")]
    model: Option<PathBuf>,
    #[command(flatten)]
    server: server::ServerArgs,
    #[command(flatten)]
    asked: Asked,
    /// Folder of results: results.json, samples/, report.html; what it already holds is not asked again
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Look for the items in the data that this run trains on
    #[arg(long, value_name = "RUN")]
    contamination: Option<PathBuf>,
    #[command(flatten)]
    opens: access::Opens,
    #[command(flatten)]
    rope: RopeArgs,
    /// fp32, bf16, or the faster one here
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What is asked, and how.
#[derive(clap::Args, Clone)]
pub(crate) struct Asked {
    /// Task or suite by name, or a task file; may be repeated
    #[arg(long, value_name = "NAME|FILE")]
    task: Vec<String>,
    /// Text to predict, in bits per byte: JSONL, Parquet, plain text; may be repeated
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Which formulations: all that the task has when left out
    #[arg(long, value_enum)]
    formulation: Vec<FormulationArg>,
    /// Folder that holds data sets by name (NAME or OWNER/NAME); may be repeated
    #[arg(long, value_name = "DIR")]
    datasets: Vec<PathBuf>,
    /// Never touch the network
    #[arg(long)]
    offline: bool,
    /// Solved examples before each question, instead of the task's number
    #[arg(long, value_name = "N")]
    few_shot: Option<usize>,
    /// A fixed part of the items of each task
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Override a setting of the tasks, such as dataset.config=deu_Latn
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Ask through the chat template
    #[arg(long)]
    chat: bool,
    /// System prompt of the conversation
    #[arg(long, requires = "chat", value_name = "TEXT")]
    system_prompt: Option<String>,
    /// Judge reasoning along with the answer
    #[arg(long)]
    keep_reasoning: bool,
    /// Answers per question (avg@k)
    #[arg(long, default_value_t = 1, value_name = "K")]
    samples: usize,
    /// 0 is greedy
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Only the likeliest tokens whose probabilities sum to this
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Longest answer in tokens, instead of the task's limit
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Seed of sampled answers
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum FormulationArg {
    /// Candidates as continuations, not shown
    Cloze,
    /// Candidates shown with letters
    MultipleChoice,
    /// Free text
    Generation,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Precision {
    Fp32,
    Bf16,
    Auto,
}

impl Asked {
    /// The tasks, with the formulations in which each is asked.
    pub(crate) fn tasks(&self) -> Result<Vec<(Task, Vec<Formulation>)>, Failure> {
        let mut tasks = Vec::new();
        for name in &self.task {
            match SUITES.iter().find(|suite| suite.name == name) {
                Some(suite) => {
                    for name in suite.tasks {
                        tasks.push(builtin(name, &self.set)?);
                    }
                }
                None if name.ends_with(".toml") => tasks.push(Task::load(Path::new(name), &self.set)?),
                None => tasks.push(builtin(name, &self.set)?),
            }
        }
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let mut once = Vec::new();
        for task in tasks {
            let hash = smolt_eval::record::task_hash(&task);
            match known.insert(task.name.clone(), hash.clone()) {
                None => once.push(self.formulated(task)?),
                Some(before) if before == hash => {}
                Some(_) => {
                    return Err(Failure::bad_input(format!(
                        "two tasks are called `{}`, and results are kept by name: rename one",
                        task.name
                    )));
                }
            }
        }
        Ok(once)
    }

    fn formulated(&self, mut task: Task) -> Result<(Task, Vec<Formulation>), Failure> {
        if let Some(count) = self.few_shot {
            task.few_shot.count = count;
        }
        let has = task.formulations();
        if self.formulation.is_empty() {
            return Ok((task, has));
        }
        let asked = |f: &FormulationArg| match f {
            FormulationArg::Cloze => Formulation::Cloze,
            FormulationArg::MultipleChoice => Formulation::MultipleChoice,
            FormulationArg::Generation => Formulation::Generation,
        };
        let wanted: Vec<Formulation> =
            self.formulation.iter().map(asked).filter(|f| has.contains(f)).collect();
        if wanted.is_empty() {
            let known: Vec<&str> = has.iter().map(|f| f.name()).collect();
            return Err(Failure::bad_input(format!(
                "task `{}` can be asked as {}; correct --formulation",
                task.name,
                known.join(", ")
            )));
        }
        Ok((task, wanted))
    }

    /// How every task is put, in a formulation.
    pub(crate) fn how(&self, formulation: Formulation) -> How {
        How {
            formulation,
            chat: self.chat,
            system_prompt: self.system_prompt.clone(),
            strip_reasoning: !self.keep_reasoning,
            samples: self.samples,
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            seed: self.seed,
        }
    }

    /// Where data sets are looked for.
    pub(crate) fn sources(&self) -> smolt_eval::dataset::Sources {
        smolt_eval::dataset::Sources {
            folders: self.datasets.clone(),
            offline: self.offline,
            store: smolt_store::Store::of_process(),
        }
    }

    pub(crate) fn texts(&self) -> &[PathBuf] {
        &self.text
    }

    pub(crate) fn limit(&self) -> Option<usize> {
        self.limit
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    match args.action {
        Some(Action::Compare(args)) => compare::run(&args),
        Some(Action::Signal(args)) => signal::run(&args),
        Some(Action::Rank(args)) => rank::run(&args),
        Some(Action::Samples(args)) => samples::run(&args),
        Some(Action::Subset(args)) => subset::run(&args),
        Some(Action::Ruler(args)) => ruler::run(&args),
        Some(Action::Thinkfollow(args)) => thinkfollow::run(&args),
        Some(Action::Tasks(args)) => tasks::run(&args),
        Some(Action::Prompts(args)) => prompts::run(&args),
        Some(Action::Check(args)) => check::run(&args),
        Some(Action::Contamination(args)) => contamination::run(&args),
        Some(Action::Access(args)) => access::run(&args),
        Some(Action::Watch(args)) => watch::run(&args),
        Some(Action::Replicate(args)) => replicate::run(&args),
        None => evaluate_model(args.evaluation),
    }
}

fn evaluate_model(args: Evaluation) -> Outcome {
    let model = args.model.clone().unwrap_or_default();
    if args.asked.task.is_empty() && args.asked.text.is_empty() {
        let fix = "give --task NAME, a suite or a file, or --text FILE; `smolt eval tasks` lists the tasks";
        return Err(Failure::bad_input(format!("nothing to ask: {fix}")));
    }
    let job = Job {
        model,
        server: args.server,
        asked: args.asked,
        out: args.out.clone(),
        contamination: args.contamination,
        opens: args.opens,
        precision: args.precision.into(),
        threads: args.device.threads(),
        quiet: args.json,
    };
    let results = evaluation::run(&job, &args.rope)?;
    match (args.json, &args.out) {
        (true, _) => output::json(&results),
        (false, out) => {
            output::line(evaluation::table(&results));
            if let Some(out) = out {
                output::line(format_args!("\nin {}", out.display()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl From<Precision> for PrecisionSetting {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Fp32 => PrecisionSetting::Fp32,
            Precision::Bf16 => PrecisionSetting::Bf16,
            Precision::Auto => PrecisionSetting::Auto,
        }
    }
}
