//! Patterns of paths: `*` within a name, `?` one letter of a name, `**` across folders (`a/**/b` also matches `a/b`).

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// `?`
    One,
    /// `*`
    Name,
    /// `**` that ends a name or the pattern: anything.
    All,
    /// `**/`: any number of whole folders.
    Folders,
}

/// A compiled pattern. Matching takes time proportional to pattern × text, whatever they are.
pub(crate) struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        let mut at_start = true;
        while let Some(letter) = rest.chars().next() {
            let token;
            (token, rest) = match letter {
                '*' if at_start && rest.starts_with("**/") => (Token::Folders, &rest[3..]),
                '*' if rest.starts_with("**") => (Token::All, rest.trim_start_matches('*')),
                '*' => (Token::Name, &rest[1..]),
                '?' => (Token::One, &rest[1..]),
                letter => (Token::Letter(letter), &rest[letter.len_utf8()..]),
            };
            at_start = matches!(token, Token::Folders | Token::Letter('/'));
            tokens.push(token);
        }
        Self { tokens }
    }

    /// Whether the whole of `path` fits.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let mut now = vec![false; self.tokens.len() + 1];
        now[0] = true;
        self.skip_empty(&mut now, true);
        for letter in path.chars() {
            let mut next = vec![false; now.len()];
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| now[*at]) {
                match token {
                    Token::Letter(wanted) => next[at + 1] |= letter == *wanted,
                    Token::One => next[at + 1] |= letter != '/',
                    Token::Name => next[at] |= letter != '/',
                    Token::All | Token::Folders => next[at] = true,
                }
            }
            self.skip_empty(&mut next, letter == '/');
            now = next;
        }
        now[self.tokens.len()]
    }

    /// `*` and `**` may stand for nothing, `**/` may end where a name begins.
    fn skip_empty(&self, states: &mut [bool], at_start: bool) {
        for (at, token) in self.tokens.iter().enumerate() {
            let free = matches!(token, Token::Name | Token::All) || (*token == Token::Folders && at_start);
            states[at + 1] |= states[at] && free;
        }
    }
}

/// Whether a path has wildcards.
pub(crate) fn is_glob(path: &str) -> bool {
    path.contains(['*', '?'])
}

/// Cuts a pattern into the folder before its first wildcard (without the last `/`) and the rest, a pattern beneath it.
pub(crate) fn split(pattern: &str) -> (&str, &str) {
    let wild = pattern.find(['*', '?']).unwrap_or(pattern.len());
    match pattern[..wild].rfind('/') {
        Some(0) => ("/", &pattern[1..]),
        Some(slash) => (&pattern[..slash], &pattern[slash + 1..]),
        None => ("", pattern),
    }
}

/// Folders that a pattern can reach below its own, `None` for any number.
pub(crate) fn depth(pattern: &str) -> Option<usize> {
    if pattern.contains("**") { None } else { Some(pattern.matches('/').count()) }
}

/// Which files of a whole listing an address without a file of its own means: those below the folder, or those that
/// its pattern matches.
#[cfg_attr(not(feature = "network"), allow(dead_code))]
pub(crate) struct Wanted {
    folder: String,
    pattern: Option<Glob>,
    deep: bool,
}

#[cfg_attr(not(feature = "network"), allow(dead_code))]
impl Wanted {
    /// `path` without slashes at its ends; empty for everything.
    pub(crate) fn new(path: &str) -> Self {
        if !is_glob(path) {
            return Self { folder: path.to_owned(), pattern: None, deep: true };
        }
        let (folder, rest) = split(path);
        Self { folder: folder.to_owned(), pattern: Some(Glob::new(rest)), deep: depth(rest) != Some(0) }
    }

    pub(crate) fn is_glob(&self) -> bool {
        self.pattern.is_some()
    }

    /// Where to look.
    pub(crate) fn folder(&self) -> &str {
        &self.folder
    }

    /// Whether files in folders below can be meant.
    pub(crate) fn is_deep(&self) -> bool {
        self.deep
    }

    pub(crate) fn takes(&self, path: &str) -> bool {
        let relative = if self.folder.is_empty() {
            Some(path)
        } else {
            path.strip_prefix(&self.folder).and_then(|rest| rest.strip_prefix('/'))
        };
        relative.is_some_and(|relative| {
            !relative.is_empty()
                && !relative.ends_with('/')
                && !is_hidden(relative)
                && self.pattern.as_ref().is_none_or(|pattern| pattern.matches(relative))
        })
    }
}

/// Whether any name in a relative path starts with a dot: such files are not data.
pub(crate) fn is_hidden(relative: &str) -> bool {
    relative.split('/').any(|name| name.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards_mean_what_shells_mean() {
        for (pattern, yes, no) in [
            ("*.jsonl", vec!["a.jsonl", ".jsonl"], vec!["a/b.jsonl", "a.jsonl.gz"]),
            ("part-?.gz", vec!["part-1.gz", "part-é.gz"], vec!["part-.gz", "part-12.gz", "part-/.gz"]),
            ("**/*.parquet", vec!["a.parquet", "x/y/a.parquet"], vec!["a.json"]),
            ("data/**/b", vec!["data/b", "data/x/b", "data/x/y/b"], vec!["data/xb", "datab", "b"]),
            ("data/**", vec!["data/a", "data/a/b"], vec!["data", "x/data/a"]),
            ("*/*/c", vec!["a/b/c"], vec!["a/c", "a/b/x/c"]),
            ("a**b", vec!["ab", "axb", "a/x/b"], vec!["a"]),
            ("", vec![""], vec!["a"]),
        ] {
            let glob = Glob::new(pattern);
            for path in yes {
                assert!(glob.matches(path), "{pattern} should match {path}");
            }
            for path in no {
                assert!(!glob.matches(path), "{pattern} should not match {path}");
            }
        }
    }

    #[test]
    fn a_pattern_is_cut_before_its_first_wildcard() {
        assert_eq!(split("/data/x*/y"), ("/data", "x*/y"));
        assert_eq!(split("/*.txt"), ("/", "*.txt"));
        assert_eq!(split("a?"), ("", "a?"));
        assert_eq!((depth("x*/y"), depth("*"), depth("**/y")), (Some(1), Some(0), None));
        assert!(is_hidden("a/.b/c") && !is_hidden("a/b.c"));
    }

    #[test]
    fn hostile_patterns_take_bounded_time() {
        assert!(!Glob::new(&"*a".repeat(2000)).matches(&"a".repeat(1900)));
    }

    proptest! {
        #[test]
        fn a_path_matches_itself_and_the_wider_pattern(path in "[a-c./]{0,12}", cut in 0usize..12) {
            prop_assert!(Glob::new(&path).matches(&path));
            prop_assert!(Glob::new("**").matches(&path));
            let cut = cut.min(path.len());
            let wider = format!("{}**", &path[..cut]);
            // "**" after a slash is anything too, because nothing follows it.
            prop_assert!(Glob::new(&wider).matches(&path), "{} {}", wider, path);
        }
    }
}
