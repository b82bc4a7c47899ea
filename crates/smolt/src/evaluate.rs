//! Scores of a model beside chance, the most frequent answer, an n-gram model and the untrained model.

use crate::model_folder::ModelFolder;
use crate::output;
use serde::{Deserialize, Serialize};
use smolt_data::batch::Layout;
use smolt_data::document::{Chat, Documents, JsonLines};
use smolt_data::shard::Shard;
use smolt_data::validation::Validation;
use smolt_eval::baselines;
use smolt_eval::generation::{answers, exact_match};
use smolt_eval::items::{self, Format, Item};
use smolt_eval::likelihood::{LanguageModel, Question, grade};
use smolt_eval::ngram::NGram;
use smolt_eval::stats::Score;
use smolt_infer::sampling::Sampling;
use smolt_infer::{Decoder, Settings};
use smolt_model::folder::Loaded;
use smolt_run::error::{Failure, FileError};
use smolt_run::progress::Progress;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_text::template::Message;
use smolt_train::recipe::PrecisionSetting;
use smolt_train::validate::{Domain, Validator};
use std::path::{Path, PathBuf};

/// Sequences decoded together.
const SLOTS: usize = 32;

/// What to measure.
pub(crate) struct Plan {
    pub(crate) model: PathBuf,
    pub(crate) items: PathBuf,
    pub(crate) items_per_skill: usize,
    pub(crate) multiple_choice: bool,
    pub(crate) exact_match: bool,
    pub(crate) chat_prompts: Option<PathBuf>,
    pub(crate) max_tokens: usize,
    pub(crate) untrained_seed: Option<u64>,
    pub(crate) ngram_shards: Vec<PathBuf>,
    pub(crate) ngram_order: usize,
    pub(crate) held_out: Option<PathBuf>,
    pub(crate) held_out_text: Option<PathBuf>,
    pub(crate) reference_text: Option<PathBuf>,
    pub(crate) sequence_length: usize,
    pub(crate) precision: PrecisionSetting,
    pub(crate) threads: usize,
    pub(crate) quiet: bool,
}

/// Scores of one skill, or their macro average.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SkillScores {
    pub(crate) skill: String,
    pub(crate) cloze: Score,
    pub(crate) multiple_choice: Option<Score>,
    pub(crate) exact_match: Option<Score>,
    pub(crate) chance: Score,
    pub(crate) most_frequent: Score,
    pub(crate) ngram: Option<Score>,
    pub(crate) untrained: Option<Score>,
}

impl SkillScores {
    /// The best of chance, the most frequent answer and the n-gram model.
    pub(crate) fn best_baseline(&self) -> f64 {
        let ngram = self.ngram.map_or(0.0, |s| s.value);
        self.chance.value.max(self.most_frequent.value).max(ngram)
    }
}

/// Everything measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scores {
    pub(crate) format_version: u32,
    pub(crate) skills: Vec<SkillScores>,
    pub(crate) macro_average: SkillScores,
    /// Share of chat prompts answered with an end within the limit.
    pub(crate) ended: Option<Score>,
    pub(crate) bits_per_byte: Option<f64>,
    /// What `zstd -19 --patch-from` reaches on the same text.
    pub(crate) zstd_bits_per_byte: Option<f64>,
    /// A few questions with the model's answers.
    pub(crate) samples: Vec<Sample>,
}

/// A question and what the model said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) skill: String,
    pub(crate) question: String,
    pub(crate) answer: String,
    pub(crate) expected: String,
}

