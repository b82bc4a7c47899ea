use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn mixture(weights: &[(f64, u64)], seed: u64) -> Mixture {
    let weights: Vec<_> = weights
        .iter()
        .enumerate()
        .map(|(i, &(weight, chunks))| SourceWeight { name: format!("s{i}"), weight, chunks })
        .collect();
    Mixture::new(&weights, seed).unwrap()
}

#[test]
fn cursors_equal_a_brute_force_count() {
    let mixture = mixture(&[(5.0, 1000), (3.0, 7), (0.0, 0), (0.01, 3)], 3);
    let mut counts = [0u64; 4];
    for sample in 0..3 * SLOTS / 2 {
        if sample % 9973 == 0 {
            let consumed: Vec<_> = mixture.consumed(sample).iter().map(|c| c.samples).collect();
            assert_eq!(consumed, counts);
        }
        let at = mixture.sample(sample);
        let chunks = mixture.sources[at.source].chunks;
        assert_eq!(at.epoch, counts[at.source] / chunks);
        assert!(at.chunk < chunks);
        counts[at.source] += 1;
    }
    assert_eq!(counts[2], 0);
}

#[test]
fn shares_are_exact_in_each_block() {
    let mixture = mixture(&[(0.7, 10), (0.2, 10), (0.1, 10)], 1);
    assert_eq!(mixture.slots(0), [45_875, 13_107, 6_554]);
    for block in 0..2 {
        let mut counts = [0u64; 3];
        for sample in block * SLOTS..(block + 1) * SLOTS {
            counts[mixture.sample(sample).source] += 1;
        }
        assert_eq!(counts, [45_875, 13_107, 6_554]);
    }
}

#[test]
fn each_epoch_visits_each_chunk_once_and_in_its_own_order() {
    let mixture = mixture(&[(1.0, 5000), (1.0, 11)], 2);
    let mut visits: Vec<Vec<(u64, u64)>> = vec![Vec::new(); 2];
    for sample in 0..2 * SLOTS {
        let at = mixture.sample(sample);
        visits[at.source].push((at.epoch, at.chunk));
    }
    for (source, chunks) in [(0, 5000), (1, 11)] {
        let epochs: Vec<Vec<u64>> = visits[source]
            .chunks_exact(chunks)
            .enumerate()
            .map(|(epoch, visits)| {
                assert!(visits.iter().all(|visit| visit.0 == epoch as u64));
                visits.iter().map(|visit| visit.1).collect()
            })
            .collect();
        for epoch in &epochs {
            assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), chunks);
        }
        assert_ne!(epochs[0], epochs[1]);
        assert!(!epochs[0].is_sorted());
    }
}

#[test]
fn a_far_sample_needs_no_history() {
    let weights = [(1.0, 1 << 40), (2.0, 12_345)];
    let (walked, far) = (mixture(&weights, 9), u64::MAX / 2);
    for sample in (0..2 * SLOTS).chain(far - SLOTS..far) {
        let at = walked.sample(sample);
        if sample % 9973 == 0 {
            assert_eq!(at, mixture(&weights, 9).sample(sample));
        }
    }
    assert_eq!(walked.sample(far), mixture(&weights, 9).sample(far));
    assert_ne!(walked.sample(far), mixture(&weights, 10).sample(far));
}

#[test]
fn impossible_weights_are_refused() {
    let source = |name: &str, weight, chunks| SourceWeight { name: name.into(), weight, chunks };
    let message = |weights: &[SourceWeight]| Mixture::new(weights, 1).err().unwrap().to_string();
    assert!(message(&[]).contains("at least one source"));
    assert!(message(&[source("a", 0.0, 1)]).contains("at least one source"));
    assert!(message(&[source("a", f64::NAN, 1)]).contains("\"a\" has weight NaN"));
    assert!(message(&[source("a", -1.0, 1)]).contains("-1"));
    assert!(message(&[source("a", f64::MAX, 1), source("b", f64::MAX, 1)]).contains("source"));
    assert!(message(&[source("a", 1.0, 1), source("b", 1e-6, 1)]).contains("\"b\""));
    assert!(message(&[source("a", 1.0, 0)]).contains("full chunk"));
    assert!(message(&[source("a", 1.0, 1), source("a", 1.0, 1)]).contains("two sources"));
}

/// Sources `s0`, `s1`, … with these chunks, and stages with these first samples and weights.
fn staged(chunks: &[u64], stages: &[(u64, &[f64])], seed: u64) -> Result<Mixture, Error> {
    let sources: Vec<_> = chunks.iter().enumerate().map(|(i, &chunks)| (format!("s{i}"), chunks)).collect();
    let stage = |(i, &(first_sample, weights)): (usize, &(u64, &[f64]))| Stage {
        name: format!("stage {i}"),
        first_sample,
        weights: weights.to_vec(),
    };
    Mixture::staged(&sources, stages.iter().enumerate().map(stage).collect(), seed)
}

