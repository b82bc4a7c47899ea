//! Whether batches are drawn as they should be (spec `MYS-03`): chunks shuffled, not documents.
//!
//! A loader that shuffles documents and reads each in order fills whole batches with one long file, and the loss becomes
//! noisy. Four statistics find that, each with a limit that chance passes once in thousands of checks:
//!
//! * *adjacency*: pairs within a batch of the same document, or of chunks that follow one another, against their number
//!   in random draws;
//! * *overdispersion* φ: the variance of a domain's rows per batch over that of independent draws; 1 is expected. Domains
//!   are the sources and, together, the documents that are longer than a batch;
//! * *largest share*: the most rows of a batch that are of one document;
//! * *epochs*: the orders of two epochs are uncorrelated, and hold the same chunks.
//!
//! A chunk belongs to the document of its middle token.

mod population;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::batch::Loader;
use crate::error::Error;
use crate::order::SampleRef;
pub use population::{Population, SourcePopulation};

/// Global batches that are looked at, spread over an epoch.
pub const BATCHES: u64 = 200;
/// Standard deviations that adjacency may be off.
const Z_LIMIT: f64 = 5.0;
/// More overdispersion than this fails (spec `MYS-03`), unless chance explains it.
const PHI_LIMIT: f64 = 1.5;
/// Correlation between epochs that fails (spec `MYS-03`), unless chance explains it.
const CORRELATION_LIMIT: f64 = 0.05;
/// Probability that one check finds a too large share by chance, at most.
const SHARE_CHANCE: f64 = 1e-4;
/// Chunks of a source whose epochs are compared whole; of larger ones, so many draws.
const EPOCH_DRAWS: u64 = 1 << 20;

/// An order of samples, to be checked.
pub trait Order {
    /// Where sample `sample` comes from.
    fn sample(&self, sample: u64) -> SampleRef;
    /// The chunk that source `source` gives after `cursor` others.
    fn nth(&self, source: usize, cursor: u64) -> u64;
}

impl Order for Loader {
    fn sample(&self, sample: u64) -> SampleRef {
        self.mixture().sample(sample)
    }
    fn nth(&self, source: usize, cursor: u64) -> u64 {
        self.mixture().nth(source, cursor).chunk
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Global batches looked at.
    pub batches: u64,
    /// Rows in each.
    pub batch_size: u64,
    /// Pairs of one document, or one after the other.
    pub adjacency: Adjacency,
    /// By domain.
    pub overdispersion: Vec<Overdispersion>,
    /// The most conspicuous share of one document in a batch.
    pub largest_share: LargestShare,
    /// By source.
    pub epochs: Vec<Epochs>,
    /// One line for each statistic beyond its limit; none when all is well.
    pub failures: Vec<String>,
}

/// Pairs of rows in a batch that are of one document, or of chunks that follow one another.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Adjacency {
    /// All pairs.
    pub pairs: u64,
    /// Such pairs.
    pub found: u64,
    /// Their number in random draws.
    pub expected: f64,
    /// (found − expected) / standard deviation.
    pub z: f64,
}

/// How much a domain's rows per batch vary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overdispersion {
    /// A source, or `documents longer than a batch`.
    pub domain: String,
    /// Its share of the samples, 0 to 1.
    pub share: f64,
    /// Mean of (rows − B·share)² over B·share·(1 − share).
    pub phi: f64,
    /// What φ may be.
    pub limit: f64,
}

/// The rows of a batch that are of one document.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LargestShare {
    /// First sample of the batch.
    pub first_sample: u64,
    /// The source.
    pub source: String,
    /// The document's number in the shard.
    pub document: u64,
    /// Its rows in the batch, over all rows.
    pub share: f64,
    /// A bound on the probability of so many, times the batches over the document's own share: below 1e-4 fails.
    pub chance: f64,
}

/// The orders of a source's first two epochs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Epochs {
    /// The source.
    pub source: String,
    /// Correlation of the chunks at equal places.
    pub correlation: f64,
    /// What it may be, in absolute terms.
    pub limit: f64,
    /// Whether both hold each chunk once; not looked at in very large sources.
    pub same_chunks: Option<bool>,
}

