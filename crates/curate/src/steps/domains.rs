//! Keeps or drops documents by the domain of their URL.

use std::path::PathBuf;

use smolt_data::document::Document;

use super::url::url_of;
use crate::analysis::Analysis;
use crate::lists::{ListError, Strings, host};
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// Keeps or drops documents by domain; a domain stands for all below it.
    pub struct DomainsSettings {
        /// Only these are kept, all when no domain is named.
        pub keep: Vec<String> = Vec::new(),
        /// More of them, in files of one entry a line.
        pub keep_files: Vec<PathBuf> = Vec::new(),
        /// These are rejected, also below a kept domain.
        pub drop: Vec<String> = Vec::new(),
        /// More of them, in files of one entry a line.
        pub drop_files: Vec<PathBuf> = Vec::new(),
    }
}

impl DomainsSettings {
    /// Files among the settings, to be resolved before use.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        self.keep_files.iter_mut().chain(&mut self.drop_files).collect()
    }
}

/// The step `domains`.
pub struct Domains {
    keep: Strings,
    drop: Strings,
}

impl Domains {
    /// Reads the lists.
    pub fn new(settings: &DomainsSettings) -> Result<Self, ListError> {
        let load = |files: &[PathBuf], extra: &[String]| Strings::load(files, extra, str::to_lowercase);
        Ok(Self {
            keep: load(&settings.keep_files, &settings.keep)?,
            drop: load(&settings.drop_files, &settings.drop)?,
        })
    }
}

impl Step for Domains {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        let host = url_of(document).map(host).unwrap_or_default();
        if self.drop.contains_domain(&host) {
            return Verdict::Reject(Rejection { reason: "domain_dropped", detail: host });
        }
        if !self.keep.is_empty() && !self.keep.contains_domain(&host) {
            return Verdict::Reject(Rejection { reason: "domain_not_kept", detail: host });
        }
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_and_dropped() {
        let settings = DomainsSettings {
            keep: vec!["Example.org".into()],
            drop: vec!["ads.example.org".into()],
            ..smolt_run::recipe::defaults().unwrap()
        };
        let step = Domains::new(&settings).unwrap();
        let keeps = |url: Option<&str>| {
            let mut document = Document { url: url.map(str::to_owned), ..Document::default() };
            step.apply(&mut document, &mut Analysis::default()).keeps()
        };
        assert!(keeps(Some("https://www.example.org/a")));
        assert!(!keeps(Some("https://x.ads.example.org/a")));
        assert!(!keeps(Some("https://example.net/a")) && !keeps(None));
        let all = Domains::new(&smolt_run::recipe::defaults().unwrap()).unwrap();
        assert!(all.apply(&mut Document::default(), &mut Analysis::default()).keeps());
    }
}
