use super::*;
use crate::order::Stage;
use proptest::prelude::*;
use std::path::Path;

pub(crate) fn layout(sequence_length: usize, document_masking: bool) -> Layout {
    Layout { sequence_length, vocab_size: 1000, document_masking, reset_positions: document_masking }
}

/// A shard in memory; `chunk` packs it whole.
pub(crate) fn shard(documents: &[Vec<u32>], loss: Option<&[u8]>, chunk: Option<u64>) -> Shard {
    let ids: Vec<u32> = documents.concat();
    let ends: Vec<u64> = documents
        .iter()
        .scan(0, |end, document| {
            *end += document.len() as u64;
            Some(*end)
        })
        .collect();
    let tokens: Vec<u8> = ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect();
    let index: Vec<u8> = ends.iter().flat_map(|end| end.to_le_bytes()).collect();
    let meta = json!({
        "format_version": 1, "tokenizer_hash": "t", "vocab_size": 1000, "token_size": 2,
        "n_tokens": ids.len(), "n_documents": documents.len(),
        "min_token_id": ids.iter().min(), "max_token_id": ids.iter().max(),
        "text_bytes": 1, "eos_token_id": 0, "bos_token_id": null, "pad_token_id": null,
        "packing": if chunk.is_some() { "whole" } else { "concatenate" }, "chunk_length": chunk,
        "checksums": {"tokens": hash::bytes(&tokens), "index": hash::bytes(&index), "loss": loss.map(hash::bytes)},
    });
    let meta = meta.to_string();
    let loss = loss.map(<[u8]>::to_vec);
    Shard::from_bytes(Path::new("test.ds"), Some(meta.as_bytes()), tokens, index, loss).unwrap()
}

fn loader(documents: &[Vec<u32>], layout: Layout) -> Loader {
    let shard = shard(documents, None, None);
    Loader::new(vec![Source { name: "a".into(), weight: 1.0, shard }], 1, layout).unwrap()
}

const X: u32 = IGNORE_LABEL;

#[test]
fn a_row_with_masked_documents() {
    // 0 is end-of-sequence; the chunk starts inside a document and ends inside another.
    let documents = [vec![1, 2, 3, 4, 0], vec![5, 0], vec![6, 7, 8, 9, 0]];
    let shard = shard(&documents, None, None);
    let mut batch = Batch::new(2, 6);
    fill_row(&shard, 3, 1, layout(6, true), &mut batch.as_mut()).unwrap();
    assert_eq!(batch.tokens[6..], [4, 0, 5, 0, 6, 7]);
    assert_eq!(batch.labels[6..], [0, X, 0, X, 7, 8]);
    assert_eq!(batch.segments[6..], [6, 6, 8, 8, 10, 10]);
    assert_eq!(batch.positions[6..], [0, 1, 0, 1, 0, 1]);
    assert_eq!(count_labels(&shard, 3, layout(6, true)), 4);

    fill_row(&shard, 3, 1, layout(6, false), &mut batch.as_mut()).unwrap();
    assert_eq!(batch.labels[6..], [0, 5, 0, 6, 7, 8]);
    assert_eq!(batch.segments[6..], [6; 6]);
    assert_eq!(batch.positions[6..], [0, 1, 2, 3, 4, 5]);

    // Beyond the end: padding without labels, its own segment.
    fill_row(&shard, 9, 0, layout(6, true), &mut batch.as_mut()).unwrap();
    assert_eq!(batch.tokens[..6], [8, 9, 0, 0, 0, 0]);
    assert_eq!(batch.labels[..6], [9, 0, X, X, X, X]);
    assert_eq!(batch.segments[..6], [0, 0, 0, 3, 3, 3]);
}