/// Checks a loader from `first_sample` on, in global batches of `batch_size` rows, within the stage that sample is in.
pub fn check_loader(loader: &Loader, first_sample: u64, batch_size: u64) -> Result<Report, Error> {
    let mixture = loader.mixture();
    let stage = mixture.stage_of(first_sample);
    let population = Population::of(loader, stage, batch_size);
    let end = mixture.stages().nth(stage + 1).map_or(u64::MAX, |stage| stage.first_sample);
    check(loader, &population, first_sample..end, batch_size)
}

/// Checks an order against the population that it should draw from, within `samples`.
pub fn check(
    order: &dyn Order,
    population: &Population<'_>,
    samples: std::ops::Range<u64>,
    batch_size: u64,
) -> Result<Report, Error> {
    let room = samples.end.saturating_sub(samples.start) / batch_size.max(1);
    let batches = BATCHES.min(room);
    if batch_size < 2 || batches < 2 {
        return Err(Error::Settings(
            "the shuffle can be checked on two batches of two rows or more; choose another step".into(),
        ));
    }
    // Spread over one epoch of everything, so that no long file is passed over.
    let span = population.chunks().div_ceil(batch_size).clamp(batches, room);
    let mut tally = Tally::new(population, batch_size);
    for batch in 0..batches {
        let first = samples.start + batch * (span / batches) * batch_size;
        tally.add(first, (first..first + batch_size).map(|sample| order.sample(sample)));
    }
    let epochs =
        population.sources.iter().enumerate().filter(|(_, source)| source.share > 0.0 && source.chunks > 1);
    let epochs = epochs.map(|(number, source)| compare_epochs(order, number, source)).collect();
    Ok(tally.report(batches, epochs))
}

struct Tally<'a> {
    population: &'a Population<'a>,
    batch_size: u64,
    found: u64,
    /// Sum of squared deviations by source, and of long documents.
    squares: Vec<f64>,
    largest: Option<LargestShare>,
    rows: Vec<SampleRef>,
}

impl<'a> Tally<'a> {
    fn new(population: &'a Population<'a>, batch_size: u64) -> Self {
        let squares = vec![0.0; population.sources.len() + 1];
        Self { population, batch_size, found: 0, squares, largest: None, rows: Vec::new() }
    }

    fn add(&mut self, first_sample: u64, rows: impl Iterator<Item = SampleRef>) {
        self.rows.clear();
        self.rows.extend(rows);
        let mut counts = vec![0u64; self.squares.len()];
        let mut documents: BTreeMap<(usize, u64), u64> = BTreeMap::new();
        let place = |row: &SampleRef| (row.source, self.population.document(row));
        let places: Vec<(usize, u64)> = self.rows.iter().map(place).collect();
        for (number, (row, place)) in self.rows.iter().zip(&places).enumerate() {
            counts[row.source] += 1;
            *documents.entry(*place).or_default() += 1;
            if self.population.sources[row.source].is_long(place.1) {
                *counts.last_mut().unwrap_or(&mut 0) += 1;
            }
            for (other, other_place) in self.rows[..number].iter().zip(&places) {
                let next = other.source == row.source && other.chunk.abs_diff(row.chunk) == 1;
                self.found += u64::from(place == other_place || next);
            }
        }
        let shares = self.population.shares();
        for ((square, count), share) in self.squares.iter_mut().zip(&counts).zip(shares) {
            *square += (*count as f64 - self.batch_size as f64 * share).powi(2);
        }
        for ((source, document), count) in documents {
            self.look_at(first_sample, source, document, count);
        }
    }

    /// Keeps the share that chance explains least: the Chernoff bound exp(−B·KL(count/B ‖ p)), weighed by p so that the
    /// sum over all documents and batches is a probability.
    fn look_at(&mut self, first_sample: u64, source: usize, document: u64, count: u64) {
        let of = &self.population.sources[source];
        let (batch, expected) = (self.batch_size as f64, of.share * of.document_share(document));
        let share = count as f64 / batch;
        if share <= expected || expected <= 0.0 {
            return;
        }
        let rest = if share < 1.0 { (1.0 - share) * ((1.0 - share) / (1.0 - expected)).ln() } else { 0.0 };
        let chance = (-batch * (share * (share / expected).ln() + rest)).exp() * BATCHES as f64 / expected;
        if self.largest.as_ref().is_none_or(|largest| chance < largest.chance) {
            self.largest =
                Some(LargestShare { first_sample, source: of.name.clone(), document, share, chance });
        }
    }

