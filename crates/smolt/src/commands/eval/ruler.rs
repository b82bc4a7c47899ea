//! `smolt eval ruler`: how long a context a model masters (spec EVL-12).

use super::Precision;
use super::server::ServerArgs;
use crate::device::DeviceArgs;
use crate::evaluation::{Answers, Held, Subject};
use crate::model_folder::{self, RopeArgs};
use crate::{Outcome, output};
use serde::Serialize;
use smolt_data::corpus;
use smolt_eval::model::encoder::Encoder;
use smolt_eval::model::{Generated, Model, Prompt, Writing};
use smolt_eval::record::ModelRecord;
use smolt_eval::ruler::{
    self, Cell, Item, Kind, LLAMA_2_7B_AT_4K, Measure, NeedleGrid, NotRun, Questions, RulerReport,
};
use smolt_eval::stats::Score;
use smolt_run::error::{Failure, FileError};
use smolt_run::folder::RunFolder;
use smolt_run::progress::Progress;
use smolt_text::template::Message;
use smolt_text::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Hugging Face folder, or a run's folder for its newest checkpoint
    #[arg(required_unless_present = "server")]
    model: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    /// Folder with the tokenizer.json, and for --chat the chat template, of the server's model
    #[arg(long, value_name = "DIR", requires = "server")]
    tokenizer: Option<PathBuf>,
    /// Lengths in tokens, answers included
    #[arg(long, value_delimiter = ',', required = true)]
    lengths: Vec<usize>,
    /// Tasks, such as niah_single_2,vt [default: all]
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Items per task and length
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// Depths of a needle for a grid of depth by length, 0 to 1; instead of the tasks
    #[arg(long, value_delimiter = ',', conflicts_with = "kinds")]
    depths: Vec<f64>,
    /// Text in which needles lie [default: the bundled corpus]
    #[arg(long, value_name = "FILE")]
    haystack: Option<PathBuf>,
    /// SQuAD's or HotpotQA's file of questions, for qa_1 and qa_2; may be repeated
    #[arg(long, value_name = "FILE")]
    questions: Vec<PathBuf>,
    /// Mean score that a length must reach to count as mastered
    #[arg(long, default_value_t = LLAMA_2_7B_AT_4K)]
    threshold: f64,
    /// Ask through the chat template
    #[arg(long)]
    chat: bool,
    /// Seed of the items
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    rope: RopeArgs,
    /// fp32, bf16, or the faster one here
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// Folder for ruler.json and samples.jsonl
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// An item and what came of it.
#[derive(Serialize)]
struct Asked {
    kind: Kind,
    length: usize,
    #[serde(flatten)]
    item: Item,
    #[serde(flatten)]
    generated: Generated,
    score: f64,
}

/// What is written of a report, with who was asked and how.
#[derive(Serialize)]
struct Kept<'r, R> {
    #[serde(flatten)]
    report: &'r R,
    model: &'r ModelRecord,
    /// As it was given with `--rope-scaling`.
    rope_scaling: Option<&'r str>,
    chat: bool,
    count: usize,
    seed: u64,
}

struct Session<'a> {
    args: &'a Args,
    model: &'a mut dyn Model,
    measure: Measure<'a>,
    haystack: &'a str,
    asked: Vec<Asked>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let haystack = match &args.haystack {
        Some(path) => std::fs::read_to_string(path).map_err(|e| FileError::reading(path, e))?,
        None => bundled()?,
    };
    args.rope.check(&args.server)?;
    if let Some(mut model) = args.server.connect()? {
        let Some(folder) = &args.tokenizer else {
            let problem =
                "lengths are counted in tokens: name the folder of the server's model with --tokenizer";
            return Err(Failure::bad_input(problem));
        };
        let tokenizer = Tokenizer::load(&folder.join("tokenizer.json"))?;
        let template = if args.chat { Some(model_folder::template(folder)?) } else { None };
        let encoder = Encoder { tokenizer: &tokenizer, template: template.as_ref(), end_tokens: Vec::new() };
        let record = args.server.describe(&model);
        let context = Some(record.context_length).filter(|&context| context > 0);
        may_ask(args, &record, context.unwrap_or(usize::MAX))?;
        return ask(args, &haystack, &encoder, &mut model, &record);
    }
    let mut held = Held::stretched(args.model.as_deref().unwrap_or(Path::new("")), args.chat, &args.rope)?;
    let context = held.at_any_length();
    let cpu = args.device.cpu()?;
    held.lend(args.precision.into(), &cpu, |Subject { model, record, .. }| {
        may_ask(args, &record, context)?;
        ask(args, &haystack, &held.encoder(), model, &record)
    })
}