/// Measures all of `plan`.
pub(crate) fn run(plan: &Plan) -> Result<Scores, Failure> {
    let folder = ModelFolder::load(&plan.model)?;
    let cpu = Cpu::new(plan.threads).map_err(|e| Failure::bad_input(e.to_string()))?;
    let precision = plan.precision.resolve(cpu.isa);
    let mut tasks = load_items(plan)?;
    if plan.items_per_skill > 0 {
        tasks.iter_mut().for_each(|(_, items)| items.truncate(plan.items_per_skill));
    }
    let mut ngram = match plan.ngram_shards.is_empty() {
        true => None,
        false => Some(train_ngram(plan, folder.loaded.model.config().vocab_size)?),
    };
    let untrained = plan.untrained_seed.map(|seed| Loaded::fresh(folder.loaded.model.config().clone(), seed));
    let capacity = folder.loaded.model.config().max_position_embeddings;
    let mut decoder = folder.decoder(&cpu, precision, SLOTS, capacity);
    let mut blank =
        untrained.as_ref().map(|u| Decoder::new(&cpu, &u.model, &u.weights, precision, SLOTS, capacity));
    let mut progress = match plan.quiet {
        true => Progress::hidden(),
        false => Progress::new(tasks.len() as u64, "eval"),
    };
    let (mut skills, mut samples) = (Vec::new(), Vec::new());
    for (done, (skill, items)) in tasks.iter().enumerate() {
        progress.set(done as u64, skill);
        let cloze = questions(items, Format::Cloze, &folder);
        let score = |model: &mut dyn LanguageModel, questions: &[Question]| -> Result<Score, Failure> {
            Ok(Score::of(grade(model, questions).map_err(bad)?))
        };
        let mut scores = SkillScores {
            skill: skill.clone(),
            cloze: score(&mut decoder, &cloze)?,
            multiple_choice: None,
            exact_match: None,
            chance: baselines::chance(items),
            most_frequent: baselines::most_frequent_answer(items),
            ngram: ngram.as_mut().map(|m| score(m, &cloze)).transpose()?,
            untrained: blank.as_mut().map(|m| score(m, &cloze)).transpose()?,
        };
        if plan.multiple_choice {
            scores.multiple_choice =
                Some(score(&mut decoder, &questions(items, Format::MultipleChoice, &folder))?);
        }
        if plan.exact_match {
            let (result, shown) = exact(&mut decoder, &folder, items, plan.max_tokens)?;
            scores.exact_match = Some(result);
            samples.extend(shown);
        }
        skills.push(scores);
    }
    progress.set(tasks.len() as u64, "");
    progress.finish();
    let ended = match &plan.chat_prompts {
        Some(path) => Some(ended(&mut decoder, &folder, path, plan.max_tokens)?),
        None => None,
    };
    let (bits_per_byte, zstd_bits_per_byte) = held_out(plan, &folder, &cpu, precision)?;
    let macro_average = average(&skills);
    Ok(Scores { format_version: 1, skills, macro_average, ended, bits_per_byte, zstd_bits_per_byte, samples })
}

fn bad(error: impl std::fmt::Display) -> Failure {
    Failure::bad_input(error.to_string())
}

/// Items of every `SKILL.jsonl`, in order of name.
fn load_items(plan: &Plan) -> Result<Vec<(String, Vec<Item>)>, Failure> {
    let dir = &plan.items;
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .map_err(|e| FileError::reading(dir, e))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Failure::bad_input(format!(
            "{}: no SKILL.jsonl files of test items here",
            dir.display()
        )));
    }
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    files.iter().map(|path| Ok((name(path), items::load(path)?))).collect()
}

fn questions(items: &[Item], format: Format, folder: &ModelFolder) -> Vec<Question> {
    let bos = folder.loaded.model.config().bos_token_id;
    items.iter().map(|item| Question::new(item, format, &folder.tokenizer, bos)).collect()
}

fn train_ngram(plan: &Plan, vocab_size: usize) -> Result<NGram, Failure> {
    let mut documents: Vec<Vec<u32>> = Vec::new();
    for path in &plan.ngram_shards {
        let shard = Shard::open(path)?;
        for document in 0..shard.n_documents() {
            documents.push(shard.document(document).map(|position| shard.token(position)).collect());
        }
    }
    Ok(NGram::train(plan.ngram_order, vocab_size, documents.iter().map(Vec::as_slice)))
}

fn greedy(folder: &ModelFolder, max_tokens: usize) -> Settings {
    Settings { max_tokens, stop: folder.stop_tokens(), sampling: Sampling::default(), seed: 0 }
}

fn exact(
    decoder: &mut Decoder<'_>,
    folder: &ModelFolder,
    items: &[Item],
    max_tokens: usize,
) -> Result<(Score, Vec<Sample>), Failure> {
    let template = folder.template()?;
    let chats = items.iter().map(|item| item.chat.as_slice());
    let answers =
        answers(decoder, &folder.tokenizer, &template, chats, &greedy(folder, max_tokens)).map_err(bad)?;
    let shown = items.iter().zip(&answers).take(2).map(|(item, answer)| Sample {
        skill: item.skill.clone(),
        question: item.chat.last().map(|m| m.content.clone()).unwrap_or_default(),
        answer: answer.text.clone(),
        expected: item.answer_text.clone(),
    });
    let samples = shown.collect();
    Ok((Score::of(items.iter().zip(&answers).map(|(item, answer)| exact_match(item, answer))), samples))
}

