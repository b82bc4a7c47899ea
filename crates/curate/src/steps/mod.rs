//! The steps, one file each.

pub mod classifier;
pub mod encoding;
#[cfg(feature = "html")]
pub mod html_text;
pub mod language;
pub mod quality_tiers;
