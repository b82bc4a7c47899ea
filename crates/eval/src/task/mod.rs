//! Tasks as data: a TOML file says where the rows of a benchmark are and how a row is put to a model (spec EVL-03, EVL-06).
//!
//! A task can be posed in up to three formulations: *cloze* (CF: how likely is each candidate as a continuation; options are
//! not shown), *multiple choice* (MCF: options are shown with letters, the letters are the candidates) and *generation* (FG:
//! the model writes, an answer is extracted and compared).

mod builtin;
pub mod languages;
pub mod pose;
mod template;

pub use builtin::{SUITES, Suite, builtin, names};
pub use template::{TemplateError, Templates};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smolt_run::error::{Exit, ExitKind};
use smolt_run::recipe::{Document, FormatVersion, RecipeError};
use std::path::Path;

smolt_run::recipe! {
    /// One benchmark.
    pub struct Task {
        /// Version of this file's format.
        pub format_version: FormatVersion = FormatVersion,
        /// Its name, as the field spells it.
        pub name: String,
        /// What it tests, in a sentence.
        pub description: String = String::new(),
        /// Paper or page it comes from.
        pub source: String = String::new(),
        /// Licence of the data.
        pub licence: String = String::new(),
        /// What it belongs to: knowledge, science, commonsense, maths, language, long context.
        pub domain: String = String::new(),
        /// Accuracy of a guess; from the candidates when left out.
        pub random_baseline: Option<f64>,
        /// Kept for final reports: opening it while developing makes it a validation set (spec PEV-12).
        pub held_out: bool = false,
        /// Where the rows are.
        pub dataset: Dataset,
        /// From a row to a question.
        pub item: ItemTemplate,
        /// Candidates as continuations, not shown.
        pub cloze: Option<Cloze>,
        /// Candidates shown with letters.
        pub multiple_choice: Option<MultipleChoice>,
        /// Free text.
        pub generation: Option<Generation>,
        /// Solved examples before the question.
        pub few_shot: FewShot,
        /// Published scores, for the replication gate (spec EVL-08, PEV-14).
        pub reference: Vec<Reference> = Vec::new(),
    }

    /// Rows in Hugging Face layout.
    pub struct Dataset {
        /// `hf://datasets/OWNER/NAME`, a folder, or a file of rows.
        pub path: String,
        /// Configuration of the data set.
        pub config: Option<String>,
        /// Revision of the data set on the Hub.
        pub revision: String = "main".to_owned(),
        /// Split that is evaluated.
        pub split: String = "test".to_owned(),
        /// Split that examples come from; they come from `split` when left out, never the item itself.
        pub few_shot_split: Option<String>,
        /// Expression over a row: whether it counts.
        pub filter: Option<String>,
    }

    /// Templates (`{{ column }}`) and expressions (`column`) over the columns of a row.
    pub struct ItemTemplate {
        /// Template of the question, to be continued by the answer.
        pub prompt: String = String::new(),
        /// Template of the question through a chat template, where options are not shown; `prompt` when left out.
        pub chat_prompt: Option<String>,
        /// Expression: the candidates, a list of strings.
        pub choices: Option<String>,
        /// Expression: which candidate is right, counted from 0.
        pub answer: Option<String>,
        /// Expression: a prompt for each candidate, where the candidate lies in the prompt.
        pub prompts: Option<String>,
        /// Template of what follows each of `prompts`.
        pub continuation: Option<String>,
        /// Expression: identity of the item; its row number when left out.
        pub id: Option<String>,
        /// Expression: the part of the benchmark it belongs to, such as its subject.
        pub subset: Option<String>,
        /// Expression: what items share that are not independent, such as a passage.
        pub cluster: Option<String>,
        /// Template of what stands before the examples.
        pub description: String = String::new(),
    }

    /// How cloze candidates are scored (spec EVL-04).
    pub struct Cloze {
        /// Between prompt and candidate.
        pub delimiter: String = " ".to_owned(),
        /// Score that speaks for the task.
        pub primary: String = "accuracy_char".to_owned(),
        /// Prompt without the question, to tell how likely a candidate is anyway; makes `accuracy_pmi`.
        pub unconditional: Option<String>,
    }

    /// How options are shown.
    pub struct MultipleChoice {
        /// Template of the question with its options; `choices` is the list.
        pub prompt: String = DEFAULT_OPTIONS.to_owned(),
        /// Between prompt and letter.
        pub delimiter: String = " ".to_owned(),
        /// Score that speaks for the task.
        pub primary: String = "accuracy".to_owned(),
    }

    /// How free answers are asked for and judged.
    pub struct Generation {
        /// Template of the question; `item.prompt` when left out.
        pub prompt: Option<String>,
        /// Expression: the answer shown in examples.
        pub target: String,
        /// Expression: the accepted answers, a list of strings, `target` among them only if it is listed; only `target` when
        /// left out.
        pub answers: Option<String>,
        /// Between question and answer in examples.
        pub delimiter: String = " ".to_owned(),
        /// Strings that end an answer.
        pub stop: Vec<String> = vec!["\n\n".to_owned()],
        /// Longest answer in tokens.
        pub max_tokens: usize = 256,
        /// How the answer is found in the text, each a score of its own; the whole text when left out.
        pub extract: Vec<Extract> = Vec::new(),
        /// What is forgiven.
        pub normalise: Normalise,
        /// How an extracted answer is compared.
        pub metric: Compare = Compare::ExactMatch,
        /// Score that speaks for the task; the first when left out.
        pub primary: Option<String>,
    }

    /// A way to find an answer in a text.
    pub struct Extract {
        /// Name of the score.
        pub name: String,
        /// What an answer looks like; its first group that matched, or all of it.
        pub regex: String,
        /// Which of several.
        pub which: Which = Which::First,
    }

    /// Which of several matches.
    pub enum Which {
        /// The first.
        First = "first",
        /// The last.
        Last = "last",
    }

    /// What is forgiven in a comparison, applied to both sides in this order.
    pub struct Normalise {
        /// Regular expressions whose matches are removed.
        pub remove: Vec<String> = Vec::new(),
        /// Spellings of LaTeX.
        pub latex: Option<Latex>,
        /// Case.
        pub ignore_case: bool = false,
        /// ASCII punctuation.
        pub ignore_punctuation: bool = false,
        /// The words a, an and the.
        pub ignore_articles: bool = false,
        /// Runs of white space count as one space, and none at the ends.
        pub collapse_space: bool = true,
    }

    /// Which spellings of LaTeX are the same.
    pub enum Latex {
        /// Those that Minerva takes for the same, and some that only look different; no algebra is done.
        Minerva = "minerva",
    }

    /// How an answer is compared with the accepted ones.
    pub enum Compare {
        /// Equal to one of them.
        ExactMatch = "exact_match",
        /// Words in common, harmonic mean of precision and recall, with the best of them.
        F1 = "f1",
        /// Each accepted answer occurs in it: the share that does.
        ContainsAll = "contains_all",
        /// One of them occurs in it.
        ContainsAny = "contains_any",
        /// Character n-grams in common with the first of them (chrF++), over the corpus.
        Chrf = "chrf",
    }

    /// Solved examples before the question.
    pub struct FewShot {
        /// How many.
        pub count: usize = 0,
        /// Which.
        pub sampler: Sampler = Sampler::First,
        /// Seed of the random ones.
        pub seed: u64 = 1234,
        /// Rows to take them from instead of a split's, as JSONL.
        pub examples: Option<String>,
        /// Between examples.
        pub separator: String = "\n\n".to_owned(),
    }

    /// Which examples are taken; of the item's own subset where there are subsets.
    pub enum Sampler {
        /// The first rows.
        First = "first",
        /// Drawn once, the same for every item, so that their cost is shared.
        Random = "random",
        /// Drawn for each item.
        RandomPerItem = "random_per_item",
        /// The first rows such that every answer occurs about equally often.
        Balanced = "balanced",
    }

    /// A published score.
    pub struct Reference {
        /// Model on the Hub.
        pub model: String,
        /// cloze, multiple_choice or generation.
        pub formulation: Formulation,
        /// Which score.
        pub metric: String,
        /// Examples it was measured with.
        pub few_shot: usize = 0,
        /// The score, 0 to 1.
        pub score: f64,
        /// How far apart two right implementations may be, besides the standard error.
        pub tolerance: f64 = 0.01,
        /// Where it was published.
        pub from: String,
    }

    /// How a task is put to a model.
    pub enum Formulation {
        /// CF.
        Cloze = "cloze",
        /// MCF.
        MultipleChoice = "multiple_choice",
        /// FG.
        Generation = "generation",
    }
}

