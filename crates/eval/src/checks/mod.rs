//! Checks of an evaluation itself: of its prompts before anything is asked, of its extraction and its scores after
//! (spec PEV-15, EVL-08).
//!
//! Pure functions over rendered items and over samples. A finding that touches a tenth of the items or more is a fault of
//! the task and an error; one that touches fewer is a fault of some rows and a warning.

mod answers;
mod extraction;
mod prompts;
mod scores;
#[cfg(test)]
mod tests;

pub use extraction::{gold, written};
pub use prompts::{Reader, prompts};
pub use scores::scores;

use crate::task::{Formulation, Task};
use serde::{Deserialize, Serialize};

/// Share of the items from which a finding is the task's fault.
const SYSTEMATIC: f64 = 0.1;

/// Share from which something happens nearly always.
const NEARLY_ALWAYS: f64 = 0.9;

/// Standard errors beyond which chance is no explanation.
const SIGMA: f64 = 3.0;

/// Probability below which chance is no explanation: two-sided, of 3 standard errors.
const UNLIKELY: f64 = 0.0027;

/// Fewest items that a rate is judged by.
const FEWEST: usize = 10;

/// Characters of an example.
const EXAMPLE: usize = 240;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Look at it; scores can still be used.
    Warning,
    /// Scores do not mean what they say.
    Error,
}

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The check, such as `missing_space`.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// Task and formulation.
    pub task: String,
    /// Items, answers or examples concerned.
    pub count: usize,
    /// Of how many.
    pub of: usize,
    /// What was found, with its numbers.
    pub problem: String,
    /// One of them, cut.
    pub example: String,
    /// What to do.
    pub fix: String,
}

/// What is checked.
#[derive(Clone, Copy)]
struct Subject<'t> {
    task: &'t Task,
    formulation: Formulation,
}

impl Subject<'_> {
    fn name(&self) -> String {
        format!("{}.{}", self.task.name, self.formulation.name())
    }

    fn is_choice(&self) -> bool {
        self.formulation != Formulation::Generation
    }
}

/// Counts what a check hits and keeps the first as an example.
struct Hits {
    check: &'static str,
    count: usize,
    of: usize,
    example: String,
}

impl Hits {
    fn new(check: &'static str) -> Hits {
        Hits { check, count: 0, of: 0, example: String::new() }
    }

    /// One more was looked at; `example` is called for the first that is hit.
    fn see(&mut self, hit: bool, example: impl FnOnce() -> String) {
        self.of += 1;
        if hit {
            if self.count == 0 {
                self.example = example();
            }
            self.count += 1;
        }
    }

    fn share(&self) -> f64 {
        self.count as f64 / self.of.max(1) as f64
    }

    /// An error where it is systematic.
    fn by_share(self, subject: Subject<'_>, problem: &str, fix: &str) -> Option<Finding> {
        let severity = if self.share() >= SYSTEMATIC { Severity::Error } else { Severity::Warning };
        self.with(severity, subject, problem, fix)
    }

    /// The finding, where there is any.
    fn with(self, severity: Severity, subject: Subject<'_>, problem: &str, fix: &str) -> Option<Finding> {
        (self.count > 0).then(|| Finding {
            check: self.check.to_owned(),
            severity,
            task: subject.name(),
            problem: format!("{problem}: {} of {} ({:.1} %)", self.count, self.of, 100.0 * self.share()),
            count: self.count,
            of: self.of,
            example: cut(&self.example),
            fix: fix.to_owned(),
        })
    }
}

/// The end of a long text: where question and answer meet.
fn cut(text: &str) -> String {
    let count = text.chars().count();
    match count > EXAMPLE {
        true => format!("…{}", text.chars().skip(count - EXAMPLE).collect::<String>()),
        false => text.to_owned(),
    }
}

/// P(X ≥ k) of a binomial with `n` trials of probability `p`.
fn binomial_tail(k: usize, n: usize, p: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if p <= 0.0 || k > n {
        return 0.0;
    }
    if p >= 1.0 {
        return 1.0;
    }
    if (k as f64) < n as f64 * p {
        // From so far below the mean the terms begin too small for a number: the misses that are left are few.
        return 1.0 - binomial_tail(n - k + 1, n, 1.0 - p);
    }
    let ln_choose: f64 = (0..k).map(|i| ((n - i) as f64 / (i + 1) as f64).ln()).sum();
    let mut term = (ln_choose + k as f64 * p.ln() + (n - k) as f64 * (-p).ln_1p()).exp();
    let mut tail = 0.0;
    for i in k..=n {
        tail += term;
        term *= (n - i) as f64 / (i + 1) as f64 * p / (1.0 - p);
        // Beyond the mean the terms fall; what is left is below the digits that there are.
        if i as f64 > n as f64 * p && term < 1e-18 * tail {
            break;
        }
    }
    tail.min(1.0)
}

/// Whether two characters that meet belong to scripts that put spaces between words.
fn spaced(c: char) -> bool {
    !matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{3000}'..='\u{30FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{FF00}'..='\u{FFEF}'
        | '\u{20000}'..='\u{323AF}')
}
