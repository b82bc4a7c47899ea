//! Masks personal data: email and public IP addresses as datatrove does it (FineWeb), and, when asked for, bank
//! accounts, payment cards and telephone numbers.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};
use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::step::{Step, Verdict};

smolt_run::recipe! {
    /// Masks personal data; how many of each kind goes to the metadata under `pii`.
    pub struct PiiSettings {
        /// Mask email addresses.
        pub emails: bool = true,
        /// Mask IPv4 addresses.
        pub ips: bool = true,
        /// But only those that the whole internet can reach.
        pub public_ips_only: bool = true,
        /// Mask bank accounts (IBAN, with valid check digits).
        pub ibans: bool = false,
        /// Mask payment cards (with valid check digit).
        pub cards: bool = false,
        /// Mask telephone numbers: international ones with `+`, and North American ones.
        pub phones: bool = false,
        /// What emails become, in turn within a document.
        pub email_replacements: Vec<String> = strings(&["email@example.com", "firstname.lastname@example.org"]),
        /// What IP addresses become, in turn within a document.
        pub ip_replacements: Vec<String> = strings(&["22.214.171.124", "126.96.36.199", "188.8.131.52", "184.108.40.206", "220.127.116.11", "18.104.22.168"]),
        /// What bank accounts become.
        pub iban_replacement: String = String::from("<IBAN>"),
        /// What payment cards become.
        pub card_replacement: String = String::from("<CARD>"),
        /// What telephone numbers become.
        pub phone_replacement: String = String::from("<PHONE>"),
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// Metadata key of the counts.
pub const PII: &str = "pii";

/// Where a kind of personal data stands in a text, in order and without overlap.
type Find = fn(&str, &mut dyn FnMut(Range<usize>));

struct Kind {
    name: &'static str,
    find: Find,
    replacements: Vec<String>,
}

/// The step `pii`.
pub struct Pii {
    kinds: Vec<Kind>,
}

impl Pii {
    /// From its settings.
    pub fn new(settings: &PiiSettings) -> Self {
        let one = |text: &String| vec![text.clone()];
        let ips: Find = if settings.public_ips_only { public_ips } else { all_ips };
        let kinds: [(bool, &'static str, Find, Vec<String>); 5] = [
            (settings.emails, "emails", emails, settings.email_replacements.clone()),
            (settings.ips, "ips", ips, settings.ip_replacements.clone()),
            (settings.ibans, "ibans", ibans, one(&settings.iban_replacement)),
            (settings.cards, "cards", cards, one(&settings.card_replacement)),
            (settings.phones, "phones", phones, one(&settings.phone_replacement)),
        ];
        let asked = kinds.into_iter().filter(|kind| kind.0);
        Self { kinds: asked.map(|(_, name, find, replacements)| Kind { name, find, replacements }).collect() }
    }
}

impl Step for Pii {
    fn apply(&self, document: &mut Document, analysis: &mut Analysis) -> Verdict {
        let mut counts = Map::new();
        for kind in &self.kinds {
            if let (Cow::Owned(text), count) = mask(&document.text, kind) {
                document.text = text;
                counts.insert(kind.name.to_owned(), Value::from(count));
            }
        }
        if !counts.is_empty() {
            document.metadata.insert(PII.to_owned(), Value::Object(counts));
            analysis.text_changed();
        }
        Verdict::Keep
    }
}

fn mask<'a>(text: &'a str, kind: &Kind) -> (Cow<'a, str>, usize) {
    let (mut out, mut done, mut count) = (String::new(), 0, 0);
    (kind.find)(text, &mut |place| {
        if out.is_empty() {
            out.reserve(text.len());
        }
        out.push_str(&text[done..place.start]);
        if !kind.replacements.is_empty() {
            out.push_str(&kind.replacements[count % kind.replacements.len()]);
        }
        done = place.end;
        count += 1;
    });
    if count == 0 {
        return (Cow::Borrowed(text), 0);
    }
    out.push_str(&text[done..]);
    (Cow::Owned(out), count)
}

/// A pattern of this file; one that does not compile is found by every test, and matches nothing.
fn pattern(source: &str) -> Option<Regex> {
    Regex::new(source).ok()
}

const OCTET: &str = "(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)";

fn email_pattern() -> Option<&'static Regex> {
    static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+";
        let label = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
        let literal = format!(r"\[(?:{OCTET}\.){{3}}(?:{OCTET}|[A-Za-z0-9-]*[A-Za-z0-9]:)\]");
        pattern(&format!(r"\b{atom}(?:\.{atom})*@(?:(?:{label}\.)+{label}|{literal})"))
    });
    PATTERN.as_ref()
}

/// An address has no spaces, so only the words around each `@` are looked at.
fn emails(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let Some(pattern) = email_pattern() else { return };
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'@', &text.as_bytes()[from..]) {
        let at = from + at;
        let start = text[from..at].rfind(char::is_whitespace).map_or(from, |place| from + place);
        let end = text[at..].find(char::is_whitespace).map_or(text.len(), |place| at + place);
        for place in pattern.find_iter(&text[start..end]) {
            found(start + place.start()..start + place.end());
        }
        from = end;
    }
}

