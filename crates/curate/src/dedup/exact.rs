//! Exact duplicates of documents and of URLs, by 128-bit keys.
//!
//! A key is the first half of a BLAKE3 hash, so that nobody can make two texts with the same key, and by chance one pair
//! among n documents has it with a probability of n² / 2^129: less than 10^-20 for a billion.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::clusters::{Shards, join_equal, left, sets, write_removals};
use super::records::{Kind, RecordWriter};
use super::report::{Report, Sources};
use super::simplify::{Simplifier, TextNorm};
use super::{DedupError, Space};
use crate::external_sort::Sorter;
use crate::union_find::UnionFind;

const WIDTH: u32 = 4 + 16;

/// Key, index of the document.
const SORTED: usize = 16 + 4;

/// When two texts are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Same {
    /// Byte for byte.
    #[default]
    Raw,
    /// After [`TextNorm`]'s defaults: case, punctuation, numbers, accents and spacing do not count.
    Simplified,
}

/// Makes keys of texts.
pub struct Keyer {
    same: Same,
    simplifier: Simplifier,
}

impl Keyer {
    /// For texts that are the same in this sense.
    pub fn new(same: Same) -> Self {
        Self { same, simplifier: Simplifier::new(TextNorm::default()) }
    }

    /// The key of a text; `None` where nothing of it counts. `workspace` is reused.
    pub fn key(&self, text: &str, workspace: &mut String) -> Option<[u8; 16]> {
        let text = match self.same {
            Same::Raw => text,
            Same::Simplified => {
                self.simplifier.simplify(text, workspace);
                workspace
            }
        };
        (!text.is_empty()).then(|| key_of(text.as_bytes()))
    }
}

/// The key of a URL, which is the same with `http` or `https`, with or without `www.`, fragment, default port and slash
/// at the end; the host's case does not count. `None` for an empty one.
pub fn url_key(url: &str) -> Option<[u8; 16]> {
    let url = url.trim();
    let url = url.split_once('#').map_or(url, |(before, _)| before);
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let web = matches!(scheme.to_ascii_lowercase().as_str(), "" | "http" | "https");
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let mut host = host.to_lowercase();
    let mut text = String::new();
    if web {
        for port in [":80", ":443"] {
            host.truncate(host.strip_suffix(port).unwrap_or(&host).len());
        }
        text.push_str(host.strip_prefix("www.").unwrap_or(&host));
    } else {
        text.push_str(&format!("{}://{host}", scheme.to_ascii_lowercase()));
    }
    text.push_str(path.strip_suffix('/').unwrap_or(path));
    (!text.is_empty()).then(|| key_of(text.as_bytes()))
}

pub(super) fn key_of(bytes: &[u8]) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    key
}

/// First phase: the keys of one shard's documents or URLs.
pub struct KeyWriter(RecordWriter);

impl KeyWriter {
    /// Starts the file of `shard` at `path`. `what` names what the keys are of, such as `url` or `text simplified`; files
    /// with different names are not compared.
    pub fn create(path: &Path, what: &str, shard: u32) -> Result<Self, DedupError> {
        let config = key_of(format!("exact 1 {what}").as_bytes());
        Ok(Self(RecordWriter::create(path, Kind::DocumentKeys, WIDTH, shard, config)?))
    }

    /// Adds the key of the document at `position`. Documents without a key are left out, and kept.
    pub fn push(&mut self, position: u32, key: [u8; 16]) -> Result<(), DedupError> {
        let mut record = [0; WIDTH as usize];
        record[..4].copy_from_slice(&position.to_le_bytes());
        record[4..].copy_from_slice(&key);
        self.0.push(&record)
    }

    /// Completes the file; `documents` is how many the shard has, with keys or without.
    pub fn finish(self, documents: u64) -> Result<(), DedupError> {
        self.0.finish(documents)
    }
}

/// Second phase: of all documents with the same key the first is kept; each shard's
/// [`Removals`](super::removals::Removals) are written into `folder`.
pub fn cluster(
    keys: &[PathBuf],
    folder: &Path,
    sources: &Sources,
    space: &Space<'_>,
) -> Result<Report, DedupError> {
    let shards = Shards::open(keys, Kind::DocumentKeys, Some(WIDTH))?;
    let mut sets = sets(&shards, space)?;
    let memory = left(space, UnionFind::bytes(shards.documents()));
    let mut sorter = Sorter::<SORTED>::new(space.scratch, memory)?;
    shards.for_each(|index, record| {
        let mut sorted = [0; SORTED];
        sorted[..16].copy_from_slice(&record[4..]);
        sorted[16..].copy_from_slice(&index.to_be_bytes());
        Ok(sorter.push(sorted)?)
    })?;
    join_equal::<SORTED, 16>(sorter, &mut sets)?;
    write_removals(&shards, sets, folder, sources)
}

#[cfg(test)]
mod tests {
    use super::super::number;
    use super::super::removals::{Removal, Removals};
    use super::*;

