use super::oracle::{self, Operands};
use super::{Dispatch, Gradient, Gradients, Layer};
use crate::Cpu;
use crate::gemm::Precision;
use crate::isa::Isa;
use crate::ops::activation::Activation;
use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, stored, wide};
use crate::simd::Elem;
use half::bf16;
use proptest::prelude::*;

#[derive(Clone, Copy)]
struct Shape {
    n: usize,
    experts: usize,
    top_k: usize,
    d: usize,
    intermediate: usize,
    activation: Activation,
}

const ACTIVATIONS: [Activation; 3] =
    [Activation::Silu, Activation::GeluTanh, Activation::Clamped { limit: 7.0 }];

/// k different experts per token; the last of several gets none, and the first many.
fn experts(shape: Shape) -> Vec<u32> {
    let Shape { n, experts, top_k, .. } = shape;
    let used = if experts > top_k { experts - 1 } else { experts };
    let first = |t: usize| if t.is_multiple_of(3) { 0 } else { t * 7 % used };
    (0..n * top_k).map(|slot| ((first(slot / top_k) + slot % top_k) % used) as u32).collect()
}

/// The tables of the dispatch: order, offsets, places.
fn dispatch(experts: &[u32], count: usize) -> [Vec<u32>; 3] {
    let mut order: Vec<u32> = (0..experts.len() as u32).collect();
    order.sort_by_key(|slot| experts[*slot as usize]);
    let mut places = vec![0; order.len()];
    order.iter().enumerate().for_each(|(row, slot)| places[*slot as usize] = row as u32);
    let below = |e: usize| experts.iter().filter(|expert| (**expert as usize) < e).count() as u32;
    [order, (0..=count).map(below).collect(), places]
}

/// Numbers of type `E`, so that rounding operands changes nothing but what is stored in between.
fn operands<E: Elem>(shape: Shape, biases: bool) -> Operands {
    let Shape { n, experts: e, top_k, d, intermediate: i, .. } = shape;
    let narrow = |seed, len, size| wide(&stored::<E>(&random(seed, len, size)));
    let bias = if biases { 0.5 } else { 0.0 };
    let size = if shape.activation == (Activation::Clamped { limit: 7.0 }) { 12.0 } else { 2.0 };
    Operands {
        x: narrow(1, n * d, 1.0),
        weights: narrow(2, n * top_k, 1.0),
        // So large that some gates and ups of gpt-oss are cut off.
        gate_up: narrow(3, e * 2 * i * d, size / (d as f32).sqrt()),
        down: narrow(4, e * d * i, 2.0 / (i as f32).sqrt()),
        bias_hidden: narrow(5, e * 2 * i, bias),
        bias_out: narrow(6, e * d, bias),
    }
}

fn definition(shape: Shape, experts: &[u32]) -> oracle::Layer<'_> {
    let Shape { top_k, d, intermediate, activation, .. } = shape;
    oracle::Layer { d, intermediate, top_k, activation, experts }
}

#[test]
fn oracle_gradients_are_the_slopes() {
    for activation in ACTIVATIONS {
        let shape = Shape { n: 4, experts: 4, top_k: 2, d: 3, intermediate: 5, activation };
        let experts = experts(shape);
        let layer = definition(shape, &experts);
        let (at, d_out) = (operands::<f32>(shape, true), wide(&random(7, shape.n * shape.d, 1.0)));
        let mut gradients = layer.backward(&at, &d_out);
        for (which, gradient) in gradients.all().into_iter().enumerate() {
            let x = at.clone().all()[which].clone();
            assert_slope(&format!("{activation:?}: operand {which}"), &x, gradient, |x| {
                let mut moved = at.clone();
                *moved.all()[which] = x.to_vec();
                dot(&layer.forward(&moved), &d_out)
            });
        }
    }
}

