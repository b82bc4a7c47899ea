//! What the routers and `load_balancing_loss_func` of transformers 5.24 compute in fp32, with gradients by autograd.

use super::tests::{Buffers, routing, run};
use super::{Args, Gate, Groups, Routing, Saved};
use crate::ops::testing::{on_every_cpu, wide};

const N: usize = 4;
const E: usize = 8;
const K: usize = 3;

fn sequence(len: usize, (step, modulus, middle): (usize, usize, f64), scale: f64) -> Vec<f32> {
    (0..len).map(|i| (((i * step % modulus) as f64 - middle) / scale) as f32).collect()
}

struct Golden {
    routing: Routing,
    biased: bool,
    experts: [u32; N * K],
    weights: [f64; N * K],
    /// By `Σ weights·d_weights`, or by the load-balancing loss where that has a weight.
    d_logits: [f64; N * E],
}

fn check(golden: Golden) {
    let logits = sequence(N * E, (37, 101, 50.0), 25.0);
    let bias = sequence(E, (13, 17, 8.0), 20.0);
    let mut d_weights = sequence(N * K, (29, 41, 20.0), 20.0);
    let routing = golden.routing;
    if routing.aux_loss_coef != 0.0 {
        d_weights.fill(0.0);
    }
    let mut want = vec![
        ("experts", golden.experts.map(f64::from).to_vec(), 0.0),
        ("weights", golden.weights.to_vec(), 1e-6),
        ("d_logits", golden.d_logits.to_vec(), 1e-5),
    ];
    if routing.gate == Gate::Softmax {
        want.push(("aux_loss", vec![4.18597412109375], 1e-6));
    }
    on_every_cpu(
        |cpu| {
            let bias = golden.biased.then_some(&bias[..]);
            let Buffers { weights, experts, counts, stats, .. } =
                run(cpu, &routing, Args { logits: &logits, bias, fractions: None });
            let saved = Saved {
                logits: &logits,
                experts: &experts,
                counts: &counts,
                fractions: None,
                scale_aux: 1.0,
            };
            let mut d_logits = vec![f32::NAN; N * E];
            super::backward(cpu, &routing, saved, &d_weights, &mut d_logits, false);
            let ids = experts.iter().map(|id| f64::from(*id)).collect();
            let mut got = vec![ids, wide(&weights), wide(&d_logits)];
            if routing.gate == Gate::Softmax {
                got.push(vec![stats[0]]);
            }
            got
        },
        &want,
    );
}

/// Of one gate, without losses.
fn plain(gate: Gate) -> Routing {
    Routing { routed_scaling_factor: 1.0, aux_loss_coef: 0.0, z_loss_coef: 0.0, ..routing(E, K, gate) }
}

const HIGHEST: [u32; N * K] = [5, 2, 7, 0, 5, 2, 3, 0, 5, 6, 3, 0];

const SHARES: [f64; N * K] = [
    0.4975333, 0.3335066, 0.1689601, 0.5416494, 0.2744088, 0.1839417, 0.4975333, 0.3335066, 0.1689601,
    0.4717762, 0.3162411, 0.2119827,
];

#[rustfmt::skip]
const OF_SHARES: [f64; N * E] = [
    0.0, 0.0, 0.274409, 0.0, 0.0, -0.312053, 0.0, 0.0376442,
    -0.300206, 0.0, 0.054402, 0.0, 0.0, 0.245804, 0.0, 0.0,
    0.274409, 0.0, 0.0, -0.312053, 0.0, 0.0376442, 0.0, 0.0,
    0.182212, 0.0, 0.0, -0.186722, 0.0, 0.0, 0.00450987, 0.0,
];

#[test]
fn the_router_of_qwen3_moe() {
    let routing = plain(Gate::Softmax);
    check(Golden { routing, biased: false, experts: HIGHEST, weights: SHARES, d_logits: OF_SHARES });
}

#[test]
fn the_router_of_gpt_oss() {
    let routing = plain(Gate::SoftmaxTopK);
    check(Golden { routing, biased: false, experts: HIGHEST, weights: SHARES, d_logits: OF_SHARES });
}

#[test]
fn the_load_balancing_loss() {
    let routing = Routing { aux_loss_coef: 1.0, ..plain(Gate::Softmax) };
    #[rustfmt::skip]
    let d_logits = [
        0.0071799, -0.0580773, 0.00732811, 0.000566498, -0.0866412, 0.206703, -0.0142889, -0.0627705,
        0.131829, -0.04075, -0.0298252, -0.00230563, -0.0607918, 0.0667866, -0.0120421, -0.0529004,
        0.101121, -0.0231719, -0.0110374, -0.0484865, -0.0345684, 0.0512298, -0.00650608, -0.0285808,
        0.102499, -0.0116364, 0.00616605, 0.0270871, -0.0173595, 0.0519277, -0.147297, -0.0113868,
    ];
    check(Golden { routing, biased: false, experts: HIGHEST, weights: SHARES, d_logits });
}

/// With a bias that moves choices and groups that limit them.
#[test]
fn the_router_of_deepseek_v3() {
    let groups = Some(Groups { count: 4, chosen: 2 });
    let routing = Routing { groups, routed_scaling_factor: 2.5, ..plain(Gate::Sigmoid) };
    let weights = [
        1.245881, 0.8917099, 0.3624091, 0.9772249, 0.4058501, 1.116925, 0.7999617, 1.005915, 0.694123,
        0.9818141, 0.9274411, 0.5907447,
    ];
    #[rustfmt::skip]
    let d_logits = [
        0.0, 0.0, 0.0, 0.0, 0.0, -0.162958, 0.0583749, 0.310753,
        0.0385049, 0.233781, 0.0, 0.0, 0.0, -0.152392, 0.0, 0.0,
        0.0, 0.0, 0.00851486, 0.0839739, 0.0, -0.203226, 0.0, 0.0,
        0.0, 0.0, 0.242055, -0.09009, 0.0, 0.0, 0.00254349, 0.0,
    ];
    let experts = [5, 7, 6, 5, 1, 0, 5, 3, 2, 6, 3, 2];
    check(Golden { routing, biased: true, experts, weights, d_logits });
}
