//! How long documents are, and what packing does to what tokens see (spec `PKD-02`, `PKD-05`).

use serde::Serialize;

use crate::shard::Shard;

/// Upper bounds (exclusive) of the classes of length, in tokens; the last class has none.
pub const BOUNDS: [u64; 5] = [1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10];

/// The names of the classes.
pub const CLASSES: [&str; 6] = ["0-1k", "1k-2k", "2k-4k", "4k-8k", "8k-16k", "16k+"];

/// Lengths of the documents of a shard, end-of-sequence included; empty documents are not counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// Documents.
    pub documents: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Tokens of the longest.
    pub longest: u64,
    /// Mean tokens.
    pub mean: f64,
    /// Documents in each of [`CLASSES`].
    pub documents_by_class: [u64; 6],
    /// Tokens in each of [`CLASSES`].
    pub tokens_by_class: [u64; 6],
    /// Share of documents below 2,048 tokens.
    pub share_below_2k: f64,
}

impl Lengths {
    /// Counts lengths in tokens.
    pub fn of(lengths: impl Iterator<Item = u64>) -> Self {
        let mut all = Self::default();
        for length in lengths.filter(|&length| length > 0) {
            let class = BOUNDS.partition_point(|&bound| bound <= length);
            all.documents += 1;
            all.tokens += length;
            all.longest = all.longest.max(length);
            all.documents_by_class[class] += 1;
            all.tokens_by_class[class] += length;
        }
        all.mean = all.tokens as f64 / all.documents.max(1) as f64;
        let below = all.documents_by_class[0] + all.documents_by_class[1];
        all.share_below_2k = below as f64 / all.documents.max(1) as f64;
        all
    }

    /// The documents of a shard; with best-fit packing their pieces and padding.
    pub fn of_shard(shard: &Shard) -> Self {
        Self::of(document_lengths(shard))
    }
}

fn document_lengths(shard: &Shard) -> impl Iterator<Item = u64> {
    let mut start = 0;
    (0..shard.n_documents()).map(move |document| {
        let end = shard.document_end(document);
        std::mem::replace(&mut start, end).abs_diff(end)
    })
}

/// What the positions of full rows of a shard see, at one sequence length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attended {
    /// Positions per row.
    pub sequence_length: u64,
    /// Full rows.
    pub rows: u64,
    /// Share of causal (query, key) pairs whose two tokens are of different documents: what masking takes away.
    pub crossing_pairs: f64,
    /// Tokens that a position sees in the mean, itself included, with document masking.
    pub mean: f64,
    /// The same without: (T + 1) / 2.
    pub mean_without_masking: f64,
    /// Positions by the number of tokens they see with document masking, in [`CLASSES`].
    pub positions_by_class: [u64; 6],
}

impl Attended {
    /// Of the rows that training would read from `shard` at `sequence_length` (at least 1) positions.
    pub fn of_shard(shard: &Shard, sequence_length: u64) -> Self {
        let (length, chunk) = (sequence_length.max(1), sequence_length.max(1).saturating_add(1));
        let rows = shard.n_tokens() / chunk;
        let (mut pairs, mut classes) = (0u128, [0u64; 6]);
        let mut start = 0;
        for document in document_lengths(shard) {
            let end = start + document;
            while start < end && start / chunk < rows {
                let row_start = start / chunk * chunk;
                // The last token of a chunk is a label only.
                let seen = end.min(row_start + length).saturating_sub(start);
                pairs += u128::from(seen) * (u128::from(seen) + 1) / 2;
                let mut low = 0;
                for (class, count) in classes.iter_mut().enumerate() {
                    // A position that sees n tokens is in the class that holds n.
                    let high = BOUNDS.get(class).map_or(u64::MAX, |bound| bound - 1);
                    *count += seen.min(high).saturating_sub(low);
                    low = high;
                }
                start = end.min(row_start + chunk);
            }
            start = end;
        }
        let (rows_f, length_f) = (rows as f64, length as f64);
        let causal = rows_f * length_f * (length_f + 1.0) / 2.0;
        Self {
            sequence_length: length,
            rows,
            crossing_pairs: if rows > 0 { 1.0 - pairs as f64 / causal } else { 0.0 },
            mean: pairs as f64 / (rows_f * length_f).max(1.0),
            mean_without_masking: (length_f + 1.0) / 2.0,
            positions_by_class: classes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::shard;
    use proptest::prelude::*;

    #[test]
    fn classes_of_lengths() {
        let lengths = Lengths::of([0, 1, 1023, 1024, 2047, 2048, 20_000].into_iter());
        assert_eq!(lengths.documents_by_class, [2, 2, 1, 0, 0, 1]);
        assert_eq!((lengths.documents, lengths.longest, lengths.tokens), (6, 20_000, 26_143));
        assert!((lengths.share_below_2k - 4.0 / 6.0).abs() < 1e-12);
    }

    proptest! {
        /// Against a count of every pair.
        #[test]
        fn what_is_attended_is_what_a_count_finds(
            lengths in prop::collection::vec(0usize..15, 1..12),
            length in 1u64..12,
        ) {
            prop_assume!(lengths.iter().sum::<usize>() > 0);
            let documents: Vec<Vec<u32>> = lengths.iter().map(|&n| vec![1; n]).collect();
            let shard = shard(&documents, None, None);
            let of: Vec<usize> = lengths.iter().enumerate().flat_map(|(d, &n)| std::iter::repeat_n(d, n)).collect();
            let found = Attended::of_shard(&shard, length);
            let (mut inside, mut all) = (0u64, 0u64);
            let mut small = 0;
            let rows = of.chunks_exact(length as usize + 1);
            prop_assert_eq!(found.rows, rows.len() as u64);
            for row in rows {
                for query in 0..length as usize {
                    let sees = (0..=query).filter(|&key| row[key] == row[query]).count() as u64;
                    inside += sees;
                    all += query as u64 + 1;
                    small += u64::from(sees < 1024);
                }
            }
            let crossing = if all > 0 { 1.0 - inside as f64 / all as f64 } else { 0.0 };
            prop_assert!((found.crossing_pairs - crossing).abs() < 1e-9);
            prop_assert_eq!(found.positions_by_class[0], small);
            prop_assert_eq!(found.positions_by_class.iter().sum::<u64>(), found.rows * length);
        }
    }
}
