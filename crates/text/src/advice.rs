//! Which tokenizer a project should take, and what speaks against one: pure functions of what was measured (spec `TOK-01`,
//! `TOK-04`, `TOK-05`, `TOK-13`, `TOK-14`, `TOK-15`).

use crate::measure::Measure;
use crate::measure::digits::DigitAudit;
use serde::Serialize;
use std::collections::BTreeMap;

/// Below this a vocabulary is one language's: English alone takes about 50,000.
const ONE_LANGUAGE: usize = 65_536;
/// Several languages want at least this.
const SEVERAL_LANGUAGES: usize = 100_000;
/// From here on a vocabulary pays off only with many languages.
const MANY_LANGUAGES: usize = 200_000;
/// How many are many.
const MANY: usize = 5;
/// A language of more tokens per word is not covered: the weakest of the playbook's table that passes for covered is
/// Arabic with 2.35.
const MOST_FERTILITY: f64 = 2.5;
/// An embedding that takes more of the parameters than this leaves too little for the layers.
pub const MOST_EMBEDDING_SHARE: f64 = 0.3;
/// Mixtures further apart than this were not the tokenizer's.
pub const MOST_DRIFT: f64 = 0.1;

/// What the tokenizer is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Goals {
    /// Languages, as they are called in the measures: `en`, `fr`, …
    pub languages: Vec<String>,
    /// Domains: `math`, `code`, …
    pub domains: Vec<String>,
    /// Share of each source in the mixture the model will be trained on.
    pub mixture: BTreeMap<String, f64>,
    /// Width of the model.
    pub hidden_size: Option<u64>,
    /// Parameters of the model in all.
    pub parameters: Option<u64>,
    /// Whether input and output share one embedding matrix.
    pub tied: bool,
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Do not train with this.
    Error,
    /// Think again.
    Warning,
    /// Worth knowing.
    Note,
}

/// One thing that speaks against a choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How grave it is.
    pub severity: Severity,
    /// What was found, with its numbers, and what to do.
    pub text: String,
}

impl Finding {
    fn new(severity: Severity, text: impl Into<String>) -> Self {
        Self { severity, text: text.into() }
    }
}

/// A tokenizer that may be taken.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What it is called.
    pub name: String,
    /// Its vocabulary.
    pub vocab_size: usize,
    /// Its measure per language or domain.
    pub measures: BTreeMap<String, Measure>,
    /// How it cuts numbers.
    pub digits: DigitAudit,
    /// The mixture it was trained on, if it is recorded.
    pub trained_on: Option<BTreeMap<String, f64>>,
}

/// Parameters of the embedding matrices: V·d, twice that when untied.
pub fn embedding_parameters(vocab_size: usize, hidden_size: u64, tied: bool) -> u64 {
    (vocab_size as u64).saturating_mul(hidden_size).saturating_mul(if tied { 1 } else { 2 })
}

/// The total variation distance of two mixtures, each scaled to sum 1: half the sum of the differences of shares, 0 when
/// alike and 1 when nothing is shared.
pub fn drift(a: &BTreeMap<String, f64>, b: &BTreeMap<String, f64>) -> f64 {
    let [total_a, total_b] = [a, b].map(|m| m.values().sum::<f64>());
    let share = |m: &BTreeMap<String, f64>, total: f64, key: &str| {
        if total > 0.0 { m.get(key).copied().unwrap_or(0.0) / total } else { 0.0 }
    };
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter().map(|key| (share(a, total_a, key) - share(b, total_b, key)).abs()).sum::<f64>() / 2.0
}

/// What must be known before a vocabulary is designed (spec `TOK-01`).
pub fn open_questions(goals: &Goals) -> Vec<Finding> {
    let mut open = Vec::new();
    let mut ask = |missing: bool, text: &str| {
        if missing {
            open.push(Finding::new(Severity::Error, text));
        }
    };
    ask(goals.languages.is_empty(), "which languages? say so with --language");
    ask(goals.domains.is_empty(), "which domains (math, code, …)? say so with --domain, or --domain none");
    ask(
        goals.mixture.is_empty(),
        "which mixture will the model be trained on? say so with --mixture SOURCE=SHARE",
    );
    open
}

