//! Looks for the items of tasks in the documents of token shards (spec PEV-10, PEV-11): the tokens are turned back into
//! text, a block of documents at a time on every thread, and thrown away again.

use crate::commands::eval::Asked;
use crate::evaluation;
use smolt_curate::decontaminate::{DocumentWords, Match, Matcher, Needle};
use smolt_data::shard::Shard;
use smolt_eval::contamination::{
    self, Contamination, Document, Found, FoundItem, Searched, SearchedShard, Texts, WORST, texts,
};
use smolt_eval::task::Task;
use smolt_eval::task::pose::Item;
use smolt_run::error::Failure;
use smolt_run::progress::Progress;
use smolt_text::tokenizer::Tokenizer;
use smolt_train::recipe::Train;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Fewest words of a text that is shorter than n and looked for as a whole.
const MIN_WORDS: u32 = 6;

/// Bytes that the index of one length may take.
const INDEX_MEMORY: u64 = 4 << 30;

/// Documents that a thread takes at once.
const BLOCK: u64 = 256;

/// Tokens of a document that are looked at together. What of an item lies across the end of such a window is in the next
/// one whole, as they overlap by more than any item's n words take.
const WINDOW: u64 = 1 << 16;
const OVERLAP: u64 = 1 << 13;

/// Characters of what a document shares with an item.
const EXCERPT: usize = 300;

/// Parts of an item that are told apart.
const PARTS: usize = 3;

/// Token shards with the tokenizer that reads them.
pub(crate) struct Corpus {
    tokenizer: Tokenizer,
    shards: Vec<(String, Shard)>,
}

impl Corpus {
    /// The shards that a run trains on.
    pub(crate) fn of_run(run: &Path) -> Result<Corpus, Failure> {
        let lock = run.join("recipe.lock.toml");
        let recipe: Train = smolt_run::recipe::load(&lock, &[])?;
        let named = PathBuf::from(&recipe.data.tokenizer);
        // The folder may have moved on; a checkpoint keeps its tokenizer.
        let folder = match named.join("tokenizer.json").exists() {
            true => named,
            false => crate::model_folder::resolve(run)?,
        };
        let sources = recipe.data.sources.iter();
        let shards: Vec<(String, PathBuf)> =
            sources.map(|source| (source.name.clone(), PathBuf::from(&source.path))).collect();
        Corpus::open(&folder, &shards)
    }

    /// Shards by their files; the tokenizer is a folder.
    pub(crate) fn of_files(tokenizer: &Path, files: &[PathBuf]) -> Result<Corpus, Failure> {
        let named = |file: &PathBuf| {
            (file.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned()), file.clone())
        };
        Corpus::open(tokenizer, &files.iter().map(named).collect::<Vec<_>>())
    }

    fn open(tokenizer: &Path, shards: &[(String, PathBuf)]) -> Result<Corpus, Failure> {
        let tokenizer = Tokenizer::load(&tokenizer.join("tokenizer.json"))?;
        let mut open = Vec::with_capacity(shards.len());
        let mut seen = BTreeSet::new();
        for (name, path) in shards {
            // A shard that is two sources holds its documents once.
            if seen.insert(path) {
                let shard = Shard::open(path)?;
                shard.check_tokenizer(tokenizer.hash())?;
                open.push((name.clone(), shard));
            }
        }
        if open.is_empty() {
            return Err(Failure::bad_input("no shards to look through; name some"));
        }
        Ok(Corpus { tokenizer, shards: open })
    }

    fn searched(&self) -> Searched {
        let shard = |(source, shard): &(String, Shard)| SearchedShard {
            path: shard.path().display().to_string(),
            source: source.clone(),
            documents: shard.n_documents(),
            tokens: shard.n_tokens(),
        };
        Searched {
            shards: self.shards.iter().map(shard).collect(),
            tokenizer_hash: self.tokenizer.hash().to_owned(),
        }
    }
}

