//! The tensors of a model: their Hugging Face names, shapes and roles, grouped as the engine holds them, in the order of
//! the forward pass. Every other list of tensors follows from this one.

use crate::config::{
    AttentionBias, ModelConfig, ModelType, Moe, Norm, NormPlacement, PositionEmbedding, QkNorm,
};

/// What a tensor does, which decides its parameter group (spec OPT-03, STB-02) and how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token or position embedding, and the output head where it is tied to it.
    Embedding,
    /// A projection; an untied output head counts as one.
    Linear,
    /// A projection that writes to the residual stream.
    Output,
    /// Scale of a norm, and the bias of one.
    Norm,
    /// What is added to a projection, a norm, a softmax or a selection; begins at zero.
    Bias,
}

/// How a checkpoint's tensor lies in the engine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// As it is.
    Rows,
    /// `[…, in, out]` in the checkpoint, `[…, out, in]` in the engine.
    Transposed,
    /// `[…, in, 2·out]` with gate and up taking turns in the checkpoint; `[…, gate then up, in]` in the engine. A bias is
    /// `[…, 2·out]`.
    TransposedTurns,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// As in `model.safetensors`.
    pub name: String,
    /// Row-major, as in `model.safetensors`: `[out, in]` for linear weights.
    pub shape: Vec<usize>,
    /// Its role.
    pub role: Role,
    /// How it lies in the engine.
    pub storage: Storage,
}

impl Parameter {
    /// Number of elements.
    #[allow(clippy::len_without_is_empty)] // never empty: every size is at least 1
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A parameter of the engine, by its place in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// `[vocab, d]`
    Embedding,
    /// `[positions, d]`, learned.
    Positions,
    /// A part of a block.
    Layer(usize, Part),
    /// `[d]`, the last norm.
    Norm,
    /// `[d]`
    NormBias,
    /// `[vocab, d]`, where it is not the embedding.
    Head,
}

/// A parameter of a block. Norms and biases are vectors, the rest is `[out, in]`, experts one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Norm before attention.
    AttentionNorm,
    /// Its bias.
    AttentionNormBias,
    /// Query, key and value, stacked.
    Qkv,
    /// Their biases.
    QkvBias,
    /// Norm of queries.
    QNorm,
    /// Norm of keys.
    KNorm,
    /// One logit per head.
    Sinks,
    /// Stream to the queries' latent.
    QueryDown,
    /// Norm of that latent.
    QueryDownNorm,
    /// Queries, from their latent or from the stream.
    QueryUp,
    /// Stream to the latent of keys and values, and the rotary key.
    KeyValueDown,
    /// Norm of that latent.
    KeyValueDownNorm,
    /// Latent to keys and values, head by head.
    KeyValueUp,
    /// Output projection.
    Output,
    /// Its bias.
    OutputBias,
    /// Norm behind attention.
    PostAttentionNorm,
    /// Its bias.
    PostAttentionNormBias,
    /// Norm before the MLP.
    MlpNorm,
    /// Its bias.
    MlpNormBias,
    /// Gate and up, stacked; up alone where the MLP is not gated.
    Up,
    /// Their biases.
    UpBias,
    /// Down projection.
    Down,
    /// Its bias.
    DownBias,
    /// `[experts, d]`
    Router,
    /// `[experts]`
    RouterBias,
    /// `[experts]`, for selection only.
    SelectionBias,
    /// Gate and up of each expert.
    ExpertsUp,
    /// Their biases.
    ExpertsUpBias,
    /// Down projection of each expert.
    ExpertsDown,
    /// Their biases.
    ExpertsDownBias,
    /// Gate and up of the shared experts.
    SharedUp,
    /// Down projection of the shared experts.
    SharedDown,
    /// Norm behind the MLP.
    PostMlpNorm,
    /// Its bias.
    PostMlpNormBias,
}

/// Tensors that lie one after another in one parameter of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Where in the model.
    pub slot: Slot,
    /// Of one role.
    pub tensors: Vec<Parameter>,
}

impl Group {
    /// Role of its tensors.
    pub fn role(&self) -> Role {
        self.tensors[0].role
    }

