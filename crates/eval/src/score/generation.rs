//! Free answers: extraction, what is forgiven, and comparison (spec EVL-03).

use super::latex::Minerva;
use crate::chrf::{self, Variant};
use crate::task::{Compare, Generation, Latex, Normalise, Which};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The largest compiled regular expression, bytes.
const MAX_REGEX: usize = 1 << 20;

/// What was found in an answer and what it is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Name of the score.
    pub metric: String,
    /// What was extracted; none where nothing matched.
    pub extracted: Option<String>,
    /// 0 to 1.
    pub value: f64,
}

/// The rules of a task, compiled.
pub struct Judge {
    extract: Vec<(String, Regex, Which)>,
    remove: Vec<Regex>,
    normalise: Normalise,
    latex: Option<Minerva>,
    metric: Compare,
}

impl Judge {
    /// Compiles the regular expressions of a task.
    pub fn new(generation: &Generation) -> Result<Judge, String> {
        let compile = |field: &str, source: &str| {
            let built = RegexBuilder::new(source).size_limit(MAX_REGEX).build();
            built.map_err(|e| format!("`{field}` is not a regular expression: {}", last_line(&e.to_string())))
        };
        let extract = generation.extract.iter().map(|e| {
            Ok((
                format!("{}_{}", generation.metric.name(), e.name),
                compile("extract.regex", &e.regex)?,
                e.which,
            ))
        });
        let remove = generation.normalise.remove.iter().map(|source| compile("normalise.remove", source));
        Ok(Judge {
            extract: extract.collect::<Result<_, String>>()?,
            remove: remove.collect::<Result<_, String>>()?,
            normalise: generation.normalise.clone(),
            latex: generation.normalise.latex.as_ref().map(|Latex::Minerva| Minerva::new()).transpose()?,
            metric: generation.metric,
        })
    }

    /// Judges one answer against the accepted ones under every extraction.
    pub fn judge(&self, text: &str, accepted: &[String]) -> Vec<Judged> {
        let whole = [(self.metric.name().to_owned(), Some(text.trim().to_owned()))];
        let found: Vec<(String, Option<String>)> = match self.extract.is_empty() {
            true => whole.into(),
            false => {
                let one =
                    |(name, regex, which): &(String, Regex, Which)| (name.clone(), find(regex, *which, text));
                self.extract.iter().map(one).collect()
            }
        };
        let accepted: Vec<String> = accepted.iter().map(|text| self.normalised(text)).collect();
        let value = |text: &Option<String>| text.as_ref().map_or(0.0, |text| self.compare(text, &accepted));
        found
            .into_iter()
            .map(|(metric, extracted)| Judged { metric, value: value(&extracted), extracted })
            .collect()
    }

    fn compare(&self, text: &str, accepted: &[String]) -> f64 {
        let text = self.normalised(text);
        let share = |hit: bool| f64::from(u8::from(hit));
        match self.metric {
            Compare::ExactMatch => share(accepted.contains(&text)),
            Compare::F1 => accepted.iter().map(|answer| f1(&text, answer)).fold(0.0, f64::max),
            Compare::ContainsAny => share(accepted.iter().any(|answer| text.contains(answer.as_str()))),
            Compare::ContainsAll => {
                let hits = accepted.iter().filter(|answer| text.contains(answer.as_str())).count();
                hits as f64 / accepted.len().max(1) as f64
            }
            Compare::Chrf => {
                let of = |answer: &String| chrf::sentence(Variant::ChrfPlusPlus, &text, answer) / 100.0;
                accepted.first().map_or(0.0, of)
            }
        }
    }

    /// A text without what is forgiven.
    pub fn normalised(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for regex in &self.remove {
            text = regex.replace_all(&text, "").into_owned();
        }
        if let Some(latex) = &self.latex {
            text = latex.normalised(&text);
        }
        if self.normalise.ignore_case {
            text = text.to_lowercase();
        }
        if self.normalise.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.normalise.ignore_articles {
            let kept = |word: &&str| !["a", "an", "the"].contains(&word.to_lowercase().as_str());
            text = text.split_whitespace().filter(kept).collect::<Vec<_>>().join(" ");
        }
        if self.normalise.collapse_space {
            text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        text
    }
}

fn last_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or_default().trim()
}

/// The first group that matched, or the whole match.
fn find(regex: &Regex, which: Which, text: &str) -> Option<String> {
    let captures = match which {
        Which::First => regex.captures(text)?,
        Which::Last => regex.captures_iter(text).last()?,
    };
    let group = captures.iter().skip(1).flatten().next().or(captures.get(0));
    group.map(|found| found.as_str().trim().to_owned())
}

