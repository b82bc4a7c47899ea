//! `smolt eval thinkfollow`: whether a model heeds `/think` and `/no_think`, turn by turn (spec CA-01).

use super::Precision;
use super::server::ServerArgs;
use crate::device::DeviceArgs;
use crate::evaluation::{self, Answers, Held, Subject};
use crate::{Outcome, args, output};
use smolt_eval::dataset::{Provenance, Sources};
use smolt_eval::record::{ModelRecord, RESULTS};
use smolt_eval::stats::Score;
use smolt_eval::thinkfollow::{self, Cell, Conversation, FirstFlag, How, Report, Results, Turn};
use smolt_run::error::{Failure, FileError};
use smolt_run::progress::Progress;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Longest answer in tokens; less where the context has no room for a few turns of it.
const MAX_TOKENS: usize = 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Hugging Face folder, or a run's folder for its newest checkpoint
    #[arg(required_unless_present = "server")]
    model: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    /// Rows with turn_1_prompt, turn_2_prompt, … or messages: a file, a folder or hf://datasets/OWNER/NAME [default: twenty
    /// conversations that come with smolt]
    #[arg(long, value_name = "PATH")]
    conversations: Option<String>,
    /// Configuration of the data set
    #[arg(long, requires = "conversations")]
    config: Option<String>,
    /// Split of the data set
    #[arg(long, default_value = "train", requires = "conversations")]
    split: String,
    /// Folder that holds data sets by name (NAME or OWNER/NAME); may be repeated
    #[arg(long, value_name = "DIR")]
    datasets: Vec<PathBuf>,
    /// Never touch the network
    #[arg(long)]
    offline: bool,
    /// Most turns of a conversation
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    turns: Option<u32>,
    /// A fixed part of the conversations
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Seed of the flags and of sampled answers
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the flag of the first turn stands
    #[arg(long, value_enum, default_value_t = Place::User)]
    first_flag: Place,
    /// Show the model its own reasoning in earlier turns, unless its template cuts it off
    #[arg(long)]
    keep_reasoning: bool,
    /// Longest answer in tokens [default: 1024, at most a quarter of the context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// 0 is greedy
    #[arg(long, default_value_t = 0.0, value_parser = args::temperature)]
    temperature: f64,
    /// Only the likeliest tokens whose probabilities sum to this
    #[arg(long, default_value_t = 1.0, value_parser = args::share)]
    top_p: f64,
    /// fp32, bf16, or the faster one here
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// Folder for results.json and samples/thinkfollow.jsonl
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Place {
    /// At the end of the user's message, as that of every later turn
    User,
    /// As the system prompt
    System,
}

