//! Reads fastText's binary format, versions 11 and 12. Every count is checked against the bytes that are left before
//! anything of that size is allocated.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use smolt_run::error::FileError;

use super::Error;
use super::model::{Args, Dictionary, Entry, LABEL, Loss, Matrix, Model};
use super::quantized::{CENTROIDS, Codebook, Quantized};

pub(super) const MAGIC: i32 = 793_712_314;
pub(super) const VERSION: i32 = 12;
pub(super) const SUPERVISED: i32 = 3;

/// The longest vectors that are read.
pub const MAX_DIM: usize = 1 << 14;

/// The longest n-grams that are read: work per byte of text grows with it.
const MAX_NGRAM: i32 = 64;

/// The longest word of a dictionary, in bytes.
const MAX_WORD: usize = 1 << 20;

impl Model {
    /// Reads a `.bin` or `.ftz` file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let reading = |source| FileError::reading(path, source);
        let file = File::open(path).map_err(reading)?;
        let left = file.metadata().map_err(reading)?.len();
        Self::read(path, left, BufReader::with_capacity(1 << 20, file))
    }

    /// Reads a model from memory; `path` only names it in errors.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        Self::read(path, bytes.len() as u64, bytes)
    }

    fn read(path: &Path, left: u64, input: impl Read) -> Result<Self, Error> {
        let mut input = Input { path: path.to_owned(), input, offset: 0, left };
        let model = input.model()?;
        match input.left {
            0 => Ok(model),
            left => Err(input.error(format!("{left} bytes after the model"))),
        }
    }
}

struct Input<R> {
    path: PathBuf,
    input: R,
    offset: u64,
    left: u64,
}

impl<R: Read> Input<R> {
    fn error(&self, problem: impl Into<String>) -> Error {
        Error::Format { path: self.path.clone(), offset: self.offset, problem: problem.into() }
    }

