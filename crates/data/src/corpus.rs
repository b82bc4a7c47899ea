//! The bundled corpus: public-domain prose and source code inside the binary, with whole works held out (`corpus/SOURCES.md`).
//!
//! It exists so that a first run needs no download. Each part is the very JSONL that [`write_jsonl`] writes, compressed.

use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use smolt_run::atomic;
use smolt_run::error::FileError;

/// One text: some chapters or entries, or a source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Unique within its file.
    pub id: String,
    /// The work it is from, a row of `SOURCES.md`.
    pub source: String,
    /// The text itself.
    pub text: String,
}

/// What the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// English prose in the public domain, one paragraph a line.
    Prose,
    /// Whole source files.
    Code,
}

/// What the text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// To train on.
    Train,
    /// Whole works never trained on.
    HeldOut,
}

/// What can go wrong with the bundled corpus.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes inside the binary cannot be read.
    #[error("bundled corpus {part}: {problem}; the binary is damaged, build it again")]
    Bundle {
        /// Which part, as a file name.
        part: &'static str,
        /// What the decompressor or parser said.
        problem: String,
    },
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Text that cannot be compressed or compared.
    #[error("cannot measure compression: {0}")]
    Compress(String),
}

impl smolt_run::error::ExitKind for Error {
    fn exit(&self) -> smolt_run::error::Exit {
        smolt_run::error::Exit::Failed
    }
}

/// Uncompressed bytes a part may have: bounds what a damaged bundle can claim.
const MAX_PART: u64 = 64 << 20;

struct Part {
    kind: Kind,
    split: Split,
    name: &'static str,
    packed: &'static [u8],
}

macro_rules! part {
    ($kind:ident, $split:ident, $name:literal) => {
        Part {
            kind: Kind::$kind,
            split: Split::$split,
            name: $name,
            packed: include_bytes!(concat!("../corpus/", $name, ".zst")),
        }
    };
}

static PARTS: [Part; 4] = [
    part!(Prose, Train, "prose.train.jsonl"),
    part!(Prose, HeldOut, "prose.held-out.jsonl"),
    part!(Code, Train, "code.train.jsonl"),
    part!(Code, HeldOut, "code.held-out.jsonl"),
];

impl Part {
    fn error(&self, problem: impl ToString) -> Error {
        Error::Bundle { part: self.name, problem: problem.to_string() }
    }

    fn unpack(&self) -> Result<String, Error> {
        let mut reader =
            zstd::stream::read::Decoder::new(self.packed).map_err(|e| self.error(e))?.take(MAX_PART);
        let mut text = String::new();
        reader.read_to_string(&mut text).map_err(|e| self.error(e))?;
        Ok(text)
    }
}

/// The documents of one split and kind, in a fixed order.
pub fn documents(split: Split, kind: Kind) -> Result<Vec<Document>, Error> {
    let mut documents = Vec::new();
    for part in PARTS.iter().filter(|part| part.split == split && part.kind == kind) {
        for line in part.unpack()?.lines() {
            documents.push(serde_json::from_str(line).map_err(|e| part.error(e))?);
        }
    }
    Ok(documents)
}

/// Writes `prose.train.jsonl`, `prose.held-out.jsonl`, `code.train.jsonl` and `code.held-out.jsonl` into `dir`, making it
/// if needed; each line is `{"id", "source", "text"}`. Returns the bytes written.
pub fn write_jsonl(dir: &Path) -> Result<u64, Error> {
    std::fs::create_dir_all(dir).map_err(|source| FileError::new("create", dir, source))?;
    let mut bytes = 0;
    for part in &PARTS {
        let text = part.unpack()?;
        atomic::write(&dir.join(part.name), text.as_bytes())?;
        bytes += text.len() as u64;
    }
    Ok(bytes)
}

