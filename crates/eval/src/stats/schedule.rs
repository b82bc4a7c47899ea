//! Which formulation of a task to trust when (spec EVL-05): cloze for small ablations, lettered options once the model
//! can use them, free generation after post-training.

use super::Score;
use crate::task::Formulation;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the model is being trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A short run that compares settings.
    Ablation,
    /// The main pre-training run.
    Pretraining,
    /// Fine-tuning on instructions and after.
    PostTraining,
}

/// What scoring with lettered options gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McfSignal {
    /// The score.
    pub score: Score,
    /// What guessing scores.
    pub chance: f64,
    /// Mean score over standard deviation over seeds ([`super::signal::Signal::noise`]), where seeds exist.
    pub signal_to_noise: Option<f64>,
}

/// Standard errors above chance, and signal-to-noise ratio, from which lettered options count as understood: the bars
/// of a good early signal.
const MARGIN: f64 = 3.0;
const SIGNAL_TO_NOISE: f64 = 20.0;

/// Lettered MMLU left chance after about these tokens: (parameters, tokens) of OLMES' 7B and of SmolLM2 1.7B.
const SEEN: [(f64, f64); 2] = [(7e9, 500e9), (1.7e9, 6e12)];

impl McfSignal {
    /// Whether the model tells lettered options apart: the score is more than three standard errors above chance, and
    /// the signal-to-noise ratio, where it is known, above 20.
    pub fn understood(&self) -> bool {
        self.above_chance() && self.quiet()
    }

    fn above_chance(&self) -> bool {
        self.score.value - self.chance > MARGIN * self.score.stderr
    }

    fn quiet(&self) -> bool {
        self.signal_to_noise.is_none_or(|ratio| ratio > SIGNAL_TO_NOISE)
    }
}

/// A model at one moment of its training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Situation {
    /// What it is being trained for.
    pub phase: Phase,
    /// Parameters.
    pub parameters: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// What lettered options scored, if they were tried.
    pub mcf: Option<McfSignal>,
}

/// Which formulations to use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// The one to compare and decide by.
    pub primary: Formulation,
    /// Worth measuring beside it.
    pub also: Vec<Formulation>,
    /// Why, in one sentence.
    pub reason: String,
    /// Tokens at which a model of this size may begin to understand lettered options: a line in logarithms through two
    /// published points, to plan by and not to decide by. `None` for a model without parameters.
    pub mcf_expected_at: Option<u64>,
}

/// A formulation used where it does not yet speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// Lettered options measured at chance.
    McfAtChance,
    /// Lettered options above chance, but too noisy to compare by.
    McfNoisy,
    /// Lettered options used, and nobody looked whether the model understands them.
    McfUnmeasured,
    /// Free generation in an ablation: scores near zero for a long time.
    GenerativeInAblation,
    /// Free generation as the guide of a base model.
    GenerativeBeforePostTraining,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Warning::McfAtChance => "lettered options are still at chance for this model; compare by cloze",
            Warning::McfNoisy => {
                "lettered options are above chance but too noisy over seeds; compare by cloze"
            }
            Warning::McfUnmeasured => {
                "lettered options without a measured signal; score them against chance first"
            }
            Warning::GenerativeInAblation => {
                "free generation says little in a short ablation; compare by cloze"
            }
            Warning::GenerativeBeforePostTraining => {
                "free generation is a guide after post-training; until then decide by likelihoods"
            }
        })
    }
}

/// What to use for a model in this situation. What was measured decides; size and tokens only say when to try.
pub fn advise(situation: &Situation) -> Advice {
    use Formulation::{Cloze, Generation, MultipleChoice};
    let expected = mcf_expected_at(situation.parameters);
    let due = expected.is_some_and(|tokens| situation.tokens >= tokens);
    let understood = situation.mcf.map(|mcf| mcf.understood());
    let (primary, also, reason) = match (situation.phase, understood) {
        (Phase::PostTraining, Some(false)) => {
            (Generation, vec![Cloze], "post-trained models answer freely; letters are not understood")
        }
        (Phase::PostTraining, _) => (Generation, vec![MultipleChoice], "post-trained models answer freely"),
        (Phase::Ablation, Some(true)) => (
            Cloze,
            vec![MultipleChoice],
            "ablations compare by cloze; letters are understood and may stand beside",
        ),
        (Phase::Ablation, _) => (Cloze, vec![], "ablations are too short for letters and free answers"),
        (Phase::Pretraining, Some(true)) => (
            MultipleChoice,
            vec![Cloze],
            "letters are above chance; cloze stays for comparison with earlier scores",
        ),
        (Phase::Pretraining, Some(false)) => {
            (Cloze, vec![MultipleChoice], "letters are not above chance and noise yet; keep measuring them")
        }
        (Phase::Pretraining, None) if due => (
            Cloze,
            vec![MultipleChoice],
            "models of this size have been seen to understand letters by now: measure",
        ),
        (Phase::Pretraining, None) => {
            (Cloze, vec![], "models of this size were seen to need more tokens for letters")
        }
    };
    Advice { primary, also, reason: reason.into(), mcf_expected_at: expected }
}

