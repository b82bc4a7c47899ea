//! Product quantisation: a row as one byte per slice of its columns, each byte the place of a centroid.

/// Centroids per slice.
pub(super) const CENTROIDS: usize = 256;

/// The centroids of all slices of a row.
pub(super) struct Codebook {
    /// Columns of all slices but the last.
    pub(super) width: usize,
    /// Columns of the last slice.
    pub(super) last_width: usize,
    /// Number of slices.
    pub(super) slices: usize,
    /// `[slice][centroid][column]`.
    pub(super) centroids: Vec<f32>,
}

impl Codebook {
    #[inline]
    fn centroid(&self, slice: usize, code: u8) -> &[f32] {
        let width = if slice + 1 == self.slices { self.last_width } else { self.width };
        &self.centroids[slice * CENTROIDS * self.width + usize::from(code) * width..][..width]
    }
}

/// A quantised matrix.
pub(super) struct Quantized {
    /// `[row][slice]`.
    pub(super) codes: Vec<u8>,
    pub(super) codebook: Codebook,
    /// The norms of the rows, when they were quantised apart: a byte per row, and what each byte stands for.
    pub(super) norms: Option<(Vec<u8>, Vec<f32>)>,
}

impl Quantized {
    #[inline]
    fn norm(&self, row: usize) -> f32 {
        self.norms.as_ref().map_or(1.0, |(codes, values)| values[usize::from(codes[row])])
    }

    #[inline]
    pub(super) fn add_row(&self, row: usize, sum: &mut [f32]) {
        let norm = self.norm(row);
        let slices = self.codebook.slices;
        let parts = sum.chunks_mut(self.codebook.width);
        for ((slice, part), &code) in parts.enumerate().zip(&self.codes[row * slices..][..slices]) {
            let centroid = self.codebook.centroid(slice, code);
            part.iter_mut().zip(centroid).for_each(|(sum, value)| *sum += norm * value);
        }
    }

    #[inline]
    pub(super) fn dot_row(&self, row: usize, vector: &[f32]) -> f32 {
        let slices = self.codebook.slices;
        let parts = vector.chunks(self.codebook.width);
        let mut sum = 0.0;
        for ((slice, part), &code) in parts.enumerate().zip(&self.codes[row * slices..][..slices]) {
            for (value, centroid) in part.iter().zip(self.codebook.centroid(slice, code)) {
                sum += value * centroid;
            }
        }
        sum * self.norm(row)
    }
}
