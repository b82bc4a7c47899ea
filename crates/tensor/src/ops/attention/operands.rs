//! Operands of the products over tiles, packed from rows of storage.

use super::arithmetic::Arithmetic;
use super::layer::Shape;
use super::tile::TILE;
use crate::simd::{Elem, Simd, for_lanes};
use crate::tape::DType;
use half::bf16;

/// Features of heads, padded so that rows are whole vectors of units of every instruction set.
#[derive(Clone, Copy)]
pub(super) struct Widths {
    /// Of queries and keys.
    pub(super) key: usize,
    /// Of values and outputs.
    pub(super) value: usize,
}

impl Widths {
    /// For units of `per` values each.
    pub(super) const fn new(shape: Shape, per: usize) -> Widths {
        let Shape { head_dim, value_dim, .. } = shape;
        Widths { key: head_dim.next_multiple_of(16 * per), value: value_dim.next_multiple_of(16 * per) }
    }
}

/// One head of consecutive rows of storage.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, E> {
    data: &'a [E],
    stride: usize,
    features: usize,
}

impl<'a, E: Elem> Rows<'a, E> {
    /// `features` elements from `at` on in each row of `stride` elements.
    pub(super) fn new(data: &'a [E], stride: usize, at: usize, features: usize) -> Self {
        Rows { data: &data[at..], stride, features }
    }

    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> &'a [E] {
        &self.data[i * self.stride..][..self.features]
    }

    /// `count` rows from `first` on as units along the features: `[TILE, width / PER]`, padded with zeros to `width`.
    #[inline(always)]
    fn pack<S: Simd, A: Arithmetic<S>>(&self, first: usize, count: usize, to: &mut [f32], width: usize) {
        assert!(self.features <= width && count <= TILE && to.len() * A::PER >= count * width);
        for (i, to) in to.chunks_exact_mut(width / A::PER).enumerate().take(count) {
            let row = self.row(first + i);
            match (A::PER, E::DTYPE) {
                (1, _) => copy::<S, E, f32>(row, to),
                (_, DType::Bf16) if row.len().is_multiple_of(2 * S::LANES) => {
                    to[row.len() / 2..].fill(0.0);
                    for at in (0..row.len()).step_by(2 * S::LANES) {
                        // SAFETY: two vectors of bf16 are one of units; both rows are whole such vectors.
                        unsafe {
                            S::store(to.as_mut_ptr().add(at / 2), S::load(row.as_ptr().add(at).cast()))
                        };
                    }
                }
                _ => copy::<S, E, bf16>(row, bytemuck::cast_slice_mut(to)),
            }
        }
    }

    /// `count` rows from `first` on as units along the rows: `[TILE / PER, width]`, padded with zeros to `width`, and to a
    /// whole unit with a row of zeros.
    #[inline(always)]
    fn zip<S: Simd, A: Arithmetic<S>>(&self, first: usize, count: usize, to: &mut [f32], width: usize) {
        if A::PER == 1 {
            return self.pack::<S, A>(first, count, to, width);
        }
        assert!(self.features <= width && count <= TILE && to.len() * 2 >= count * width);
        for (i, to) in to.chunks_exact_mut(width).enumerate().take(count.div_ceil(2)) {
            let low = self.row(first + 2 * i);
            let high = if 2 * i + 1 < count { Some(self.row(first + 2 * i + 1)) } else { None };
            to[self.features..].fill(0.0);
            // SAFETY: `i + n` stays within both rows and `to`, which is no shorter.
            for_lanes!(S, self.features, |i, n| unsafe {
                let units = match high {
                    Some(high) => E::zip_n::<S>(low.as_ptr().add(i), high.as_ptr().add(i), n),
                    None => A::pair(E::load_n::<S>(low.as_ptr().add(i), n), S::splat(0.0)),
                };
                f32::store_n::<S>(to.as_mut_ptr().add(i), units, n);
            });
        }
    }

    /// As `pack`, transposed to `[width / PER, TILE]`, zero where no row is. `aside [TILE, width / PER]` is scratch.
    #[inline(always)]
    pub(super) fn pack_columns<S: Simd, A: Arithmetic<S>>(
        &self,
        first: usize,
        count: usize,
        to: &mut [f32],
        aside: &mut [f32],
        width: usize,
    ) {
        let units = width / A::PER;
        assert!(aside.len() >= TILE * units && to.len() >= TILE * units && units.is_multiple_of(S::LANES));
        self.pack::<S, A>(first, count, aside, width);
        aside[count * units..TILE * units].fill(0.0);
        for row in (0..TILE).step_by(S::LANES) {
            for at in (0..units).step_by(S::LANES) {
                // SAFETY: both blocks lie within the tiles, whose sides are multiples of the vectors'.
                unsafe {
                    let from = aside.as_ptr().add(row * units + at);
                    let to = to.as_mut_ptr().add(at * TILE + row);
                    S::transpose(from, 4 * units, S::LANES, to, TILE, S::LANES);
                }
            }
        }
    }
}

