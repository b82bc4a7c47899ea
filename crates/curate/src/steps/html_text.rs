//! Main text of HTML pages: the article without menus, advertisements and footers (spec `CLN-01`).
//!
//! The extraction itself is the `trafilatura` crate, of the family that FineWeb used. Pages come from anyone, so this
//! file guards it: size and nesting are bounded before anything is parsed, and a panic inside is a rejection.

mod shape;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use smolt_data::document::Document;
use trafilatura::dom;
use trafilatura::{ExtractionFocus, HtmlDateMode, Options};

use crate::analysis::Analysis;
use crate::step::{Rejection, Step, Verdict};
use shape::{Shape, scan};

smolt_run::recipe! {
    /// Replaces an HTML page by its main text; the title, date and language go to the metadata.
    pub struct HtmlTextSettings {
        /// Which way to err where it is unclear what belongs to the text.
        pub favour: HtmlFavour = HtmlFavour::Precision,
        /// Compare with other extraction methods when the first finds little. Slower.
        pub fallback: bool = true,
        /// Keep the text of tables.
        pub tables: bool = true,
        /// Keep the readers' comments.
        pub comments: bool = false,
        /// Larger pages are rejected. In bytes.
        pub max_bytes: u64 = 4 << 20,
        /// Pages with elements nested deeper are rejected; at most 500.
        pub max_depth: usize = 500,
    }

    /// Which way to err.
    pub enum HtmlFavour {
        /// Less text, cleaner.
        Precision = "precision",
        /// Neither.
        Balanced = "balanced",
        /// More text, with more boilerplate.
        Recall = "recall",
    }
}

/// Deeper trees are not walked to their end by the extraction.
const DEEPEST: usize = 500;

/// The step `html_text`.
pub struct HtmlText {
    options: Options,
    max_bytes: u64,
    max_depth: usize,
}

impl HtmlText {
    /// Prepares the options once for all pages.
    pub fn new(settings: &HtmlTextSettings) -> Self {
        let focus = match settings.favour {
            HtmlFavour::Precision => ExtractionFocus::FavorPrecision,
            HtmlFavour::Balanced => ExtractionFocus::Balanced,
            HtmlFavour::Recall => ExtractionFocus::FavorRecall,
        };
        let options = Options::default()
            .with_focus(focus)
            .with_fallback(settings.fallback)
            .with_exclude_tables(!settings.tables)
            .with_exclude_comments(!settings.comments)
            .with_html_date_mode(HtmlDateMode::Fast);
        Self { options, max_bytes: settings.max_bytes, max_depth: settings.max_depth.min(DEEPEST) }
    }

    fn extract(&self, html: &str) -> Result<trafilatura::ExtractResult, Rejection> {
        let no_text = || Rejection { reason: "no_main_text", detail: String::new() };
        let page = dom::Document::parse(html);
        if depth_exceeds(&page, self.max_depth) {
            return Err(self.too_deep());
        }
        trafilatura::extract_document(page, &self.options).map_err(|_| no_text())
    }

    fn too_deep(&self) -> Rejection {
        Rejection { reason: "html_too_deep", detail: format!("more than {} elements", self.max_depth) }
    }
}

impl Step for HtmlText {
    fn apply(&self, document: &mut Document, analysis: &mut Analysis) -> Verdict {
        if document.text.len() as u64 > self.max_bytes {
            let detail = format!("{} bytes", document.text.len());
            return Verdict::Reject(Rejection { reason: "html_too_large", detail });
        }
        match scan(document.text.as_bytes(), self.max_depth) {
            Shape::Sane => {}
            Shape::Deep => return Verdict::Reject(self.too_deep()),
            Shape::Swollen => return Verdict::reject("html_unclosed_formatting"),
            Shape::Crowded => return Verdict::reject("html_many_attributes"),
        }
        let found = match catch_unwind(AssertUnwindSafe(|| self.extract(&document.text))) {
            Ok(Ok(found)) => found,
            Ok(Err(rejection)) => return Verdict::Reject(rejection),
            Err(_) => return Verdict::reject("extraction_failed"),
        };
        let mut text = found.content_text;
        if !found.comments_text.is_empty() {
            text.push('\n');
            text.push_str(&found.comments_text);
        }
        let text = text.trim();
        if text.is_empty() {
            return Verdict::reject("no_main_text");
        }
        document.text = text.to_owned();
        analysis.text_changed();
        let mut note = |key: &str, value: String| {
            if !value.is_empty() {
                document.metadata.insert(key.to_owned(), Value::String(value));
            }
        };
        note("title", found.metadata.title);
        note("date", found.metadata.date.map(|date| date.to_string()).unwrap_or_default());
        note("language", found.metadata.language);
        Verdict::Keep
    }
}

/// Whether the tree that was parsed is deeper, as repairs can have made it. Without recursion.
fn depth_exceeds(page: &dom::Document, limit: usize) -> bool {
    let mut level = vec![page.root()];
    for _ in 0..=limit {
        level = level.iter().flat_map(|&node| page.children(node)).collect();
        if level.is_empty() {
            return false;
        }
    }
    true
}