    /// `count * size`, if that many bytes are left.
    fn fits(&self, count: i64, size: u64, what: &str) -> Result<usize, Error> {
        let bytes = u64::try_from(count).ok().and_then(|count| count.checked_mul(size));
        match bytes {
            Some(bytes) if bytes <= self.left => Ok(count as usize),
            _ => Err(self.error(format!("{count} {what}, but {} bytes are left", self.left))),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        if bytes.len() as u64 > self.left {
            return Err(self.error("the file ends too early"));
        }
        self.input.read_exact(bytes).map_err(|source| FileError::reading(&self.path, source))?;
        self.offset += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn i32(&mut self) -> Result<i32, Error> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, Error> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.error(format!("a flag is {other}"))),
        }
    }

    /// The caller has checked `count` with [`Self::fits`].
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The caller has checked `count` with [`Self::fits`].
    fn floats(&mut self, count: usize) -> Result<Vec<f32>, Error> {
        let mut values = Vec::with_capacity(count);
        let mut block = [0; 4096];
        while values.len() < count {
            let wanted = (4 * (count - values.len())).min(block.len());
            self.fill(&mut block[..wanted])?;
            values.extend(
                block[..wanted].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            );
        }
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(values),
            Some(value) => Err(self.error(format!("a weight is {value}"))),
        }
    }

    fn model(&mut self) -> Result<Model, Error> {
        let magic = self.i32()?;
        let version = self.i32()?;
        if magic != MAGIC || !(11..=VERSION).contains(&version) {
            return Err(
                self.error(format!("magic number {magic}, version {version}, expected {MAGIC}, 11 or 12"))
            );
        }
        let mut args = self.args()?;
        if version == 11 {
            // Supervised models of that version had no character n-grams, whatever they say.
            args.maxn = 0;
        }
        let dictionary = self.dictionary(&args)?;
        let quantized = self.flag()?;
        if !quantized && dictionary.pruned.is_some() {
            return Err(self.error("n-grams pruned in a model that is not quantised"));
        }
        let input = self.matrix(&args, quantized)?;
        let hashed = match &dictionary.pruned {
            Some(kept) => kept.values().max().map_or(0, |&last| last as usize + 1),
            None if args.maxn > 0 || args.word_ngrams > 1 => args.bucket as usize,
            None => 0,
        };
        self.enough_rows(&input, dictionary.words + hashed, args.dim)?;
        let quantized_output = self.flag()?;
        let output = self.matrix(&args, quantized && quantized_output)?;
        self.enough_rows(&output, dictionary.labels().len(), args.dim)?;
        let labels = dictionary.labels().iter().map(|label| label_name(&label.word)).collect();
        let tree = match args.loss {
            Loss::HierarchicalSoftmax => {
                self.tree(&dictionary.labels().iter().map(|label| label.count).collect::<Vec<_>>())?
            }
            _ => Vec::new(),
        };
        Ok(Model { args, dictionary, input, output, labels, tree })
    }

    fn enough_rows(&self, matrix: &Matrix, rows: usize, dim: usize) -> Result<(), Error> {
        match matrix.rows(dim) {
            found if found >= rows => Ok(()),
            found => Err(self.error(format!("a matrix of {found} rows, expected {rows}"))),
        }
    }

    fn args(&mut self) -> Result<Args, Error> {
        let mut values = [0; 12];
        for value in &mut values {
            *value = self.i32()?;
        }
        let sampling = f64::from_le_bytes(self.array()?);
        let [
            dim,
            window,
            epochs,
            min_count,
            negatives,
            word_ngrams,
            loss,
            model,
            bucket,
            minn,
            maxn,
            lr_update_rate,
        ] = values;
        let loss = match loss {
            1 => Loss::HierarchicalSoftmax,
            2 => Loss::NegativeSampling,
            3 => Loss::Softmax,
            4 => Loss::OneVsAll,
            other => return Err(self.error(format!("loss {other}, expected 1 to 4"))),
        };
        if model != SUPERVISED {
            return Err(self.error("word vectors, not a classifier"));
        }
        if dim < 1 || dim as usize > MAX_DIM {
            return Err(self.error(format!("vectors of {dim} numbers, expected 1 to {MAX_DIM}")));
        }
        let ngrams = [word_ngrams, minn, maxn];
        if ngrams.iter().any(|n| !(0..=MAX_NGRAM).contains(n)) {
            return Err(self.error(format!("n-grams of {ngrams:?}, expected at most {MAX_NGRAM}")));
        }
        if bucket < 0 || (bucket == 0 && (maxn > 0 || word_ngrams > 1)) {
            return Err(self.error(format!("{bucket} buckets")));
        }
        Ok(Args {
            dim: dim as usize,
            window,
            epochs,
            min_count,
            negatives,
            word_ngrams: word_ngrams as usize,
            loss,
            bucket: bucket as u32,
            minn: minn as usize,
            maxn: maxn as usize,
            lr_update_rate,
            sampling,
        })
    }

    fn dictionary(&mut self, args: &Args) -> Result<Dictionary, Error> {
        let [size, words, labels] = [self.i32()?, self.i32()?, self.i32()?];
        let (tokens, pruned) = (self.i64()?, self.i64()?);
        if words < 0 || labels < 1 || i64::from(words) + i64::from(labels) != i64::from(size) {
            return Err(self.error(format!("{words} words and {labels} labels of {size} entries")));
        }
        // A zero byte, a count and a kind at least.
        let size = self.fits(size.into(), 10, "entries")?;
        let mut entries = Vec::with_capacity(size);
        for place in 0..size {
            let word = self.word()?;
            let count = self.i64()?;
            let [kind] = self.array()?;
            if kind != u8::from(place >= words as usize) {
                return Err(self.error(format!("entry {place} is of kind {kind}, words come before labels")));
            }
            entries.push(Entry { word, count });
        }
        let pruned = if pruned < 0 { None } else { Some(self.pruned(pruned, args.bucket)?) };
        Ok(Dictionary::new(entries, words as usize, tokens, pruned))
    }

    fn pruned(&mut self, count: i64, bucket: u32) -> Result<HashMap<u32, u32>, Error> {
        let count = self.fits(count, 8, "n-grams")?;
        let mut kept = HashMap::with_capacity(count);
        for _ in 0..count {
            match [self.i32()?, self.i32()?] {
                [from, to] if from >= 0 && (from as u32) < bucket && to >= 0 => {
                    kept.insert(from as u32, to as u32)
                }
                [from, to] => return Err(self.error(format!("n-gram {from} at row {to}"))),
            };
        }
        Ok(kept)
    }

    fn word(&mut self) -> Result<Box<[u8]>, Error> {
        let mut word = Vec::new();
        loop {
            match self.array()? {
                [0] => return Ok(word.into()),
                [byte] if word.len() < MAX_WORD => word.push(byte),
                _ => return Err(self.error(format!("a word of more than {MAX_WORD} bytes"))),
            }
        }
    }

    fn matrix(&mut self, args: &Args, quantized: bool) -> Result<Matrix, Error> {
        let normed = quantized && self.flag()?;
        let (rows, columns) = (self.i64()?, self.i64()?);
        if columns != args.dim as i64 {
            return Err(self.error(format!("a matrix of {columns} columns, expected {}", args.dim)));
        }
        if !quantized {
            let rows = self.fits(rows, 4 * args.dim as u64, "rows")?;
            return Ok(Matrix::Dense { columns: args.dim, values: self.floats(rows * args.dim)? });
        }
        let size = self.i32()?;
        let size = self.fits(size.into(), 1, "codes")?;
        let codes = self.bytes(size)?;
        let codebook = self.codebook(args.dim)?;
        if rows < 0 || (rows as u64).checked_mul(codebook.slices as u64) != Some(size as u64) {
            let slices = codebook.slices;
            return Err(self.error(format!("{size} codes for {rows} rows of {slices} slices")));
        }
        let norms = if normed {
            let rows = self.fits(rows, 1, "norms")?;
            let codes = self.bytes(rows)?;
            Some((codes, self.codebook(1)?.centroids))
        } else {
            None
        };
        Ok(Matrix::Quantized(Quantized { codes, codebook, norms }))
    }

    fn codebook(&mut self, dim: usize) -> Result<Codebook, Error> {
        let [found, slices, width, last_width] = [self.i32()?, self.i32()?, self.i32()?, self.i32()?];
        let covered = (i64::from(slices) - 1) * i64::from(width) + i64::from(last_width);
        let sane = slices > 0 && last_width > 0 && last_width <= width;
        if i64::from(found) != dim as i64 || !sane || covered != dim as i64 {
            return Err(self.error(format!(
                "a codebook of {found} columns in {slices} slices of {width} and {last_width}, expected {dim} columns"
            )));
        }
        let count = self.fits((dim * CENTROIDS) as i64, 4, "centroids")?;
        Ok(Codebook {
            width: width as usize,
            last_width: last_width as usize,
            slices: slices as usize,
            centroids: self.floats(count)?,
        })
    }

    /// The Huffman tree that fastText builds from counts in descending order.
    fn tree(&self, counts: &[i64]) -> Result<Vec<[u32; 2]>, Error> {
        let labels = counts.len();
        let total = counts.iter().try_fold(0i64, |sum, &count| sum.checked_add(count).filter(|_| count >= 0));
        if total.is_none_or(|total| total >= 1_000_000_000_000_000) {
            return Err(self.error("counts of labels that make no tree"));
        }
        let mut sums: Vec<i64> = Vec::with_capacity(labels);
        let mut tree = Vec::with_capacity(labels);
        let (mut leaves, mut next) = (labels, 0);
        for _ in 1..labels {
            let mut take = || {
                let node = sums.get(next).copied();
                if leaves > 0 && node.is_none_or(|node| counts[leaves - 1] < node) {
                    leaves -= 1;
                    (leaves as u32, counts[leaves])
                } else {
                    next += 1;
                    ((labels + next - 1) as u32, node.unwrap_or_default())
                }
            };
            let (left, right) = (take(), take());
            sums.push(left.1 + right.1);
            tree.push([left.0, right.0]);
        }
        Ok(tree)
    }
}

