//! What a configuration may not say.

use super::{FieldError, LayerType, ModelConfig, ModelType, Moe, PositionEmbedding, RopeType};
use crate::config::{Balancing, Gate};

/// Caps on single sizes: far above any published model, far below what overflows or exhausts memory.
pub(crate) const MAX_LAYERS: usize = 1024;
const MAX_WIDTH: usize = 1 << 20;
const MAX_HEADS: usize = 4096;
const MAX_HEAD_DIM: usize = 1024;
const MAX_VOCAB: usize = 1 << 22;
/// Positions × head_dim: the RoPE tables hold that many numbers.
const MAX_ROPE_TABLE: usize = 1 << 27;
const MAX_EXPERTS: usize = 4096;
const MAX_GROUPS: usize = 64;
/// Experts of all layers, each with tensors of its own.
const MAX_EXPERT_TENSORS: usize = 1 << 17;
/// Parameters in all.
const MAX_PARAMETERS: u64 = 1 << 42;

type Result = std::result::Result<(), FieldError>;

fn wrong(field: &str, reason: impl Into<String>) -> Result {
    Err(FieldError::new(field, reason))
}

/// Whole numbers within bounds, by field.
fn within(sizes: &[(&str, usize, usize)]) -> Result {
    match sizes.iter().find(|&&(_, value, cap)| value == 0 || value > cap) {
        Some((field, value, cap)) => wrong(field, format!("must be between 1 and {cap}, found {value}")),
        None => Ok(()),
    }
}

/// Numbers above zero, as fp32 has them too, within bounds, by field.
fn positive(numbers: &[(&str, Option<f64>, f64)]) -> Result {
    for &(field, value, cap) in numbers {
        // Written so that NaN fails too.
        if let Some(value) = value
            && !(value >= f64::from(f32::MIN_POSITIVE) && value <= cap)
        {
            return wrong(
                field,
                format!("must be above 0 (1.2e-38 at least) and at most {cap}, found {value}"),
            );
        }
    }
    Ok(())
}

impl ModelConfig {
    /// Checks every size and relation; the error names the first field that is wrong.
    pub fn validate(&self) -> Result {
        self.validate_sizes()?;
        self.validate_heads()?;
        self.validate_latent()?;
        self.validate_layers()?;
        self.validate_positions()?;
        self.validate_scaling()?;
        self.validate_numbers()?;
        self.validate_blocks()?;
        self.validate_tokens()?;
        if let Some(moe) = &self.moe {
            self.validate_moe(moe)?;
        }
        // Every factor is capped, so no product here comes near 2^64.
        match crate::count::parameters(self).total() {
            total if total > MAX_PARAMETERS => wrong(
                "hidden_size",
                format!("and the other sizes give {total} parameters, above the limit of {MAX_PARAMETERS}"),
            ),
            _ => crate::json::expressible(self),
        }
    }

    fn validate_sizes(&self) -> Result {
        within(&[
            ("hidden_size", self.hidden_size, MAX_WIDTH),
            ("intermediate_size", self.intermediate_size, MAX_WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_HEADS),
            ("num_key_value_heads", self.num_key_value_heads, MAX_HEADS),
            ("head_dim", self.head_dim, MAX_HEAD_DIM),
            ("vocab_size", self.vocab_size, MAX_VOCAB),
            ("max_position_embeddings", self.max_position_embeddings, MAX_ROPE_TABLE),
        ])
    }

    fn validate_heads(&self) -> Result {
        let (d, h, k) = (self.hidden_size, self.num_attention_heads, self.num_key_value_heads);
        // Heads need not fill the stream, but what a division gave rounded down was not meant.
        let rounded = self.latent.is_none() && self.head_dim == d / h;
        let needed = matches!(self.model_type, ModelType::Llama | ModelType::Gemma2 | ModelType::Gemma3);
        if d % h != 0 && (rounded || needed) {
            let way_out = match needed {
                true => format!(
                    ", as transformers wants it of a {}; another model_type takes any head_dim",
                    self.model_type
                ),
                false => ", or set head_dim".to_owned(),
            };
            return wrong("num_attention_heads", format!("{h} must divide hidden_size {d}{way_out}"));
        }
        if h % k != 0 {
            return wrong("num_key_value_heads", format!("{k} must divide num_attention_heads {h}"));
        }
        Ok(())
    }

