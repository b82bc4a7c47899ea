"""Training speed of smolt and PyTorch on the same model shapes, in the same minutes on the same machine.

    cargo build --release
    python bench/peers/run.py --row 5.5M-bf16 [--row 5.5M-fp32 --row 135M-bf16 --row 135M-T2048-bf16 | --row all]
    python bench/peers/run.py --trainer        # smolt train, with loader, masks and logs, against smolt bench train
    python bench/peers/run.py --architectures  # smolt on bench/models/: each kind of model against the dense one

Runs `smolt bench train` and torch_train_step.py, eager and in two modes of torch.compile, one after the other, N
rounds, each round in the opposite order of the one before, so that a drift of the machine's clock meets all. Rows named
after a model family run hf_train_step.py instead, the same model as transformers has it. Prints a table, and writes it
and everything measured to bench/results/<date>-<cpu>.md and .json. PyTorch gets tcmalloc where it is installed.

Run nothing else meanwhile: on a busy machine PyTorch's spinning threads collapse (two runs of the very same script
were seen to differ by 3.5). So the CPU time that others took during each run is measured, and above 5 % the result is
marked `disturbed`, kept out of bench/results, and the exit code is 1. `--smolt pytorch` puts torch_train_step.py in
smolt's place: its ratio to itself must be about 1, or nothing measured here counts.
"""
import argparse, datetime, glob, json, os, pathlib, platform, re, resource, shlex, statistics, struct, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
script = lambda name: [sys.executable, str(ROOT / "bench/peers" / name)]
PEER, PEER_OF_CONFIG = script("torch_train_step.py"), script("hf_train_step.py")
EAGER = ["eager"]
PEERS = [*EAGER, "default", "max-autotune"]
QUIET = 0.05  # share of the machine's CPU time that others may take during a run
SMALL = dict(dim=256, layers=6, vocab=4096, seq=256, batch=16, heads=4, kv_heads=2, ffn=704, steps=8, warmup=3)
LARGE = dict(dim=576, layers=30, vocab=49152, seq=512, batch=4, heads=9, kv_heads=3, ffn=1536, steps=3, warmup=2)
OF_CONFIG = dict(dtype="bf16", seq=2048, batch=1, steps=8, warmup=3)
ARCHITECTURES = ["dense", "sliding", "latent", "experts"]
ROWS = {
    "5.5M-bf16": dict(SMALL, dtype="bf16"),
    "5.5M-fp32": dict(SMALL, dtype="fp32"),
    "135M-bf16": dict(LARGE, dtype="bf16"),
    "135M-T2048-bf16": dict(LARGE, dtype="bf16", seq=2048, batch=1),
    "llama-25M-bf16": dict(OF_CONFIG, config="bench/models/dense.json"),
    "qwen3-moe-25M-bf16": dict(OF_CONFIG, config="bench/models/qwen3-moe.json"),
}


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--row", action="append", choices=[*ROWS, "all"], help="may be repeated (5.5M-bf16)")
    a.add_argument("--trainer", action="store_true", help="measure smolt train instead of the rows")
    a.add_argument("--architectures", action="store_true", help="measure models of bench/models/ instead of the rows")
    a.add_argument("--smolt", default=str(ROOT / "target/release/smolt"), help="the binary, or `pytorch` for a control")
    a.add_argument("--peer", action="append", choices=PEERS, help="may be repeated (all three)")
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--threads", type=int, default=os.cpu_count())
    a.add_argument("--steps", type=int, help="timed steps instead of the row's (with --trainer: 60)")
    a.add_argument("--out", help="result file, .json; the table goes beside it")
    a = a.parse_args()
    a.row = list(ROWS) if "all" in (a.row or []) else a.row or ["5.5M-bf16"]
    a.peer = a.peer or PEERS
    a.smolt = a.smolt if a.smolt == "pytorch" else str(pathlib.Path(a.smolt).resolve())
    return a


def flags(settings):
    return [part for name, value in settings.items() for part in ("--" + name.replace("_", "-"), str(value))]


def commands(a, row):
    settings = ROWS[row] | dict(threads=a.threads)
    if a.steps:
        settings["steps"] = a.steps
    common, pytorch = flags(settings), PEER_OF_CONFIG if "config" in settings else PEER
    yield "smolt", [*(pytorch if a.smolt == "pytorch" else [a.smolt, "bench", "train", "--json"]), *common]
    for peer in EAGER if "moe" in row else a.peer:
        compiled = [] if peer == "eager" else ["--compile", "--compile-mode", peer]
        yield f"pytorch {peer}", [*pytorch, *common, *compiled]


