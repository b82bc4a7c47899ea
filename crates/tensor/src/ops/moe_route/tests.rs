use super::{Args, Gate, Groups, Routes, Routing, Saved, oracle};
use crate::Cpu;
use crate::isa::Isa;
use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, wide};
use proptest::prelude::*;

pub(super) fn routing(experts: usize, top_k: usize, gate: Gate) -> Routing {
    Routing {
        experts,
        top_k,
        gate,
        norm_topk_prob: true,
        routed_scaling_factor: 2.5,
        groups: None,
        aux_loss_coef: 0.25,
        z_loss_coef: 0.125,
    }
}

/// Mixtral, Qwen3-MoE without renormalising, gpt-oss, DeepSeek-V3 with and without groups.
fn settings(experts: usize, top_k: usize) -> Vec<Routing> {
    let gates = [Gate::Softmax, Gate::SoftmaxTopK, Gate::Sigmoid].map(|gate| routing(experts, top_k, gate));
    let mut all = gates.to_vec();
    all.extend(gates.map(|routing| Routing { norm_topk_prob: false, routed_scaling_factor: 1.0, ..routing }));
    if experts.is_multiple_of(4) && top_k <= experts / 2 {
        let groups = Some(Groups { count: 4, chosen: 2 });
        all.extend(gates.map(|routing| Routing { groups, z_loss_coef: 0.0, ..routing }));
    }
    all.push(Routing { aux_loss_coef: 0.0, ..gates[0] });
    all
}

#[derive(Default)]
pub(super) struct Buffers {
    pub(super) weights: Vec<f32>,
    pub(super) experts: Vec<u32>,
    pub(super) order: Vec<u32>,
    pub(super) offsets: Vec<u32>,
    pub(super) places: Vec<u32>,
    pub(super) counts: Vec<u32>,
    pub(super) stats: [f64; 3],
}

pub(super) fn run(cpu: &Cpu, routing: &Routing, args: Args<'_>) -> Buffers {
    let (e, slots) = (routing.experts, args.logits.len() / routing.experts * routing.top_k);
    let indices = |len: usize| vec![u32::MAX; len];
    let mut b = Buffers {
        weights: vec![f32::NAN; slots],
        experts: indices(slots),
        order: indices(slots),
        offsets: indices(e + 1),
        places: indices(slots),
        counts: indices(e),
        stats: [f64::NAN; 3],
    };
    let routes = Routes {
        weights: &mut b.weights,
        experts: &mut b.experts,
        order: &mut b.order,
        offsets: &mut b.offsets,
        places: &mut b.places,
        counts: &mut b.counts,
        stats: &mut b.stats,
    };
    super::forward(cpu, routing, args, routes);
    b
}

#[test]
fn oracle_gradient_is_the_slope() {
    let (n, e, k) = (5, 8, 3);
    let (logits, bias) = (wide(&random(1, n * e, 2.0)), wide(&random(2, e, 0.1)));
    let d_weights = wide(&random(3, n * k, 1.0));
    let given = wide(&random(4, e, 1.0));
    for routing in settings(e, k) {
        for fractions in [None, Some(&given[..])] {
            let gradient = oracle::backward(&routing, &logits, &bias, fractions, 0.5, &d_weights);
            let [aux, z] = [routing.aux_loss_coef, routing.z_loss_coef].map(f64::from);
            assert_slope(&format!("{routing:?}"), &logits, &gradient, |x| {
                let out = oracle::forward(&routing, x, &bias, fractions);
                dot(&out.weights, &d_weights) + 0.5 * (aux * out.stats.aux_loss + z * out.stats.z_loss)
            });
        }
    }
}

