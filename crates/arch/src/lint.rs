//! What a configuration should be told before it is trained: positions it never learns (an error), choices that cost
//! quality or speed (warnings), sizes that only look wrong (notes). Nothing here is refused; `validate` does that.

use crate::config::{
    AttentionBias, Balancing, BalancingScope, LayerType, ModelConfig, ModelType, PositionEmbedding, QkNorm,
};
use crate::memory::Training;

/// What matrix products like their sizes to be multiples of.
const WIDTH: usize = 64;
/// What the vocabulary should be a multiple of.
const VOCAB: usize = 128;
/// Query heads per key–value head from which on ablations are clearly worse than with a head each (spec ATT-05).
const WIDE_GROUP: usize = 16;
/// The longest sequences that are usual in pretraining, …
const USUAL_LENGTH: usize = 4096;
/// … the largest base that is usual for them (spec POS-05), …
const USUAL_BASE: f64 = 50_000.0;
/// … and the length from which on norms of queries and keys are known to hurt (spec STB-03: "long context").
const LONG_LENGTH: usize = 32_768;
/// Stretching of RoPE by more than this has to be measured (spec POS-07), …
const STRETCHED: f64 = 2.0;
/// … and by more than this it has not held where it was.
const OVERSTRETCHED: f64 = 4.0;

/// What a recipe says of its data, as far as an architecture depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// How many sources are mixed; a sequence is of one.
    pub sources: usize,
    /// Whether documents of one sequence are hidden from each other.
    pub document_masking: bool,
}

/// A sentence for each size that fits no tile of a matrix product, naming the field and the next size that does (spec
/// COR-05).
pub fn shape(config: &ModelConfig) -> Vec<String> {
    let c = config;
    let dense = (0..c.num_hidden_layers).any(|layer| !c.is_sparse(layer));
    let mut sizes = vec![("vocab_size", c.vocab_size, VOCAB), ("hidden_size", c.hidden_size, WIDTH)];
    if dense {
        sizes.push(("intermediate_size", c.intermediate_size, WIDTH));
    }
    if let Some(moe) = &c.moe {
        sizes.push(("moe.moe_intermediate_size", moe.moe_intermediate_size, WIDTH));
    }
    let odd = sizes.into_iter().filter(|(_, size, multiple)| !size.is_multiple_of(*multiple));
    odd.map(|(field, size, multiple)| {
        let next = size.next_multiple_of(multiple);
        format!("{field} = {size} is not a multiple of {multiple}; {next} is")
    })
    .collect()
}

/// A sentence for each size that does not divide among `degree` devices that share every layer (spec COR-05).
pub fn tensor_parallel(config: &ModelConfig, degree: usize) -> Vec<String> {
    let c = config;
    let mut sizes = vec![("num_attention_heads", c.num_attention_heads), ("vocab_size", c.vocab_size)];
    if (0..c.num_hidden_layers).any(|layer| !c.is_sparse(layer)) {
        sizes.push(("intermediate_size", c.intermediate_size));
    }
    if let Some(moe) = &c.moe {
        sizes.push(("moe.moe_intermediate_size", moe.moe_intermediate_size));
    }
    // Fewer key–value heads than devices are repeated, if that comes out even.
    let kv = c.num_key_value_heads;
    if c.latent.is_none() && !degree.is_multiple_of(kv) {
        sizes.insert(1, ("num_key_value_heads", kv));
    }
    let odd = sizes.into_iter().filter(|(_, size)| !size.is_multiple_of(degree));
    odd.map(|(field, size)| {
        format!("{field} = {size} does not divide among {degree} devices of tensor parallelism")
    })
    .collect()
}

