//! SVG plots for one-file HTML reports: no fonts, no scripts, readable in light and dark mode.

mod bar;
mod grid;
mod line;
mod scale;
mod scatter;

use std::fmt::Write;

pub use bar::{Bar, BarChart};
pub use grid::{GridPlot, Shade, Square};
pub use line::{LinePlot, Panel, Series};
pub use scatter::{Dot, ScatterPlot};

/// Width of every plot in SVG units; the page scales it.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 16.0;

/// Colours that stay apart for colour-blind readers (Okabe–Ito, darkened on light, lightened on dark ground).
const LIGHT: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#b35992", "#8c7100", "#3a8fc1", "#555555"];
const DARK: [&str; 7] = ["#5ab4ec", "#ff8f4a", "#3fd6a8", "#e69acb", "#f0e442", "#9bd3f5", "#bbbbbb"];

/// The start of a drawing. Classes are prefixed because styles of an inline SVG reach the whole page.
fn open(height: f64, title: &str) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"splot\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
         font-family=\"system-ui,sans-serif\" font-size=\"12\" width=\"100%\"><title>{}</title><style>",
        number(height),
        escape(title)
    );
    let colours = |svg: &mut String, colours: &[&str]| {
        for (index, colour) in colours.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(svg, ".splot .s{index}{{stroke:{colour}}}.splot .f{index}{{fill:{colour}}}");
        }
    };
    svg.push_str(
        ".splot{max-width:960px;color:#222}.splot text{fill:currentColor;stroke:none}\
         .splot .grid{stroke:currentColor;opacity:.15}.splot .axis{stroke:currentColor;opacity:.6;fill:none}\
         .splot .line{fill:none;stroke-width:1.6;stroke-linejoin:round}",
    );
    colours(&mut svg, &LIGHT);
    svg.push_str("@media(prefers-color-scheme:dark){.splot{color:#ddd}");
    colours(&mut svg, &DARK);
    svg.push_str("}</style>");
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let (x, y) = (number(x), number(y));
    let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>", escape(content));
}

fn straight(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = write!(
        svg,
        "<line class=\"{class}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
        number(from.0),
        number(from.1),
        number(to.0),
        number(to.1)
    );
}

/// A y label, turned, centred on the panel from `top` over `height`.
fn y_label(svg: &mut String, top: f64, height: f64, label: &str) {
    let middle = number(top + height / 2.0);
    let _ = write!(
        svg,
        "<text x=\"14\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {middle})\">{}</text>",
        escape(label)
    );
}

/// Horizontal grid lines with their values.
fn y_ticks(svg: &mut String, ticks: &[scale::Tick], y: impl Fn(f64) -> f64) {
    for tick in ticks {
        let at = y(tick.value);
        straight(svg, "grid", (LEFT, at), (WIDTH - RIGHT, at));
        text(svg, LEFT - 6.0, at + 4.0, "end", &tick.label);
    }
}

/// Coordinates with at most two decimals keep reports small.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text for XML; control characters that XML forbids become `?`.
fn escape(content: &str) -> String {
    content
        .chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\t' | '\n' | '\r' => " ".to_owned(),
            c if c.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&c) => "?".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

/// An estimate, wide rather than narrow, of the width of `content` in 12-unit type.
fn text_width(content: &str) -> f64 {
    content.chars().map(|c| if c.is_ascii() { 6.8 } else { 12.0 }).sum()
}

/// At most `limit` characters.
fn clip(content: &str, limit: usize) -> String {
    if content.chars().count() <= limit {
        return content.to_owned();
    }
    content.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Tags balance, attributes are quoted, text is escaped, every number is finite.
    pub(crate) fn assert_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            assert!(!rest[..start].contains('>'), "stray > in {:?}", &rest[..start]);
            let end = rest[start..].find('>').expect("unclosed tag") + start;
            let tag = &rest[start + 1..end];
            assert!(tag.matches('"').count().is_multiple_of(2) && !tag.contains('<'), "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap());
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty() && rest.is_empty(), "{open:?} {rest:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for (at, _) in svg.match_indices('&') {
            assert!(["&amp;", "&lt;", "&gt;", "&quot;"].iter().any(|entity| svg[at..].starts_with(entity)));
        }
    }

    #[test]
    fn text_is_escaped_and_numbers_are_short() {
        assert_eq!(escape("a<b>&\"\u{0}\n"), "a&lt;b&gt;&amp;&quot;? ");
        assert_eq!((number(1.0), number(1.234), number(100.0)), ("1".into(), "1.23".into(), "100".into()));
        assert_eq!(clip("abcdef", 4), "abc…");
    }
}