#[test]
fn wrong_settings_are_refused() {
    let documents = [vec![1, 2, 3, 4]];
    let new = |shard, layout| Loader::new(vec![Source { name: "a".into(), weight: 1.0, shard }], 1, layout);
    let message =
        |result: Result<Loader, Error>| result.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(message(new(shard(&documents, None, None), layout(0, true))).contains("sequence length 0"));
    assert!(message(new(shard(&documents, None, None), layout(4, true))).contains("full chunk"));
    assert!(message(new(shard(&documents, None, Some(4)), layout(1, true))).contains("chunks of 4"));
    let small = Layout { vocab_size: 3, ..layout(2, true) };
    assert!(message(new(shard(&documents, None, None), small)).contains("token 2 has id 3"));
    let loader = new(shard(&documents, None, None), layout(3, true)).unwrap();
    let mut batch = Batch::new(1, 3);
    assert!(loader.fill(0, 2, batch.as_mut()).is_err());
}

#[test]
fn the_manifest_sees_data_weights_seed_and_length() {
    let documents = [(0..100).collect::<Vec<u32>>()];
    let base = loader(&documents, layout(4, true));
    base.check_manifest(&base.manifest_hash(9), 9).unwrap();
    let mut other = documents.clone();
    other[0][5] += 1;
    for changed in [
        loader(&other, layout(4, true)),
        loader(&documents, layout(5, true)),
        loader(&documents, layout(4, false)),
        Loader::new(
            vec![Source { name: "a".into(), weight: 1.0, shard: shard(&documents, None, None) }],
            2,
            layout(4, true),
        )
        .unwrap(),
    ] {
        let error = changed.check_manifest(&base.manifest_hash(9), 9).unwrap_err();
        assert!(matches!(error, Error::ManifestChanged { .. }));
    }
}

/// A manifest covers what has begun: stages to come may change, those begun may not.
#[test]
fn the_manifest_covers_the_stages_that_have_begun() {
    let documents = [(0..400).collect::<Vec<u32>>()];
    let other = [(400..800).collect::<Vec<u32>>()];
    let staged = |stages: &[(u64, [f64; 2])], second: &[Vec<u32>]| {
        let source = |name: &str, documents| Source {
            name: name.into(),
            weight: 1.0,
            shard: shard(documents, None, None),
        };
        let stage = |&(first_sample, weights): &(u64, [f64; 2])| Stage {
            name: first_sample.to_string(),
            first_sample,
            weights: weights.to_vec(),
        };
        let sources = vec![source("a", &documents[..]), source("b", second)];
        Loader::staged(sources, stages.iter().map(stage).collect(), 1, layout(4, true)).unwrap()
    };
    let both = staged(&[(0, [1.0, 0.0]), (20, [0.5, 0.5])], &documents);
    let changes = [
        staged(&[(0, [1.0, 0.0])], &documents),
        staged(&[(0, [1.0, 0.0]), (20, [0.4, 0.6])], &documents),
        staged(&[(0, [1.0, 0.0]), (20, [0.5, 0.5])], &other),
        staged(&[(0, [1.0, 0.0]), (21, [0.5, 0.5])], &documents),
        // The plain form is the same as one stage.
        loader(&documents, layout(4, true)),
    ];
    for (number, changed) in changes.iter().enumerate() {
        for next_sample in [1, 19, 20] {
            changed.check_manifest(&both.manifest_hash(next_sample), next_sample).unwrap();
        }
        assert!(changed.check_manifest(&both.manifest_hash(21), 21).is_err(), "{number}");
    }
    let first = staged(&[(0, [1.0, 0.1]), (20, [0.5, 0.5])], &documents);
    assert!(first.check_manifest(&both.manifest_hash(1), 1).is_err());
    let early = staged(&[(0, [1.0, 0.0]), (10, [0.5, 0.5])], &documents);
    early.check_manifest(&both.manifest_hash(10), 10).unwrap();
    assert!(early.check_manifest(&both.manifest_hash(11), 11).is_err());
}

