//! Answers in LaTeX: where they stand in a solution, and which spellings are the same (MATH, Hendrycks et al., 2021).
//!
//! What is forgiven is what Minerva forgives (Lewkowycz et al., 2022, appendix D), and before it spellings that differ in nothing
//! but looks (`\dfrac`, `\left(`, `\!`, a final full stop). Two answers are the same where they then are the same text: no algebra is
//! done, so `2x + 1` and `1 + 2x` differ.

use regex::Regex;

/// Spellings that differ in looks alone.
const LOOKS: [(&str, &str); 8] = [
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("\\!", ""),
    ("\\%", ""),
    ("%", ""),
    ("\n", " "),
];

/// Minerva's, in its order.
const SUBSTITUTIONS: [(&str, &str); 10] = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
];

/// Units and other words that Minerva leaves out, in its order.
const REMOVED: [&str; 42] = [
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "ft",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    "\"",
    "\\dots",
];

/// What Minerva takes off, and what stays of it: mathematics out of words, text out of commands, then `\fracab` as
/// `\frac{a}{b}` and `\sqrta` as `\sqrt{a}`.
const PATTERNS: [(&str, &str); 7] = [
    (r"(.*?)(\$)(.*?)(\$)(.*)", "$$${3}$$"),
    (r"(\\text\{)(.*?)(\})", "${2}"),
    (r"(\\textbf\{)(.*?)(\})", "${2}"),
    (r"(\\overline\{)(.*?)(\})", "${2}"),
    (r"(\\boxed\{)(.*)(\})", "${2}"),
    (r"(frac)([^{])(.)", "frac{${2}}{${3}}"),
    (r"(sqrt)([^{])", "sqrt{${2}}"),
];

/// Minerva's rules, compiled.
pub(crate) struct Minerva(Vec<(Regex, &'static str)>);

impl Minerva {
    pub(crate) fn new() -> Result<Minerva, String> {
        let compile = |(source, with): (&str, &'static str)| {
            Regex::new(source).map(|regex| (regex, with)).map_err(|e| e.to_string())
        };
        Ok(Minerva(PATTERNS.into_iter().map(compile).collect::<Result<_, _>>()?))
    }

    /// An answer in the spelling that all of its spellings have in common.
    pub(crate) fn normalised(&self, answer: &str) -> String {
        let mut text = answer.trim().trim_end_matches('.').to_owned();
        for (from, to) in LOOKS {
            // `\leftarrow` is no bracket; nothing of the kind is an answer of MATH's.
            text = text.replace(from, to);
        }
        text = text.rsplit('=').next().unwrap_or_default().to_owned();
        for (from, to) in SUBSTITUTIONS {
            text = text.replace(from, to);
        }
        for word in REMOVED {
            text = text.replace(word, "");
        }
        for (regex, with) in &self.0 {
            text = regex.replace_all(&text, *with).into_owned();
        }
        text = text.replace('$', "");
        let digits = text.replace(',', "");
        match !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits,
            false => text,
        }
    }
}

/// The content of the last `\boxed{…}` or `\fbox{…}` of a solution, whatever braces lie within; `\boxed 5$` holds 5.
pub(crate) fn last_boxed(solution: &str) -> Option<&str> {
    let after = |command: &str| solution.rfind(command).map(|at| &solution[at + command.len()..]);
    let rest = after("\\boxed").or_else(|| after("\\fbox"))?;
    if let Some(rest) = rest.strip_prefix(' ') {
        return rest.split('$').next().map(str::trim);
    }
    let inside = rest.strip_prefix('{')?;
    let mut open = 1;
    for (at, c) in inside.char_indices() {
        open += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if open == 0 {
            return Some(&inside[..at]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) {
        let minerva = Minerva::new().unwrap();
        assert_eq!(minerva.normalised(a), minerva.normalised(b), "{a} and {b}");
    }

    #[test]
    fn spellings_of_one_answer_are_the_same() {
        same("\\frac{1}{2}", "\\frac12");
        same("\\dfrac{1}{2}", "$\\tfrac{1}{2}$.");
        same("\\sqrt3", "\\sqrt{3}");
        same("x = 5", "5");
        same("10,000", "10000");
        same("90^\\circ", "90");
        same("90^{\\circ}", "90 degrees");
        same("\\text{(A)}", "(A)");
        same("\\left[2,5\\right)", "[2, 5)");
        same("5\\text{ cm}", "5 cm");
        same("\\$18.90", "18.90");
        same("the answer $7$ of course", "7");
        same("50\\%", "50");
    }

    #[test]
    fn other_answers_are_not() {
        let minerva = Minerva::new().unwrap();
        for (a, b) in [("\\frac{1}{2}", "\\frac{2}{1}"), ("-3", "3"), ("(1,2)", "(2,1)"), ("12", "1.2")] {
            assert_ne!(minerva.normalised(a), minerva.normalised(b));
        }
        assert_eq!(minerva.normalised(""), "");
    }

    #[test]
    fn the_last_box_counts_with_all_its_braces() {
        assert_eq!(last_boxed("$\\boxed{1}$ no, $\\boxed{\\frac{1}{2}}$."), Some("\\frac{1}{2}"));
        assert_eq!(last_boxed("so $\\boxed 5$ it is"), Some("5"));
        assert_eq!(last_boxed("\\fbox{B}"), Some("B"));
        assert_eq!((last_boxed("\\boxed{1"), last_boxed("none"), last_boxed("\\boxed")), (None, None, None));
    }

    proptest::proptest! {
        /// Whatever a model writes: no panic.
        #[test]
        fn any_text_is_normalised(text in "[a-z0-9 ={}$\\\\.,%\n]{0,40}") {
            let minerva = Minerva::new().unwrap();
            let _ = (minerva.normalised(&text), last_boxed(&text));
        }
    }
}