fn ips(text: &str, found: &mut dyn FnMut(Range<usize>), wanted: fn(Ipv4Addr) -> bool) {
    static PATTERN: LazyLock<Option<Regex>> =
        LazyLock::new(|| pattern(&format!(r"(?:{OCTET}\.){{3}}{OCTET}")));
    let Some(pattern) = &*PATTERN else { return };
    for place in pattern.find_iter(text) {
        if place.as_str().parse().is_ok_and(wanted) {
            found(place.range());
        }
    }
}

fn all_ips(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    ips(text, found, |_| true);
}

fn public_ips(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    ips(text, found, is_public);
}

/// As the IANA registry of special addresses has it, and Python's `is_global`.
fn is_public(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127, ..) | (240.., ..) => true,
        (100, 64..=127, _) | (169, 254, _) | (172, 16..=31, _) | (192, 168, _) | (198, 18..=19, _) => true,
        (192, 0, 0) => !matches!(d, 9 | 10),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => true,
        _ => false,
    };
    !special
}

/// Length of an IBAN by country.
const IBAN_LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 \
    EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 \
    LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 \
    RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20";

/// Looks at each place where `pattern` begins to match. `length` tells how much of the text from there on counts, of which
/// the pattern's match is a part; where nothing does, the next place is looked for right behind its first character.
fn each_place(
    pattern: &Regex,
    text: &str,
    found: &mut dyn FnMut(Range<usize>),
    length: fn(text: &str, matched: &str) -> Option<usize>,
) {
    let mut from = 0;
    while let Some(place) = pattern.find_at(text, from) {
        let start = place.start();
        // Every match begins with a character of one byte.
        from = start + 1;
        if let Some(length) = length(&text[start..], place.as_str()) {
            from = start + length;
            found(start..from);
        }
    }
}

fn ibans(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    static PATTERN: LazyLock<Option<Regex>> =
        LazyLock::new(|| pattern(r"(?-u:\b)[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4}"));
    let Some(pattern) = &*PATTERN else { return };
    each_place(pattern, text, found, |rest, _| iban_at(rest));
}

/// Bytes of the IBAN that `text` begins with, spaces between its characters included.
fn iban_at(text: &str) -> Option<usize> {
    let entry = IBAN_LENGTHS.split_whitespace().find(|entry| text.starts_with(&entry[..2]))?;
    let length: usize = entry[2..].parse().ok()?;
    let bytes = text.as_bytes();
    let mut letters = Vec::with_capacity(length);
    let mut end = 0;
    while letters.len() < length {
        match bytes.get(end)? {
            b' ' if bytes[end - 1] != b' ' => {}
            letter if letter.is_ascii_digit() || letter.is_ascii_uppercase() => letters.push(*letter),
            _ => return None,
        }
        end += 1;
    }
    if text[end..].starts_with(|c: char| c.is_alphanumeric()) {
        return None;
    }
    letters.rotate_left(4);
    let add = |rest: u32, letter: &u8| match letter {
        b'0'..=b'9' => (rest * 10 + u32::from(letter - b'0')) % 97,
        _ => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    };
    (letters.iter().fold(0, add) == 1).then_some(end)
}

fn digits(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
}

fn cards(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    static PATTERN: LazyLock<Option<Regex>> =
        LazyLock::new(|| pattern(r"(?-u:\b)[2-6](?:[ -]?[0-9]){12,18}"));
    let Some(pattern) = &*PATTERN else { return };
    each_place(pattern, text, found, card_at);
}

/// Bytes of the card number that `text` begins with: as many groups of `matched` as make one.
fn card_at(text: &str, matched: &str) -> Option<usize> {
    let goes_on = |end: usize| text[end..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let ends = (13..=matched.len()).rev().filter(|&end| matched.as_bytes()[end - 1].is_ascii_digit());
    ends.filter(|&end| !goes_on(end)).find(|&end| is_card(&digits(&matched[..end])))
}

/// The ranges of the large issuers, and Luhn's check digit.
fn is_card(digits: &[u8]) -> bool {
    let prefix = digits.iter().take(4).fold(0u32, |sum, digit| sum * 10 + u32::from(*digit));
    let known = match digits.len() {
        13 | 19 => (4000..5000).contains(&prefix),
        14 => (3000..3060).contains(&prefix) || matches!(prefix / 100, 36 | 38 | 39),
        15 => matches!(prefix / 100, 34 | 37),
        16 => {
            matches!(prefix, 2221..=2720 | 3528..=3589 | 4000..=5599 | 6011)
                || matches!(prefix / 100, 64 | 65)
        }
        _ => false,
    };
    let luhn = |sum: u32, (place, digit): (usize, &u8)| {
        let value = u32::from(*digit) * (1 + place as u32 % 2);
        sum + value / 10 + value % 10
    };
    known && digits.iter().rev().enumerate().fold(0, luhn) % 10 == 0
}

fn phones(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
        pattern(
            r"\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,5}\)?){2,6}(?-u:\b)|(?:\([2-9][0-9]{2}\) ?|(?-u:\b)[2-9][0-9]{2}[-. ])[2-9][0-9]{2}[-. ][0-9]{4}(?-u:\b)",
        )
    });
    let Some(pattern) = &*PATTERN else { return };
    each_place(pattern, text, found, |_, matched| phone_in(matched));
}

