//! From character spans to a mask over tokens, exactly as transformers does it.

use super::TemplateError;
use crate::tokenizer::Tokenizer;
use std::ops::Range;

/// Whether each token belongs to a span: from the token that holds a span's first character to the one that holds the
/// first byte of its last character, both included (`char_to_token` in transformers).
///
/// One difference, on purpose: transformers marks the whole sequence when a span ends within the first token.
pub(super) fn assistant_mask(
    tokenizer: &Tokenizer,
    text: &str,
    ids: &[u32],
    spans: &[Range<usize>],
) -> Result<Vec<bool>, TemplateError> {
    let mut mask = vec![false; ids.len()];
    if spans.iter().all(|span| span.is_empty()) {
        return Ok(mask);
    }
    let normal = tokenizer.normalize(text);
    if tokenizer.decode_bytes(ids, false) != normal.as_bytes() {
        return Err(TemplateError::Unaligned);
    }
    let mut ends = Vec::with_capacity(ids.len());
    let mut end = 0;
    for &id in ids {
        end += tokenizer.token_bytes(id).len();
        ends.push(end);
    }
    let holder = |byte: usize| ends.partition_point(|&end| end <= byte);
    let changed = normal != text;
    for span in spans.iter().filter(|span| !span.is_empty()) {
        // Normal forms are local, so the normal form of what comes before a boundary ends at it.
        let at = |byte: usize| if changed { tokenizer.normalize(&text[..byte]).len() } else { byte };
        let Some((last, _)) = normal[..at(span.end)].char_indices().next_back() else { continue };
        let (first, last) = (holder(at(span.start)), holder(last));
        for token in mask.iter_mut().take(last + 1).skip(first) {
            *token = true;
        }
    }
    Ok(mask)
}
