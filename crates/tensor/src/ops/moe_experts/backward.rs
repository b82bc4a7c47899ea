//! Back through combine, down, activation, gate and up.

use super::products::Products;
use super::{Gradient, Gradients, Layer, cpu as kernels};
use crate::Cpu;
use crate::gemm::Precision;
use crate::ops::activation;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::Elem;

pub(super) fn run<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    layer: &Layer<'_>,
    (x, hidden): (&[E], &[E]),
    d_out: &[f32],
    gradients: Gradients<'_, E>,
) {
    let Layer { d, intermediate, top_k, dispatch, .. } = *layer;
    let rows = layer.rows();
    let [bias_hidden, bias_out] = gradients.biases.map_or([None, None], |biases| biases.map(Some));
    scratch::with(rows * 2 * intermediate, |d_hidden: &mut [E]| {
        scratch::with(rows * d, |d_rows: &mut [E]| {
            kernels::gather::<f32, E>(cpu, dispatch.order, top_k, d, d_out, d_rows);
            let of_down = (gradients.down, gradients.weights);
            down(cpu, precision, layer, (hidden, d_rows), of_down, d_hidden);
            if let Some(bias) = bias_out {
                kernels::sum_rows::<E>(cpu, &dispatch, d_rows, true, bias);
            }
        });
        let products = Products { cpu, precision, dispatch, n_out: 2 * intermediate, n_in: d };
        let d_hidden = &*d_hidden;
        scratch::with(rows * d, |x_rows: &mut [E]| {
            kernels::gather::<E, E>(cpu, dispatch.order, top_k, d, x, x_rows);
            let Gradient { to, accumulate } = gradients.gate_up;
            products.weights(d_hidden, x_rows, to, accumulate);
        });
        if let Some(bias) = bias_hidden {
            kernels::sum_rows::<E>(cpu, &dispatch, d_hidden, false, bias);
        }
        scratch::with(rows * d, |dx_rows: &mut [f32]| {
            products.backward(d_hidden, layer.gate_up, dx_rows);
            let Gradient { to, accumulate } = gradients.x;
            kernels::combine::<E>(cpu, (dispatch.places, top_k, d), None, dx_rows, to, accumulate);
        });
    });
}

/// The gradients of down weights and of gate weights, and d_hidden `[n·k, 2·I]`.
fn down<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    layer: &Layer<'_>,
    (hidden, d_rows): (&[E], &[E]),
    (d_down, d_weights): (Gradient<'_, f32>, Gradient<'_, f32>),
    d_hidden: &mut [E],
) {
    let Layer { d, intermediate, dispatch, .. } = *layer;
    let rows = layer.rows();
    let products = Products { cpu, precision, dispatch, n_out: d, n_in: intermediate };
    scratch::with(rows * intermediate, |act: &mut [E]| {
        scratch::with(rows * intermediate, |g: &mut [f32]| {
            products.backward(d_rows, layer.down, g);
            between(cpu, layer, (hidden, d_rows, g), d_weights, act, d_hidden);
        });
        products.weights(d_rows, act, d_down.to, d_down.accumulate);
    });
}

/// Row by row, from `g` `[n·k, I]`: gradients of gate weights, activations times their weight, and d_hidden.
fn between<E: Elem>(
    cpu: &Cpu,
    layer: &Layer<'_>,
    (hidden, d_rows, g): (&[E], &[E], &[f32]),
    d_weights: Gradient<'_, f32>,
    act: &mut [E],
    d_hidden: &mut [E],
) {
    let Layer { d, intermediate: width, dispatch, .. } = *layer;
    let (d_hidden, to) = (Disjoint::new(d_hidden), Disjoint::new(d_weights.to));
    cpu.pool.for_each_chunk(act, kernels::ROWS * width, |task, act| {
        let first = task * kernels::ROWS;
        let rows = first..first + act.len() / width;
        let hidden = &hidden[2 * width * rows.start..2 * width * rows.end];
        activation::gated_rows(cpu.isa, layer.activation, hidden, width, act);
        scratch::with(act.len(), |d_act: &mut [E]| {
            let parts = act.chunks_exact_mut(width).zip(d_act.chunks_exact_mut(width));
            for (row, (act, d_act)) in rows.clone().zip(parts) {
                let slot = dispatch.order[row] as usize;
                let g = &g[row * width..(row + 1) * width];
                let mut along = kernels::weigh::<E>(cpu.isa, g, dispatch.weights[slot], act, d_act);
                if let Some([_, bias]) = layer.biases {
                    let bias = &bias[dispatch.expert_of(row) * d..][..d];
                    along += kernels::dot::<E>(cpu.isa, bias, &d_rows[row * d..(row + 1) * d]);
                }
                // SAFETY: each row has a slot of its own, as `Layer::check` has seen.
                let to = unsafe { to.slice(slot, slot + 1) };
                to[0] = along + if d_weights.accumulate { to[0] } else { 0.0 };
            }
            // SAFETY: these rows belong to this task alone.
            let d_hidden = unsafe { d_hidden.slice(2 * width * rows.start, 2 * width * rows.end) };
            activation::gated_rows_backward(cpu.isa, layer.activation, hidden, width, d_act, d_hidden);
        });
    });
}
