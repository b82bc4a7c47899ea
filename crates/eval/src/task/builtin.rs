//! The tasks and suites that come with smolt.

use super::{Task, TaskError};

/// Tasks by name with a name of their own and the same settings, each asked in the first formulation that it has: the one
/// that a model understands first.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Names of its tasks.
    pub tasks: &'static [&'static str],
}

/// The suites, the playbook's first.
pub const SUITES: [Suite; 3] = [
    Suite {
        name: "base",
        description: "what a base model is judged by: knowledge, reasoning, commonsense, as cloze where there are candidates (EVL-06, WRP-03)",
        tasks: &[
            "mmlu",
            "mmlu_pro",
            "arc_easy",
            "arc_challenge",
            "hellaswag",
            "winogrande",
            "commonsense_qa",
            "openbookqa",
            "piqa",
            "siqa",
            "triviaqa",
            "gsm8k",
        ],
    },
    Suite {
        name: "early",
        description: "what gives a signal early in training: cloze tasks that are above random and steady (EVL-02)",
        tasks: &["hellaswag", "arc_easy", "arc_challenge", "mmlu", "piqa", "openbookqa", "winogrande"],
    },
    Suite {
        name: "multilingual",
        description: "the same in other languages (WRP-03)",
        tasks: &["belebele", "global_mmlu", "mlmm_hellaswag", "flores200"],
    },
];

/// The files, by name.
const FILES: &[(&str, &str)] = &[
    ("arc_challenge", include_str!("../../tasks/arc_challenge.toml")),
    ("arc_easy", include_str!("../../tasks/arc_easy.toml")),
    ("belebele", include_str!("../../tasks/belebele.toml")),
    ("commonsense_qa", include_str!("../../tasks/commonsense_qa.toml")),
    ("flores200", include_str!("../../tasks/flores200.toml")),
    ("global_mmlu", include_str!("../../tasks/global_mmlu.toml")),
    ("gsm8k", include_str!("../../tasks/gsm8k.toml")),
    ("hellaswag", include_str!("../../tasks/hellaswag.toml")),
    ("math_cot", include_str!("../../tasks/math_cot.toml")),
    ("mlmm_hellaswag", include_str!("../../tasks/mlmm_hellaswag.toml")),
    ("mmlu", include_str!("../../tasks/mmlu.toml")),
    ("mmlu_pro", include_str!("../../tasks/mmlu_pro.toml")),
    ("openbookqa", include_str!("../../tasks/openbookqa.toml")),
    ("piqa", include_str!("../../tasks/piqa.toml")),
    ("siqa", include_str!("../../tasks/siqa.toml")),
    ("tinytown", include_str!("../../tasks/tinytown.toml")),
    ("triviaqa", include_str!("../../tasks/triviaqa.toml")),
    ("winogrande", include_str!("../../tasks/winogrande.toml")),
];

/// Names of the built-in tasks.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// A built-in task, with `key=value` overrides.
pub fn builtin(name: &str, sets: &[String]) -> Result<Task, TaskError> {
    let file = FILES.iter().find(|(known, _)| *known == name);
    let (_, text) = file.ok_or_else(|| TaskError::Unknown(name.to_owned()))?;
    Task::parse(&format!("built-in {name}.toml"), text.as_bytes(), sets)
}
