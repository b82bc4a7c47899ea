//! What parsing a page would lead to, told from its bytes alone.
//!
//! A parser's time grows with the square of the depth, and with the square of a tag's attributes, so it must not see a
//! page that has too much of either. Tags, comments and raw text end here as they end for html5ever's tokenizer. Where
//! its tree builder may not follow (end tags across other elements, foreign content), elements count as still open: a
//! page can seem deeper than it is, never flatter.

/// Elements without content, and elements that another of their kind ends: a run of them does not nest. Of `html`,
/// `head` and `body` there is one each.
const FLAT: [&[u8]; 32] = [
    b"area",
    b"base",
    b"br",
    b"col",
    b"embed",
    b"hr",
    b"img",
    b"input",
    b"link",
    b"meta",
    b"param",
    b"source",
    b"track",
    b"wbr",
    b"p",
    b"li",
    b"dt",
    b"dd",
    b"option",
    b"optgroup",
    b"tr",
    b"td",
    b"th",
    b"thead",
    b"tbody",
    b"tfoot",
    b"colgroup",
    b"a",
    b"button",
    b"html",
    b"head",
    b"body",
];

/// Elements whose content is text up to their own end tag.
const RAW: [&[u8]; 9] =
    [b"script", b"style", b"textarea", b"title", b"noframes", b"xmp", b"iframe", b"noembed", b"noscript"];

/// Elements that a parser opens again in each following block until their end tag comes.
const FORMATTING: [&[u8]; 14] = [
    b"a", b"b", b"big", b"code", b"em", b"font", b"i", b"nobr", b"s", b"small", b"strike", b"strong", b"tt",
    b"u",
];

/// Elements in which other rules hold: nothing there is raw, few are flat.
const FOREIGN: [&[u8]; 3] = [b"svg", b"math", b"frameset"];

/// Elements that end foreign content by beginning.
#[rustfmt::skip]
const BREAKOUT: [&[u8]; 44] = [
    b"b", b"big", b"blockquote", b"body", b"br", b"center", b"code", b"dd", b"div", b"dl", b"dt", b"em", b"embed",
    b"h1", b"h2", b"h3", b"h4", b"h5", b"h6", b"head", b"hr", b"i", b"img", b"li", b"listing", b"menu", b"meta",
    b"nobr", b"ol", b"p", b"pre", b"ruby", b"s", b"small", b"span", b"strong", b"strike", b"sub", b"sup", b"table",
    b"tt", b"u", b"ul", b"var",
];

/// Elements whose end tags close whatever is open in them, up to the next of [`SCOPES`].
#[rustfmt::skip]
const BLOCKS: [&[u8]; 36] = [
    b"address", b"article", b"aside", b"blockquote", b"center", b"details", b"dialog", b"dir", b"div", b"dl",
    b"fieldset", b"figcaption", b"figure", b"footer", b"header", b"hgroup", b"listing", b"main", b"menu", b"nav",
    b"ol", b"pre", b"search", b"section", b"select", b"summary", b"ul", b"h1", b"h2", b"h3", b"h4", b"h5", b"h6",
    b"applet", b"marquee", b"object",
];

/// Elements that end tags do not reach across.
#[rustfmt::skip]
const SCOPES: [&[u8]; 16] = [
    b"applet", b"caption", b"table", b"td", b"th", b"marquee", b"object", b"template", b"mi", b"mo", b"mn", b"ms",
    b"mtext", b"annotation-xml", b"foreignobject", b"desc",
];

/// Elements that no end tag but a block's reaches across, beside [`BLOCKS`] and [`SCOPES`].
#[rustfmt::skip]
const SPECIAL: [&[u8]; 12] = [
    b"form", b"frame", b"frameset", b"title", b"textarea", b"style", b"script", b"noscript", b"iframe", b"noembed",
    b"noframes", b"xmp",
];

/// The most elements that a page's own tags and unclosed formatting may make: a megabyte of hostile markup could ask
/// for hundreds of millions.
const MOST_ELEMENTS: usize = 1_000_000;

/// The most attributes of a tag; real ones have dozens. Bytes are no measure: images stand in attributes.
const MOST_ATTRIBUTES: usize = 256;

/// What parsing a page would lead to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Sane,
    Deep,
    Swollen,
    Crowded,
}

