//! Gather, gate and up, activation, down, combine.

use super::products::Products;
use super::{Layer, cpu as kernels};
use crate::Cpu;
use crate::gemm::Precision;
use crate::ops::activation;
use crate::scratch;
use crate::simd::Elem;

pub(super) fn run<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    layer: &Layer<'_>,
    x: &[E],
    hidden: &mut [E],
    out: &mut [f32],
) {
    let Layer { d, intermediate, top_k, dispatch, .. } = *layer;
    let rows = layer.rows();
    let biases = layer.biases;
    let products = Products { cpu, precision, dispatch, n_out: 2 * intermediate, n_in: d };
    scratch::with(rows * d, |x_rows: &mut [E]| {
        kernels::gather::<E, E>(cpu, dispatch.order, top_k, d, x, x_rows);
        if let Some([bias, _]) = biases {
            kernels::fill(cpu, &dispatch, bias, hidden);
        }
        products.forward(x_rows, layer.gate_up, hidden, biases.is_some());
    });
    let products = Products { n_out: d, n_in: intermediate, ..products };
    scratch::with(rows * intermediate, |act: &mut [E]| {
        activation::gated(cpu, layer.activation, hidden, intermediate, act);
        scratch::with(rows * d, |y: &mut [f32]| {
            if let Some([_, bias]) = biases {
                kernels::fill(cpu, &dispatch, bias, y);
            }
            products.forward(act, layer.down, y, biases.is_some());
            let sums = (dispatch.places, top_k, d);
            kernels::combine::<f32>(cpu, sums, Some(dispatch.weights), y, out, false);
        });
    });
}