pub(super) fn run(args: &Args) -> Outcome {
    let (conversations, dataset) = args.conversations()?;
    let results = match args.server.connect()? {
        Some(mut model) => {
            let (record, machine) = (args.server.describe(&model), "a server's".to_owned());
            ask(args, &conversations, dataset, Subject { model: &mut model, record, machine })?
        }
        None => {
            let held = Held::load(args.model.as_deref().unwrap_or(Path::new("")), true)?;
            held.encoder().check_tags()?;
            let cpu = args.device.cpu()?;
            held.lend(args.precision.into(), &cpu, |subject| ask(args, &conversations, dataset, subject))?
        }
    };
    match (args.json, &args.out) {
        (true, _) => output::json(&results),
        (false, out) => {
            output::line(table(&results.report));
            if let Some(out) = out {
                output::line(format_args!("\nin {}", out.display()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn conversations(&self) -> Result<(Vec<Conversation>, Provenance), Failure> {
        let Some(path) = &self.conversations else { return Ok(thinkfollow::bundled()?) };
        let local = !path.contains("://");
        if local && self.datasets.is_empty() && !Path::new(path).exists() {
            return Err(Failure::bad_input(format!("there is no {path}; correct --conversations")));
        }
        let sources = Sources::new(self.datasets.clone(), self.offline);
        Ok(thinkfollow::load(path, self.config.as_deref(), &self.split, &sources)?)
    }

    fn how(&self, model: &ModelRecord) -> How {
        let room = match model.context_length {
            0 => MAX_TOKENS,
            context => (context / 4).clamp(1, MAX_TOKENS),
        };
        How {
            seed: self.seed,
            first_flag: match self.first_flag {
                Place::User => FirstFlag::User,
                Place::System => FirstFlag::System,
            },
            keep_reasoning: self.keep_reasoning,
            turns: self.turns.map(|turns| turns as usize),
            limit: self.limit.map(|limit| limit as usize),
            max_tokens: self.max_tokens.map_or(room, |tokens| tokens as usize),
            temperature: self.temperature,
            top_p: self.top_p,
        }
    }
}

fn ask(
    args: &Args,
    conversations: &[Conversation],
    dataset: Provenance,
    subject: Subject<'_>,
) -> Result<Results, Failure> {
    let Subject { model, record, machine } = subject;
    let how = args.how(&record);
    if let Some(out) = &args.out {
        may_write(out, &record, &dataset, &how)?;
    }
    let context = record.context_length;
    if context > 0 && how.max_tokens >= context {
        return Err(Failure::bad_input(format!(
            "--max-tokens {} leaves no room for a prompt in a context of {context} tokens; choose fewer",
            how.max_tokens
        )));
    }
    let planned = thinkfollow::plan(conversations, how.turns, how.limit, how.seed);
    let started = Instant::now();
    let mut progress: Option<Progress> = None;
    let answers = Answers::in_results(args.out.as_deref(), thinkfollow::NAME);
    let mut hear = |done: usize, total: usize, so_far: Option<f64>| {
        let new = || match args.json {
            true => Progress::hidden(),
            false => Progress::new(total as u64, thinkfollow::NAME),
        };
        let so_far = so_far.map_or(String::new(), |share| format!("{:.1} % so far", 100.0 * share));
        progress.get_or_insert_with(new).set(done as u64, &so_far);
    };
    let turns = answers.heard(&record, model, |model| {
        Ok(thinkfollow::ask(&planned, &how, model, &mut hear).map_err(thinkfollow::Error::from)?)
    })?;
    if let Some(progress) = progress {
        progress.finish();
    }
    let results = Results {
        format_version: thinkfollow::FORMAT_VERSION,
        evaluation: thinkfollow::NAME.into(),
        smolt: env!("CARGO_PKG_VERSION").into(),
        date: evaluation::now(),
        model: record,
        machine,
        dataset,
        how,
        report: Report::new(&turns)?,
        seconds: started.elapsed().as_secs_f64(),
    };
    if let Some(out) = &args.out {
        keep(out, &results, &turns)?;
    }
    answers.forget()?;
    Ok(results)
}

/// Refuses to write over results of anything else, before the work is done.
fn may_write(out: &Path, model: &ModelRecord, dataset: &Provenance, how: &How) -> Result<(), Failure> {
    let path = out.join(RESULTS);
    if !path.exists() {
        return Ok(());
    }
    let bytes = std::fs::read(&path).map_err(|e| FileError::reading(&path, e))?;
    let old = serde_json::from_slice::<Results>(&bytes).ok();
    let ours = old.filter(|old| old.evaluation == thinkfollow::NAME && old.model.is(model));
    let holds = match ours {
        Some(old) if old.how == *how && old.dataset.hash == dataset.hash => return Ok(()),
        Some(_) => "thinkfollow of this model, asked otherwise",
        None => "something else than thinkfollow of this model",
    };
    Err(Failure::bad_input(format!("{} holds results of {holds}; give another --out", out.display())))
}

fn keep(out: &Path, results: &Results, turns: &[Turn]) -> Result<(), Failure> {
    let samples = out.join("samples");
    std::fs::create_dir_all(&samples).map_err(|e| FileError::writing(&samples, e))?;
    let lines: String = turns.iter().map(|turn| output::or_empty(serde_json::to_string(turn))).collect();
    smolt_run::atomic::write(&samples.join(format!("{}.jsonl", thinkfollow::NAME)), lines.as_bytes())?;
    let text = output::or_empty(serde_json::to_string_pretty(results));
    Ok(smolt_run::atomic::write(&out.join(RESULTS), text.as_bytes())?)
}

/// Percent passed by turn and mode, the verdict, and what to know beside it.
fn table(report: &Report) -> String {
    let percent = |score: &Score| format!("{:.1} ± {:.1}", 100.0 * score.value, 100.0 * score.stderr);
    let row = |name: String, cell: &Cell| {
        let or_dash = |score: &Option<Score>| score.as_ref().map_or("-".into(), percent);
        vec![
            name,
            output::thousands(cell.all.n as u64),
            or_dash(&cell.think),
            or_dash(&cell.no_think),
            percent(&cell.all),
            format!("{:.1}", 100.0 * cell.always_thinks),
            format!("{:.1}", 100.0 * cell.never_thinks),
        ]
    };
    let mut rows: Vec<Vec<String>> =
        report.turns.iter().zip(1..).map(|(cell, turn)| row(format!("turn {turn}"), cell)).collect();
    rows.push(row("all turns".into(), &report.overall));
    rows.push(row("with a flag".into(), &report.given));
    rows.extend(report.carried.iter().map(|cell| row("flag of an earlier turn".into(), cell)));
    rows.extend(report.languages.iter().map(|(name, cell)| row(name.clone(), cell)));
    let header = ["", "turns", "think", "no_think", "passed", "always thinks", "never thinks"];
    let mut text = output::table(&header, &rows);
    text += &format!("\n\n{}", report.verdict_line());
    for note in report.notes() {
        text += &format!("\nnote: {note}");
    }
    text
}
