//! The steps, one file each.

pub mod classifier;
pub mod cleanup;
pub mod code;
pub mod domains;
pub mod encoding;
#[cfg(feature = "html")]
pub mod html_text;
pub mod language;
pub mod licence;
pub mod pii;
pub mod quality_tiers;
pub mod repeated_ngrams;
pub mod sampling;
pub mod url;
