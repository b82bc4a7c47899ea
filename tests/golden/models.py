"""Golden fixtures: what transformers computes for tiny random models of each supported family.

    python tests/golden/models.py [FAMILY ...]

Needs torch, transformers (5.x), safetensors. Rewrites models/<family>/ of the given families, or of all in families.py;
see README.md for the contents. fp32 on one CPU thread, eager attention and experts. Prints how far the same steps with
fp64 weights and products lie from the fixture (transformers keeps norms and softmax in fp32): the size of rounding
errors to expect.
"""
import copy, json, pathlib, shutil, sys, tempfile
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging
from families import FAMILIES

HERE = pathlib.Path(__file__).parent
T, BATCH, STEPS = 32, 2, 10
EAGER = dict(attn_implementation="eager", experts_implementation="eager", dtype=torch.float32)
AUX = 0.1  # the factor of the load-balancing loss in aux_grad


def build(family, config):
    model = AutoModelForCausalLM.from_config(config, **EAGER)
    buffers = [(n, b) for n, b in model.named_buffers() if n in model.state_dict()]
    with torch.no_grad():
        for name, p in [*model.named_parameters(), *buffers]:
            p.normal_(family.norm_mean, 0.2) if "norm" in name else p.normal_(0.0, family.std)
    return model


# ---- what is computed

def loss_of(model, ids):
    """Mean cross-entropy of predicting ids[:, 1:]."""
    logits = model(input_ids=ids, use_cache=False).logits
    return logits, F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def gradients(model, ids):
    model.zero_grad(set_to_none=True)
    logits, loss = loss_of(model, ids)
    loss.backward()
    return logits.detach(), loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}


def aux_gradients(model, ids):
    """The load-balancing loss, and the gradients of loss + AUX * load-balancing loss in the routers."""
    model.zero_grad(set_to_none=True)
    aux = model(input_ids=ids, use_cache=False, output_router_logits=True).aux_loss
    (loss_of(model, ids)[1] + AUX * aux).backward()
    routers = {n: p.grad.clone() for n, p in model.named_parameters() if ".gate." in n or ".router." in n}
    return aux.detach(), routers


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
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0).item())
        opt.step()
        losses.append(loss.item())
    return torch.tensor(losses), torch.tensor(norms)