/// Bits per byte of `held_out` compressed by zstd level 19 with all of `train` as its reference, as
/// `zstd -19 --patch-from=TRAIN HELD_OUT` does: what a compressor that knows the training text makes of it.
pub fn zstd_patch_bits_per_byte(train: &str, held_out: &str) -> Result<f64, Error> {
    use zstd::zstd_safe::CParameter;
    if held_out.is_empty() {
        return Err(Error::Compress("the held-out text is empty; name a text with at least one byte".into()));
    }
    // As the command line does: a window that spans reference and text, and long-distance matching.
    let span = (train.len() + held_out.len()).max(1 << 10);
    let window = (usize::BITS - (span - 1).leading_zeros()).min(31);
    let failed = |e: std::io::Error| Error::Compress(e.to_string());
    let mut encoder =
        zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), 19, train.as_bytes()).map_err(failed)?;
    encoder.set_parameter(CParameter::WindowLog(window)).map_err(failed)?;
    encoder.set_parameter(CParameter::EnableLongDistanceMatching(true)).map_err(failed)?;
    encoder.set_pledged_src_size(Some(held_out.len() as u64)).map_err(failed)?;
    encoder.write_all(held_out.as_bytes()).map_err(failed)?;
    let packed = encoder.finish().map_err(failed)?;
    Ok(packed.len() as f64 * 8.0 / held_out.len() as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

    use super::*;

    fn bytes(documents: &[Document]) -> usize {
        documents.iter().map(|document| document.text.len()).sum()
    }

    #[test]
    fn there_is_enough_and_whole_works_are_held_out() {
        let mut total = 0;
        for (kind, least) in [(Kind::Prose, 512 << 10), (Kind::Code, 100 << 10)] {
            let train = documents(Split::Train, kind).unwrap();
            let held_out = documents(Split::HeldOut, kind).unwrap();
            assert!(bytes(&held_out) >= least, "{kind:?}: {}", bytes(&held_out));
            total += bytes(&train) + bytes(&held_out);
            let works: HashSet<&str> = train.iter().map(|document| document.source.as_str()).collect();
            assert!(held_out.iter().all(|document| !works.contains(document.source.as_str())));
            let texts: HashSet<&str> = train.iter().map(|document| document.text.as_str()).collect();
            assert!(held_out.iter().all(|document| !texts.contains(document.text.as_str())));
        }
        assert!(total >= 6_000_000, "{total}");
    }

    /// The rule by which `SOURCES.md` says that books of the Bible were held out, against what is in training.
    #[test]
    fn held_out_prose_repeats_nothing_of_training() {
        fn sequences(text: &str) -> Vec<u64> {
            let text = text.to_lowercase();
            let words: Vec<&str> = text
                .split(|c: char| !c.is_alphabetic() && c != '\'')
                .filter(|word| !word.is_empty())
                .collect();
            words
                .windows(8)
                .map(|window| BuildHasherDefault::<DefaultHasher>::default().hash_one(window))
                .collect()
        }
        let train = documents(Split::Train, Kind::Prose).unwrap();
        let known: HashSet<u64> = train.iter().flat_map(|document| sequences(&document.text)).collect();
        let (mut all, mut repeated) = (0, 0);
        for document in documents(Split::HeldOut, Kind::Prose).unwrap() {
            let sequences = sequences(&document.text);
            let found = sequences.iter().filter(|sequence| known.contains(sequence)).count();
            assert!(found * 10 < sequences.len(), "{}: {found} of {}", document.id, sequences.len());
            all += sequences.len();
            repeated += found;
        }
        assert!(repeated * 100 < all, "{repeated} of {all}");
    }

    #[test]
    fn documents_are_clean_listed_and_of_one_sitting() {
        let sources = include_str!("../corpus/SOURCES.md");
        for kind in [Kind::Prose, Kind::Code] {
            for split in [Split::Train, Split::HeldOut] {
                let mut ids = HashSet::new();
                for document in documents(split, kind).unwrap() {
                    assert!(sources.contains(&format!("| {} |", document.source)), "{}", document.source);
                    let longest = if kind == Kind::Prose { 20_000 } else { 100_000 };
                    assert!((200..longest).contains(&document.text.len()), "{}", document.id);
                    assert!(!document.text.contains(['\0', '\u{feff}']), "{}", document.id);
                    if kind == Kind::Prose {
                        assert!(!document.text.contains(['“', '”', '’']), "{}", document.id);
                        assert!(document.text.lines().all(|line| !line.starts_with(' ')), "{}", document.id);
                    }
                    assert!(ids.insert(document.id));
                }
            }
        }
    }

    #[test]
    fn files_hold_the_documents() {
        let dir = tempfile::tempdir().unwrap();
        let written = write_jsonl(dir.path()).unwrap();
        assert!(written > 6_000_000);
        let text = std::fs::read_to_string(dir.path().join("code.held-out.jsonl")).unwrap();
        let read: Vec<Document> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, documents(Split::HeldOut, Kind::Code).unwrap());
        let blocked = dir.path().join("prose.train.jsonl");
        assert!(write_jsonl(&blocked).unwrap_err().to_string().contains("prose.train.jsonl"));
    }

    #[test]
    fn damage_is_an_error() {
        let cut = Part { packed: &PARTS[3].packed[..1000], ..part!(Code, HeldOut, "code.held-out.jsonl") };
        assert!(cut.unpack().unwrap_err().to_string().contains("build it again"));
    }

    #[test]
    fn the_reference_helps_as_much_as_it_repeats() {
        let text = "Anna gave the ball to Ben, and Ben ran to the old mill by the river. ".repeat(3);
        let known = zstd_patch_bits_per_byte(&text, &text).unwrap();
        let unknown = zstd_patch_bits_per_byte("", &text[..70]).unwrap();
        assert!(known < 1.5 && known < unknown, "{known} {unknown}");
        assert!(zstd_patch_bits_per_byte(&text, "").is_err());
    }
}
