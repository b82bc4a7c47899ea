//! Cutting text into words for training, by the same code that cuts it for encoding.

use super::super::{Tokenizer, TokenizerError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::pipeline::{PipelineTokenizer, PreTokenizer, PreTokenizerScratch, Span, normalize_all};

/// Long documents are cut in parts of about this many bytes: the spans of a part are held at once.
const PART: usize = 1 << 18;

/// A tokenizer without merges, used for its normalizer and pre-tokenizer.
pub(super) struct Cutter {
    tokenizer: Tokenizer,
}

/// Memory that is used again for each text.
#[derive(Default)]
pub(super) struct Scratch {
    spans: Vec<Span>,
    inner: PreTokenizerScratch,
}

impl Cutter {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer }
    }

    pub(super) fn scratch(&self) -> Scratch {
        Scratch::default()
    }

    /// Calls `each` with the bytes of every word of `text`. Returns the parts that could not be cut.
    pub(super) fn words(
        &self,
        text: &str,
        scratch: &mut Scratch,
        mut each: impl FnMut(&[u8]) -> Result<(), TokenizerError>,
    ) -> Result<u64, TokenizerError> {
        let engine: &PipelineTokenizer = &self.tokenizer.inner.engine;
        let mut uncut = 0;
        for part in parts(text) {
            let Scratch { spans, inner } = &mut *scratch;
            spans.clear();
            // A pattern gives up on text that would take it forever, and a release candidate may panic on one: training
            // goes on without that part, as encoding falls back to its bytes.
            let cut = catch_unwind(AssertUnwindSafe(|| {
                let normal = normalize_all(engine.get_normalizers(), part, 0)?;
                engine.get_pre_tokenizer().pre_tokenize(&normal, inner, spans)?;
                Ok::<_, tokenizers::Error>(normal)
            }));
            let Ok(Ok(normal)) = cut else {
                uncut += 1;
                continue;
            };
            for span in spans.iter() {
                each(&normal.as_bytes()[span.range()])?;
            }
        }
        Ok(uncut)
    }
}

/// `text` in parts of about [`PART`] bytes, cut where no pre-tokenizer of ours can tell: behind a single line feed
/// between two characters that are not white space.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (part, after) = rest.split_at(part_end(rest));
        rest = after;
        Some(part)
    })
}

fn part_end(text: &str) -> usize {
    let mut from = PART;
    while from < text.len() {
        let Some(found) = text.as_bytes()[from..].iter().position(|&b| b == b'\n') else { break };
        let feed = from + found;
        let solid = |c: Option<char>| c.is_some_and(|c| !c.is_whitespace());
        if solid(text[..feed].chars().next_back()) && solid(text[feed + 1..].chars().next()) {
            return feed + 1;
        }
        from = feed + 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_between_lines_only() {
        let text = "line one\n\nline two\n three\nfour\n".repeat(30_000);
        let all: Vec<&str> = parts(&text).collect();
        assert!(all.len() > 2 && all.concat() == text);
        for part in &all[1..] {
            assert!(part.starts_with("four"), "{:?}", &part[..20]);
        }
        let solid = "a".repeat(3 * PART);
        assert_eq!(parts(&solid).count(), 1);
        assert_eq!(parts("").count(), 0);
    }
}
