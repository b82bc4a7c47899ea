//! From what a model answered to scores: candidates by likelihood, free text by extraction and comparison.

pub mod choice;
pub mod generation;
pub(crate) mod latex;
pub mod reasoning;
