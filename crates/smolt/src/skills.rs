//! Tinytown's skills: scores of a model beside chance, the most frequent answer, an n-gram model and the untrained model.

use crate::evaluation::{ask, items, local};
use crate::model_folder::ModelFolder;
use crate::output;
use crate::output::note;
use serde::{Deserialize, Serialize};
use smolt_data::batch::Layout;
use smolt_data::document::{Chat, Documents, JsonLines};
use smolt_data::shard::Shard;
use smolt_eval::baselines;
use smolt_eval::dataset::{self, Loaded, Sources};
use smolt_eval::evaluate::{How, Sample as Asked, summarise};
use smolt_eval::model::local::LocalModel;
use smolt_eval::model::ngram::{NGram, NGramModel};
use smolt_eval::model::{Finish, Model, Prompt, Writing};
use smolt_eval::stats::Score;
use smolt_eval::task::pose::Item;
use smolt_eval::task::{Formulation, Task, builtin};
use smolt_run::error::{Failure, FileError};
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_train::recipe::PrecisionSetting;
use smolt_train::validate::{Domain, Validator};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// Scores of each skill.
type BySkill = BTreeMap<String, Score>;

/// The questions, and how they are put.
struct Test<'p> {
    plan: &'p Plan,
    task: Task,
    rows: Loaded,
}

impl Test<'_> {
    fn new(plan: &Plan) -> Result<Test<'_>, Failure> {
        let mut task = builtin("tinytown", &[])?;
        let (files, others) = item_files(&plan.items)?;
        if !others.is_empty() && !plan.quiet {
            note!("{}: no items, passed over: {}", plan.items.display(), others.join(", "));
        }
        let rows = load(&mut task, &files)?;
        Ok(Test { plan, task, rows })
    }

    /// The first items of every skill.
    fn items(&self, formulation: Formulation) -> Result<Vec<Item>, Failure> {
        let mut items = items(&self.task, formulation, &self.rows, None)?;
        if self.plan.items_per_skill > 0 {
            let mut counts: BTreeMap<Option<String>, usize> = BTreeMap::new();
            items.retain(|item| {
                let count = counts.entry(item.subset.clone()).or_default();
                *count += 1;
                *count <= self.plan.items_per_skill
            });
        }
        Ok(items)
    }

    /// Asks the items; chat models write their answers, the others are asked for likelihoods of plain text.
    fn ask(
        &self,
        formulation: Formulation,
        items: &[Item],
        model: &mut dyn Model,
        quiet: bool,
    ) -> Result<(BySkill, Vec<Asked>), Failure> {
        let how = How {
            formulation,
            chat: formulation == Formulation::Generation,
            system_prompt: None,
            strip_reasoning: true,
            samples: 1,
            temperature: 0.0,
            top_p: 1.0,
            max_tokens: Some(self.plan.max_tokens),
            seed: 0,
        };
        let samples = ask(&self.task, items, &how, model, quiet)?;
        let scores = summarise(&self.task, formulation, items, &samples);
        let primary =
            |(skill, all): (String, BTreeMap<String, Score>)| Some((skill, *all.get(&scores.primary)?));
        Ok((scores.subsets.into_iter().filter_map(primary).collect(), samples))
    }
}

/// The files of test items, `SKILL.jsonl`, of a folder, and the names of the others in it; of a file, itself.
fn item_files(items: &Path) -> Result<(Vec<PathBuf>, Vec<String>), Failure> {
    if !items.is_dir() {
        return Ok((vec![items.to_owned()], Vec::new()));
    }
    let entries = std::fs::read_dir(items).map_err(|e| FileError::reading(items, e))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> =
        names.collect::<std::io::Result<_>>().map_err(|e| FileError::reading(items, e))?;
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    let is_items = |name: &String| name.ends_with(".jsonl") && items.join(name).is_file();
    let (files, others): (Vec<String>, Vec<String>) = names.into_iter().partition(is_items);
    if files.is_empty() {
        let fix = "test items are SKILL.jsonl files, as `smolt data tinytown` writes to test/";
        return Err(Failure::bad_input(format!("{}: there are none; {fix}", items.display())));
    }
    Ok((files.into_iter().map(|name| items.join(name)).collect(), others))
}

