//! Aligned memory: the slab behind parameters, activations and scratch.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

const ALIGN: usize = 64;

/// A zeroed, 64-byte aligned, fixed-size block of bytes.
pub struct Slab {
    /// What the allocator gave: `len + ALIGN` bytes.
    base: *mut u8,
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
        let layout = layout(len);
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: the allocation is `ALIGN` bytes longer than the block.
        let pointer = unsafe { base.add(base.align_offset(ALIGN)) };
        let slab = Slab { base, pointer, len };
        prefer_huge_pages(slab.bytes());
        slab
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
        let nowhere = std::ptr::without_provenance_mut(ALIGN);
        Slab { base: nowhere, pointer: nowhere, len: 0 }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.base, layout(self.len)) }
        }
    }
}

/// Room for `len` bytes and their alignment, which the allocator is not asked for: one that it must see to itself makes
/// it clear the pages by hand, where plain requests of this size get pages that are zero and untouched.
fn layout(len: usize) -> Layout {
    match len.checked_add(ALIGN).map(|len| Layout::from_size_align(len, 1)) {
        Some(Ok(layout)) => layout,
        _ => handle_alloc_error(Layout::new::<u8>()),
    }
}

/// fp32 zeros, on large pages where there are many.
pub fn zeros(len: usize) -> Vec<f32> {
    let zeros = vec![0.0; len];
    prefer_huge_pages(&zeros);
    zeros
}

/// Asks the system for 2 MiB pages behind memory that has not been written yet: kernels that walk down columns touch a
/// page a row. A wish, whose refusal changes nothing but time.
pub fn prefer_huge_pages<T>(data: &[T]) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        const PAGE: usize = 4096;
        let range = data.as_ptr_range();
        let (start, end) = ((range.start as usize).next_multiple_of(PAGE), range.end as usize / PAGE * PAGE);
        if start < end {
            // SAFETY: advice changes no content; the pages lie within `data`.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
        }
    }
    let _ = data;
}
