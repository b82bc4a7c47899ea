"""Training speed of smolt and PyTorch on the same model shape, in the same minutes on the same machine.

    cargo build --release
    python bench/peers/run.py --rounds 5 --dtype fp32 [--peer eager --peer default --peer max-autotune]

Runs `smolt bench train` and torch_train_step.py one after the other, N rounds, each round in the opposite order of
the one before, so that a drift of the machine's clock meets both. Prints medians and ratios and writes everything
measured to bench/results/<date>-<cpu>.json. PyTorch gets tcmalloc where it is installed.

Run nothing else meanwhile: on a busy machine PyTorch's spinning threads collapse (two runs of the very same script
were seen to differ by 3.5). So the CPU time that others took during each run is measured, and above 5 % the result is
marked `disturbed`, kept out of bench/results, and the exit code is 1. `--smolt pytorch` puts torch_train_step.py in
smolt's place: its ratio to itself must be about 1, or nothing measured here counts.
"""
import argparse, datetime, glob, json, os, pathlib, platform, re, resource, statistics, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = [sys.executable, str(ROOT / "bench/peers/torch_train_step.py")]
QUIET = 0.05  # share of the machine's CPU time that others may take during a run
SHAPE = dict(dim=256, layers=6, vocab=4096, seq=256, batch=16, heads=0, kv_heads=0, ffn=0)


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--smolt", default=str(ROOT / "target/release/smolt"), help="the binary, or `pytorch` for a control")
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
    yield "smolt", [*(PEER if a.smolt == "pytorch" else [a.smolt, "bench", "train", "--json"]), *common]
    for peer in a.peer or ["eager"]:
        compiled = [] if peer == "eager" else ["--compile", "--compile-mode", peer]
        yield f"pytorch {peer}", [*PEER, *common, *compiled]


def busy_seconds():
    """CPU seconds of the whole machine so far, stolen ones included; None where /proc/stat is missing."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, open("/proc/stat").readline().split()[1:9])
    except OSError:
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def measure(name, command):
    env = dict(os.environ)
    allocators = glob.glob("/usr/lib/*/libtcmalloc_minimal.so.4")
    if name != "smolt" and allocators:
        env["LD_PRELOAD"] = allocators[0]
    own = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    busy, cpu, wall = busy_seconds(), own(), time.monotonic()
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    cpu, wall = own() - cpu, time.monotonic() - wall
    others = None if busy is None else round(max(0.0, busy_seconds() - busy - cpu) / (wall * os.cpu_count()), 3)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return json.loads(lines[-1]) | dict(tcmalloc=name != "smolt" and bool(allocators), others_cpu=others)


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
            last = runs[name][-1]
            print(f"round {round_ + 1}: {name} {last['tokens_per_s']} tokens/s, others {last['others_cpu']}", file=sys.stderr)
    worst = [run["others_cpu"] for found in runs.values() for run in found]
    # Where it cannot be measured, it is not claimed to be quiet.
    disturbed = None in worst or max(worst) > QUIET
    revision = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    control = a.smolt == "pytorch"
    today = datetime.date.today().isoformat()
    cpu = cpu_name()
    out = pathlib.Path(a.out or ROOT / "bench/results" / f"{today}-{re.sub(r'[^a-z0-9]+', '-', cpu.lower()).strip('-')}.json")
    shape = {name: getattr(a, name) for name in SHAPE}
    record = dict(format_version=1, date=today, cpu=cpu, threads=a.threads, revision=revision.stdout.strip(),
                  python=platform.python_version(), dtype=a.dtype, shape=shape, rounds=a.rounds,
                  control=control, disturbed=disturbed, runs=runs)
    order = sorted(runs, key=lambda name: name != "smolt")
    table({name: runs[name] for name in order}, {name: runs[name][0]["params"] for name in order})
    if control:
        print("control: both sides are torch_train_step.py")
    if a.out or not (disturbed or control):
        out.parent.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(out.read_text()) if out.exists() else []
        out.write_text(json.dumps(earlier + [record], indent=1) + "\n")
        print(f"written: {out}")
    if disturbed:
        sys.exit("disturbed: others used the CPU, or it could not be told; these figures are no evidence")


main()
