//! The tensors of a model: their Hugging Face names, shapes and roles, in the order of the forward pass.

use crate::config::ModelConfig;

/// What a tensor does, which decides its parameter group (spec OPT-03, STB-02).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embedding, and the output head where it is tied to it.
    Embedding,
    /// A projection; an untied output head counts as one.
    Linear,
    /// Scale of an RMSNorm.
    Norm,
}

impl Role {
    /// Whether weight decay applies: to linear weights only.
    pub fn decays(self) -> bool {
        self == Role::Linear
    }
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// As in `model.safetensors`.
    pub name: String,
    /// Row-major, `[out, in]` for linear weights.
    pub shape: Vec<usize>,
    /// Its role.
    pub role: Role,
}

impl Parameter {
    /// Number of elements.
    #[allow(clippy::len_without_is_empty)] // never empty: every size is at least 1
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// All tensors of a model whose configuration has passed [`ModelConfig::validate`].
pub fn parameters(config: &ModelConfig) -> Vec<Parameter> {
    let c = config;
    let (d, i, v) = (c.hidden_size, c.intermediate_size, c.vocab_size);
    let (q, kv) = (c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim);
    let linear = |name: String, out: usize, from: usize| Parameter {
        name,
        shape: vec![out, from],
        role: Role::Linear,
    };
    let norm = |name: String| Parameter { name, shape: vec![d], role: Role::Norm };
    let embedding =
        |name: &str| Parameter { name: name.to_owned(), shape: vec![v, d], role: Role::Embedding };

    let mut all = vec![embedding("model.embed_tokens.weight")];
    for layer in 0..c.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        all.extend([
            norm(name("input_layernorm")),
            linear(name("self_attn.q_proj"), q, d),
            linear(name("self_attn.k_proj"), kv, d),
            linear(name("self_attn.v_proj"), kv, d),
            linear(name("self_attn.o_proj"), d, q),
            norm(name("post_attention_layernorm")),
            linear(name("mlp.gate_proj"), i, d),
            linear(name("mlp.up_proj"), i, d),
            linear(name("mlp.down_proj"), d, i),
        ]);
    }
    all.push(norm("model.norm.weight".to_owned()));
    if !c.tie_word_embeddings {
        all.push(linear("lm_head.weight".to_owned(), v, d));
    }
    all
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
            let decayed = all.iter().filter(|p| p.role.decays()).count();
            assert_eq!(decayed, 6 * 7 + usize::from(!tied));
        }
    }
}