    #[test]
    fn urls() {
        let same =
            ["http://www.Example.org/a/?q=1", "HTTPS://example.org:443/a/?q=1#top", " example.org/a/?q=1 "];
        for url in same {
            assert_eq!(url_key(url), url_key(same[0]), "{url}");
        }
        assert_eq!(url_key("http://example.org/"), url_key("example.org"));
        assert_ne!(url_key("example.org/A"), url_key("example.org/a"));
        assert_ne!(url_key("ftp://example.org"), url_key("example.org"));
        assert_eq!((url_key(""), url_key("#x"), url_key("http://")), (None, None, None));
        assert!(url_key("://?#é/").is_some());
    }

    #[test]
    fn keys_of_texts() {
        let mut workspace = String::new();
        let raw = Keyer::new(Same::Raw);
        let simplified = Keyer::new(Same::Simplified);
        assert_ne!(raw.key("A b.", &mut workspace), raw.key("a b", &mut workspace));
        assert_eq!(simplified.key("A b.", &mut workspace), simplified.key("a b", &mut workspace));
        assert_eq!(simplified.key("?!", &mut workspace), None);
    }

    /// Shards of texts through all phases; the removals and the report.
    fn run(shards: &[&[&str]], order: &[usize]) -> (Vec<Vec<Removal>>, Report) {
        let folder = tempfile::tempdir().unwrap();
        let keyer = Keyer::new(Same::Raw);
        let mut paths = Vec::new();
        for &shard in order {
            let path = folder.path().join(format!("{shard}.keys"));
            let mut writer = KeyWriter::create(&path, "text raw", shard as u32).unwrap();
            for (position, text) in shards[shard].iter().enumerate() {
                if let Some(key) = keyer.key(text, &mut String::new()) {
                    writer.push(position as u32, key).unwrap();
                }
            }
            writer.finish(shards[shard].len() as u64).unwrap();
            paths.push(path);
        }
        let of_shard = (0..shards.len()).map(|shard| shard as u32 % 2).collect();
        let sources = Sources::new(vec!["even".into(), "odd".into()], of_shard).unwrap();
        let space = Space { memory: 1 << 20, scratch: folder.path() };
        let report = cluster(&paths, folder.path(), &sources, &space).unwrap();
        let removals = (0..shards.len())
            .map(|shard| Removals::open(folder.path(), shard as u32).unwrap().map(Result::unwrap).collect());
        (removals.collect(), report)
    }

    #[test]
    fn the_first_of_each_is_kept() {
        let shards: [&[&str]; 4] = [&["a", "b", "a", ""], &[], &["c", "a"], &["b", "a", "d", ""]];
        let (removals, report) = run(&shards, &[0, 1, 2, 3]);
        let removal = |position, size, kept| Removal { position, size, kept };
        let (a, b) = (number(0, 0), number(0, 1));
        assert_eq!(removals[0], [removal(2, 4, a)]);
        assert!(removals[1].is_empty());
        assert_eq!(removals[2], [removal(1, 4, a)]);
        assert_eq!(removals[3], [removal(0, 2, b), removal(1, 4, a)]);
        assert_eq!((report.documents, report.compared, report.removed, report.clusters), (10, 8, 4, 2));
        assert_eq!(report.cluster_sizes.into_iter().collect::<Vec<_>>(), [(2, 1), (4, 1)]);
        assert_eq!(report.sources[0].first_seen_in, [2, 0]);
        assert_eq!(report.sources[1].first_seen_in, [2, 0]);
        assert_eq!(run(&shards, &[3, 1, 0, 2]).0, removals);
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, what, shard) in [("a", "x", 0), ("b", "y", 1), ("c", "x", 0), ("d", "x", 7)] {
            KeyWriter::create(&path(name), what, shard).unwrap().finish(0).unwrap();
        }
        let sources = Sources::new(vec!["s".into()], vec![0, 0]).unwrap();
        let error = |names: [&str; 2], memory| {
            let paths = names.map(path);
            let space = Space { memory, scratch: folder.path() };
            cluster(&paths, folder.path(), &sources, &space).unwrap_err().to_string()
        };
        assert!(error(["a", "b"], 1 << 20).contains("other settings"));
        assert!(error(["a", "c"], 1 << 20).contains("both of shard 0"));
        assert!(error(["a", "d"], 1 << 20).contains("shard 7"));
        assert!(error(["a", "d"], 1 << 10).contains("--memory"));
        assert!(Sources::new(vec![], vec![0]).is_err());
    }

    #[test]
    fn removals_of_another_shard_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("k");
        let mut writer = KeyWriter::create(&keys, "x", 0).unwrap();
        for position in 0..5 {
            writer.push(position, [0; 16]).unwrap();
        }
        writer.finish(5).unwrap();
        let sources = Sources::new(vec!["s".into()], vec![0]).unwrap();
        let space = Space { memory: 1 << 20, scratch: folder.path() };
        cluster(&[keys], folder.path(), &sources, &space).unwrap();
        let mut removals = Removals::open(folder.path(), 0).unwrap();
        assert_eq!(removals.at(0).unwrap(), None);
        assert_eq!(removals.at(3).unwrap().unwrap().size, 5);
        let error = removals.finish(6).unwrap_err().to_string();
        assert!(error.contains("made for 5 documents"), "{error}");
        assert!(Removals::open(folder.path(), 0).unwrap().finish(5).is_ok());
    }
}
