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
use crate::evaluation::{self, Job, Overlap};
use crate::model_folder::RopeArgs;
use crate::output::note;
use crate::{Outcome, args, output};
use smolt_eval::evaluate::How;
use smolt_eval::task::{Formulation, SUITES, Task, builtin, languages};
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
    /// Say what it would take, and end
    #[arg(long)]
    plan_only: bool,
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

/// The domain of tasks that are in several languages.
const MULTILINGUAL: &str = "multilingual";

/// What is asked, and how.
#[derive(clap::Args, Clone)]
pub(crate) struct Asked {
    /// Task or suite by name, or a task file; NAME@CONFIG for another language or part; may be repeated
    #[arg(long, value_name = "NAME|FILE")]
    task: Vec<String>,
    /// Languages in which multilingual tasks are asked, as FLORES-200 names them (fra_Latn) or by their two letters (fr)
    #[arg(long, value_name = "CODE,…", value_delimiter = ',')]
    languages: Vec<String>,
    /// Text to predict, in bits per byte: JSONL, Parquet, plain text; may be repeated
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Which formulations; when left out, all that the task has, and of a suite's tasks the first
    #[arg(long, value_enum)]
    formulation: Vec<FormulationArg>,
    /// Folder that holds data sets by name (NAME or OWNER/NAME); may be repeated
    #[arg(long, value_name = "DIR")]
    datasets: Vec<PathBuf>,
    /// Never touch the network: folders of --datasets and the cache of the Hub alone
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
    #[arg(long, default_value_t = 1, value_name = "K", value_parser = args::count)]
    samples: usize,
    /// 0 is greedy
    #[arg(long, default_value_t = 0.0, value_parser = args::temperature)]
    temperature: f64,
    /// Only the likeliest tokens whose probabilities sum to this
    #[arg(long, default_value_t = 1.0, value_parser = args::share)]
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

/// Tasks with the formulations in which each is asked.
type Wanted = Vec<(Task, Vec<Formulation>)>;

/// What `--task` names.
struct Named {
    task: Task,
    of_suite: bool,
}

impl Asked {
    /// The tasks, with the formulations in which each is asked. Says which tasks of a suite are passed over.
    pub(crate) fn tasks(&self) -> Result<Wanted, Failure> {
        let (tasks, passed_over) = self.select()?;
        if !passed_over.is_empty() {
            note!("passed over, because --formulation names none of theirs: {}", passed_over.join(", "));
        }
        Ok(tasks)
    }

    /// The tasks, and the names of those of a suite that have none of the wanted formulations.
    pub(crate) fn select(&self) -> Result<(Wanted, Vec<String>), Failure> {
        if self.samples > 1 && self.temperature == 0.0 {
            return Err(Failure::bad_input(format!(
                "--samples {} with --temperature 0 gives the same answer each time; give --temperature 0.6, or one sample",
                self.samples
            )));
        }
        let mut hashes: BTreeMap<String, String> = BTreeMap::new();
        let (mut tasks, mut passed_over): (Wanted, Vec<String>) = Default::default();
        for Named { mut task, of_suite } in self.named()? {
            let hash = smolt_eval::record::task_hash(&task);
            if hashes.insert(task.name.clone(), hash.clone()).is_some_and(|before| before != hash) {
                return Err(Failure::bad_input(format!(
                    "two tasks are called `{}`, and results are kept by name: rename one",
                    task.name
                )));
            }
            task.few_shot.count = self.few_shot.unwrap_or(task.few_shot.count);
            let wanted = self.formulations(&task, of_suite);
            if wanted.is_empty() && of_suite {
                passed_over.push(task.name);
            } else if wanted.is_empty() {
                return Err(cannot_be_asked(&task));
            } else if let Some((_, known)) = tasks.iter_mut().find(|(other, _)| other.name == task.name) {
                let both = |f: &Formulation| known.contains(f) || wanted.contains(f);
                *known = task.formulations().into_iter().filter(both).collect();
            } else {
                tasks.push((task, wanted));
            }
        }
        if tasks.is_empty() && !passed_over.is_empty() {
            let problem =
                format!("none of {} can be asked so; correct --formulation", passed_over.join(", "));
            return Err(Failure::bad_input(problem));
        }
        Ok((tasks, passed_over))
    }

