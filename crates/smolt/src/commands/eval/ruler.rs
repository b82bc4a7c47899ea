//! `smolt eval ruler`: how long a context a model masters (spec EVL-12).

use super::Precision;
use crate::device::DeviceArgs;
use crate::model_folder::ModelFolder;
use crate::{Outcome, evaluation, output};
use serde::Serialize;
use smolt_data::corpus;
use smolt_eval::model::{Generated, Model, Prompt, Writing};
use smolt_eval::ruler::{
    self, Cell, Item, Kind, LLAMA_2_7B_AT_4K, NeedleGrid, NotRun, Questions, RulerReport,
};
use smolt_eval::stats::Score;
use smolt_run::error::{Failure, FileError};
use smolt_run::progress::Progress;
use smolt_text::template::Message;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Hugging Face folder, or a run's folder for its newest checkpoint
    model: PathBuf,
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

struct Session<'a, 'm> {
    args: &'a Args,
    model: &'a mut dyn Model,
    folder: &'m ModelFolder,
    haystack: String,
    asked: Vec<Asked>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let folder = ModelFolder::load(&args.model)?;
    let longest = args.lengths.iter().copied().max().unwrap_or(0);
    let context = folder.loaded.model.config().max_position_embeddings;
    if longest > context {
        return Err(Failure::bad_input(format!(
            "{} has a context of {context} tokens, so {longest} cannot be asked; choose shorter --lengths",
            folder.path.display()
        )));
    }
    let template = if args.chat { Some(folder.template()?) } else { None };
    let cpu = args.device.cpu()?;
    let setting: smolt_train::recipe::PrecisionSetting = args.precision.into();
    let mut model = evaluation::local(&folder, &cpu, setting.resolve(cpu.isa), template.as_ref());
    let haystack = match &args.haystack {
        Some(path) => std::fs::read_to_string(path).map_err(|e| FileError::reading(path, e))?,
        None => bundled()?,
    };
    let mut session = Session { args, model: &mut model, folder: &folder, haystack, asked: Vec::new() };
    if args.depths.is_empty() {
        let report = session.tasks()?;
        session.keep("ruler.json", &report)?;
        if args.json { output::json(&report) } else { output::line(report.table()) }
    } else {
        let grid = session.depths()?;
        session.keep("needle.json", &grid)?;
        if args.json { output::json(&grid) } else { output::line(grid.table()) }
    }
    Ok(ExitCode::SUCCESS)
}

/// The prose of the bundled corpus.
fn bundled() -> Result<String, Failure> {
    let works = corpus::documents(corpus::Split::Train, corpus::Kind::Prose)?;
    Ok(works.into_iter().map(|work| work.text).collect::<Vec<_>>().join("\n\n"))
}

impl Session<'_, '_> {
    fn tasks(&mut self) -> Result<RulerReport, Failure> {
        let files =
            self.args.questions.iter().map(|path| Questions::load(path)).collect::<Result<Vec<_>, _>>()?;
        let kinds = if self.args.kinds.is_empty() { Kind::ALL.to_vec() } else { self.args.kinds.clone() };
        let (mut cells, mut not_run) = (Vec::new(), Vec::new());
        for &length in &self.args.lengths {
            for &kind in &kinds {
                let (count, seed, tokenizer) = (self.args.count, self.args.seed, &self.folder.tokenizer);
                let questions = files.iter().find(|questions| questions.kind() == kind);
                let made = match questions {
                    Some(questions) => ruler::generate_questions(questions, length, count, seed, tokenizer),
                    None => ruler::generate(kind, length, count, seed, tokenizer, &self.haystack),
                };
                match made {
                    Ok(items) => cells.push(Cell { kind, length, score: self.ask(kind, length, items)? }),
                    Err(reason) => {
                        not_run.push(NotRun { kind, length: Some(length), reason: reason.to_string() })
                    }
                }
            }
        }
        Ok(RulerReport::new(cells, not_run, self.args.threshold))
    }

    fn depths(&mut self) -> Result<NeedleGrid, Failure> {
        let mut scores = Vec::new();
        for &length in &self.args.lengths {
            for &depth in &self.args.depths {
                let (count, seed) = (self.args.count, self.args.seed);
                let tokenizer = &self.folder.tokenizer;
                let items = ruler::generate_at_depth(depth, length, count, seed, tokenizer, &self.haystack)?;
                scores.push((length, depth, self.ask(Kind::NiahSingle2, length, items)?));
            }
        }
        Ok(NeedleGrid::new(scores))
    }

    /// Asks the items of one task at one length.
    fn ask(&mut self, kind: Kind, length: usize, items: Vec<Item>) -> Result<Score, Failure> {
        let prompt = |item: &Item| match self.args.chat {
            true => {
                Prompt::Chat(vec![Message::new("user", format!("{}{}", item.prompt, item.answer_prefix))])
            }
            false => Prompt::Text(format!("{}{}", item.prompt, item.answer_prefix)),
        };
        let prompts: Vec<Prompt> = items.iter().map(prompt).collect();
        let writing = Writing {
            max_tokens: items.iter().map(|item| item.max_tokens).max().unwrap_or(1),
            stop: Vec::new(),
            temperature: 0.0,
            top_p: 1.0,
            samples: 1,
            seed: 0,
        };
        let label = format!("{kind} {length}");
        let mut progress = match self.args.json {
            true => Progress::hidden(),
            false => Progress::new(prompts.len() as u64, &label),
        };
        let answers = self.model.write(&prompts, &writing, &mut |done, _| progress.set(done as u64, ""))?;
        progress.finish();
        let scored = items.into_iter().zip(answers.into_iter().flatten()).map(|(item, generated)| {
            let score = kind.score(&generated.text, &item.answers);
            Asked { kind, length, item, generated, score }
        });
        let first = self.asked.len();
        self.asked.extend(scored);
        let values: Vec<f64> = self.asked[first..].iter().map(|asked| asked.score).collect();
        Ok(Score::fitting::<usize>(&values, &[]))
    }

    /// Writes a report and every item, where there is a folder for them.
    fn keep(&self, name: &str, report: &impl Serialize) -> Result<(), Failure> {
        let Some(out) = &self.args.out else { return Ok(()) };
        std::fs::create_dir_all(out).map_err(|e| FileError::writing(out, e))?;
        let write = |path: &Path, text: String| smolt_run::atomic::write(path, text.as_bytes());
        write(&out.join(name), output::or_empty(serde_json::to_string_pretty(report)))?;
        let lines = self.asked.iter().map(|asked| output::or_empty(serde_json::to_string(asked)));
        Ok(write(&out.join("samples.jsonl"), lines.collect())?)
    }
}
