//! Routes and experts as a program: gradients of the whole, recomputation, precision of the router.

use super::Experts;
use crate::Cpu;
use crate::gemm::Precision;
use crate::ops::activation::Activation;
use crate::ops::linear_cross_entropy::Loss;
use crate::ops::moe_route::{Gate, Groups, RouteInputs, Routed, Routing};
use crate::ops::testing::{assert_close, random, wide};
use crate::tape::{Layout, LayoutBuilder, ParamId, Program, Run, Tape, Var};
use half::bf16;

const ROWS: usize = 60;
const VOCAB: usize = 50;
const WIDTH: usize = 24;
const INNER: usize = 16;
const EXPERTS: usize = 8;
const TOP_K: usize = 3;
const LAYERS: usize = 2;
const SCALE: f64 = 0.02;
const SCALE_AUX: f64 = 0.5;

struct Weights {
    layout: Layout,
    embedding: ParamId,
    norm: ParamId,
    /// Router, selection bias, gate|up, down and the biases of both.
    layers: Vec<[ParamId; 6]>,
}

fn weights() -> Weights {
    let mut layout = LayoutBuilder::default();
    let mut add = |shape: &[usize]| layout.add(&[(String::new(), shape.to_vec())]);
    let (embedding, norm) = (add(&[VOCAB, WIDTH]), add(&[WIDTH]));
    let mut layer = |_| {
        [
            add(&[EXPERTS, WIDTH]),
            add(&[EXPERTS]),
            add(&[EXPERTS, 2 * INNER, WIDTH]),
            add(&[EXPERTS, WIDTH, INNER]),
            add(&[EXPERTS, 2 * INNER]),
            add(&[EXPERTS, WIDTH]),
        ]
    };
    let layers = (0..LAYERS).map(&mut layer).collect();
    Weights { layout: layout.build(), embedding, norm, layers }
}

fn routing(gate: Gate) -> Routing {
    Routing {
        experts: EXPERTS,
        top_k: TOP_K,
        gate,
        norm_topk_prob: gate == Gate::Sigmoid,
        routed_scaling_factor: 1.5,
        groups: (gate == Gate::Sigmoid).then_some(Groups { count: 4, chosen: 2 }),
        aux_loss_coef: 0.3,
        z_loss_coef: 0.1,
    }
}

struct Pass {
    program: Program,
    tokens: Var,
    labels: Var,
    scales: [Var; 2],
    fractions: Var,
    loss: Loss,
    routed: Vec<Routed>,
}

fn pass(w: &Weights, precision: Precision, gate: Gate, recompute: bool) -> Pass {
    let mut t = Tape::new(precision);
    let (tokens, labels) = (t.input_indices(ROWS), t.input_indices(ROWS));
    let (scales, fractions) = ([t.input_scalars(1), t.input_scalars(1)], t.input_scalars(EXPERTS));
    let mut x = t.embedding(tokens, w.embedding, WIDTH, 1.0);
    let mut routed = Vec::new();
    for (l, &[router, bias, gate_up, down, inner, outer]) in w.layers.iter().enumerate() {
        let mut layer = |t: &mut Tape| {
            let h = t.rms_norm(x, w.norm, 1e-6);
            let logits = t.linear_fp32(h, router, None, EXPERTS);
            let inputs = RouteInputs {
                scale_aux: Some(scales[1]),
                fractions: (l == 1).then_some(fractions),
                bias: Some(bias),
            };
            let to = t.moe_route(logits, routing(gate), inputs);
            let experts = Experts {
                intermediate: INNER,
                activation: Activation::Silu,
                gate_up,
                down,
                biases: (l == 1).then_some([inner, outer]),
            };
            routed.push(to);
            let branch = t.moe_experts(h, &to, experts);
            t.add(x, branch)
        };
        x = if recompute { t.recompute(layer) } else { layer(&mut t) };
    }
    let h = t.rms_norm(x, w.norm, 1e-6);
    let loss = t.linear_cross_entropy(h, w.embedding, labels, scales[0], 0.0, None);
    Pass { program: t.compile(true), tokens, labels, scales, fractions, loss, routed }
}

/// The loss that is differentiated, and its gradient.
fn run(cpu: &Cpu, w: &Weights, pass: &mut Pass, gate: Gate, weights: &[f32]) -> (f64, Vec<f32>) {
    let ids: Vec<u32> =
        random(5, 2 * ROWS, 0.5).iter().map(|x| ((x + 0.5) * VOCAB as f32) as u32 % VOCAB as u32).collect();
    let program = &mut pass.program;
    program.input_mut::<u32>(pass.tokens).copy_from_slice(&ids[..ROWS]);
    program.input_mut::<u32>(pass.labels).copy_from_slice(&ids[ROWS..]);
    program.input_mut::<f32>(pass.scales[0])[0] = SCALE as f32;
    program.input_mut::<f32>(pass.scales[1])[0] = SCALE_AUX as f32;
    for (i, f) in program.input_mut::<f32>(pass.fractions).iter_mut().enumerate() {
        *f = i as f32 * 0.1;
    }
    let mut grads = vec![f32::NAN; w.layout.len()];
    program.run(Run { cpu, layout: &w.layout, weights, grads: Some(&mut grads), cache: None });
    let mut loss = SCALE * pass.loss.totals(program).nll_sum;
    let [aux, z] = [routing(gate).aux_loss_coef, routing(gate).z_loss_coef].map(f64::from);
    for routed in &pass.routed {
        let stats = routed.stats(program);
        loss += SCALE_AUX * (aux * stats.aux_loss + z * stats.z_loss);
        assert_eq!(program.output::<u32>(routed.counts).iter().sum::<u32>() as usize, ROWS * TOP_K);
        assert!(stats.entropy > 0.0 && stats.entropy < (EXPERTS as f64).ln());
    }
    (loss, grads)
}

