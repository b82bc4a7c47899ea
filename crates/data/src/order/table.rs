//! Weights as slots.

use super::SLOTS;
use crate::error::Error;

/// Which source each of [`SLOTS`] slots belongs to.
pub(super) struct Table {
    /// Slots of each source.
    pub(super) slots: Vec<u64>,
    /// Of each slot.
    sources: Vec<u16>,
}

impl Table {
    /// Refuses weights that cannot be honoured, naming the source.
    pub(super) fn new(names: &[String], weights: &[f64]) -> Result<Self, Error> {
        let slots = allot(names, weights)?;
        let mut sources = Vec::with_capacity(SLOTS as usize);
        for (number, &slots) in slots.iter().enumerate() {
            sources.extend(std::iter::repeat_n(number as u16, slots as usize));
        }
        Ok(Self { slots, sources })
    }

    #[inline]
    pub(super) fn source(&self, slot: u16) -> usize {
        usize::from(self.sources[usize::from(slot)])
    }
}

/// Slots by largest remainder, ties to the earlier source.
fn allot(names: &[String], weights: &[f64]) -> Result<Vec<u64>, Error> {
    let named = || names.iter().zip(weights.iter().copied());
    if let Some((name, weight)) = named().find(|(_, weight)| !weight.is_finite() || *weight < 0.0) {
        return Err(Error::Settings(format!(
            "source \"{name}\" has weight {weight}; weights are finite and not negative"
        )));
    }
    let total: f64 = weights.iter().sum();
    if !(total > 0.0 && total.is_finite()) || weights.len() as u64 > SLOTS {
        return Err(Error::Settings("a mixture needs at least one source with a positive weight".into()));
    }
    let exact: Vec<f64> = weights.iter().map(|weight| weight / total * SLOTS as f64).collect();
    let mut slots: Vec<u64> = exact.iter().map(|share| share.floor() as u64).collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let missing = SLOTS.saturating_sub(slots.iter().sum());
    for &source in by_remainder.iter().take(missing as usize) {
        slots[source] += 1;
    }
    match named().zip(&slots).find(|((_, weight), slots)| *weight > 0.0 && **slots == 0) {
        Some(((name, weight), _)) => Err(Error::Settings(format!(
            "source \"{name}\" has weight {weight} of {total}, less than 1/{SLOTS}: raise it or set it to 0"
        ))),
        None => Ok(slots),
    }
}
