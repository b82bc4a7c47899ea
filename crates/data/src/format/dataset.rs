//! A data set's folder, as on the Hugging Face Hub: which of its files belong to a configuration and a split.
//!
//! `configs` in the head of its README decides; without them, data files whose names speak of another split
//! (`test-00000.parquet`, `validation/…`) are left out of `train`, and the other way round.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use smolt_run::error::FileError;

use super::Format;
use crate::error::{Error, Place};

/// Folders within folders that are looked into.
const MAX_DEPTH: usize = 16;

/// The most bytes of a README.
const MAX_CARD: u64 = 4 << 20;

/// Names of splits, as file names spell them.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// Files of a Hub folder that are no data though their names could be those of data.
const NO_DATA: [&str; 6] = [
    "dataset_infos.json",
    "dataset_info.json",
    "dataset_dict.json",
    "state.json",
    "readme.md",
    "license.txt",
];

/// The data files of a folder in the order of their names: those of configuration `config` (the default or only one
/// unless given) and of `split` (such as `train`).
pub fn files(folder: &Path, config: Option<&str>, split: &str) -> Result<Vec<PathBuf>, Error> {
    let mut names = Vec::new();
    walk(folder, "", 0, &mut names)?;
    let card = read_card(&folder.join("README.md"))?;
    let chosen = choose(names, card.as_deref(), config, split)
        .map_err(|problem| Error::damaged(folder, Place::File, problem))?;
    Ok(chosen.into_iter().map(|name| folder.join(name)).collect())
}

/// Whether a file of a data set's folder is data, by its path within the folder.
pub fn is_data(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.starts_with(['.', '_']));
    let last = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    !hidden && Format::of_name(Path::new(name)).is_some() && !NO_DATA.contains(&last.as_str())
}

/// Of the data files `names` those of a configuration and split, as the text of the folder's README says, else as names do.
///
/// # Errors
/// What is wrong: no such configuration, or no files of the split.
pub fn choose(
    mut names: Vec<String>,
    card: Option<&str>,
    config: Option<&str>,
    split: &str,
) -> Result<Vec<String>, String> {
    let configs = card.map(configs).unwrap_or_default();
    let chosen: Vec<String> = if configs.is_empty() {
        // A folder per configuration needs no card to be understood.
        if let Some(config) = config {
            let below = format!("{config}/");
            names.retain(|name| name.starts_with(&below));
            if names.is_empty() {
                return Err(format!("no README.md names configurations and no folder is called `{config}`"));
            }
        }
        by_name(names, split)
    } else {
        let default = || match configs.as_slice() {
            [only] => Some(only),
            all => all.iter().find(|c| c.default).or_else(|| all.iter().find(|c| c.name == "default")),
        };
        let found = match config {
            Some(name) => configs.iter().find(|c| c.name == name),
            None => default(),
        };
        let Some(found) = found else {
            let all: Vec<&str> = configs.iter().map(|c| c.name.as_str()).collect();
            return Err(format!("choose one of its configurations: {}", all.join(", ")));
        };
        let patterns: BTreeSet<&str> = found.patterns(split).collect();
        names.retain(|name| patterns.iter().any(|pattern| matches(pattern, name)));
        names
    };
    match chosen.is_empty() {
        true => Err(format!("no data files of the split `{split}`")),
        false => Ok(chosen),
    }
}

/// Names of data files under a folder, relative to it, in order. Links to files are followed (a Hub cache is made of
/// them), links to folders are not (they can go round).
fn walk(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> Result<(), Error> {
    let reading = |source| FileError::reading(folder, source);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(reading)? {
        let entry = entry.map_err(reading)?;
        let kind = entry.file_type().map_err(reading)?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((name, kind.is_dir()));
        }
    }
    entries.sort();
    for (name, is_folder) in entries {
        if name.starts_with(['.', '_']) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if is_folder {
            if depth < MAX_DEPTH {
                walk(&folder.join(&name), &format!("{path}/"), depth + 1, names)?;
            }
        } else if is_data(&name) {
            names.push(path);
        }
    }
    Ok(())
}