fn start(w: &Weights) -> Vec<f32> {
    random(9, w.layout.len(), 0.6)
}

#[test]
fn the_gradient_is_the_slope_of_the_losses_along_each_parameter() {
    let (w, cpu) = (weights(), Cpu::new(2).unwrap());
    for gate in [Gate::Softmax, Gate::SoftmaxTopK, Gate::Sigmoid] {
        let mut pass = pass(&w, Precision::Fp32, gate, false);
        let at = start(&w);
        let (_, grads) = run(&cpu, &w, &mut pass, gate, &at);
        let layers = w.layers.iter().flatten().copied();
        for id in [w.embedding, w.norm].into_iter().chain(layers) {
            let range = w.layout.range(id);
            let norm = grads[range.clone()].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            if w.layers.iter().any(|layer| layer[1] == id) {
                assert_eq!(norm, 0.0, "a selection bias has no gradient");
                continue;
            }
            if w.layers[0][4..].contains(&id) {
                continue; // Not used by the first layer.
            }
            // Small enough that no token changes its experts.
            let step = 1e-3;
            let mut moved = |sign: f64| {
                let mut to = at.clone();
                for i in range.clone() {
                    to[i] += (sign * step * f64::from(grads[i]) / norm) as f32;
                }
                run(&cpu, &w, &mut pass, gate, &to).0
            };
            let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
            assert!((slope - norm).abs() < 0.01 * norm, "{gate:?} {id:?}: slope {slope}, gradient {norm}");
        }
    }
}

#[test]
fn what_is_recomputed_has_the_same_bits() {
    let (w, cpu) = (weights(), Cpu::new(2).unwrap());
    for precision in [Precision::Fp32, Precision::Bf16] {
        let bits = |recompute| {
            let mut pass = pass(&w, precision, Gate::Sigmoid, recompute);
            let bytes = pass.program.slab_bytes();
            let (loss, mut grads) = run(&cpu, &w, &mut pass, Gate::Sigmoid, &start(&w));
            // No op writes the biases that the first layer has no use for.
            w.layers[0][4..].iter().for_each(|id| grads[w.layout.range(*id)].fill(0.0));
            let padding = |i: &usize| !w.layout.views().iter().any(|view| view.range.contains(i));
            (0..grads.len()).filter(padding).for_each(|i| grads[i] = 0.0);
            assert!(grads.iter().all(|g| g.is_finite()));
            (loss.to_bits(), grads.iter().map(|g| g.to_bits()).collect::<Vec<_>>(), bytes)
        };
        let (kept, again) = (bits(false), bits(true));
        assert!(kept.0 == again.0 && kept.1 == again.1, "{precision:?}");
        assert!(again.2 < kept.2, "layers share memory: {} bytes, {} before", again.2, kept.2);
    }
}

#[test]
fn a_router_has_fp32_operands_in_a_bf16_run() {
    let (w, cpu, weights) = (weights(), Cpu::new(1).unwrap(), start(&weights()));
    let router = w.layers[0][0];
    let mut t = Tape::new(Precision::Bf16);
    let tokens = t.input_indices(ROWS);
    let x = t.embedding(tokens, w.embedding, WIDTH, 1.0);
    let h = t.rms_norm(x, w.norm, 1e-6);
    let logits = t.linear_fp32(h, router, None, EXPERTS);
    t.keep(h);
    t.keep(logits);
    let mut program = t.compile(false);
    program.input_mut::<u32>(tokens).iter_mut().enumerate().for_each(|(i, t)| *t = i as u32 % 40);
    program.run(Run { cpu: &cpu, layout: &w.layout, weights: &weights, grads: None, cache: None });
    let (h, router) = (wide(program.output::<bf16>(h)), wide(&weights[w.layout.range(router)]));
    let dot = |h: &[f64], w: &[f64]| h.iter().zip(w).map(|(h, w)| h * w).sum::<f64>();
    let want: Vec<f64> = h.chunks(WIDTH).flat_map(|h| router.chunks(WIDTH).map(move |w| dot(h, w))).collect();
    assert_close("logits", &wide(program.output::<f32>(logits)), &want, 1e-6);
}
