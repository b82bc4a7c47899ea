//! Tasks as data, scoring, and statistics of scores. It must not know how the model was made.

pub mod access;
pub mod baselines;
pub mod checks;
pub mod chrf;
pub mod compare;
pub mod contamination;
pub mod cost;
pub mod dataset;
pub mod evaluate;
pub mod lm_eval;
pub mod model;
pub mod reading;
pub mod record;
pub mod ruler;
mod running;
pub mod score;
pub mod stats;
pub mod task;
pub mod thinkfollow;
