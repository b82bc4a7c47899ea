//! Recomputation: the same bits from less memory, and records that it refuses.

use super::schedule::Phase;
use super::{Frame, Layout, LayoutBuilder, Node, ParamId, Program, Run, Tape, Uses, Var};
use crate::Cpu;
use crate::gemm::Precision;
use crate::ops::activation::Activation;
use crate::ops::attention::{Attention, Scores, Shape, Window};
use crate::ops::linear_cross_entropy::Loss;
use crate::ops::rope::Tables;
use crate::ops::testing::random;
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;

const ROWS: usize = 40;
const WIDTH: usize = 32;
const VOCAB: usize = 50;
const BLOCKS: usize = 3;
/// Ops of a block, and ops before the first.
const OPS: usize = 10;
const BEFORE: usize = 1;
const SHAPE: Shape = Shape::new(4, 2, 8);

struct Weights {
    layout: Layout,
    embedding: ParamId,
    norm: ParamId,
    /// Learned sinks of attention, of all blocks.
    sinks: ParamId,
    /// Norm, qkv, out, norm, gate|up, down.
    blocks: Vec<[ParamId; 6]>,
}

struct Pass {
    program: Program,
    inputs: [Var; 4],
    scale: Var,
    loss: Loss,
}

fn weights() -> Weights {
    let mut layout = LayoutBuilder::default();
    let mut add = |rows: usize, cols: usize| layout.add(&[(String::new(), vec![rows, cols])]);
    let (embedding, norm, sinks) = (add(VOCAB, WIDTH), add(1, WIDTH), add(1, SHAPE.heads));
    let qkv = (SHAPE.heads + 2 * SHAPE.kv_heads) * SHAPE.head_dim;
    let shapes = [(1, WIDTH), (qkv, WIDTH), (WIDTH, WIDTH), (1, WIDTH), (2 * 48, WIDTH), (WIDTH, 48)];
    let blocks = (0..BLOCKS).map(|_| shapes.map(|(rows, cols)| add(rows, cols))).collect();
    Weights { layout: layout.build(), embedding, norm, sinks, blocks }
}

/// A small decoder; `ranges` of its ops are recomputed.
fn pass(w: &Weights, precision: Precision, ranges: Vec<Range<usize>>) -> Pass {
    let mut t = Tape::new(precision);
    let inputs = [(); 4].map(|()| t.input_indices(ROWS));
    let [tokens, labels, segments, positions] = inputs;
    let scale = t.input_scalars(1);
    let tables = Arc::new(Tables::plain(ROWS, SHAPE.head_dim, 1e4));
    let (rotated, activation) = (SHAPE.heads + SHAPE.kv_heads, t.activation);
    let plain = Attention { sinks: Some(w.sinks), ..Attention::new(SHAPE) };
    let bent = Scores { softcap: Some(2.0), alibi: true, ..plain.scores };
    let windowed = Attention { window: Window::Sliding(6), sink_tokens: 2, scores: bent, ..plain };
    let mut x = t.embedding(tokens, w.embedding, WIDTH, 1.0);
    for (l, &[norm1, qkv, out, norm2, gate_up, down]) in w.blocks.iter().enumerate() {
        let h = t.rms_norm(x, norm1, 1e-6);
        let width = (rotated + SHAPE.kv_heads) * SHAPE.head_dim;
        let qkv = t.linear(h, qkv, width, activation);
        t.rope(qkv, positions, rotated, SHAPE.head_dim, &tables);
        let attended = t.attention(qkv, segments, if l == 1 { &windowed } else { &plain });
        let branch = t.linear(attended, out, WIDTH, super::DType::F32);
        let (sum, h) = t.add_rms_norm(x, branch, norm2, 1e-6);
        let gate_up = t.linear(h, gate_up, 2 * 48, activation);
        let gated = t.gated(gate_up, Activation::Silu);
        let branch = t.linear(gated, down, WIDTH, super::DType::F32);
        x = t.add(sum, branch);
    }
    assert_eq!(t.nodes.len(), BEFORE + BLOCKS * OPS);
    let h = t.rms_norm(x, w.norm, 1e-6);
    let loss = t.linear_cross_entropy(h, w.embedding, labels, scale, 1e-3, None);
    t.ranges = ranges;
    Pass { program: t.compile(true), inputs, scale, loss }
}

