"""Golden fixtures: what transformers computes for tiny random models of each supported family.

    python tests/golden/models.py

Needs torch, transformers (5.x), safetensors. Rewrites models/<family>/; see README.md for the contents.
fp32 on one CPU thread, eager attention. Prints how far the same steps with fp64 weights and products lie from
the fixture (transformers keeps norms and softmax in fp32): the size of rounding errors to expect.
"""
import copy, json, pathlib
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, SmolLM3Config

HERE = pathlib.Path(__file__).parent
V, T, BATCH, STEPS = 160, 32, 2, 10
# num_attention_heads * head_dim = 64 is not hidden_size, so that mistaking one for the other shows.
SHAPE = dict(vocab_size=V, hidden_size=48, intermediate_size=80, num_hidden_layers=4, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=64, rms_norm_eps=1e-5,
             bos_token_id=None, eos_token_id=2, pad_token_id=None, use_cache=True)
FAMILIES = {
    "llama": (LlamaConfig, dict(tie_word_embeddings=False), 10000.0),
    # 1 means RoPE: layer 1 has none.
    "smollm3": (SmolLM3Config, dict(tie_word_embeddings=True, no_rope_layers=[1, 0, 1, 1]), 5000.0),
}


def build(config):
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    for name, p in model.named_parameters():
        with torch.no_grad():
            p.normal_(1.0, 0.2) if "norm" in name else p.normal_(0.0, 0.1)
    return model


def loss_of(model, ids):
    """Mean cross-entropy of predicting ids[:, 1:]."""
    logits = model(input_ids=ids, use_cache=False).logits
    return logits, F.cross_entropy(logits[:, :-1].reshape(-1, V), ids[:, 1:].reshape(-1))


def is_linear(name):
    """Weight decay applies to linear weights and an untied head; not to embeddings and norms."""
    return not ("norm" in name or "embed_tokens" in name)


def train(model, batches):
    named = list(model.named_parameters())
    groups = [dict(params=[p for n, p in named if is_linear(n)], weight_decay=0.1),
              dict(params=[p for n, p in named if not is_linear(n)], weight_decay=0.0)]
    opt = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    losses, norms = [], []
    for ids in batches:
        opt.zero_grad(set_to_none=True)
        # 33 ids: 32 inputs, each with the next as its label.
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.reshape(-1, V), ids[:, 1:].reshape(-1))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0).item())
        opt.step()
        losses.append(loss.item())
    return torch.tensor(losses), torch.tensor(norms)


def packed(model, ids, ends):
    """Logits of documents that end at `ends` in one row: positions start anew, no token sees another document."""
    position = torch.arange(T)
    doc = torch.searchsorted(torch.tensor(ends), position, right=True)
    starts = torch.tensor([0] + ends[:-1])
    seen = (doc[:, None] == doc[None, :]) & (position[:, None] >= position[None, :])
    mask = torch.zeros(1, 1, T, T, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)
    logits = model(input_ids=ids, position_ids=(position - starts[doc])[None], attention_mask=mask,
                   use_cache=False).logits
    begin = 0
    for end in ends:  # each document alone gives the same
        alone = model(input_ids=ids[:, begin:end], use_cache=False).logits
        torch.testing.assert_close(logits[:, begin:end], alone, rtol=1e-5, atol=1e-5)
        begin = end
    return logits


def write_configs(folder, config):
    config.save_pretrained(folder)
    new = json.loads((folder / "config.json").read_text())
    old = {k: v for k, v in new.items() if k not in ("rope_parameters", "dtype")}
    old.update(rope_theta=new["rope_parameters"]["rope_theta"], rope_scaling=None, torch_dtype=new["dtype"],
               transformers_version="4.57.0")
    (folder / "config.v4.json").write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")


def main():
    torch.set_num_threads(1)
    for family, (cls, extra, theta) in FAMILIES.items():
        torch.manual_seed(0)
        folder = HERE / "models" / family
        folder.mkdir(parents=True, exist_ok=True)
        config = cls(**SHAPE, **extra, rope_parameters=dict(rope_type="default", rope_theta=theta), dtype="float32")
        model = build(config)
        config.architectures = [type(model).__name__]
        write_configs(folder, config)
        weights = {n: p.detach().clone() for n, p in model.named_parameters()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

        out = {"input_ids": torch.randint(0, V, (BATCH, T)), "batches": torch.randint(0, V, (STEPS, BATCH, T + 1)),
               "packed.input_ids": torch.randint(0, V, (1, T)), "packed.doc_ends": torch.tensor([13, 32])}
        double = copy.deepcopy(model).double()
        logits, loss = loss_of(model, out["input_ids"])
        loss.backward()
        out |= {"logits": logits.detach(), "loss": loss.detach()}
        out |= {f"grad.{n}": p.grad.clone() for n, p in model.named_parameters()}
        with torch.no_grad():
            out["packed.logits"] = packed(model, out["packed.input_ids"], out["packed.doc_ends"].tolist())
        out["losses"], out["grad_norms"] = train(model, out["batches"])
        out |= {f"after10.{n}": p.detach().clone() for n, p in model.named_parameters()}
        save_file({k: v.contiguous() for k, v in out.items()}, folder / "fixture.safetensors")
        report(family, out, double)


def report(family, out, model):
    logits, loss = loss_of(model, out["input_ids"])
    loss.backward()
    worst = lambda prefix, f: max(f(out[prefix + n].double(), p) for n, p in model.named_parameters())
    rel = lambda a, b: ((a - b).norm() / b.norm()).item()
    grad = worst("grad.", lambda a, p: rel(a, p.grad))
    train(model, out["batches"])
    print(f"{family}: fp32 against fp64: logits {((out['logits'] - logits).abs().max() / logits.abs().max()).item():.1e},",
          f"gradients (relative L2) {grad:.1e},",
          f"after10 relative L2 {worst('after10.', lambda a, p: rel(a, p.detach())):.1e},",
          f"max abs {worst('after10.', lambda a, p: (a - p.detach()).abs().max().item()):.1e};",
          f"loss {out['loss'].item():.3f} -> {out['losses'].tolist()[-1]:.3f}, norms {out['grad_norms'][0].item():.2f}")


main()