fn label_name(word: &[u8]) -> String {
    String::from_utf8_lossy(word.strip_prefix(LABEL).unwrap_or(word)).into_owned()
}

/// Any bytes as a model, then asked about a text: errors are fine, panics are not.
#[doc(hidden)]
pub fn fuzz_fasttext(bytes: &[u8]) {
    let Ok(model) = Model::from_bytes(Path::new("fuzz.bin"), bytes) else { return };
    for text in ["", "a few words of text", "__label__x ünï\0cödé\nline"] {
        for prediction in model.predict(text, 3, 0.0) {
            assert!(prediction.label < model.labels().len());
        }
        let _ = model.probabilities(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/fasttext")
    }

    /// `tests/golden/linear.py` says how these were made.
    #[test]
    fn predicts_what_fasttext_predicts() {
        let expected = std::fs::read_to_string(golden().join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let models = expected["models"].as_object().unwrap();
        assert!(models.len() >= 7);
        for (name, answers) in models {
            let model = Model::load(&golden().join(name)).unwrap();
            for (text, answer) in
                expected["texts"].as_array().unwrap().iter().zip(answers.as_array().unwrap())
            {
                let text = text.as_str().unwrap();
                let found = model.predict(text, 99, 0.0);
                let answer = answer.as_array().unwrap();
                assert_eq!(found.len(), answer.len(), "{name}: {text}");
                for (found, answer) in found.iter().zip(answer) {
                    let place = model.labels().iter().position(|label| label == answer[0].as_str().unwrap());
                    let probability = answer[1].as_f64().unwrap();
                    assert!((f64::from(found.probability) - probability).abs() < 1e-5, "{name}: {text}");
                    // Equal probabilities may come in another order.
                    let here = found.label == place.unwrap();
                    let tied = answer_probability(&model, place.unwrap(), text);
                    assert!(here || (tied - found.probability).abs() < 1e-6, "{name}: {text}");
                }
            }
        }
    }

    fn answer_probability(model: &Model, label: usize, text: &str) -> f32 {
        model.predict(text, 99, 0.0).iter().find(|p| p.label == label).map_or(f32::NAN, |p| p.probability)
    }

    #[test]
    fn hostile_models() {
        for entry in std::fs::read_dir("corpus/fasttext").unwrap() {
            fuzz_fasttext(&std::fs::read(entry.unwrap().path()).unwrap());
        }
        for name in ["softmax.bin", "quantized.ftz", "tree.bin"] {
            let bytes = std::fs::read(golden().join(name)).unwrap();
            for cut in (0..bytes.len()).step_by(bytes.len() / 50) {
                assert!(Model::from_bytes(Path::new("cut.bin"), &bytes[..cut]).is_err());
            }
            // Each byte of the counts and sizes in turn.
            for at in 0..120 {
                for value in [0, 1, 0x7F, 0x80, 0xFF] {
                    let mut bytes = bytes.clone();
                    bytes[at] = value;
                    fuzz_fasttext(&bytes);
                }
            }
        }
    }

    #[test]
    fn errors_name_file_and_place() {
        let error = Model::from_bytes(Path::new("x.bin"), &[0; 64]).err().unwrap().to_string();
        assert!(error.contains("x.bin: magic number 0") && error.contains("at byte 8"), "{error}");
    }
}
