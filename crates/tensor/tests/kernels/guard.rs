//! Operands that end, or begin, at a page that nobody may touch: a kernel that reads or writes beyond them dies.

use crate::inputs::{bits, cpus, documents, hyper, noise, scale};
use half::bf16;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::{Precision, View, gemm};
use smolt_tensor::ops::attention::{self, Shape};
use smolt_tensor::ops::linear_cross_entropy::{self, Args, NO_LABEL};
use smolt_tensor::ops::{adamw, add, embedding, global_norm, rms_norm, rope, swiglu};
use smolt_tensor::simd::Elem;
use std::ops::{Deref, DerefMut};

/// Where the operand lies between its two forbidden pages.
#[derive(Clone, Copy, Debug)]
enum At {
    Start,
    End,
}

/// A slice in pages of its own.
struct Guarded<T> {
    map: *mut libc::c_void,
    bytes: usize,
    data: *mut T,
    len: usize,
}

impl<T: Copy> Guarded<T> {
    fn new(at: At, from: &[T]) -> Guarded<T> {
        // SAFETY: a query.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let inside = size_of_val(from).next_multiple_of(page).max(page);
        let bytes = inside + 2 * page;
        // SAFETY: a fresh anonymous mapping, of which the middle is opened; the slice lies in it, aligned as its
        // size is a multiple of its alignment and a page is too.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
            assert!(map != libc::MAP_FAILED);
            let middle = map.byte_add(page);
            assert_eq!(libc::mprotect(middle, inside, libc::PROT_READ | libc::PROT_WRITE), 0);
            let offset = match at {
                At::Start => 0,
                At::End => inside - size_of_val(from),
            };
            let data = middle.byte_add(offset).cast::<T>();
            data.copy_from_nonoverlapping(from.as_ptr(), from.len());
            Guarded { map, bytes, data, len: from.len() }
        }
    }
}

impl<T> Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: written in `new`, unmapped in `drop`.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.map, self.bytes) };
    }
}

/// A call on every path at both ends: it lives, and gives the bits that it gives on plain memory.
fn everywhere(what: &str, run: impl Fn(&Cpu, &dyn Memory) -> Vec<u32>) {
    for cpu in cpus() {
        let plain = run(&cpu, &Plain);
        for at in [At::Start, At::End] {
            assert!(run(&cpu, &at) == plain, "{what} on {} at the {at:?}: other bits", cpu.isa);
        }
    }
}

/// Where operands are put.
trait Memory {
    fn f32(&self, from: &[f32]) -> Box<dyn DerefMut<Target = [f32]>>;
    fn bf16(&self, from: &[bf16]) -> Box<dyn DerefMut<Target = [bf16]>>;
    fn u32(&self, from: &[u32]) -> Box<dyn DerefMut<Target = [u32]>>;
}

struct Plain;

impl Memory for Plain {
    fn f32(&self, from: &[f32]) -> Box<dyn DerefMut<Target = [f32]>> {
        Box::new(from.to_vec())
    }
    fn bf16(&self, from: &[bf16]) -> Box<dyn DerefMut<Target = [bf16]>> {
        Box::new(from.to_vec())
    }
    fn u32(&self, from: &[u32]) -> Box<dyn DerefMut<Target = [u32]>> {
        Box::new(from.to_vec())
    }
}

impl Memory for At {
    fn f32(&self, from: &[f32]) -> Box<dyn DerefMut<Target = [f32]>> {
        Box::new(Guarded::new(*self, from))
    }
    fn bf16(&self, from: &[bf16]) -> Box<dyn DerefMut<Target = [bf16]>> {
        Box::new(Guarded::new(*self, from))
    }
    fn u32(&self, from: &[u32]) -> Box<dyn DerefMut<Target = [u32]>> {
        Box::new(Guarded::new(*self, from))
    }
}

/// Memory by element type.
trait Stored: Elem {
    fn put(memory: &dyn Memory, from: &[Self]) -> Box<dyn DerefMut<Target = [Self]>>;
}

impl Stored for f32 {
    fn put(memory: &dyn Memory, from: &[f32]) -> Box<dyn DerefMut<Target = [f32]>> {
        memory.f32(from)
    }
}

impl Stored for bf16 {
    fn put(memory: &dyn Memory, from: &[bf16]) -> Box<dyn DerefMut<Target = [bf16]>> {
        memory.bf16(from)
    }
}

