//! A decoder of every variant: offsets, biases, norms after branches, LayerNorm, normalised queries and keys, scaled and
//! added embeddings, capped logits. Its gradients are slopes of its loss, which they are only if each op told the
//! plan the truth.

use super::{DType, LayoutBuilder, ParamId, Program, Run, Tape, Var};
use crate::Cpu;
use crate::gemm::Precision;
use crate::isa::Isa;
use crate::ops::activation::Activation;
use crate::ops::attention::{Attention, Shape};
use crate::ops::linear_cross_entropy::Loss;
use crate::ops::qk_norm::Widths;
use crate::ops::rms_norm::Gain;
use crate::ops::testing::{dot, random, wide};

const ROWS: usize = 12;
const WIDTH: usize = 16;
const VOCAB: usize = 19;
const SHAPE: Shape = Shape::new(2, 1, 8);

/// Records the decoder; returns its inputs (tokens, labels, segments, positions, scale) and its loss.
fn record(t: &mut Tape, layout: &mut LayoutBuilder) -> ([Var; 5], Loss) {
    let mut add = |rows: usize, cols: usize| layout.add(&[(String::new(), vec![rows, cols])]);
    let [tokens, labels, segments, positions] = [(); 4].map(|()| t.input_indices(ROWS));
    let scale = t.input_scalars(1);
    let (embedding, places) = (add(VOCAB, WIDTH), add(ROWS, WIDTH));
    let offset = |w: ParamId| Gain { w, offset: true };
    let x = t.embedding(tokens, embedding, WIDTH, 4.0);
    let x = t.add_embedding(x, positions, places);
    // LayerNorm, biases, a norm of heads; a norm after the branch.
    let h = t.layer_norm(x, add(1, WIDTH), add(1, WIDTH), 1e-5);
    let qkv = t.linear_bias(h, add(32, WIDTH), add(1, 32), 32, t.activation);
    let widths = Widths { q: 16, k: 8, head: Some(8) };
    let qkv = t.qk_norm(qkv, widths, offset(add(1, 8)), add(1, 8), 1e-6);
    let attended = t.attention(qkv, segments, &Attention::new(SHAPE));
    let branch = t.linear(attended, add(WIDTH, 16), WIDTH, DType::F32);
    let branch = t.rms_norm_to(branch, offset(add(1, WIDTH)), 1e-6, DType::F32);
    let (x, h) = t.add_rms_norm(x, branch, offset(add(1, WIDTH)), 1e-6);
    let gate_up = t.linear(h, add(2 * 24, WIDTH), 2 * 24, t.activation);
    let gated = t.gated(gate_up, Activation::Clamped { limit: 1.0 });
    let branch = t.linear_fp32(gated, add(WIDTH, 24), Some(add(1, WIDTH)), WIDTH);
    let (x, h) = t.add_layer_norm(x, branch, add(1, WIDTH), add(1, WIDTH), 1e-5);
    let up = t.linear_bias(h, add(24, WIDTH), add(1, 24), 24, t.activation);
    let up = t.activate(up, Activation::Gelu);
    let branch = t.linear(up, add(WIDTH, 24), WIDTH, DType::F32);
    let branch = t.rms_norm_to(branch, add(1, WIDTH), 1e-6, DType::F32);
    let x = t.add(x, branch);
    let h = t.rms_norm(x, offset(add(1, WIDTH)), 1e-6);
    let loss = t.linear_cross_entropy(h, embedding, labels, scale, 1e-2, Some(3.0));
    ([tokens, labels, segments, positions, scale], loss)
}

fn fill(program: &mut Program, [tokens, labels, segments, positions, scale]: [Var; 5]) {
    for row in 0..ROWS {
        let segment = row / 7 * 7;
        let values = [row * 5 % VOCAB, (row * 7 + 3) % VOCAB, segment, row - segment];
        for (var, value) in [tokens, labels, segments, positions].into_iter().zip(values) {
            program.input_mut::<u32>(var)[row] = value as u32;
        }
    }
    program.input_mut::<f32>(scale)[0] = 1.0;
}

#[test]
fn gradients_of_every_variant_are_the_slopes() {
    let mut layout = LayoutBuilder::default();
    let mut t = Tape::new(Precision::Fp32);
    let (inputs, loss) = record(&mut t, &mut layout);
    let (mut program, layout) = (t.compile(true), layout.build());
    fill(&mut program, inputs);
    let cpu = Cpu::with_isa(Isa::portable(), 2);
    let weights = random(1, layout.len(), 0.5);
    let mut at = |weights: &[f32]| {
        // Whatever was there is overwritten.
        let mut grads = vec![9.0; layout.len()];
        program.run(Run { cpu: &cpu, layout: &layout, weights, grads: Some(&mut grads), cache: None });
        let totals = loss.totals(&program);
        (totals.nll_sum + 1e-2 * totals.z_sum, grads)
    };
    let (_, grads) = at(&weights);
    let mut felt = 0;
    for (i, view) in layout.views().iter().enumerate() {
        // Along a direction in which this parameter alone moves.
        let mut direction = vec![0.0f32; layout.len()];
        direction[view.range.clone()].copy_from_slice(&random(2 + i as u64, view.range.len(), 1.0));
        const STEP: f32 = 2e-3;
        let moved = |by: f32| weights.iter().zip(&direction).map(|(w, d)| w + by * d).collect::<Vec<_>>();
        let slope = (at(&moved(STEP)).0 - at(&moved(-STEP)).0) / (2.0 * f64::from(STEP));
        let want = dot(&wide(&grads[view.range.clone()]), &wide(&direction[view.range.clone()]));
        felt += usize::from(want.abs() > 0.1);
        assert!(
            (slope - want).abs() < 5e-3 * want.abs() + 2e-2,
            "parameter {i} {:?}: gradient {want}, slope {slope}",
            view.shape
        );
    }
    // Enough of them stand out of the noise of fp32.
    assert!(2 * felt > layout.views().len(), "{felt} of {}", layout.views().len());
}
