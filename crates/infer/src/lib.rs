//! Key–value caches, sampling, scoring, batched generation, and a look inside. It must not know training.

pub mod decoder;
pub mod generate;
mod prefix;
pub mod probe;
pub mod sampling;
pub mod score;

pub use decoder::{Decoder, Reuse, Row};
pub use generate::{Finish, Generation, Said, Settings, generate};
pub use score::{Choice, Question, rolling, score};
