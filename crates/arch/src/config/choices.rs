//! The choices a model is made of, spelled as in recipes and in `config.json`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Declares choices with [`smolt_run::recipe!`] and lets serde read and write them by their spelling.
macro_rules! choices {
    ($($(#[doc = $doc:literal])* pub enum $name:ident { $($body:tt)* })*) => {
        smolt_run::recipe! { $($(#[doc = $doc])* pub enum $name { $($body)* })* }
        $(
            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(self.as_str())
                }
            }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                }
            }
        )*
    };
}

choices! {
    /// Architectures, named as `model_type` in `config.json`. All but the last are Hugging Face's, and a model of that
    /// type must be one that transformers can build; `smolt` is any combination, which only smolt loads.
    pub enum ModelType {
        /// Llama 1 to 3, SmolLM 1 and 2, TinyLlama.
        Llama = "llama",
        /// SmolLM3: Llama with some layers without RoPE (spec POS-09).
        SmolLm3 = "smollm3",
        /// Qwen 2 and 2.5: biases on query, key and value.
        Qwen2 = "qwen2",
        /// Qwen3: norms on the heads of query and key.
        Qwen3 = "qwen3",
        /// Mistral: a sliding window in every layer.
        Mistral = "mistral",
        /// OLMo 2: norms behind the branches, and on the whole width of query and key.
        Olmo2 = "olmo2",
        /// Gemma 2: norms before and behind the branches, soft-capped logits.
        Gemma2 = "gemma2",
        /// Gemma 3, text: norms on heads, two RoPE bases, mostly sliding windows.
        Gemma3 = "gemma3_text",
        /// Mixtral: experts, the best two of eight.
        Mixtral = "mixtral",
        /// Qwen3 with experts.
        Qwen3Moe = "qwen3_moe",
        /// DeepSeek-V3 and R1: latent attention, many small experts beside a shared one.
        DeepseekV3 = "deepseek_v3",
        /// gpt-oss: experts, attention sinks, biases throughout.
        GptOss = "gpt_oss",
        /// Any combination of settings.
        Smolt = "smolt",
    }

    /// Which projections of attention have biases (spec ATT-07).
    pub enum AttentionBias {
        /// None of them.
        None = "none",
        /// Query, key and value.
        Qkv = "qkv",
        /// Those and the output projection.
        All = "all",
    }

    /// RMSNorm of queries and keys before their scores (spec STB-03).
    pub enum QkNorm {
        /// None.
        None = "none",
        /// Each head by itself, one weight for all heads.
        Head = "head",
        /// All heads of a row as one vector.
        Width = "width",
    }

    /// Which earlier tokens of its document a token attends to (spec SCP-01).
    pub enum LayerType {
        /// All of them.
        Full = "full_attention",
        /// The last `sliding_window`, itself among them (spec SCP-03).
        Sliding = "sliding_attention",
        /// Those in its chunk of `attention_chunk_size` (spec SCP-02).
        Chunked = "chunked_attention",
    }

    /// How a model knows the order of tokens (spec POS-01).
    pub enum PositionEmbedding {
        /// Rotation of queries and keys (spec POS-03), in the layers that `no_rope_layers` leaves it.
        Rope = "rope",
        /// A learned vector per position, added to the embedding.
        Learned = "learned",
        /// A penalty on scores that grows with distance (spec POS-02).
        Alibi = "alibi",
        /// Nothing but the causal mask (spec POS-08).
        None = "none",
    }

    /// How RoPE is stretched beyond the length it was trained for (spec POS-06, POS-07).
    pub enum RopeType {
        /// All frequencies divided by `factor`.
        Linear = "linear",
        /// A larger base, so that the slowest pair is stretched by `factor` and the fastest is not (NTK-aware).
        Ntk = "ntk",
        /// NTK with a base that follows from the longest sequence: the original one if that is within
        /// `original_max_position_embeddings`. Only a smolt model has it.
        Dynamic = "dynamic",
        /// YaRN: slow pairs stretched, fast ones not, scores made sharper.
        Yarn = "yarn",
        /// Llama 3.1: slow pairs stretched, fast ones not.
        Llama3 = "llama3",
    }

    /// What keeps the scale of activations (spec COR-03).
    pub enum Norm {
        /// Division by the root mean square.
        Rms = "rms_norm",
        /// Mean subtracted, division by the standard deviation, with a bias.
        Layer = "layer_norm",
    }

    /// Where the norms of a block stand.
    pub enum NormPlacement {
        /// Before attention and MLP.
        Pre = "pre",
        /// Behind them, before they join the stream.
        Post = "post",
        /// Both.
        Sandwich = "sandwich",
    }

    /// Activation of the MLP (spec COR-02).
    pub enum Activation {
        /// x·σ(x); gated: SwiGLU.
        Silu = "silu",
        /// x·Φ(x); gated: GeGLU.
        Gelu = "gelu",
        /// The same with Φ by a tanh.
        GeluTanh = "gelu_pytorch_tanh",
        /// max(0, x).
        Relu = "relu",
        /// max(0, x)².
        Relu2 = "relu2",
    }

    /// How weights are drawn (spec COR-01).
    pub enum Initializer {
        /// Normal with standard deviation `initializer_range`, cut off at three of them.
        TruncatedNormal = "truncated_normal",
        /// The same, with what writes to the stream (output and down projections) divided by √(2·num_hidden_layers).
        ScaledResidual = "scaled_residual",
        /// Xavier: standard deviation √(2/(in + out)); value, output and MLP weights times DeepNet's (8·L)^(−1/4).
        XavierDeepnorm = "xavier_deepnorm",
    }

    /// How a router's logits become gates (spec MOE-01).
    pub enum Gate {
        /// Softmax over all experts, then the best of them.
        Softmax = "softmax",
        /// The best logits, then softmax over those.
        SoftmaxTopK = "softmax_top_k",
        /// Sigmoid of each logit, then the best of them.
        Sigmoid = "sigmoid",
    }

    /// What keeps experts evenly used (spec MOE-06, MOE-07).
    pub enum Balancing {
        /// Nothing.
        None = "none",
        /// A term of the loss.
        AuxLoss = "aux_loss",
        /// A bias per expert that only selection sees, moved after each step.
        LossFree = "loss_free",
    }

    /// Over which tokens the auxiliary loss takes an expert's share (spec MOE-08).
    pub enum BalancingScope {
        /// Those of the micro-batch.
        Leaf = "leaf",
        /// Those of a whole global batch.
        GlobalBatch = "global_batch",
    }
}