const DEFAULT_OPTIONS: &str =
    "{{ prompt }}\n{% for c in choices %}{{ loop.index0 | letter }}. {{ c }}\n{% endfor %}Answer:";

/// The most bytes of a template or expression.
const MAX_SOURCE: usize = 64 << 10;

impl Formulation {
    /// As in files.
    pub fn name(self) -> &'static str {
        match self {
            Formulation::Cloze => "cloze",
            Formulation::MultipleChoice => "multiple_choice",
            Formulation::Generation => "generation",
        }
    }
}

impl Serialize for Formulation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Formulation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let all = [Formulation::Cloze, Formulation::MultipleChoice, Formulation::Generation];
        let known = || D::Error::custom(format!("`{name}` is not cloze, multiple_choice or generation"));
        all.into_iter().find(|formulation| formulation.name() == name).ok_or_else(known)
    }
}

/// A task file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It is not a task.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// No such task is built in.
    #[error("no task or suite `{0}` is built in; `smolt eval tasks` lists them, and a file ends in .toml")]
    Unknown(String),
    /// A language that is not called so.
    #[error(
        "there is no language `{0}`; name it as FLORES-200 does, such as fra_Latn, or by its two letters"
    )]
    Language(String),
    /// Its settings do not make sense together.
    #[error("task `{task}`: {problem}")]
    Wrong {
        /// The task.
        task: String,
        /// What is wrong, and the fix.
        problem: String,
    },
}

