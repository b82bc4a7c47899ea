//! What a run will take from each source, before it starts (spec `DMX-04`), and what it took against what it should
//! have (spec `DMX-02`).

use serde::Serialize;

use super::Mixture;

/// More epochs than this are worth a warning (spec `DMX-04`).
pub const MANY_EPOCHS: f64 = 4.0;

/// More epochs than this are worth a strong one (spec `DMX-04`).
pub const TOO_MANY_EPOCHS: f64 = 5.0;

/// Repeats after which further ones are worth little: R* of Muennighoff et al., "Scaling data-constrained language
/// models" (2023).
const REPEATS_WORTH: f64 = 15.0;

/// What a whole run takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Samples of the run.
    pub samples: u64,
    /// Stages that the run reaches, in order.
    pub stages: Vec<PlannedStage>,
    /// The whole run, by source.
    pub sources: Vec<PlannedSource>,
}

/// What a stage takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedStage {
    /// Its name.
    pub name: String,
    /// Its first sample.
    pub first_sample: u64,
    /// Its samples.
    pub samples: u64,
    /// By source.
    pub sources: Vec<PlannedSource>,
}

/// What is taken from one source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedSource {
    /// Its name.
    pub name: String,
    /// Its share by the weights, 0 to 1.
    pub target_share: f64,
    /// Samples drawn from it.
    pub samples: u64,
    /// Share of the samples, 0 to 1.
    pub share: f64,
    /// How often its chunks are seen, part of an epoch included.
    pub epochs: f64,
}

/// How far the samples drawn are from the weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unevenness {
    /// Pearson's χ² of the samples per source against the weights. Independent draws would make it about
    /// `degrees_of_freedom`; the slots keep it far below, until rounding to slots shows in very long runs.
    pub chi_squared: f64,
    /// Sources that are drawn, less one.
    pub degrees_of_freedom: u64,
    /// The largest difference between a share and its target, in absolute terms.
    pub largest_deviation: f64,
}

impl Plan {
    /// The plan of a run of `samples` samples.
    pub fn of(mixture: &Mixture, samples: u64) -> Self {
        let mut stages = Vec::new();
        for (number, span) in mixture.spans.iter().enumerate() {
            let first = span.stage.first_sample;
            if first >= samples && number > 0 {
                break;
            }
            let next =
                mixture.spans.get(number + 1).map_or(samples, |next| next.stage.first_sample.min(samples));
            let total: f64 = span.stage.weights.iter().sum();
            let targets: Vec<f64> = span.stage.weights.iter().map(|weight| weight / total).collect();
            let (from, to) = (&span.before, mixture.counts(next));
            let counts: Vec<u64> = to.iter().zip(from).map(|(to, from)| to - from).collect();
            stages.push(PlannedStage {
                name: span.stage.name.clone(),
                first_sample: first,
                samples: next - first,
                sources: planned(mixture, &counts, &targets),
            });
        }
        let targets = expected(mixture, samples).into_iter().map(|count| count / (samples.max(1)) as f64);
        let sources = planned(mixture, &mixture.counts(samples), &targets.collect::<Vec<_>>());
        Self { samples, stages, sources }
    }

    /// A line for each source that is repeated more than [`MANY_EPOCHS`] times, the most repeated first (spec `DMX-04`,
    /// `DMX-05`).
    pub fn warnings(&self) -> Vec<String> {
        let mut repeated: Vec<&PlannedSource> =
            self.sources.iter().filter(|source| source.epochs > MANY_EPOCHS).collect();
        repeated.sort_by(|a, b| b.epochs.total_cmp(&a.epochs));
        let line = |source: &&PlannedSource| {
            let (name, epochs) = (&source.name, source.epochs);
            if epochs <= TOO_MANY_EPOCHS {
                return format!(
                    "source \"{name}\" will be seen {epochs:.1} times; beyond {MANY_EPOCHS} epochs repetition begins to \
                     cost: add text or lower its weight"
                );
            }
            format!(
                "source \"{name}\" will be seen {epochs:.1} times, worth about {:.1} epochs of new text: repetition \
                 beyond {TOO_MANY_EPOCHS} epochs harms; add text, lower its weight, or take lesser text in early \
                 stages and keep this one for the last",
                effective_epochs(epochs)
            )
        };
        repeated.iter().map(line).collect()
    }
}

/// New text that `epochs` passes over the same are worth: 1 + R*(1 − e^(−R/R*)) with R = `epochs` − 1 repeats
/// (Muennighoff et al., 2023).
pub fn effective_epochs(epochs: f64) -> f64 {
    let repeats = (epochs - 1.0).max(0.0);
    epochs.min(1.0) + REPEATS_WORTH * (1.0 - (-repeats / REPEATS_WORTH).exp())
}

impl Mixture {
    /// What the samples before `next_sample` took from each source, against the weights (spec `DMX-02`).
    pub fn unevenness(&self, next_sample: u64) -> Unevenness {
        let expected = expected(self, next_sample);
        let counts = self.counts(next_sample);
        let drawn = || counts.iter().zip(&expected).filter(|(_, expected)| **expected > 0.0);
        let difference = |(count, expected): (&u64, &f64)| *count as f64 - expected;
        Unevenness {
            chi_squared: drawn().map(|pair| difference(pair).powi(2) / pair.1).sum(),
            degrees_of_freedom: (drawn().count() as u64).saturating_sub(1),
            largest_deviation: drawn().map(|pair| difference(pair).abs()).fold(0.0, f64::max)
                / next_sample.max(1) as f64,
        }
    }
}

/// Samples that each source should have given before `next_sample`, by the weights.
fn expected(mixture: &Mixture, next_sample: u64) -> Vec<f64> {
    let mut expected = vec![0.0; mixture.sources.len()];
    for (number, span) in mixture.spans.iter().enumerate() {
        let first = span.stage.first_sample.min(next_sample);
        let next = mixture
            .spans
            .get(number + 1)
            .map_or(next_sample, |next| next.stage.first_sample.min(next_sample));
        let total: f64 = span.stage.weights.iter().sum();
        for (expected, weight) in expected.iter_mut().zip(&span.stage.weights) {
            *expected += weight / total * (next - first) as f64;
        }
    }
    expected
}

fn planned(mixture: &Mixture, counts: &[u64], targets: &[f64]) -> Vec<PlannedSource> {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    let source = |number: usize| PlannedSource {
        name: mixture.names[number].clone(),
        target_share: targets[number],
        samples: counts[number],
        share: counts[number] as f64 / total,
        epochs: counts[number] as f64 / mixture.sources[number].chunks.max(1) as f64,
    };
    (0..counts.len()).map(source).collect()
}
