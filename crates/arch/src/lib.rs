//! Model configuration in Hugging Face spelling, and what follows from it: names of tensors, parameters, FLOPs, cache and
//! training memory, masks, comparable sizes. It must not know what tensors hold.

pub mod config;
pub mod count;
pub mod dual_chunk;
mod family;
mod json;
pub mod lint;
pub mod masks;
pub mod matching;
pub mod memory;
pub mod parameters;
pub mod settings;

pub use config::{FieldError, ModelConfig, ModelType};
pub use json::Error;

/// Entry point for fuzzing: any bytes as `config.json`. Errors are fine, panics are not, and what reads is
/// counted, written and read back as the same configuration.
#[doc(hidden)]
pub fn fuzz_config(bytes: &[u8]) {
    let file = std::path::Path::new("config.json");
    let Ok(config) = ModelConfig::from_json(file, bytes) else { return };
    let listed: usize = parameters::parameters(&config).iter().map(parameters::Parameter::len).sum();
    assert_eq!(listed as u64, count::parameters(&config).total());
    let batch = memory::Training {
        micro_batch_size: usize::MAX,
        global_batch_size: usize::MAX,
        sequence_length: usize::MAX,
        bf16: true,
        recompute: memory::Recompute::None,
        gradient_buffers: usize::MAX,
        threads: usize::MAX,
    };
    assert!(memory::training(&config, &batch).total() >= count::parameters(&config).total());
    let decoded = count::decode_bytes(&config, usize::MAX, 2);
    assert!(
        decoded >= 2 * count::parameters(&config).active
            && count::sparsity(&config).is_none_or(|s| s.sparsity >= 1.0)
    );
    for length in [1, usize::MAX] {
        lint::attention(&config, length);
        lint::out_of_range(&config, length);
    }
    let layers: usize = masks::kinds(&config).iter().map(|(_, layers)| layers.len()).sum();
    assert!(
        layers == config.num_hidden_layers && lint::shape(&config).len() + lint::notes(&config).len() <= 5
    );
    let again = ModelConfig::from_json(file, config.to_json("float32").as_bytes());
    assert_eq!(again.ok(), Some(config));
}