/// What is asked of a search.
pub(crate) struct Search<'a> {
    pub(crate) asked: &'a Asked,
    /// Lengths of n-grams, in words.
    pub(crate) lengths: &'a [u32],
    pub(crate) threads: usize,
    pub(crate) quiet: bool,
}

/// The items of one task, ready to be looked for.
struct Looked {
    task: String,
    items: Vec<(String, usize)>,
    texts: Vec<Texts>,
}

/// What was found of every task, by name.
pub(crate) fn measure(
    corpus: &Corpus,
    search: &Search<'_>,
) -> Result<BTreeMap<String, Contamination>, Failure> {
    let mut looked = Vec::new();
    for (task, _) in search.asked.select()?.0 {
        looked.push(look_for(&task, search)?);
    }
    let index = Index::new(&looked, search.lengths)?;
    let tallies = scan(corpus, &index, search)?;
    looked
        .iter()
        .enumerate()
        .map(|(i, of)| Ok((of.task.clone(), record(corpus, &index, i, of, &tallies)?)))
        .collect()
}

fn look_for(task: &Task, search: &Search<'_>) -> Result<Looked, Failure> {
    // The question alone: examples would only be found again.
    let mut alone = task.clone();
    alone.few_shot.count = 0;
    let formulation = contamination::plainest(&alone)
        .ok_or_else(|| Failure::bad_input(format!("task `{}` has no formulation", task.name)))?;
    let loaded = smolt_eval::dataset::load(&alone, &search.asked.sources())?;
    let items: Vec<Item> = evaluation::items(&alone, formulation, &loaded, search.asked.limit())?;
    Ok(Looked {
        task: task.name.clone(),
        texts: items.iter().map(|item| texts(&alone, formulation, item)).collect(),
        items: items.into_iter().map(|item| (item.id, item.row)).collect(),
    })
}

/// A needle's place: its task, item and part.
#[derive(Clone, Copy)]
struct Place {
    task: usize,
    item: usize,
    part: usize,
}

struct Index {
    places: Vec<Place>,
    matchers: Vec<(u32, Matcher)>,
}

impl Index {
    fn new(looked: &[Looked], lengths: &[u32]) -> Result<Index, Failure> {
        let (mut places, mut needles) = (Vec::new(), Vec::new());
        for (task, of) in looked.iter().enumerate() {
            for (item, texts) in of.texts.iter().enumerate() {
                let mut add = |part, before, text, whole| {
                    places.push(Place { task, item, part });
                    needles.push(Needle { before, text, whole });
                };
                for question in &texts.questions {
                    add(0, "", question.as_str(), true);
                    add(1, question.as_str(), texts.answer.as_str(), true);
                }
                texts.candidates.iter().for_each(|candidate| add(2, "", candidate.as_str(), false));
            }
        }
        let matcher = |&n: &u32| {
            let matcher = Matcher::new(needles.iter().copied(), n, MIN_WORDS.min(n), INDEX_MEMORY);
            Ok((n, matcher?))
        };
        Ok(Index { matchers: lengths.iter().map(matcher).collect::<Result<_, Failure>>()?, places })
    }
}

/// What was found with one length of n-grams.
#[derive(Default)]
struct Tally {
    /// Documents with something of a (task, item), by part.
    items: BTreeMap<(usize, usize), [u64; PARTS]>,
    /// Documents with something of a task.
    documents: BTreeMap<usize, u64>,
    /// The documents with most items of a task, at most [`WORST`], best first.
    worst: BTreeMap<usize, Vec<Worst>>,
}

/// A document with items, ordered with most items first; no two are equal, so that the order is that of no thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Worst {
    items: std::cmp::Reverse<usize>,
    places: std::cmp::Reverse<usize>,
    shard: usize,
    document: u64,
    /// The first of its items and the words it shares.
    item: usize,
    excerpt: String,
}

