//! Dual chunk attention (spec SCP-04; An et al., 2024): a model trained up to a length reads longer texts without training,
//! because no relative position is larger than one it was trained on.

/// Sizes of the scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DualChunk {
    /// Tokens of a chunk, s.
    pub chunk: usize,
    /// Length that the model was trained with, c.
    pub trained: usize,
    /// First tokens of a chunk that keep their true distance to the chunk before, w.
    pub local: usize,
}

impl DualChunk {
    /// # Errors
    /// What is wrong with the sizes, naming them.
    pub fn new(chunk: usize, trained: usize, local: usize) -> Result<DualChunk, String> {
        if chunk == 0 || chunk >= trained {
            return Err(format!(
                "chunks of {chunk} tokens; they must be shorter than the trained length, {trained}"
            ));
        }
        if local > trained - chunk {
            return Err(format!(
                "a local window of {local} tokens; chunk and window together must not exceed the trained length, {trained}"
            ));
        }
        Ok(DualChunk { chunk, trained, local })
    }

    /// How far the key at `key` seems to the query at `query`; none for keys after it.
    ///
    /// Within a chunk that is the distance. To the chunk before, queries count on from the chunk's end for the local window
    /// and stand at the last trained position after it; to all earlier chunks they stand there throughout.
    pub fn relative(&self, query: usize, key: usize) -> Option<usize> {
        let back = query.checked_sub(key)?;
        let (at, from) = (query % self.chunk, key % self.chunk);
        let stands = match query / self.chunk - key / self.chunk {
            0 => return Some(back),
            1 if at < self.local => self.chunk + at,
            _ => self.trained - 1,
        };
        Some(stands - from)
    }

    /// The positions that a row per query and a column per key sees, right-aligned, `·` for keys after the query.
    pub fn picture(&self, tokens: usize) -> Vec<String> {
        let width = (self.trained - 1).to_string().len() + 1;
        let cell = |query, key| match self.relative(query, key) {
            Some(relative) => format!("{relative:width$}"),
            None => format!("{:>width$}", '·'),
        };
        let border = |at: usize| at > 0 && at.is_multiple_of(self.chunk);
        let row = |query| -> String {
            (0..tokens)
                .map(|key| if border(key) { " │" } else { "" }.to_owned() + &cell(query, key))
                .collect()
        };
        let rule: String = (0..tokens)
            .map(|key| if border(key) { "─┼" } else { "" }.to_owned() + &"─".repeat(width))
            .collect();
        (0..tokens)
            .flat_map(|query| border(query).then(|| rule.clone()).into_iter().chain([row(query)]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's figures: c = 8, s = 4, w = 3 on 16 tokens.
    #[test]
    fn no_position_is_beyond_the_trained_ones_and_no_key_is_lost() {
        let scheme = DualChunk::new(4, 8, 3).unwrap();
        for query in 0..16 {
            for key in 0..16 {
                let relative = scheme.relative(query, key);
                assert_eq!(relative.is_some(), key <= query);
                assert!(relative.unwrap_or(0) <= 7);
            }
        }
        let row = |query| (0..=query).map(|key| scheme.relative(query, key).unwrap()).collect::<Vec<_>>();
        assert_eq!(row(3), [3, 2, 1, 0]);
        assert_eq!(row(4), [4, 3, 2, 1, 0], "as if there were no chunks");
        assert_eq!(row(7), [7, 6, 5, 4, 3, 2, 1, 0], "after the local window, at the last trained position");
        assert_eq!(row(9), [7, 6, 5, 4, 5, 4, 3, 2, 1, 0]);
        assert_eq!(row(15), [7, 6, 5, 4, 7, 6, 5, 4, 7, 6, 5, 4, 3, 2, 1, 0]);
    }

    #[test]
    fn sizes_that_leave_the_trained_range_are_refused() {
        assert!(DualChunk::new(8, 8, 0).unwrap_err().contains("chunks of 8"));
        assert!(DualChunk::new(0, 8, 0).is_err());
        assert!(DualChunk::new(6, 8, 3).unwrap_err().contains("window of 3"));
        let scheme = DualChunk::new(5, 8, 3).unwrap();
        assert!(
            (0..64).flat_map(|q| (0..=q).map(move |k| (q, k))).all(|(q, k)| scheme.relative(q, k) < Some(8))
        );
    }

    #[test]
    fn a_picture_in_small() {
        let scheme = DualChunk::new(2, 4, 1).unwrap();
        #[rustfmt::skip]
        assert_eq!(scheme.picture(4), [
            " 0 · │ · ·",
            " 1 0 │ · ·",
            "─────┼────",
            " 2 1 │ 0 ·",
            " 3 2 │ 1 0",
        ]);
    }
}
