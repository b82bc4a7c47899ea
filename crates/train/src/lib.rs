//! Objectives, optimiser policy, schedules, the training loop and its checkpoints. It must not know
//! the command line or evaluation.

pub mod checkpoint;
pub mod leaf;
pub mod optimizer;
pub mod recipe;
pub mod routing;
pub mod schedule;
pub mod session;
pub mod trainer;
pub mod validate;
