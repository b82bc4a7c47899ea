//! Lists of domains, URLs and words: one entry a line, `#` begins a comment line.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use smolt_run::error::{Exit, ExitKind, FileError};

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The operating system's answer.
    #[error(transparent)]
    File(#[from] FileError),
    /// Places in a list are 32-bit.
    #[error("the lists are longer than 4 GiB; split them over two steps")]
    TooLarge,
}

impl ExitKind for ListError {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            Self::TooLarge => Exit::BadInput,
        }
    }
}

/// A set of strings in one piece of memory: lists of millions of domains are common.
#[derive(Default)]
pub struct Strings {
    text: String,
    /// Start and end of each, in the order of the files.
    places: Vec<(u32, u32)>,
    /// Places by hash, [`FREE`] between them; never full.
    table: Vec<u32>,
    hasher: RandomState,
}

const FREE: u32 = u32::MAX;

impl Strings {
    /// Reads `files` and adds `extra`; `change` normalises each entry, and empty ones are left out.
    pub fn load<P: AsRef<Path>>(
        files: &[P],
        extra: &[String],
        change: impl Fn(&str) -> String,
    ) -> Result<Self, ListError> {
        let mut found = Self::default();
        for file in files {
            let file = file.as_ref();
            let bytes = std::fs::read(file).map_err(|source| FileError::reading(file, source))?;
            // Lists of the web hold stray bytes; such an entry matches nothing.
            let text = String::from_utf8_lossy(&bytes);
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                found.add(&change(line.trim()))?;
            }
        }
        for entry in extra {
            found.add(&change(entry.trim()))?;
        }
        found.table = vec![FREE; (2 * found.places.len() + 1).next_power_of_two()];
        for place in 0..found.places.len() {
            let slot = found.slot(found.at(found.places[place]));
            if found.table[slot] == FREE {
                found.table[slot] = place as u32;
            }
        }
        Ok(found)
    }

    fn add(&mut self, entry: &str) -> Result<(), ListError> {
        if entry.is_empty() {
            return Ok(());
        }
        let start = self.text.len();
        self.text.push_str(entry);
        let place = |at: usize| u32::try_from(at).map_err(|_| ListError::TooLarge);
        if self.places.len() == FREE as usize {
            return Err(ListError::TooLarge);
        }
        self.places.push((place(start)?, place(self.text.len())?));
        Ok(())
    }

    /// Whether `entry` is one of them.
    pub fn contains(&self, entry: &str) -> bool {
        !self.is_empty() && self.table[self.slot(entry)] != FREE
    }

    /// The slot of `entry`, or the free one where it would be.
    fn slot(&self, entry: &str) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = self.hasher.hash_one(entry) as usize & mask;
        while self.table[slot] != FREE && self.at(self.places[self.table[slot] as usize]) != entry {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// In the order of the files, as often as they were listed.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| self.at(*place))
    }

    fn at(&self, place: (u32, u32)) -> &str {
        &self.text[place.0 as usize..place.1 as usize]
    }

    /// Whether `host` or a domain above it is listed: `example.org` also means `www.example.org`. A host too long for one is
    /// not: each of its dots would be another look at all that follows.
    pub fn contains_domain(&self, host: &str) -> bool {
        let mut rest = Some(host).filter(|host| host.len() <= MAX_HOST);
        while let Some(domain) = rest {
            if self.contains(domain) {
                return true;
            }
            rest = domain.split_once('.').map(|(_, above)| above);
        }
        false
    }
}

/// The longest name of a host that is one, in bytes.
pub const MAX_HOST: usize = 253;

/// The host of a URL, in small letters, without user, port and final dot; empty when there is none.
pub fn host(url: &str) -> String {
    let url = url.trim();
    let rest = match url.split_once("://") {
        Some((_, rest)) => rest,
        None => url.strip_prefix("//").unwrap_or(url),
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.trim_end_matches('.').to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts() {
        for (url, expected) in [
            ("https://Example.ORG/path?x#y", "example.org"),
            ("http://user:secret@www.example.org:8080", "www.example.org"),
            ("//cdn.example.org/x", "cdn.example.org"),
            ("example.org./x", "example.org"),
            ("http://[2001:db8::1]:80/", "2001:db8::1"),
            ("http://example.org\\@evil.net", "example.org"),
            ("", ""),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
    }

    #[test]
    fn files_comments_and_domains() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        std::fs::write(&path, b"# comment\nB.org\n\n  a.com \nb.org\n\xFF.net\n").unwrap();
        let list = Strings::load(&[path], &["c.io".into()], |line| line.to_lowercase()).unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), ["b.org", "a.com", "b.org", "\u{FFFD}.net", "c.io"]);
        assert!(list.contains_domain("www.b.org") && list.contains_domain("c.io"));
        assert!(!list.contains_domain("xb.org") && !list.contains_domain("org") && !list.contains_domain(""));
        assert!(list.contains_domain(&("a.".repeat(124) + "b.org")));
        assert!(!list.contains_domain(&("a.".repeat(125) + "b.org")), "longer than a host can be");
        let gone = Strings::load(&[dir.path().join("gone")], &[], str::to_owned);
        assert!(gone.err().unwrap().to_string().contains("gone"));
    }

    proptest! {
        #[test]
        fn any_url_has_a_host_or_none(url in ".{0,60}") {
            let host = host(&url);
            let (slash, at) = (host.contains('/'), host.contains('@'));
            prop_assert!(!slash && !at);
        }
    }
}