def packed_masks(config, doc, dtype):
    """What each kind of layer sees: its own document, backwards, and no further than the window."""
    back = torch.arange(T)[:, None] - torch.arange(T)[None, :]
    seen = (doc[:, None] == doc[None, :]) & (back >= 0)
    window = getattr(config, "sliding_window", None)
    near = seen if window is None else seen & (back < window)
    as_mask = lambda seen: torch.zeros(1, 1, T, T, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    if getattr(config, "layer_types", None):
        return dict(full_attention=as_mask(seen), sliding_attention=as_mask(near))
    return as_mask(near)  # without layer_types, a window is that of every layer


def packed(model, ids, ends):
    """Logits of documents that end at `ends` in one row: positions start anew, no token sees another document."""
    position = torch.arange(T)
    doc = torch.searchsorted(torch.tensor(ends), position, right=True)
    starts = torch.tensor([0] + ends[:-1])
    logits = model(input_ids=ids, position_ids=(position - starts[doc])[None],
                   attention_mask=packed_masks(model.config, doc, model.dtype), use_cache=False).logits
    begin = 0
    for end in ends:  # each document alone gives the same
        alone = model(input_ids=ids[:, begin:end], use_cache=False).logits
        torch.testing.assert_close(logits[:, begin:end], alone, rtol=1e-5, atol=1e-5)
        begin = end
    return logits


# ---- what is written

def hub_tensors(model, values=None):
    """`values` of the parameters (or the weights) under the names and in the shapes that save_pretrained gives them."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, state_dict=values)
        return load_file(pathlib.Path(folder) / "model.safetensors")


def v4_config(family, new):
    """The same configuration as transformers 4 spelled it."""
    old = {k: v for k, v in new.items() if k not in ("rope_parameters", "dtype", *family.v4_without)}
    rope = new["rope_parameters"]
    if "full_attention" in rope:
        old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    scaling = {k: v for k, v in rope.items() if k not in ("rope_theta", "rope_type")}
    if scaling:
        scaling[family.v4_type_key] = rope["rope_type"]
    old.update(rope_theta=rope["rope_theta"], rope_scaling=scaling or None, torch_dtype=new["dtype"],
               transformers_version="4.57.0", **family.v4_with)
    return old


def write_configs(folder, family, config):
    config.save_pretrained(folder)
    old = v4_config(family, json.loads((folder / "config.json").read_text()))
    (folder / "config.v4.json").write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")


def fixture(family, model):
    """The tensors of fixture.safetensors; drawn and computed in this order."""
    vocab = model.config.vocab_size
    out = {"input_ids": torch.randint(0, vocab, (BATCH, T))}
    if family.train:
        out["batches"] = torch.randint(0, vocab, (STEPS, BATCH, T + 1))
    if family.packed:
        out |= {"packed.input_ids": torch.randint(0, vocab, (1, T)), "packed.doc_ends": torch.tensor([13, 32])}
    out["logits"], out["loss"], grads = gradients(model, out["input_ids"])
    if family.grads:
        out |= {f"grad.{n}": g for n, g in hub_tensors(model, grads).items()}
    if family.aux:
        out["aux_loss"], routers = aux_gradients(model, out["input_ids"])
        hub = hub_tensors(model, grads | routers)
        out |= {f"aux_grad.{n}": g for n, g in hub.items() if ".gate." in n or ".router." in n}
    if family.packed:
        with torch.no_grad():
            out["packed.logits"] = packed(model, out["packed.input_ids"], out["packed.doc_ends"].tolist())
    if family.train:
        out["losses"], out["grad_norms"] = train(model, out["batches"])
        out |= {f"after10.{n}": p.detach().clone() for n, p in model.named_parameters()}
    return out


# ---- what is checked

def chosen_experts(model, out):
    chosen = []
    hooks = [m.register_forward_hook(lambda _, __, o: chosen.append(o[2].sort(-1).values))
             for m in model.modules() if type(m).__name__.lower().endswith("topkrouter")]
    with torch.no_grad():
        model(input_ids=out["input_ids"], use_cache=False)
        packed(model, out["packed.input_ids"], out["packed.doc_ends"].tolist())
    for hook in hooks:
        hook.remove()
    return torch.cat(chosen) if chosen else torch.zeros(0)


def check_choices(model, out):
    """No choice of experts is so close that rounding could decide it, and every expert is chosen by some token."""
    assert all(g.any() for n, g in out.items() if n.startswith("grad.")), "a gradient is zero"
    want = chosen_experts(model, out)
    for _ in range(8):
        noisy = copy.deepcopy(model)
        with torch.no_grad():
            for p in noisy.parameters():
                p.mul_(1 + 2e-5 * torch.randn_like(p))
        assert torch.equal(want, chosen_experts(noisy, out)), "a choice of experts is close: take another seed"


def check_folder(folder, logits, ids):
    """Either spelling of the configuration loads with the stored weights, all of them, and gives the logits."""
    for name in ("config.json", "config.v4.json"):
        with tempfile.TemporaryDirectory() as copied:
            shutil.copy(folder / name, pathlib.Path(copied) / "config.json")
            shutil.copy(folder / "model.safetensors", copied)
            model, info = AutoModelForCausalLM.from_pretrained(copied, output_loading_info=True, **EAGER)
        assert not any(info.values()), info
        with torch.no_grad():
            got = model(input_ids=ids, use_cache=False).logits
        assert torch.equal(got, logits), f"{folder}: {name} gives other logits"


def report(name, family, out, model):
    """Compares with `model`, whose weights are fp64."""
    rel = lambda a, b: ((a - b).norm() / b.norm()).item()
    logits, _, grads = gradients(model, out["input_ids"])
    parts = [f"logits {((out['logits'] - logits).abs().max() / logits.abs().max()).item():.1e}"]
    if family.grads:
        worst = max((rel(out["grad." + n].double(), g), n) for n, g in hub_tensors(model, grads).items())
        parts.append(f"gradients (relative L2) {worst[0]:.1e} ({worst[1]})")
    text = f"loss {out['loss'].item():.3f}"
    if family.aux:
        parts.append(f"aux loss {rel(out['aux_loss'], aux_gradients(model, out['input_ids'])[0]):.1e}")
        text += f", aux loss {out['aux_loss'].item():.3f}"
    if family.train:
        train(model, out["batches"])
        after = [(out["after10." + n].double(), p.detach()) for n, p in model.named_parameters()]
        parts.append(f"after10 relative L2 {max(rel(a, p) for a, p in after):.1e}, "
                     f"max abs {max((a - p).abs().max().item() for a, p in after):.1e}")
        text += f" -> {out['losses'].tolist()[-1]:.3f}, norms {out['grad_norms'][0].item():.2f}"
    print(f"{name}: fp32 against fp64: {', '.join(parts)}; {text}")


def make(name, family):
    torch.manual_seed(family.seed)
    folder = HERE / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    config = family.build_config()
    model = build(family, config)
    config.architectures = [type(model).__name__]
    write_configs(folder, family, config)
    save_file(hub_tensors(model), folder / "model.safetensors", metadata={"format": "pt"})
    double = copy.deepcopy(model).double()
    untrained = copy.deepcopy(model)
    out = fixture(family, model)
    save_file({k: v.contiguous() for k, v in out.items()}, folder / "fixture.safetensors")
    check_folder(folder, out["logits"], out["input_ids"])
    if family.packed:
        check_choices(untrained, out)
    report(name, family, out, double)


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    for name in sys.argv[1:] or FAMILIES:
        make(name, FAMILIES[name])
