//! URL filter: blocked domains and URLs, banned words (spec `CLN-01`), with the rules and reasons of datatrove's.

use std::collections::HashSet;
use std::path::PathBuf;

use aho_corasick::AhoCorasick;
use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::lists::{ListError, Strings, host};
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// Rejects pages by their URL. Every list is a file of one entry a line.
    pub struct UrlSettings {
        /// Domains to reject, with all below them.
        pub blocked_domains: Vec<PathBuf> = Vec::new(),
        /// URLs to reject, exactly as written.
        pub blocked_urls: Vec<PathBuf> = Vec::new(),
        /// Words of which one rejects a URL.
        pub banned_words: Vec<PathBuf> = Vec::new(),
        /// Parts of words of which one rejects a URL, also across punctuation.
        pub banned_subwords: Vec<PathBuf> = Vec::new(),
        /// Words of which several reject a URL.
        pub soft_banned_words: Vec<PathBuf> = Vec::new(),
        /// How many of them.
        pub soft_word_threshold: usize = 2,
        /// Domains that are never rejected, with all below them.
        pub allowed_domains: Vec<PathBuf> = Vec::new(),
        /// Also reject documents without a URL.
        pub require_url: bool = false,
    }
}

impl UrlSettings {
    /// Files among the settings, to be resolved before use.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let lists = [
            &mut self.blocked_domains,
            &mut self.blocked_urls,
            &mut self.banned_words,
            &mut self.banned_subwords,
            &mut self.soft_banned_words,
            &mut self.allowed_domains,
        ];
        lists.into_iter().flatten().collect()
    }
}

/// The step `url`.
pub struct Url {
    blocked_domains: Strings,
    blocked_urls: Strings,
    banned_words: Strings,
    soft_banned_words: Strings,
    banned_subwords: Option<AhoCorasick>,
    allowed_domains: Strings,
    soft_word_threshold: usize,
    require_url: bool,
}

impl Url {
    /// Reads the lists.
    pub fn new(settings: &UrlSettings) -> Result<Self, ListError> {
        let words = |files: &[PathBuf]| Strings::load(files, &[], only_letters);
        let domains = |files: &[PathBuf]| Strings::load(files, &[], str::to_lowercase);
        let subwords = words(&settings.banned_subwords)?;
        let automaton = AhoCorasick::new(subwords.iter()).map_err(|_| ListError::TooLarge)?;
        Ok(Self {
            blocked_domains: domains(&settings.blocked_domains)?,
            blocked_urls: Strings::load(&settings.blocked_urls, &[], str::to_owned)?,
            banned_words: words(&settings.banned_words)?,
            soft_banned_words: words(&settings.soft_banned_words)?,
            banned_subwords: (!subwords.is_empty()).then_some(automaton),
            allowed_domains: domains(&settings.allowed_domains)?,
            soft_word_threshold: settings.soft_word_threshold,
            require_url: settings.require_url,
        })
    }

    fn judge(&self, url: &str) -> Option<Rejection> {
        let found = |reason, what: &str| Some(Rejection { reason, detail: what.to_owned() });
        let host = host(url);
        if self.allowed_domains.contains_domain(&host) {
            return None;
        }
        if self.blocked_domains.contains_domain(&host) {
            return found("domain", &host);
        }
        if self.blocked_urls.contains(url) {
            return found("url", "");
        }
        // As in datatrove, words of a URL match as they are written, the lists are in small letters.
        let words = || url.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        if let Some(word) = words().find(|word| self.banned_words.contains(word)) {
            return found("hard_blacklisted", word);
        }
        let soft: HashSet<&str> = words().filter(|word| self.soft_banned_words.contains(word)).collect();
        if soft.len() >= self.soft_word_threshold {
            return found("soft_blacklisted", &format!("{} words", soft.len()));
        }
        let letters = only_letters(url);
        match self.banned_subwords.as_ref().and_then(|automaton| automaton.find(&letters)) {
            Some(place) => found("blacklisted_subword", &letters[place.range()]),
            None => None,
        }
    }
}

fn only_letters(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The document's URL, if it has one.
pub(super) fn url_of(document: &Document) -> Option<&str> {
    document.url.as_deref().filter(|url| !url.is_empty())
}

impl Step for Url {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        match url_of(document) {
            Some(url) => self.judge(url).map_or(Verdict::Keep, Verdict::Reject),
            None if self.require_url => Verdict::reject("no_url"),
            None => Verdict::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(step: &Url, url: &str) -> &'static str {
        let mut document = Document { url: Some(url.to_owned()), ..Document::default() };
        match step.apply(&mut document, &mut Analysis::default()) {
            Verdict::Keep => "",
            Verdict::Reject(rejection) => rejection.reason,
        }
    }

    #[test]
    fn each_list_has_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let list = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            vec![dir.path().join(name)]
        };
        let defaults: UrlSettings = smolt_run::recipe::defaults().unwrap();
        let step = Url::new(&UrlSettings {
            blocked_domains: list("domains", "bad.example\nsub.mixed.example\n"),
            blocked_urls: list("urls", "https://ok.example/one\n"),
            banned_words: list("words", "# none\nCasino\n"),
            banned_subwords: list("subwords", "poker-room\n"),
            soft_banned_words: list("soft", "sexy\nhot\n"),
            allowed_domains: list("allowed", "good.bad.example\n"),
            ..defaults.clone()
        })
        .unwrap();
        for (url, expected) in [
            ("https://bad.example/", "domain"),
            ("http://www.BAD.example:80/x", "domain"),
            ("http://sub.mixed.example/x", "domain"),
            ("http://mixed.example/x", ""),
            ("http://notbad.example/x", ""),
            ("https://good.bad.example/casino", ""),
            ("https://ok.example/one", "url"),
            ("https://ok.example/one/", ""),
            ("https://ok.example/casino-x", "hard_blacklisted"),
            ("https://ok.example/casinos", ""),
            ("https://ok.example/hot-hot-hot", ""),
            ("https://ok.example/sexy_hot", "soft_blacklisted"),
            ("https://ok.example/the-Poker.Rooms", "blacklisted_subword"),
        ] {
            assert_eq!(reason(&step, url), expected, "{url}");
        }
        let mut document = Document::default();
        assert!(step.apply(&mut document, &mut Analysis::default()).keeps());
        let step = Url::new(&UrlSettings { require_url: true, ..defaults }).unwrap();
        assert!(!step.apply(&mut document, &mut Analysis::default()).keeps());
        assert_eq!(reason(&step, "https://anything.example/sexy"), "");
    }
}
