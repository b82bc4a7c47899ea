//! What the heads of a layer attend to.

use super::reading::Reading;
use smolt_model::transformer::Block;
use smolt_tensor::ops::attention::{Weight, Window, weights};

/// First tokens of a document that are counted together: where sinks that nobody put there are found (SCP-05; Xiao et al.,
/// Efficient Streaming Language Models with Attention Sinks, 2023).
pub const FEW: usize = 4;

/// A share of attention, the mean over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mass {
    /// Mean over heads.
    pub mean: f64,
    /// Of the head that has most.
    pub most: f64,
}

impl Mass {
    /// Of the shares of each head.
    pub(super) fn of(heads: &[f64]) -> Mass {
        Mass {
            mean: heads.iter().sum::<f64>() / heads.len().max(1) as f64,
            most: heads.iter().copied().fold(0.0, f64::max),
        }
    }
}

/// What the heads of a layer attend to. Masses are means over the rows from position [`FEW`] on that see the first token
/// of their document; none where a window hides it from all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Looks {
    /// The largest score, as the softmax sees it (STB-04).
    pub largest_score: f64,
    /// The largest magnitude of a scaled product of query and key: the score before it saturates and before ALiBi.
    pub largest_product: f64,
    /// Share of the first token.
    pub first: Option<Mass>,
    /// Share of the first [`FEW`].
    pub few: Option<Mass>,
    /// What the first [`FEW`] would have if a row attended to all that it sees alike.
    pub few_uniform: Option<f64>,
    /// Share of the learned sinks, where the layer has them.
    pub sinks: Option<Mass>,
    /// Whether a window hides rows, and there are neither learned sinks nor tokens that stay visible.
    pub window_without_sinks: bool,
}

/// What one head of one row attends to, and sums of that over rows.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    rows: usize,
    score: f64,
    product: f64,
    first: f64,
    few: f64,
    few_uniform: f64,
    sinks: f64,
}

impl Look {
    /// Of row `row`, whose document begins at `document`.
    fn of(seen: &[Weight], document: usize, row: usize) -> Look {
        let largest = |of: fn(&Weight) -> f64| seen.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        let extremes =
            Look { score: largest(|w| w.score), product: largest(|w| w.product.abs()), ..Look::default() };
        if row < document + FEW || seen[0].row != document {
            return extremes;
        }
        let share = |end: usize| seen.iter().take_while(|w| w.row < end).map(|w| w.share).sum::<f64>();
        let few = seen.iter().take_while(|w| w.row < document + FEW).count();
        Look {
            rows: 1,
            first: share(document + 1),
            few: share(document + FEW),
            few_uniform: few as f64 / seen.len() as f64,
            sinks: 1.0 - share(row + 1),
            ..extremes
        }
    }

    fn add(&mut self, other: &Look) {
        self.rows += other.rows;
        self.score = self.score.max(other.score);
        self.product = self.product.max(other.product);
        self.first += other.first;
        self.few += other.few;
        self.few_uniform += other.few_uniform;
        self.sinks += other.sinks;
    }
}

/// Sums over the rows of several readings.
#[derive(Default)]
pub(super) struct Tally {
    heads: Vec<Look>,
    sinks: bool,
    window_without_sinks: bool,
}

impl Tally {
    pub(super) fn add(&mut self, reading: &Reading<'_>, block: &Block) {
        let heads = block.attention.shape.heads;
        let windowed = block.attention.window != Window::Full;
        self.sinks = block.attention.sinks.is_some();
        self.window_without_sinks = windowed && !self.sinks && block.attention.sink_tokens == 0;
        self.heads.resize(heads, Look { score: f64::NEG_INFINITY, ..Look::default() });
        let mut looks = vec![Look::default(); reading.tokens.len() * heads];
        reading.subject.cpu.pool.for_each_chunk(&mut looks, heads, |row, looks| {
            for (head, look) in looks.iter_mut().enumerate() {
                *look = Look::of(&seen(reading, block, row, head), reading.segments[row] as usize, row);
            }
        });
        for looks in looks.chunks_exact(heads) {
            self.heads.iter_mut().zip(looks).for_each(|(sum, look)| sum.add(look));
        }
    }

    pub(super) fn report(self) -> Looks {
        // Every head has seen the same rows.
        let rows = self.heads.first().map_or(0, |head| head.rows);
        let mean = |of: fn(&Look) -> f64| {
            let heads: Vec<f64> = self.heads.iter().map(|head| of(head) / rows as f64).collect();
            (rows > 0).then(|| Mass::of(&heads))
        };
        let largest = |of: fn(&Look) -> f64| self.heads.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        Looks {
            largest_score: largest(|head| head.score),
            largest_product: largest(|head| head.product),
            first: mean(|head| head.first),
            few: mean(|head| head.few),
            few_uniform: mean(|head| head.few_uniform).map(|mass| mass.mean),
            sinks: if self.sinks { mean(|head| head.sinks) } else { None },
            window_without_sinks: self.window_without_sinks,
        }
    }
}

/// What a head of a row attends to; at least itself.
pub(super) fn seen(reading: &Reading<'_>, block: &Block, row: usize, head: usize) -> Vec<Weight> {
    let layout = reading.subject.model.layout();
    let sinks = block.attention.sinks.map(|id| &reading.subject.weights[layout.range(id)]);
    weights(&block.attention, sinks, &reading.segments, reading.values(block.qkv), (row, head))
}