/// Bytes of the telephone number that `matched` begins with: as many groups as make one, which other numbers may follow.
fn phone_in(matched: &str) -> Option<usize> {
    let mut number = matched;
    while !(8..=15).contains(&digits(number).len()) {
        let border = number.rfind([' ', '.', '-'])?;
        number = number[..border].trim_end_matches([' ', '.', '-']);
    }
    Some(number.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn everything() -> PiiSettings {
        PiiSettings { ibans: true, cards: true, phones: true, ..smolt_run::recipe::defaults().unwrap() }
    }

    fn run(settings: &PiiSettings, text: &str) -> Document {
        let mut document = Document { text: text.to_owned(), ..Document::default() };
        assert!(Pii::new(settings).apply(&mut document, &mut Analysis::default()).keeps());
        document
    }

    fn masked(text: &str) -> String {
        run(&everything(), text).text
    }

    #[test]
    fn emails_in_turn_and_counted() {
        let text =
            "To: a.b+c@mail.example.co.uk, x@y.zz; not@localhost, @user, a@b.\nz@[192.168.0.1] (q@r.st)";
        let document = run(&smolt_run::recipe::defaults().unwrap(), text);
        assert_eq!(
            document.text,
            "To: email@example.com, firstname.lastname@example.org; not@localhost, @user, a@b.\n\
             email@example.com (firstname.lastname@example.org)"
        );
        assert_eq!(document.metadata[PII]["emails"], 4);
        assert!(run(&everything(), "nothing").metadata.is_empty());
    }

    #[test]
    fn public_addresses_only() {
        let text = "8.8.8.8 10.0.0.1 192.168.1.1 172.16.0.1 172.32.0.1 100.64.1.1 127.0.0.1 08.8.8.8 1.2.3 1.2.3.400";
        let masks = "22.214.171.124 10.0.0.1 192.168.1.1 172.16.0.1 126.96.36.199 100.64.1.1 127.0.0.1 08.8.8.8 1.2.3 188.8.131.520";
        assert_eq!(masked(text), masks);
        let all = PiiSettings { public_ips_only: false, ip_replacements: vec!["IP".into()], ..everything() };
        assert_eq!(run(&all, "10.0.0.1").text, "IP");
    }

    #[test]
    fn accounts_with_right_check_digits() {
        assert_eq!(masked("DE89 3704 0044 0532 0130 00 AND GB82WEST12345698765432."), "<IBAN> AND <IBAN>.");
        assert_eq!(masked("REF AB12 DE89 3704 0044 0532 0130 00"), "REF AB12 <IBAN>");
        assert_eq!(masked("DE88 3704 0044 0532 0130 00"), "DE88 3704 0044 0532 0130 00");
        assert_eq!(masked("DE89370400440532013000X"), "DE89370400440532013000X");
    }

    #[test]
    fn cards_with_right_check_digit() {
        assert_eq!(masked("pay 4111 1111 1111 1111 or 378282246310005"), "pay <CARD> or <CARD>");
        assert_eq!(masked("4111 1111 1111 1112 1234567890123"), "4111 1111 1111 1112 1234567890123");
        assert_eq!(masked("4111 1111 1111 1111 123"), "<CARD> 123");
        assert_eq!(masked("4111 1111 1111 1111 12/26"), "<CARD> 12/26");
        assert_eq!(masked("no. 2 4111 1111 1111 1111"), "no. 2 <CARD>");
        assert_eq!(masked("41111111111111112 4111111111111111x"), "41111111111111112 4111111111111111x");
    }

    #[test]
    fn telephones() {
        assert_eq!(
            masked("+49 30 901820, +1 (212) 555-0123 or (212) 555-0123."),
            "<PHONE>, <PHONE> or <PHONE>."
        );
        assert_eq!(masked("+1 212 555 0123 10001 2024"), "<PHONE> 10001 2024");
        assert_eq!(
            masked("2020-11-12 10:00, 1 + 12 = 13, 3.141592653589793"),
            "2020-11-12 10:00, 1 + 12 = 13, 3.141592653589793"
        );
    }

    proptest! {
        #[test]
        fn any_text_does_not_panic(text in "[0-9A-Za-zé@.+ ()\\[\\]-]{0,80}|.{0,60}") {
            masked(&text);
        }

        #[test]
        fn words_around_at_signs_hold_every_address(text in "([a-z0-9é]{1,3}|[@. \n\\[-]){0,30}") {
            let mut places = Vec::new();
            emails(&text, &mut |place| places.push(place));
            let whole: Vec<_> = email_pattern().unwrap().find_iter(&text).map(|place| place.range()).collect();
            prop_assert_eq!(places, whole);
        }
    }
}
