//! Aligned memory: the slab behind parameters, activations and scratch.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

const ALIGN: usize = 64;

/// A zeroed, 64-byte aligned, fixed-size block of bytes.
pub struct Slab {
    pointer: *mut u8,
    len: usize,
}

// SAFETY: a slab owns its bytes alone, like a `Box<[u8]>`.
unsafe impl Send for Slab {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Slab {}

impl Slab {
    /// A block of `len` zero bytes (rounded up to 64).
    pub fn new(len: usize) -> Slab {
        let len = len.next_multiple_of(ALIGN);
        if len == 0 {
            return Slab::default();
        }
        let Ok(layout) = Layout::from_size_align(len, ALIGN) else { handle_alloc_error(Layout::new::<u8>()) };
        // SAFETY: the layout is not empty.
        let pointer = unsafe { alloc_zeroed(layout) };
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        Slab { pointer, len }
    }

    /// Length in bytes, a multiple of 64.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block is owned and `len` long.
        unsafe { std::slice::from_raw_parts(self.pointer, self.len) }
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.len) }
    }

    /// The bytes as elements of `T`.
    pub fn as_slice<T: bytemuck::Pod>(&self) -> &[T] {
        bytemuck::cast_slice(self.bytes())
    }

    /// The bytes as elements of `T`, to write.
    pub fn as_mut_slice<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.bytes_mut())
    }
}

impl Default for Slab {
    fn default() -> Slab {
        Slab { pointer: std::ptr::without_provenance_mut(ALIGN), len: 0 }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.pointer, Layout::from_size_align_unchecked(self.len, ALIGN)) }
        }
    }
}
