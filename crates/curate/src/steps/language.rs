//! Language identification: keeps documents of the languages asked for (spec `CLN-01`; FineWeb kept English of at
//! least 0.65 by fastText).

use std::path::PathBuf;

use serde_json::Value;
use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::fasttext::{Error, Model};
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// Finds each document's language; it and its score go to the metadata.
    pub struct LanguageSettings {
        /// fastText model such as `lid.176.bin`, `lid.176.ftz` or GlotLID's; the built-in detector of 70 languages when left out.
        pub model: Option<PathBuf>,
        /// Languages to keep, such as `en`, as the model names them; a label `eng_Latn` is also meant by `eng`. All when empty.
        pub languages: Vec<String> = Vec::new(),
        /// Documents of a lower score are rejected.
        pub min_score: f64 = 0.65,
    }
}

impl LanguageSettings {
    /// Files among the settings, to be resolved before use.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        self.model.iter_mut().collect()
    }
}

/// Metadata key of the language.
pub const LANGUAGE: &str = "language";

/// Metadata key of its score.
pub const LANGUAGE_SCORE: &str = "language_score";

/// The built-in detector reads this much of a text: the rest does not change its mind, and costs time. In bytes.
const ENOUGH: usize = 32 << 10;

/// The step `language`.
pub struct Language {
    model: Option<Model>,
    languages: Vec<String>,
    min_score: f64,
}

impl Language {
    /// Loads the model, if there is one.
    pub fn new(settings: &LanguageSettings) -> Result<Self, Error> {
        let model = settings.model.as_deref().map(Model::load).transpose()?;
        let languages = settings.languages.clone();
        if let Some(model) = &model {
            let known = |language: &&String| !model.labels().iter().any(|label| means(language, label));
            if let Some(language) = languages.iter().find(known) {
                let shown = model.labels().iter().take(5).cloned().collect::<Vec<_>>().join(", ");
                return Err(Error::Training(format!(
                    "language {language:?} is no label of the model, whose labels look like {shown}"
                )));
            }
        } else if let Some(language) =
            languages.iter().find(|language| !built_in().any(|code| code == **language))
        {
            return Err(Error::Training(format!(
                "language {language:?} is unknown to the built-in detector; it knows {}",
                built_in().collect::<Vec<_>>().join(", ")
            )));
        }
        Ok(Self { model, languages, min_score: settings.min_score })
    }

    fn detect<'a>(&'a self, text: &str) -> Option<(&'a str, f64)> {
        match &self.model {
            Some(model) => {
                let best = *model.predict(text, 1, 0.0).first()?;
                // fastText adds 1e-5, a score above 1 would surprise.
                Some((&model.labels()[best.label], f64::from(best.probability).min(1.0)))
            }
            None => {
                let end = text.floor_char_boundary(ENOUGH);
                let found = whatlang::detect(&text[..end])?;
                Some((short(found.lang()), found.confidence()))
            }
        }
    }
}

impl Step for Language {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        let Some((language, score)) = self.detect(&document.text) else {
            return Verdict::reject("language_unknown");
        };
        document.metadata.insert(LANGUAGE.to_owned(), Value::String(language.to_owned()));
        document.metadata.insert(LANGUAGE_SCORE.to_owned(), Value::from((score * 1e4).round() / 1e4));
        let reject = |reason| Verdict::Reject(Rejection { reason, detail: format!("{language} {score:.2}") });
        if !self.languages.is_empty() && !self.languages.iter().any(|kept| means(kept, language)) {
            return reject("language");
        }
        // Also when a model gives no number.
        if score >= self.min_score { Verdict::Keep } else { reject("language_score") }
    }
}

fn means(asked: &str, label: &str) -> bool {
    label == asked || label.split('_').next() == Some(asked)
}

fn built_in() -> impl Iterator<Item = &'static str> {
    whatlang::Lang::all().iter().map(|lang| short(*lang))
}

