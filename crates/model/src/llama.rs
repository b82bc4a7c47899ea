//! Llama and SmolLM3: pre-norm decoder blocks of grouped-query attention and a gated MLP, with RoPE in
//! the layers that `no_rope_layers` marks with 1 (spec POS-09: the name misleads, 1 means RoPE).

use smolt_arch::ModelConfig;
use smolt_arch::memory::Recompute;
use smolt_tensor::gemm::Precision;
use smolt_tensor::ops::attention::Shape;
use smolt_tensor::ops::linear_cross_entropy::Loss;
use smolt_tensor::ops::rope::Tables;
use smolt_tensor::tape::{DType, Layout, LayoutBuilder, ParamId, Program, Tape, Var};
use std::sync::Arc;

/// A decoder of the Llama family: where its parameters lie and how its forward pass is recorded.
///
/// Shape suffixes below: n rows (tokens, flat over the batch), d hidden_size, h heads, k kv heads,
/// e head_dim, i intermediate_size, v vocab_size.
pub struct Llama {
    config: ModelConfig,
    layout: Layout,
    rope: Arc<Tables>,
    embed_tokens: ParamId,
    layers: Vec<Layer>,
    norm: ParamId,
    lm_head: ParamId,
}

struct Layer {
    input_layernorm: ParamId,
    /// q_proj, k_proj and v_proj, stacked: one product.
    qkv_proj: ParamId,
    o_proj: ParamId,
    post_attention_layernorm: ParamId,
    /// gate_proj and up_proj, stacked: one product.
    gate_up_proj: ParamId,
    down_proj: ParamId,
}

/// A compiled pass that returns the loss of packed sequences, with gradients if trained.
pub struct LossPass {
    /// Run it after filling the inputs.
    pub program: Program,
    /// `[n]` token ids.
    pub tokens: Var,
    /// `[n]` token to predict, `u32::MAX` for none.
    pub labels: Var,
    /// `[n]` first row of each row's document.
    pub segments: Var,
    /// `[n]` positions for RoPE.
    pub positions: Var,
    /// `[1]` factor on the summed loss whose gradient is taken: 1 / (label tokens of the global batch).
    pub scale: Var,
    /// Where the loss is found after a run.
    pub loss: Loss,
}

/// A compiled pass over `n` tokens of several sequences whose past lies in a cache.
pub struct DecodePass {
    /// Run it after filling the inputs.
    pub program: Program,
    /// `[n]` token ids.
    pub tokens: Var,
    /// `[n]` cache slot of each row, `u32::MAX` for padding.
    pub slots: Var,
    /// `[n]` position of each row in its sequence.
    pub positions: Var,
    /// `[wanted]` the rows whose logits are computed.
    pub wanted: Var,
    /// `[wanted, vocab]` fp32 logits.
    pub logits: Var,
}

/// Records what a layer does with its q|k|v: rotate it, attend.
type Attend<'a> = &'a dyn Fn(&mut Tape, usize, Var) -> Var;