/// Over stages that begin inside a block, at a block's edge and right after one another, each source goes on where it
/// was: its n-th sample is the n-th of its own order, whatever the stages.
#[test]
fn stages_rewind_nothing_and_skip_nothing() {
    let chunks = [1000, 7, 50];
    let stages: [(u64, &[f64]); 5] = [
        (0, &[5.0, 1.0, 0.0]),
        (1000, &[0.0, 1.0, 1.0]),
        (1001, &[1.0, 1.0, 1.0]),
        (1001 + SLOTS, &[3.0, 0.0, 1.0]),
        (1001 + SLOTS + SLOTS / 3, &[0.2, 0.3, 0.5]),
    ];
    let mixture = staged(&chunks, &stages, 4).unwrap();
    let mut counts = [0u64; 3];
    let alone: Vec<Mixture> = (0..3)
        .map(|i| {
            let weights = [SourceWeight { name: format!("s{i}"), weight: 1.0, chunks: chunks[i] }];
            Mixture::new(&weights, 4).unwrap()
        })
        .collect();
    for sample in 0..2 * SLOTS {
        if sample % 9973 == 0 || stages.iter().any(|stage| stage.0 == sample) {
            let consumed: Vec<_> = mixture.consumed(sample).iter().map(|c| c.samples).collect();
            assert_eq!(consumed, counts, "before {sample}");
        }
        let at = mixture.sample(sample);
        let expected = alone[at.source].nth(0, counts[at.source]);
        assert_eq!((at.epoch, at.chunk), (expected.epoch, expected.chunk), "sample {sample}");
        assert!(stages[mixture.stage_of(sample)].1[at.source] > 0.0);
        counts[at.source] += 1;
    }
    // A later reader, in any order, sees the same.
    for sample in [70_000, 3, 1000, 999, 66_537, 1001] {
        assert_eq!(mixture.sample(sample), staged(&chunks, &stages, 4).unwrap().sample(sample));
    }
}

#[test]
fn a_later_stage_changes_nothing_before_it() {
    let one = staged(&[1000, 7], &[(0, &[5.0, 1.0])], 4).unwrap();
    let two = staged(&[1000, 7], &[(0, &[5.0, 1.0]), (5000, &[1.0, 5.0])], 4).unwrap();
    assert!((0..5000).all(|sample| one.sample(sample) == two.sample(sample)));
    assert!((5000..5100).any(|sample| one.sample(sample) != two.sample(sample)));
}

#[test]
fn impossible_stages_are_refused() {
    let message =
        |chunks: &[u64], stages: &[(u64, &[f64])]| staged(chunks, stages, 1).err().unwrap().to_string();
    assert!(message(&[1], &[]).contains("at least one stage"));
    assert!(message(&[1], &[(1, &[1.0])]).contains("must begin at 0"));
    assert!(message(&[1], &[(0, &[1.0]), (0, &[1.0])]).contains("not after stage \"stage 0\""));
    assert!(message(&[1], &[(0, &[1.0, 1.0])]).contains("2 weights for 1 sources"));
    let unread = message(&[1, 0], &[(0, &[1.0, 0.0]), (9, &[1.0, 1.0])]);
    assert!(unread.starts_with("stage \"stage 1\": source \"s1\" has not one full chunk"), "{unread}");
    assert!(message(&[1], &[(0, &[1.0]), (9, &[0.0])]).starts_with("stage \"stage 1\": a mixture needs"));
}

#[test]
fn a_plan_counts_epochs_and_warns_of_repetition() {
    let stages: [(u64, &[f64]); 3] =
        [(0, &[3.0, 1.0, 0.0]), (1000, &[1.0, 0.0, 1.0]), (9000, &[1.0, 1.0, 1.0])];
    let mixture = staged(&[4000, 61, 100], &stages, 1).unwrap();
    let plan = Plan::of(&mixture, 2000);
    assert_eq!(plan.stages.len(), 2, "the run ends before the third");
    assert_eq!(plan.stages.iter().map(|stage| stage.samples).collect::<Vec<_>>(), [1000, 1000]);
    for (i, source) in plan.sources.iter().enumerate() {
        assert_eq!(source.samples, plan.stages.iter().map(|stage| stage.sources[i].samples).sum::<u64>());
        assert_eq!(source.samples, mixture.consumed(2000)[i].samples);
        assert!((source.share - source.target_share).abs() < 0.03, "{source:?}");
    }
    assert!((plan.sources[0].target_share - 0.625).abs() < 1e-9);
    let warnings = plan.warnings();
    assert!(
        warnings[0].starts_with("source \"s2\" will be seen 5.") && warnings[0].contains("harms"),
        "{warnings:?}"
    );
    assert!(warnings[1].starts_with("source \"s1\" will be seen 4."), "{warnings:?}");
    assert_eq!(warnings.len(), 2);
    let uneven = mixture.unevenness(2000);
    assert_eq!(uneven.degrees_of_freedom, 2);
    assert!(uneven.chi_squared < 6.0 && uneven.largest_deviation < 0.03, "{uneven:?}");
    // Whole blocks leave nothing but rounding to slots.
    assert!(
        staged(&[10, 10], &[(0, &[0.7, 0.3])], 1).unwrap().unevenness(4 * SLOTS).largest_deviation < 1e-5
    );
    assert_eq!(mixture.unevenness(0).chi_squared, 0.0);
}

#[test]
fn repeats_are_worth_less_and_less() {
    assert_eq!(effective_epochs(0.5), 0.5);
    assert_eq!(effective_epochs(1.0), 1.0);
    // The paper: four epochs are nearly as good as new text, forty are hardly better than thirty.
    assert!((3.6..4.0).contains(&effective_epochs(4.0)));
    assert!(effective_epochs(40.0) - effective_epochs(30.0) < 1.2);
}

proptest! {
    #[test]
    fn tables_are_full_and_near_the_weights(weights in prop::collection::vec(0.01f64..100.0, 1..20)) {
        let weights: Vec<_> = weights.into_iter().map(|weight| (weight, 1)).collect();
        let slots = mixture(&weights, 0).slots(0).to_vec();
        prop_assert_eq!(slots.iter().sum::<u64>(), SLOTS);
        let total: f64 = weights.iter().map(|weight| weight.0).sum();
        for (slots, (weight, _)) in slots.iter().zip(&weights) {
            prop_assert!((*slots as f64 - weight / total * SLOTS as f64).abs() <= 1.0);
        }
    }
}
