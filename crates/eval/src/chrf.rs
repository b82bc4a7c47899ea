//! Placeholder until merged.
/// x
pub fn sentence(_: &str, _: &str) -> f64 { 0.0 }