fn narrow32(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

/// Outputs and all gradients, of which `held` is what was there before when they are added to.
fn run<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    (shape, biases): (Shape, bool),
    of: &Operands,
    d_out: &[f32],
    held: Option<&Operands>,
) -> Vec<Vec<f64>> {
    let Shape { n, experts: count, top_k, d, intermediate, activation } = shape;
    let [order, offsets, places] = dispatch(&experts(shape), count);
    let x: Vec<E> = stored(&narrow32(&of.x));
    let [weights, gate_up, down] = [&of.weights, &of.gate_up, &of.down].map(|x| narrow32(x));
    let [bias_hidden, bias_out] = [&of.bias_hidden, &of.bias_out].map(|x| narrow32(x));
    let layer = Layer {
        d,
        intermediate,
        top_k,
        activation,
        gate_up: &gate_up,
        down: &down,
        biases: biases.then_some([&bias_hidden[..], &bias_out[..]]),
        dispatch: Dispatch { weights: &weights, order: &order, offsets: &offsets, places: &places },
    };
    let nan = E::from_f32(f32::NAN);
    let (mut hidden, mut out) = (vec![nan; n * top_k * 2 * intermediate], vec![f32::NAN; n * d]);
    super::forward(cpu, precision, &layer, &x, &mut hidden, &mut out);
    let start = |of: &Vec<f64>, held: Option<&Vec<f64>>| {
        held.map_or_else(|| vec![f32::NAN; of.len()], |held| narrow32(held))
    };
    let accumulate = held.is_some();
    let mut dx: Vec<E> = stored(&start(&of.x, held.map(|h| &h.x)));
    let mut dw = start(&of.weights, held.map(|h| &h.weights));
    let mut d_gate_up = start(&of.gate_up, held.map(|h| &h.gate_up));
    let mut d_down = start(&of.down, held.map(|h| &h.down));
    let mut d_hidden = start(&of.bias_hidden, held.map(|h| &h.bias_hidden));
    let mut d_bias_out = start(&of.bias_out, held.map(|h| &h.bias_out));
    let of_biases = [&mut d_hidden, &mut d_bias_out].map(|to| Gradient { to: &mut to[..], accumulate });
    let gradients = Gradients {
        x: Gradient { to: &mut dx[..], accumulate },
        weights: Gradient { to: &mut dw[..], accumulate },
        gate_up: Gradient { to: &mut d_gate_up[..], accumulate },
        down: Gradient { to: &mut d_down[..], accumulate },
        biases: biases.then_some(of_biases),
    };
    super::backward(cpu, precision, &layer, (&x, &hidden), d_out, gradients);
    let mut results = vec![wide(&out), wide(&dx), wide(&dw), wide(&d_gate_up), wide(&d_down)];
    if biases {
        results.extend([wide(&d_hidden), wide(&d_bias_out)]);
    }
    results
}

fn compare<E: Elem>(precision: Precision, shape: Shape, biases: bool, accumulate: bool) {
    let experts = experts(shape);
    let layer = definition(shape, &experts);
    let of = operands::<E>(shape, biases);
    let d_out: Vec<f32> = narrow32(&wide(&stored::<E>(&random(7, shape.n * shape.d, 1.0))));
    let out = layer.forward(&of);
    let mut want = layer.backward(&of, &wide(&d_out));
    let mut held = of.clone();
    for (seed, held) in held.all().into_iter().enumerate() {
        *held = wide(&stored::<E>(&random(seed as u64 + 10, held.len(), 1.0)));
    }
    if accumulate {
        for (want, held) in want.all().into_iter().zip(held.all()) {
            want.iter_mut().zip(held).for_each(|(want, held)| *want += *held);
        }
    }
    // Gate, up and activations are stored as bf16 on the way.
    let tolerance = if size_of::<E>() == 2 { 1.0 / 20.0 } else { 2e-5 };
    let mut wanted = vec![
        ("out", out, tolerance),
        ("dx", want.x, tolerance),
        ("d_weights", want.weights, tolerance),
        ("d_gate_up", want.gate_up, tolerance),
        ("d_down", want.down, tolerance),
    ];
    if biases {
        wanted.push(("d_bias_hidden", want.bias_hidden, tolerance));
        wanted.push(("d_bias_out", want.bias_out, tolerance));
    }
    let held = accumulate.then_some(&held);
    on_every_cpu(|cpu| run::<E>(cpu, precision, (shape, biases), &of, &d_out, held), &wanted);
}

