//! The steps, one file each, and the names by which recipes call them.

pub mod c4;
pub mod c4_badwords;
pub mod classifier;
pub mod cleanup;
pub mod code;
pub mod decontaminate;
pub mod domains;
pub mod encoding;
pub mod exact_dedup;
pub mod fineweb;
pub mod gopher_quality;
pub mod gopher_repetition;
#[cfg(feature = "html")]
pub mod html_text;
pub mod language;
pub mod licence;
pub mod line_dedup;
pub mod minhash_dedup;
pub mod pii;
pub mod quality_tiers;
mod removed;
pub mod repeated_ngrams;
pub mod sampling;
pub mod url;

use std::fmt::Display;
use std::path::PathBuf;

use smolt_run::error::FileError;
use smolt_run::recipe::Document as Table;

use crate::engine::{Error, Work};
use crate::recipe::Places;
use crate::step::Step;

smolt_run::recipe! {
    /// What a step does.
    pub enum Kind {
        /// Takes the main text of a page out of its HTML.
        HtmlText = "html_text",
        /// Repairs mojibake and control characters.
        Encoding = "encoding",
        /// Normalises white space, rejects what is too short or too long.
        Cleanup = "cleanup",
        /// Rejects by the address of the page.
        Url = "url",
        /// Keeps or rejects domains.
        Domains = "domains",
        /// Keeps or rejects licences.
        Licence = "licence",
        /// Identifies the language, keeps those that are wanted.
        Language = "language",
        /// Gopher's quality rules.
        GopherQuality = "gopher_quality",
        /// Gopher's repetition rules.
        GopherRepetition = "gopher_repetition",
        /// C4's rules.
        C4 = "c4",
        /// FineWeb's own rules.
        FineWeb = "fineweb",
        /// Rejects pages without three long lines, as mC4 does.
        C4Paragraphs = "c4_paragraphs",
        /// Rejects texts with words of a list, as C4 does.
        C4BadWords = "c4_badwords",
        /// Rejects source files that nobody wrote to be read.
        Code = "code",
        /// Masks addresses and numbers that belong to people.
        Pii = "pii",
        /// Rejects or trims what evaluation sets contain.
        Decontaminate = "decontaminate",
        /// Keeps the first of equal documents or addresses.
        ExactDedup = "exact_dedup",
        /// Takes out lines that an earlier document had.
        LineDedup = "line_dedup",
        /// Keeps the first of documents that are nearly the same.
        MinhashDedup = "minhash_dedup",
        /// Rejects texts in which a short sequence repeats and repeats.
        RepeatedNgrams = "repeated_ngrams",
        /// Scores by a trained classifier, keeps what reaches a threshold.
        Classifier = "classifier",
        /// Sorts by a score into tiers.
        QualityTiers = "quality_tiers",
        /// Keeps a share.
        Sampling = "sampling",
    }

    /// Of a step that has none.
    struct NoSettings {}
}

/// Builds the step of this kind from its settings; notes in `files` what it reads, which decides the result as they do.
pub(crate) fn build(
    kind: Kind,
    settings: &Table,
    places: &Places,
    files: &mut Vec<PathBuf>,
) -> Result<Work, Error> {
    let wrong = |problem: &dyn Display| Error::Step {
        file: settings.file().to_owned(),
        step: kind.to_string(),
        problem: problem.to_string(),
    };
    let mut place = |paths: Vec<&mut PathBuf>| {
        for path in paths {
            *path = places.path(&path.to_string_lossy());
            files.push(path.clone());
        }
    };
    let step: Box<dyn Step> = match kind {
        #[cfg(feature = "html")]
        Kind::HtmlText => Box::new(html_text::HtmlText::new(&settings.read()?)),
        #[cfg(not(feature = "html"))]
        Kind::HtmlText => return Err(wrong(&"this build has no HTML: build with the feature `html`")),
        Kind::Encoding => Box::new(encoding::Encoding::new(&settings.read()?)),
        Kind::Cleanup => Box::new(cleanup::Cleanup::new(&settings.read()?)),
        Kind::Url => {
            let mut settings: url::UrlSettings = settings.read()?;
            place(settings.paths_mut());
            Box::new(url::Url::new(&settings).map_err(|e| wrong(&e))?)
        }
        Kind::Domains => {
            let mut settings: domains::DomainsSettings = settings.read()?;
            place(settings.paths_mut());
            Box::new(domains::Domains::new(&settings).map_err(|e| wrong(&e))?)
        }
        Kind::Licence => Box::new(licence::Licence::new(&settings.read()?)),
        Kind::Language => {
            let mut settings: language::LanguageSettings = settings.read()?;
            place(settings.paths_mut());
            Box::new(language::Language::new(&settings).map_err(|e| wrong(&e))?)
        }
        Kind::GopherQuality => Box::new(gopher_quality::GopherQuality::new(settings.read()?)),
        Kind::GopherRepetition => {
            Box::new(gopher_repetition::GopherRepetition::new(settings.read()?).map_err(|e| wrong(&e))?)
        }
        Kind::C4 => Box::new(c4::C4::new(settings.read()?).map_err(|e| wrong(&e))?),
        Kind::C4Paragraphs => {
            let NoSettings {} = settings.read()?;
            Box::new(c4::C4Paragraphs)
        }
        Kind::C4BadWords => {
            let settings: c4_badwords::C4BadWordsSettings = settings.read()?;
            let mut path = PathBuf::from(&settings.words);
            place(vec![&mut path]);
            let list = std::fs::read_to_string(&path).map_err(|source| FileError::reading(&path, source))?;
            Box::new(c4_badwords::C4BadWords::new(&settings, &list).map_err(|e| wrong(&e))?)
        }
        Kind::FineWeb => Box::new(fineweb::FineWeb::new(settings.read()?)),
        Kind::RepeatedNgrams => Box::new(repeated_ngrams::RepeatedNgrams::new(&settings.read()?)),
        Kind::Code => Box::new(code::Code::new(&settings.read()?)),
        Kind::Pii => Box::new(pii::Pii::new(&settings.read()?)),
        Kind::Classifier => {
            let mut settings: classifier::ClassifierSettings = settings.read()?;
            place(settings.paths_mut());
            Box::new(classifier::Classifier::new(&settings).map_err(|e| wrong(&e))?)
        }
        Kind::QualityTiers => Box::new(quality_tiers::QualityTiers::new(&settings.read()?)),
        Kind::Sampling => Box::new(sampling::Sampling::new(&settings.read()?)),
        Kind::Decontaminate => {
            let settings: decontaminate::Settings = settings.read()?;
            let mut benchmarks = settings.benchmarks();
            place(benchmarks.iter_mut().map(|benchmark| &mut benchmark.path).collect());
            Box::new(decontaminate::build(&settings, &benchmarks).map_err(|e| wrong(&e))?)
        }
        Kind::ExactDedup => {
            return Ok(Work::Global(Box::new(exact_dedup::ExactDedup::new(&settings.read()?))));
        }
        Kind::LineDedup => return Ok(Work::Global(Box::new(line_dedup::LineDedup::new(&settings.read()?)))),
        Kind::MinhashDedup => {
            return Ok(Work::Global(Box::new(minhash_dedup::MinhashDedup::new(&settings.read()?)?)));
        }
    };
    Ok(Work::Each(step))
}
