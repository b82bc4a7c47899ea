//! Operands that end, or begin, at a page that nobody may touch: a kernel that reads or writes beyond them dies.

use crate::inputs::{ACTIVATIONS, bits, cpus, documents, hyper, layers, noise, routing, sinks};
use half::bf16;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::{Precision, View, gemm};
use smolt_tensor::ops::activation::{self, Activation};
use smolt_tensor::ops::attention::{self, Attention, Shape};
use smolt_tensor::ops::latent::{self, absorbed};
use smolt_tensor::ops::layer_norm::{Affine, AffineGrads};
use smolt_tensor::ops::linear_cross_entropy::{self, Args, NO_LABEL};
use smolt_tensor::ops::moe_experts::{self, Dispatch, Gradient, Gradients, Layer};
use smolt_tensor::ops::moe_route::{self, Gate, Routes, Saved};
use smolt_tensor::ops::qk_norm::Part;
use smolt_tensor::ops::rope::{Heads, Pairing};
use smolt_tensor::ops::{
    adamw, add, embedding, global_norm, layer_norm, linear, qk_norm, rms_norm, rope, softcap, split_columns,
};
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

fn attend<E: Stored>(layer: &Attention, lengths: &[usize]) {
    let segments = documents(lengths);
    let (n, shape) = (segments.len(), layer.shape);
    everywhere(&format!("{layer:?} of {lengths:?}"), |cpu, memory| {
        let (segments, sinks) = (memory.u32(&segments), memory.f32(&sinks(layer)));
        let (qkv, d_out) =
            (some::<E>(memory, 1, n * shape.qkv_width()), some::<E>(memory, 2, n * shape.out_width()));
        let (mut out, mut d_qkv) =
            (some::<E>(memory, 3, n * shape.out_width()), some::<E>(memory, 4, n * shape.qkv_width()));
        let (mut lse, mut d_sinks) =
            (some::<f32>(memory, 5, n * shape.heads), some::<f32>(memory, 6, shape.heads));
        attention::forward(cpu, layer, Some(&sinks), &segments, &qkv, &mut out, &mut lse);
        let (output, more) = ((&out[..], &lse[..]), Some((&mut d_sinks[..], true)));
        attention::backward(cpu, layer, Some(&sinks), &segments, &qkv, output, &d_out, &mut d_qkv, more);
        [bits(&out), bits(&lse), bits(&d_qkv), bits(&d_sinks)].concat()
    });
    everywhere(&format!("cached {layer:?}"), |cpu, memory| {
        let capacity = 71;
        let (slots, sinks) = (memory.u32(&[2; 70]), memory.f32(&sinks(layer)));
        let positions = memory.u32(&(1..71).collect::<Vec<_>>());
        let qkv = some::<E>(memory, 1, 70 * shape.qkv_width());
        let mut k = some::<f32>(memory, 2, 3 * capacity * shape.key_width());
        let mut v = some::<f32>(memory, 3, 3 * capacity * shape.value_width());
        let mut out = some::<E>(memory, 4, 70 * shape.out_width());
        attention::append(shape, &qkv, &slots, &positions, capacity, &mut k, &mut v);
        let sinks = Some(&sinks[..]);
        attention::cached(cpu, layer, sinks, &qkv, &slots, &positions, &k, &v, capacity, &mut out);
        [bits(&out), bits(&k), bits(&v)].concat()
    });
}

#[test]
fn attention_stays_within_its_operands() {
    for (heads, kv_heads, head_dim) in [(1, 1, 1), (4, 2, 16), (2, 1, 24), (3, 3, 33)] {
        for layer in layers(Shape::new(heads, kv_heads, head_dim)) {
            attend::<f32>(&layer, &[5]);
            attend::<f32>(&layer, &[70, 3, 64, 1]);
            attend::<bf16>(&layer, &[70, 3, 64, 1]);
        }
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
        rms_norm::backward(cpu, &sum, &w, &inv_rms, &dy, &mut dx, true, &mut dw, true);
        [bits(&sum), bits(&y), bits(&inv_rms), bits(&dx), bits(&dw)].concat()
    });
    for act in ACTIVATIONS {
        everywhere(&format!("{act:?} [{n}, {d}]"), |cpu, memory| {
            let (gate_up, d_out) = (some::<E>(memory, 1, 2 * n * d), some::<E>(memory, 2, n * d));
            let (mut out, mut d_gate_up) = (some::<E>(memory, 3, n * d), some::<E>(memory, 4, 2 * n * d));
            activation::gated(cpu, act, &gate_up, d, &mut out);
            activation::gated_backward(cpu, act, &gate_up, d, &d_out, &mut d_gate_up);
            [bits(&out), bits(&d_gate_up)].concat()
        });
    }
    for pairing in [Pairing::HalfSplit, Pairing::Interleaved] {
        rotation::<E>(n, d, Heads { pairing, ..Heads::whole(3, 2 * d) });
        rotation::<E>(n, d, Heads { pairing, first: 1, count: 3, head_dim: 2 * d + 5, at: 5 });
    }
}