    /// Number of elements.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.tensors.iter().map(Parameter::len).sum()
    }
}

/// All tensors of a model whose configuration has passed [`ModelConfig::validate`].
pub fn parameters(config: &ModelConfig) -> Vec<Parameter> {
    groups(config).into_iter().flat_map(|group| group.tensors).collect()
}

/// The same, by parameter of the engine.
pub fn groups(config: &ModelConfig) -> Vec<Group> {
    let c = config;
    let (d, v) = (c.hidden_size, c.vocab_size);
    let mut list = Vec::new();
    let mut put = |slot, name: &str, role, shape: &[usize]| {
        list.push(Group { slot, tensors: vec![tensor(name.to_owned(), shape, role)] });
    };
    put(Slot::Embedding, "model.embed_tokens.weight", Role::Embedding, &[v, d]);
    if c.position_embedding == PositionEmbedding::Learned {
        let shape = [c.max_position_embeddings, d];
        put(Slot::Positions, "model.embed_positions.weight", Role::Embedding, &shape);
    }
    for layer in 0..c.num_hidden_layers {
        Block { config, layer, list: &mut list }.lay_out();
    }
    let mut put = |slot, name: &str, role, shape: &[usize]| {
        list.push(Group { slot, tensors: vec![tensor(name.to_owned(), shape, role)] });
    };
    put(Slot::Norm, "model.norm.weight", Role::Norm, &[d]);
    if c.norm == Norm::Layer {
        put(Slot::NormBias, "model.norm.bias", Role::Bias, &[d]);
    }
    if !c.tie_word_embeddings {
        put(Slot::Head, "lm_head.weight", Role::Linear, &[v, d]);
    }
    list
}

fn tensor(name: String, shape: &[usize], role: Role) -> Parameter {
    Parameter { name, shape: shape.to_vec(), role, storage: Storage::Rows }
}

/// One block, whose tensors go to `list`.
struct Block<'a> {
    config: &'a ModelConfig,
    layer: usize,
    list: &'a mut Vec<Group>,
}