/// The gradients of one run.
fn run(w: &Weights, pass: &mut Pass, seed: u64, weights: &[f32]) -> Vec<f32> {
    let cpu = Cpu::new(2).unwrap();
    let ids = random(seed, ROWS, VOCAB as f32 / 2.0);
    let id = |row: usize| (ids[row] + VOCAB as f32 / 2.0) as u32;
    for row in 0..ROWS {
        let segment = row / 15 * 15;
        let values = [id(row), id((row + 1) % ROWS), segment as u32, (row - segment) as u32];
        for (var, value) in pass.inputs.into_iter().zip(values) {
            pass.program.input_mut::<u32>(var)[row] = value;
        }
    }
    pass.program.input_mut::<f32>(pass.scale)[0] = 0.1;
    let mut grads = vec![0.0; w.layout.len()];
    let grads_of = Some(&mut grads[..]);
    pass.program.run(Run { cpu: &cpu, layout: &w.layout, weights, grads: grads_of, cache: None });
    grads
}

/// Bits of the losses, their sums and every gradient, in two runs one after the other.
fn bits(w: &Weights, pass: &mut Pass) -> Vec<u64> {
    let mut bits = Vec::new();
    for seed in 1..3 {
        let grads = run(w, pass, seed, &random(9, w.layout.len(), 0.5));
        assert!(grads.iter().filter(|g| g.abs() > 1e-7).count() > w.layout.len() / 2);
        bits.extend(pass.program.output::<f32>(pass.loss.per_token).iter().map(|x| u64::from(x.to_bits())));
        bits.extend(pass.program.output::<f64>(pass.loss.totals).iter().map(|x| x.to_bits()));
        bits.extend(grads.iter().map(|x| u64::from(x.to_bits())));
    }
    bits
}

/// Three layers add to it.
#[test]
fn the_gradient_of_a_shared_sink_is_the_slope_of_the_loss() {
    let w = weights();
    let mut pass = pass(&w, Precision::Fp32, Vec::new());
    let weights = random(9, w.layout.len(), 0.5);
    let grads = run(&w, &mut pass, 1, &weights);
    for i in w.layout.range(w.sinks) {
        let mut loss = |by: f32| {
            let mut weights = weights.clone();
            weights[i] += by;
            run(&w, &mut pass, 1, &weights);
            let totals = pass.program.output::<f64>(pass.loss.totals);
            0.1 * (totals[0] + 1e-3 * totals[1])
        };
        let slope = (loss(0.05) - loss(-0.05)) / 0.1;
        let error = (slope - f64::from(grads[i])).abs();
        assert!(
            slope.abs() > 1e-3 && error < 1e-5 + 0.01 * slope.abs(),
            "sink {i}: {}, slope {slope}",
            grads[i]
        );
    }
}

fn block(l: usize) -> Range<usize> {
    BEFORE + l * OPS..BEFORE + (l + 1) * OPS
}

/// Ops that run once more, in order.
fn replayed(pass: &Pass) -> Vec<usize> {
    pass.program.steps.iter().filter(|(phase, _)| *phase == Phase::Replay).map(|(_, node)| *node).collect()
}