/// Rotation of 2·d features of heads that end at the end of the row.
fn rotation<E: Stored>(n: usize, d: usize, heads: Heads) {
    let (tables, stride) = (rope::Tables::plain(n, 2 * d, 1e4), heads.first + heads.count * heads.head_dim);
    everywhere(&format!("rope [{n}, {stride}], {heads:?}"), |cpu, memory| {
        let positions = memory.u32(&(0..n as u32).rev().collect::<Vec<_>>());
        let mut x = some::<E>(memory, 1, n * stride);
        rope::forward(cpu, &tables, &positions, &mut x, stride, heads);
        let there = bits(&x);
        rope::backward(cpu, &tables, &positions, &mut x, stride, Heads { count: 2, ..heads });
        [there, bits(&x)].concat()
    });
}

/// Latent attention's operands, and the cut that makes two of them.
fn latents<E: Stored>(n: usize, s: latent::Shape, rank: usize, pairing: Pairing) {
    let (tables, at) = (rope::Tables::plain(n, s.rope, 1e4), (0..n as u32).rev().collect::<Vec<_>>());
    let precision = if size_of::<E>() == 2 { Precision::Bf16 } else { Precision::Fp32 };
    let widths = (s.q_width(), s.kv_up_width(), s.qkv_width());
    everywhere(&format!("latent [{n}] {s:?} {pairing:?}"), |cpu, memory| {
        let positions = memory.u32(&at);
        let rotation = latent::Rotation { tables: &tables, pairing, positions: &positions };
        let (mut q, mut kv_up) = (some::<E>(memory, 1, n * widths.0), some::<E>(memory, 2, n * widths.1));
        let (mut k_rope, mut qkv) = (some::<f32>(memory, 3, n * s.rope), some::<E>(memory, 4, n * widths.2));
        latent::forward(cpu, s, rotation, &q, &kv_up, &k_rope, &mut qkv);
        let there = bits(&qkv);
        for add in [false, true] {
            let (d_q, d_kv_up, d_k_rope) = ((&mut q[..], add), (&mut kv_up[..], add), (&mut k_rope[..], add));
            latent::backward(cpu, s, rotation, &qkv, latent::Grads { d_q, d_kv_up, d_k_rope });
        }
        [there, bits(&q), bits(&kv_up), bits(&k_rope)].concat()
    });
    everywhere(&format!("absorbed [{n}] {s:?} {rank} {pairing:?}"), |cpu, memory| {
        let positions = memory.u32(&at);
        let rotation = latent::Rotation { tables: &tables, pairing, positions: &positions };
        let (q, w) = (some::<E>(memory, 1, n * widths.0), some::<f32>(memory, 2, widths.1 * rank));
        let key = rank + s.rope;
        let (mut queries, mut keys) =
            (some::<E>(memory, 3, n * s.heads * key), some::<E>(memory, 4, n * key));
        absorbed::queries(cpu, precision, s, rotation, &q, &w, &mut queries);
        let mut both = some::<E>(memory, 5, n * key);
        let (mut latent, mut k_rope) = (some::<E>(memory, 6, n * rank), some::<E>(memory, 7, n * s.rope));
        split_columns::forward(cpu, &both, key, rank, &mut latent, &mut k_rope);
        absorbed::keys(cpu, s, rotation, &latent, &k_rope, &mut keys);
        split_columns::backward(cpu, &latent, &k_rope, rank, &mut both, key, true);
        let (x, mut values) =
            (some::<E>(memory, 8, n * s.heads * rank), some::<E>(memory, 9, n * s.heads * s.value));
        absorbed::values(cpu, precision, s, &x, &w, &mut values);
        [bits(&queries), bits(&keys), bits(&both), bits(&values)].concat()
    });
}

#[test]
fn latent_attention_stays_within_its_operands() {
    for (n, heads, nope, rope, value, rank) in
        [(1, 1, 1, 2, 1, 1), (5, 3, 7, 6, 5, 9), (67, 2, 19, 38, 17, 33)]
    {
        for pairing in [Pairing::HalfSplit, Pairing::Interleaved] {
            let shape = latent::Shape { heads, nope, rope, value };
            latents::<f32>(n, shape, rank, pairing);
            latents::<bf16>(n, shape, rank, pairing);
        }
    }
}

