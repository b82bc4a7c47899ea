//! A layer of latent attention on the tape: gradients where values have one reader and several, and the absorbed
//! ops beside the explicit ones.

use super::{RotateBy, Rotation, Shape, absorbed};
use crate::Cpu;
use crate::gemm::Precision;
use crate::ops::attention;
use crate::ops::linear_cross_entropy::Loss;
use crate::ops::rope::{Frequencies, Pairing, Tables, Yarn};
use crate::ops::testing::random;
use crate::tape::{DType, Layout, LayoutBuilder, ParamId, Program, Run, Tape, Var};
use std::sync::Arc;

const ROWS: usize = 30;
const WIDTH: usize = 24;
const VOCAB: usize = 30;
const RANK: usize = 11;
/// Values as wide as keys, for the attention op.
const SHAPE: Shape = Shape { heads: 3, nope: 4, rope: 6, value: 10 };
const EPS: f32 = 1e-6;

struct Weights {
    layout: Layout,
    embedding: ParamId,
    q: ParamId,
    kv_a: ParamId,
    norm: ParamId,
    kv_b: ParamId,
    out: [ParamId; 3],
    averaged: ParamId,
}

fn weights() -> Weights {
    let mut layout = LayoutBuilder::default();
    let mut add = |rows: usize, cols: usize| layout.add(&[(String::new(), vec![rows, cols])]);
    let embedding = add(VOCAB, WIDTH);
    let (q, kv_a) = (add(SHAPE.q_width(), WIDTH), add(RANK + SHAPE.rope, WIDTH));
    let (norm, kv_b) = (add(1, RANK), add(SHAPE.kv_up_width(), RANK));
    let out = [(); 3].map(|()| add(WIDTH, SHAPE.heads * SHAPE.value));
    let averaged = add(SHAPE.heads * RANK, WIDTH);
    Weights { layout: layout.build(), embedding, q, kv_a, norm, kv_b, out, averaged }
}

struct Pass {
    program: Program,
    inputs: [Var; 4],
    scale: Var,
    loss: Loss,
}

fn tables(yarn: bool) -> Arc<Tables> {
    let frequencies = match yarn {
        true => Frequencies::yarn(SHAPE.rope, 1e2, &Yarn::new(4.0, 16)),
        false => Frequencies::plain(SHAPE.rope, 1e2),
    };
    Arc::new(Tables::new(ROWS, &frequencies))
}

/// The latent and the shared key of a row, `[n, RANK]` and `[n, rope]`.
fn latents(t: &mut Tape, w: &Weights, kv_a: Var) -> (Var, Var) {
    let (latent, k_rope) = t.split_columns(kv_a, RANK);
    (t.rms_norm(latent, w.norm, EPS), k_rope)
}

/// Three attentions: q is read by all, kv_up and the shared key of the first split by two, and the row that is
/// split by two splits.
fn pass(w: &Weights) -> Pass {
    let mut t = Tape::new(Precision::Fp32);
    let inputs = [(); 4].map(|()| t.input_indices(ROWS));
    let [tokens, labels, segments, positions] = inputs;
    let scale = t.input_scalars(1);
    let mut x = t.embedding(tokens, w.embedding, WIDTH, 1.0);
    let qkvs = t.recompute(|t| {
        let q = t.linear(x, w.q, SHAPE.q_width(), DType::F32);
        let kv_a = t.linear(x, w.kv_a, RANK + SHAPE.rope, DType::F32);
        let parts = [(); 2].map(|()| {
            let (latent, k_rope) = latents(t, w, kv_a);
            (t.linear(latent, w.kv_b, SHAPE.kv_up_width(), DType::F32), k_rope)
        });
        let settings =
            [(0, true, Pairing::HalfSplit), (0, false, Pairing::Interleaved), (1, false, Pairing::HalfSplit)];
        settings.map(|(part, yarn, pairing)| {
            let (kv_up, k_rope) = parts[part];
            t.latent_qkv(q, kv_up, k_rope, SHAPE, RotateBy { positions, pairing, tables: tables(yarn) })
        })
    });
    for (qkv, out) in qkvs.into_iter().zip(w.out) {
        let (heads, head_dim) = (SHAPE.heads, SHAPE.head_dim());
        let shape =
            attention::Shape { value_dim: SHAPE.value, ..attention::Shape::new(heads, heads, head_dim) };
        let attended = t.attention(qkv, segments, &attention::Attention::new(shape));
        let branch = t.linear(attended, out, WIDTH, DType::F32);
        x = t.add(x, branch);
    }
    let loss = t.linear_cross_entropy(x, w.embedding, labels, scale, 0.0, None);
    Pass { program: t.compile(true), inputs, scale, loss }
}

