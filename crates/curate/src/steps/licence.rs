//! Keeps documents whose licence is on a list.

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

    /// `A OR B` needs one of the two, `A AND B` both.
    fn allows(&self, expression: &str) -> bool {
        let expression = expression.to_lowercase().replace(['(', ')'], " ").replace('/', " or ");
        let names = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
        expression.split(" or ").any(|part| part.split(" and ").all(|name| self.keep.contains(&names(name))))
    }
}

impl Step for Licence {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        let found = self.keys.iter().find_map(|key| document.metadata.get(key));
        let names: Vec<&str> = match found {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let names: Vec<&str> = names.into_iter().filter(|name| !name.trim().is_empty()).collect();
        if names.is_empty() {
            return if self.keep_unknown { Verdict::Keep } else { Verdict::reject("licence_unknown") };
        }
        match names.iter().find(|name| !self.allows(name)) {
            Some(name) => {
                let detail = name.chars().take(80).collect();
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
        let lenient = LicenceSettings { keep_unknown: true, ..smolt_run::recipe::defaults().unwrap() };
        assert!(Licence::new(&lenient).apply(&mut Document::default(), &mut Analysis::default()).keeps());
    }
}
