//! From rows to what a model reads: rendering, and the choice of examples.

use super::template::{on_deep_stack, prompt_field, variables};
use super::{Formulation, Sampler, Task, TemplateError, Templates};
use minijinja::value::Value;
use serde_json::Map;
use smolt_run::error::{Exit, ExitKind};
use smolt_run::random::Stream;
use smolt_text::template::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The columns of a row by name.
pub type Row = Map<String, serde_json::Value>;

/// A solved example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shot {
    /// The question as it would be asked.
    pub question: String,
    /// The same in a conversation, where it is another text.
    pub chat_question: Option<String>,
    /// Its answer.
    pub answer: String,
}

/// One question, rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Unique within the task.
    pub id: String,
    /// Place in the split, counted from 0.
    pub row: usize,
    /// The part of the benchmark.
    pub subset: Option<String>,
    /// What it shares with items it depends on.
    pub cluster: Option<String>,
    /// What stands before the examples.
    pub description: String,
    /// Examples, in order.
    pub shots: Arc<Vec<Shot>>,
    /// The question itself: one, or one for each candidate.
    pub questions: Vec<String>,
    /// The question in a conversation, where it is another text.
    pub chat_question: Option<String>,
    /// Candidates as they are scored, without the delimiter; empty where the model writes.
    pub continuations: Vec<String>,
    /// Candidates as they are measured: for normalisation by length.
    pub choices: Vec<String>,
    /// The right candidate.
    pub answer: Option<usize>,
    /// Accepted answers where the model writes.
    pub answers: Vec<String>,
    /// What examples show for an answer where the model writes; empty where there is nothing to show.
    pub target: String,
    /// Between question and answer.
    pub delimiter: String,
    /// Between examples.
    pub separator: String,
}

impl Item {
    /// A bare question, for tests.
    #[cfg(test)]
    pub(crate) fn asking(question: &str) -> Item {
        Item {
            id: "0".into(),
            row: 0,
            subset: None,
            cluster: None,
            description: String::new(),
            shots: Arc::default(),
            questions: vec![question.into()],
            chat_question: None,
            continuations: Vec::new(),
            choices: Vec::new(),
            answer: None,
            answers: Vec::new(),
            target: String::new(),
            delimiter: " ".into(),
            separator: "\n\n".into(),
        }
    }

    /// The question in every wording in which it may be asked.
    pub fn wordings(&self) -> impl Iterator<Item = &String> + Clone {
        self.questions.iter().chain(&self.chat_question)
    }

    /// Everything before the continuation, for candidate `choice`.
    pub fn prompt(&self, choice: usize) -> String {
        let mut text = self.description.clone();
        for shot in self.shots.iter() {
            for part in [&shot.question, &self.delimiter, &shot.answer, &self.separator] {
                text.push_str(part);
            }
        }
        text + &self.questions[choice.min(self.questions.len() - 1)]
    }

    /// The same as a conversation that awaits the assistant: examples are earlier turns.
    pub fn messages(&self, system: Option<&str>, choice: usize) -> Vec<Message> {
        let before = [system.unwrap_or_default(), self.description.trim()].join("\n\n");
        let mut messages = Vec::new();
        if !before.trim().is_empty() {
            messages.push(Message::new("system", before.trim()));
        }
        for shot in self.shots.iter() {
            messages
                .push(Message::new("user", shot.chat_question.as_ref().unwrap_or(&shot.question).as_str()));
            messages.push(Message::new("assistant", shot.answer.trim_start()));
        }
        let question = &self.questions[choice.min(self.questions.len() - 1)];
        messages.push(Message::new("user", self.chat_question.as_ref().unwrap_or(question).as_str()));
        messages
    }
}

/// A row that cannot be posed.
#[derive(Debug, thiserror::Error)]
pub enum PoseError {
    /// A row does not fit the task.
    #[error("task `{task}`, {split} row {row}: {problem}")]
    Row {
        /// The task.
        task: String,
        /// The split.
        split: String,
        /// Counted from 0.
        row: usize,
        /// What is wrong.
        problem: String,
    },
    /// The rows as a whole do not fit the task.
    #[error("task `{task}`: {problem}")]
    Task {
        /// The task.
        task: String,
        /// What is wrong, and the fix.
        problem: String,
    },
}

