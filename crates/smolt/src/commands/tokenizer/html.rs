//! Sentences token by token, as a page of one file.

use crate::report::escape;
use std::fmt::Write;

const HEAD: &str = "<!doctype html>\n<html><head><meta charset=\"utf-8\"><title>Tokenizers side by side</title>\n<style>\n\
body{font:16px/1.6 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222;background:#fff}\n\
th{text-align:left;font-weight:600;padding:.2rem 1rem .2rem 0;vertical-align:top;white-space:nowrap}\n\
td{padding:.2rem 1rem .2rem 0;vertical-align:top}\n\
.n{text-align:right}\n\
span{white-space:pre-wrap;border-radius:3px;padding:1px 0}\n\
.a{background:#cfe3ff}.b{background:#ffe0b3}.c{background:#d5f0cf}.d{background:#f3d3ee}\n\
</style></head><body>\n";

/// One table per sentence: tokenizer, number of tokens, the sentence with its tokens in changing colours.
pub(super) fn page(names: &[&str], sentences: &[(String, Vec<Vec<String>>)]) -> String {
    let mut page = HEAD.to_owned();
    for (sentence, cut) in sentences {
        let _ = writeln!(page, "<h2 dir=\"auto\">{}</h2>\n<table>", escape(sentence));
        for (name, tokens) in names.iter().zip(cut) {
            let _ = write!(
                page,
                "<tr><th>{}</th><td class=\"n\">{}</td><td dir=\"auto\">",
                escape(name),
                tokens.len()
            );
            for (token, colour) in tokens.iter().zip("abcd".chars().cycle()) {
                let shown = token.replace('\n', "⏎\n").replace('\t', "⇥");
                let _ = write!(page, "<span class=\"{colour}\">{}</span>", escape(&shown));
            }
            page.push_str("</td></tr>\n");
        }
        page.push_str("</table>\n");
    }
    page + "</body></html>\n"
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_stays_text() {
        let page = super::page(&["a<b"], &[("<script>".into(), vec![vec!["<scr".into(), "ipt>".into()]])]);
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("<td class=\"n\">2</td>") && page.contains("&lt;scr"), "{page}");
    }
}