impl ExitKind for TaskError {
    fn exit(&self) -> Exit {
        Exit::BadInput
    }
}

fn may_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.+@".contains(c)
}

impl Task {
    /// Reads a task file; `sets` are `key=value` overrides. A data set that lies beside the file is found there, unless an
    /// override says where it is.
    pub fn load(path: &Path, sets: &[String]) -> Result<Task, TaskError> {
        let mut task = Task::of(Document::load(path)?, sets)?;
        let beside = path.with_file_name("").join(&task.dataset.path);
        let own = !sets.iter().any(|set| set.trim_start().starts_with("dataset.path"));
        if own && !task.dataset.path.is_empty() && !task.dataset.path.contains("://") && beside.exists() {
            task.dataset.path = beside.display().to_string();
        }
        Ok(task)
    }

    /// Reads a task from memory; `name` stands in errors.
    pub fn parse(name: &str, bytes: &[u8], sets: &[String]) -> Result<Task, TaskError> {
        Task::of(Document::parse(name, bytes)?, sets)
    }

    fn of(mut document: Document, sets: &[String]) -> Result<Task, TaskError> {
        // A document may need the settings to be whole.
        let own = document.read::<Task>().ok().map(|task| task.dataset.config);
        for set in sets {
            document.set(set)?;
        }
        let mut task: Task = document.read()?;
        if let Some(config) =
            task.dataset.config.clone().filter(|_| own.is_some_and(|own| own != task.dataset.config))
        {
            task.name_configuration(&config);
        }
        task.check().map_err(|problem| TaskError::Wrong { task: task.name.clone(), problem })?;
        Ok(task)
    }

    /// Puts the configuration into the name: another language is another benchmark, whose results stand beside those of the
    /// first.
    pub fn name_configuration(&mut self, config: &str) {
        let config: String = config.chars().map(|c| if may_name(c) { c } else { '-' }).collect();
        self.name = format!("{}@{config}", self.name);
    }

