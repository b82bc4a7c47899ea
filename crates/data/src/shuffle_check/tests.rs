use super::*;
use crate::batch::Source;
use crate::batch::tests::{layout, shard};
use smolt_run::permutation::KeyedPermutation;

const LENGTH: usize = 3;

/// Sequences in the junk file, and in all.
const JUNK: u64 = 10_000;

/// One junk file of [`JUNK`] sequences among 30,000 documents of about two.
fn corpus() -> Vec<Vec<u32>> {
    let short = |n: u32| vec![1; 3 + n as usize % 11];
    (0..15_000)
        .map(short)
        .chain([vec![7; JUNK as usize * (LENGTH + 1)]])
        .chain((15_000..30_000).map(short))
        .collect()
}

fn loader() -> Loader {
    let source = |name: &str, weight, documents: &[Vec<u32>]| Source {
        name: name.into(),
        weight,
        shard: shard(documents, None, None),
    };
    let small: Vec<Vec<u32>> = (0..500).map(|n| vec![2; 5 + n % 20]).collect();
    Loader::new(vec![source("web", 3.0, &corpus()), source("small", 1.0, &small)], 5, layout(LENGTH, true))
        .unwrap()
}

/// Shuffles documents and reads each in order: the loader of the playbook's third mystery.
struct DocumentShuffle<'a> {
    loader: &'a Loader,
    /// Chunks of the first source, document after document in shuffled order, for each epoch.
    chunks: [Vec<u64>; 2],
}

impl<'a> DocumentShuffle<'a> {
    fn new(loader: &'a Loader) -> Self {
        let shard = &loader.sources()[0].shard;
        let length = LENGTH as u64 + 1;
        let all = shard.n_tokens() / length;
        let document = |chunk: u64| shard.document_at(chunk * length + length / 2);
        let epoch = |key| {
            let order = KeyedPermutation::new(shard.n_documents(), key);
            let mut chunks: Vec<u64> = (0..all).collect();
            chunks.sort_by_key(|&chunk| (order.get(document(chunk)), chunk));
            chunks
        };
        Self { loader, chunks: [epoch(1), epoch(2)] }
    }
}

impl Order for DocumentShuffle<'_> {
    fn sample(&self, sample: u64) -> SampleRef {
        let at = self.loader.mixture().sample(sample);
        if at.source != 0 {
            return at;
        }
        let cursor = self.loader.consumed(sample)[0].samples;
        SampleRef { chunk: self.nth(0, cursor), ..at }
    }
    fn nth(&self, source: usize, cursor: u64) -> u64 {
        if source != 0 {
            return Order::nth(self.loader, source, cursor);
        }
        let all = self.chunks[0].len() as u64;
        self.chunks[(cursor / all % 2) as usize][(cursor % all) as usize]
    }
}

/// The same order in each epoch.
struct Repeated<'a>(&'a Loader);

impl Order for Repeated<'_> {
    fn sample(&self, sample: u64) -> SampleRef {
        Order::sample(self.0, sample)
    }
    fn nth(&self, source: usize, cursor: u64) -> u64 {
        let chunks = self.0.sources()[source].shard.n_tokens() / (LENGTH as u64 + 1);
        Order::nth(self.0, source, cursor % chunks)
    }
}

#[test]
fn the_loader_passes_wherever_it_is_looked_at() {
    let loader = loader();
    for (first, batch) in [(0, 16), (0, 64), (123_456, 16), (7, 128)] {
        let report = check_loader(&loader, first, batch).unwrap();
        assert!(report.passed(), "{report:#?}");
        assert_eq!(report.overdispersion.len(), 3);
        assert!(report.overdispersion.iter().all(|o| (0.6..1.4).contains(&o.phi)), "{report:#?}");
        assert!(report.epochs.iter().all(|e| e.same_chunks == Some(true)));
        assert!(report.adjacency.z.abs() < 4.0, "{report:#?}");
    }
}

#[test]
fn a_shuffle_of_documents_is_found_by_each_statistic_of_a_batch() {
    let loader = loader();
    let planted = DocumentShuffle::new(&loader);
    let population = Population::of(&loader, 0, 16);
    let report = check(&planted, &population, 0..u64::MAX, 16).unwrap();
    for statistic in ["adjacency", "overdispersion: rows of documents longer", "largest share"] {
        assert!(
            report.failures.iter().any(|failure| failure.starts_with(statistic)),
            "{statistic}: {report:#?}"
        );
    }
    assert!(report.largest_share.share > 0.5 && report.largest_share.document == 15_000, "{report:#?}");
}

#[test]
fn the_same_order_in_each_epoch_is_found() {
    let loader = loader();
    let report = check(&Repeated(&loader), &Population::of(&loader, 0, 16), 0..u64::MAX, 16).unwrap();
    assert!(report.failures.len() == 2 && report.failures[0].contains("correlate by 1.000"), "{report:#?}");
}

#[test]
fn too_little_to_check_is_said() {
    let loader = loader();
    assert!(check_loader(&loader, 0, 1).unwrap_err().to_string().contains("two rows"));
    assert!(check(&loader, &Population::of(&loader, 0, 16), 0..20, 16).is_err());
}