/// Judges the tags of a page, of which elements may nest to `limit`.
pub(super) fn scan(html: &[u8], limit: usize) -> Shape {
    let mut scan = Scan { html, ..Scan::default() };
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'<', &html[at..]) {
        at += found + 1;
        let rest = &html[at..];
        if let Some(end) = comment_end(rest, &mut scan.shut_until, at) {
            at += end;
            continue;
        }
        let closes = rest.first() == Some(&b'/');
        let name_at = at + usize::from(closes);
        // Before its end is looked for: a run of `<` would be read again from each.
        if !html.get(name_at).is_some_and(u8::is_ascii_alphabetic) {
            continue;
        }
        let name = tag_name(&html[name_at..]);
        let tag = attributes(&html[name_at + name.len()..]);
        let behind = name_at + name.len() + tag.bytes;
        scan.count_attributes(name, tag.attributes);
        if closes {
            scan.end(name, at);
            at = behind;
        } else {
            at = scan.start(name, behind);
        }
        if let Some(shape) = scan.verdict(limit) {
            return shape;
        }
    }
    Shape::Sane
}

/// Which end tags of others an open element stops.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stops {
    None,
    /// All but those of [`BLOCKS`].
    Most,
    /// Of [`SCOPES`].
    All,
}

struct Open<'a> {
    name: &'a [u8],
    stops: Stops,
}

#[derive(Default)]
struct Scan<'a> {
    html: &'a [u8],
    open: Vec<Open<'a>>,
    unclosed: [usize; FORMATTING.len()],
    elements: usize,
    /// Attributes of the tag at hand, or of all `html` and `body`, whose attributes are joined.
    attributes: usize,
    of_roots: usize,
    /// Of [`FOREIGN`] among those open.
    foreign: usize,
    /// What a [`BREAKOUT`] in foreign content found open: the parser may have closed it, or not.
    doubtful: usize,
    /// Up to this byte end tags may be text, so that they close nothing.
    shut_until: usize,
}

impl<'a> Scan<'a> {
    fn count_attributes(&mut self, name: &[u8], attributes: usize) {
        self.attributes = attributes;
        if is(name, &[b"html", b"body"]) {
            self.of_roots += attributes;
            self.attributes = self.of_roots;
        }
    }

    fn verdict(&self, limit: usize) -> Option<Shape> {
        match () {
            () if self.attributes > MOST_ATTRIBUTES => Some(Shape::Crowded),
            () if self.elements > MOST_ELEMENTS => Some(Shape::Swollen),
            () if self.open.len() > limit => Some(Shape::Deep),
            () => None,
        }
    }

    /// A start tag that ends before `behind`; gives where to go on.
    fn start(&mut self, name: &'a [u8], behind: usize) -> usize {
        match FORMATTING.iter().position(|tag| same(name, tag)) {
            Some(kind) => self.unclosed[kind] += 1,
            None => self.elements += 1 + self.unclosed.iter().sum::<usize>(),
        }
        let foreign = self.foreign > 0;
        if is(name, &RAW) {
            let end = raw_end(self.html, behind, name);
            if !foreign {
                return end;
            }
            self.shut_until = self.shut_until.max(end);
        }
        let breaks_out = is(name, &BREAKOUT);
        if foreign && breaks_out {
            self.doubtful = self.open.len();
        }
        if !is(name, &FLAT) || foreign && !breaks_out {
            let stops = match () {
                () if is(name, &SCOPES) => Stops::All,
                () if is(name, &BLOCKS) || is(name, &SPECIAL) => Stops::Most,
                () => Stops::None,
            };
            self.open.push(Open { name, stops });
            self.foreign += usize::from(is(name, &FOREIGN));
        }
        behind
    }

    /// An end tag at byte `at`.
    fn end(&mut self, name: &[u8], at: usize) {
        if at < self.shut_until {
            return;
        }
        let place = match is_heading(name) {
            true => self.open.iter().rposition(|open| is_heading(open.name)),
            false => self.open.iter().rposition(|open| same(open.name, name)),
        };
        let formatting = FORMATTING.iter().position(|tag| same(name, tag));
        let across = place.map_or(&[][..], |place| &self.open[place + 1..]);
        let stops = across.iter().map(|open| open.stops).max().unwrap_or(Stops::None);
        if let Some(kind) = formatting.filter(|_| stops < Stops::All) {
            self.unclosed[kind] = self.unclosed[kind].saturating_sub(1);
        }
        let Some(place) = place else { return };
        let closes = match () {
            () if across.is_empty() => true,
            () if self.foreign > 0 => place >= self.doubtful && stops == Stops::None,
            () if same(name, b"template") => true,
            () if same(name, b"table") => !across.iter().any(|open| same(open.name, b"template")),
            () if same(name, b"form") => false,
            () if is(name, &BLOCKS) => stops < Stops::All,
            () => stops == Stops::None,
        };
        if closes {
            self.close(place);
        } else if self.foreign == 0 && stops < Stops::All && (formatting.is_some() || same(name, b"form")) {
            // These leave what is open in them.
            self.open.remove(place);
        }
    }