/// A row and zeros behind it, in another storage type.
#[inline(always)]
fn copy<S: Simd, E: Elem, T: Elem>(row: &[E], to: &mut [T]) {
    to[row.len()..].fill(T::from_f32(0.0));
    // SAFETY: `i + n <= row.len()`, and `to` is no shorter.
    for_lanes!(S, row.len(), |i, n| unsafe {
        T::store_n::<S>(to.as_mut_ptr().add(i), E::load_n::<S>(row.as_ptr().add(i), n), n);
    });
}

/// The side of a product that moves from tile to tile: units along the features to make scores of, units along the rows
/// to gather from. fp32 units are both at once.
pub(super) struct Moving<'a> {
    rows: &'a mut [f32],
    zipped: &'a mut [f32],
    width: usize,
}

impl<'a> Moving<'a> {
    /// Scratch elements.
    pub(super) const fn scratch(width: usize) -> usize {
        TILE * width
    }

    /// In `memory` of [`Moving::scratch`] elements.
    pub(super) fn at<S: Simd, A: Arithmetic<S>>(memory: &'a mut [f32], width: usize) -> Self {
        let (rows, zipped) = memory.split_at_mut(TILE * width / A::PER);
        Moving { rows, zipped, width }
    }

    /// Takes in `count` rows from `first` on, to make scores of.
    #[inline(always)]
    pub(super) fn load_rows<S: Simd, A: Arithmetic<S>, E: Elem>(
        &mut self,
        from: &Rows<'_, E>,
        first: usize,
        count: usize,
    ) {
        from.pack::<S, A>(first, count, self.rows, self.width);
    }

    /// Takes in `count` rows from `first` on, to gather from.
    #[inline(always)]
    pub(super) fn load_zipped<S: Simd, A: Arithmetic<S>, E: Elem>(
        &mut self,
        from: &Rows<'_, E>,
        first: usize,
        count: usize,
    ) {
        let to = if A::PER == 1 { &mut *self.rows } else { &mut *self.zipped };
        from.zip::<S, A>(first, count, to, self.width);
    }

    /// Takes in `count` rows from `first` on, for both.
    #[inline(always)]
    pub(super) fn load<S: Simd, A: Arithmetic<S>, E: Elem>(
        &mut self,
        from: &Rows<'_, E>,
        first: usize,
        count: usize,
    ) {
        self.load_rows::<S, A, E>(from, first, count);
        if A::PER > 1 {
            self.load_zipped::<S, A, E>(from, first, count);
        }
    }

    /// `[TILE, width / PER]`
    pub(super) fn rows(&self) -> &[f32] {
        self.rows
    }

    /// `[TILE / PER, width]`
    pub(super) fn zipped<S: Simd, A: Arithmetic<S>>(&self) -> &[f32] {
        if A::PER == 1 { self.rows } else { self.zipped }
    }
}

/// Writes a row to column `c` of `[width, TILE]`.
#[inline(always)]
pub(super) fn put_column<E: Elem>(row: &[E], to: &mut [f32], c: usize) {
    for (line, x) in to.chunks_exact_mut(TILE).zip(row) {
        line[c] = x.to_f32();
    }
}