def busy_seconds():
    """CPU seconds of the whole machine so far, stolen ones included; None where /proc/stat is missing."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, open("/proc/stat").readline().split()[1:9])
    except OSError:
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def timed(name, command, read):
    """What `read` finds in the run of a command, and how much CPU others took meanwhile."""
    env = dict(os.environ)
    allocators = glob.glob("/usr/lib/*/libtcmalloc_minimal.so.4")
    tcmalloc = name.startswith("pytorch") and bool(allocators)
    if tcmalloc:
        env["LD_PRELOAD"] = allocators[0]
    own = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    busy, cpu, wall = busy_seconds(), own(), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    cpu, wall = own() - cpu, time.monotonic() - wall
    others = None if busy is None else round(max(0.0, busy_seconds() - busy - cpu) / (wall * os.cpu_count()), 3)
    result = None if done.returncode else read(done.stdout)
    if result is None:
        sys.exit(f"{shlex.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return result | dict(tcmalloc=tcmalloc, others_cpu=others)


def last_json(text):
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else None


def rounds_of(count, entries, title):
    """Runs every (name, command, reader) `count` times, every other round backwards."""
    runs = {}
    for round_ in range(count):
        for name, command, read in entries if round_ % 2 == 0 else reversed(entries):
            runs.setdefault(name, []).append(timed(name, command, read))
            last = runs[name][-1]
            print(f"{title}, round {round_ + 1}: {name} {last['tokens_per_s']} tokens/s, others {last['others_cpu']}",
                  file=sys.stderr, flush=True)
    return {name: runs[name] for name, _, _ in entries}


def disturbed(runs):
    worst = [run["others_cpu"] for found in runs.values() for run in found]
    # Where it cannot be measured, it is not claimed to be quiet.
    return None in worst or max(worst) > QUIET


def speeds(runs, name):
    return [run["tokens_per_s"] for run in runs[name]]


def ratios(runs, name, peer):
    return [x / y for x, y in zip(speeds(runs, name), speeds(runs, peer))]


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def line_of_row(row, runs):
    """A line of the Markdown table: against the best compiled peer, else against what was run."""
    params = {name: found[0]["params"] for name, found in runs.items()}
    if len(set(params.values())) > 1:
        sys.exit(f"not the same model: parameters {params}")
    peers = [name for name in runs if name != "smolt"]
    best = max([p for p in peers if p != "pytorch eager"] or peers, key=lambda p: statistics.median(speeds(runs, p)))
    rss = lambda name: max(run["peak_rss_mib"] for run in runs[name])
    memory, eager = f"{rss('smolt')} MiB", "pytorch eager"
    if eager in runs:
        memory += f" of {rss(eager)} ({rss('smolt') / rss(eager):.0%})"
    share = [run["peak_fraction"] for run in runs["smolt"] if "peak_fraction" in run]
    median = lambda name: f"{statistics.median(speeds(runs, name)):.0f}"
    each = ", ".join(f"{name.removeprefix('pytorch ')} {median(name)}" for name in peers)
    return [row, median("smolt"), f"{statistics.median(share):.0%}" if share else "–", f"{median(best)} ({best.split()[-1]})",
            spread(ratios(runs, "smolt", best)), memory, each]


HEADER = ["row", "smolt tokens/s", "of register peak", "best PyTorch tokens/s", "smolt / PyTorch (min–max of rounds)",
          "peak memory, smolt of eager", "PyTorch, all tokens/s"]


def markdown(header, lines):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *lines])


def write(a, records, header, lines):
    """The table on standard output; table and raw numbers in files where nothing disturbed them, else False."""
    table = markdown(header, lines)
    print(table)
    cpu, today = cpu_name(), datetime.date.today().isoformat()
    bad, control = any(record["disturbed"] for record in records), a.smolt == "pytorch"
    revision = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    about = dict(format_version=2, date=today, cpu=cpu, threads=a.threads, revision=revision.stdout.strip(),
                 python=platform.python_version(), rounds=a.rounds, control=control,
                 command=shlex.join(["python", "bench/peers/run.py", *sys.argv[1:]]))
    if control:
        print("control: both sides are torch_train_step.py")
    if a.out or not (bad or control):
        name = f"{today}-{re.sub(r'[^a-z0-9]+', '-', cpu.lower()).strip('-')}.json"
        out = pathlib.Path(a.out or ROOT / "bench/results" / name)
        out.parent.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(out.read_text()) if out.exists() else []
        out.write_text(json.dumps(earlier + [about | record for record in records], indent=1) + "\n")
        versions = ", ".join(sorted({run["peer"] for record in records for found in record["runs"].values()
                                     for run in found if "peer" in run}))
        mark = "\n**Disturbed: others used the CPU; no evidence.**\n" if bad else ""
        text = (f"## {about['command']}\n{mark}\n{table}\n\n{today}, {cpu}, {a.threads} threads, {a.rounds} rounds in turns; "
                f"{versions}; smolt at {about['revision']}; Python {about['python']}. "
                f"Every round is in `{out.name}`.\n")
        page = out.with_suffix(".md")
        page.write_text((page.read_text() + "\n" if page.exists() else "") + text)
        print(f"written: {out}, {page}")
    if bad:
        print("disturbed: others used the CPU, or it could not be told; these figures are no evidence", file=sys.stderr)
    return not bad


def cpu_name():
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text()
        return re.search(r"model name\s*:\s*(.*)", info)[1].strip()
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


RECIPE = """
[model]
model_type = "llama"
vocab_size = {vocab}
hidden_size = {dim}
intermediate_size = {ffn}
num_hidden_layers = {layers}
num_attention_heads = {heads}
num_key_value_heads = {kv_heads}
no_rope_layer_interval = 0
[data]
tokenizer = "tokenizer/base"
sources = [{{ name = "prose", path = "prose.ds" }}]
[train]
train_steps = {steps}
sequence_length = {seq}
global_batch_size = {batch}
micro_batch_size = {batch}
precision = "{dtype}"
checkpoint_interval = 0
validation_interval = 0
"""


def prepare(a, folder, settings):
    """Corpus, tokenizer and shard of the bundled prose, and the recipe."""
    call = lambda *args: subprocess.run([a.smolt, *args], cwd=folder, check=True, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
    call("data", "corpus", "--out", "corpus")
    prose = "corpus/prose.train.jsonl"
    call("tokenizer", "train", prose, "--vocab-size", str(settings["vocab"]), "--out", "tokenizer")
    call("data", "tokenize", prose, "--tokenizer", "tokenizer/base", "--out", "prose.ds")
    (folder / "recipe.toml").write_text(RECIPE.format(**settings))


def stamps_of(events):
    """Wall time of each event of a TensorBoard file but the first, which is its header."""
    stamps, at = [], 0
    while at < len(events):
        (length,) = struct.unpack_from("<Q", events, at)
        stamps.append(struct.unpack_from("<d", events, at + 13)[0])  # behind length, checksum and field tag
        at += length + 16
    return stamps[1:]


def architectures(a):
    """What smolt makes of the machine on each kind of model, beside a dense one of about the same size."""
    entry = lambda name: [a.smolt, "bench", "train", "--json",
                          *flags(OF_CONFIG | dict(config=f"bench/models/{name}.json", threads=a.threads))]
    runs = rounds_of(a.rounds, [(name, entry(name), last_json) for name in ARCHITECTURES], "architectures")
    gflops = {name: [run["gflops"] for run in found] for name, found in runs.items()}
    lines = [[name, f"{runs[name][0]['params']:,}", f"{statistics.median(speeds(runs, name)):.0f}",
              f"{statistics.median(gflops[name]):.0f}", spread([x / y for x, y in zip(gflops[name], gflops["dense"])])]
             for name in runs]
    settings = OF_CONFIG | dict(threads=a.threads)
    records = [dict(row="architectures", kind="architectures", disturbed=disturbed(runs), settings=settings, runs=runs)]
    return write(a, records, ["model", "parameters", "tokens/s", "GFLOP/s", "of dense (min–max of rounds)"], lines)


def trainer(a):
    """`smolt train` with everything on against `smolt bench train`, both at their median step."""
    records, lines = [], []
    for row in [row for row in a.row if row.startswith("5.5M")]:
        settings = ROWS[row] | dict(steps=a.steps or 60)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            prepare(a, folder, settings)
            run, tokens = folder / "run", settings["seq"] * settings["batch"]

            def read(_):
                # From log line to log line: what a step's own time leaves out is in it.
                stamps = stamps_of(next((run / "tensorboard").iterdir()).read_bytes())
                times = [after - before for before, after in zip(stamps, stamps[1:])][settings["warmup"]:]
                return dict(tokens_per_s=round(tokens / statistics.median(times), 1), steps=len(times))

            train = shlex.join([a.smolt, "train", "recipe.toml", "--out", "run", "--threads", str(a.threads)])
            train = ["sh", "-c", f"cd {shlex.quote(str(folder))} && rm -rf run && {train}"]
            bench = [a.smolt, "bench", "train", "--json", *flags(settings | dict(threads=a.threads))]
            runs = rounds_of(a.rounds, [("smolt train", train, read), ("smolt bench train", bench, last_json)], row)
        share = ratios(runs, "smolt train", "smolt bench train")
        records.append(dict(row=row, kind="trainer", disturbed=disturbed(runs), settings=settings, runs=runs))
        lines.append([row, *(f"{statistics.median(speeds(runs, name)):.0f}" for name in runs), spread(share, 3)])
    return write(a, records, ["row", "smolt train tokens/s", "smolt bench train tokens/s", "share (min–max of rounds)"], lines)


def main():
    a = arguments()
    if a.trainer:
        return trainer(a)
    if a.architectures:
        return architectures(a)
    quiet = True
    for row in a.row:
        runs = rounds_of(a.rounds, [(name, command, last_json) for name, command in commands(a, row)], row)
        record = dict(row=row, kind="peers", disturbed=disturbed(runs), settings=ROWS[row], runs=runs)
        # Row by row, so that what ends one of them takes nothing from those before.
        quiet &= write(a, [record], HEADER, [line_of_row(row, runs)])
    return quiet


sys.exit(0 if main() else 1)
