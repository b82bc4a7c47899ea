"""The table of the tiny models that models.py computes: configurations, how weights are drawn, what is stored."""
import dataclasses
import transformers as tf


def default(theta):
    return dict(rope_type="default", rope_theta=theta)


def yarn(theta, factor, original, **extra):
    return dict(rope_type="yarn", rope_theta=theta, factor=factor, original_max_position_embeddings=original, **extra)


@dataclasses.dataclass
class Family:
    config: type
    options: dict  # of the configuration, beside `shape`
    rope: dict  # rope_parameters
    shape: dict = None  # SMALL, or SHAPE
    seed: int = 0
    std: float = 0.2  # of every weight that is no norm; biases, sinks and buffers too
    norm_mean: float = 1.0
    grads: bool = True
    packed: bool = True
    aux: bool = False  # the load-balancing loss and its gradients
    train: bool = False  # ten steps of AdamW
    v4_without: tuple = ()  # keys that configurations of transformers 4 lack
    v4_with: dict = dataclasses.field(default_factory=dict)  # and those that only they have
    v4_type_key: str = "rope_type"  # in rope_scaling; "type" is the older spelling

    def build_config(self):
        return self.config(**{**(self.shape or SMALL), **self.options}, rope_parameters=self.rope, dtype="float32")


# num_attention_heads * head_dim is not hidden_size, so that mistaking one for the other shows.
SHAPE = dict(vocab_size=160, hidden_size=48, intermediate_size=80, num_hidden_layers=4, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=64, rms_norm_eps=1e-5,
             bos_token_id=None, eos_token_id=2, pad_token_id=None, use_cache=True)
# The eps is large, so that one that is ignored shows.
SMALL = SHAPE | dict(vocab_size=96, hidden_size=32, intermediate_size=40, num_hidden_layers=3, head_dim=12,
                     rms_norm_eps=1e-2, tie_word_embeddings=False)
NO_HEAD_DIM = {k: v for k, v in SMALL.items() if k != "head_dim"}  # hidden_size / num_attention_heads = 8
TWO_LAYERS = dict(num_hidden_layers=2)
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
GEMMA = dict(norm_mean=0.0)  # its norms multiply by 1 + weight

FAMILIES = {
    "llama": Family(tf.LlamaConfig, dict(tie_word_embeddings=False), default(10000.0), SHAPE, std=0.1, train=True),
    # 1 means RoPE: layer 1 has none.
    "smollm3": Family(tf.SmolLM3Config, dict(tie_word_embeddings=True, no_rope_layers=[1, 0, 1, 1]), default(5000.0),
                      SHAPE, std=0.1, train=True),
    "llama_bias": Family(tf.LlamaConfig, dict(attention_bias=True, mlp_bias=True, **TWO_LAYERS), default(10000.0)),
    "llama_linear": Family(tf.LlamaConfig, TWO_LAYERS, dict(rope_type="linear", rope_theta=1000.0, factor=4.0),
                           grads=False, packed=False, v4_type_key="type"),
    "llama_llama3": Family(
        tf.LlamaConfig, TWO_LAYERS | dict(max_position_embeddings=512),
        # Wavelengths of 6 (kept), 20 (mixed), 63 (mixed), 199 and more (divided by the factor).
        dict(rope_type="llama3", rope_theta=1000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
             original_max_position_embeddings=64), grads=False, packed=False),
    # The ramp runs from 1.4, rounded down to 1, to 3.4, rounded up to 4.
    "llama_yarn": Family(tf.LlamaConfig, TWO_LAYERS | dict(max_position_embeddings=128),
                         yarn(1000.0, 2.0, 64, beta_fast=2.0, beta_slow=0.2), grads=False, packed=False),
    # Layers from max_window_layers on are sliding.
    "qwen2": Family(tf.Qwen2Config, dict(use_sliding_window=True, sliding_window=8, max_window_layers=2),
                    default(10000.0), NO_HEAD_DIM, v4_without=("layer_types",)),
    "qwen3": Family(tf.Qwen3Config, dict(tie_word_embeddings=True), default(10000.0), v4_without=("layer_types",)),
    "mistral": Family(tf.MistralConfig, dict(sliding_window=8), default(10000.0)),
    "olmo2": Family(tf.Olmo2Config, {}, default(10000.0), NO_HEAD_DIM),
    "gemma2": Family(
        tf.Gemma2Config, dict(head_dim=16, query_pre_attn_scalar=24, sliding_window=8, attn_logit_softcapping=1.5,
                              final_logit_softcapping=2.0, tie_word_embeddings=True, **TWO_LAYERS),
        default(10000.0), v4_without=("layer_types", "tie_word_embeddings"),
        v4_with=dict(hidden_act="gelu_pytorch_tanh", cache_implementation="hybrid"), **GEMMA),
    "gemma3": Family(
        tf.Gemma3TextConfig, dict(head_dim=16, query_pre_attn_scalar=24, sliding_window=8, layer_types=ALTERNATING,
                                  tie_word_embeddings=True),
        dict(sliding_attention=default(500.0),
             full_attention=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
        v4_without=("layer_types", "_sliding_window_pattern", "tie_word_embeddings"),
        v4_with=dict(sliding_window_pattern=2, cache_implementation="hybrid"), **GEMMA),
    "mixtral": Family(
        tf.MixtralConfig, dict(intermediate_size=20, num_local_experts=4, num_experts_per_tok=2,
                               router_aux_loss_coef=0.02, **TWO_LAYERS), default(10000.0), aux=True),
    "qwen3_moe": Family(
        tf.Qwen3MoeConfig, dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True,
                                decoder_sparse_step=1, mlp_only_layers=[1]), default(10000.0), aux=True,
        v4_without=("num_local_experts",), v4_with=dict(num_experts=4, max_window_layers=3)),
    "deepseek_v3": Family(
        tf.DeepseekV3Config,
        dict(num_key_value_heads=4, intermediate_size=24, moe_intermediate_size=6, q_lora_rank=16, kv_lora_rank=12,
             qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12, n_routed_experts=8, n_group=4, topk_group=2,
             num_experts_per_tok=3, n_shared_experts=1, first_k_dense_replace=1, routed_scaling_factor=2.5,
             norm_topk_prob=True, rope_interleave=True, num_nextn_predict_layers=0, max_position_embeddings=1024),
        # The ramp runs from 0.14, rounded down to 0, to 2.1, rounded up to 3.
        yarn(1000.0, 4.0, 256, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=0.5), NO_HEAD_DIM,
        v4_type_key="type", v4_without=("head_dim", "qk_head_dim", "rope_interleave", "output_router_logits"),
        v4_with=dict(aux_loss_alpha=0.001, ep_size=1, moe_layer_freq=1, scoring_func="sigmoid", seq_aux=True,
                     topk_method="noaux_tc")),
    "gpt_oss": Family(
        tf.GptOssConfig, dict(intermediate_size=12, num_local_experts=4, num_experts_per_tok=2, sliding_window=8,
                              layer_types=ALTERNATING, swiglu_limit=1.5, max_position_embeddings=1024),
        # The ramp runs from 0.21 to 3.2, not rounded. transformers 4 has a limit of 7 whatever the configuration says.
        yarn(1000.0, 4.0, 256, beta_fast=32.0, beta_slow=1.0, truncate=False), std=0.3, aux=True,
        v4_without=("swiglu_alpha",), v4_with=dict(experts_per_token=2, initial_context_length=256)),
}