impl Tally {
    fn merge(&mut self, other: Tally) {
        for (item, parts) in other.items {
            let sums = self.items.entry(item).or_default();
            sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        }
        other.documents.into_iter().for_each(|(task, n)| *self.documents.entry(task).or_default() += n);
        for (task, worst) in other.worst {
            let all = self.worst.entry(task).or_default();
            all.extend(worst);
            all.sort();
            all.truncate(WORST);
        }
    }

    fn add_document(&mut self, shard: usize, document: u64, found: BTreeMap<usize, InDocument>) {
        for (task, of) in found {
            *self.documents.entry(task).or_default() += 1;
            for (item, parts) in &of.items {
                let sums = self.items.entry((task, *item)).or_default();
                sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += u64::from(*part));
            }
            let worst = Worst {
                items: std::cmp::Reverse(of.items.len()),
                places: std::cmp::Reverse(of.places),
                shard,
                document,
                item: of.first,
                excerpt: of.excerpt,
            };
            let all = self.worst.entry(task).or_default();
            let at = all.partition_point(|other| *other < worst);
            if at < WORST {
                all.insert(at, worst);
                all.truncate(WORST);
            }
        }
    }
}

/// What one document holds of a task.
#[derive(Default)]
struct InDocument {
    items: BTreeMap<usize, [bool; PARTS]>,
    places: usize,
    first: usize,
    excerpt: String,
}

/// Looks through every document, on every thread. Sums and order of what is found are those of one thread.
fn scan(corpus: &Corpus, index: &Index, search: &Search<'_>) -> Result<Vec<Tally>, Failure> {
    let blocks: Vec<(usize, u64)> = (0..corpus.shards.len())
        .flat_map(|shard| {
            (0..corpus.shards[shard].1.n_documents().div_ceil(BLOCK)).map(move |b| (shard, b * BLOCK))
        })
        .collect();
    let total: u64 = corpus.shards.iter().map(|(_, shard)| shard.n_tokens()).sum();
    let (next, tokens, running) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let mut tallies: Vec<Tally> = index.matchers.iter().map(|_| Tally::default()).collect();
        let mut words = DocumentWords::default();
        while let Some(&(shard, first)) = blocks.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let of = &corpus.shards[shard].1;
            for document in first..(first + BLOCK).min(of.n_documents()) {
                look_through(corpus, index, (shard, document), &mut words, &mut tallies);
            }
            let last = (first + BLOCK).min(of.n_documents()) - 1;
            tokens.fetch_add(of.document_end(last) - of.document(first).start, Ordering::Relaxed);
        }
        running.fetch_sub(1, Ordering::Release);
        tallies
    };
    let mut progress =
        if search.quiet { Progress::hidden() } else { Progress::new(total, "looking for items, tokens") };
    let threads = search.threads.max(1);
    running.store(threads as u64, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let stopped =
            |workers: &[std::thread::ScopedJoinHandle<'_, _>]| workers.iter().all(|w| w.is_finished());
        while running.load(Ordering::Acquire) > 0 && !stopped(&workers) {
            progress.set(tokens.load(Ordering::Relaxed), "");
            std::thread::sleep(Duration::from_millis(50));
        }
        progress.set(total, "");
        progress.finish();
        let mut sum: Vec<Tally> = index.matchers.iter().map(|_| Tally::default()).collect();
        for worker in workers {
            let tallies = worker
                .join()
                .map_err(|_| Failure::failed("a thread of the search ended early; report this"))?;
            sum.iter_mut().zip(tallies).for_each(|(sum, tally)| sum.merge(tally));
        }
        Ok(sum)
    })
}

