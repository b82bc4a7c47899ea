"""Training speed of smolt and PyTorch on the same model shape, in the same minutes on the same machine.

    cargo build --release
    python bench/peers/run.py --rounds 5 --dtype fp32 [--peer eager --peer default --peer max-autotune]

Runs `smolt bench train` and torch_train_step.py one after the other, N rounds, each round in the opposite order of
the one before, so that a drift of the machine's clock meets both. Prints medians and ratios and writes everything
measured to bench/results/<date>-<cpu>.json. Run nothing else meanwhile. PyTorch gets tcmalloc where it is installed.
"""
import argparse, datetime, glob, json, os, pathlib, platform, re, statistics, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPE = dict(dim=256, layers=6, vocab=4096, seq=256, batch=16, heads=0, kv_heads=0, ffn=0)


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--smolt", default=str(ROOT / "target/release/smolt"), help="the binary")
    a.add_argument("--peer", action="append", choices=["eager", "default", "max-autotune"],
                   help="PyTorch eager or a mode of torch.compile; may be repeated (eager)")
    a.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--out", help="result file")
    for name, default in (SHAPE | dict(steps=8, warmup=3, threads=os.cpu_count())).items():
        a.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    a = a.parse_args()
    # Spelled out for both, by the rules of torch_train_step.py.
    a.heads = a.heads or max(4, a.dim // 64)
    a.kv_heads = a.kv_heads or (a.heads // 3 if a.heads % 3 == 0 else max(1, a.heads // 2))
    a.ffn = a.ffn or -(-a.dim * 8 // 3 // 32) * 32
    return a


def commands(a):
    common = ["--dtype", a.dtype]
    for name in [*SHAPE, "steps", "warmup", "threads"]:
        common += ["--" + name.replace("_", "-"), str(getattr(a, name))]
    yield "smolt", [a.smolt, "bench", "train", "--json", *common]
    for peer in a.peer or ["eager"]:
        compiled = [] if peer == "eager" else ["--compile", "--compile-mode", peer]
        yield f"pytorch {peer}", [sys.executable, str(ROOT / "bench/peers/torch_train_step.py"), *common, *compiled]


def measure(name, command):
    env = dict(os.environ)
    allocators = glob.glob("/usr/lib/*/libtcmalloc_minimal.so.4")
    if name != "smolt" and allocators:
        env["LD_PRELOAD"] = allocators[0]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return json.loads(lines[-1]) | dict(tcmalloc="LD_PRELOAD" in env and name != "smolt")


def cpu_name():
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text()
        return re.search(r"model name\s*:\s*(.*)", info)[1].strip()
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def table(runs, params_of):
    speed = {name: [run["tokens_per_s"] for run in found] for name, found in runs.items()}
    print(f"{'':24}{'tokens/s':>10}{'min':>10}{'max':>10}{'RSS MiB':>9}{'smolt/peer':>12}{'min':>7}{'max':>7}")
    for name, found in runs.items():
        s = speed[name]
        rss = max(run["peak_rss_mib"] for run in found)
        line = f"{name:24}{statistics.median(s):10.0f}{min(s):10.0f}{max(s):10.0f}{rss:9}"
        if name != "smolt":
            ratios = [x / y for x, y in zip(speed["smolt"], s)]
            line += f"{statistics.median(ratios):12.2f}{min(ratios):7.2f}{max(ratios):7.2f}"
        print(line)
    if len(set(params_of.values())) > 1:
        sys.exit(f"not the same model: parameters {params_of}")


def main():
    a = arguments()
    runs = {}
    for round_ in range(a.rounds):
        order = list(commands(a))
        for name, command in order if round_ % 2 == 0 else reversed(order):
            runs.setdefault(name, []).append(measure(name, command))
            print(f"round {round_ + 1}: {name} {runs[name][-1]['tokens_per_s']} tokens/s", file=sys.stderr)
    revision = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    today = datetime.date.today().isoformat()
    cpu = cpu_name()
    out = pathlib.Path(a.out or ROOT / "bench/results" / f"{today}-{re.sub(r'[^a-z0-9]+', '-', cpu.lower()).strip('-')}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    shape = {name: getattr(a, name) for name in SHAPE}
    record = dict(format_version=1, date=today, cpu=cpu, threads=a.threads, revision=revision.stdout.strip(),
                  python=platform.python_version(), dtype=a.dtype, shape=shape, rounds=a.rounds, runs=runs)
    earlier = json.loads(out.read_text()) if out.exists() else []
    out.write_text(json.dumps(earlier + [record], indent=1) + "\n")
    order = sorted(runs, key=lambda name: name != "smolt")
    table({name: runs[name] for name in order}, {name: runs[name][0]["params"] for name in order})
    print(f"written: {out}")


main()
