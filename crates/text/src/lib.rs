//! Tokenizers (train, load, measure, advise), chat templates and loss masks: text in, token ids out. It must not know
//! tensors.

pub mod advice;
#[doc(hidden)]
pub mod fuzz;
pub mod measure;
pub mod sample;
pub mod template;
pub mod tokenizer;

#[doc(hidden)]
pub use fuzz::{fuzz_template, fuzz_tokenizer};
