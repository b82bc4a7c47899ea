//! The steps, one file each.

#[cfg(feature = "html")]
pub mod html_text;