    fn validate_latent(&self) -> Result {
        let Some(latent) = &self.latent else { return Ok(()) };
        within(&[
            ("q_lora_rank", latent.q_lora_rank.unwrap_or(1), MAX_WIDTH),
            ("kv_lora_rank", latent.kv_lora_rank, MAX_WIDTH),
            ("qk_nope_head_dim", latent.qk_nope_head_dim, MAX_HEAD_DIM),
            ("qk_rope_head_dim", latent.qk_rope_head_dim, MAX_HEAD_DIM),
            ("v_head_dim", latent.v_head_dim, MAX_HEAD_DIM),
        ])?;
        let dims = latent.qk_nope_head_dim + latent.qk_rope_head_dim;
        if self.head_dim != dims {
            return wrong(
                "head_dim",
                format!("{} must be qk_nope_head_dim + qk_rope_head_dim = {dims}", self.head_dim),
            );
        }
        let (h, k) = (self.num_attention_heads, self.num_key_value_heads);
        if h != k {
            let reason =
                format!("{k} must be num_attention_heads {h}: latent attention shares the latent, not heads");
            return wrong("num_key_value_heads", reason);
        }
        for (field, set) in [
            ("qk_norm", self.qk_norm.as_str() != "none"),
            ("attention_bias", self.attention_bias.as_str() != "none"),
            ("attention_sinks", self.attention_sinks),
        ] {
            if set {
                return wrong(field, "is not combined with `latent` attention: leave one of them out");
            }
        }
        match self.position_embedding {
            PositionEmbedding::Rope => Ok(()),
            other => wrong(
                "position_embedding",
                format!("= {other} does not go with `latent`, which has rotary keys"),
            ),
        }
    }

    fn validate_layers(&self) -> Result {
        let layers = self.num_hidden_layers;
        if self.layer_types.len() != layers {
            let reason = format!("has {} entries for num_hidden_layers {layers}", self.layer_types.len());
            return wrong("layer_types", reason);
        }
        for (kind, field, size) in [
            (LayerType::Sliding, "sliding_window", self.sliding_window),
            (LayerType::Chunked, "attention_chunk_size", self.attention_chunk_size),
        ] {
            within(&[(field, size.unwrap_or(1), MAX_ROPE_TABLE)])?;
            if self.layer_types.contains(&kind) && size.is_none() {
                return wrong(field, format!("is missing, but `layer_types` has {kind}: set it"));
            }
        }
        if self.sink_tokens > 0 && !self.layer_types.contains(&LayerType::Sliding) {
            return wrong(
                "sink_tokens",
                "keeps tokens that a window hides, but `layer_types` has no sliding_attention",
            );
        }
        if self.sink_tokens > MAX_ROPE_TABLE {
            return wrong("sink_tokens", format!("must be at most {MAX_ROPE_TABLE}"));
        }
        Ok(())
    }

    fn validate_positions(&self) -> Result {
        if self.max_position_embeddings > MAX_ROPE_TABLE / self.head_dim {
            let reason =
                format!("{} is above {}", self.max_position_embeddings, MAX_ROPE_TABLE / self.head_dim);
            return wrong("max_position_embeddings", reason);
        }
        let (flags, layers) = (&self.no_rope_layers, self.num_hidden_layers);
        if flags.len() != layers {
            let reason = format!("has {} entries for num_hidden_layers {layers}", flags.len());
            return wrong("no_rope_layers", reason);
        }
        if flags.iter().any(|&flag| flag > 1) {
            return wrong("no_rope_layers", "must hold 1 (RoPE) and 0 (no RoPE) only");
        }
        let windowed = |layer: usize| self.layer_type(layer) != LayerType::Full;
        if self.position_embedding == PositionEmbedding::None && (0..layers).any(windowed) {
            return wrong(
                "layer_types",
                "has windows, but `position_embedding` is none: a window without positions cannot tell order; give all \
                 layers full_attention, or the model positions",
            );
        }
        if self.position_embedding == PositionEmbedding::Rope
            && (0..layers).any(windowed)
            && (0..layers).all(|layer| !windowed(layer) || !self.uses_rope(layer))
        {
            return wrong(
                "layer_types",
                "has windows only where `no_rope_layers` has 0: a window without positions cannot tell order; give \
                 windows to layers with RoPE",
            );
        }
        if self.latent.is_some() && flags.contains(&0) {
            return wrong("no_rope_layers", "has a 0, but `latent` attention has rotary keys in every layer");
        }
        if self.position_embedding != PositionEmbedding::Rope && flags.contains(&0) {
            let reason = format!("has a 0, but `position_embedding` is {}", self.position_embedding);
            return wrong("no_rope_layers", reason);
        }
        let (turning, factor) = (self.rotary_dim(), self.partial_rotary_factor);
        if !(factor > 0.0 && factor <= 1.0) {
            return wrong("partial_rotary_factor", format!("must be above 0 and at most 1, found {factor}"));
        }
        if turning == 0 || !turning.is_multiple_of(2) {
            let field = if self.latent.is_some() { "qk_rope_head_dim" } else { "head_dim" };
            return wrong(
                field,
                format!("gives {turning} rotary features, which must be even: RoPE turns pairs"),
            );
        }
        Ok(())
    }

