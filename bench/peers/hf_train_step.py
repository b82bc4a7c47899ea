"""One training step of the model of a config.json, as transformers has it, on the CPU, timed.

    python hf_train_step.py --config ../models/qwen3-moe.json --dtype bf16 [--compile] --seq 2048 --batch 1

Prints one JSON line. SDPA attention, fp32 parameters, autocast for bf16, clip 1.0, fused AdamW.
"""
import argparse, json, pathlib, resource, statistics, tempfile, time
import torch, torch.nn.functional as F
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

a = argparse.ArgumentParser()
a.add_argument("--config", required=True)
a.add_argument("--dtype", choices=["fp32", "bf16"], default="bf16")
a.add_argument("--compile", action="store_true")
a.add_argument("--compile-mode", default="default", help="default or max-autotune")
for name, default in dict(seq=2048, batch=1, steps=5, warmup=2, threads=0).items():
    a.add_argument("--" + name, type=int, default=default)
a = a.parse_args()
if a.threads: torch.set_num_threads(a.threads)
torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "config.json").write_text(pathlib.Path(a.config).read_text())
    config = AutoConfig.from_pretrained(folder)
model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
params = sum(p.numel() for p in model.parameters())
opt = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
V = config.vocab_size
x, y = torch.randint(0, V, (a.batch, a.seq)), torch.randint(0, V, (a.batch, a.seq))


def loss_of(x, y):
    logits = model(input_ids=x, use_cache=False).logits
    return F.cross_entropy(logits.float().view(-1, V), y.view(-1))


run = torch.compile(loss_of, mode=a.compile_mode) if a.compile else loss_of


def step():
    opt.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.dtype == "bf16"):
        loss = run(x, y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    return loss.item()


for _ in range(a.warmup): step()
times = []
for _ in range(a.steps):
    t = time.perf_counter(); step(); times.append(time.perf_counter() - t)
s = statistics.median(times)
print(json.dumps(dict(peer=f"transformers {transformers.__version__}, pytorch {torch.__version__}", dtype=a.dtype,
                      compile=a.compile and a.compile_mode, params=params, threads=torch.get_num_threads(),
                      tokens_per_s=round(a.batch * a.seq / s, 1), ms_per_step=round(s * 1e3, 1),
                      peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)))
