//! The encoding of a page: its byte order mark, what it declares, or a guess as browsers make it.

use encoding_rs::{Encoding, UTF_8};

/// How far a page is searched for its own declaration, as in the HTML standard.
const PRESCAN: usize = 1024;

/// Decodes a page, and says from what. Never fails: what cannot be decoded becomes U+FFFD.
///
/// Valid UTF-8 is taken for it, whatever the page declares: chance does not make it. Only where it is ASCII a declared
/// encoding counts, because some (ISO-2022-JP) are written in ASCII.
pub(super) fn decode(bytes: &[u8], declared: Option<&str>) -> (String, &'static Encoding) {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return (encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned(), encoding);
    }
    let declared = declared
        .and_then(|label| Encoding::for_label(label.as_bytes()))
        .or_else(|| meta_charset(&bytes[..bytes.len().min(PRESCAN)]))
        .filter(|&encoding| encoding != UTF_8);
    let escapes = bytes.contains(&0x1B);
    if (declared.is_none() || !escapes)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return (text.to_owned(), UTF_8);
    }
    if let Some(encoding) = declared {
        let (text, malformed) = encoding.decode_without_bom_handling(bytes);
        if !malformed {
            return (text.into_owned(), encoding);
        }
    }
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    let guess = detector.guess(None, chardetng::Utf8Detection::Allow);
    (guess.decode_without_bom_handling(bytes).0.into_owned(), guess)
}

/// What `<meta charset=…>` or `<meta http-equiv=… content="…; charset=…">` says: both have `charset=` in a `meta`.
fn meta_charset(head: &[u8]) -> Option<&'static Encoding> {
    let head = head.to_ascii_lowercase();
    let mut rest = &head[memchr::memmem::find(&head, b"<meta")?..];
    while let Some(at) = memchr::memmem::find(rest, b"charset") {
        rest = rest[at + b"charset".len()..].trim_ascii_start();
        let Some(value) = rest.strip_prefix(b"=") else { continue };
        let value = value.trim_ascii_start();
        let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
        let end = value.iter().position(|&byte| !(byte.is_ascii_alphanumeric() || b"-_:.".contains(&byte)));
        let label = &value[..end.unwrap_or(value.len())];
        if let Some(encoding) = Encoding::for_label(label) {
            // A page that could be read as ASCII so far cannot be UTF-16.
            let wide = encoding == encoding_rs::UTF_16BE || encoding == encoding_rs::UTF_16LE;
            return Some(if wide { UTF_8 } else { encoding });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_declarations_and_guesses() {
        let (text, encoding) = decode(b"\xEF\xBB\xBFa", Some("windows-1252"));
        assert_eq!((text.as_str(), encoding), ("a", UTF_8));
        assert_eq!(decode(b"\xFF\xFEa\0\xE9\0", None).0, "aé");
        assert_eq!(decode(b"caf\xE9", Some("ISO-8859-1")), ("café".into(), encoding_rs::WINDOWS_1252));
        assert_eq!(decode("café".as_bytes(), Some("ISO-8859-1")), ("café".into(), UTF_8));
        let meta = b"<html><META http-equiv=x content='text/html; charset=Shift_JIS'>\x93\xFA\x96\x7B";
        assert!(decode(meta, None).0.ends_with("日本"));
        assert_eq!(decode(b"<meta charset = \"big5\">\xA4\xA4", None).1, encoding_rs::BIG5);
        let iso2022 = b"\x1B$B$3$s$K$A$O\x1B(B";
        assert_eq!(decode(iso2022, Some("iso-2022-jp")).0, "こんにちは");
        let russian = encoding_rs::WINDOWS_1251
            .encode("Это обычный русский текст, написанный без указания кодировки.")
            .0;
        assert!(decode(&russian, None).0.starts_with("Это обычный"));
        assert!(decode(b"\xFF\xFF\x81", Some("utf-8")).0.chars().count() > 0);
    }
}