fn ended(
    decoder: &mut Decoder<'_>,
    folder: &ModelFolder,
    path: &Path,
    max_tokens: usize,
) -> Result<Score, Failure> {
    let chats: Vec<Vec<Message>> = JsonLines::<Chat>::open(path)?
        .map(|chat| Ok(chat?.messages.into_iter().map(|m| Message::new(m.role, m.content)).collect()))
        .collect::<Result<_, Failure>>()?;
    let template = folder.template()?;
    let settings = greedy(folder, max_tokens);
    let answers = answers(decoder, &folder.tokenizer, &template, chats.iter().map(Vec::as_slice), &settings);
    Ok(Score::of(answers.map_err(bad)?.iter().map(|a| a.ended)))
}

/// The model's and zstd's bits per byte on the held-out text.
fn held_out(
    plan: &Plan,
    folder: &ModelFolder,
    cpu: &Cpu,
    precision: Precision,
) -> Result<(Option<f64>, Option<f64>), Failure> {
    let mut ours = None;
    if let Some(path) = &plan.held_out {
        let config = folder.loaded.model.config();
        let layout = Layout {
            sequence_length: plan.sequence_length.min(config.max_position_embeddings),
            vocab_size: config.vocab_size as u32,
            document_masking: true,
            reset_positions: true,
        };
        let data = Validation::new(Shard::open(path)?, layout)?;
        let ids = 0..folder.tokenizer.vocab_size() as u32;
        let bytes: Vec<u32> = ids.map(|id| folder.tokenizer.token_bytes(id).len() as u32).collect();
        let label_bytes = data.label_bytes(&bytes)?;
        let domain = Domain { name: "held-out".into(), data, label_bytes };
        let model = &folder.loaded.model;
        let mut validator = Validator::new(model, 8, layout.sequence_length, precision);
        ours = Some(validator.run(cpu, model, &folder.loaded.weights, &domain)?.bits_per_byte);
    }
    let mut zstd = None;
    if let (Some(text), Some(reference)) = (&plan.held_out_text, &plan.reference_text) {
        let read = |path: &Path| -> Result<String, Failure> {
            let texts = Documents::new(&[path.to_path_buf()]).map(|d| Ok(d?.text));
            Ok(texts.collect::<Result<Vec<_>, smolt_data::Error>>()?.join("\n"))
        };
        zstd = Some(smolt_data::corpus::zstd_patch_bits_per_byte(&read(reference)?, &read(text)?)?);
    }
    Ok((ours, zstd))
}

fn average(skills: &[SkillScores]) -> SkillScores {
    let mean = |f: &dyn Fn(&SkillScores) -> Option<Score>| {
        let scores: Vec<Score> = skills.iter().filter_map(f).collect();
        (scores.len() == skills.len()).then(|| Score::macro_average(&scores))
    };
    let always =
        |f: &dyn Fn(&SkillScores) -> Score| Score::macro_average(&skills.iter().map(f).collect::<Vec<_>>());
    SkillScores {
        skill: "macro average".into(),
        cloze: always(&|s| s.cloze),
        multiple_choice: mean(&|s| s.multiple_choice),
        exact_match: mean(&|s| s.exact_match),
        chance: always(&|s| s.chance),
        most_frequent: always(&|s| s.most_frequent),
        ngram: mean(&|s| s.ngram),
        untrained: mean(&|s| s.untrained),
    }
}

/// The score table for people.
pub(crate) fn table(scores: &Scores) -> String {
    let header =
        ["skill", "cloze", "exact match", "chance", "most frequent", "n-gram", "untrained", "options shown"];
    let share = |s: Option<Score>| {
        s.map_or("-".into(), |s| format!("{:.1}±{:.1}", 100.0 * s.value, 100.0 * s.stderr))
    };
    let rows: Vec<Vec<String>> = scores
        .skills
        .iter()
        .chain([&scores.macro_average])
        .map(|s| {
            vec![
                s.skill.clone(),
                share(Some(s.cloze)),
                share(s.exact_match),
                share(Some(s.chance)),
                share(Some(s.most_frequent)),
                share(s.ngram),
                share(s.untrained),
                share(s.multiple_choice),
            ]
        })
        .collect();
    let mut text = output::table(&header, &rows);
    if let Some(ended) = scores.ended {
        text += &format!("\nanswers that end: {} of {}", share(Some(ended)), ended.n);
    }
    if let Some(bits) = scores.bits_per_byte {
        text += &format!("\nheld-out text: {bits:.3} bits per byte");
    }
    if let Some(bits) = scores.zstd_bits_per_byte {
        text += &format!(" (zstd -19 --patch-from: {bits:.3})");
    }
    text
}