fn more_rows<E: Stored>(n: usize, d: usize) {
    everywhere(&format!("layer_norm [{n}, {d}]"), |cpu, memory| {
        let [x, delta] = [1, 2].map(|seed| some::<f32>(memory, seed, n * d));
        let [w, b] = [3, 4].map(|seed| some::<f32>(memory, seed, d));
        let (mut sum, mut y) = (some::<f32>(memory, 5, n * d), some::<E>(memory, 6, n * d));
        let mut stats = some::<f32>(memory, 7, 2 * n);
        let (delta, affine) = (Some(&delta[..]), Affine { w: &w, b: &b });
        layer_norm::forward(cpu, &x, delta, affine, 1e-5, Some(&mut sum), &mut y, &mut stats);
        let (dy, mut dx) = (some::<E>(memory, 8, n * d), some::<f32>(memory, 9, n * d));
        let [mut dw, mut db] = [10, 11].map(|seed| some::<f32>(memory, seed, d));
        let grads = AffineGrads { dw: &mut dw, accumulate_dw: true, db: &mut db, accumulate_db: true };
        layer_norm::backward(cpu, &sum, &w, &stats, &dy, &mut dx, true, grads);
        [bits(&sum), bits(&y), bits(&stats), bits(&dx), bits(&dw), bits(&db)].concat()
    });
    everywhere(&format!("qk_norm [{n}, 4 × {d}]"), |cpu, memory| {
        let [x, dy] = [1, 2].map(|seed| some::<E>(memory, seed, 4 * n * d));
        let [mut y, mut dx] = [3, 4].map(|seed| some::<E>(memory, seed, 4 * n * d));
        let [w_q, w_k] = [5, 6].map(|seed| some::<f32>(memory, seed, d));
        let [mut dw_q, mut dw_k] = [7, 8].map(|seed| some::<f32>(memory, seed, d));
        let mut inv_rms = some::<f32>(memory, 9, 3 * n);
        let parts = [Part { width: 2 * d, w: &w_q }, Part { width: d, w: &w_k }];
        qk_norm::forward(cpu, &x, 4 * d, parts, 1e-6, &mut y, &mut inv_rms);
        let dw = [(&mut dw_q[..], true), (&mut dw_k[..], false)];
        qk_norm::backward(cpu, &x, 4 * d, parts, &inv_rms, &dy, &mut dx, dw);
        [bits(&y), bits(&inv_rms), bits(&dx), bits(&dw_q), bits(&dw_k)].concat()
    });
    everywhere(&format!("bias and softcap [{n}, {d}]"), |cpu, memory| {
        let (x, w) = (some::<E>(memory, 1, n * 3), some::<f32>(memory, 2, d * 3));
        let (bias, mut y) = (some::<f32>(memory, 3, d), some::<E>(memory, 4, n * d));
        linear::forward_bias(cpu, Precision::Fp32, &x, &w, &bias, 3, &mut y);
        let mut db = some::<f32>(memory, 5, d);
        linear::backward_bias(cpu, &y, &mut db, true);
        softcap::forward(cpu, 0.5, &mut db);
        [bits(&y), bits(&db)].concat()
    });
}

