//! Architectures as compositions of ops, and their weights in and out (Hugging Face safetensors).
//! It must not know training.

pub mod folder;
pub mod init;
pub mod pairing;
pub mod safetensors;
mod storage;
pub mod transformer;

pub use transformer::Transformer;
