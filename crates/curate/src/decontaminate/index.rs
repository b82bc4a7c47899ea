//! The index: sorted hashes of the evaluation sets' n-grams, behind a bitmap that turns nearly all other n-grams away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use smolt_data::format::{JsonLines, ReadOptions, Record};
use xxhash_rust::xxh3::xxh3_64;

use super::DecontaminateError;
use super::report::{BenchmarkReport, DecontaminationReport, ItemReport};
use super::words::Words;

/// An evaluation set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Benchmark {
    /// As reports name it.
    pub name: String,
    /// JSONL, plain or compressed.
    pub path: PathBuf,
    /// Where the texts are: the first is the prompt, which every line must have; the others are answers, each of them
    /// optional in a line. `a.b` is `b` within `a`. Strings and numbers count, also in lists and objects.
    pub keys: Vec<String>,
}

/// A line of an evaluation set.
#[derive(Deserialize)]
struct Line(Map<String, Value>);

impl Record for Line {
    const SHAPE: &'static str = "an object";

    fn parse(line: &[u8], _: &ReadOptions) -> serde_json::Result<Self> {
        serde_json::from_slice(line)
    }
}

/// Hash and item: an n-gram, or the first words of a short text.
type Entry = (u64, u32);

/// A bit per hash of sixteen: one lookup in memory that stays in the cache.
struct Filter {
    bits: Vec<u64>,
    mask: u64,
}

