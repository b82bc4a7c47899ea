//! A shard read once, in order: validation loss that does not depend on how often or where it is measured.
//!
//! Unlike training chunks, rows of concatenated documents overlap by one token, so every token is a label once, apart
//! from those that nothing predicts: the first of the shard and, with document masking, of each document. Rows of
//! chunks packed whole are the chunks. Rows after the last are padding, so that every batch has the same shape.

use crate::batch::{BatchMut, Layout, check_layout, count_labels, fill_row};
use crate::error::Error;
use crate::shard::{Packing, Shard};

/// All rows of one shard, in order.
pub struct Validation {
    shard: Shard,
    layout: Layout,
    stride: u64,
    rows: u64,
}

impl Validation {
    /// Checks the shard against the layout.
    pub fn new(shard: Shard, layout: Layout) -> Result<Self, Error> {
        check_layout(&shard, layout)?;
        let length = layout.sequence_length as u64;
        let (stride, rows) = match shard.meta().packing {
            Packing::Whole => (length + 1, shard.n_tokens() / (length + 1)),
            Packing::Concatenate => (length, (shard.n_tokens() - 1).div_ceil(length)),
        };
        if rows == 0 {
            return Err(Error::shard(shard.path(), "a single token cannot be validated on; add text"));
        }
        Ok(Self { shard, layout, stride, rows })
    }

    /// The shard.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Rows of `sequence_length` positions; at least 1.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Fills `rows` rows from row `first_row` on; allocates nothing.
    pub fn fill(&self, first_row: u64, rows: usize, mut batch: BatchMut<'_>) -> Result<(), Error> {
        batch.check(rows, self.layout.sequence_length)?;
        for row in 0..rows {
            let number = first_row.saturating_add(row as u64);
            let start = if number < self.rows { number * self.stride } else { self.shard.n_tokens() };
            fill_row(&self.shard, start, row, self.layout, &mut batch)?;
        }
        Ok(())
    }

    /// The labels in all rows.
    pub fn label_tokens(&self) -> u64 {
        (0..self.rows).map(|row| count_labels(&self.shard, row * self.stride, self.layout)).sum()
    }

    /// UTF-8 bytes of the whole text, when the shard says so: the usual denominator of bits per byte. The first token of
    /// each masked document is among these bytes but not among the labels; [`Validation::label_bytes`] is exact.
    pub fn text_bytes(&self) -> Option<u64> {
        self.shard.meta().text_bytes
    }

    /// The bytes of exactly the tokens that are labels, given the bytes of each token (0 for special tokens; ids beyond
    /// the table count 0): bits per byte = summed loss in nats / (ln 2 × this).
    pub fn label_bytes(&self, token_bytes: &[u32]) -> Result<u64, Error> {
        let length = self.layout.sequence_length;
        let mut row = crate::batch::Batch::new(1, length);
        let mut total = 0;
        for number in 0..self.rows {
            self.fill(number, 1, row.as_mut())?;
            // IGNORE_LABEL is beyond any table.
            let bytes = |label: &u32| token_bytes.get(*label as usize).copied().map_or(0, u64::from);
            total += row.labels.iter().map(bytes).sum::<u64>();
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::{layout, shard};
    use crate::batch::{Batch, IGNORE_LABEL};
    use proptest::prelude::*;

    fn labels(validation: &Validation, rows: usize) -> Vec<u32> {
        let mut all = Vec::new();
        let mut batch = Batch::new(rows, validation.layout.sequence_length);
        let mut row = 0;
        while row < validation.rows() {
            validation.fill(row, rows, batch.as_mut()).unwrap();
            all.extend(batch.labels.iter().filter(|&&label| label != IGNORE_LABEL));
            row += rows as u64;
        }
        all
    }

    proptest! {
        /// Every token but the first of each document is a label exactly once, in order.
        #[test]
        fn each_token_is_predicted_once(
            lengths in prop::collection::vec(1usize..15, 1..12),
            length in 1usize..12,
            rows in 1usize..5,
        ) {
            let documents: Vec<Vec<u32>> = lengths
                .iter()
                .scan(0u32, |next, &n| { let first = *next; *next += n as u32; Some((first..*next).collect()) })
                .collect();
            prop_assume!(documents.iter().map(Vec::len).sum::<usize>() > 1);
            let validation = Validation::new(shard(&documents, None, None), layout(length, true)).unwrap();
            let expected: Vec<u32> = documents.iter().flat_map(|document| &document[1..]).copied().collect();
            prop_assert_eq!(labels(&validation, rows), &expected[..]);
            prop_assert_eq!(validation.label_tokens(), expected.len() as u64);
            prop_assert_eq!(validation.label_bytes(&[2; 1000]).unwrap(), 2 * expected.len() as u64);

            let validation = Validation::new(shard(&documents, None, None), layout(length, false)).unwrap();
            let expected: Vec<u32> = documents.iter().flatten().skip(1).copied().collect();
            prop_assert_eq!(labels(&validation, rows), &expected[..]);
            prop_assert_eq!(validation.label_tokens(), expected.len() as u64);
        }
    }

    #[test]
    fn chunks_packed_whole_are_the_rows() {
        let documents = [vec![1, 2, 3], vec![9], vec![4, 5, 6, 7]];
        let loss = [0, 1, 1, 0, 0, 1, 0, 1];
        let validation = Validation::new(shard(&documents, Some(&loss), Some(4)), layout(3, true)).unwrap();
        assert_eq!(validation.rows(), 2);
        assert_eq!(labels(&validation, 3), [2, 3, 5, 7]);
        assert_eq!(validation.label_tokens(), 4);
        assert_eq!(validation.text_bytes(), Some(1));
    }
}