/// The files of a split where only names tell: if any name speaks of a split those that speak of this one, otherwise
/// every file is of `train`. A split with another name than usual, such as FLORES' `devtest`, is spoken of by that alone.
fn by_name(names: Vec<String>, split: &str) -> Vec<String> {
    if SPLITS.iter().all(|(usual, _)| *usual != split) {
        let speaks =
            |name: &String| name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == split);
        return names.into_iter().filter(speaks).collect();
    }
    let split_of = |name: &str| {
        let lower = name.to_ascii_lowercase();
        let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphabetic()).collect();
        SPLITS
            .iter()
            .find(|(_, spelt)| words.iter().any(|word| spelt.contains(word)))
            .map(|(split, _)| *split)
    };
    let said: Vec<Option<&str>> = names.iter().map(|name| split_of(name)).collect();
    let any = said.iter().any(Option::is_some);
    let chosen = names.into_iter().zip(said).filter(|(_, said)| match said {
        Some(said) => *said == split,
        None => !any && split == "train",
    });
    chosen.map(|(name, _)| name).collect()
}

/// The text of a README, if there is one.
fn read_card(path: &Path) -> Result<Option<String>, Error> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::reading(path, error).into()),
    };
    if size > MAX_CARD {
        return Err(Error::damaged(path, Place::File, format!("larger than {MAX_CARD} bytes")));
    }
    let bytes = fs::read(path).map_err(|source| FileError::reading(path, source))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// One of the `configs` of a README.
#[derive(Debug, Default, PartialEq)]
struct Config {
    name: String,
    default: bool,
    /// Split and pattern.
    files: Vec<(String, String)>,
    /// In front of every pattern.
    data_dir: String,
}

impl Config {
    fn patterns(&self, split: &str) -> impl Iterator<Item = &str> {
        let of_split = self.files.iter().filter(move |(of, _)| of == split);
        of_split.map(|(_, pattern)| pattern.as_str())
    }
}

/// The `configs` in the head of a README: as much of YAML as those are written in (block lists and maps, strings
/// plain or quoted, lists in brackets on one line).
fn configs(card: &str) -> Vec<Config> {
    let Some(head) = card.trim_start_matches('\u{FEFF}').strip_prefix("---") else { return Vec::new() };
    let head = head.find("\n---").map_or("", |end| &head[..end]);
    let lines = head.lines().skip_while(|line| line.trim_end() != "configs:").skip(1);
    let mut configs: Vec<Config> = Vec::new();
    let mut list = "";
    let mut split = "train".to_owned();
    for line in lines {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        if !line.starts_with([' ', '-']) {
            break;
        }
        let item = line.trim_start();
        let entry = item.strip_prefix("- ").map(str::trim_start);
        let Some((key, value)) = entry.unwrap_or(item).split_once(':').map(|(k, v)| (k.trim(), v.trim()))
        else {
            // An item of a list of patterns.
            if let (Some(pattern), Some(config)) = (entry, configs.last_mut())
                && !list.is_empty()
            {
                config.files.push((split.clone(), unquote(pattern)));
            }
            continue;
        };
        if key == "config_name" {
            configs.push(Config { name: unquote(value), ..Config::default() });
            continue;
        }
        let Some(config) = configs.last_mut() else { continue };
        match key {
            "default" => config.default = value == "true",
            "data_dir" => config.data_dir = unquote(value),
            "split" => split = unquote(value),
            "data_files" | "path" => {
                if key == "data_files" {
                    "train".clone_into(&mut split);
                }
                list = if value.is_empty() { key } else { "" };
                config.files.extend(scalars(value).map(|pattern| (split.clone(), pattern)));
            }
            _ => list = "",
        }
    }
    for config in &mut configs {
        let folder = config.data_dir.trim_matches('/');
        for (_, pattern) in &mut config.files {
            let plain = pattern.trim_start_matches("./");
            *pattern = if folder.is_empty() { plain.to_owned() } else { format!("{folder}/{plain}") };
        }
        if config.files.is_empty() {
            let everything = if folder.is_empty() { "**".to_owned() } else { format!("{folder}/**") };
            config.files.push(("train".to_owned(), everything));
        }
    }
    configs
}

/// A string, or the strings of a list in brackets.
fn scalars(value: &str) -> impl Iterator<Item = String> {
    let list = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    list.unwrap_or(value).split(',').map(unquote).filter(|scalar| !scalar.is_empty())
}

fn unquote(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.split(quote).next()) {
            return inner.to_owned();
        }
    }
    value.split(" #").next().unwrap_or_default().trim().to_owned()
}

/// Whether a pattern names a file: `*` and `?` within a folder, `**` across folders, `[abc]`, `[0-9]`.
fn matches(pattern: &str, name: &str) -> bool {
    // Where each `*` could end is remembered per place, so that no pattern takes exponential time.
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let mut next = vec![false; name.len() + 1];
        let rest = &pattern[at..];
        if rest.starts_with(b"*") {
            let deep = rest.starts_with(b"**");
            at += if rest.starts_with(b"**/") { 3 } else { 1 + usize::from(deep) };
            let mut open = false;
            for place in 0..=name.len() {
                open |= reached[place];
                next[place] = open
                    && (!rest.starts_with(b"**/") || place == 0 || name[place - 1] == b'/' || reached[place]);
                if !deep && name.get(place) == Some(&b'/') {
                    open = false;
                }
            }
        } else {
            let (length, class) = class(rest);
            at += length;
            for place in 0..name.len() {
                next[place + 1] = reached[place] && class.iter().any(|range| range.contains(&name[place]));
            }
        }
        reached = next;
    }
    reached[name.len()]
}