    fn validate_scaling(&self) -> Result {
        let Some(scaling) = &self.rope_scaling else { return Ok(()) };
        let in_scaling = |field: &str| format!("rope_scaling.{field}");
        if self.position_embedding != PositionEmbedding::Rope {
            return wrong(
                "rope_scaling",
                format!("has no effect with `position_embedding` {}", self.position_embedding),
            );
        }
        if !(scaling.factor >= 1.0 && scaling.factor <= 1e6) {
            let reason = format!("must be between 1 and 1,000,000, found {}", scaling.factor);
            return wrong(&in_scaling("factor"), reason);
        }
        let needs_original =
            matches!(scaling.rope_type, RopeType::Yarn | RopeType::Llama3 | RopeType::Dynamic);
        match scaling.original_max_position_embeddings {
            None if needs_original => {
                let reason = format!("is missing, and `rope_type` {} needs it", scaling.rope_type);
                return wrong(&in_scaling("original_max_position_embeddings"), reason);
            }
            original => within(&[(
                &in_scaling("original_max_position_embeddings"),
                original.unwrap_or(1),
                MAX_ROPE_TABLE,
            )])?,
        }
        for (field, value) in [
            ("beta_fast", scaling.beta_fast),
            ("beta_slow", scaling.beta_slow),
            ("attention_factor", scaling.attention_factor),
            ("low_freq_factor", scaling.low_freq_factor),
            ("high_freq_factor", scaling.high_freq_factor),
        ] {
            positive(&[(&in_scaling(field), value, 1e6)])?;
        }
        for (field, value) in [("mscale", scaling.mscale), ("mscale_all_dim", scaling.mscale_all_dim)] {
            if value.is_some_and(|value| !(0.0..=1e3).contains(&value)) {
                return wrong(&in_scaling(field), "must be between 0 and 1,000");
            }
        }
        let bounds = (scaling.low_freq_factor, scaling.high_freq_factor);
        match (scaling.rope_type, bounds) {
            (RopeType::Llama3, (Some(low), Some(high))) if low < high => Ok(()),
            (RopeType::Llama3, _) => wrong(
                &in_scaling("high_freq_factor"),
                "and `low_freq_factor` are both needed, and it must be the larger",
            ),
            _ => Ok(()),
        }
    }

    fn validate_numbers(&self) -> Result {
        positive(&[
            ("rope_theta", Some(self.rope_theta), 1e12),
            ("rope_local_base_freq", self.rope_local_base_freq, 1e12),
            ("rms_norm_eps", Some(self.rms_norm_eps), 1.0),
            ("initializer_range", Some(self.initializer_range), 1.0),
            ("query_pre_attn_scalar", self.query_pre_attn_scalar, 1e6),
            ("attn_logit_softcapping", self.attn_logit_softcapping, 1e6),
            ("final_logit_softcapping", self.final_logit_softcapping, 1e6),
            ("swiglu_limit", self.swiglu_limit, 1e6),
        ])
    }