    fn close(&mut self, place: usize) {
        let closed = self.open.drain(place..);
        self.foreign -= closed.filter(|open| is(open.name, &FOREIGN)).count();
        self.doubtful = if self.foreign == 0 { 0 } else { self.doubtful.min(place) };
    }
}

fn is_heading(name: &[u8]) -> bool {
    matches!(name, [b'h' | b'H', b'1'..=b'6'])
}

fn same(name: &[u8], other: &[u8]) -> bool {
    name.eq_ignore_ascii_case(other)
}

fn is(name: &[u8], tags: &[&[u8]]) -> bool {
    tags.iter().any(|tag| same(name, tag))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

/// Bytes of the comment, declaration or instruction whose `<` stands before `rest`; `None` where a tag may begin.
fn comment_end(rest: &[u8], shut_until: &mut usize, at: usize) -> Option<usize> {
    if let Some(comment) = rest.strip_prefix(b"!--") {
        let early = [&b">"[..], b"->"].iter().find(|end| comment.starts_with(end)).map(|end| end.len());
        let ends = [&b"-->"[..], b"--!>"];
        let end = early.or_else(|| {
            let mut from = 0;
            while let Some(found) = find(&comment[from..], b"--") {
                let end = from + found;
                if let Some(mark) = ends.iter().find(|mark| comment[end..].starts_with(mark)) {
                    return Some(end + mark.len());
                }
                from = end + 1;
            }
            None
        });
        return Some(end.map_or(rest.len(), |end| 3 + end));
    }
    if rest.len() >= 8 && same(&rest[..8], b"![CDATA[") {
        // Text in foreign content, and elsewhere a comment that the first `>` ends.
        if at >= *shut_until {
            *shut_until = at + find(rest, b"]]>").unwrap_or(rest.len());
        }
        return Some(8);
    }
    let bogus = match rest {
        [b'!' | b'?', ..] => true,
        [b'/', next, ..] => !next.is_ascii_alphabetic(),
        _ => false,
    };
    bogus.then(|| memchr::memchr(b'>', rest).map_or(rest.len(), |end| end + 1))
}

fn ends_name(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ' | b'/' | b'>')
}

fn tag_name(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|byte| ends_name(*byte)).unwrap_or(bytes.len())]
}

/// What stands between a tag's name and what follows the tag.
struct Tag {
    bytes: usize,
    attributes: usize,
}

/// Reads attributes as the tokenizer does: a `>` in quotes is a value's, and quotes begin only behind `=`.
fn attributes(bytes: &[u8]) -> Tag {
    enum At {
        Gap,
        Name,
        AfterName,
        Equals,
        Value,
    }
    let (mut place, mut at, mut attributes) = (0, At::Gap, 0);
    while let Some(&byte) = bytes.get(place) {
        place += 1;
        let space = ends_name(byte) && !matches!(byte, b'/' | b'>');
        at = match (at, byte) {
            (_, b'>') => return Tag { bytes: place, attributes },
            (At::Gap | At::Name | At::AfterName, b'/') => At::Gap,
            (At::Name | At::AfterName, b'=') => At::Equals,
            (At::Name | At::AfterName, _) if space => At::AfterName,
            (At::Gap | At::AfterName, _) if !space => {
                attributes += 1;
                At::Name
            }
            (At::Equals, b'"' | b'\'') => {
                place += memchr::memchr(byte, &bytes[place..]).map_or(bytes.len() - place, |end| end + 1);
                At::Gap
            }
            (At::Equals, _) if !space => At::Value,
            (At::Value, _) if space => At::Gap,
            (same, _) => same,
        };
    }
    Tag { bytes: place, attributes }
}

/// Where the end tag of a raw element begins whose content begins at `from`.
fn raw_end(html: &[u8], from: usize, name: &[u8]) -> usize {
    let script = same(name, b"script");
    let tag = |at: usize| begins_with_name(&html[at..], name);
    let (mut at, mut hidden, mut inner) = (from, false, false);
    while let Some(found) = memchr::memchr2(b'<', b'-', &html[at..]) {
        at += found;
        let rest = &html[at..];
        match () {
            () if rest.starts_with(b"</") && tag(at + 2) => {
                if !inner {
                    return at;
                }
                inner = false;
            }
            () if script && rest.starts_with(b"<!--") && !hidden => {
                hidden = true;
                // Its own dashes may also be those of its end.
                at += 1;
            }
            () if script && hidden && rest.starts_with(b"-->") => (hidden, inner) = (false, false),
            () if hidden && rest.starts_with(b"<") && tag(at + 1) => inner = true,
            () => {}
        }
        at += 1;
    }
    html.len()
}