/// Refuses lengths that the model has no positions for.
fn may_ask(args: &Args, record: &ModelRecord, context: usize) -> Result<(), Failure> {
    match args.lengths.iter().copied().max() {
        Some(longest) if longest > context => Err(Failure::bad_input(format!(
            "{} has a context of {context} tokens, so {longest} cannot be asked; choose shorter --lengths",
            record.path
        ))),
        _ => Ok(()),
    }
}

/// Asks everything and says what came of it.
fn ask(
    args: &Args,
    haystack: &str,
    encoder: &Encoder<'_>,
    model: &mut dyn Model,
    record: &ModelRecord,
) -> Outcome {
    if args.chat {
        // A template that cannot be rendered is told before it is measured.
        encoder.prompt(&prompt(true, "", ""))?;
    }
    let whole = |text: &str, begun: &str| {
        encoder.prompt(&prompt(true, text, begun)).map_or(usize::MAX, |tokens| tokens.len())
    };
    let measure =
        Measure { tokenizer: encoder.tokenizer, whole: if args.chat { Some(&whole) } else { None } };
    let _folder = args.out.as_deref().map(|out| RunFolder::create_or_resume(out, true)).transpose()?;
    let answers = Answers::in_results(args.out.as_deref(), "ruler");
    answers.heard(record, model, |model| {
        let mut session = Session { args, model, measure, haystack, asked: Vec::new() };
        if args.depths.is_empty() {
            let mut report = session.tasks()?;
            report.notes.extend(untrained(args, record));
            session.tell("ruler.json", &report, record, report.table())
        } else {
            let grid = session.depths()?;
            let note = untrained(args, record).map_or(String::new(), |note| format!("note: {note}\n"));
            session.tell("needle.json", &grid, record, grid.table() + &note)
        }
    })?;
    answers.forget()?;
    Ok(ExitCode::SUCCESS)
}

/// Lengths at which a model is asked and was never trained.
fn untrained(args: &Args, record: &ModelRecord) -> Option<String> {
    let trained = record.context_length;
    let beyond = args.lengths.iter().any(|&length| trained > 0 && length > trained);
    beyond.then(|| format!("lengths above {trained} tokens are longer than the model was trained for"))
}

/// What the model reads; of a conversation, the assistant's turn has begun already.
fn prompt(chat: bool, text: &str, begun: &str) -> Prompt {
    match chat {
        true => Prompt::Chat(vec![Message::new("user", text), Message::new("assistant", begun.trim_start())]),
        false => Prompt::Text(format!("{text}{begun}")),
    }
}

/// The prose of the bundled corpus.
fn bundled() -> Result<String, Failure> {
    let works = corpus::documents(corpus::Split::Train, corpus::Kind::Prose)?;
    Ok(works.into_iter().map(|work| work.text).collect::<Vec<_>>().join("\n\n"))
}

