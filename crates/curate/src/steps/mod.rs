//! The steps, one file each.

pub mod c4;
pub mod c4_badwords;
pub mod fineweb;
pub mod gopher_quality;
pub mod gopher_repetition;
