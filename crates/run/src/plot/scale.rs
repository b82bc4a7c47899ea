//! From values to positions, and where the ticks go.

/// A value worth a label.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

/// A linear or logarithmic map of `low..high` onto 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    /// Covers all drawable values; `None` when there are none (finite, and positive for a logarithmic scale).
    pub(super) fn covering(values: impl Iterator<Item = f64>, log: bool) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| drawable(*value, log)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return None;
        }
        if low == high {
            // One value: some room on both sides, so that it lies in the middle.
            (low, high) = match log {
                true => (low / 2.0, high * 2.0),
                false => (low - low.abs().max(1.0) / 2.0, high + high.abs().max(1.0) / 2.0),
            };
        }
        Some(Self { low, high, log })
    }

    /// The same with a little room above and below.
    pub(super) fn padded(self) -> Self {
        let (low, high) = (self.forward(self.low), self.forward(self.high));
        let room = (high - low) * 0.04;
        Self { low: self.back(low - room), high: self.back(high + room), ..self }
    }

    /// Position of a value, 0 at the low end.
    pub(super) fn position(self, value: f64) -> Option<f64> {
        let (low, high) = (self.forward(self.low), self.forward(self.high));
        let position = (self.forward(value) - low) / (high - low);
        (drawable(value, self.log) && position.is_finite()).then_some(position)
    }

    /// About `count` ticks at round values.
    pub(super) fn ticks(self, count: usize) -> Vec<Tick> {
        let values = match self.log {
            true => log_ticks(self.low, self.high),
            false => Vec::new(),
        };
        // Less than a decade or so has too few powers of ten to read a logarithmic axis by.
        if values.len() >= 2 {
            let skip = values.len().div_ceil(count.max(2) * 2);
            return values
                .into_iter()
                .step_by(skip)
                .map(|value| Tick { value, label: label(value, value) })
                .collect();
        }
        let step = nice_step((self.high - self.low) / count.max(1) as f64);
        let first = (self.low / step).ceil();
        let ticks = (0..=count * 3).map(|index| (first + index as f64) * step);
        ticks
            .take_while(|value| *value <= self.high)
            .filter(|value| value.is_finite())
            .map(|value| Tick { value, label: label(value, step) })
            .collect()
    }

    fn forward(self, value: f64) -> f64 {
        if self.log { value.log10() } else { value }
    }

    fn back(self, value: f64) -> f64 {
        if self.log { 10f64.powf(value) } else { value }
    }
}

/// Values near the ends of f64 would overflow the arithmetic of positions.
pub(super) fn drawable(value: f64, log: bool) -> bool {
    value.abs() < 1e150 && (!log || value > 1e-150)
}

/// 1, 2 or 5 times a power of ten, at least `raw`.
fn nice_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.max(f64::MIN_POSITIVE * 1e10).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw * 0.999_999).unwrap_or(10.0);
    factor * power
}

/// Powers of ten, with 2 and 5 times them over up to two decades.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let factors: &[f64] = if high / low < 200.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let values = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)));
    values.filter(|value| (low..=high).contains(value)).collect()
}

/// As many decimals as the step between ticks needs; k, M, B, T for large numbers.
pub(super) fn label(value: f64, step: f64) -> String {
    if value.abs() < step.abs() * 1e-6 {
        return "0".to_owned();
    }
    let size = value.abs();
    if !(1e-3..1e15).contains(&size) {
        return format!("{value:.2e}").replace(".00e", "e").replace("0e", "e");
    }
    let (unit, suffix) = match size {
        s if s >= 1e12 => (1e12, "T"),
        s if s >= 1e9 => (1e9, "B"),
        s if s >= 1e6 => (1e6, "M"),
        s if s >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let decimals = (-(step.abs() / unit).log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{:.decimals$}", value / unit);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(low: f64, high: f64, log: bool) -> Vec<String> {
        let scale = Scale::covering([low, high].into_iter(), log).unwrap();
        scale.ticks(5).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(0.0, 10.0, false), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(-0.03, 0.05, false), ["-0.02", "0", "0.02", "0.04"]);
        assert_eq!(labels(0.0, 50_000.0, false), ["0", "10k", "20k", "30k", "40k", "50k"]);
        assert_eq!(labels(1.0, 10_000.0, true), ["1", "10", "100", "1000", "10k"]);
        assert_eq!(labels(2.0, 11.0, true), ["2", "5", "10"]);
        assert_eq!(labels(0.0, 5e-5, false), ["0", "1e-5", "2e-5", "3e-5", "4e-5", "5e-5"]);
        assert_eq!(labels(2.1, 2.2, true).len(), 6, "{:?}", labels(2.1, 2.2, true));
    }

    #[test]
    fn nothing_to_cover() {
        assert_eq!(Scale::covering([f64::NAN, f64::INFINITY].into_iter(), false), None);
        assert_eq!(Scale::covering([-1.0, 0.0].into_iter(), true), None);
        let one = Scale::covering([3.0].into_iter(), false).unwrap();
        assert_eq!(one.position(3.0), Some(0.5));
    }

    proptest! {
        #[test]
        fn any_values_scale(a: f64, b: f64, log: bool) {
            if let Some(scale) = Scale::covering([a, b].into_iter(), log) {
                let scale = scale.padded();
                prop_assert!(scale.ticks(5).len() < 40);
                for value in [a, b] {
                    let position = scale.position(value);
                    prop_assert!(position.is_none_or(|p| (-0.01..=1.01).contains(&p)), "{position:?}");
                }
            }
        }
    }
}
