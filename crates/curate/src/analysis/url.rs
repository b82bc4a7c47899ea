//! Addresses, which stay one word although marks within them would part others: `https://a.org/b-c`, `me@a.org`.

use super::chars::is_lower;

/// Whether spaCy's English tokenizer takes the whole of it for an address: scheme and user where they are given, a host
/// name with a top-level domain or a public IPv4 address, a port, a path.
pub(super) fn is_url(text: &str) -> bool {
    if !text.as_bytes().contains(&b'.') {
        return false;
    }
    let after_scheme = text.find("://").filter(|&at| is_scheme(&text[..at])).map(|at| &text[at + 3..]);
    after_scheme.is_some_and(is_user_and_host) || is_user_and_host(text)
}

fn is_scheme(text: &str) -> bool {
    text.chars().nth(1).is_some()
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '+' | '-' | '.'))
}

fn is_user_and_host(text: &str) -> bool {
    is_host(text) || text.match_indices('@').any(|(at, _)| at > 0 && is_host(&text[at + 1..]))
}

fn is_host(text: &str) -> bool {
    // Not beyond the next `@`, so that all the tries together read the text once.
    let end = text.find([':', '/', '?', '#', '@']).unwrap_or(text.len());
    let (host, rest) = text.split_at(end);
    is_port_and_path(rest) && (is_name(host) || is_address(host))
}

fn is_port_and_path(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else { return !text.starts_with('@') };
    let digits = port.bytes().take_while(u8::is_ascii_digit).count();
    (2..=5).contains(&digits)
        && (port.len() == digits || matches!(port.as_bytes()[digits], b'/' | b'?' | b'#'))
}

fn is_name(host: &str) -> bool {
    let Some((labels, top)) = host.rsplit_once('.') else { return false };
    (2..=63).contains(&top.chars().count()) && top.chars().all(is_lower) && labels.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ('\u{a1}'..='\u{ffff}').contains(&c);
    let inner = |c: char| plain(c) || c == '_' || c == '-';
    label.chars().count() <= 64
        && label.starts_with(plain)
        && label.ends_with(plain)
        && label.chars().all(inner)
}

fn is_address(host: &str) -> bool {
    let octets: Vec<u32> = host.split('.').take(5).map_while(octet).collect();
    let [a @ 1..=223, b, _, 1..=254] = octets[..] else { return false };
    let private = matches!((a, b), (10 | 127, _) | (169, 254) | (192, 168) | (172, 16..=31));
    !private && host.split('.').count() == 4 && !host.starts_with('0')
}

fn octet(text: &str) -> Option<u32> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&number: &u32| digits && number < 256)
}

#[cfg(test)]
mod tests {
    use super::is_url;

    #[test]
    fn addresses() {
        for yes in [
            "a.org",
            "https://a.org/b-c?d=e#f",
            "me@a.org",
            "mailto:me@a.org",
            "a.b-c.org:8080",
            "8.8.8.8/x",
            "foo.txt",
            "ftp://user:secret@a.org",
            "a@b@c.org",
            "a.org/@b",
            "a.org?x",
            "münchen.de/ä",
        ] {
            assert!(is_url(yes), "{yes}");
        }
        for no in [
            "",
            "a",
            "a.b",
            "usr/share/a.txt",
            "http://localhost/a",
            "10.0.0.1/x",
            "a.org:1",
            "a.org:123456",
            "lower.Upper",
            "a..org",
            "-a.org",
            "a-.org",
            "1.2.3/x",
            "a=b.org",
            "a.org@b",
            "http://",
            "192.168.1.1/x",
        ] {
            assert!(!is_url(no), "{no}");
        }
    }
}