impl ExitKind for PoseError {
    fn exit(&self) -> Exit {
        Exit::BadInput
    }
}

/// Poses every row of `rows` that counts, with examples from `few_shot` (the rows themselves where there are no others).
///
/// # Errors
/// A column that is missing, an answer outside the candidates, no rows at all, fewer examples than asked for.
pub fn pose(
    task: &Task,
    formulation: Formulation,
    rows: &[Row],
    few_shot: Option<&[Row]>,
) -> Result<Vec<Item>, PoseError> {
    let whole = |problem: String| PoseError::Task { task: task.name.clone(), problem };
    if !task.formulations().contains(&formulation) {
        return Err(whole(format!("it has no formulation `{}`", formulation.name())));
    }
    on_deep_stack(|| {
        let poser = Poser { task, formulation, engine: Templates::default() };
        let mut items = poser.items(rows, &task.dataset.split)?;
        if items.is_empty() {
            return Err(whole(format!("the split `{}` has no rows that count", task.dataset.split)));
        }
        if task.few_shot.count > 0 {
            let examples = match few_shot {
                Some(rows) => {
                    poser.items(rows, task.dataset.few_shot_split.as_deref().unwrap_or("few-shot"))?
                }
                None => items.clone(),
            };
            poser.add_shots(&mut items, &examples, few_shot.is_none())?;
        }
        Ok(items)
    })
    .map_err(whole)?
}

struct Poser<'t> {
    task: &'t Task,
    formulation: Formulation,
    engine: Templates,
}

