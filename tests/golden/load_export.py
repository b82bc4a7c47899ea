"""Checks by hand that transformers loads an exported folder and computes the same logits.

    smolt generate --model DIR --prompt TEXT --max-tokens 0 --dump-logits FILE.safetensors
    python tests/golden/load_export.py DIR --prompt TEXT --logits FILE.safetensors

Without --logits it prints the most likely next tokens only. Exits with 1 when the logits differ by more than --tolerance.
"""
import argparse, sys
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

a = argparse.ArgumentParser()
a.add_argument("dir")
a.add_argument("--prompt", default="Once upon a time")
a.add_argument("--logits", help="safetensors file with `logits` [seq, vocab]")
a.add_argument("--tolerance", type=float, default=1e-4, help="on max|difference| / max|logit|")
a = a.parse_args()

tokenizer = AutoTokenizer.from_pretrained(a.dir)
model = AutoModelForCausalLM.from_pretrained(a.dir, dtype=torch.float32, attn_implementation="eager").eval()
print(type(model).__name__, f"{sum(p.numel() for p in model.parameters()):,} parameters")
print("rope:", model.config.rope_parameters, "no_rope_layers:", getattr(model.config, "no_rope_layers", None))

ids = tokenizer(a.prompt, return_tensors="pt").input_ids
assert ids.max() < model.config.vocab_size, "the tokenizer has ids beyond the model's vocabulary"
print("prompt ids:", ids[0].tolist(), "decoded:", repr(tokenizer.decode(ids[0])))
with torch.no_grad():
    logits = model(input_ids=ids).logits[0]
top = logits[-1].softmax(-1).topk(5)
for p, i in zip(top.values.tolist(), top.indices.tolist()):
    print(f"  next {tokenizer.decode([i])!r}: logit {logits[-1, i].item():.4f}, probability {p:.4f}")

if tokenizer.chat_template:
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Bye"}]
    print("chat:", repr(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)))
    masked = tokenizer.apply_chat_template(chat[:2], tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    kept = [i for i, m in zip(masked["input_ids"], masked["assistant_masks"]) if m]
    print("trained on:", repr(tokenizer.decode(kept)))
else:
    print("no chat template")

if a.logits:
    theirs = load_file(a.logits)["logits"].float()
    if theirs.shape != logits.shape:
        sys.exit(f"logits have shape {list(theirs.shape)}, transformers gives {list(logits.shape)}")
    error = ((theirs - logits).abs().max() / logits.abs().max()).item()
    print(f"max|difference| / max|logit| = {error:.2e}")
    sys.exit(0 if error <= a.tolerance else f"above {a.tolerance}")
