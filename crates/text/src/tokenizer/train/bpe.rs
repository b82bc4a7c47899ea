//! Learning merges: counted words, the number of each pair of neighbours, a heap of pairs with lazy updates, and for
//! each pair the words that it may be in.
//!
//! The same words give the same merges as the trainer of PyPI `tokenizers`, ties included: of equally frequent pairs
//! the one with the smaller ids comes first. That trainer has two habits which decide a merge now and then and are
//! kept: a pair that comes up again after it was merged (its string had been made in two ways) starts from its old
//! count, and is then merged only where it came up again. Counts have 64 bits here and 32 there.

use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Words as symbols, in one arena.
pub(super) struct Corpus {
    /// The symbols of all words.
    symbols: Vec<u32>,
    /// Where each word begins in `symbols`.
    starts: Vec<usize>,
    /// How many symbols each word still has.
    lengths: Vec<u32>,
    /// How often each word occurs.
    counts: Vec<i64>,
}

impl Corpus {
    /// Room for `words` words of `symbols` symbols.
    pub(super) fn with_capacity(words: usize, symbols: usize) -> Self {
        Self {
            symbols: Vec::with_capacity(symbols),
            starts: Vec::with_capacity(words),
            lengths: Vec::with_capacity(words),
            counts: Vec::with_capacity(words),
        }
    }

    /// Adds a word; words of fewer than two symbols have no pairs and are left out.
    pub(super) fn push(&mut self, word: impl Iterator<Item = u32>, count: u64) {
        let start = self.symbols.len();
        self.symbols.extend(word);
        let length = self.symbols.len() - start;
        match u32::try_from(length) {
            Ok(length) if length >= 2 => {
                self.starts.push(start);
                self.lengths.push(length);
                // 2⁴⁸ occurrences of a word, times any number of words in memory, stay within 64 bits.
                self.counts.push(count.min(1 << 48) as i64);
            }
            _ => self.symbols.truncate(start),
        }
    }
}

/// What to learn.
pub(super) struct Goal<'a> {
    /// Tokens in all, the initial ones included.
    pub(super) vocab_size: usize,
    /// A pair must occur at least this often.
    pub(super) min_frequency: u64,
    /// What a token that continues a word begins with; dropped when it is appended to another.
    pub(super) continuing_prefix: &'a str,
}

/// What was learned.
pub(super) struct Learned {
    /// The initial tokens, then the new ones.
    pub(super) tokens: Vec<Vec<u8>>,
    /// Pairs of ids in order of priority, each once.
    pub(super) merges: Vec<(u32, u32)>,
}

type Pair = (u32, u32);

/// By count, then the smaller pair, then the older list.
type Candidate = (u64, Reverse<Pair>, Reverse<u32>);

/// Learns merges over `corpus`, whose symbols are indices of `initial`, until there are `goal.vocab_size` tokens or no
/// pair is frequent enough.
pub(super) fn learn(mut corpus: Corpus, initial: Vec<Vec<u8>>, goal: &Goal<'_>) -> Learned {
    let mut pairs = Pairs::of(&corpus);
    let mut tokens = initial;
    let mut ids: HashMap<Vec<u8>, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut merges = Vec::new();
    let mut step = Step::new(goal.vocab_size.max(tokens.len()));
    while ids.len() < goal.vocab_size
        && let Some((count, Reverse(pair), Reverse(list))) = pairs.heap.pop()
    {
        let current = pairs.count(pair);
        if count != current {
            pairs.heap.push((current, Reverse(pair), Reverse(list)));
            continue;
        }
        if count < goal.min_frequency.max(1) {
            break;
        }
        let mut token = tokens[pair.0 as usize].clone();
        let right = &tokens[pair.1 as usize];
        token.extend(right.strip_prefix(goal.continuing_prefix.as_bytes()).unwrap_or(right));
        let new = *ids.entry(token).or_insert_with_key(|token| {
            tokens.push(token.clone());
            (tokens.len() - 1) as u32
        });
        merges.push(pair);
        let places = std::mem::take(&mut pairs.places[list as usize]);
        step.merge(&mut corpus, &places, pair, new);
        step.publish(&mut pairs, pair, new);
    }
    Learned { tokens, merges: last_of_each(merges) }
}

/// A pair that was merged twice counts from the second time: that is what a map from pairs to ranks, filled in order,
/// holds in the end.
fn last_of_each(merges: Vec<Pair>) -> Vec<Pair> {
    let mut seen = hashbrown::HashSet::new();
    let mut kept: Vec<Pair> = merges.into_iter().rev().filter(|pair| seen.insert(*pair)).collect();
    kept.reverse();
    kept
}

/// The pairs of neighbours of the whole corpus.
struct Pairs {
    counts: HashMap<Pair, i64, foldhash::fast::FixedState>,
    /// Lists of words, ascending, that a candidate may be in.
    places: Vec<Box<[u32]>>,
    heap: BinaryHeap<Candidate>,
}