    /// The formulations it can be posed in, in the order in which a model learns them (spec EVL-05).
    pub fn formulations(&self) -> Vec<Formulation> {
        [
            self.cloze.is_some().then_some(Formulation::Cloze),
            self.multiple_choice.is_some().then_some(Formulation::MultipleChoice),
            self.generation.is_some().then_some(Formulation::Generation),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Name of the score that speaks for the task.
    pub fn primary(&self, formulation: Formulation) -> String {
        match formulation {
            Formulation::Cloze => self.cloze.as_ref().map(|f| f.primary.clone()),
            Formulation::MultipleChoice => self.multiple_choice.as_ref().map(|f| f.primary.clone()),
            Formulation::Generation => self.generation.as_ref().map(Generation::primary),
        }
        .unwrap_or_default()
    }

    fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(may_name) {
            return Err("`name` may hold letters, digits and _ - . + @, since it names files".into());
        }
        if self.formulations().is_empty() {
            return Err("give it a table [cloze], [multiple_choice] or [generation]".into());
        }
        let item = &self.item;
        if item.prompts.is_some() != item.continuation.is_some() {
            return Err("`item.prompts` and `item.continuation` go together".into());
        }
        if item.prompts.is_some() && item.chat_prompt.is_some() {
            return Err("`item.chat_prompt` is one question, `item.prompts` are several; drop one".into());
        }
        let candidates = item.choices.is_some() || item.prompts.is_some();
        if (self.cloze.is_some() || self.multiple_choice.is_some()) && !(candidates && item.answer.is_some())
        {
            return Err("[cloze] and [multiple_choice] need `item.choices` and `item.answer`".into());
        }
        if self.multiple_choice.is_some() && item.choices.is_none() {
            return Err("[multiple_choice] needs `item.choices`, the options to show".into());
        }
        self.few_shot.rows()?;
        if let Some(generation) = &self.generation {
            crate::score::generation::Judge::new(generation)?;
        }
        for formulation in self.formulations() {
            let (primary, known) = (self.primary(formulation), self.metrics(formulation));
            if !known.contains(&primary) {
                return Err(format!(
                    "`{primary}` is not a score of {}: {}",
                    formulation.name(),
                    known.join(", ")
                ));
            }
        }
        Templates::check(self)
    }

    /// Names of the scores of a formulation.
    pub fn metrics(&self, formulation: Formulation) -> Vec<String> {
        use crate::score::choice::Normalisation;
        match formulation {
            Formulation::Generation => self.generation.as_ref().map(Generation::metrics).unwrap_or_default(),
            _ => Normalisation::ALL
                .into_iter()
                .filter(|n| *n != Normalisation::Pmi || self.unconditional(formulation).is_some())
                .map(|n| n.metric().to_owned())
                .collect(),
        }
    }

    /// The prompt without the question, where candidates are also scored without it.
    pub fn unconditional(&self, formulation: Formulation) -> Option<&str> {
        match formulation {
            Formulation::Cloze => self.cloze.as_ref()?.unconditional.as_deref(),
            _ => None,
        }
    }
}

impl FewShot {
    /// The rows of its own that examples are taken from, where it has some.
    ///
    /// # Errors
    /// A line that is no row.
    pub(crate) fn rows(&self) -> Result<Option<Vec<pose::Row>>, String> {
        let Some(text) = &self.examples else { return Ok(None) };
        let row = |(at, line): (usize, &str)| {
            serde_json::from_str(line)
                .map_err(|e| format!("`few_shot.examples`, line {}: not a row in JSON ({e})", at + 1))
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(row).collect::<Result<_, _>>().map(Some)
    }
}

impl Generation {
    /// Names of its scores.
    pub fn metrics(&self) -> Vec<String> {
        let metric = self.metric.name();
        if self.extract.is_empty() {
            return vec![metric.to_owned()];
        }
        self.extract.iter().map(|extract| format!("{metric}_{}", extract.name)).collect()
    }

    fn primary(&self) -> String {
        self.primary.clone().or_else(|| self.metrics().into_iter().next()).unwrap_or_default()
    }
}

impl Compare {
    /// As in files.
    pub fn name(self) -> &'static str {
        match self {
            Compare::ExactMatch => "exact_match",
            Compare::F1 => "f1",
            Compare::ContainsAll => "contains_all",
            Compare::ContainsAny => "contains_any",
            Compare::Chrf => "chrf",
        }
    }
}

#[cfg(test)]
mod tests;