/// The rows of all files. A file of something else is named, and so is one that holds items of another.
fn load(task: &mut Task, files: &[PathBuf]) -> Result<Loaded, Failure> {
    let sources = Sources::new(Vec::new(), true);
    let mut all: Option<Loaded> = None;
    let mut seen: BTreeMap<String, &Path> = BTreeMap::new();
    for file in files {
        task.dataset.path = file.display().to_string();
        let loaded = dataset::load(task, &sources)?;
        let named = |problem: &str| {
            Failure::bad_input(format!("{}: {problem}; correct it, or move it away", file.display()))
        };
        let posed = items(task, Formulation::Cloze, &loaded, None);
        let posed = posed.map_err(|e| named(&format!("these are no test items ({e})")))?;
        for item in posed {
            if let Some(other) = seen.insert(item.id.clone(), file) {
                return Err(named(&format!("item {} is in {} as well", item.id, other.display())));
            }
        }
        match &mut all {
            Some(all) => all.rows.extend(loaded.rows),
            None => all = Some(loaded),
        }
    }
    all.ok_or_else(|| Failure::bad_input("there are no test items"))
}

/// Measures all of `plan`.
pub(crate) fn run(plan: &Plan) -> Result<Scores, Failure> {
    let folder = ModelFolder::load(&plan.model)?;
    let cpu = Cpu::new(plan.threads).map_err(|e| Failure::bad_input(e.to_string()))?;
    let precision = plan.precision.resolve(cpu.isa);
    let test = Test::new(plan)?;
    let chats = plan.exact_match || plan.chat_prompts.is_some();
    let template = if chats { Some(folder.template()?) } else { None };
    let mut model = local(&folder, &cpu, precision, template.as_ref());

    let items = test.items(Formulation::Cloze)?;
    let cloze = test.ask(Formulation::Cloze, &items, &mut model, plan.quiet)?.0;
    let untrained = untrained(plan, &folder, &cpu, precision, &test, &items)?;
    let ngram = ngram(plan, &folder, &test, &items)?;
    let mut extra = |wanted: bool, formulation: Formulation| -> Result<(BySkill, Vec<Asked>), Failure> {
        match wanted {
            true => test.ask(formulation, &test.items(formulation)?, &mut model, plan.quiet),
            false => Ok(Default::default()),
        }
    };
    let multiple_choice = extra(plan.multiple_choice, Formulation::MultipleChoice)?.0;
    let (exact_match, written) = extra(plan.exact_match, Formulation::Generation)?;

    let mut skills = Vec::new();
    for (skill, &cloze) in &cloze {
        let own = |item: &&Item| item.subset.as_ref() == Some(skill);
        let items: Vec<Item> = items.iter().filter(own).cloned().collect();
        skills.push(SkillScores {
            skill: skill.clone(),
            cloze,
            multiple_choice: multiple_choice.get(skill).copied(),
            exact_match: exact_match.get(skill).copied(),
            chance: baselines::chance(&items),
            most_frequent: baselines::most_frequent_answer(&items),
            ngram: ngram.get(skill).copied(),
            untrained: untrained.get(skill).copied(),
        });
    }
    let ended =
        plan.chat_prompts.as_ref().map(|path| ended(&mut model, path, plan.max_tokens)).transpose()?;
    let (bits_per_byte, zstd_bits_per_byte) = held_out(plan, &folder, &cpu, precision)?;
    Ok(Scores {
        format_version: 1,
        macro_average: average(&skills),
        skills,
        ended,
        bits_per_byte,
        zstd_bits_per_byte,
        samples: shown(&test.items(Formulation::Generation)?, &written),
    })
}

/// A fresh model of the same shape, asked the same.
fn untrained(
    plan: &Plan,
    folder: &ModelFolder,
    cpu: &Cpu,
    precision: Precision,
    test: &Test<'_>,
    items: &[Item],
) -> Result<BySkill, Failure> {
    let Some(seed) = plan.untrained_seed else { return Ok(BySkill::new()) };
    let fresh = smolt_model::folder::Loaded::fresh(folder.loaded.model.config().clone(), seed);
    let mut model = LocalModel {
        cpu,
        model: &fresh.model,
        weights: &fresh.weights,
        precision,
        encoder: folder.encoder(None),
        context: fresh.model.config().max_position_embeddings,
    };
    Ok(test.ask(Formulation::Cloze, items, &mut model, true)?.0)
}