impl Llama {
    /// Lays out the parameters of `config`; allocates nothing but the RoPE tables.
    pub fn new(config: ModelConfig) -> Llama {
        let c = &config;
        let (d, e, i) = (c.hidden_size, c.head_dim, c.intermediate_size);
        let (q, kv) = (c.num_attention_heads * e, c.num_key_value_heads * e);
        let mut layout = LayoutBuilder::default();
        let named = |name: &str, shape: &[usize]| (name.to_string(), shape.to_vec());
        // STB-02: no weight decay on embeddings (and on an output head tied to them) nor on norms.
        let embed_tokens = layout.add(false, &[named("model.embed_tokens.weight", &[c.vocab_size, d])]);
        let layers = (0..c.num_hidden_layers)
            .map(|l| {
                let named =
                    |name: &str, shape: &[usize]| (format!("model.layers.{l}.{name}.weight"), shape.to_vec());
                Layer {
                    input_layernorm: layout.add(false, &[named("input_layernorm", &[d])]),
                    qkv_proj: layout.add(
                        true,
                        &[
                            named("self_attn.q_proj", &[q, d]),
                            named("self_attn.k_proj", &[kv, d]),
                            named("self_attn.v_proj", &[kv, d]),
                        ],
                    ),
                    o_proj: layout.add(true, &[named("self_attn.o_proj", &[d, q])]),
                    post_attention_layernorm: layout.add(false, &[named("post_attention_layernorm", &[d])]),
                    gate_up_proj: layout
                        .add(true, &[named("mlp.gate_proj", &[i, d]), named("mlp.up_proj", &[i, d])]),
                    down_proj: layout.add(true, &[named("mlp.down_proj", &[d, i])]),
                }
            })
            .collect();
        let norm = layout.add(false, &[named("model.norm.weight", &[d])]);
        let lm_head = match c.tie_word_embeddings {
            true => embed_tokens,
            false => layout.add(true, &[named("lm_head.weight", &[c.vocab_size, d])]),
        };
        let rope = Arc::new(Tables::new(c.max_position_embeddings, e, c.rope_theta));
        Llama { layout: layout.build(), rope, embed_tokens, layers, norm, lm_head, config }
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Changes what the configuration says about tokens; the shape must stay.
    pub fn set_config(&mut self, change: impl FnOnce(&mut ModelConfig)) {
        change(&mut self.config);
    }

    /// Where the parameters lie in a flat buffer.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Records the decoder up to the final norm: tokens `[n]` → `[n, d]`.
    fn decoder(&self, t: &mut Tape, tokens_n: Var, recompute: Recompute, attend: Attend<'_>) -> Var {
        let eps = self.config.rms_norm_eps as f32;
        let mut x_nd = t.embedding(tokens_n, self.embed_tokens, self.config.hidden_size);
        let mut mlp_nd = None;
        for l in 0..self.layers.len() {
            // Backward begins with the last block: nothing is gained by not keeping its values.
            let recompute = if l + 1 < self.layers.len() { recompute } else { Recompute::None };
            if recompute != Recompute::None
                && let Some(mlp_nd) = mlp_nd.take()
            {
                // The stream alone is kept, not the two terms of it that the norm would add.
                x_nd = t.add(x_nd, mlp_nd);
            }
            let down_nd;
            (x_nd, down_nd) = match recompute {
                Recompute::None => {
                    let (x_nd, attn) = self.attention(t, l, x_nd, mlp_nd, attend);
                    self.mlp(t, l, x_nd, attn, false)
                }
                Recompute::Attention => {
                    let (x_nd, attn) = t.recompute(|t| self.attention(t, l, x_nd, None, attend));
                    self.mlp(t, l, x_nd, attn, true)
                }
                Recompute::Block => t.recompute(|t| {
                    let (x_nd, attn) = self.attention(t, l, x_nd, None, attend);
                    self.mlp(t, l, x_nd, attn, false)
                }),
            };
            mlp_nd = Some(down_nd);
        }
        add_norm(t, x_nd, mlp_nd, self.norm, eps).1
    }

    /// Joins the branch before to the stream; returns the stream and what attention makes of it, `[n, h·e]`.
    fn attention(
        &self,
        t: &mut Tape,
        l: usize,
        x_nd: Var,
        branch_nd: Option<Var>,
        attend: Attend<'_>,
    ) -> (Var, Var) {
        let (c, layer, act) = (&self.config, &self.layers[l], t.activation);
        let qkv_width = (c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim;
        let (x_nd, h_nd) = add_norm(t, x_nd, branch_nd, layer.input_layernorm, c.rms_norm_eps as f32);
        let qkv = t.linear(h_nd, layer.qkv_proj, qkv_width, act);
        (x_nd, attend(t, l, qkv))
    }

    /// The rest of a block; returns the stream and the branch that is still to join it. With `cheap_again`, its norm
    /// and activation, which cost next to nothing, are computed again for backward.
    fn mlp(&self, t: &mut Tape, l: usize, x_nd: Var, attn: Var, cheap_again: bool) -> (Var, Var) {
        let (c, layer, act) = (&self.config, &self.layers[l], t.activation);
        let (w, eps) = (layer.post_attention_layernorm, c.rms_norm_eps as f32);
        let attn_nd = t.linear(attn, layer.o_proj, c.hidden_size, DType::F32);
        let (x_nd, h_nd) = match cheap_again {
            true => {
                let x_nd = t.add(x_nd, attn_nd);
                (x_nd, t.recompute(|t| t.rms_norm(x_nd, w, eps)))
            }
            false => t.add_rms_norm(x_nd, attn_nd, w, eps),
        };
        let gate_up = t.linear(h_nd, layer.gate_up_proj, 2 * c.intermediate_size, act);
        let act_ni = match cheap_again {
            true => t.recompute(|t| t.swiglu(gate_up)),
            false => t.swiglu(gate_up),
        };
        (x_nd, t.linear(act_ni, layer.down_proj, c.hidden_size, DType::F32))
    }

    /// Rotates q and k where the layer has RoPE.
    fn rotate(&self, t: &mut Tape, l: usize, qkv: Var, positions_n: Var) {
        let c = &self.config;
        if c.uses_rope(l) {
            t.rope(qkv, positions_n, c.num_attention_heads + c.num_key_value_heads, c.head_dim, &self.rope);
        }
    }

    fn attention_shape(&self) -> Shape {
        let c = &self.config;
        Shape { heads: c.num_attention_heads, kv_heads: c.num_key_value_heads, head_dim: c.head_dim }
    }

    /// A pass over `n` packed tokens that ends in the loss; with gradients if `training`.
    pub fn loss_pass(&self, n: usize, precision: Precision, z_loss: f32, training: bool) -> LossPass {
        self.record_loss(n, precision, z_loss, training, Recompute::None)
    }

    /// The same with gradients, for which `recompute` is not kept: other memory and time, same bits.
    pub fn training_pass(
        &self,
        n: usize,
        precision: Precision,
        z_loss: f32,
        recompute: Recompute,
    ) -> LossPass {
        self.record_loss(n, precision, z_loss, true, recompute)
    }

    fn record_loss(
        &self,
        n: usize,
        precision: Precision,
        z_loss: f32,
        training: bool,
        recompute: Recompute,
    ) -> LossPass {
        let t = &mut Tape::new(precision);
        let (tokens, labels) = (t.input_indices(n), t.input_indices(n));
        let (segments, positions) = (t.input_indices(n), t.input_indices(n));
        let scale = t.input_scalars(1);
        let shape = self.attention_shape();
        let h_nd = self.decoder(t, tokens, recompute, &|t, l, qkv| {
            self.rotate(t, l, qkv, positions);
            t.attention(qkv, segments, shape)
        });
        let loss = t.linear_cross_entropy(h_nd, self.lm_head, labels, scale, z_loss);
        let program = std::mem::replace(t, Tape::new(precision)).compile(training);
        LossPass { program, tokens, labels, segments, positions, scale, loss }
    }

    /// A pass over `n` tokens whose keys and values go to, and come from, a cache; it ends in the logits
    /// of `wanted` of its rows.
    pub fn decode_pass(&self, n: usize, wanted: usize, precision: Precision) -> DecodePass {
        let t = &mut Tape::new(precision);
        let (tokens, slots, positions) = (t.input_indices(n), t.input_indices(n), t.input_indices(n));
        let wanted = t.input_indices(wanted);
        let shape = self.attention_shape();
        let h_nd = self.decoder(t, tokens, Recompute::None, &|t, l, qkv| {
            self.rotate(t, l, qkv, positions);
            t.cached_attention(qkv, slots, positions, l, shape)
        });
        let h_wd = t.select_rows(h_nd, wanted);
        let logits = t.linear(h_wd, self.lm_head, self.config.vocab_size, DType::F32);
        t.keep(logits);
        let program = std::mem::replace(t, Tape::new(precision)).compile(false);
        DecodePass { program, tokens, slots, positions, wanted, logits }
    }
}

/// Joins a branch to the residual stream, where there is one yet, and normalises.
fn add_norm(t: &mut Tape, x_nd: Var, branch_nd: Option<Var>, w: ParamId, eps: f32) -> (Var, Var) {
    match branch_nd {
        Some(branch_nd) => t.add_rms_norm(x_nd, branch_nd, w, eps),
        None => (x_nd, t.rms_norm(x_nd, w, eps)),
    }
}
