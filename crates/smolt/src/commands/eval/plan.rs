//! Which tasks a run is evaluated by while it trains, and in which formulations when (spec EVL-05).

use super::Asked;
use crate::evaluation::Prepared;
use smolt_eval::record::{self, Results};
use smolt_eval::stats::schedule::{self, McfSignal, Situation};
use smolt_eval::task::{Formulation, Task};
use smolt_run::error::Failure;
use smolt_run::recipe;
use smolt_run::recipe::FormatVersion;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

recipe! {
    /// Evaluation of a run's checkpoints, between its steps or beside it.
    pub(crate) struct Plan {
        /// Version of this file's format.
        format_version: FormatVersion = FormatVersion,
        /// Tasks and suites by name, or task files.
        pub(crate) tasks: Vec<String>,
        /// A fixed part of the items of each task.
        limit: Option<usize>,
        /// Folders that hold data sets by name.
        datasets: Vec<String> = Vec::new(),
        /// Never touch the network.
        offline: bool = false,
        /// Solved examples before each question, instead of the tasks' numbers.
        few_shot: Option<usize>,
        /// Texts to predict, in bits per byte.
        texts: Vec<String> = Vec::new(),
        /// Settings of the tasks that are others here, as `KEY=VALUE`.
        set: Vec<String> = Vec::new(),
        /// Languages in which multilingual tasks are asked, as FLORES-200 names them.
        languages: Vec<String> = Vec::new(),
        /// Ask through the chat template.
        pub(crate) chat: bool = false,
        /// System prompt of the conversation.
        system_prompt: Option<String>,
        /// Answers per question (avg@k).
        samples: usize = 1,
        /// 0 is greedy.
        temperature: f64 = 0.0,
        /// Only the likeliest tokens whose probabilities sum to this.
        top_p: f64 = 1.0,
        /// Longest answer in tokens, instead of the task's limit.
        max_tokens: Option<usize>,
        /// Seed of sampled answers.
        seed: u64 = 0,
        /// Look for the items in the data that the run trains on, once.
        pub(crate) contamination: bool = false,
        /// Only checkpoints whose step is divisible by this, and the last.
        pub(crate) every: u64 = 1,
        /// When which formulation is asked.
        pub(crate) schedule: When,
    }

    /// When which formulation is asked; cloze is always.
    pub(crate) struct When {
        /// What the model is trained for.
        phase: Phase = Phase::Pretraining,
        /// Tokens from which lettered options are asked; those at which models of this size began to understand them when
        /// left out. Once they were measured above chance they stay.
        multiple_choice_at_tokens: Option<u64>,
        /// Tokens from which free answers are asked; only after post-training when left out.
        generation_at_tokens: Option<u64>,
    }

    /// What a model is trained for.
    pub(crate) enum Phase {
        /// To compare settings.
        Ablation = "ablation",
        /// The main run.
        Pretraining = "pretraining",
        /// After instructions.
        PostTraining = "post_training",
    }
}

/// Whether a task is named by its file, `FILE.toml` or `FILE.toml@CONFIG`.
fn is_file(task: &str) -> bool {
    task.ends_with(".toml") || task.contains(".toml@")
}

impl Plan {
    /// Reads a plan; its paths are relative to its folder.
    pub(crate) fn load(path: &Path) -> Result<Plan, Failure> {
        let mut plan: Plan = recipe::load(path, &[])?;
        let base = path.parent().unwrap_or(Path::new("."));
        let anchor = |text: &String| base.join(text).display().to_string();
        plan.datasets = plan.datasets.iter().map(anchor).collect();
        plan.texts = plan.texts.iter().map(anchor).collect();
        plan.tasks =
            plan.tasks.iter().map(|task| if is_file(task) { anchor(task) } else { task.clone() }).collect();
        if plan.system_prompt.is_some() && !plan.chat {
            let problem = "`system_prompt` goes with `chat = true`";
            return Err(Failure::bad_input(format!("{}: {problem}", path.display())));
        }
        if plan.tasks.is_empty() || plan.every == 0 {
            let problem = "`tasks` names at least one task, `every` is at least 1";
            return Err(Failure::bad_input(format!("{}: {problem}", path.display())));
        }
        Ok(plan)
    }

    /// What is asked.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            task: self.tasks.clone(),
            text: self.texts.iter().map(PathBuf::from).collect(),
            formulation: Vec::new(),
            datasets: self.datasets.iter().map(PathBuf::from).collect(),
            offline: self.offline,
            few_shot: self.few_shot,
            limit: self.limit,
            set: self.set.clone(),
            languages: self.languages.clone(),
            chat: self.chat,
            system_prompt: self.system_prompt.clone(),
            keep_reasoning: false,
            samples: self.samples,
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            seed: self.seed,
        }
    }

    /// The formulations of a task at a step, with what speaks against deciding by them. `out` holds the results of the run.
    pub(crate) fn formulations(&self, task: &Task, at: Point<'_>) -> (Vec<Formulation>, Vec<String>) {
        let letters = at.letters.get(&task.name).copied();
        self.schedule.formulations(task, at.parameters, at.tokens, letters)
    }

    /// Sets the formulations of all tasks at a step; what speaks against deciding by them.
    pub(crate) fn schedule(&self, tasks: &mut [Prepared], at: Point<'_>) -> Vec<String> {
        let mut warnings = Vec::new();
        for prepared in tasks {
            let (formulations, against) = self.formulations(&prepared.task, at);
            prepared.formulations = formulations;
            warnings.extend(against);
        }
        warnings
    }
}

