//! `{% generation %}` blocks: what the assistant said, hence what the loss is on (spec `CT-11`).
//!
//! The engine does not know the tag, so it is renamed to a call of [`FUNCTION`], which frames its body in two marks: a
//! pair of private-use characters that neither the template nor the conversation contains. They are cut out again
//! after rendering. Nothing said in a conversation can therefore move a span.

use super::TemplateError;
use std::ops::Range;

/// The function that renamed blocks call.
pub(super) const FUNCTION: &str = "__generation__";

/// The most words and signs in one tag, and the most `elif` tags; real templates stay far below a tenth of it. Both
/// nest in the parser, which recurses without a limit of its own.
const MAX_TOKENS: usize = 2000;

/// Renames the block tags, leaving strings, comments and raw blocks alone. Also says whether there was one.
pub(super) fn rename_blocks(source: &str) -> Result<(String, bool), String> {
    let mut elifs = 0;
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    let mut found = false;
    while let Some(open) = ["{%", "{{", "{#"].into_iter().filter_map(|opener| rest.find(opener)).min() {
        let (before, tail) = rest.split_at(open);
        out.push_str(before);
        let mut end = match &tail[..2] {
            "{#" => tail.find("#}").map_or(tail.len(), |i| i + 2),
            "{{" => end_of_tag(tail, "}}")?,
            _ => end_of_tag(tail, "%}")?,
        };
        elifs += usize::from(tail[2..end].trim_start_matches(['-', '+']).trim_start().starts_with("elif"));
        if elifs > MAX_TOKENS {
            return Err(format!("more than {MAX_TOKENS} elif tags"));
        }
        let new = match tag_name(&tail[..end]) {
            "generation" => Some(tail[..end].replacen("generation", &format!("call {FUNCTION}()"), 1)),
            "endgeneration" => Some(tail[..end].replacen("endgeneration", "endcall", 1)),
            "raw" => {
                end += end_of_raw(&tail[end..]);
                None
            }
            _ => None,
        };
        found |= new.is_some();
        out.push_str(new.as_deref().unwrap_or(&tail[..end]));
        rest = &tail[end..];
    }
    out.push_str(rest);
    Ok((out, found))
}

/// The length of a raw block's body with its end tag; all of `body` when there is none.
fn end_of_raw(body: &str) -> usize {
    for (start, _) in body.match_indices("{%") {
        if let Some(length) = body[start..].find("%}").map(|i| i + 2)
            && tag_name(&body[start..start + length]) == "endraw"
        {
            return start + length;
        }
    }
    body.len()
}

/// The end of a tag, past `close` or of the source, skipping quoted strings.
fn end_of_tag(tail: &str, close: &str) -> Result<usize, String> {
    let bytes = tail.as_bytes();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let mut quote = None;
    let (mut i, mut tokens) = (2, 0);
    while i < bytes.len() {
        match (quote, bytes[i]) {
            (Some(_), b'\\') => i += 1,
            (Some(q), b) if q == b => quote = None,
            (Some(_), _) => {}
            (None, b @ (b'"' | b'\'')) => quote = Some(b),
            (None, _) if bytes[i..].starts_with(close.as_bytes()) => return Ok(i + 2),
            (None, b) if b.is_ascii_whitespace() || (word(b) && word(bytes[i - 1])) => {}
            (None, _) => tokens += 1,
        }
        if tokens > MAX_TOKENS {
            return Err(format!("a tag of more than {MAX_TOKENS} words and signs"));
        }
        i += 1;
    }
    Ok(tail.len())
}

/// The only word of a block tag, or nothing when there are more.
fn tag_name(tag: &str) -> &str {
    let inner = tag.strip_prefix("{%").and_then(|t| t.strip_suffix("%}")).unwrap_or("");
    inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim()
}

/// The two characters that frame generation blocks in one rendering.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) open: char,
    pub(super) close: char,
}

impl Marks {
    /// Two characters of the last private-use plane that occur in none of `inputs`.
    pub(super) fn absent_from<'a>(inputs: impl IntoIterator<Item = &'a str>) -> Option<Marks> {
        let mut used: Vec<char> =
            inputs.into_iter().flat_map(str::chars).filter(|&c| c >= '\u{100000}').collect();
        used.sort_unstable();
        let mut free = ('\u{100000}'..='\u{10FFFD}').filter(|c| used.binary_search(c).is_err());
        Some(Marks { open: free.next()?, close: free.next()? })
    }

    /// `text` without the marks, and the byte ranges that they framed; of nested ones the outermost.
    pub(super) fn cut(self, text: &str) -> Result<(String, Vec<Range<usize>>), TemplateError> {
        let mut out = String::with_capacity(text.len());
        let mut spans = Vec::new();
        let (mut depth, mut start) = (0usize, 0);
        for part in text.split_inclusive([self.open, self.close]) {
            let body = part.trim_end_matches([self.open, self.close]);
            out.push_str(body);
            if part.ends_with(self.open) {
                start = if depth == 0 { out.len() } else { start };
                depth += 1;
            } else if part.ends_with(self.close) {
                depth = depth.checked_sub(1).ok_or(TemplateError::BrokenGeneration)?;
                if depth == 0 {
                    spans.push(start..out.len());
                }
            }
        }
        if depth > 0 {
            return Err(TemplateError::BrokenGeneration);
        }
        Ok((out, spans))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(source: &str) -> String {
        rename_blocks(source).unwrap().0
    }

    #[test]
    fn only_real_tags_are_renamed() {
        let call = format!("call {FUNCTION}()");
        assert_eq!(
            renamed("a{%- generation -%}b{%+endgeneration%}c"),
            format!("a{{%- {call} -%}}b{{%+endcall%}}c")
        );
        for same in [
            "{{ '{% generation %}' }}",
            "{# {% generation %} #}",
            "{% raw %}{% generation %}'{% endraw %}",
            "{% set generation = 1 %}{{ generation }}",
            "{% generation",
            "{{ \"\\\"{% generation %}\" }}",
            "{% if x == '%}{% generation %}' %}",
            "{%",
            "{#",
            "{% raw %}{%",
        ] {
            assert_eq!(renamed(same), same);
        }
        let after_raw = renamed("{% raw %}{{{% x {%endraw%}{% generation %}");
        assert_eq!(after_raw, format!("{{% raw %}}{{{{{{% x {{%endraw%}}{{% {call} %}}"));
    }

    #[test]
    fn marks_are_never_in_the_input() {
        let marks = Marks::absent_from(["\u{100000}x", "\u{100002}"]).unwrap();
        assert_eq!((marks.open, marks.close), ('\u{100001}', '\u{100003}'));
        let all: String = ('\u{100000}'..='\u{10FFFD}').collect();
        assert!(Marks::absent_from([all.as_str()]).is_none());
    }

    #[test]
    fn spans_are_cut_out() {
        let marks = Marks { open: '<', close: '>' };
        assert_eq!(marks.cut("a<bc><>é<d<e>>").unwrap(), ("abcéde".into(), vec![1..3, 3..3, 5..7]));
        assert!(marks.cut("a<").is_err() && marks.cut(">").is_err());
    }
}
