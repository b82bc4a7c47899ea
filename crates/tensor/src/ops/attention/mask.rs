//! Which scores of a tile count.

use super::tile::TILE;
use crate::simd::Simd;

/// Which entries of a tile count: columns `low[i]..high[i]` of row `i`. Neither bound ever decreases
/// with `i`, because document starts do not.
pub(super) struct Mask {
    pub(super) low: [usize; TILE],
    pub(super) high: [usize; TILE],
    /// Rows in use.
    pub(super) rows: usize,
    /// Columns in use.
    pub(super) columns: usize,
    full: bool,
}

impl Mask {
    /// From the bounds of each row; a row whose bounds cross has no entry.
    fn new(rows: usize, columns: usize, bounds: impl Fn(usize) -> (usize, usize)) -> Mask {
        let (mut low, mut high, mut full) = ([0; TILE], [0; TILE], columns == TILE);
        for i in 0..rows {
            let (from, to) = bounds(i);
            high[i] = to.min(columns);
            low[i] = from.min(high[i]);
            full &= low[i] == 0 && high[i] == columns;
        }
        Mask { low, high, rows, columns, full }
    }

    /// Rows are keys from `key`, columns queries from `query`.
    pub(super) fn keys_by_queries(segments: &[u32], key: usize, query: usize) -> Mask {
        let (rows, columns) = (extent(segments, key), extent(segments, query));
        let starts = &segments[query..query + columns];
        if key + rows <= query + 1 && starts[columns - 1] as usize <= key {
            return Mask::new(rows, columns, |_| (0, columns));
        }
        Mask::new(rows, columns, |i| {
            let last = starts.partition_point(|&first| first as usize <= key + i);
            ((key + i).saturating_sub(query), last)
        })
    }

    /// Rows are queries from `query`, columns keys from `key`.
    pub(super) fn queries_by_keys(segments: &[u32], query: usize, key: usize) -> Mask {
        let starts = &segments[query..];
        Mask::new(extent(segments, query), extent(segments, key), |i| {
            ((starts[i] as usize).saturating_sub(key), (query + i + 1).saturating_sub(key))
        })
    }

    /// Rows are cached keys from position `key`; each query position has `heads` consecutive columns.
    /// `positions` increase.
    pub(super) fn cached(positions: &[u32], heads: usize, key: usize) -> Mask {
        let columns = positions.len() * heads;
        let rows = positions.last().map_or(0, |&last| (last as usize + 1).saturating_sub(key).min(TILE));
        Mask::new(rows, columns, |i| {
            let blind = positions.partition_point(|&position| (position as usize) < key + i);
            (blind * heads, columns)
        })
    }

    /// Sets the entries that do not count.
    #[inline(always)]
    pub(super) fn fill(&self, tile: &mut [f32], value: f32) {
        if self.full {
            return;
        }
        // No kernel reads beyond the last vector in use of any instruction set.
        let end = self.columns.next_multiple_of(16);
        for (i, row) in tile.chunks_exact_mut(TILE).enumerate().take(self.rows) {
            row[..self.low[i]].fill(value);
            row[self.high[i]..end].fill(value);
        }
    }

    /// Whole vectors that hold the counted entries of rows `i..=last`.
    #[inline(always)]
    pub(super) fn vectors<S: Simd>(&self, i: usize, last: usize) -> (usize, usize) {
        (self.low[i] / S::LANES * S::LANES, self.high[last].next_multiple_of(S::LANES))
    }
}

/// Rows of the tile that begins at `start`.
pub(super) fn extent(segments: &[u32], start: usize) -> usize {
    TILE.min(segments.len() - start)
}
