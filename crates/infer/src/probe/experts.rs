//! How experts share the work (spec MOE-09).

use super::reading::Reading;
use smolt_model::transformer::Router;

/// An expert that serves so many times its mean share of a text is over-activated there: it has specialised.
const OVER: f64 = 1.5;

/// What the experts of a layer were sent. No token is ever dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Experts {
    /// Rows sent to each expert, `[texts][experts]`.
    pub counts: Vec<Vec<u64>>,
    /// Tokens of each text.
    pub tokens: Vec<u64>,
    /// Mean entropy of the router's probabilities over each text, nats; ln(experts) if it prefers none.
    pub entropies: Vec<f64>,
}

/// An expert that serves clearly more of one text than of the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverActivated {
    /// The text, counted from 0.
    pub text: usize,
    /// The expert, counted from 0.
    pub expert: usize,
    /// Its share of the text's tokens.
    pub share: f64,
    /// That share relative to the mean of its shares over texts.
    pub lift: f64,
}

impl Experts {
    pub(super) fn add(&mut self, reading: &Reading<'_>, router: &Router) {
        let counts = reading.pass.program.output::<u32>(router.routed.counts);
        self.counts.push(counts.iter().map(|&count| u64::from(count)).collect());
        self.tokens.push(reading.tokens.len() as u64);
        self.entropies.push(router.routed.stats(&reading.pass.program).entropy);
    }

    /// How many experts there are.
    pub fn experts(&self) -> usize {
        self.counts.first().map_or(0, Vec::len)
    }

    /// Rows sent to each expert, of all texts.
    pub fn load(&self) -> Vec<u64> {
        (0..self.experts()).map(|expert| self.counts.iter().map(|counts| counts[expert]).sum()).collect()
    }

    /// The busiest expert, the first of equals.
    pub fn busiest(&self) -> usize {
        let load = self.load();
        (1..load.len()).fold(0, |best, expert| if load[expert] > load[best] { expert } else { best })
    }

    /// Load of the busiest relative to the mean; 1 when balanced.
    pub fn max_load(&self) -> f64 {
        let load = self.load();
        let max = load.iter().max().copied().unwrap_or(0);
        max as f64 * load.len() as f64 / load.iter().sum::<u64>().max(1) as f64
    }

    /// Experts that no token went to.
    pub fn dead(&self) -> Vec<usize> {
        self.load().iter().enumerate().filter(|(_, load)| **load == 0).map(|(expert, _)| expert).collect()
    }

    /// Mean entropy over all tokens, nats.
    pub fn entropy(&self) -> f64 {
        let tokens: u64 = self.tokens.iter().sum();
        let sum: f64 = self.entropies.iter().zip(&self.tokens).map(|(h, &n)| h * n as f64).sum();
        sum / tokens.max(1) as f64
    }

    /// Share of the tokens of `text` that `expert` serves; over experts they add up to experts per token.
    pub fn share(&self, text: usize, expert: usize) -> f64 {
        self.counts[text][expert] as f64 / self.tokens[text].max(1) as f64
    }

    /// Share of all tokens that `expert` serves.
    pub fn total_share(&self, expert: usize) -> f64 {
        self.load()[expert] as f64 / self.tokens.iter().sum::<u64>().max(1) as f64
    }

    /// Which experts serve clearly more of one text than of the others, and more of it than if all served alike: some
    /// specialisation is what experts are for.
    pub fn over_activated(&self) -> Vec<OverActivated> {
        let (texts, experts) = (self.counts.len(), self.experts());
        let mut found = Vec::new();
        for (expert, text) in (0..experts).flat_map(|expert| (0..texts).map(move |text| (expert, text))) {
            let mean = (0..texts).map(|text| self.share(text, expert)).sum::<f64>() / texts as f64;
            let even = self.counts[text].iter().sum::<u64>() as f64 / experts as f64;
            let share = self.share(text, expert);
            if self.counts[text][expert] as f64 >= even && share >= OVER * mean && share > 0.0 {
                found.push(OverActivated { text, expert, share, lift: share / mean });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two texts of 100 tokens, two of four experts each.
    #[test]
    fn figures_follow_from_counts() {
        let experts = Experts {
            counts: vec![vec![90, 70, 40, 0], vec![10, 100, 90, 0]],
            tokens: vec![100, 100],
            entropies: vec![1.0, 0.5],
        };
        assert_eq!(experts.load(), [100, 170, 130, 0]);
        assert_eq!((experts.busiest(), experts.dead()), (1, vec![3]));
        assert_eq!((experts.max_load(), experts.entropy()), (1.7, 0.75));
        assert_eq!((experts.share(0, 0), experts.share(1, 0), experts.total_share(0)), (0.9, 0.1, 0.5));
        // 0.9 is 1.8 times the mean of 0.9 and 0.1; 0.9 of expert 2 is 1.38 times its mean.
        let over = experts.over_activated();
        assert_eq!(over.len(), 1, "{over:?}");
        assert_eq!((over[0].text, over[0].expert, over[0].share), (0, 0, 0.9));
        assert!((over[0].lift - 1.8).abs() < 1e-12);
    }
}
