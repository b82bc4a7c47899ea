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
use smolt_run::recipe::{self, Document as Table, Recipe};

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

/// What the steps of a chain depend on beside the documents; it decides the result as they do.
#[derive(Default)]
pub(crate) struct StepInputs {
    /// Files that they read.
    pub(crate) files: Vec<PathBuf>,
    /// Their settings, defaults included.
    pub(crate) settings: String,
}

/// The settings of the step that is being built.
struct Settings<'a> {
    kind: Kind,
    table: &'a Table,
    places: &'a Places,
    inputs: &'a mut StepInputs,
}

impl Settings<'_> {
    fn read<T: Recipe>(&mut self) -> Result<T, Error> {
        let settings: T = self.table.read()?;
        self.inputs.settings += &format!("[{}]\n{}\n", self.kind, recipe::to_toml(&settings));
        Ok(settings)
    }

    /// With the paths among them resolved.
    fn read_with_paths<T: Recipe>(
        &mut self,
        paths: impl Fn(&mut T) -> Vec<&mut PathBuf>,
    ) -> Result<T, Error> {
        let mut settings = self.read()?;
        paths(&mut settings).into_iter().for_each(|path| self.place(path));
        Ok(settings)
    }

    fn place(&mut self, path: &mut PathBuf) {
        *path = self.places.path(&path.to_string_lossy());
        self.inputs.files.push(path.clone());
    }

    fn wrong(&self, problem: impl Display) -> Error {
        let (file, step) = (self.table.file().to_owned(), self.kind.to_string());
        Error::Step { file, step, problem: problem.to_string() }
    }

    fn badwords(&mut self) -> Result<c4_badwords::C4BadWords, Error> {
        let settings: c4_badwords::C4BadWordsSettings = self.read()?;
        let mut path = PathBuf::from(&settings.words);
        self.place(&mut path);
        let list = std::fs::read_to_string(&path).map_err(|source| FileError::reading(&path, source))?;
        c4_badwords::C4BadWords::new(&settings, &list).map_err(|e| self.wrong(e))
    }

    fn decontaminate(&mut self) -> Result<crate::decontaminate::Decontaminate, Error> {
        let settings: decontaminate::Settings = self.read()?;
        let mut benchmarks = settings.benchmarks();
        benchmarks.iter_mut().for_each(|benchmark| self.place(&mut benchmark.path));
        decontaminate::build(&settings, &benchmarks).map_err(|e| self.wrong(e))
    }
}

/// Builds the step of this kind from its settings; notes in `inputs` what it depends on.
pub(crate) fn build(
    kind: Kind,
    table: &Table,
    places: &Places,
    inputs: &mut StepInputs,
) -> Result<Work, Error> {
    let from = &mut Settings { kind, table, places, inputs };
    let step: Box<dyn Step> = match kind {
        #[cfg(feature = "html")]
        Kind::HtmlText => Box::new(html_text::HtmlText::new(&from.read()?)),
        #[cfg(not(feature = "html"))]
        Kind::HtmlText => return Err(from.wrong("this build has no HTML: build with the feature `html`")),
        Kind::Encoding => Box::new(encoding::Encoding::new(&from.read()?)),
        Kind::Cleanup => Box::new(cleanup::Cleanup::new(&from.read()?)),
        Kind::Url => {
            let settings = from.read_with_paths(url::UrlSettings::paths_mut)?;
            Box::new(url::Url::new(&settings).map_err(|e| from.wrong(e))?)
        }
        Kind::Domains => {
            let settings = from.read_with_paths(domains::DomainsSettings::paths_mut)?;
            Box::new(domains::Domains::new(&settings).map_err(|e| from.wrong(e))?)
        }
        Kind::Licence => Box::new(licence::Licence::new(&from.read()?)),
        Kind::Language => {
            let settings = from.read_with_paths(language::LanguageSettings::paths_mut)?;
            Box::new(language::Language::new(&settings).map_err(|e| from.wrong(e))?)
        }
        Kind::GopherQuality => Box::new(gopher_quality::GopherQuality::new(from.read()?)),
        Kind::GopherRepetition => {
            let settings = from.read()?;
            Box::new(gopher_repetition::GopherRepetition::new(settings).map_err(|e| from.wrong(e))?)
        }
        Kind::C4 => {
            let settings = from.read()?;
            Box::new(c4::C4::new(settings).map_err(|e| from.wrong(e))?)
        }
        Kind::C4Paragraphs => from.read().map(|NoSettings {}| Box::new(c4::C4Paragraphs))?,
        Kind::C4BadWords => Box::new(from.badwords()?),
        Kind::FineWeb => Box::new(fineweb::FineWeb::new(from.read()?)),
        Kind::RepeatedNgrams => Box::new(repeated_ngrams::RepeatedNgrams::new(&from.read()?)),
        Kind::Code => Box::new(code::Code::new(&from.read()?)),
        Kind::Pii => Box::new(pii::Pii::new(&from.read()?)),
        Kind::Classifier => {
            let settings = from.read_with_paths(classifier::ClassifierSettings::paths_mut)?;
            Box::new(classifier::Classifier::new(&settings).map_err(|e| from.wrong(e))?)
        }
        Kind::QualityTiers => Box::new(quality_tiers::QualityTiers::new(&from.read()?)),
        Kind::Sampling => Box::new(sampling::Sampling::new(&from.read()?)),
        Kind::Decontaminate => Box::new(from.decontaminate()?),
        Kind::ExactDedup => return Ok(Work::Global(Box::new(exact_dedup::ExactDedup::new(&from.read()?)))),
        Kind::LineDedup => return Ok(Work::Global(Box::new(line_dedup::LineDedup::new(&from.read()?)))),
        Kind::MinhashDedup => {
            return Ok(Work::Global(Box::new(minhash_dedup::MinhashDedup::new(&from.read()?)?)));
        }
    };
    Ok(Work::Each(step))
}