fn compare(routing: &Routing, n: usize, given: bool, accumulate: bool) {
    let (e, k) = (routing.experts, routing.top_k);
    let (logits, bias) = (random(1, n * e, 4.0), random(2, e, 0.2));
    let (fractions, d_weights) = (random(3, e, 1.0), random(4, n * k, 1.0));
    let fractions = given.then_some(&fractions[..]);
    let before = random(5, n * e, 1.0);
    let wide_fractions = fractions.map(wide);
    let (x, b, f) = (wide(&logits), wide(&bias), wide_fractions.as_deref());
    let want = oracle::forward(routing, &x, &b, f);
    let mut d_logits = oracle::backward(routing, &x, &b, f, 0.75, &wide(&d_weights));
    if accumulate {
        d_logits.iter_mut().zip(wide(&before)).for_each(|(to, x)| *to += x);
    }
    let exact = |x: &[u32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let stats = vec![want.stats.aux_loss, want.stats.z_loss, want.stats.entropy];
    on_every_cpu(
        |cpu| {
            let got = run(cpu, routing, Args { logits: &logits, bias: Some(&bias), fractions });
            let saved = Saved {
                logits: &logits,
                experts: &got.experts,
                counts: &got.counts,
                fractions,
                scale_aux: 0.75,
            };
            let mut d_logits = before.clone();
            super::backward(cpu, routing, saved, &d_weights, &mut d_logits, accumulate);
            assert_dispatch(&got, routing);
            let Buffers { weights, experts, counts, stats, .. } = got;
            vec![exact(&experts), exact(&counts), wide(&weights), stats.to_vec(), wide(&d_logits)]
        },
        &[
            ("experts", exact(&want.experts), 0.0),
            ("counts", exact(&want.counts), 0.0),
            ("weights", want.weights, 1e-5),
            ("stats", stats, 1e-5),
            ("d_logits", d_logits, 1e-5),
        ],
    );
}

/// Rows are sorted by expert and then token, and both tables say so.
fn assert_dispatch(got: &Buffers, routing: &Routing) {
    let key = |slot: u32| (got.experts[slot as usize], slot / routing.top_k as u32);
    assert!(got.order.is_sorted_by_key(|slot| key(*slot)));
    for (row, slot) in got.order.iter().enumerate() {
        assert_eq!(got.places[*slot as usize] as usize, row);
        let expert = key(*slot).0 as usize;
        assert!((got.offsets[expert] as usize..got.offsets[expert + 1] as usize).contains(&row));
    }
    assert_eq!((got.offsets[0], got.offsets[routing.experts] as usize), (0, got.order.len()));
}

#[test]
fn every_path_matches_the_oracle() {
    for (n, e, k) in [(1, 1, 1), (7, 5, 5), (150, 8, 2), (70, 64, 6)] {
        for routing in settings(e, k) {
            compare(&routing, n, false, true);
            compare(&routing, n, true, false);
        }
    }
}

#[test]
fn of_equals_the_first_expert_is_chosen_and_balance_gives_k() {
    let cpu = Cpu::with_isa(Isa::portable(), 2);
    let logits = vec![0.5f32; 100 * 8];
    for gate in [Gate::Softmax, Gate::SoftmaxTopK, Gate::Sigmoid] {
        let mut routing = routing(8, 3, gate);
        let args = Args { logits: &logits, bias: None, fractions: None };
        let got = run(&cpu, &routing, args);
        assert!(got.experts.chunks_exact(3).all(|chosen| chosen == [0, 1, 2]));
        assert_eq!(got.counts, [100, 100, 100, 0, 0, 0, 0, 0]);
        assert!((got.stats[0] - 3.0).abs() < 1e-6 && (got.stats[2] - 8f64.ln()).abs() < 1e-6);
        // A bias selects and does nothing else; of equal groups the first ones compete.
        let bias = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 2.0];
        let biased = run(&cpu, &routing, Args { bias: Some(&bias), ..args });
        assert!(biased.experts.chunks_exact(3).all(|chosen| chosen == [7, 5, 0]));
        assert_eq!(biased.weights, got.weights);
        routing.groups = Some(Groups { count: 4, chosen: 2 });
        let grouped = run(&cpu, &routing, Args { bias: Some(&bias), ..args });
        assert!(grouped.experts.chunks_exact(3).all(|chosen| chosen == [7, 5, 4]));
    }
}

#[test]
fn logits_that_are_no_numbers_still_go_to_different_experts() {
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    for gate in [Gate::Softmax, Gate::SoftmaxTopK, Gate::Sigmoid] {
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for groups in [None, Some(Groups { count: 2, chosen: 1 })] {
                let routing = Routing { groups, ..routing(6, 3, gate) };
                let logits = [x, 1.0, x, x, 0.0, x];
                let got = run(&cpu, &routing, Args { logits: &logits, bias: None, fractions: None });
                assert_dispatch(&got, &routing);
                assert!(got.counts.iter().all(|count| *count <= 1));
            }
        }
    }
}

#[test]
#[should_panic(expected = "moe_route: fewer than 3 experts compete")]
fn groups_that_are_too_few_are_refused() {
    Routing { groups: Some(Groups { count: 4, chosen: 1 }), ..routing(8, 3, Gate::Sigmoid) }.check();
}

proptest::proptest! {
    #![proptest_config(crate::ops::testing::random_shapes())]

    #[test]
    fn random_shapes_match_the_oracle(
        n in 1usize..170, (e, k) in (1usize..70).prop_flat_map(|e| (Just(e), 1..=e.min(8))), given: bool
    ) {
        // Added to something: where a row has one expert, whose weight is 1 whatever its logit, large terms cancel.
        for routing in settings(e, k) {
            compare(&routing, n, given, true);
        }
    }
}