impl Session<'_> {
    fn tasks(&mut self) -> Result<RulerReport, Failure> {
        let files =
            self.args.questions.iter().map(|path| Questions::load(path)).collect::<Result<Vec<_>, _>>()?;
        let kinds = if self.args.kinds.is_empty() { Kind::ALL.to_vec() } else { self.args.kinds.clone() };
        let (mut cells, mut not_run) = (Vec::new(), Vec::new());
        for &length in &self.args.lengths {
            for &kind in &kinds {
                let (count, seed) = (self.args.count, self.args.seed);
                let questions = files.iter().find(|questions| questions.kind() == kind);
                let made = match questions {
                    Some(questions) => {
                        ruler::generate_questions(questions, length, count, seed, self.measure)
                    }
                    None => ruler::generate(kind, length, count, seed, self.measure, self.haystack),
                };
                match made {
                    Ok(items) => cells.push(self.ask(kind, length, items)?),
                    Err(reason) => {
                        not_run.push(NotRun { kind, length: Some(length), reason: reason.to_string() })
                    }
                }
            }
        }
        if cells.is_empty() {
            let mut reasons: Vec<String> = not_run.into_iter().map(|not_run| not_run.reason).collect();
            reasons.dedup();
            return Err(Failure::bad_input(format!("nothing can be run: {}", reasons.join("; "))));
        }
        Ok(RulerReport::new(cells, not_run, self.args.threshold))
    }

    fn depths(&mut self) -> Result<NeedleGrid, Failure> {
        let mut scores = Vec::new();
        for &length in &self.args.lengths {
            for &depth in &self.args.depths {
                let (count, seed) = (self.args.count, self.args.seed);
                let items =
                    ruler::generate_at_depth(depth, length, count, seed, self.measure, self.haystack)?;
                scores.push((length, depth, self.ask(Kind::NiahSingle2, length, items)?.score));
            }
        }
        Ok(NeedleGrid::new(scores))
    }

    /// Asks the items of one task at one length.
    fn ask(&mut self, kind: Kind, length: usize, items: Vec<Item>) -> Result<Cell, Failure> {
        let label = format!("{kind} {length}");
        let mut progress = match self.args.json {
            true => Progress::hidden(),
            false => Progress::new(items.len() as u64, &label),
        };
        let first = self.asked.len();
        for (max_tokens, items) in by_max_tokens(items) {
            let before = (self.asked.len() - first) as u64;
            let ask = |item: &Item| prompt(self.args.chat, &item.prompt, &item.answer_prefix);
            let prompts: Vec<Prompt> = items.iter().map(ask).collect();
            let writing = Writing {
                max_tokens,
                stop: Vec::new(),
                stop_after_reasoning: false,
                temperature: 0.0,
                top_p: 1.0,
                samples: 1,
                seed: 0,
            };
            let answers = self
                .model
                .write(&prompts, &writing, &mut |done, _| progress.set(before + done as u64, ""))?;
            self.asked.extend(items.into_iter().zip(answers.into_iter().flatten()).map(
                |(item, generated)| {
                    let score = kind.score(&generated.text, &item.answers);
                    Asked { kind, length, item, generated, score }
                },
            ));
        }
        progress.finish();
        let asked = &mut self.asked[first..];
        asked.sort_by(|a, b| a.item.id.cmp(&b.item.id));
        let values: Vec<f64> = asked.iter().map(|asked| asked.score).collect();
        let cut = asked.iter().filter(|asked| asked.generated.dropped_tokens > 0).count();
        Ok(Cell { kind, length, score: Score::fitting::<usize>(&values, &[]), cut })
    }

    /// Writes a report and every item, where there is a folder for them, and prints the report.
    fn tell(
        &self,
        name: &str,
        report: &impl Serialize,
        model: &ModelRecord,
        table: String,
    ) -> Result<(), Failure> {
        let Args { chat, count, seed, .. } = *self.args;
        let rope_scaling = self.args.rope.rope_scaling.as_deref();
        let kept = Kept { report, model, rope_scaling, chat, count, seed };
        if let Some(out) = &self.args.out {
            let write = |path: &Path, text: String| smolt_run::atomic::write(path, text.as_bytes());
            write(&out.join(name), output::or_empty(serde_json::to_string_pretty(&kept)))?;
            let lines = self.asked.iter().map(|asked| output::or_empty(serde_json::to_string(asked)));
            write(&out.join("samples.jsonl"), lines.collect())?;
        }
        if self.args.json {
            output::json(&kept)
        } else {
            output::line(table)
        }
        Ok(())
    }
}

/// Items that are given equally many tokens to answer are written together: with more than its own, an item's prompt would
/// not fit.
fn by_max_tokens(items: Vec<Item>) -> BTreeMap<usize, Vec<Item>> {
    let mut groups: BTreeMap<usize, Vec<Item>> = BTreeMap::new();
    for item in items {
        groups.entry(item.max_tokens).or_default().push(item);
    }
    groups
}
