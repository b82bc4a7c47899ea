use super::*;
use crate::batch::tests::shard;
use crate::batch::{Batch, IGNORE_LABEL, Layout, Loader, Source};
use proptest::prelude::*;

fn packed(documents: &[Vec<u32>], mode: Mode, sequence_length: usize, seed: u64) -> (Packed, Shard) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("p.ds");
    let options = Options { mode, sequence_length, pad_token_id: 999, seed };
    let report = pack(&shard(documents, None, None), options, &out).unwrap();
    let shard = Shard::open(&out).unwrap();
    shard.verify().unwrap();
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count(),
        0
    );
    (report, shard)
}

fn read(shard: &Shard) -> Vec<Vec<u32>> {
    (0..shard.n_documents())
        .map(|d| shard.document(d).map(|position| shard.token(position)).collect())
        .collect()
}

/// Documents of `topics` topics, mixed; each uses common words and words of its topic.
fn topical(count: u32, topics: u32) -> Vec<Vec<u32>> {
    let word =
        |document: u32, i: u32| (document.wrapping_mul(2_654_435_761).wrapping_add(i * 40_503) >> 7) % 20;
    (0..count)
        .map(|d| {
            let topic = d % topics;
            (0..30).flat_map(|i| [word(d, i), 100 + topic * 20 + word(d, i + 77)]).collect()
        })
        .collect()
}

#[test]
fn grouping_puts_documents_of_a_topic_side_by_side() {
    let (topics, documents) = (8, topical(400, 8));
    let topic = |ids: &[u32]| ids.iter().find(|&&id| id >= 100).map(|id| (id - 100) / 20);
    let same = |shard: &Shard| {
        let documents = read(shard);
        documents.windows(2).filter(|pair| topic(&pair[0]) == topic(&pair[1])).count()
    };
    let (report, grouped) = packed(&documents, Mode::Grouped, 64, 1);
    let (_, cut) = packed(&documents, Mode::Cut, 64, 1);
    assert!(same(&grouped) >= 400 - 4 * topics, "{}", same(&grouped));
    assert!(same(&cut) < 100, "{}", same(&cut));
    let [before, after] = report.likeness.unwrap();
    assert!(after > 3.0 * before, "{before} {after}");
    // The same documents, and the same bytes each time.
    let sorted = |shard: &Shard| {
        let mut documents = read(shard);
        documents.sort();
        documents
    };
    assert_eq!(sorted(&grouped), sorted(&cut));
    assert_eq!(read(&grouped), read(&packed(&documents, Mode::Grouped, 64, 1).1));
    assert_ne!(read(&cut), read(&packed(&documents, Mode::Cut, 64, 2).1));
}

#[test]
fn a_packed_shard_is_not_packed_again() {
    let (_, fitted) = packed(&[vec![1, 2, 3]], Mode::BestFit, 4, 1);
    let dir = tempfile::tempdir().unwrap();
    let options = Options { mode: Mode::Cut, sequence_length: 4, pad_token_id: 0, seed: 1 };
    let error = pack(&fitted, options, &dir.path().join("x.ds")).unwrap_err().to_string();
    assert!(error.contains("already packed whole"), "{error}");
}

#[test]
fn the_largest_number_is_no_id() {
    let (tokens, index) = (u32::MAX.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec());
    let input = Shard::from_bytes("hostile.ds".as_ref(), None, tokens, index, None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = Options { mode: Mode::Cut, sequence_length: 4, pad_token_id: 0, seed: 1 };
    let error = pack(&input, options, &dir.path().join("x.ds")).unwrap_err().to_string();
    assert!(error.contains("hostile.ds") && error.contains("4294967295"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Every token once, documents whole where they fit, padding counted and never learnt.
    #[test]
    fn best_fit_keeps_documents_whole(lengths in prop::collection::vec(0u32..30, 1..40), length in 1usize..12) {
        let mut next = 0;
        let documents: Vec<Vec<u32>> = lengths
            .iter()
            .map(|&n| { let first = next; next += n; (first..next).map(|id| id % 900).collect() })
            .collect();
        prop_assume!(next > 0);
        let (report, shard) = packed(&documents, Mode::BestFit, length, 3);
        let chunk = length + 1;
        prop_assert_eq!(shard.n_tokens() % chunk as u64, 0);
        let (mut pieces, mut padding) = (Vec::new(), 0);
        for (document, ids) in read(&shard).into_iter().enumerate() {
            let trained: Vec<bool> = shard.document(document as u64).map(|p| shard.is_trained(p)).collect();
            if ids[0] == 999 {
                padding += ids.len() as u64;
                prop_assert!(trained.iter().all(|trained| !trained));
            } else {
                prop_assert!(trained.iter().all(|&trained| trained));
                pieces.push(ids);
            }
        }
        prop_assert_eq!(report.padding_tokens, padding);
        prop_assert_eq!(report.documents, lengths.iter().filter(|&&n| n > 0).count() as u64);
        let expected: Vec<Vec<u32>> =
            documents.iter().flat_map(|document| document.chunks(chunk).map(<[u32]>::to_vec)).collect();
        let sort = |mut pieces: Vec<Vec<u32>>| { pieces.sort(); pieces };
        prop_assert_eq!(sort(pieces), sort(expected));
        // What training reads of it: no label but of the documents' own tokens.
        let layout =
            Layout { sequence_length: length, vocab_size: 1000, document_masking: true, reset_positions: true };
        let rows = shard.n_tokens() / chunk as u64;
        let loader = Loader::new(vec![Source { name: "p".into(), weight: 1.0, shard }], 1, layout).unwrap();
        let mut batch = Batch::new(1, length);
        for row in 0..rows {
            loader.fill(row, 1, batch.as_mut()).unwrap();
            prop_assert!(batch.labels.iter().all(|&label| label == IGNORE_LABEL || label < 900));
        }
    }
}
