//! Task formats, scoring and statistics of scores. It must not know how the model was made.

pub mod baselines;
pub mod chrf;
pub mod generation;
pub mod likelihood;
pub mod ngram;
pub mod ruler;
pub mod stats;
pub mod task;