/// What is known to be worse, of the attention of a model that is to be used with sequences of `length`.
pub fn attention(config: &ModelConfig, length: usize) -> Vec<String> {
    let c = config;
    let mut found = Vec::new();
    let group = c.num_attention_heads / c.num_key_value_heads.max(1);
    if c.latent.is_none() && group >= WIDE_GROUP {
        found.push(format!(
            "{group} query heads share a key–value head (num_key_value_heads = {}): from {WIDE_GROUP} on ablations are \
             clearly worse than with 8 or fewer",
            c.num_key_value_heads
        ));
    }
    if c.qk_norm != QkNorm::None && length >= LONG_LENGTH {
        found.push(format!(
            "qk_norm = {} at {length} tokens: norms take from queries and keys the magnitude by which long contexts \
             are searched; measure retrieval, or leave them out",
            c.qk_norm
        ));
    }
    let anchored = c.attention_sinks || c.sink_tokens > 0 || c.attention_bias != AttentionBias::None;
    let only_windows = (0..c.num_hidden_layers).all(|layer| c.layer_type(layer) == LayerType::Sliding);
    if let Some(window) = c.sliding_window
        && only_windows
        && !anchored
        && length > window
    {
        found.push(format!(
            "every layer slides and none keeps a sink: past {window} tokens the first ones leave the cache, and with \
             them what attention rests on; set sink_tokens = 4 or attention_sinks, or give some layers full_attention"
        ));
    }
    if (0..c.num_hidden_layers).any(|layer| c.layer_type(layer) == LayerType::Chunked)
        && c.attention_chunk_size.is_some_and(|chunk| length > chunk)
        && (0..c.num_hidden_layers).all(|layer| c.layer_type(layer) != LayerType::Full)
    {
        found.push(
            "chunked layers see nothing of earlier chunks and no layer has full_attention: nothing is retrieved \
             across chunks"
                .to_owned(),
        );
    }
    found.extend(base(c, length));
    found.extend(stretched(c));
    found
}

/// Rotary frequencies that are stretched far (spec POS-07).
fn stretched(c: &ModelConfig) -> Option<String> {
    let factor = c.rope_scaling.as_ref().map(|scaling| scaling.factor)?;
    let advice = match factor {
        _ if factor > OVERSTRETCHED => {
            "no stretching is known to hold that far without training at the length; train there, or stretch less"
        }
        _ if factor > STRETCHED => {
            "what is found in long texts falls off; measure it (smolt eval ruler) before relying on it"
        }
        _ => return None,
    };
    Some(format!(
        "rope_scaling.factor = {factor} times the length that frequencies were trained for: {advice}"
    ))
}

/// What is known to be worse, of a model trained like this on such data.
pub fn training(config: &ModelConfig, training: &Training, data: &Data) -> Vec<String> {
    let c = config;
    let mut found = Vec::new();
    let by_leaf = |moe: &crate::config::Moe| {
        moe.balancing == Balancing::AuxLoss && moe.balancing_scope == BalancingScope::Leaf
    };
    // One sequence is of one source; of several, a leaf is as mixed as the batch, if smaller.
    let alike = training.micro_batch_size == 1 && training.global_batch_size > 1 && data.sources > 1;
    if c.moe.as_ref().is_some_and(by_leaf) && alike {
        found.push(format!(
            "moe.balancing_scope = leaf with train.micro_batch_size = 1 and {} sources: each sequence is of one source, so \
             that experts are kept from specialising in any; set it to global_batch",
            data.sources
        ));
    }
    let layers = || 0..c.num_hidden_layers;
    // A stretching or layers with windows are another answer to long sequences.
    let answered = c.rope_scaling.is_some() || layers().any(|layer| c.layer_type(layer) != LayerType::Full);
    if training.sequence_length >= LONG_LENGTH
        && layers().all(|layer| c.uses_rope(layer))
        && !data.document_masking
        && !answered
    {
        found.push(format!(
            "sequences of {} tokens with RoPE in every layer and no masks between documents: models extend to such lengths \
             better with layers without RoPE (no_rope_layer_interval = 4) and data.intra_document_masking",
            training.sequence_length
        ));
    }
    found
}

/// A base that is too small for the length (spec POS-05).
fn base(c: &ModelConfig, length: usize) -> Option<String> {
    let far =
        (0..c.num_hidden_layers).any(|layer| c.uses_rope(layer) && c.visible(layer, length) > USUAL_LENGTH);
    (far && c.rope_scaling.is_none() && c.rope_theta <= USUAL_BASE).then(|| {
        format!(
            "rope_theta = {} is usual up to {USUAL_LENGTH} tokens, not for {length}: attention to distant tokens fades \
             too fast; raise it with the length",
            c.rope_theta
        )
    })
}