/// An n-gram model of the training tokens, asked the same.
fn ngram(plan: &Plan, folder: &ModelFolder, test: &Test<'_>, items: &[Item]) -> Result<BySkill, Failure> {
    if plan.ngram_shards.is_empty() {
        return Ok(BySkill::new());
    }
    let mut documents: Vec<Vec<u32>> = Vec::new();
    for path in &plan.ngram_shards {
        let shard = Shard::open(path)?;
        for document in 0..shard.n_documents() {
            documents.push(shard.document(document).map(|position| shard.token(position)).collect());
        }
    }
    let vocab_size = folder.loaded.model.config().vocab_size;
    let counts = NGram::train(plan.ngram_order, vocab_size, documents.iter().map(Vec::as_slice));
    let mut model = NGramModel::new(&counts, folder.encoder(None));
    Ok(test.ask(Formulation::Cloze, items, &mut model, true)?.0)
}

/// Two answers of every skill.
fn shown(items: &[Item], written: &[Asked]) -> Vec<Sample> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut samples = Vec::new();
    for (item, asked) in items.iter().zip(written) {
        let skill = item.subset.as_deref().unwrap_or_default();
        let count = seen.entry(skill).or_default();
        *count += 1;
        if *count <= 2 {
            samples.push(Sample {
                skill: skill.to_owned(),
                question: item.messages(None, 0).pop().map(|m| m.content).unwrap_or_default(),
                answer: asked.written.first().map(|w| w.generated.text.trim().to_owned()).unwrap_or_default(),
                expected: item.answers.first().cloned().unwrap_or_default(),
            });
        }
    }
    samples
}

/// How many of the conversations in a file come to an end.
fn ended(model: &mut LocalModel<'_>, path: &Path, max_tokens: usize) -> Result<Score, Failure> {
    let prompt = |chat: Result<Chat, smolt_data::Error>| Ok(Prompt::Chat(chat?.messages));
    let chats = JsonLines::open(path)?.map(prompt).collect::<Result<Vec<_>, Failure>>()?;
    let writing = Writing {
        max_tokens,
        stop: Vec::new(),
        stop_after_reasoning: false,
        temperature: 0.0,
        top_p: 1.0,
        samples: 1,
        seed: 0,
    };
    let answers = model.write(&chats, &writing, &mut |_, _| {})?;
    Ok(Score::of(answers.iter().flatten().map(|answer| answer.finish == Finish::EndToken)))
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
        let domain = Domain::open("held-out", path, layout, &folder.tokenizer)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(skill: &str, id: usize) -> String {
        let row = serde_json::json!({
            "id": id, "skill": skill, "prompt": "Who has it?", "choices": ["Ann", "Tom"], "answer": 1,
            "answer_text": "Tom.", "chat": [{"role": "user", "content": "Who has it?"}],
        });
        format!("{row}\n")
    }

    #[test]
    fn other_files_beside_the_items_are_passed_over_or_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let read = || {
            let (files, others) = item_files(dir.path())?;
            let mut task = builtin("tinytown", &[]).unwrap();
            load(&mut task, &files).map(|loaded| (loaded.rows.len(), others))
        };
        assert!(read().map(drop).unwrap_err().message.contains("SKILL.jsonl"));
        write("who.jsonl", &(row("who", 1) + &row("who", 2)));
        write("where.jsonl", &row("where", 1));
        for stray in ["notes.txt", "scores.json", "README.md", "who.jsonl~", ".DS_Store"] {
            write(stray, "{\"value\": 1}");
        }
        std::fs::create_dir(dir.path().join("old.jsonl")).unwrap();
        let others = ["README.md", "notes.txt", "old.jsonl", "scores.json", "who.jsonl~"];
        assert_eq!(read().unwrap(), (3, others.map(str::to_owned).to_vec()));
        write("samples.jsonl", "{\"value\": 1}\n");
        let said = read().unwrap_err().message;
        assert!(
            said.contains("samples.jsonl: these are no test items (") && said.contains("move it away"),
            "{said}"
        );
        std::fs::remove_file(dir.path().join("samples.jsonl")).unwrap();
        write("who (copy).jsonl", &row("who", 2));
        let said = read().unwrap_err().message;
        assert!(
            said.contains("who.jsonl: item who/2 is in") && said.contains("who (copy).jsonl as well"),
            "{said}"
        );
    }
}