impl Block<'_> {
    fn lay_out(&mut self) {
        let placement = self.config.norm_placement;
        let (before, behind) = (placement != NormPlacement::Post, placement != NormPlacement::Pre);
        if before {
            self.norm(Part::AttentionNorm, Part::AttentionNormBias, "input_layernorm");
        }
        match self.config.latent {
            Some(_) => self.latent_attention(),
            None => self.attention(),
        }
        if behind {
            self.norm(Part::PostAttentionNorm, Part::PostAttentionNormBias, "post_attention_layernorm");
        }
        if before {
            // Llama named it by what comes before it; where there is a norm behind attention, that has the name.
            let name = if behind { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
            self.norm(Part::MlpNorm, Part::MlpNormBias, name);
        }
        match &self.config.moe {
            Some(moe) if self.config.is_sparse(self.layer) => self.experts(moe),
            _ => self.mlp(),
        }
        if behind {
            self.norm(Part::PostMlpNorm, Part::PostMlpNormBias, "post_feedforward_layernorm");
        }
    }

    fn group(&mut self, part: Part, role: Role, tensors: &[(&str, &[usize])]) {
        let layer = self.layer;
        let tensors = tensors
            .iter()
            .map(|(name, shape)| tensor(format!("model.layers.{layer}.{name}"), shape, role))
            .collect();
        self.list.push(Group { slot: Slot::Layer(layer, part), tensors });
    }

    fn norm(&mut self, weight: Part, bias: Part, name: &str) {
        let d = self.config.hidden_size;
        self.group(weight, Role::Norm, &[(&format!("{name}.weight"), &[d])]);
        if self.config.norm == Norm::Layer {
            self.group(bias, Role::Bias, &[(&format!("{name}.bias"), &[d])]);
        }
    }

    fn attention(&mut self) {
        let c = self.config;
        let (d, e, h) = (c.hidden_size, c.head_dim, c.num_attention_heads);
        let (q, kv) = (h * e, c.num_key_value_heads * e);
        self.group(
            Part::Qkv,
            Role::Linear,
            &[
                ("self_attn.q_proj.weight", &[q, d]),
                ("self_attn.k_proj.weight", &[kv, d]),
                ("self_attn.v_proj.weight", &[kv, d]),
            ],
        );
        if c.attention_bias != AttentionBias::None {
            let names = [
                ("self_attn.q_proj.bias", &[q][..]),
                ("self_attn.k_proj.bias", &[kv]),
                ("self_attn.v_proj.bias", &[kv]),
            ];
            self.group(Part::QkvBias, Role::Bias, &names);
        }
        let normed = match c.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => Some((e, e)),
            QkNorm::Width => Some((q, kv)),
        };
        if let Some((q, k)) = normed {
            self.group(Part::QNorm, Role::Norm, &[("self_attn.q_norm.weight", &[q])]);
            self.group(Part::KNorm, Role::Norm, &[("self_attn.k_norm.weight", &[k])]);
        }
        if c.attention_sinks {
            self.group(Part::Sinks, Role::Bias, &[("self_attn.sinks", &[h])]);
        }
        self.group(Part::Output, Role::Output, &[("self_attn.o_proj.weight", &[d, q])]);
        if c.attention_bias == AttentionBias::All {
            self.group(Part::OutputBias, Role::Bias, &[("self_attn.o_proj.bias", &[d])]);
        }
    }

    fn latent_attention(&mut self) {
        let c = self.config;
        let Some(latent) = &c.latent else { return };
        let (d, h, r) = (c.hidden_size, c.num_attention_heads, latent.kv_lora_rank);
        let (nope, rope, v) = (latent.qk_nope_head_dim, latent.qk_rope_head_dim, latent.v_head_dim);
        match latent.q_lora_rank {
            Some(rank) => {
                self.group(Part::QueryDown, Role::Linear, &[("self_attn.q_a_proj.weight", &[rank, d])]);
                self.group(Part::QueryDownNorm, Role::Norm, &[("self_attn.q_a_layernorm.weight", &[rank])]);
                let shape = [h * (nope + rope), rank];
                self.group(Part::QueryUp, Role::Linear, &[("self_attn.q_b_proj.weight", &shape)]);
            }
            None => {
                let shape = [h * (nope + rope), d];
                self.group(Part::QueryUp, Role::Linear, &[("self_attn.q_proj.weight", &shape)]);
            }
        }
        let down = [("self_attn.kv_a_proj_with_mqa.weight", &[r + rope, d][..])];
        self.group(Part::KeyValueDown, Role::Linear, &down);
        self.group(Part::KeyValueDownNorm, Role::Norm, &[("self_attn.kv_a_layernorm.weight", &[r])]);
        let up = [("self_attn.kv_b_proj.weight", &[h * (nope + v), r][..])];
        self.group(Part::KeyValueUp, Role::Linear, &up);
        self.group(Part::Output, Role::Output, &[("self_attn.o_proj.weight", &[d, h * v])]);
    }

    fn mlp(&mut self) {
        let c = self.config;
        let (d, i) = (c.hidden_size, c.intermediate_size);
        let (gate, up) = (("mlp.gate_proj.weight", &[i, d][..]), ("mlp.up_proj.weight", &[i, d][..]));
        let (gate_bias, up_bias) = (("mlp.gate_proj.bias", &[i][..]), ("mlp.up_proj.bias", &[i][..]));
        match c.gated_mlp {
            true => self.group(Part::Up, Role::Linear, &[gate, up]),
            false => self.group(Part::Up, Role::Linear, &[up]),
        }
        match (c.mlp_bias, c.gated_mlp) {
            (true, true) => self.group(Part::UpBias, Role::Bias, &[gate_bias, up_bias]),
            (true, false) => self.group(Part::UpBias, Role::Bias, &[up_bias]),
            (false, _) => {}
        }
        self.group(Part::Down, Role::Output, &[("mlp.down_proj.weight", &[d, i])]);
        if c.mlp_bias {
            self.group(Part::DownBias, Role::Bias, &[("mlp.down_proj.bias", &[d])]);
        }
    }

    fn experts(&mut self, moe: &Moe) {
        let (d, e, i) = (self.config.hidden_size, moe.num_experts, moe.moe_intermediate_size);
        if self.config.model_type == ModelType::GptOss {
            return self.fused_experts(moe);
        }
        let (place, [gate, up, down]) = match self.config.model_type {
            ModelType::Mixtral => ("block_sparse_moe", ["w1", "w3", "w2"]),
            _ => ("mlp", ["gate_proj", "up_proj", "down_proj"]),
        };
        self.group(Part::Router, Role::Linear, &[(&format!("{place}.gate.weight"), &[e, d])]);
        if moe.selection_bias {
            let name = format!("{place}.gate.e_score_correction_bias");
            self.group(Part::SelectionBias, Role::Bias, &[(&name, &[e])]);
        }
        let of = |parts: &[&str], what: &str, shape: &[usize]| -> Vec<(String, Vec<usize>)> {
            let names = (0..e).flat_map(|expert| parts.iter().map(move |part| (expert, *part)));
            names
                .map(|(expert, part)| (format!("{place}.experts.{expert}.{part}.{what}"), shape.to_vec()))
                .collect()
        };
        if moe.expert_bias {
            self.group(Part::RouterBias, Role::Bias, &[(&format!("{place}.gate.bias"), &[e])]);
            self.many(Part::ExpertsUpBias, Role::Bias, of(&[gate, up], "bias", &[i]));
            self.many(Part::ExpertsDownBias, Role::Bias, of(&[down], "bias", &[d]));
        }
        self.many(Part::ExpertsUp, Role::Linear, of(&[gate, up], "weight", &[i, d]));
        self.many(Part::ExpertsDown, Role::Output, of(&[down], "weight", &[d, i]));
        if moe.n_shared_experts > 0 {
            let shared = moe.n_shared_experts * i;
            let names = ["gate_proj", "up_proj"].map(|part| format!("mlp.shared_experts.{part}.weight"));
            self.group(Part::SharedUp, Role::Linear, &[(&names[0], &[shared, d]), (&names[1], &[shared, d])]);
            let down = [("mlp.shared_experts.down_proj.weight", &[d, shared][..])];
            self.group(Part::SharedDown, Role::Output, &down);
        }
    }

    fn many(&mut self, part: Part, role: Role, tensors: Vec<(String, Vec<usize>)>) {
        let borrowed: Vec<(&str, &[usize])> =
            tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        self.group(part, role, &borrowed);
    }

    /// All experts of a layer in one tensor, as gpt-oss has them.
    fn fused_experts(&mut self, moe: &Moe) {
        let (d, e, i) = (self.config.hidden_size, moe.num_experts, moe.moe_intermediate_size);
        self.group(Part::Router, Role::Linear, &[("mlp.router.weight", &[e, d])]);
        self.group(Part::RouterBias, Role::Bias, &[("mlp.router.bias", &[e])]);
        for (part, role, name, shape, storage) in [
            (Part::ExpertsUp, Role::Linear, "gate_up_proj", &[e, d, 2 * i][..], Storage::TransposedTurns),
            (Part::ExpertsUpBias, Role::Bias, "gate_up_proj_bias", &[e, 2 * i], Storage::TransposedTurns),
            (Part::ExpertsDown, Role::Output, "down_proj", &[e, i, d], Storage::Transposed),
            (Part::ExpertsDownBias, Role::Bias, "down_proj_bias", &[e, d], Storage::Rows),
        ] {
            self.group(part, role, &[(&format!("mlp.experts.{name}"), shape)]);
            if let Some(group) = self.list.last_mut() {
                group.tensors[0].storage = storage;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_add_up_to_the_count() {
        for tied in [true, false] {
            let config = ModelConfig { tie_word_embeddings: tied, ..ModelConfig::default() };
            let all = parameters(&config);
            let listed: usize = all.iter().map(Parameter::len).sum();
            assert_eq!(listed as u64, crate::count::parameters(&config).total());
            assert_eq!(all.len(), 6 * 9 + 2 + usize::from(!tied));
            let linear = all.iter().filter(|p| matches!(p.role, Role::Linear | Role::Output)).count();
            assert_eq!(linear, 6 * 7 + usize::from(!tied));
        }
    }
}