/// What will not work, in training and after it: sequences of `length` have positions that the model was never trained
/// on and nothing stretches them (spec SCP-06).
pub fn out_of_range(config: &ModelConfig, length: usize) -> Option<String> {
    let (c, trained) = (config, config.max_position_embeddings);
    match c.position_embedding {
        PositionEmbedding::Learned if length > trained => Some(format!(
            "sequences of {length} tokens, but positions are learned vectors and there are \
             max_position_embeddings = {trained} of them: shorten the sequences or learn more positions"
        )),
        PositionEmbedding::Rope if length > trained => {
            let fix = match &c.rope_scaling {
                None => "raise it, and set rope_scaling or train for the length with a larger rope_theta",
                Some(_) => "raise both, it and rope_scaling.factor",
            };
            Some(format!(
                "sequences of {length} tokens, but max_position_embeddings = {trained} and positions from {trained} \
                 on are out of the trained range: {fix}"
            ))
        }
        // ALiBi falls off linearly and no positions cannot run out.
        _ => None,
    }
}

/// Sizes that work and may be meant.
pub fn notes(config: &ModelConfig) -> Vec<String> {
    let c = config;
    let (h, e, d) = (c.num_attention_heads, c.head_dim, c.hidden_size);
    let by_design = c.latent.is_some()
        || matches!(
            c.model_type,
            ModelType::Qwen3
                | ModelType::Qwen3Moe
                | ModelType::Gemma2
                | ModelType::Gemma3
                | ModelType::GptOss
        );
    if by_design || h * e == d {
        return Vec::new();
    }
    vec![format!("num_attention_heads = {h} of head_dim = {e} are {} wide, hidden_size is {d}", h * e)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RopeScaling, RopeType};

    fn one(found: &[String], says: &str) {
        assert!(found.len() == 1 && found[0].contains(says), "{found:?}");
    }

    #[test]
    fn odd_sizes_are_named_with_the_next_even_one() {
        let even = ModelConfig { vocab_size: 4096, ..ModelConfig::default() };
        assert_eq!(shape(&even), Vec::<String>::new());
        let odd = ModelConfig { vocab_size: 50_257, intermediate_size: 700, head_dim: 80, ..even };
        let found = shape(&odd);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("vocab_size = 50257 ") && found[0].contains("50304"), "{found:?}");
        assert!(found[1].starts_with("intermediate_size = 700 ") && found[1].contains("704"), "{found:?}");
        one(&notes(&odd), "head_dim = 80");
        assert_eq!(notes(&ModelConfig { model_type: ModelType::Qwen3, ..odd }), Vec::<String>::new());
    }

    #[test]
    fn what_tensor_parallelism_cannot_divide_is_named() {
        let plain = ModelConfig {
            vocab_size: 4096,
            intermediate_size: 704,
            num_attention_heads: 8,
            num_key_value_heads: 2,
            ..ModelConfig::default()
        };
        for degree in [1, 2, 4, 8] {
            assert_eq!(tensor_parallel(&plain, degree), Vec::<String>::new(), "{degree}: heads are repeated");
        }
        one(&tensor_parallel(&plain, 64), "num_attention_heads = 8");
        let three = ModelConfig { num_attention_heads: 12, num_key_value_heads: 3, ..plain };
        one(&tensor_parallel(&three, 4), "num_key_value_heads = 3");
    }

    #[test]
    fn experts_have_the_size_that_counts() {
        let mut config = ModelConfig { intermediate_size: 700, ..ModelConfig::default() };
        config.moe = ModelConfig::of(ModelType::Mixtral).moe;
        config.moe.as_mut().unwrap().moe_intermediate_size = 100;
        one(&shape(&config), "moe.moe_intermediate_size = 100 ");
        config.moe.as_mut().unwrap().dense_layers = vec![0];
        assert_eq!(shape(&config).len(), 2);
    }

    #[test]
    fn weak_attention_is_warned_of() {
        let plain = ModelConfig::default();
        assert_eq!(attention(&plain, 512), Vec::<String>::new());
        let shared = ModelConfig { num_attention_heads: 16, num_key_value_heads: 1, ..plain.clone() };
        one(&attention(&shared, 512), "16 query heads share");
        let normed = ModelConfig { qk_norm: QkNorm::Head, rope_theta: 1e6, ..plain.clone() };
        assert_eq!(attention(&normed, 4096), Vec::<String>::new());
        one(&attention(&normed, 32_768), "qk_norm = head");
        one(&attention(&plain, 8192), "rope_theta = 10000");
    }

    #[test]
    fn windows_in_all_layers_want_a_sink() {
        let layer_types = vec![LayerType::Sliding; 6];
        let windows = ModelConfig { layer_types, sliding_window: Some(128), ..ModelConfig::default() };
        one(&attention(&windows, 512), "none keeps a sink");
        assert_eq!(attention(&windows, 128), Vec::<String>::new());
        assert_eq!(attention(&ModelConfig { sink_tokens: 4, ..windows.clone() }, 512), Vec::<String>::new());
        let mut mixed = windows.clone();
        mixed.layer_types[5] = LayerType::Full;
        assert_eq!(attention(&mixed, 512), Vec::<String>::new());
        let layer_types = vec![LayerType::Chunked; 6];
        let chunks = ModelConfig { layer_types, attention_chunk_size: Some(64), ..ModelConfig::default() };
        one(&attention(&chunks, 512), "across chunks");
    }

    #[test]
    fn positions_out_of_range_are_an_error() {
        let plain = ModelConfig { max_position_embeddings: 512, ..ModelConfig::default() };
        let says = |config: &ModelConfig, length| out_of_range(config, length).unwrap_or_default();
        assert_eq!(says(&plain, 512), "");
        assert!(
            says(&plain, 513).contains("positions from 512 on") && says(&plain, 513).contains("rope_scaling")
        );
        let linear = RopeScaling {
            rope_type: RopeType::Linear,
            factor: 4.0,
            original_max_position_embeddings: None,
            beta_fast: None,
            beta_slow: None,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: None,
            low_freq_factor: None,
            high_freq_factor: None,
        };
        let scaled = ModelConfig { rope_scaling: Some(linear.clone()), ..plain.clone() };
        for (factor, warning) in [(2.0, ""), (2.5, "eval ruler"), (4.0, "eval ruler"), (4.5, "train there")] {
            let rope_scaling = Some(RopeScaling { factor, ..linear.clone() });
            let found = attention(&ModelConfig { rope_scaling, ..plain.clone() }, 512);
            assert!(found.len() == usize::from(!warning.is_empty()), "{found:?}");
            assert!(found.iter().all(|text| text.contains(warning)), "{found:?}");
        }
        assert!(says(&scaled, 512).is_empty() && says(&scaled, 513).contains("rope_scaling.factor"));
        let said = RopeScaling { original_max_position_embeddings: Some(128), ..linear };
        let scaled = ModelConfig { rope_scaling: Some(said), ..plain.clone() };
        assert!(says(&scaled, 512).is_empty() && !says(&scaled, 513).is_empty());
        let learned = ModelConfig { position_embedding: PositionEmbedding::Learned, ..plain.clone() };
        assert!(says(&learned, 513).contains("learned vectors"));
        let alibi = ModelConfig { position_embedding: PositionEmbedding::Alibi, ..plain };
        assert_eq!(says(&alibi, usize::MAX), "");
    }

    #[test]
    fn what_data_has_to_do_with_the_architecture_is_warned_of() {
        let mut batch = Training {
            micro_batch_size: 1,
            global_batch_size: 8,
            sequence_length: 512,
            bf16: false,
            recompute: crate::memory::Recompute::None,
            gradient_buffers: 1,
            threads: 1,
        };
        let mut data = Data { sources: 2, document_masking: false };
        let mut sparse =
            ModelConfig { moe: ModelConfig::of(ModelType::Mixtral).moe, ..ModelConfig::default() };
        one(&training(&sparse, &batch, &data), "moe.balancing_scope = leaf");
        assert_eq!(
            training(&sparse, &Training { micro_batch_size: 2, ..batch }, &data),
            Vec::<String>::new()
        );
        assert_eq!(training(&sparse, &batch, &Data { sources: 1, ..data }), Vec::<String>::new());
        sparse.moe.as_mut().unwrap().balancing_scope = BalancingScope::GlobalBatch;
        assert_eq!(training(&sparse, &batch, &data), Vec::<String>::new());

        batch.sequence_length = LONG_LENGTH;
        let nope = ModelConfig::default();
        assert_eq!(training(&nope, &batch, &data), Vec::<String>::new());
        let mut rope = nope;
        rope.set_no_rope_layer_interval(0);
        one(&training(&rope, &batch, &data), "no_rope_layer_interval");
        assert_eq!(
            training(&rope, &Training { sequence_length: 4096, ..batch }, &data),
            Vec::<String>::new()
        );
        data.document_masking = true;
        assert_eq!(training(&rope, &batch, &data), Vec::<String>::new());
    }
}
