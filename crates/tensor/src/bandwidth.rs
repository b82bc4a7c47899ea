//! The rate at which all threads together move memory: the roof of ops that hardly compute (`HW-02`).

use crate::Cpu;
use crate::memory::Slab;
use crate::ops::add;
use crate::simd_kernel;
use std::hint::black_box;
use std::time::Instant;

/// Far beyond any cache.
const BYTES: usize = 256 << 20;

/// Elements per task: small enough that the threads end together.
const TASK: usize = 1 << 16;

/// Passes of each kind, of which the fastest counts.
const PASSES: usize = 8;

/// 10⁹ bytes per second, the higher of reading alone and of reading and writing in place: where the ways to memory
/// and back are separate, only an op that uses both gets all of it.
pub fn memory_gbs(cpu: &Cpu) -> f64 {
    let mut memory = Slab::new(BYTES);
    let data = memory.as_mut_slice::<f32>();
    // Pages that nobody wrote are all one page of zeros, which would be read from the cache.
    cpu.pool.for_each_chunk(data, TASK, |_, part| part.fill(1.0));
    let read = fastest(BYTES, || {
        cpu.pool.run(data.len() / TASK, |i| {
            black_box(sum(cpu.isa, &data[i * TASK..(i + 1) * TASK]));
        });
    });
    let update = fastest(2 * BYTES, || add::scale(cpu, black_box(&mut *data), 1.0));
    read.max(update)
}

fn fastest(bytes: usize, mut pass: impl FnMut()) -> f64 {
    let mut rate = || {
        let start = Instant::now();
        pass();
        bytes as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..PASSES).map(|_| rate()).fold(0.0, f64::max)
}

simd_kernel! {
    /// In four sums, so that additions do not wait for one another.
    fn sum<S>(x: &[f32]) -> f32 {
        // SAFETY: each block holds four vectors.
        unsafe {
            let mut sums = [S::splat(0.0); 4];
            for block in x.chunks_exact(4 * S::LANES) {
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = S::add(*sum, S::load(block.as_ptr().add(j * S::LANES)));
                }
            }
            S::reduce_add(S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])))
        }
    }
}