#[test]
fn ops_over_rows_stay_within_their_operands() {
    for (n, d) in [(1, 1), (5, 7), (67, 19), (130, 33)] {
        rows::<f32>(n, d);
        rows::<bf16>(n, d);
        more_rows::<f32>(n, d);
        more_rows::<bf16>(n, d);
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
        let args = Args { h: &h[..], w: &w, labels: &labels, scale: 0.1, z_loss: 1e-3, softcap: None };
        linear_cross_entropy::forward_backward(cpu, precision, args, &mut dh, &mut dw, true, &mut per_token);
        let mut again = some::<f32>(memory, 6, n);
        linear_cross_entropy::forward(cpu, precision, args, &mut again);
        [bits(&dh), bits(&dw), bits(&per_token), bits(&again)].concat()
    });
    everywhere(&format!("embedding [{vocab}, {d}]"), |cpu, memory| {
        let (tokens, table) = (memory.u32(&tokens), some::<f32>(memory, 1, vocab * d));
        let (mut out, mut d_table) = (some::<f32>(memory, 2, n * d), some::<f32>(memory, 3, vocab * d));
        embedding::forward(cpu, &tokens, &table, d, 1.0, &mut out);
        embedding::backward(cpu, &tokens, &out, d, 1.0, &mut d_table);
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

/// Tokens, experts, experts per token, features, features inside.
type Mixture = (usize, usize, usize, usize, usize);

fn route(cpu: &Cpu, memory: &dyn Memory, (n, experts, k, ..): Mixture, gate: Gate) -> [Vec<u32>; 5] {
    let routing = routing(experts, k, gate);
    let (logits, bias) = (some::<f32>(memory, 1, n * experts), some::<f32>(memory, 2, experts));
    let fractions = some::<f32>(memory, 3, experts);
    let indices = |len: usize| memory.u32(&vec![0; len]);
    let (mut ids, mut order, mut places) = (indices(n * k), indices(n * k), indices(n * k));
    let (mut offsets, mut counts) = (indices(experts + 1), indices(experts));
    let (mut weights, mut stats) = (some::<f32>(memory, 4, n * k), [0.0; 3]);
    let routes = Routes {
        weights: &mut weights,
        experts: &mut ids,
        order: &mut order,
        offsets: &mut offsets,
        places: &mut places,
        counts: &mut counts,
        stats: &mut stats,
    };
    let args = moe_route::Args { logits: &logits, bias: Some(&bias), fractions: Some(&fractions) };
    moe_route::forward(cpu, &routing, args, routes);
    let mut d_logits = some::<f32>(memory, 5, n * experts);
    let saved = Saved {
        logits: &logits,
        experts: &ids,
        counts: &counts,
        fractions: Some(&fractions),
        scale_aux: 0.5,
    };
    moe_route::backward(cpu, &routing, saved, &weights, &mut d_logits, true);
    [bits(&weights), order.to_vec(), offsets.to_vec(), places.to_vec(), bits(&d_logits)]
}

fn mixture<E: Stored>(precision: Precision, shape: Mixture, gate: Gate) {
    let (n, experts, k, d, width) = shape;
    everywhere(&format!("{gate:?} routes and experts {shape:?}"), |cpu, memory| {
        let [weights, order, offsets, places, d_logits] = route(cpu, memory, shape, gate);
        let weights = memory.f32(&weights.iter().map(|x| f32::from_bits(*x)).collect::<Vec<_>>());
        let (order, offsets, places) = (memory.u32(&order), memory.u32(&offsets), memory.u32(&places));
        let (gate_up, down) =
            (some::<f32>(memory, 3, experts * 2 * width * d), some::<f32>(memory, 4, experts * d * width));
        let (inner, outer) =
            (some::<f32>(memory, 5, experts * 2 * width), some::<f32>(memory, 6, experts * d));
        let layer = Layer {
            d,
            intermediate: width,
            top_k: k,
            activation: Activation::Silu,
            gate_up: &gate_up,
            down: &down,
            biases: Some([&inner, &outer]),
            dispatch: Dispatch { weights: &weights, order: &order, offsets: &offsets, places: &places },
        };
        let x = some::<E>(memory, 7, n * d);
        let (mut hidden, mut out) = (some::<E>(memory, 8, n * k * 2 * width), some::<f32>(memory, 9, n * d));
        moe_experts::forward(cpu, precision, &layer, &x, &mut hidden, &mut out);
        let mut dx = some::<E>(memory, 10, n * d);
        let [mut d_weights, mut d_gate_up, mut d_down, mut d_inner, mut d_outer] =
            [n * k, gate_up.len(), down.len(), inner.len(), outer.len()]
                .map(|len| some::<f32>(memory, 11, len));
        let gradients = Gradients {
            x: Gradient { to: &mut dx, accumulate: true },
            weights: Gradient { to: &mut d_weights, accumulate: false },
            gate_up: Gradient { to: &mut d_gate_up, accumulate: true },
            down: Gradient { to: &mut d_down, accumulate: false },
            biases: Some([&mut d_inner, &mut d_outer].map(|to| Gradient { to, accumulate: false })),
        };
        moe_experts::backward(cpu, precision, &layer, (&x, &hidden), &out, gradients);
        let gradients = [bits(&d_weights), bits(&d_gate_up), bits(&d_down), bits(&d_inner), bits(&d_outer)];
        [d_logits, bits(&hidden), bits(&out), bits(&dx), gradients.concat()].concat()
    });
}

#[test]
fn routes_and_experts_stay_within_their_operands() {
    for shape in [(1, 2, 1, 1, 1), (7, 5, 3, 7, 9), (67, 8, 2, 19, 33)] {
        for gate in [Gate::Softmax, Gate::SoftmaxTopK, Gate::Sigmoid] {
            mixture::<f32>(Precision::Fp32, shape, gate);
            mixture::<bf16>(Precision::Bf16, shape, gate);
        }
    }
}