/// What speaks against a vocabulary of this size (spec `TOK-04`, `TOK-05`).
pub fn vocabulary_findings(goals: &Goals, vocab_size: usize) -> Vec<Finding> {
    let languages = goals.languages.len();
    let mut found = Vec::new();
    if languages > 1 && vocab_size < ONE_LANGUAGE {
        let text = format!(
            "a vocabulary of {vocab_size} is one language's, and there are {languages}; take {SEVERAL_LANGUAGES} or more"
        );
        found.push(Finding::new(Severity::Error, text));
    } else if languages > 1 && vocab_size < SEVERAL_LANGUAGES {
        let text = format!(
            "a vocabulary of {vocab_size} is small for {languages} languages; {SEVERAL_LANGUAGES} is usual"
        );
        found.push(Finding::new(Severity::Warning, text));
    }
    if vocab_size >= MANY_LANGUAGES && languages < MANY {
        let text = format!(
            "a vocabulary of {vocab_size} pays off with many languages, and there are {languages}; 128,000 compresses nearly as well"
        );
        found.push(Finding::new(Severity::Warning, text));
    }
    if !vocab_size.is_multiple_of(128) {
        let text = format!(
            "{vocab_size} is not a multiple of 128; pad the embedding to {}",
            vocab_size.next_multiple_of(128)
        );
        found.push(Finding::new(Severity::Note, text));
    }
    if let (Some(hidden), Some(parameters)) = (goals.hidden_size, goals.parameters) {
        let embedding = embedding_parameters(vocab_size, hidden, goals.tied);
        let share = embedding as f64 / parameters.max(1) as f64;
        if share > MOST_EMBEDDING_SHARE {
            let text = format!(
                "its embedding takes {embedding} of {parameters} parameters, {:.0} % (limit {:.0} %); take a smaller vocabulary{}",
                100.0 * share,
                100.0 * MOST_EMBEDDING_SHARE,
                if goals.tied { "" } else { " or tie the embeddings" }
            );
            found.push(Finding::new(Severity::Warning, text));
        }
    }
    found
}

/// What speaks against a candidate: its vocabulary, its digits, languages it does not cover, another mixture.
pub fn candidate_findings(goals: &Goals, candidate: &Candidate) -> Vec<Finding> {
    let mut found = vocabulary_findings(goals, candidate.vocab_size);
    if goals.domains.iter().any(|d| d == "math") && candidate.digits.memorises() {
        let text = format!(
            "numbers of up to {} digits are single tokens ({}), which have to be learned by heart; for math split digits",
            candidate.digits.longest,
            candidate.digits.example.join("|")
        );
        found.push(Finding::new(Severity::Warning, text));
    }
    for language in &goals.languages {
        match candidate.measures.get(language).filter(|m| m.words > 0) {
            None => {
                let text = format!("{language} was not measured; give --text {language}=FILE");
                found.push(Finding::new(Severity::Warning, text));
            }
            Some(measure) if measure.fertility() > MOST_FERTILITY => {
                let text = format!(
                    "{language} takes {:.2} tokens per word (limit {MOST_FERTILITY}): it is not covered",
                    measure.fertility()
                );
                found.push(Finding::new(Severity::Error, text));
            }
            Some(_) => {}
        }
    }
    found.extend(drift_finding(goals, candidate));
    found
}

/// How far its training was from the mixture it is to serve (spec `TOK-15`).
fn drift_finding(goals: &Goals, candidate: &Candidate) -> Option<Finding> {
    if goals.mixture.is_empty() {
        return None;
    }
    let Some(trained_on) = &candidate.trained_on else {
        let text = "what mixture it was trained on is not recorded, so drift cannot be checked";
        return Some(Finding::new(Severity::Note, text));
    };
    let distance = drift(trained_on, &goals.mixture);
    (distance > MOST_DRIFT).then(|| {
        let text = format!(
            "it was trained on another mixture: total variation distance {distance:.3} (limit {MOST_DRIFT}); was {}, is {}; train it again on the final mixture",
            shares(trained_on),
            shares(&goals.mixture)
        );
        Finding::new(Severity::Warning, text)
    })
}

/// `code 30.0 %, web 70.0 %`
fn shares(mixture: &BTreeMap<String, f64>) -> String {
    let total: f64 = mixture.values().sum();
    let parts: Vec<String> =
        mixture.iter().map(|(name, share)| format!("{name} {:.1} %", 100.0 * share / total)).collect();
    parts.join(", ")
}

/// Take one that exists, or train one (spec `TOK-14`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// The tokenizer to take; none to train one.
    pub reuse: Option<String>,
    /// Why.
    pub reason: String,
}