impl Poser<'_> {
    fn items(&self, rows: &[Row], split: &str) -> Result<Vec<Item>, PoseError> {
        let mut items = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let failed = |problem: String| PoseError::Row {
                task: self.task.name.clone(),
                split: split.to_owned(),
                row: at,
                problem: match problem.ends_with("is missing") {
                    true => format!("{problem}; the row has {}", columns(row)),
                    false => problem,
                },
            };
            items.extend(self.item(row, at).map_err(failed)?);
        }
        Ok(items)
    }

    /// The columns of a row and `others`; besides, unless a column has the name, `formulation`, the data set's `config`
    /// and `row`, all columns by name.
    fn variables(&self, row: &Row, others: &[(&str, Value)]) -> Value {
        let config = self.task.dataset.config.as_deref().unwrap_or_default();
        let besides = [
            ("formulation", Value::from(self.formulation.name())),
            ("config", Value::from(config)),
            ("row", variables(row, &[])),
        ];
        let mut all: Vec<(&str, Value)> =
            besides.into_iter().filter(|(name, _)| !row.contains_key(*name)).collect();
        all.extend(others.iter().cloned());
        variables(row, &all)
    }

    fn item(&self, row: &Row, at: usize) -> Result<Option<Item>, String> {
        let (item, engine) = (&self.task.item, &self.engine);
        let columns = self.variables(row, &[]);
        let said = |e: TemplateError| e.to_string();
        if let Some(filter) = &self.task.dataset.filter
            && !engine.value("dataset.filter", filter, &columns).map_err(said)?.is_true()
        {
            return Ok(None);
        }
        let text = |field, source: &Option<String>| -> Result<Option<String>, String> {
            source.as_ref().map(|source| engine.text(field, source, &columns).map_err(said)).transpose()
        };
        let text_of = |field, source: &Option<String>| -> Result<Option<String>, String> {
            source.as_ref().map(|source| engine.render(field, source, &columns).map_err(said)).transpose()
        };
        let choices = match &item.choices {
            Some(source) => engine.texts("item.choices", source, &columns).map_err(said)?,
            None => Vec::new(),
        };
        let mut posed = Item {
            id: text("item.id", &item.id)?.unwrap_or_else(|| at.to_string()),
            row: at,
            subset: text("item.subset", &item.subset)?,
            cluster: text("item.cluster", &item.cluster)?,
            description: engine.render("item.description", &item.description, &columns).map_err(said)?,
            shots: Arc::default(),
            questions: Vec::new(),
            chat_question: None,
            continuations: Vec::new(),
            choices,
            answer: None,
            answers: Vec::new(),
            target: String::new(),
            delimiter: String::new(),
            separator: self.task.few_shot.separator.clone(),
        };
        match self.formulation {
            Formulation::Cloze => self.cloze(&mut posed, &columns),
            Formulation::MultipleChoice => self.multiple_choice(&mut posed, row, &columns),
            Formulation::Generation => self.generation(&mut posed, &columns),
        }
        .map_err(said)?;
        if self.formulation != Formulation::MultipleChoice {
            posed.chat_question = text_of("item.chat_prompt", &item.chat_prompt)?;
        }
        if self.formulation != Formulation::Generation {
            posed.answer = Some(self.right_candidate(&posed, &columns)?);
        }
        Ok(Some(posed))
    }

    fn cloze(&self, posed: &mut Item, columns: &Value) -> Result<(), TemplateError> {
        let item = &self.task.item;
        posed.delimiter = self.task.cloze.as_ref().map_or(" ", |f| &f.delimiter).to_owned();
        if let (Some(prompts), Some(continuation)) = (&item.prompts, &item.continuation) {
            posed.questions = self.engine.texts("item.prompts", prompts, columns)?;
            let after = self.engine.render("item.continuation", continuation, columns)?;
            posed.continuations = vec![after; posed.questions.len()];
            if posed.choices.is_empty() {
                posed.choices = posed.questions.clone();
            }
        } else {
            posed.questions = vec![self.engine.render("item.prompt", &item.prompt, columns)?];
            posed.continuations = posed.choices.clone();
        }
        Ok(())
    }

    fn multiple_choice(&self, posed: &mut Item, row: &Row, columns: &Value) -> Result<(), TemplateError> {
        let Some(form) = &self.task.multiple_choice else { return Ok(()) };
        let mut others = vec![("choices", posed.choices.iter().map(String::as_str).collect::<Value>())];
        if form.prompt == super::DEFAULT_OPTIONS {
            let question = self.engine.render("item.prompt", &self.task.item.prompt, columns)?;
            let stem = question.trim_end().trim_end_matches("Answer:").trim_end();
            others.push(("prompt", stem.into()));
        }
        let field = prompt_field(self.formulation);
        posed.questions = vec![self.engine.render(field, &form.prompt, &self.variables(row, &others))?];
        posed.delimiter.clone_from(&form.delimiter);
        posed.continuations = ('A'..='Z').take(posed.choices.len()).map(String::from).collect();
        Ok(())
    }

    fn generation(&self, posed: &mut Item, columns: &Value) -> Result<(), TemplateError> {
        let Some(form) = &self.task.generation else { return Ok(()) };
        let (field, prompt) = match &form.prompt {
            Some(prompt) => (prompt_field(self.formulation), prompt),
            None => ("item.prompt", &self.task.item.prompt),
        };
        posed.questions = vec![self.engine.render(field, prompt, columns)?];
        posed.delimiter.clone_from(&form.delimiter);
        posed.target = self.engine.text("generation.target", &form.target, columns)?;
        posed.answers = match &form.answers {
            Some(answers) => self.engine.texts("generation.answers", answers, columns)?,
            None => vec![posed.target.clone()],
        };
        Ok(())
    }

    fn right_candidate(&self, posed: &Item, columns: &Value) -> Result<usize, String> {
        let most = posed.choices.len().max(posed.continuations.len());
        if !(2..=26).contains(&most) {
            return Err(format!("{most} candidates; an item has 2 to 26"));
        }
        if posed.choices.len() != posed.continuations.len() {
            return Err(format!(
                "{} choices for {} prompts; `item.choices` and `item.prompts` go together",
                posed.choices.len(),
                posed.continuations.len()
            ));
        }
        let (count, source) =
            (posed.continuations.len(), self.task.item.answer.as_deref().unwrap_or_default());
        if let Some(empty) = posed.continuations.iter().position(|c| c.trim().is_empty()) {
            return Err(format!("candidate {empty} is empty"));
        }
        let value = self.engine.value("item.answer", source, columns).map_err(|e| e.to_string())?;
        let index = value.to_string().trim().parse::<i64>();
        match index {
            Ok(index) if (0..count as i64).contains(&index) => Ok(index as usize),
            _ => Err(format!("the answer is `{value}`, outside of {count} candidates; it counts from 0")),
        }
    }

    /// Puts examples before the items.
    fn add_shots(&self, items: &mut [Item], pool: &[Item], own: bool) -> Result<(), PoseError> {
        let count = self.task.few_shot.count;
        let mut by_subset: BTreeMap<Option<&str>, Vec<&Item>> = BTreeMap::new();
        for item in pool {
            by_subset.entry(item.subset.as_deref()).or_default().push(item);
            if item.subset.is_some() {
                by_subset.entry(None).or_default().push(item);
            }
        }
        let mut drawn: BTreeMap<Option<String>, Arc<Vec<Shot>>> = BTreeMap::new();
        for item in items {
            let key = item.subset.as_deref().filter(|subset| by_subset.contains_key(&Some(*subset)));
            let pool = by_subset.get(&key).map(Vec::as_slice).unwrap_or_default();
            let others = pool.len() - usize::from(own && !pool.is_empty());
            if others < count {
                return Err(PoseError::Task {
                    task: self.task.name.clone(),
                    problem: format!(
                        "{count} examples were asked for, there are {others}; lower few_shot.count"
                    ),
                });
            }
            let alone = own || self.task.few_shot.sampler == Sampler::RandomPerItem;
            let key = key.map(str::to_owned);
            if let Some(shots) = drawn.get(&key).filter(|_| !alone) {
                item.shots = Arc::clone(shots);
                continue;
            }
            let picked = self.pick(pool, own.then_some(item.row), item, key.as_deref());
            item.shots = Arc::new(picked.into_iter().map(example).collect());
            drawn.insert(key, Arc::clone(&item.shots));
        }
        Ok(())
    }

    /// `count` items of the pool, without the one in row `not`.
    fn pick<'p>(
        &self,
        pool: &[&'p Item],
        not: Option<usize>,
        of: &Item,
        subset: Option<&str>,
    ) -> Vec<&'p Item> {
        let few_shot = &self.task.few_shot;
        let mut others: Vec<&Item> = pool.iter().copied().filter(|item| Some(item.row) != not).collect();
        match few_shot.sampler {
            Sampler::First => {}
            Sampler::Random | Sampler::RandomPerItem => {
                let name = format!("few-shot {} {}", self.task.name, subset.unwrap_or_default());
                let index = if few_shot.sampler == Sampler::Random { 0 } else { of.row as u64 + 1 };
                let mut stream = Stream::new(few_shot.seed, &name, index);
                for i in 0..few_shot.count {
                    let left = (others.len() - i) as u64;
                    others.swap(i, i + stream.below(left) as usize);
                }
            }
            Sampler::Balanced => {
                let mut seen: BTreeMap<(Option<usize>, &str), usize> = BTreeMap::new();
                let mut rounds: Vec<(usize, usize)> = Vec::new();
                for (at, item) in others.iter().enumerate() {
                    let label = (item.answer, item.target.as_str());
                    let times = seen.entry(label).or_default();
                    rounds.push((*times, at));
                    *times += 1;
                }
                rounds.sort_unstable();
                others = rounds.into_iter().map(|(_, at)| others[at]).collect();
            }
        }
        others.truncate(few_shot.count);
        others
    }
}

/// Names of a row's columns, for people.
fn columns(row: &Row) -> String {
    row.keys().take(30).map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// An item as a solved example.
fn example(item: &Item) -> Shot {
    let (question, answer) = match item.answer {
        Some(answer) => (&item.questions[answer.min(item.questions.len() - 1)], &item.continuations[answer]),
        None => (&item.questions[0], &item.target),
    };
    Shot { question: question.clone(), chat_question: item.chat_question.clone(), answer: answer.clone() }
}