/// Any bytes as a page: rejections are fine, panics and endless work are not.
#[doc(hidden)]
pub fn fuzz_html(bytes: &[u8]) {
    let settings = HtmlTextSettings {
        favour: HtmlFavour::Balanced,
        fallback: true,
        tables: true,
        comments: true,
        max_bytes: 1 << 16,
        max_depth: DEEPEST,
    };
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut document = Document { text, ..Document::default() };
    if HtmlText::new(&settings).apply(&mut document, &mut Analysis::default()).keeps() {
        assert!(!document.text.trim().is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn defaults() -> HtmlTextSettings {
        smolt_run::recipe::defaults().unwrap()
    }

    fn run(html: &str) -> (Document, Verdict) {
        let mut document = Document { text: html.to_owned(), ..Document::default() };
        let verdict = HtmlText::new(&defaults()).apply(&mut document, &mut Analysis::default());
        (document, verdict)
    }

    fn reason(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Keep => "kept",
            Verdict::Reject(rejection) => rejection.reason,
        }
    }

    const SENTENCE: &str =
        "The river rose for three days before anyone in the village thought of moving the boats.";

    fn page(body: &str) -> String {
        format!(
            "<html lang='en'><head><title>Rivers and boats</title><meta property='article:published_time' \
             content='2021-03-04T10:00:00Z'></head><body><nav><ul><li><a href='/'>Home</a></li><li><a \
             href='/about'>About us</a></li></ul></nav><article>{body}</article><footer>Copyright 2021 \
             Everyone</footer></body></html>"
        )
    }

    #[test]
    fn the_article_stays_and_the_menu_goes() {
        let body: String = (0..6).map(|i| format!("<p>{i}: {SENTENCE}</p>")).collect();
        let (document, verdict) = run(&page(&body));
        assert!(verdict.keeps(), "{verdict:?}");
        assert!(document.text.contains("5: The river rose"), "{}", document.text);
        assert!(!document.text.contains("About us") && !document.text.contains("Copyright"));
        assert_eq!(document.metadata["title"], "Rivers and boats");
        assert_eq!(document.metadata["date"], "2021-03-04");
        assert_eq!(document.metadata["language"], "en");
    }

    #[test]
    fn pages_without_text_are_rejected() {
        assert_eq!(reason(&run("").1), "no_main_text");
        assert_eq!(
            reason(&run("<html><body><script>var text = 'none';</script></body></html>").1),
            "no_main_text"
        );
    }

    #[test]
    fn large_pages_are_rejected_unread() {
        let settings = HtmlTextSettings { max_bytes: 10, ..defaults() };
        let mut document = Document { text: page(SENTENCE), ..Document::default() };
        let verdict = HtmlText::new(&settings).apply(&mut document, &mut Analysis::default());
        assert_eq!(reason(&verdict), "html_too_large");
    }

    /// A thread of 2 MiB, as the tests and worker threads have.
    #[test]
    fn deep_pages_do_not_overflow_the_stack() {
        for tag in ["div", "b", "table", "x-y", "ul", "font size=1"] {
            let html = format!("<{tag}>").repeat(100_000);
            assert_eq!(reason(&run(&html).1), "html_too_deep", "{tag}");
        }
        assert_eq!(reason(&run(&"<div></p>".repeat(1_000_000 / 3)).1), "html_too_deep");
        // One million nested tags are over the size cap of a page; without that cap they must be as harmless.
        let settings = HtmlTextSettings { max_bytes: u64::MAX, ..defaults() };
        let mut document = Document { text: "<i>".repeat(1_000_000), ..Document::default() };
        let verdict = HtmlText::new(&settings).apply(&mut document, &mut Analysis::default());
        assert_eq!(reason(&verdict), "html_too_deep");
    }

    #[test]
    fn pages_at_the_limit_are_read() {
        let depth = 450;
        let body =
            format!("{}<p>{}</p>{}", "<div>".repeat(depth), SENTENCE.repeat(5), "</div>".repeat(depth));
        let verdict = run(&page(&body)).1;
        assert!(["kept", "no_main_text"].contains(&reason(&verdict)), "{verdict:?}");
    }

    /// Every block would hold the 400 elements again: tens of millions of them.
    #[test]
    fn unclosed_formatting_does_not_multiply() {
        let unclosed: String = (0..400).map(|n| format!("<b id={n}>")).collect();
        let html = format!("<div>{unclosed}</div>{}", "<div>x</div>".repeat(100_000));
        assert_eq!(reason(&run(&html).1), "html_unclosed_formatting");
    }

    #[test]
    fn no_comment_and_no_tag_gets_past_the_guard() {
        for start in ["<!-->", "<!-- --!>", "<svg><style>"] {
            let html = start.to_owned() + &"<g><div>".repeat(400_000);
            assert_eq!(reason(&run(&html).1), "html_too_deep", "{start}");
        }
        let attributes: String = (0..300_000).map(|n| format!(" a{n}")).collect();
        assert_eq!(reason(&run(&format!("<p{attributes}>x")).1), "html_many_attributes");
    }

    #[test]
    fn hostile_pages() {
        for entry in std::fs::read_dir("corpus/html").unwrap() {
            fuzz_html(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_tags_do_not_panic(parts in prop::collection::vec("<?/?(div|p|table|td|a|b|svg|math|template|select|!--)? ?(a=\"b\")?>?[ a-zé]{0,8}", 0..80)) {
            fuzz_html(parts.concat().as_bytes());
        }
    }
}
