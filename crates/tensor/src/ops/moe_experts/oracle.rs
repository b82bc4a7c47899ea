//! The op in f64, as written in its definition: token by token, slot by slot.

use crate::ops::activation::Activation;
use crate::ops::activation::oracle;

pub(super) struct Layer<'a> {
    pub(super) d: usize,
    pub(super) intermediate: usize,
    pub(super) top_k: usize,
    pub(super) activation: Activation,
    /// Experts in order of slot, `[n, k]`.
    pub(super) experts: &'a [u32],
}

/// What gradients are taken of.
#[derive(Clone)]
pub(super) struct Operands {
    pub(super) x: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) gate_up: Vec<f64>,
    pub(super) down: Vec<f64>,
    pub(super) bias_hidden: Vec<f64>,
    pub(super) bias_out: Vec<f64>,
}

impl Operands {
    pub(super) fn all(&mut self) -> [&mut Vec<f64>; 6] {
        let Operands { x, weights, gate_up, down, bias_hidden, bias_out } = self;
        [x, weights, gate_up, down, bias_hidden, bias_out]
    }
}

/// The output of an activation, and its slopes by gate and by up.
fn value(activation: Activation, gate: f64, up: f64) -> (f64, f64, f64) {
    let of = oracle::gated_backward(activation, &[gate, up], 1, &[1.0]);
    (oracle::gated(activation, &[gate, up], 1)[0], of[0], of[1])
}

/// `w·x + bias`, w `[out, in]`.
fn product(w: &[f64], x: &[f64], bias: &[f64]) -> Vec<f64> {
    let dot = |w: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
    w.chunks_exact(x.len()).zip(bias).map(|(w, b)| dot(w) + b).collect()
}

struct Parts {
    hidden: std::ops::Range<usize>,
    gate_up: std::ops::Range<usize>,
    down: std::ops::Range<usize>,
    out: std::ops::Range<usize>,
}

impl Layer<'_> {
    /// Where the parameters of an expert lie.
    fn parts(&self, expert: u32) -> Parts {
        let (e, d, i) = (expert as usize, self.d, self.intermediate);
        let range = |size: usize| e * size..(e + 1) * size;
        Parts { hidden: range(2 * i), gate_up: range(2 * i * d), down: range(d * i), out: range(d) }
    }

    /// hidden, a and y of one slot.
    fn slot(&self, of: &Operands, x: &[f64], expert: u32) -> [Vec<f64>; 3] {
        let parts = self.parts(expert);
        let hidden = product(&of.gate_up[parts.gate_up], x, &of.bias_hidden[parts.hidden]);
        let (gate, up) = hidden.split_at(self.intermediate);
        let act: Vec<f64> = gate.iter().zip(up).map(|(g, u)| value(self.activation, *g, *u).0).collect();
        let y = product(&of.down[parts.down], &act, &of.bias_out[parts.out]);
        [hidden, act, y]
    }

    pub(super) fn forward(&self, of: &Operands) -> Vec<f64> {
        let mut out = vec![0.0; of.x.len()];
        for (slot, &expert) in self.experts.iter().enumerate() {
            let token = slot / self.top_k * self.d..(slot / self.top_k + 1) * self.d;
            let [.., y] = self.slot(of, &of.x[token.clone()], expert);
            out[token].iter_mut().zip(y).for_each(|(out, y)| *out += of.weights[slot] * y);
        }
        out
    }

    /// The gradient of every operand, in its place.
    pub(super) fn backward(&self, of: &Operands, d_out: &[f64]) -> Operands {
        let (d, width) = (self.d, self.intermediate);
        let mut grads = of.clone();
        grads.all().into_iter().for_each(|g| g.fill(0.0));
        for (slot, &expert) in self.experts.iter().enumerate() {
            let token = slot / self.top_k * d..(slot / self.top_k + 1) * d;
            let (x, d_out) = (&of.x[token.clone()], &d_out[token.clone()]);
            let [hidden, act, y] = self.slot(of, x, expert);
            let parts = self.parts(expert);
            let mut d_act = vec![0.0; width];
            for (o, d_out) in d_out.iter().enumerate() {
                grads.weights[slot] += d_out * y[o];
                let dy = of.weights[slot] * d_out;
                grads.bias_out[parts.out.start + o] += dy;
                for (j, d_act) in d_act.iter_mut().enumerate() {
                    let at = parts.down.start + o * width + j;
                    grads.down[at] += dy * act[j];
                    *d_act += dy * of.down[at];
                }
            }
            for h in 0..2 * width {
                let (_, by_gate, by_up) =
                    value(self.activation, hidden[h % width], hidden[width + h % width]);
                let d_hidden = d_act[h % width] * if h < width { by_gate } else { by_up };
                grads.bias_hidden[parts.hidden.start + h] += d_hidden;
                for (i, x) in x.iter().enumerate() {
                    let at = parts.gate_up.start + h * d + i;
                    grads.gate_up[at] += d_hidden * x;
                    grads.x[token.start + i] += d_hidden * of.gate_up[at];
                }
            }
        }
        grads
    }
}