/// Where in its training a model is.
#[derive(Clone, Copy)]
pub(crate) struct Point<'a> {
    pub(crate) parameters: u64,
    pub(crate) tokens: u64,
    /// What lettered options scored before, by task.
    pub(crate) letters: &'a Letters,
}

/// What lettered options scored, by task.
pub(crate) type Letters = BTreeMap<String, McfSignal>;

/// What lettered options scored before a step, the newest of each task. Read from the results, so that a resumed run, which
/// may hold some of later steps too, decides as the undisturbed one did.
pub(crate) fn letters_before(out: &Path, step: u64) -> Letters {
    let results = folders(out, step).into_iter().filter_map(|path| record::read_results(&path).ok());
    results.flat_map(|results| letters(&results).collect::<Vec<_>>()).collect()
}

fn letters(results: &Results) -> impl Iterator<Item = (String, McfSignal)> {
    results.tasks.iter().filter(|result| result.how.formulation == Formulation::MultipleChoice).filter_map(
        |result| {
            let score = result.scores.primary()?;
            let signal = McfSignal { score, chance: result.scores.random_baseline, signal_to_noise: None };
            Some((result.task.clone(), signal))
        },
    )
}

/// Folders of the results of steps before one, in their order.
fn folders(out: &Path, before: u64) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
    let step = |path: PathBuf| {
        let step: u64 = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        (step < before).then_some((step, path))
    };
    let mut folders: Vec<(u64, PathBuf)> = entries.filter_map(|entry| step(entry.path())).collect();
    folders.sort();
    folders.into_iter().map(|(_, path)| path).collect()
}

impl When {
    /// The formulations of a task to ask at this point, with what speaks against deciding by them. `letters`: what lettered
    /// options scored last.
    pub(crate) fn formulations(
        &self,
        task: &Task,
        parameters: u64,
        tokens: u64,
        letters: Option<McfSignal>,
    ) -> (Vec<Formulation>, Vec<String>) {
        let phase = match self.phase {
            Phase::Ablation => schedule::Phase::Ablation,
            Phase::Pretraining => schedule::Phase::Pretraining,
            Phase::PostTraining => schedule::Phase::PostTraining,
        };
        let situation = Situation { phase, parameters, tokens, mcf: letters };
        let advice = schedule::advise(&situation);
        let advised = |f: &Formulation| advice.primary == *f || advice.also.contains(f);
        let due = |at: Option<u64>, f: &Formulation| at.map_or_else(|| advised(f), |at| tokens >= at);
        let understood = letters.is_some_and(|letters| letters.understood());
        let asked = |f: &Formulation| match f {
            Formulation::Cloze => true,
            Formulation::MultipleChoice => understood || due(self.multiple_choice_at_tokens, f),
            Formulation::Generation => due(self.generation_at_tokens, f),
        };
        let formulations: Vec<Formulation> = task.formulations().into_iter().filter(asked).collect();
        let warnings = formulations.iter().flat_map(|formulation| {
            let name = format!("{}.{}", task.name, formulation.name());
            schedule::check(*formulation, &situation)
                .into_iter()
                .map(move |warning| format!("{name}: {warning}"))
        });
        (formulations.clone(), warnings.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolt_eval::stats::Score;

    #[test]
    fn only_earlier_steps_decide_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["step-1000", "step-200", "step-30", "step-1001", "step-x", "watch"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let names = |before| {
            let all = folders(dir.path(), before);
            all.iter().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(1000), ["step-30", "step-200"]);
        assert_eq!(names(1001), ["step-30", "step-200", "step-1000"]);
        assert!(folders(&dir.path().join("none"), 9).is_empty());
    }

    fn when(text: &str) -> When {
        let text = format!("tasks = [\"x\"]\n[schedule]\n{text}");
        let document = recipe::Document::parse("plan.toml", text.as_bytes()).unwrap();
        document.read::<Plan>().unwrap().schedule
    }

    #[test]
    fn formulations_come_by_tokens_or_by_what_was_measured() {
        let task = smolt_eval::task::builtin("arc_easy", &[]).unwrap();
        let asked = |when: &When, tokens, letters| when.formulations(&task, 1_700_000_000, tokens, letters).0;
        let billion = 1_000_000_000;
        let usual = when("");
        assert_eq!(asked(&usual, billion, None), [Formulation::Cloze]);
        let both = [Formulation::Cloze, Formulation::MultipleChoice];
        assert_eq!(
            asked(&usual, 7_000 * billion, None),
            both,
            "others of this size understood letters by now"
        );
        let early = when("multiple_choice_at_tokens = 1000");
        assert_eq!(asked(&early, 999, None), [Formulation::Cloze]);
        assert_eq!(asked(&early, 1000, None), both);
        let half = Score { value: 0.5, ..Score::of([true, false]) };
        let letters =
            |stderr| Some(McfSignal { score: Score { stderr, ..half }, chance: 0.25, signal_to_noise: None });
        assert_eq!(asked(&usual, billion, letters(0.01)), both, "measured above chance");
        let (_, warnings) = early.formulations(&task, 1_700_000_000, 1000, letters(0.5));
        assert!(warnings[0].starts_with("arc_easy.multiple_choice: ") && warnings[0].contains("chance"));
        let maths = smolt_eval::task::builtin("gsm8k", &[]).unwrap();
        assert!(usual.formulations(&maths, 1, billion, None).0.is_empty());
        assert_eq!(
            when("generation_at_tokens = 5").formulations(&maths, 1, 5, None).0,
            [Formulation::Generation]
        );
        assert_eq!(
            when("phase = \"post_training\"").formulations(&maths, 1, 0, None).0,
            [Formulation::Generation]
        );
    }
}