    fn named(&self) -> Result<Vec<Named>, Failure> {
        if let Some(set) = self.set.iter().find(|set| set.trim_start().starts_with("held_out")) {
            return Err(Failure::bad_input(format!(
                "--set {set}: whether a task is held out is not for a command to say; open it with --final-report or \
                 --open-held-out"
            )));
        }
        let suite = |name: &String| SUITES.iter().find(|suite| suite.name == name);
        let mut named = Vec::new();
        for name in &self.task {
            let (names, of_suite) = match suite(name) {
                Some(suite) => (suite.tasks.to_vec(), true),
                None => (vec![name.as_str()], false),
            };
            for name in names {
                let tasks = self.in_languages(name)?;
                named.extend(tasks.into_iter().map(|task| Named { task, of_suite }));
            }
        }
        if named.is_empty() && !self.task.is_empty() {
            let (tasks, languages) = (self.task.join(", "), self.languages.join(", "));
            return Err(Failure::bad_input(format!("--languages: {tasks} is not in {languages}")));
        }
        Ok(named)
    }

    /// A task in each of the languages that it has of those asked for; as it is, where none are, or it is in none.
    fn in_languages(&self, name: &str) -> Result<Vec<Task>, Failure> {
        let mut configurations = Vec::new();
        for code in &self.languages {
            let language = languages::language(code)?;
            let Some(of_language) = languages::configurations(name, &language) else {
                return Ok(vec![self.task(name)?]);
            };
            if of_language.is_empty() {
                note!("{name} is not in {language}: passed over");
            }
            configurations.extend(of_language);
        }
        match self.languages.is_empty() {
            true => Ok(vec![self.task(name)?]),
            false => configurations.iter().map(|config| self.task(&format!("{name}@{config}"))).collect(),
        }
    }

    /// A task by name or file, after which `@` may name the configuration of its data set. What is in several languages is named
    /// with its own in any case.
    fn task(&self, name: &str) -> Result<Task, Failure> {
        let mut sets = self.set.clone();
        let (name, given) = match name.rsplit_once('@') {
            Some((task, config)) if !Path::new(name).exists() => {
                sets.push(format!("dataset.config={config:?}"));
                (task, true)
            }
            _ => (name, false),
        };
        let mut task = match name.ends_with(".toml") {
            true => Task::load(Path::new(name), &sets)?,
            false => builtin(name, &sets)?,
        };
        let config = task.dataset.config.clone().filter(|_| given || task.domain == MULTILINGUAL);
        if let Some(config) = config.filter(|_| !task.name.contains('@')) {
            task.name_configuration(&config);
        }
        Ok(task)
    }

    /// The formulations of a task that are asked for.
    fn formulations(&self, task: &Task, of_suite: bool) -> Vec<Formulation> {
        let mut has = task.formulations();
        if self.formulation.is_empty() {
            has.truncate(if of_suite { 1 } else { has.len() });
            return has;
        }
        let asked = |f: &FormulationArg| match f {
            FormulationArg::Cloze => Formulation::Cloze,
            FormulationArg::MultipleChoice => Formulation::MultipleChoice,
            FormulationArg::Generation => Formulation::Generation,
        };
        let wanted: Vec<Formulation> = self.formulation.iter().map(asked).collect();
        has.retain(|formulation| wanted.contains(formulation));
        has
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
        smolt_eval::dataset::Sources::new(self.datasets.clone(), self.offline)
    }

    pub(crate) fn texts(&self) -> &[PathBuf] {
        &self.text
    }

    pub(crate) fn limit(&self) -> Option<usize> {
        self.limit
    }
}

fn cannot_be_asked(task: &Task) -> Failure {
    let known: Vec<&str> = task.formulations().iter().map(|f| f.name()).collect();
    let known = known.join(", ");
    Failure::bad_input(format!("task `{}` can be asked as {known}; correct --formulation", task.name))
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
        contamination: args.contamination.map_or(Overlap::Unknown, Overlap::Of),
        opens: args.opens,
        precision: args.precision.into(),
        threads: args.device.threads(),
        quiet: args.json,
        tells_cost: true,
    };
    if args.plan_only {
        let suite = evaluation::plan(&job, &args.rope)?;
        match args.json {
            true => output::json(&suite),
            false => output::line(suite.table()),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let evaluated = evaluation::run(&job, &args.rope)?;
    match (args.json, &args.out) {
        (true, _) => output::json(&evaluated.results),
        (false, out) => {
            output::line(evaluation::table(&evaluated.results));
            if let Some(out) = out {
                output::line(format_args!("\nin {}", out.display()));
            }
        }
    }
    evaluated.whole().map(|_| ExitCode::SUCCESS)
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

#[cfg(test)]
mod tests;
