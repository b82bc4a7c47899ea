//! Key–value caches, sampling and batched generation. It must not know training.

pub mod decoder;
pub mod generate;
pub mod sampling;

pub use decoder::{Decoder, Row};
pub use generate::{Generation, Settings, generate};