/// The summed loss and its gradient.
fn loss(cpu: &Cpu, w: &Weights, pass: &mut Pass, weights: &[f32]) -> (f64, Vec<f32>) {
    for row in 0..ROWS {
        let segment = row / 13 * 13;
        let values = [row * 7 % VOCAB, row * 11 % VOCAB, segment, row - segment];
        for (var, value) in pass.inputs.into_iter().zip(values) {
            pass.program.input_mut::<u32>(var)[row] = value as u32;
        }
    }
    pass.program.input_mut::<f32>(pass.scale)[0] = 1.0;
    let mut grads = vec![0.0; w.layout.len()];
    pass.program.run(Run { cpu, layout: &w.layout, weights, grads: Some(&mut grads), cache: None });
    (pass.loss.totals(&pass.program).nll_sum, grads)
}

#[test]
fn gradients_on_the_tape_are_slopes() {
    let (w, cpu) = (weights(), Cpu::new(2).unwrap());
    let (mut pass, at) = (pass(&w), random(9, w.layout.len(), 0.6));
    let (_, gradient) = loss(&cpu, &w, &mut pass, &at);
    let parameters = [w.embedding, w.q, w.kv_a, w.norm, w.kv_b, w.out[0], w.out[1], w.out[2]];
    for (i, id) in parameters.into_iter().enumerate() {
        let range = w.layout.range(id);
        // Along the gradient itself a part that is missing or counted twice shows, whatever its direction.
        for (name, direction) in
            [("the gradient", gradient[range.clone()].to_vec()), ("any", random(7, range.len(), 1.0))]
        {
            let norm = direction.iter().map(|d| d * d).sum::<f32>().sqrt();
            let step = 5e-3;
            let mut moved = |sign: f32| {
                let mut x = at.clone();
                x[range.clone()].iter_mut().zip(&direction).for_each(|(x, d)| *x += sign * step * d / norm);
                loss(&cpu, &w, &mut pass, &x).0
            };
            let slope = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
            let want: f64 =
                gradient[range.clone()].iter().zip(&direction).map(|(g, d)| f64::from(g * d / norm)).sum();
            let error = (slope - want).abs();
            assert!(
                error < 1e-4 * want.abs() + 1e-3,
                "parameter {i} along {name}: {want}, but the slope is {slope}"
            );
        }
    }
}

#[test]
fn absorbed_ops_on_the_tape_are_the_functions() {
    let (w, cpu) = (weights(), Cpu::new(2).unwrap());
    let mut t = Tape::new(Precision::Fp32);
    let [tokens, positions] = [(); 2].map(|()| t.input_indices(ROWS));
    let x = t.embedding(tokens, w.embedding, WIDTH, 1.0);
    let q = t.linear(x, w.q, SHAPE.q_width(), DType::F32);
    let kv_a = t.linear(x, w.kv_a, RANK + SHAPE.rope, DType::F32);
    let (latent, k_rope) = latents(&mut t, &w, kv_a);
    let rotate = || RotateBy { positions, pairing: Pairing::Interleaved, tables: tables(true) };
    let queries = t.absorbed_queries(q, w.kv_b, RANK, SHAPE, rotate());
    let keys = t.absorbed_keys(latent, k_rope, SHAPE, rotate());
    // Rows of any numbers stand for averages of latents.
    let averaged = t.linear(x, w.averaged, SHAPE.heads * RANK, DType::F32);
    let values = t.absorbed_values(averaged, w.kv_b, SHAPE);
    [q, latent, k_rope, averaged, queries, keys, values].into_iter().for_each(|var| t.keep(var));
    let mut program = t.compile(false);
    for row in 0..ROWS as u32 {
        program.input_mut::<u32>(tokens)[row as usize] = row * 7 % VOCAB as u32;
        program.input_mut::<u32>(positions)[row as usize] = row % 13;
    }
    let at = random(9, w.layout.len(), 0.6);
    program.run(Run { cpu: &cpu, layout: &w.layout, weights: &at, grads: None, cache: None });
    let [q, latent, k_rope, averaged, queries, keys, values] =
        [q, latent, k_rope, averaged, queries, keys, values].map(|var| program.output::<f32>(var));
    let (kv_b, given) = (&at[w.layout.range(w.kv_b)], program.output::<u32>(positions));
    let rotation = Rotation { tables: &tables(true), pairing: Pairing::Interleaved, positions: given };
    let mut want = [queries, keys, values].map(|got| vec![0.0; got.len()]);
    absorbed::queries(&cpu, Precision::Fp32, SHAPE, rotation, q, kv_b, &mut want[0]);
    absorbed::keys(&cpu, SHAPE, rotation, latent, k_rope, &mut want[1]);
    absorbed::values(&cpu, Precision::Fp32, SHAPE, averaged, kv_b, &mut want[2]);
    assert!([queries, keys, values].into_iter().zip(&want).all(|(got, want)| got == want));
    assert!(want.iter().all(|part| part.iter().any(|x| x.abs() > 0.1)));
}