/// Harmonic mean of precision and recall of words.
fn f1(text: &str, answer: &str) -> f64 {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    answer.split_whitespace().for_each(|word| *left.entry(word).or_default() += 1);
    let common = text
        .split_whitespace()
        .filter(|word| left.get_mut(word).filter(|n| **n > 0).map(|n| *n -= 1).is_some())
        .count() as f64;
    let words = |text: &str| text.split_whitespace().count() as f64;
    let (said, wanted) = (words(text), words(answer));
    if said == 0.0 || wanted == 0.0 {
        f64::from(u8::from(said == wanted))
    } else {
        2.0 * common / (said + wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{FewShot, Task};

    fn judge(table: &str) -> Judge {
        let text = format!(
            "name = \"t\"\n[dataset]\npath = \".\"\n[item]\nprompt = \"q\"\n[generation]\ntarget = \"a\"\n{table}"
        );
        let task = Task::parse("t.toml", text.as_bytes(), &[]).unwrap();
        Judge::new(&task.generation.unwrap()).unwrap()
    }

    #[test]
    fn numbers_are_found_as_gsm8k_does() {
        let judge = judge(
            r##"
            extract = [
                { name = "strict", regex = '#### (\-?[0-9\.\,]+)' },
                { name = "flexible", regex = '(-?[$0-9.,]{2,})|(-?[0-9]+)', which = "last" },
            ]
            normalise = { ignore_case = true, remove = [',', '\$', '(?s).*#### ', '\.$'] }
            "##,
        );
        let accepted = ["She has 3 + 4 = 7.\n#### 1,007".to_owned()];
        let values = |text: &str| judge.judge(text, &accepted).iter().map(|j| j.value).collect::<Vec<_>>();
        assert_eq!(values("It is so.\n#### 1007"), [1.0, 1.0]);
        assert_eq!(values("The answer is $1,007."), [0.0, 1.0]);
        assert_eq!(values("#### 1007, no, 8"), [1.0, 0.0], "the comma goes along and is removed");
        assert_eq!(judge.judge("none", &accepted)[0].extracted, None);
    }

    #[test]
    fn forgiveness_is_what_the_task_declares() {
        let strict = judge("");
        assert_eq!(strict.judge(" The  park ", &["The park".into()])[0].value, 1.0);
        assert_eq!(strict.judge("the park", &["The park".into()])[0].value, 0.0);
        let loose =
            judge("normalise = { ignore_case = true, ignore_punctuation = true, ignore_articles = true }");
        assert_eq!(loose.judge("the \"park\".", &["A Park".into()])[0].value, 1.0);
        let f1 = judge("metric = \"f1\"");
        assert!((f1.judge("big red ball", &["red ball".into()])[0].value - 0.8).abs() < 1e-12);
        let all = judge("metric = \"contains_all\"");
        assert_eq!(all.judge("12 and 34", &["12".into(), "56".into()])[0].value, 0.5);
    }

    #[test]
    fn answers_of_math_are_found_and_compared_by_their_normal_form() {
        let task = crate::task::builtin("math_cot", &[]).unwrap();
        let judge = Judge::new(task.generation.as_ref().unwrap()).unwrap();
        let values = |text: &str, accepted: &str| {
            let judged = judge.judge(text, &[accepted.to_owned()]);
            judged.iter().map(|judged| judged.value).collect::<Vec<_>>()
        };
        let said =
            |answer: &str| format!("So.\nFinal Answer: The final answer is {answer}. I hope it is correct.");
        assert_eq!(values(&said("$\\dfrac12$"), "\\frac{1}{2}"), [1.0, 0.0]);
        assert_eq!(values("It is $\\boxed{\\frac{1}{2}}$.", "\\frac12"), [0.0, 1.0]);
        assert_eq!(values("$\\boxed 5$", "5"), [0.0, 1.0]);
        assert_eq!(
            values("$\\boxed{1}$, no, $\\boxed{\\sqrt{\\frac{a}{b_{2}}}}$", "\\sqrt{\\frac{a}{b_{2}}}"),
            [0.0, 1.0]
        );
        assert_eq!(values(&said("$3$"), "4"), [0.0, 0.0]);
        assert!(judge.judge("nothing", &["4".into()]).iter().all(|judged| judged.extracted.is_none()));
    }

    #[test]
    fn examples_of_a_tasks_own_are_rows_and_what_is_none_is_named() {
        let task = crate::task::builtin("math_cot", &[]).unwrap();
        let rows = task.few_shot.rows().unwrap().unwrap();
        assert!(rows.len() == 4 && rows[3]["problem"].as_str().unwrap().starts_with("If the system"));
        let own = FewShot { examples: Some("{}\n[1]".into()), ..task.few_shot };
        let said = own.rows().unwrap_err();
        assert!(said.contains("`few_shot.examples`, line 2: not a row in JSON"), "{said}");
    }

    #[test]
    fn a_wrong_expression_is_refused() {
        let text = "name = \"t\"\n[dataset]\npath = \".\"\n[item]\nprompt = \"q\"\n[generation]\ntarget = \"a\"\n\
                    extract = [{ name = \"x\", regex = \"(\" }]\n";
        assert!(
            Task::parse("t.toml", text.as_bytes(), &[])
                .unwrap_err()
                .to_string()
                .contains("regular expression")
        );
    }
}