/// The bytes that one place of a pattern stands for, and its length.
fn class(pattern: &[u8]) -> (usize, Vec<std::ops::RangeInclusive<u8>>) {
    let close = pattern.iter().position(|&byte| byte == b']');
    match (pattern[0], close) {
        (b'?', _) => (1, vec![0..=b'/' - 1, b'/' + 1..=255]),
        (b'[', Some(end)) => {
            let mut ranges = Vec::new();
            let mut inner = &pattern[1..end];
            while let [first, rest @ ..] = inner {
                let (range, rest) = match rest {
                    [b'-', last, rest @ ..] => (*first..=*last, rest),
                    _ => (*first..=*first, rest),
                };
                ranges.push(range);
                inner = rest;
            }
            (end + 1, ranges)
        }
        (byte, _) => (1, vec![byte..=byte]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str], card: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        if !card.is_empty() {
            fs::write(dir.path().join("README.md"), card).unwrap();
        }
        dir
    }

    fn found(dir: &tempfile::TempDir, config: Option<&str>, split: &str) -> Vec<String> {
        let files = files(dir.path(), config, split).unwrap();
        files.iter().map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string()).collect()
    }

    #[test]
    fn names_tell_splits() {
        let names =
            ["data/train-0.parquet", "data/test-0.parquet", "data/validation-0.parquet", ".git/x.json"];
        let dir = folder(&[&names[..], &["dataset_infos.json", "LICENSE", "script.py"]].concat(), "# Card");
        assert_eq!(found(&dir, None, "train"), ["data/train-0.parquet"]);
        assert_eq!(found(&dir, None, "test"), ["data/test-0.parquet"]);
        let own = folder(&["en-fr/dev.jsonl", "en-fr/devtest-0.jsonl", "en-fr/notes.txt"], "");
        assert_eq!(found(&own, Some("en-fr"), "devtest"), ["en-fr/devtest-0.jsonl"]);
        assert_eq!(found(&own, Some("en-fr"), "dev"), ["en-fr/dev.jsonl"]);
        let plain = folder(&["b.jsonl.gz", "a.jsonl", "latest.csv"], "");
        assert_eq!(found(&plain, None, "train"), ["a.jsonl", "b.jsonl.gz", "latest.csv"]);
        assert!(files(plain.path(), None, "test").unwrap_err().to_string().contains("`test`"));
        assert!(files(plain.path(), Some("en"), "train").is_err());
    }

    #[test]
    fn the_card_tells_configurations() {
        let card = "---\nlicense: mit\nconfigs:\n- config_name: default\n  default: true\n  data_files:\n  - split: train\n    path: data/*/*\n  - split: test\n    path:\n    - \"held/a.jsonl\"\n    - held/b*.jsonl # both\n- config_name: 'small'\n  data_files: \"sample/[0-9]?.parquet\"\n- config_name: all\n  data_dir: data\nsize: x\n---\n# T\n";
        let names = [
            "data/en/1.jsonl",
            "data/2.jsonl",
            "held/a.jsonl",
            "held/bb.jsonl",
            "held/c.jsonl",
            "sample/01.parquet",
        ];
        let dir = folder(&names, card);
        assert_eq!(found(&dir, None, "train"), ["data/en/1.jsonl"]);
        assert_eq!(found(&dir, None, "test"), ["held/a.jsonl", "held/bb.jsonl"]);
        assert_eq!(found(&dir, Some("small"), "train"), ["sample/01.parquet"]);
        assert_eq!(found(&dir, Some("all"), "train"), ["data/2.jsonl", "data/en/1.jsonl"]);
        assert!(files(dir.path(), Some("none"), "train").unwrap_err().to_string().contains("small"));
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("data/train-*", "data/train-00001.parquet", true),
            ("data/*", "data/a/b", false),
            ("**", "a/b/c", true),
            ("**/*.csv", "a.csv", true),
            ("**/*.csv", "a/b/c.csv", true),
            ("**/c.csv", "a/xc.csv", false),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("[", "[", true),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(200), &"a".repeat(150)), "in polynomial time");
    }
}