/// Checkpoints of runs without stages resume under every version: the text that is hashed must not change.
#[test]
fn the_manifest_of_a_plain_mixture_is_as_it_always_was() {
    let loader = loader(&[vec![1, 2, 3, 4, 5, 6]], layout(2, true));
    let text = loader.manifest(1).to_string();
    let keys: Vec<&str> = text
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert_eq!(
        keys,
        [
            "format_version",
            "seed",
            "sequence_length",
            "document_masking",
            "reset_positions",
            "sources",
            "name",
            "a",
            "weight",
            "n_tokens",
            "tokenizer_hash",
            "t",
            "tokens",
            "index",
            "loss"
        ]
    );
}

proptest! {
    /// One epoch holds each full chunk once, and rows do not depend on how samples are split into micro-batches.
    #[test]
    fn an_epoch_is_the_shard(n in 20u32..200, length in 1usize..12, cut in 1u32..20, rows in 1usize..4) {
        let documents: Vec<Vec<u32>> =
            (0..n).collect::<Vec<_>>().chunks(cut as usize).map(<[u32]>::to_vec).collect();
        let loader = loader(&documents, layout(length, false));
        let chunk = length + 1;
        let samples = n as usize / chunk;
        let mut firsts = Vec::new();
        for sample in (0..samples).step_by(rows) {
            let mut batch = Batch::new(rows, length);
            loader.fill(sample as u64, rows, batch.as_mut()).unwrap();
            firsts.extend((0..rows).map(|row| batch.tokens[row * length]));
            for (token, label) in batch.tokens.iter().zip(&batch.labels) {
                prop_assert_eq!(token + 1, *label);
            }
        }
        firsts.truncate(samples);
        firsts.sort_unstable();
        prop_assert_eq!(firsts, (0..samples).map(|i| (i * chunk) as u32).collect::<Vec<_>>());
    }

    /// Segments, labels and positions agree with the documents, and labels are counted as they are filled.
    #[test]
    fn masks_follow_documents(
        lengths in prop::collection::vec(0usize..9, 1..20),
        loss_bits: u64,
        with_loss: bool,
        masking: bool,
        length in 1usize..10,
        sample in 0u64..1000,
    ) {
        let total: usize = lengths.iter().sum();
        prop_assume!(total > length);
        let owner: Vec<usize> =
            lengths.iter().enumerate().flat_map(|(document, &n)| std::iter::repeat_n(document, n)).collect();
        let mut next = 0;
        let documents: Vec<Vec<u32>> = lengths
            .iter()
            .map(|&n| { let first = next; next += n as u32; (first..next).collect() })
            .collect();
        let loss: Vec<u8> = (0..total).map(|i| (loss_bits >> (i % 64) & 1) as u8).collect();
        let shard = shard(&documents, with_loss.then_some(&loss), None);
        let loader = Loader::new(
            vec![Source { name: "a".into(), weight: 1.0, shard }],
            1,
            layout(length, masking),
        ).unwrap();
        let mut batch = Batch::new(2, length);
        loader.fill(sample, 2, batch.as_mut()).unwrap();
        for n in 0..2 * length {
            // Ids are positions in the shard.
            let at = batch.tokens[n] as usize;
            let label = batch.labels[n];
            let crosses = owner[at] != owner[at + 1];
            let expected = !(masking && crosses) && (!with_loss || loss[at + 1] == 1);
            prop_assert_eq!(label != X, expected);
            prop_assert!(label == X || label as usize == at + 1);
            let first = batch.segments[n] as usize;
            let row_start = n / length * length;
            prop_assert!(first <= n && first >= row_start);
            let allowed = |m: usize| !masking || owner[batch.tokens[m] as usize] == owner[at];
            prop_assert!((first..=n).all(allowed));
            prop_assert!((row_start..first).all(|m| !allowed(m)));
            prop_assert_eq!(batch.positions[n] as usize, n - first);
        }
        let filled = batch.labels.iter().filter(|&&label| label != X).count() as u64;
        prop_assert_eq!(loader.label_tokens(sample, 2), filled);
    }
}