impl Filter {
    fn of(hashes: impl Iterator<Item = u64>, count: usize) -> Self {
        let size = (count * 16).next_power_of_two().max(64) as u64;
        let mut filter = Self { bits: vec![0; size as usize / 64], mask: size - 1 };
        for hash in hashes {
            let bit = hash & filter.mask;
            filter.bits[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        filter
    }

    #[inline]
    fn may_have(&self, hash: u64) -> bool {
        let bit = hash & self.mask;
        self.bits[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }
}

/// A text shorter than n words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Short {
    /// Of its first `min_words` words.
    start: u64,
    words: u32,
    whole: u64,
    item: u32,
}

/// Words `first` to `last` of a document are also an item's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) item: u32,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// What is looked for.
pub struct Index {
    n: usize,
    min_words: usize,
    hashes: Vec<u64>,
    items_of: Vec<u32>,
    filter: Filter,
    short: Vec<Short>,
    short_filter: Filter,
    /// Benchmark and line of each item.
    items: Vec<(u32, u64)>,
    benchmarks: Vec<BenchmarkReport>,
}

/// Collects entries within a budget.
pub(super) struct Builder {
    n: usize,
    min_words: usize,
    most: usize,
    memory: u64,
    entries: Vec<Entry>,
    short: Vec<Short>,
    items: Vec<(u32, u64)>,
    words: Words,
}

impl Builder {
    pub(super) fn new(n: u32, min_words: u32, memory: u64) -> Result<Self, DecontaminateError> {
        if !(2..=256).contains(&n) || min_words == 0 || min_words > n {
            let problem = format!("n = {n} must be from 2 to 256 and min_words = {min_words} from 1 to n");
            return Err(DecontaminateError::Settings(problem));
        }
        Ok(Self {
            n: n as usize,
            min_words: min_words as usize,
            // An entry is 16 bytes while it is sorted, and as many again are copied where it ends up; 4 are the filter's.
            most: usize::try_from(memory / 36).unwrap_or(usize::MAX),
            memory,
            entries: Vec::new(),
            short: Vec::new(),
            items: Vec::new(),
            words: Words::default(),
        })
    }

    /// Begins an item.
    pub(super) fn next_item(&mut self, benchmark: u32, line: u64) -> Result<(), DecontaminateError> {
        if self.items.len() >= u32::MAX as usize {
            return Err(DecontaminateError::Settings("more than 2^32 items; give fewer".into()));
        }
        self.items.push((benchmark, line));
        Ok(())
    }

    /// Adds a text of the newest item with words that stand before it, of which no n-gram alone counts. Where there are
    /// fewer than n words, but `min_words`, all of them are looked for. Whether there were enough.
    pub(super) fn add_after(
        &mut self,
        before: &str,
        text: &str,
        min_words: usize,
    ) -> Result<bool, DecontaminateError> {
        let item = (self.items.len() - 1) as u32;
        self.words.find(before);
        let known = self.words.len();
        self.words.append(text);
        let count = self.words.len();
        if count == known || count < min_words {
            return Ok(false);
        }
        if count >= self.n {
            let first = (known + 1).saturating_sub(self.n);
            let hashes = (first..=count - self.n).filter_map(|at| self.words.ngram(at, self.n)).map(xxh3_64);
            self.entries.extend(hashes.map(|hash| (hash, item)));
        } else {
            self.add_short(count, item);
        }
        self.within_budget()?;
        Ok(true)
    }

    /// The first `count` words are looked for as a whole.
    fn add_short(&mut self, count: usize, item: u32) {
        let of = |words| self.words.ngram(0, words).map_or(0, xxh3_64);
        let short = Short { start: of(self.min_words), words: count as u32, whole: of(count), item };
        self.short.push(short);
    }

    fn within_budget(&mut self) -> Result<(), DecontaminateError> {
        if self.entries.len() + 2 * self.short.len() > self.most {
            self.compact();
            if self.entries.len() + 2 * self.short.len() > self.most / 2 {
                return Err(DecontaminateError::Memory(self.memory));
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self, benchmarks: Vec<BenchmarkReport>) -> Index {
        self.compact();
        Index::of(self, benchmarks)
    }

    /// Adds one text of the newest item: the prompt and an answer.
    fn add(
        &mut self,
        prompt: &str,
        answer: &str,
        report: &mut BenchmarkReport,
    ) -> Result<(), DecontaminateError> {
        let item = (self.items.len() - 1) as u32;
        self.words.find(prompt);
        self.words.append(answer);
        let count = self.words.len();
        if count >= self.n {
            let hashes =
                (0..=count - self.n).filter_map(|first| self.words.ngram(first, self.n)).map(xxh3_64);
            self.entries.extend(hashes.map(|hash| (hash, item)));
        } else if count >= self.min_words {
            self.add_short(count, item);
            report.short += 1;
        } else {
            report.unchecked += 1;
        }
        self.within_budget()
    }

    fn compact(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup();
        self.short.sort_unstable();
        self.short.dedup();
    }
}

impl Index {
    /// Reads the benchmarks; the index takes at most `memory` bytes.
    pub fn build(
        benchmarks: &[Benchmark],
        n: u32,
        min_words: u32,
        memory: u64,
    ) -> Result<Self, DecontaminateError> {
        let mut builder = Builder::new(n, min_words, memory)?;
        let mut reports = Vec::with_capacity(benchmarks.len());
        for (number, benchmark) in benchmarks.iter().enumerate() {
            let lines = JsonLines::open(&benchmark.path)?;
            reports.push(read(benchmark, number as u32, lines, &mut builder)?);
        }
        Ok(builder.finish(reports))
    }

    fn of(builder: Builder, mut benchmarks: Vec<BenchmarkReport>) -> Self {
        let Builder { n, min_words, entries, short, items, .. } = builder;
        let mut before = vec![None; benchmarks.len()];
        for &(hash, item) in &entries {
            let benchmark = items[item as usize].0 as usize;
            // Needles in memory have no report.
            if before.get_mut(benchmark).is_some_and(|before| before.replace(hash) != Some(hash)) {
                benchmarks[benchmark].ngrams += 1;
            }
        }
        Self {
            n,
            min_words,
            filter: Filter::of(entries.iter().map(|entry| entry.0), entries.len()),
            hashes: entries.iter().map(|entry| entry.0).collect(),
            items_of: entries.iter().map(|entry| entry.1).collect(),
            short_filter: Filter::of(short.iter().map(|short| short.start), short.len()),
            short,
            items,
            benchmarks,
        }
    }

    /// The benchmark and line of an item.
    pub(super) fn name(&self, item: u32) -> (&str, u64) {
        let (benchmark, line) = self.items[item as usize];
        (&self.benchmarks[benchmark as usize].name, line)
    }

    /// A report with these numbers of documents by item.
    pub(super) fn report(&self, hits: &BTreeMap<u32, u64>) -> DecontaminationReport {
        let mut benchmarks = self.benchmarks.clone();
        for (&item, &documents) in hits {
            if let Some(&(benchmark, line)) = self.items.get(item as usize) {
                benchmarks[benchmark as usize].found.push(ItemReport { line, documents });
            }
        }
        DecontaminationReport { format_version: 1, benchmarks, ..DecontaminationReport::default() }
    }

    /// Everything of the evaluation sets that is in these words.
    pub(super) fn hits(&self, words: &Words) -> Vec<Hit> {
        let mut hits = Vec::new();
        for first in 0..words.len() {
            if let Some(hash) = words.ngram(first, self.n).map(xxh3_64)
                && self.filter.may_have(hash)
            {
                let found = self.hashes.partition_point(|&other| other < hash);
                let equal = self.hashes[found..].iter().take_while(|&&other| other == hash).count();
                let last = first + self.n - 1;
                hits.extend(self.items_of[found..found + equal].iter().map(|&item| Hit {
                    item,
                    first,
                    last,
                }));
            }
            if !self.short.is_empty() {
                self.short_hits(words, first, &mut hits);
            }
        }
        hits
    }

    fn short_hits(&self, words: &Words, first: usize, hits: &mut Vec<Hit>) {
        let Some(start) = words.ngram(first, self.min_words).map(xxh3_64) else { return };
        if !self.short_filter.may_have(start) {
            return;
        }
        let found = self.short.partition_point(|short| short.start < start);
        for short in self.short[found..].iter().take_while(|short| short.start == start) {
            let count = short.words as usize;
            if words.ngram(first, count).map(xxh3_64) == Some(short.whole) {
                hits.push(Hit { item: short.item, first, last: first + count - 1 });
            }
        }
    }
}

fn read(
    benchmark: &Benchmark,
    number: u32,
    mut lines: JsonLines<Line>,
    builder: &mut Builder,
) -> Result<BenchmarkReport, DecontaminateError> {
    let Some((prompt_key, answer_keys)) = benchmark.keys.split_first() else {
        let problem = format!("{} has no keys; name the one of the prompt", benchmark.name);
        return Err(DecontaminateError::Settings(problem));
    };
    let mut report = BenchmarkReport { name: benchmark.name.clone(), ..BenchmarkReport::default() };
    let mut seen = vec![false; answer_keys.len()];
    let mut line = 0;
    for item in &mut lines {
        let Line(item) = item?;
        line += 1;
        let problem = |problem| DecontaminateError::Item { path: benchmark.path.clone(), line, problem };
        let prompt = texts(&item, prompt_key).join("\n");
        if prompt.is_empty() {
            return Err(problem(format!("no text under \"{prompt_key}\"; name the key of the prompt")));
        }
        builder.next_item(number, line)?;
        report.items += 1;
        let mut answers = Vec::new();
        for (key, seen) in answer_keys.iter().zip(&mut seen) {
            let found = texts(&item, key);
            *seen |= !found.is_empty();
            answers.extend(found);
        }
        if answers.is_empty() {
            answers.push(String::new());
        }
        for answer in answers {
            builder.add(&prompt, &answer, &mut report)?;
        }
    }
    match seen.iter().position(|seen| !seen).filter(|_| report.items > 0) {
        Some(at) => Err(DecontaminateError::Item {
            path: benchmark.path.clone(),
            line,
            problem: format!(
                "no line up to this one has a text under \"{}\"; correct the key",
                answer_keys[at]
            ),
        }),
        None => Ok(report),
    }
}

/// All texts under a key, in order.
fn texts(item: &Map<String, Value>, key: &str) -> Vec<String> {
    let mut parts = key.split('.');
    // A key that has a dot itself is found as it is.
    let mut value = item.get(key).or_else(|| parts.next().and_then(|part| item.get(part)));
    if !item.contains_key(key) {
        for part in parts {
            value = value.and_then(|value| value.get(part));
        }
    }
    let mut found = Vec::new();
    collect(value.unwrap_or(&Value::Null), &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.trim().is_empty() => found.push(text.clone()),
        Value::Number(number) => found.push(number.to_string()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(values) => values.values().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// Indexes the bytes as an evaluation set and looks for it in itself: errors are fine, panics are not.
#[doc(hidden)]
pub fn fuzz_evaluation_set(bytes: &[u8]) {
    let path = Path::new("fuzz.jsonl");
    let benchmark =
        Benchmark { name: "fuzz".into(), path: path.to_owned(), keys: vec!["q".into(), "a.b".into()] };
    let mut builder = Builder {
        n: 3,
        min_words: 2,
        most: 1000,
        memory: 36_000,
        entries: Vec::new(),
        short: Vec::new(),
        items: Vec::new(),
        words: Words::default(),
    };
    let lines = JsonLines::new(path, Box::new(std::io::Cursor::new(bytes.to_vec())));
    if let Ok(report) = read(&benchmark, 0, lines, &mut builder) {
        builder.compact();
        let checked = !builder.entries.is_empty();
        let index = Index::of(builder, vec![report]);
        let mut words = Words::default();
        words.find(&String::from_utf8_lossy(bytes));
        for hit in index.hits(&words) {
            assert!(checked || hit.last == hit.first + 1);
            assert!(words.span(hit.first, hit.last).1 <= bytes.len() * 3);
        }
    }
}