/// The candidate without an error whose words cost least over the goal's languages; none when each has one.
pub fn advise(goals: &Goals, candidates: &[Candidate]) -> Advice {
    let fits = |c: &&Candidate| candidate_findings(goals, c).iter().all(|f| f.severity != Severity::Error);
    let measured =
        |c: &&Candidate| goals.languages.iter().all(|l| c.measures.get(l).is_some_and(|m| m.words > 0));
    // The geometric mean: a tenth more tokens weighs the same in every language.
    let cost = |c: &Candidate| {
        let logs: f64 =
            goals.languages.iter().map(|l| c.measures[l].fertility().max(f64::MIN_POSITIVE).ln()).sum();
        (logs / goals.languages.len().max(1) as f64).exp()
    };
    let best = candidates
        .iter()
        .filter(fits)
        .filter(measured)
        .min_by(|a, b| cost(a).total_cmp(&cost(b)).then(a.vocab_size.cmp(&b.vocab_size)));
    match best {
        Some(best) => Advice {
            reuse: Some(best.name.clone()),
            reason: format!(
                "it covers {} with {:.3} tokens per word, the fewest of {} candidates; models that share a tokenizer can be compared, merged and distilled",
                goals.languages.join(", "),
                cost(best),
                candidates.len()
            ),
        },
        None => Advice {
            reuse: None,
            reason: format!(
                "none of {} candidates covers {} without an error; train one on a sample of the final mixture",
                candidates.len(),
                goals.languages.join(", ")
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::WordTokens;

    fn goals(languages: &[&str]) -> Goals {
        Goals { languages: languages.iter().map(|l| l.to_string()).collect(), ..Goals::default() }
    }

    fn candidate(name: &str, vocab_size: usize, tokens: &[(&str, u64)]) -> Candidate {
        let measure =
            |tokens| Measure { words: 100, alone: WordTokens { tokens, continued: 0 }, ..Measure::default() };
        Candidate {
            name: name.into(),
            vocab_size,
            measures: tokens.iter().map(|(l, n)| (l.to_string(), measure(*n))).collect(),
            digits: DigitAudit {
                policy: "none".into(),
                longest: 6,
                multi_digit_tokens: 9,
                example: vec!["342792".into()],
            },
            trained_on: None,
        }
    }

    fn worst(findings: &[Finding]) -> Option<Severity> {
        findings.iter().map(|f| f.severity).min()
    }

    #[test]
    fn sizes_are_checked_against_goals() {
        assert_eq!(worst(&vocabulary_findings(&goals(&["en", "fr"]), 50_048)), Some(Severity::Error));
        assert_eq!(worst(&vocabulary_findings(&goals(&["en"]), 50_048)), None);
        assert_eq!(worst(&vocabulary_findings(&goals(&["en"]), 262_144)), Some(Severity::Warning));
        assert_eq!(worst(&vocabulary_findings(&goals(&["en", "fr", "de", "es", "pt", "it"]), 262_144)), None);
        assert_eq!(worst(&vocabulary_findings(&goals(&["en"]), 50_257)), Some(Severity::Note));
        let small = Goals { hidden_size: Some(576), parameters: Some(135_000_000), ..goals(&["en"]) };
        assert_eq!(worst(&vocabulary_findings(&small, 128_000)), Some(Severity::Warning));
        assert_eq!(embedding_parameters(128_256, 2048, true), 262_668_288);
        assert_eq!(open_questions(&goals(&["en"])).len(), 2);
    }

    #[test]
    fn the_cheapest_candidate_that_covers_all_is_taken() {
        let goals = Goals { domains: vec!["math".into()], ..goals(&["en", "ar"]) };
        let candidates = [
            candidate("narrow", 128_000, &[("en", 120), ("ar", 600)]),
            candidate("dear", 128_000, &[("en", 150), ("ar", 240)]),
            candidate("good", 128_000, &[("en", 148), ("ar", 235)]),
            candidate("unmeasured", 128_000, &[("en", 100)]),
        ];
        assert_eq!(advise(&goals, &candidates).reuse.as_deref(), Some("good"));
        assert_eq!(advise(&goals, &candidates[..1]).reuse, None);
        assert!(candidate_findings(&goals, &candidates[2]).iter().any(|f| f.text.contains("342792")));
    }

    #[test]
    fn drift_is_total_variation() {
        let mix = |parts: &[(&str, f64)]| {
            parts.iter().map(|(n, w)| (n.to_string(), *w)).collect::<BTreeMap<_, _>>()
        };
        let a = mix(&[("web", 85.0), ("code", 15.0)]);
        assert_eq!(drift(&a, &a), 0.0);
        assert!((drift(&a, &mix(&[("web", 0.6), ("code", 0.3), ("math", 0.1)])) - 0.25).abs() < 1e-12);
        assert_eq!(drift(&a, &mix(&[("books", 1.0)])), 1.0);
        let mut moved = candidate("x", 128_000, &[("en", 100)]);
        moved.trained_on = Some(mix(&[("books", 1.0)]));
        let goals = Goals { mixture: a, ..goals(&["en"]) };
        assert!(candidate_findings(&goals, &moved).iter().any(|f| f.text.contains("1.000")));
    }
}
