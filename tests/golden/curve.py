"""Golden loss curve: 300 steps of a small Llama on the bytes of curve/text.txt, in plain PyTorch, fp32.

    python tests/golden/curve.py

Needs torch and safetensors. Rewrites curve/{config.json,model.safetensors,fixture.safetensors}; see README.md.
The model is written out here rather than imported, so that it is a second opinion on models.py.
Prints how far an fp64 run of the same steps lies from the fixture.
"""
import json, pathlib
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent / "curve"
D, L, H, K, E, I, V, T, B, STEPS = 64, 2, 4, 2, 16, 128, 256, 64, 4, 300
THETA, EPS, PEAK = 10000.0, 1e-6, 1e-3
WARMUP, STABLE = 20, 220  # steps; then linear decay


def initial():
    torch.manual_seed(0)
    shapes = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
    for l in range(L):
        shapes |= {f"model.layers.{l}.{name}.weight": shape for name, shape in {
            "input_layernorm": (D,), "self_attn.q_proj": (H * E, D), "self_attn.k_proj": (K * E, D),
            "self_attn.v_proj": (K * E, D), "self_attn.o_proj": (D, H * E), "post_attention_layernorm": (D,),
            "mlp.gate_proj": (I, D), "mlp.up_proj": (I, D), "mlp.down_proj": (D, I)}.items()}
    return {n: torch.ones(s) if len(s) == 1 else 0.02 * torch.randn(s) for n, s in shapes.items()}


def learning_rates():
    """Warmup, stable, decay (WSD), step by step, rounded to fp32."""
    lr = [PEAK * (s + 1) / WARMUP if s < WARMUP else PEAK if s < WARMUP + STABLE
          else PEAK * (STEPS - s) / (STEPS - WARMUP - STABLE) for s in range(STEPS)]
    return torch.tensor(lr, dtype=torch.float32)


def batches():
    """Step s, row r: the 65 bytes from (s·4 + r)·65; the first 64 are inputs, the last 64 their labels."""
    text = torch.frombuffer(bytearray((FOLDER / "text.txt").read_bytes()), dtype=torch.uint8)
    return text[:STEPS * B * (T + 1)].view(STEPS, B, T + 1).long()


def rope(x):
    half = THETA ** (-torch.arange(0, E, 2, dtype=torch.float64) / E)
    angle = torch.outer(torch.arange(T, dtype=torch.float64), half)
    c, s = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat([a * c - b * s, b * c + a * s], -1)


def forward(w, ids):
    x = F.embedding(ids, w["model.embed_tokens.weight"])
    split = lambda y, heads: y.view(B, T, heads, E).transpose(1, 2)
    for l in range(L):
        p = lambda name: w[f"model.layers.{l}.{name}.weight"]
        h = F.rms_norm(x, (D,), p("input_layernorm"), EPS)
        q, k = (rope(split(F.linear(h, p(f"self_attn.{n}_proj")), heads)) for n, heads in (("q", H), ("k", K)))
        v = split(F.linear(h, p("self_attn.v_proj")), K)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + F.linear(y.transpose(1, 2).reshape(B, T, H * E), p("self_attn.o_proj"))
        h = F.rms_norm(x, (D,), p("post_attention_layernorm"), EPS)
        x = x + F.linear(F.silu(F.linear(h, p("mlp.gate_proj"))) * F.linear(h, p("mlp.up_proj")), p("mlp.down_proj"))
    return F.linear(F.rms_norm(x, (D,), w["model.norm.weight"], EPS), w["model.embed_tokens.weight"])


def train(dtype):
    w = {n: p.to(dtype).requires_grad_() for n, p in initial().items()}
    plain = lambda n: "norm" in n or "embed" in n  # no decay on norms and the (tied) embedding
    opt = torch.optim.AdamW([dict(params=[p for n, p in w.items() if not plain(n)], weight_decay=0.1),
                             dict(params=[p for n, p in w.items() if plain(n)], weight_decay=0.0)],
                            betas=(0.9, 0.95), eps=1e-8)
    losses, norms = [], []
    for lr, ids in zip(learning_rates().tolist(), batches()):
        for group in opt.param_groups:
            group["lr"] = lr
        opt.zero_grad(set_to_none=True)
        loss = F.cross_entropy(forward(w, ids[:, :-1]).view(-1, V), ids[:, 1:].reshape(-1))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(list(w.values()), 1.0).item())
        opt.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(norms)


torch.set_num_threads(1)
losses, norms = train(torch.float32)
save_file(initial(), FOLDER / "model.safetensors", metadata={"format": "pt"})
save_file({"lr": learning_rates(), "losses": losses.float(), "grad_norms": norms}, FOLDER / "fixture.safetensors")
config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=D, intermediate_size=I,
              num_hidden_layers=L, num_attention_heads=H, num_key_value_heads=K, head_dim=E, vocab_size=V,
              max_position_embeddings=T, rms_norm_eps=EPS, rope_theta=THETA, tie_word_embeddings=True,
              hidden_act="silu", torch_dtype="float32", bos_token_id=None, eos_token_id=None, pad_token_id=None)
(FOLDER / "config.json").write_text(json.dumps(config, indent=2) + "\n")
exact, _ = train(torch.float64)
print("losses", [round(losses[s].item(), 4) for s in (0, 9, 49, 99, 199, 299)],
      f"largest relative deviation from fp64 {((losses - exact).abs() / exact).max().item():.1e}")
