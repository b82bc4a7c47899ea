//! From character spans to a mask over tokens, exactly as transformers does it.

use super::TemplateError;
use crate::tokenizer::Tokenizer;
use std::ops::Range;

/// Whether each token holds something of a span.
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
    // Where what comes before a boundary ends in the normal form; nowhere, if it joins with what comes after.
    let at = |byte: usize| match changed {
        false => Ok(byte),
        true => {
            let before = tokenizer.normalize(&text[..byte]);
            normal.starts_with(&before).then_some(before.len()).ok_or(TemplateError::Unaligned)
        }
    };
    for span in spans.iter().filter(|span| !span.is_empty()) {
        let (start, end) = (at(span.start)?, at(span.end)?);
        if start < end {
            let (first, last) = (holder(start), holder(end - 1));
            mask.iter_mut().take(last + 1).skip(first).for_each(|token| *token = true);
        }
    }
    Ok(mask)
}