#[test]
fn every_path_matches_the_oracle() {
    for (n, experts, top_k, d, intermediate) in
        [(1, 1, 1, 1, 1), (5, 4, 2, 7, 9), (90, 5, 2, 33, 20), (150, 12, 3, 40, 64)]
    {
        let shape = Shape { n, experts, top_k, d, intermediate, activation: Activation::Silu };
        for (biases, accumulate) in [(false, false), (true, false), (true, true)] {
            compare::<f32>(Precision::Fp32, shape, biases, accumulate);
            compare::<bf16>(Precision::Bf16, shape, biases, accumulate);
        }
    }
}

#[test]
fn every_activation_matches_the_oracle() {
    for activation in ACTIVATIONS {
        let shape = Shape { n: 50, experts: 4, top_k: 2, d: 19, intermediate: 21, activation };
        compare::<f32>(Precision::Fp32, shape, true, false);
        // Rounding moves gates across the limit, where the gradient jumps.
        if activation != (Activation::Clamped { limit: 7.0 }) {
            compare::<bf16>(Precision::Bf16, shape, false, false);
        }
    }
}

#[test]
fn several_blocks_along_k_match_the_oracle() {
    // More rows of one expert than a K-block, and wider rows than one.
    compare::<bf16>(
        Precision::Bf16,
        Shape { n: 700, experts: 2, top_k: 1, d: 20, intermediate: 24, activation: Activation::Silu },
        true,
        true,
    );
    compare::<bf16>(
        Precision::Bf16,
        Shape { n: 40, experts: 2, top_k: 2, d: 530, intermediate: 300, activation: Activation::Silu },
        false,
        false,
    );
}

#[test]
fn an_expert_without_rows_gets_zeros() {
    let activation = Activation::Silu;
    let shape = Shape { n: 30, experts: 3, top_k: 1, d: 8, intermediate: 8, activation };
    let (of, d_out) = (operands::<f32>(shape, true), random(7, 240, 1.0));
    let cpu = Cpu::with_isa(Isa::portable(), 2);
    let results = run::<f32>(&cpu, Precision::Fp32, (shape, true), &of, &d_out, None);
    for gradient in &results[3..] {
        let last = &gradient[gradient.len() / 3 * 2..];
        assert!(last.iter().all(|g| *g == 0.0) && gradient.iter().any(|g| *g != 0.0));
    }
}

#[test]
#[should_panic(expected = "moe_experts: offsets of 4 rows")]
fn routes_of_another_batch_are_refused() {
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    let layer = Layer {
        d: 1,
        intermediate: 1,
        top_k: 2,
        activation: Activation::Silu,
        gate_up: &[0.0; 4],
        down: &[0.0; 2],
        biases: None,
        dispatch: Dispatch {
            weights: &[0.0; 4],
            order: &[0, 1, 2, 3],
            offsets: &[0, 2, 6],
            places: &[0, 1, 2, 3],
        },
    };
    super::forward(&cpu, Precision::Fp32, &layer, &[0.0f32; 2], &mut [0.0; 8], &mut [0.0; 2]);
}

proptest::proptest! {
    #![proptest_config(crate::ops::testing::random_shapes())]

    #[test]
    fn random_shapes_match_the_oracle(
        n in 1usize..120, (experts, top_k) in (1usize..13).prop_flat_map(|e| (Just(e), 1..=e)), d in 1usize..50,
        intermediate in 1usize..70, biases: bool, accumulate: bool,
    ) {
        let shape = Shape { n, experts, top_k, d, intermediate, activation: Activation::Silu };
        compare::<f32>(Precision::Fp32, shape, biases, accumulate);
        compare::<bf16>(Precision::Bf16, shape, biases, accumulate);
    }
}