/// Cuts between the ops, none of which parts the rotation in place from the product that it works on.
fn some_ranges() -> impl Strategy<Value = Vec<Range<usize>>> {
    let ops = BEFORE + BLOCKS * OPS + 2;
    prop::collection::btree_set(0..=ops, 0..10).prop_map(move |cuts| {
        let moved = |cut: usize| if cut % OPS == BEFORE + 2 && cut < ops - 2 { cut + 1 } else { cut };
        let cuts: Vec<usize> = cuts.into_iter().map(moved).collect();
        cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_recomputed_bits_stay(ranges in some_ranges(), bf16 in any::<bool>()) {
        let precision = if bf16 { Precision::Bf16 } else { Precision::Fp32 };
        let w = weights();
        let (kept, again) = (pass(&w, precision, Vec::new()), pass(&w, precision, ranges));
        let same = bits(&w, &mut { kept }) == bits(&w, &mut { again });
        prop_assert!(same);
    }
}

#[test]
fn blocks_share_the_memory_of_what_is_recomputed() {
    let w = weights();
    for precision in [Precision::Fp32, Precision::Bf16] {
        let mut none = pass(&w, precision, Vec::new());
        let mut all = pass(&w, precision, (0..BLOCKS).map(block).collect());
        assert!(bits(&w, &mut none) == bits(&w, &mut all));
        // The stream between blocks is rounded off nowhere and kept; all else is there for one block at a time.
        let stored = if precision == Precision::Bf16 { 2 } else { 4 };
        let qkv = (SHAPE.heads + 2 * SHAPE.kv_heads) * SHAPE.head_dim;
        let saved = ROWS * (4 * (WIDTH + 2 + SHAPE.heads) + stored * (3 * WIDTH + qkv + 3 * 48));
        let (kept, shared) = (none.program.slab_bytes(), all.program.slab_bytes());
        let want = kept - (BLOCKS - 1) * saved;
        assert!(shared <= want + want / 20, "{kept} bytes became {shared}, expected {want}");
    }
}

#[test]
fn only_what_leads_to_a_saved_value_runs_again() {
    let w = weights();
    let run_again = |ranges| replayed(&pass(&w, Precision::Fp32, ranges));
    // The last product of a block and the addition after it are of no use to its backward; what they lead to is kept
    // for the replay of the next block, and computed again where there is none.
    let starts = [0, 1, 2].map(|l| block(l).start);
    let leading: Vec<usize> = [(starts[2], OPS), (starts[1], OPS - 2), (starts[0], OPS - 2)]
        .into_iter()
        .flat_map(|(start, ops)| start..start + ops)
        .collect();
    assert_eq!(run_again((0..BLOCKS).map(block).collect()), leading);
    // Of a product alone, backward reads the operands only, which are kept.
    assert!(run_again(std::iter::once(starts[1] + 4..starts[1] + 5).collect()).is_empty());
    let mut t = Tape::new(Precision::Fp32);
    let tokens = t.input_indices(4);
    t.recompute(|t| t.embedding(tokens, w.embedding, WIDTH, 1.0));
    assert_eq!(t.compile(false).steps, [(Phase::Forward, 0)]);
}

/// An op of which only what it reads, writes and saves is of interest.
struct Op(Uses);

impl Node for Op {
    fn name(&self) -> &'static str {
        "op"
    }
    fn uses(&self) -> Uses {
        self.0.clone()
    }
    fn forward(&self, _: &Frame<'_>) {}
    fn backward(&self, _: &Frame<'_>) {}
}

fn op(reads: &[Var], writes: &[Var], saved: &[Var]) -> Op {
    let [reads, writes, saved] = [reads, writes, saved].map(<[Var]>::to_vec);
    Op(Uses { reads, writes, saved, ..Uses::default() })
}

fn values() -> (Tape, [Var; 3]) {
    let mut t = Tape::new(Precision::Fp32);
    let vars = [(); 3].map(|()| t.computed(4, 4, super::DType::F32));
    (t, vars)
}

#[test]
#[should_panic(expected = "written both inside and outside the range")]
fn a_value_of_the_range_that_is_changed_after_it_is_refused() {
    let (mut t, [x, ..]) = values();
    t.recompute(|t| t.push(op(&[], &[x], &[])));
    t.push(op(&[], &[x], &[x]));
    t.compile(true);
}

#[test]
#[should_panic(expected = "overwritten later")]
fn a_value_that_a_replay_would_find_changed_is_refused() {
    let (mut t, [x, y, _]) = values();
    t.push(op(&[], &[x], &[]));
    t.recompute(|t| t.push(op(&[x], &[y], &[y])));
    t.push(op(&[], &[x], &[]));
    t.compile(true);
}

#[test]
#[should_panic(expected = "half replayed")]
fn a_kept_value_that_a_replay_would_spoil_is_refused() {
    let (mut t, [x, y, _]) = values();
    t.keep(x);
    t.recompute(|t| {
        t.push(op(&[], &[x, y], &[y]));
        t.push(op(&[], &[x], &[]));
    });
    t.compile(true);
}

#[test]
#[should_panic(expected = "do not nest")]
fn nested_ranges_are_refused() {
    let mut t = Tape::new(Precision::Fp32);
    t.recompute(|t| t.recompute(|_| ()));
}
