//! What must not change the result: how a batch is cut, who computes it, and how often a run is stopped.

#![allow(clippy::unwrap_used)]

#[path = "../../../model/tests/common/mod.rs"]
mod common;
mod cutting;
mod resume;
mod stages;
mod threads;
mod toys;
mod world;
