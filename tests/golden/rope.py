"""Golden constants: inverse frequencies and attention factors of every kind of RoPE scaling, and what DeepSeek-V3's
attention makes of a tiny random layer.

    python tests/golden/rope.py

Needs torch, transformers (5.x). Rewrites rope/; see README.md for the contents. The numbers are what transformers
returns, in fp32 on one CPU thread.
"""
import json, pathlib
import torch
from transformers import DeepseekV3Config, PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

HERE = pathlib.Path(__file__).parent

# name: (kind, rotary dim, rope_theta, max_position_embeddings, sequence length or None, settings)
CASES = {
    "linear, Gemma 3": ("linear", 256, 1e6, 131072, None, dict(factor=8.0)),
    "linear, odd factor": ("linear", 20, 5e3, 2048, None, dict(factor=2.5)),
    "dynamic, no length": ("dynamic", 128, 1e4, 2048, None, dict(factor=2.0)),
    "dynamic, short": ("dynamic", 128, 1e4, 2048, 100, dict(factor=2.0)),
    "dynamic, long": ("dynamic", 128, 1e4, 2048, 5000, dict(factor=2.0)),
    "dynamic, very long": ("dynamic", 64, 5e5, 4096, 65536, dict(factor=8.0)),
    "yarn, DeepSeek-V3": ("yarn", 64, 1e4, 163840, None, dict(
        factor=40.0, original_max_position_embeddings=4096, beta_fast=32.0, beta_slow=1.0, mscale=1.0,
        mscale_all_dim=1.0)),
    "yarn, two weights": ("yarn", 64, 1e4, 163840, None, dict(
        factor=40.0, original_max_position_embeddings=4096, mscale=1.0, mscale_all_dim=0.707)),
    "yarn, one weight": ("yarn", 64, 1e4, 163840, None, dict(
        factor=40.0, original_max_position_embeddings=4096, mscale=0.707)),
    "yarn, gpt-oss": ("yarn", 64, 15e4, 131072, None, dict(
        factor=32.0, original_max_position_embeddings=4096, beta_fast=32.0, beta_slow=1.0, truncate=False)),
    "yarn, Qwen3": ("yarn", 128, 1e6, 131072, None, dict(factor=4.0, original_max_position_embeddings=32768)),
    "yarn, SmolLM3": ("yarn", 128, 5e6, 131072, None, dict(factor=2.0, original_max_position_embeddings=65536)),
    "yarn, given factor": ("yarn", 32, 1e4, 8192, None, dict(
        factor=4.0, original_max_position_embeddings=2048, attention_factor=1.25, beta_fast=16.0, beta_slow=2.0)),
    "yarn, ramp of no length": ("yarn", 64, 1e4, 32, None, dict(factor=4.0, original_max_position_embeddings=6)),
    "yarn, ramp upside down": ("yarn", 64, 1e4, 32, None, dict(factor=4.0, original_max_position_embeddings=4)),
    "llama3, Llama 3.1": ("llama3", 128, 5e5, 131072, None, dict(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)),
    "llama3, Llama 3.2": ("llama3", 64, 5e5, 131072, None, dict(
        factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)),
    "llama3, small": ("llama3", 16, 1e4, 1024, None, dict(
        factor=4.0, low_freq_factor=0.5, high_freq_factor=8.0, original_max_position_embeddings=256)),
}


def case(name, kind, dim, theta, longest, length, settings):
    config = PreTrainedConfig()
    config.head_dim, config.hidden_size, config.num_attention_heads = dim, dim, 1
    config.max_position_embeddings = longest
    config.rope_parameters = dict(rope_type=kind, rope_theta=theta, **settings)
    inv_freq, factor = ROPE_INIT_FUNCTIONS[kind](config, seq_len=length)
    return dict(name=name, kind=kind, dim=dim, rope_theta=theta, max_position_embeddings=longest, length=length,
                settings=settings, inv_freq=inv_freq.tolist(), attention_factor=float(factor))


def latent_attention(interleave):
    """One layer on one document, without its output projection (which is the identity)."""
    n, hidden, heads, nope, rope, value, rank = 7, 12, 2, 3, 6, 6, 5
    yarn = dict(rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=16, mscale=1.0,
                mscale_all_dim=0.5)
    config = DeepseekV3Config(
        hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads, q_lora_rank=None, kv_lora_rank=rank,
        qk_nope_head_dim=nope, qk_rope_head_dim=rope, v_head_dim=value, max_position_embeddings=64,
        rope_interleave=interleave, rope_parameters=yarn, attn_implementation="eager", num_hidden_layers=1)
    layer = DeepseekV3Attention(config, 0).eval()
    with torch.no_grad():
        for name, p in layer.named_parameters():
            p.normal_(1.0, 0.2) if "norm" in name else p.normal_(0.0, 0.6)
        layer.o_proj.weight.copy_(torch.eye(hidden))
        x = torch.randn(1, n, hidden)
        cos_sin = DeepseekV3RotaryEmbedding(config)(x, torch.arange(n)[None])
        mask = torch.full((n, n), float("-inf")).triu(1)[None, None]
        out, _ = layer(x, cos_sin, mask)
    weights = {k: p.flatten().tolist() for k, p in layer.named_parameters() if k != "o_proj.weight"}
    return dict(n=n, hidden=hidden, heads=heads, nope=nope, rope=rope, value=value, rank=rank, eps=1e-6,
                interleave=interleave, rope_parameters=yarn, x=x.flatten().tolist(), out=out.flatten().tolist(),
                weights=weights)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    (HERE / "rope").mkdir(exist_ok=True)
    cases = [case(name, *rest) for name, rest in CASES.items()]
    lines = ",\n".join(json.dumps(c) for c in cases)
    layers = ",\n".join(json.dumps(latent_attention(interleave)) for interleave in (False, True))
    (HERE / "rope" / "latent.json").write_text(f'{{"format_version": 1, "layers": [\n{layers}\n]}}\n')
    (HERE / "rope" / "fixture.json").write_text(f'{{"format_version": 1, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