/// What speaks against deciding by `used` in this situation.
pub fn check(used: Formulation, situation: &Situation) -> Vec<Warning> {
    match (used, situation.phase, situation.mcf) {
        (Formulation::MultipleChoice, Phase::PostTraining, None) => vec![],
        (Formulation::MultipleChoice, _, None) => vec![Warning::McfUnmeasured],
        (Formulation::MultipleChoice, _, Some(mcf)) if !mcf.above_chance() => vec![Warning::McfAtChance],
        (Formulation::MultipleChoice, _, Some(mcf)) if !mcf.quiet() => vec![Warning::McfNoisy],
        (Formulation::Generation, Phase::Ablation, _) => vec![Warning::GenerativeInAblation],
        (Formulation::Generation, Phase::Pretraining, _) => vec![Warning::GenerativeBeforePostTraining],
        _ => vec![],
    }
}

/// Tokens after which lettered options were seen to leave chance, as a power law of the parameters through both points.
fn mcf_expected_at(parameters: u64) -> Option<u64> {
    let [(large, early), (small, late)] = SEEN;
    let slope = (late / early).ln() / (small / large).ln();
    // Casting saturates: a tiny model is told u64::MAX, which is never.
    (parameters > 0).then(|| (early * (parameters as f64 / large).powf(slope)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Formula;

    fn mcf(value: f64, signal_to_noise: Option<f64>) -> Option<McfSignal> {
        let score = Score { value, stderr: 0.01, n: 2000, formula: Formula::Binomial };
        Some(McfSignal { score, chance: 0.25, signal_to_noise })
    }

    fn at(phase: Phase, tokens: u64, mcf: Option<McfSignal>) -> Situation {
        Situation { phase, parameters: 1_700_000_000, tokens, mcf }
    }

    #[test]
    fn measured_signal_decides() {
        use Formulation::{Cloze, Generation, MultipleChoice};
        let primary = |s: &Situation| advise(s).primary;
        assert_eq!(primary(&at(Phase::Ablation, 30_000_000_000, None)), Cloze);
        assert_eq!(primary(&at(Phase::Ablation, 30_000_000_000, mcf(0.5, None))), Cloze);
        assert_eq!(primary(&at(Phase::Pretraining, 1_000_000_000_000, mcf(0.26, None))), Cloze);
        assert_eq!(
            primary(&at(Phase::Pretraining, 1_000_000_000_000, mcf(0.35, Some(30.0)))),
            MultipleChoice
        );
        assert_eq!(primary(&at(Phase::Pretraining, 9_000_000_000_000, mcf(0.35, Some(10.0)))), Cloze);
        assert_eq!(primary(&at(Phase::PostTraining, 0, None)), Generation);
    }

    #[test]
    fn letters_are_tried_when_others_began_to_understand_them() {
        let advice = |tokens| advise(&at(Phase::Pretraining, tokens, None));
        assert!(advice(1_000_000_000_000).also.is_empty());
        assert_eq!(advice(7_000_000_000_000).also, [Formulation::MultipleChoice]);
        let expected = |parameters| mcf_expected_at(parameters).unwrap() as f64;
        assert!((expected(7_000_000_000) / 500e9 - 1.0).abs() < 1e-6);
        assert!((expected(1_700_000_000) / 6e12 - 1.0).abs() < 1e-6);
        assert!(expected(135_000_000) > expected(1_700_000_000));
        assert_eq!(mcf_expected_at(0), None);
        assert_eq!(mcf_expected_at(1), Some(u64::MAX));
    }

    #[test]
    fn warnings_name_what_is_used_too_early() {
        use Formulation::{Cloze, Generation, MultipleChoice};
        let ablation = |mcf| at(Phase::Ablation, 1, mcf);
        assert_eq!(check(MultipleChoice, &ablation(None)), [Warning::McfUnmeasured]);
        assert_eq!(check(MultipleChoice, &ablation(mcf(0.27, None))), [Warning::McfAtChance]);
        assert_eq!(check(MultipleChoice, &ablation(mcf(0.27, Some(2.0)))), [Warning::McfAtChance]);
        assert_eq!(check(MultipleChoice, &ablation(mcf(0.5, Some(2.0)))), [Warning::McfNoisy]);
        assert!(check(MultipleChoice, &ablation(mcf(0.5, Some(40.0)))).is_empty());
        assert_eq!(check(Generation, &ablation(None)), [Warning::GenerativeInAblation]);
        assert_eq!(
            check(Generation, &at(Phase::Pretraining, 1, None)),
            [Warning::GenerativeBeforePostTraining]
        );
        assert!(check(Generation, &at(Phase::PostTraining, 1, None)).is_empty());
        assert!(check(Cloze, &ablation(None)).is_empty());
        assert!(Warning::McfAtChance.to_string().contains("cloze"));
        // A score that is no number is not above chance.
        assert_eq!(check(MultipleChoice, &ablation(mcf(f64::NAN, None))), [Warning::McfAtChance]);
    }
}