/// The code of two letters, as lid.176 has it, where there is one.
fn short(language: whatlang::Lang) -> &'static str {
    #[rustfmt::skip]
    const SHORT: &[(&str, &str)] = &[
        ("epo", "eo"), ("eng", "en"), ("rus", "ru"), ("cmn", "zh"), ("spa", "es"), ("por", "pt"),
        ("ita", "it"), ("ben", "bn"), ("fra", "fr"), ("deu", "de"), ("ukr", "uk"), ("kat", "ka"),
        ("ara", "ar"), ("hin", "hi"), ("jpn", "ja"), ("heb", "he"), ("yid", "yi"), ("pol", "pl"),
        ("amh", "am"), ("jav", "jv"), ("kor", "ko"), ("nob", "no"), ("dan", "da"), ("swe", "sv"),
        ("fin", "fi"), ("tur", "tr"), ("nld", "nl"), ("hun", "hu"), ("ces", "cs"), ("ell", "el"),
        ("bul", "bg"), ("bel", "be"), ("mar", "mr"), ("kan", "kn"), ("ron", "ro"), ("slv", "sl"),
        ("hrv", "hr"), ("srp", "sr"), ("mkd", "mk"), ("lit", "lt"), ("lav", "lv"), ("est", "et"),
        ("tam", "ta"), ("vie", "vi"), ("urd", "ur"), ("tha", "th"), ("guj", "gu"), ("uzb", "uz"),
        ("pan", "pa"), ("aze", "az"), ("ind", "id"), ("tel", "te"), ("pes", "fa"), ("mal", "ml"),
        ("ori", "or"), ("mya", "my"), ("nep", "ne"), ("sin", "si"), ("khm", "km"), ("tuk", "tk"),
        ("aka", "ak"), ("zul", "zu"), ("sna", "sn"), ("afr", "af"), ("lat", "la"), ("slk", "sk"),
        ("cat", "ca"), ("tgl", "tl"), ("hye", "hy"), ("cym", "cy"),
    ];
    let code = language.code();
    SHORT.iter().find(|(long, _)| *long == code).map_or(code, |(_, short)| short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn settings(languages: &[&str]) -> LanguageSettings {
        LanguageSettings {
            model: None,
            languages: languages.iter().map(|l| (*l).to_owned()).collect(),
            min_score: 0.5,
        }
    }

    fn run(step: &Language, text: &str) -> (Verdict, Document) {
        let mut document = Document { text: text.to_owned(), ..Document::default() };
        (step.apply(&mut document, &mut Analysis::default()), document)
    }

    const ENGLISH: &str =
        "The committee met on Tuesday to talk about the new bridge, and decided to wait until spring.";

    #[test]
    fn built_in_languages() {
        assert_eq!(built_in().count(), 70);
        let step = Language::new(&settings(&["en", "zh"])).unwrap();
        let (verdict, document) = run(&step, ENGLISH);
        assert!(verdict.keeps(), "{verdict:?}");
        assert_eq!(document.metadata[LANGUAGE], "en");
        assert!(document.metadata[LANGUAGE_SCORE].as_f64().unwrap() > 0.5);
        assert!(run(&step, "我们决定在春天之前等待，因为新的桥梁还没有完成。").0.keeps());
        let german =
            "Der Ausschuss hat am Dienstag beschlossen, bis zum Frühling mit dem Bau der Brücke zu warten.";
        let (verdict, document) = run(&step, german);
        assert_eq!(document.metadata[LANGUAGE], "de");
        assert!(matches!(verdict, Verdict::Reject(Rejection { reason: "language", .. })));
        assert!(matches!(run(&step, "").0, Verdict::Reject(Rejection { reason: "language_unknown", .. })));
        assert!(matches!(
            run(&step, "12 34 ...").0,
            Verdict::Reject(Rejection { reason: "language_unknown", .. })
        ));
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        let step = Language::new(&settings(&[])).unwrap();
        let text = format!("x{}", "é".repeat(ENOUGH));
        run(&step, &text);
    }

    #[test]
    fn models_and_their_labels() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/fasttext/softmax.bin");
        let with =
            |languages: &[&str]| LanguageSettings { model: Some(model.clone()), ..settings(languages) };
        let step = Language::new(&with(&["ka"])).unwrap();
        assert!(run(&step, "kata koki tako").0.keeps());
        assert!(!run(&step, "漢字 語文").0.keeps());
        let error = Language::new(&with(&["xx"])).err().unwrap().to_string();
        assert!(error.contains("\"xx\"") && error.contains("mix"), "{error}");
        assert!(Language::new(&settings(&["english"])).err().unwrap().to_string().contains("en"));
        assert!(means("eng", "eng_Latn") && means("eng_Latn", "eng_Latn") && !means("en", "eng_Latn"));
    }
}