fn look_through(
    corpus: &Corpus,
    index: &Index,
    (shard, document): (usize, u64),
    words: &mut DocumentWords,
    tallies: &mut [Tally],
) {
    let of = &corpus.shards[shard].1;
    let range = of.document(document);
    let mut found: Vec<BTreeMap<usize, InDocument>> = tallies.iter().map(|_| BTreeMap::new()).collect();
    let mut start = range.start;
    while start < range.end {
        let end = (start + WINDOW).min(range.end);
        let ids: Vec<u32> = (start..end).map(|position| of.token(position)).collect();
        let text = corpus.tokenizer.decode(&ids, true);
        words.read(&text);
        for ((_, matcher), found) in index.matchers.iter().zip(&mut found) {
            matcher.find(words).into_iter().for_each(|found_at| note(index, &text, found_at, found));
        }
        if end == range.end {
            break;
        }
        start = end - OVERLAP;
    }
    for (tally, found) in tallies.iter_mut().zip(found) {
        tally.add_document(shard, document, found);
    }
}

fn note(index: &Index, text: &str, found_at: Match, found: &mut BTreeMap<usize, InDocument>) {
    let Some(&Place { task, item, part }) = index.places.get(found_at.needle as usize) else { return };
    let of = found.entry(task).or_default();
    if of.places == 0 {
        of.first = item;
        let shared = text.get(found_at.start..found_at.end).unwrap_or_default();
        of.excerpt = shared.chars().take(EXCERPT).collect();
    }
    of.places += 1;
    of.items.entry(item).or_default()[part] = true;
}

/// The record of task number `number`.
fn record(
    corpus: &Corpus,
    index: &Index,
    number: usize,
    of: &Looked,
    tallies: &[Tally],
) -> Result<Contamination, Failure> {
    let mut by_n = Vec::new();
    for ((n, matcher), tally) in index.matchers.iter().zip(tallies) {
        let mut checked = vec![false; of.items.len()];
        for (needle, place) in index.places.iter().enumerate().filter(|(_, place)| place.task == number) {
            checked[place.item] |= matcher.checked(needle);
        }
        let checked = checked.into_iter().filter(|checked| *checked).count();
        let found: Vec<FoundItem> = tally
            .items
            .range((number, 0)..(number + 1, 0))
            .map(|((_, item), [question, answer, candidate])| FoundItem {
                id: of.items[*item].0.clone(),
                row: of.items[*item].1,
                question: *question,
                answer: *answer,
                candidate: *candidate,
            })
            .collect();
        let count = |part: fn(&FoundItem) -> u64| found.iter().filter(|item| part(item) > 0).count();
        by_n.push(Found {
            n: *n,
            items: of.items.len(),
            unchecked: of.items.len() - checked,
            contaminated: found.len(),
            share: found.len() as f64 / checked.max(1) as f64,
            in_question: count(|item| item.question),
            in_answer: count(|item| item.answer),
            in_candidate: count(|item| item.candidate),
            documents: tally.documents.get(&number).copied().unwrap_or(0),
            worst: worst(corpus, of, tally.worst.get(&number).map(Vec::as_slice).unwrap_or_default())?,
            found,
            effect: None,
        });
    }
    Ok(Contamination { searched: corpus.searched(), by_n })
}

/// The worst documents with what their input called them.
fn worst(corpus: &Corpus, of: &Looked, worst: &[Worst]) -> Result<Vec<Document>, Failure> {
    let mut wanted: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for found in worst {
        wanted.entry(found.shard).or_default().insert(found.document);
    }
    let mut names = BTreeMap::new();
    for (shard, documents) in wanted {
        names.insert(shard, corpus.shards[shard].1.document_ids(&documents)?);
    }
    let document = |found: &Worst| Document {
        shard: corpus.shards[found.shard].1.path().display().to_string(),
        document: found.document,
        source: names.get(&found.shard).and_then(|names| names.get(&found.document)).cloned(),
        items: found.items.0,
        places: found.places.0,
        example: of.items[found.item].0.clone(),
        excerpt: found.excerpt.clone(),
    };
    Ok(worst.iter().map(document).collect())
}
