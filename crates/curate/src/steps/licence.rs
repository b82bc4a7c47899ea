//! Keeps documents whose licence is on a list.

use std::iter::Peekable;

use serde_json::Value;
use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// Keeps documents by the licence in their metadata.
    pub struct LicenceSettings {
        /// Metadata keys to look at, the first that is there counts: a name, an SPDX expression, or a list of which each must be kept.
        pub keys: Vec<String> = ["license", "licence", "licenses", "detected_licenses", "max_stars_repo_licenses"].map(String::from).to_vec(),
        /// Licences to keep, by SPDX name; permissive ones when left out.
        pub keep: Vec<String> = PERMISSIVE.map(String::from).to_vec(),
        /// Also keep documents that name no licence.
        pub keep_unknown: bool = false,
    }
}

/// Licences that ask for no more than attribution.
pub const PERMISSIVE: [&str; 22] = [
    "0BSD",
    "Apache-2.0",
    "Artistic-2.0",
    "BlueOak-1.0.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSL-1.0",
    "CC0-1.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "ISC",
    "MIT",
    "MIT-0",
    "PostgreSQL",
    "PSF-2.0",
    "Python-2.0",
    "Unicode-3.0",
    "Unlicense",
    "UPL-1.0",
    "X11",
    "Zlib",
];

/// The step `licence`.
pub struct Licence {
    keys: Vec<String>,
    keep: Vec<String>,
    keep_unknown: bool,
}

impl Licence {
    /// From its settings.
    pub fn new(settings: &LicenceSettings) -> Self {
        let keep = settings.keep.iter().map(|name| name.to_lowercase()).collect();
        Self { keys: settings.keys.clone(), keep, keep_unknown: settings.keep_unknown }
    }

    /// `A OR B` needs one of the two, `A AND B` both; `AND` binds tighter. What is no expression is not allowed.
    fn allows(&self, expression: &str) -> bool {
        let spaced = expression.to_lowercase().replace('(', " ( ").replace(')', " ) ").replace('/', " or ");
        let mut parser = Parser { words: spaced.split_whitespace().peekable(), keep: &self.keep };
        parser.any(DEEPEST) == Some(true) && parser.words.peek().is_none()
    }
}

/// Expressions nested deeper are taken for none.
const DEEPEST: usize = 50;

/// Judges an SPDX expression as it reads it; `None` where it is none.
struct Parser<'t, W: Iterator<Item = &'t str>> {
    words: Peekable<W>,
    keep: &'t [String],
}

impl<'t, W: Iterator<Item = &'t str>> Parser<'t, W> {
    fn any(&mut self, depth: usize) -> Option<bool> {
        let mut allowed = self.all(depth)?;
        while self.words.next_if_eq(&"or").is_some() {
            allowed |= self.all(depth)?;
        }
        Some(allowed)
    }

    fn all(&mut self, depth: usize) -> Option<bool> {
        let mut allowed = self.one(depth)?;
        while self.words.next_if_eq(&"and").is_some() {
            allowed &= self.one(depth)?;
        }
        Some(allowed)
    }

    /// A name, also one of several words, perhaps `WITH` an exception, which only permits more; or what is in parentheses.
    fn one(&mut self, depth: usize) -> Option<bool> {
        if self.words.next_if_eq(&"(").is_some() {
            let allowed = self.any(depth.checked_sub(1)?)?;
            return self.words.next_if_eq(&")").map(|_| allowed);
        }
        let mut name = String::new();
        while let Some(word) = self.words.next_if(|word| !["and", "or", "(", ")"].contains(word)) {
            name += if name.is_empty() { "" } else { " " };
            name += word;
        }
        let kept = |name: &str| self.keep.iter().any(|kept| kept == name);
        let base = name.split_once(" with ").map(|(base, _)| base);
        (!name.is_empty()).then(|| kept(&name) || base.is_some_and(kept))
    }
}

impl Step for Licence {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        let found = self.keys.iter().find_map(|key| document.metadata.get(key));
        // What is no text in a list cannot be judged, so it is not allowed.
        let names: Vec<Option<&str>> = match found {
            Some(Value::String(name)) => vec![Some(name)],
            Some(Value::Array(names)) => names.iter().map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let said = |name: &&Option<&str>| name.is_none_or(|name| !name.trim().is_empty());
        let mut names = names.iter().filter(said).peekable();
        if names.peek().is_none() {
            return if self.keep_unknown { Verdict::Keep } else { Verdict::reject("licence_unknown") };
        }
        match names.find(|name| !name.is_some_and(|name| self.allows(name))) {
            Some(name) => {
                let detail = name.unwrap_or("an entry that is no text").chars().take(80).collect();
                Verdict::Reject(Rejection { reason: "licence", detail })
            }
            None => Verdict::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_lists_and_expressions() {
        let step = Licence::new(&smolt_run::recipe::defaults().unwrap());
        let keeps = |key: &str, value: Value| {
            let mut document = Document::default();
            document.metadata.insert(key.into(), value);
            step.apply(&mut document, &mut Analysis::default()).keeps()
        };
        assert!(keeps("license", json!("mit")));
        assert!(!keeps("license", json!("GPL-3.0-only")));
        assert!(keeps("license", json!("(GPL-3.0 OR Apache-2.0)")));
        assert!(keeps("license", json!("MIT/Apache-2.0")));
        assert!(!keeps("license", json!("MIT AND GPL-2.0")));
        assert!(keeps("licenses", json!(["MIT", "BSD-3-Clause"])));
        assert!(!keeps("licenses", json!(["MIT", "AGPL-3.0"])));
        assert!(
            !keeps("licenses", json!([])) && !keeps("license", json!(7)) && !keeps("other", json!("MIT"))
        );
        assert!(!keeps("licenses", json!(["MIT", 7])) && !keeps("licenses", json!(["MIT", null])));
        assert!(keeps("licenses", json!(["MIT", ""])));
        let lenient = LicenceSettings { keep_unknown: true, ..smolt_run::recipe::defaults().unwrap() };
        assert!(Licence::new(&lenient).apply(&mut Document::default(), &mut Analysis::default()).keeps());
    }

    #[test]
    fn expressions_nest() {
        let step = Licence::new(&smolt_run::recipe::defaults().unwrap());
        for kept in [
            "(MIT OR GPL-3.0-only) AND Apache-2.0",
            "MIT OR GPL-3.0-only AND AGPL-3.0-only",
            "((MIT))",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-3.0-only or (AGPL-3.0-only or (ISC and Zlib))",
        ] {
            assert!(step.allows(kept), "{kept}");
        }
        for rejected in [
            "(MIT OR GPL-3.0-only) AND AGPL-3.0-only",
            "AGPL-3.0-only AND (MIT OR GPL-3.0-only)",
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "(MIT",
            "MIT)",
            "MIT OR",
            "MIT (ISC)",
            "",
        ] {
            assert!(!step.allows(rejected), "{rejected}");
        }
        assert!(!step.allows(&("(".repeat(100_000) + "MIT" + &")".repeat(100_000))));
        let phrase = LicenceSettings {
            keep: vec!["Apache License 2.0".into()],
            ..smolt_run::recipe::defaults().unwrap()
        };
        assert!(Licence::new(&phrase).allows("apache  license 2.0"));
    }
}
