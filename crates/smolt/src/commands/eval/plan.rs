//! Which tasks a run is evaluated by while it trains, and in which formulations when (spec EVL-05).

use super::Asked;
use smolt_eval::stats::schedule::{self, McfSignal, Situation};
use smolt_eval::task::{Formulation, Task};
use smolt_run::error::Failure;
use smolt_run::recipe;
use smolt_run::recipe::FormatVersion;
use std::path::{Path, PathBuf};

recipe! {
    /// Evaluation between the steps of a training.
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

impl Plan {
    /// Reads a plan; its paths are relative to its folder.
    pub(crate) fn load(path: &Path) -> Result<Plan, Failure> {
        let mut plan: Plan = recipe::load(path, &[])?;
        let base = path.parent().unwrap_or(Path::new("."));
        let anchor = |text: &String| base.join(text).display().to_string();
        plan.datasets = plan.datasets.iter().map(anchor).collect();
        plan.tasks = plan
            .tasks
            .iter()
            .map(|task| if task.ends_with(".toml") { anchor(task) } else { task.clone() })
            .collect();
        if plan.tasks.is_empty() || plan.every == 0 {
            let problem = "`tasks` names at least one task, `every` is at least 1";
            return Err(Failure::bad_input(format!("{}: {problem}", path.display())));
        }
        Ok(plan)
    }

    /// What is asked; greedily, without a chat template.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            task: self.tasks.clone(),
            text: Vec::new(),
            formulation: Vec::new(),
            datasets: self.datasets.iter().map(PathBuf::from).collect(),
            offline: self.offline,
            few_shot: self.few_shot,
            limit: self.limit,
            set: Vec::new(),
            chat: false,
            system_prompt: None,
            keep_reasoning: false,
            samples: 1,
            temperature: 0.0,
            top_p: 1.0,
            max_tokens: None,
            seed: 0,
        }
    }
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