/// `len` numbers in memory of their own.
fn some<E: Stored>(memory: &dyn Memory, seed: u64, len: usize) -> Box<dyn DerefMut<Target = [E]>> {
    E::put(memory, &noise::<E>(seed, len))
}

fn products<A: Stored, B: Stored, C: Stored>(precision: Precision) {
    for (m, n, k) in [(1, 1, 1), (3, 70, 33), (17, 35, 61), (33, 67, 1050), (15, 31, 2)] {
        for transposed in 0..8 {
            everywhere(&format!("gemm {m} {n} {k} {precision:?} layout {transposed}"), |cpu, memory| {
                let (a, b) = (some::<A>(memory, 1, m * k), some::<B>(memory, 2, k * n));
                let mut c = some::<C>(memory, 3, m * n);
                let a = if transposed & 1 == 1 { View::rows(&a, m).t() } else { View::rows(&a, k) };
                let b = if transposed & 2 == 2 { View::rows(&b, k).t() } else { View::rows(&b, n) };
                gemm(cpu, precision, (m, n, k), a, b, &mut c, n, transposed & 4 == 4);
                bits(&c)
            });
        }
    }
}

#[test]
fn products_stay_within_their_operands() {
    products::<f32, f32, f32>(Precision::Fp32);
    products::<bf16, f32, bf16>(Precision::Bf16);
    products::<bf16, bf16, f32>(Precision::Bf16);
    products::<f32, f32, f32>(Precision::Bf16);
}

fn attend<E: Stored>(shape: Shape, lengths: &[usize]) {
    let segments = documents(lengths);
    let n = segments.len();
    everywhere(&format!("attention {shape:?} of {lengths:?}"), |cpu, memory| {
        let segments = memory.u32(&segments);
        let (qkv, d_out) =
            (some::<E>(memory, 1, n * shape.qkv_width()), some::<E>(memory, 2, n * shape.out_width()));
        let (mut out, mut d_qkv) =
            (some::<E>(memory, 3, n * shape.out_width()), some::<E>(memory, 4, n * shape.qkv_width()));
        let mut lse = some::<f32>(memory, 5, n * shape.heads);
        attention::forward(cpu, shape, scale(shape), &segments, &qkv, &mut out, &mut lse);
        attention::backward(cpu, shape, scale(shape), &segments, &qkv, &out, &lse, &d_out, &mut d_qkv);
        [bits(&out), bits(&lse), bits(&d_qkv)].concat()
    });
}

#[test]
fn attention_stays_within_its_operands() {
    for (heads, kv_heads, head_dim) in [(1, 1, 1), (4, 2, 16), (2, 1, 24), (3, 3, 33)] {
        let shape = Shape { heads, kv_heads, head_dim };
        attend::<f32>(shape, &[5]);
        attend::<f32>(shape, &[70, 3, 64, 1]);
        attend::<bf16>(shape, &[70, 3, 64, 1]);
    }
}

fn rows<E: Stored>(n: usize, d: usize) {
    everywhere(&format!("rms_norm [{n}, {d}]"), |cpu, memory| {
        let (x, delta, w) =
            (some::<f32>(memory, 1, n * d), some::<E>(memory, 2, n * d), some::<f32>(memory, 3, d));
        let (mut sum, mut y) = (some::<f32>(memory, 4, n * d), some::<E>(memory, 5, n * d));
        let mut inv_rms = some::<f32>(memory, 6, n);
        rms_norm::forward(cpu, &x, Some(&delta[..]), &w, 1e-6, Some(&mut sum), &mut y, &mut inv_rms);
        let (dy, mut dx, mut dw) =
            (some::<E>(memory, 7, n * d), some::<f32>(memory, 8, n * d), some::<f32>(memory, 9, d));
        rms_norm::backward(cpu, &sum, &w, &inv_rms, &dy, &mut dx, &mut dw, true);
        [bits(&sum), bits(&y), bits(&inv_rms), bits(&dx), bits(&dw)].concat()
    });
    everywhere(&format!("swiglu [{n}, {d}]"), |cpu, memory| {
        let (gate_up, d_out) = (some::<E>(memory, 1, 2 * n * d), some::<E>(memory, 2, n * d));
        let (mut out, mut d_gate_up) = (some::<E>(memory, 3, n * d), some::<E>(memory, 4, 2 * n * d));
        swiglu::forward(cpu, &gate_up, d, &mut out);
        swiglu::backward(cpu, &gate_up, d, &d_out, &mut d_gate_up);
        [bits(&out), bits(&d_gate_up)].concat()
    });
    let tables = rope::Tables::new(n, 2 * d, 1e4);
    everywhere(&format!("rope [{n}, 3 × {}]", 2 * d), |cpu, memory| {
        let positions = memory.u32(&(0..n as u32).rev().collect::<Vec<_>>());
        let mut x = some::<E>(memory, 1, n * 6 * d);
        rope::forward(cpu, &tables, &positions, &mut x, 6 * d, 3, 2 * d);
        let there = bits(&x);
        rope::backward(cpu, &tables, &positions, &mut x, 6 * d, 2, 2 * d);
        [there, bits(&x)].concat()
    });
}