    fn validate_blocks(&self) -> Result {
        if self.norm_offset && self.norm.as_str() == "layer_norm" {
            return wrong("norm_offset", "is RMSNorm's, but `norm` is layer_norm");
        }
        if self.swiglu_limit.is_some() && !(self.gated_mlp && self.hidden_act.as_str() == "silu") {
            return wrong("swiglu_limit", "needs `gated_mlp` and `hidden_act` silu");
        }
        if self.moe.is_some() && self.mlp_bias {
            return wrong("mlp_bias", "is not combined with `moe`: experts have `moe.expert_bias`");
        }
        if self.moe.is_some() && !self.gated_mlp {
            return wrong("gated_mlp", "= false is not combined with `moe`: experts are gated");
        }
        Ok(())
    }

    fn validate_moe(&self, moe: &Moe) -> Result {
        let (e, k) = (moe.num_experts, moe.num_experts_per_tok);
        within(&[
            ("moe.num_experts", e, MAX_EXPERTS),
            ("moe.moe_intermediate_size", moe.moe_intermediate_size, MAX_WIDTH),
            ("moe.num_experts", e.saturating_mul(self.num_hidden_layers), MAX_EXPERT_TENSORS),
        ])?;
        if k == 0 || k > e {
            return wrong(
                "moe.num_experts_per_tok",
                format!("must be between 1 and moe.num_experts {e}, found {k}"),
            );
        }
        if moe.n_shared_experts > 64 {
            return wrong(
                "moe.n_shared_experts",
                format!("must be at most 64, found {}", moe.n_shared_experts),
            );
        }
        validate_groups(moe)?;
        if moe.dense_layers.len() > self.num_hidden_layers {
            let reason = format!("has more entries than num_hidden_layers {}", self.num_hidden_layers);
            return wrong("moe.dense_layers", reason);
        }
        if let Some(layer) = moe.dense_layers.iter().find(|&&layer| layer >= self.num_hidden_layers) {
            let reason = format!("has {layer}, but num_hidden_layers is {}", self.num_hidden_layers);
            return wrong("moe.dense_layers", reason);
        }
        if moe.balancing == Balancing::LossFree && !moe.selection_bias {
            return wrong(
                "moe.balancing",
                "= loss_free moves `moe.selection_bias`, which is off: switch it on",
            );
        }
        for (field, value) in [
            ("moe.routed_scaling_factor", moe.routed_scaling_factor),
            ("moe.router_aux_loss_coef", moe.router_aux_loss_coef),
            ("moe.router_z_loss_coef", moe.router_z_loss_coef),
            ("moe.bias_update_rate", moe.bias_update_rate),
        ] {
            if !(0.0..=1e3).contains(&value) {
                return wrong(field, format!("must be between 0 and 1,000, found {value}"));
            }
        }
        Ok(())
    }

    fn validate_tokens(&self) -> Result {
        let ids = (self.bos_token_id.iter().map(|id| ("bos_token_id", id)))
            .chain(self.eos_token_id.iter().map(|id| ("eos_token_id", id)))
            .chain(self.pad_token_id.iter().map(|id| ("pad_token_id", id)));
        for (field, &id) in ids {
            if id as usize >= self.vocab_size {
                return wrong(field, format!("{id} is not below vocab_size {}", self.vocab_size));
            }
        }
        Ok(())
    }
}

/// Groups of experts that are chosen before experts are.
fn validate_groups(moe: &Moe) -> Result {
    let (e, k, groups, best) = (moe.num_experts, moe.num_experts_per_tok, moe.n_group, moe.topk_group);
    if groups > MAX_GROUPS {
        return wrong("moe.n_group", format!("must be at most {MAX_GROUPS}, found {groups}"));
    }
    if groups == 0 || e % groups != 0 {
        return wrong("moe.n_group", format!("{groups} must divide moe.num_experts {e}"));
    }
    if best == 0 || best > groups {
        return wrong("moe.topk_group", format!("must be between 1 and moe.n_group {groups}, found {best}"));
    }
    if k > best * (e / groups) {
        let reason = format!("{k} is more than the experts of moe.topk_group {best} groups");
        return wrong("moe.num_experts_per_tok", reason);
    }
    if groups > 1 && (e / groups < 2 || moe.gate != Gate::Sigmoid) {
        return wrong("moe.n_group", "above 1 needs `moe.gate` sigmoid and at least two experts a group");
    }
    Ok(())
}
