//! Text with near-duplicates planted at known Jaccard similarity, generated document by document from counters, so that
//! any number of gigabytes needs no disk. Shared by the recall test and `examples/minhash_bench.rs`.
//!
//! The second half of the shards repeats the first: every `every`-th document of shard `half + k` shares a prefix of words
//! with the document at its position in shard `k`; all other words of all documents are drawn anew. Words are uniform over
//! 65,536, so that shingles coincide where they were planted and nowhere else.

use smolt_run::random::{Philox, Stream, key};

pub(crate) const LEVELS: [f64; 10] = [0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0];

/// Words of a shingle that the similarities hold for.
const SHINGLE: u64 = 5;

pub(crate) struct Planted {
    pub(crate) shards: u32,
    pub(crate) documents: u32,
    pub(crate) every: u32,
    pub(crate) least_words: u64,
    pub(crate) most_words: u64,
    vocabulary: Vec<String>,
    lengths: u64,
    words: Philox,
}

/// What a document of the second half was made from.
pub(crate) struct Pair {
    pub(crate) level: usize,
    /// Exact similarity of the two sets of shingles.
    pub(crate) similarity: f64,
    shared: u64,
}

impl Planted {
    pub(crate) fn new(
        seed: u64,
        shards: u32,
        documents: u32,
        every: u32,
        words: std::ops::Range<u64>,
    ) -> Self {
        assert!(shards.is_multiple_of(2) && words.start > 2 * SHINGLE);
        Self {
            shards,
            documents,
            every,
            least_words: words.start,
            most_words: words.end,
            vocabulary: (0..1 << 16).map(word).collect(),
            lengths: key(seed, "lengths"),
            words: Philox::new(key(seed, "words")),
        }
    }

    /// What the document was made from; `None` for one that is like no other.
    pub(crate) fn pair(&self, shard: u32, position: u32) -> Option<Pair> {
        if shard < self.shards / 2 || !position.is_multiple_of(self.every) {
            return None;
        }
        let level = (position / self.every) as usize % LEVELS.len();
        let shingles = (self.length(shard, position) - SHINGLE + 1) as f64;
        let common = (2.0 * LEVELS[level] * shingles / (1.0 + LEVELS[level])).round();
        Some(Pair {
            level,
            similarity: common / (2.0 * shingles - common),
            shared: common as u64 + SHINGLE - 1,
        })
    }

    /// Words of a document; a pair has the same.
    fn length(&self, shard: u32, position: u32) -> u64 {
        let index = u64::from(shard % (self.shards / 2)) << 32 | u64::from(position);
        self.least_words + Stream::from_key(self.lengths, index).below(self.most_words - self.least_words)
    }

    /// Replaces `out` with the document's text.
    pub(crate) fn document(&self, shard: u32, position: u32, out: &mut String) {
        out.clear();
        let shared = self.pair(shard, position).map_or(0, |pair| pair.shared);
        let length = self.length(shard, position);
        let base = shard % (self.shards / 2);
        self.push_words(base, position, 0..shared, out);
        self.push_words(shard, position, shared..length, out);
    }

    fn push_words(&self, shard: u32, position: u32, range: std::ops::Range<u64>, out: &mut String) {
        let document = u128::from(u64::from(shard) << 32 | u64::from(position)) << 64;
        for at in range {
            // Eight words of 16 bits from each block of the generator.
            let lane = (at % 8) as usize;
            let block = self.words.block(document | u128::from(at / 8));
            let drawn = (block[lane / 2] >> (16 * (lane % 2))) as u16;
            out.push_str(&self.vocabulary[usize::from(drawn)]);
            out.push_str(if at % 12 == 11 { ".\n" } else { " " });
        }
    }
}

/// The `index`-th word: four to seven letters, no two alike.
fn word(index: u32) -> String {
    const LETTERS: u32 = 26;
    let mut scrambled = index * 131 % LETTERS.pow(4); // 131 has no factor in common with 26^4
    let mut word = String::new();
    for _ in 0..4 {
        word.push(char::from(b'a' + (scrambled % LETTERS) as u8));
        scrambled /= LETTERS;
    }
    for extra in 0..index % 4 {
        word.push(char::from(b'a' + ((index >> 3) * (extra + 3) % LETTERS) as u8));
    }
    word
}
