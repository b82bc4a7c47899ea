//! Reading at offsets, as Parquet and archives need it.

use crate::Error;

/// A file whose bytes can be read anywhere, from several threads.
pub trait ReadAt: Send + Sync {
    /// Its size in bytes when it was opened.
    fn size(&self) -> u64;

    /// Fills `out` with the bytes from `offset` on. An error if the file ends before, or changed since it was opened.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error>;
}