    fn report(self, batches: u64, epochs: Vec<Epochs>) -> Report {
        let (size, count) = (self.batch_size as f64, batches as f64);
        let adjacency = self.population.adjacency(self.batch_size, batches, self.found);
        let long = "documents longer than a batch".to_owned();
        let names = self.population.sources.iter().map(|source| source.name.clone()).chain([long]);
        let mut overdispersion = Vec::new();
        for ((domain, share), square) in names.zip(self.population.shares()).zip(&self.squares) {
            let variance = size * share * (1.0 - share);
            if variance > 0.0 {
                // φ is the mean of squares of a binomial's deviations: excess kurtosis (1 − 6p(1 − p)) / variance.
                let kurtosis = 2.0 + (1.0 - 6.0 * share * (1.0 - share)) / variance;
                let limit = PHI_LIMIT.max(1.0 + Z_LIMIT * (kurtosis.max(0.0) / count).sqrt());
                overdispersion.push(Overdispersion { domain, share, phi: square / count / variance, limit });
            }
        }
        let mut report = Report {
            batches,
            batch_size: self.batch_size,
            adjacency,
            overdispersion,
            largest_share: self.largest.unwrap_or(LargestShare { chance: 1.0, ..LargestShare::default() }),
            epochs,
            failures: Vec::new(),
        };
        report.failures = report.judge();
        report
    }
}

impl Report {
    /// Whether every statistic is within its limit.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    fn judge(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let a = &self.adjacency;
        if a.z > Z_LIMIT {
            failures.push(format!(
                "adjacency: {} pairs of rows in a batch are of one document or follow one another, {:.1} expected (z = {:.1})",
                a.found, a.expected, a.z
            ));
        }
        for o in self.overdispersion.iter().filter(|o| o.phi > o.limit) {
            failures.push(format!(
                "overdispersion: rows of {} vary {:.2} times as much as random draws (limit {:.2})",
                o.domain, o.phi, o.limit
            ));
        }
        let l = &self.largest_share;
        if l.chance < SHARE_CHANCE {
            failures.push(format!(
                "largest share: document {} of \"{}\" is {:.0} % of the batch at sample {}",
                l.document,
                l.source,
                100.0 * l.share,
                l.first_sample
            ));
        }
        for e in &self.epochs {
            if e.correlation.abs() > e.limit {
                failures.push(format!(
                    "epochs: the first two of \"{}\" correlate by {:.3} (limit {:.3})",
                    e.source, e.correlation, e.limit
                ));
            }
            if e.same_chunks == Some(false) {
                failures
                    .push(format!("epochs: the first two of \"{}\" do not hold each chunk once", e.source));
            }
        }
        failures
    }
}

fn compare_epochs(order: &dyn Order, number: usize, source: &SourcePopulation<'_>) -> Epochs {
    let draws = source.chunks.min(EPOCH_DRAWS);
    let (mut seen, whole) = (vec![0u8; draws as usize], draws == source.chunks);
    let (mut sum_a, mut sum_b, mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for cursor in 0..draws {
        let (first, second) = (order.nth(number, cursor), order.nth(number, source.chunks + cursor));
        for (epoch, chunk) in [first, second].into_iter().enumerate() {
            if let Some(seen) = seen.get_mut(chunk as usize) {
                // A second visit in one epoch spoils the mark.
                *seen = if *seen & (1 << epoch) == 0 { *seen | 1 << epoch } else { 4 };
            }
        }
        let centre = |chunk: u64| chunk as f64 / source.chunks as f64 - 0.5;
        let (a, b) = (centre(first), centre(second));
        sum_a += a;
        sum_b += b;
        aa += a * a;
        bb += b * b;
        ab += a * b;
    }
    let n = draws as f64;
    let spread = ((aa - sum_a * sum_a / n) * (bb - sum_b * sum_b / n)).sqrt();
    Epochs {
        source: source.name.clone(),
        correlation: if spread > 0.0 { (ab - sum_a * sum_b / n) / spread } else { 0.0 },
        // The standard deviation of the correlation of random orders is 1/√(n − 1).
        limit: CORRELATION_LIMIT.max(Z_LIMIT / (n - 1.0).max(1.0).sqrt()),
        same_chunks: whole.then(|| seen.iter().all(|&seen| seen == 3)),
    }
}

#[cfg(test)]
mod tests;
