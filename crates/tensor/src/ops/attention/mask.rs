//! Which scores of a tile count.

use super::layer::Attention;
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
    /// Where not all between the bounds counts: the columns `a..b` and `c..d` of each row that do.
    parts: Option<[[u8; 4]; TILE]>,
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
        Mask { low, high, rows, columns, full, parts: None }
    }

    /// From two ranges of columns of each row, in order, that may be empty; the bounds enclose them.
    fn split(rows: usize, columns: usize, ranges: impl Fn(usize) -> [usize; 4]) -> Mask {
        let (mut low, mut high, mut parts) = ([0; TILE], [0; TILE], [[0; 4]; TILE]);
        let mut last = 0;
        for i in 0..rows {
            let part = ranges(i).map(|c| c.min(columns));
            let ends = [[part[0], part[1]], [part[2], part[3]]].into_iter().filter(|[from, to]| from < to);
            low[i] = ends.clone().map(|[from, _]| from).min().unwrap_or(columns);
            last = ends.map(|[_, to]| to).fold(last, usize::max);
            high[i] = last;
            parts[i] = part.map(|c| c as u8);
        }
        let mut first = columns;
        for i in (0..rows).rev() {
            first = first.min(low[i]);
            low[i] = first.min(high[i]);
        }
        Mask { low, high, rows, columns, full: false, parts: Some(parts) }
    }

    /// Rows are keys from `key`, columns queries from `query`, each of which sees all from `starts` on.
    pub(super) fn keys_by_queries(starts: &[u32], key: usize, query: usize) -> Mask {
        let (rows, columns) = (extent(starts, key), extent(starts, query));
        let starts = &starts[query..query + columns];
        if key + rows <= query + 1 && starts[columns - 1] as usize <= key {
            return Mask::new(rows, columns, |_| (0, columns));
        }
        Mask::new(rows, columns, |i| {
            let last = starts.partition_point(|&first| first as usize <= key + i);
            ((key + i).saturating_sub(query), last)
        })
    }

    /// Rows are queries from `query`, each of which sees all from `starts` on, columns keys from `key`.
    pub(super) fn queries_by_keys(starts: &[u32], query: usize, key: usize) -> Mask {
        let (rows, columns) = (extent(starts, query), extent(starts, key));
        let starts = &starts[query..];
        Mask::new(rows, columns, |i| {
            ((starts[i] as usize).saturating_sub(key), (query + i + 1).saturating_sub(key))
        })
    }

    /// As [`keys_by_queries`](Mask::keys_by_queries), but the first `kept` rows of a document are seen by all after them.
    pub(super) fn kept_by_queries(
        documents: &[u32],
        starts: &[u32],
        kept: usize,
        key: usize,
        query: usize,
    ) -> Mask {
        let (rows, columns) = (extent(starts, key), extent(starts, query));
        let seen =
            |start: &[u32], by: u32| start[query..query + columns].partition_point(|&first| first <= by);
        Mask::split(rows, columns, |i| {
            let (row, document) = (key + i, documents[key + i]);
            let stays = row < document as usize + kept;
            let last = if stays { seen(documents, document) } else { seen(starts, row as u32) };
            [row.saturating_sub(query), last, last, last]
        })
    }

    /// As [`queries_by_keys`](Mask::queries_by_keys), but a row also sees the first `kept` of its document.
    pub(super) fn queries_by_kept(
        documents: &[u32],
        starts: &[u32],
        kept: usize,
        query: usize,
        key: usize,
    ) -> Mask {
        Mask::split(extent(starts, query), extent(starts, key), |i| {
            let (document, start) = (documents[query + i] as usize, starts[query + i] as usize);
            let stay = (document + kept).min(start);
            [document, stay, start, query + i + 1].map(|row| row.saturating_sub(key))
        })
    }

    /// Rows are cached keys from position `key`; each query position has `heads` consecutive columns.
    /// `positions` increase.
    pub(super) fn cached(attention: &Attention, positions: &[u32], heads: usize, key: usize) -> Mask {
        let columns = positions.len() * heads;
        let rows = positions.last().map_or(0, |&last| (last as usize + 1).saturating_sub(key).min(TILE));
        let blind = |i: usize| positions.partition_point(|&position| (position as usize) < key + i) * heads;
        let kept = attention.kept();
        if attention.first_seen(0, positions.last().map_or(0, |&last| last as usize)) <= key {
            return Mask::new(rows, columns, |i| (blind(i), columns));
        }
        let sees = |i: usize| {
            let near = |&position: &u32| attention.first_seen(0, position as usize) <= key + i;
            if key + i < kept { columns } else { positions.partition_point(near) * heads }
        };
        if key < kept {
            return Mask::split(rows, columns, |i| [blind(i), sees(i), columns, columns]);
        }
        Mask::new(rows, columns, |i| (blind(i), sees(i)))
    }

    /// Sets the entries that do not count.
    #[inline(always)]
    pub(super) fn fill(&self, tile: &mut [f32], value: f32) {
        if self.full {
            return;
        }
        // No kernel reads beyond the last vector in use of any instruction set.
        let end = self.columns.next_multiple_of(16);
        if let Some(parts) = &self.parts {
            for (row, part) in tile.chunks_exact_mut(TILE).zip(parts).take(self.rows) {
                let [a, b, c, d] = part.map(usize::from);
                row[..a.min(b)].fill(value);
                row[b..c.max(b)].fill(value);
                row[d..end].fill(value);
            }
            return;
        }
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