impl Pairs {
    fn of(corpus: &Corpus) -> Self {
        let mut found: HashMap<Pair, (i64, u32), foldhash::fast::FixedState> = HashMap::default();
        let mut places: Vec<Vec<u32>> = Vec::new();
        for (index, (&start, &length)) in corpus.starts.iter().zip(&corpus.lengths).enumerate() {
            let word = &corpus.symbols[start..start + length as usize];
            for pair in word.windows(2) {
                let (count, list) = found.entry((pair[0], pair[1])).or_insert_with(|| {
                    places.push(Vec::new());
                    (0, (places.len() - 1) as u32)
                });
                *count += corpus.counts[index];
                push_once(&mut places[*list as usize], index as u32);
            }
        }
        let heap = found
            .iter()
            .map(|(&pair, &(count, list))| (count.unsigned_abs(), Reverse(pair), Reverse(list)))
            .collect();
        let counts = found.into_iter().map(|(pair, (count, _))| (pair, count)).collect();
        let places = places.into_iter().map(Vec::into_boxed_slice).collect();
        Self { counts, places, heap }
    }

    /// Never below 0, but for the habits named above, which must not wrap.
    fn count(&self, pair: Pair) -> u64 {
        self.counts.get(&pair).map_or(0, |&count| count.max(0) as u64)
    }
}

fn push_once(list: &mut Vec<u32>, word: u32) {
    if list.last() != Some(&word) {
        list.push(word);
    }
}

/// What one merge changes, by the neighbour `x`, gathered before the large table is touched.
struct Step {
    /// Of pairs (x, first): occurrences lost.
    lost_before: Changes,
    /// Of pairs (second, x): occurrences lost.
    lost_after: Changes,
    /// Of pairs (x, new): occurrences won, and where.
    won_before: Changes,
    /// Of pairs (new, x): occurrences won, and where.
    won_after: Changes,
}

/// A number and words for each neighbour that was met.
struct Changes {
    /// 1 + the index in `met`, by neighbour; 0 for those not met.
    slots: Vec<u32>,
    met: Vec<(u32, i64, Vec<u32>)>,
}

impl Changes {
    fn new(vocab_size: usize) -> Self {
        Self { slots: vec![0; vocab_size], met: Vec::new() }
    }

    fn add(&mut self, neighbour: u32, count: i64) -> &mut Vec<u32> {
        let slot = &mut self.slots[neighbour as usize];
        if *slot == 0 {
            self.met.push((neighbour, 0, Vec::new()));
            *slot = self.met.len() as u32;
        }
        let met = &mut self.met[*slot as usize - 1];
        met.1 += count;
        &mut met.2
    }

    fn drain(&mut self) -> impl Iterator<Item = (u32, i64, Vec<u32>)> {
        for (neighbour, ..) in &self.met {
            self.slots[*neighbour as usize] = 0;
        }
        self.met.drain(..)
    }
}

impl Step {
    fn new(vocab_size: usize) -> Self {
        let changes = || Changes::new(vocab_size);
        Self { lost_before: changes(), lost_after: changes(), won_before: changes(), won_after: changes() }
    }

    /// Replaces `pair` by `new` in the words of `places`, from left to right.
    fn merge(&mut self, corpus: &mut Corpus, places: &[u32], pair: Pair, new: u32) {
        for &place in places {
            let index = place as usize;
            let start = corpus.starts[index];
            let word = &mut corpus.symbols[start..start + corpus.lengths[index] as usize];
            let length = self.merge_word(word, pair, new, place, corpus.counts[index]);
            corpus.lengths[index] = length as u32;
        }
    }

    /// The same in one word; returns its new length.
    fn merge_word(&mut self, word: &mut [u32], pair: Pair, new: u32, place: u32, count: i64) -> usize {
        let mut kept = 0;
        let mut next = 0;
        while next < word.len() {
            if word[next] != pair.0 || word.get(next + 1) != Some(&pair.1) {
                word[kept] = word[next];
                (kept, next) = (kept + 1, next + 1);
                continue;
            }
            next += 2;
            if kept > 0 {
                let before = word[kept - 1];
                self.lost_before.add(before, count);
                // (new, new) belongs to one list only.
                let won = if before == new { &mut self.won_after } else { &mut self.won_before };
                push_once(won.add(before, count), place);
            }
            if let Some(&after) = word.get(next) {
                self.lost_after.add(after, count);
                push_once(self.won_after.add(after, count), place);
            }
            word[kept] = new;
            kept += 1;
        }
        kept
    }

    /// Enters the changes into the counts and the new pairs into the heap.
    fn publish(&mut self, pairs: &mut Pairs, pair: Pair, new: u32) {
        for (x, count, _) in self.lost_before.drain() {
            *pairs.counts.entry((x, pair.0)).or_default() -= count;
        }
        for (x, count, _) in self.lost_after.drain() {
            *pairs.counts.entry((pair.1, x)).or_default() -= count;
        }
        let before = self.won_before.drain().map(|(x, count, places)| ((x, new), count, places));
        let after = self.won_after.drain().map(|(x, count, places)| ((new, x), count, places));
        let won: Vec<_> = before.chain(after).collect();
        for &(pair, count, _) in &won {
            *pairs.counts.entry(pair).or_default() += count;
        }
        for (pair, _, places) in won {
            let count = pairs.count(pair);
            if count > 0 {
                pairs.heap.push((count, Reverse(pair), Reverse(pairs.places.len() as u32)));
                pairs.places.push(places.into_boxed_slice());
            }
        }
    }
}