fn begins_with_name(bytes: &[u8], name: &[u8]) -> bool {
    let (begin, rest) = bytes.split_at(name.len().min(bytes.len()));
    same(begin, name) && rest.first().is_some_and(|byte| ends_name(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(html: &str) -> Shape {
        scan(html.as_bytes(), 10)
    }

    #[test]
    fn unclosed_paragraphs_and_scripts_are_not_depth() {
        let sane = |html: &str| assert_eq!(shape(html), Shape::Sane, "{}", &html[..html.len().min(60)]);
        sane(&"<p>a<br><li>b".repeat(10_000));
        sane(&format!("<script>{}</script><div>", "'<div>'".repeat(1000)));
        sane(&format!("<noscript>{}</noscript><div>", "<div>".repeat(1000)));
        sane(&format!("<!--{}--><div>", "<div>".repeat(1000)));
        sane(&"<div><svg viewBox='0 0 1 1'><title>a</title><path d='M0'></path></svg></div>".repeat(100));
        sane(&"<div><b><p>x</b></p><h2>y</h3></div>".repeat(100));
        sane(&"<table><tr><td><div>x</td></tr></table>".repeat(100));
        sane(&"<form><div><input></div></form>".repeat(100));
        assert_eq!(shape(&"<DIV>".repeat(11)), Shape::Deep);
    }

    /// What hides tags from a careless reader of comments, quotes and raw text, or closes nothing.
    #[test]
    fn nothing_hides_depth() {
        for (before, unit) in [
            ("<!-->", "<div>"),
            ("<!--->", "<div>"),
            ("<!-- --!>", "<div>"),
            ("<svg><style>", "<g>"),
            ("<math><title>", "<g>"),
            ("<svg><title/>", "<g>"),
            ("<frameset><style>", "<frameset>"),
            ("<script><!--></script>", "<div>"),
            ("<script></scripts></script>", "<div>"),
            ("<a =\">", "<div>"),
            ("<svg>", "<a>"),
            ("", "<div><!x</div>"),
            ("", "<div><?x</div>"),
            ("", "<div></ </div>"),
            ("", "<div a=\"</div>\">"),
            ("", "<div a='</div>' b>"),
            ("", "<div_x></div>"),
            ("", "<div><iframe></div></iframe>"),
            ("", "<div><script><!--<script></script></div></script>"),
            ("", "<x-y><div></x-y>"),
            ("", "<b><div></b>"),
            ("", "<div><table></div>"),
            ("", "<form><div></form>"),
            ("<body>", "<div></body>"),
            ("", "<svg><section><div></section>"),
            ("", "<svg><section><p><x-y></section>"),
            ("", "<svg><span></svg>"),
            ("<svg>", "<g><![CDATA[></g>]]>"),
            ("", "<svg><foreignObject><div></svg>"),
        ] {
            assert_eq!(shape(&(before.to_owned() + &unit.repeat(1000))), Shape::Deep, "{before}{unit}…");
        }
    }

    #[test]
    fn attributes_are_counted() {
        let tag = |count: usize| (0..count).map(|n| format!(" a{n}=\"<x y='>\"")).collect::<String>();
        assert_eq!(shape(&format!("<p{}>", tag(MOST_ATTRIBUTES))), Shape::Sane);
        assert_eq!(shape(&format!("<p{}>", tag(MOST_ATTRIBUTES + 1))), Shape::Crowded);
        assert_eq!(shape(&format!("<p x{}", "/a".repeat(MOST_ATTRIBUTES))), Shape::Crowded);
        assert_eq!(shape(&format!("</p x{}", "/a".repeat(MOST_ATTRIBUTES))), Shape::Crowded);
        let bodies: String = (0..=MOST_ATTRIBUTES).map(|n| format!("<body a{n}>")).collect();
        assert_eq!(shape(&bodies), Shape::Crowded);
        assert_eq!(shape(&format!("<img src='data:{}'>", "A".repeat(1 << 20))), Shape::Sane);
    }

    #[test]
    fn unclosed_formatting_is_counted() {
        assert_eq!(shape(&"<p><b>x</b> and <i>y</i>".repeat(1000)), Shape::Sane);
        let unclosed = "<a>".repeat(400);
        assert_eq!(shape(&format!("{unclosed}{}", "<p>x".repeat(10_000))), Shape::Swollen);
    }
}
