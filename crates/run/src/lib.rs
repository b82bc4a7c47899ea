//! What every run needs whatever it computes: random streams, atomic files, recipes, run folders, metric logs, the
//! step graph, signals, resources and plots. It must not know any domain: no models, tensors, tokens or data formats.

pub mod atomic;
pub mod error;
pub mod folder;
pub mod graph;
pub mod hash;
pub mod launcher;
pub mod metrics;
pub mod permutation;
pub mod plot;
pub mod progress;
pub mod random;
pub mod recipe;
pub mod resources;
pub mod signal;
pub mod tensorboard;