#[test]
fn ops_over_rows_stay_within_their_operands() {
    for (n, d) in [(1, 1), (5, 7), (67, 19), (130, 33)] {
        rows::<f32>(n, d);
        rows::<bf16>(n, d);
    }
}

#[test]
fn flat_ops_stay_within_their_operands() {
    for len in [1, 15, 31, 4097, (1 << 15) + 3] {
        everywhere(&format!("flat {len}"), |cpu, memory| {
            let (mut p, g) = (some::<f32>(memory, 1, len), some::<f32>(memory, 2, len));
            let (mut m, mut v) = (some::<f32>(memory, 3, len), memory.f32(&vec![0.5; len]));
            let hyper = hyper(3, 0.5);
            adamw::step(cpu, &mut p, &g, &mut m, &mut v, &hyper);
            add::add_assign(cpu, &mut p, &g);
            add::scale(cpu, &mut p, 0.7);
            let mut narrow = some::<bf16>(memory, 4, len);
            add::convert(cpu, &p, &mut narrow);
            let norm = global_norm::sum_squares(cpu, &p) as f32;
            assert!(global_norm::all_finite(cpu, &p));
            [bits(&p), bits(&m), bits(&v), bits(&narrow), vec![norm.to_bits()]].concat()
        });
    }
}

fn head<E: Stored>(precision: Precision, n: usize, d: usize, vocab: usize) {
    let labels: Vec<u32> =
        (0..n).map(|r| if r % 3 == 1 { NO_LABEL } else { (r * 7 % vocab) as u32 }).collect();
    let tokens: Vec<u32> = (0..n).map(|r| (r * 5 % vocab) as u32).collect();
    everywhere(&format!("linear_cross_entropy [{n}, {d}] · [{vocab}, {d}]"), |cpu, memory| {
        let (h, w, labels) =
            (some::<E>(memory, 1, n * d), some::<f32>(memory, 2, vocab * d), memory.u32(&labels));
        let (mut dh, mut dw) = (some::<E>(memory, 3, n * d), some::<f32>(memory, 4, vocab * d));
        let mut per_token = some::<f32>(memory, 5, n);
        let args = Args { h: &h[..], w: &w, labels: &labels, scale: 0.1, z_loss: 1e-3 };
        linear_cross_entropy::forward_backward(cpu, precision, args, &mut dh, &mut dw, true, &mut per_token);
        let mut again = some::<f32>(memory, 6, n);
        linear_cross_entropy::forward(cpu, precision, args, &mut again);
        [bits(&dh), bits(&dw), bits(&per_token), bits(&again)].concat()
    });
    everywhere(&format!("embedding [{vocab}, {d}]"), |cpu, memory| {
        let (tokens, table) = (memory.u32(&tokens), some::<f32>(memory, 1, vocab * d));
        let (mut out, mut d_table) = (some::<f32>(memory, 2, n * d), some::<f32>(memory, 3, vocab * d));
        embedding::forward(cpu, &tokens, &table, d, &mut out);
        embedding::backward(cpu, &tokens, &out, d, &mut d_table);
        [bits(&out), bits(&d_table)].concat()
    });
}

#[test]
fn the_head_and_the_embedding_stay_within_their_operands() {
    for (n, d, vocab) in [(1, 1, 2), (7, 19, 37), (300, 33, 131)] {
        head::<f32>(Precision::Fp32, n, d, vocab);
        head::<bf16>(Precision::Bf16, n, d, vocab);
    }
}
