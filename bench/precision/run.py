"""Does training in bf16 end where training in fp32 ends?

    cargo build --release
    python bench/precision/run.py [--steps 2000] [--seeds 3] [--work FOLDER]

Trains recipe.toml under both precisions with each seed, one run after the other; a run that was cut short is resumed
when FOLDER is given again. A seed decides initial weights and the order of data, so a pair differs in nothing but
rounding. The verdict: the mean final losses of the two precisions lie no further apart than the fp32 seeds among
themselves. Curves and final losses go to bench/results/<date>-precision.json.
"""
import argparse, datetime, json, os, pathlib, statistics, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
POINTS = 100  # of a curve


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--smolt", default=str(ROOT / "target/release/smolt"))
    a.add_argument("--steps", type=int, default=2000)
    a.add_argument("--seeds", type=int, default=3)
    a.add_argument("--threads", type=int, default=os.cpu_count())
    a.add_argument("--work", help="folder for data and runs, kept; else a temporary one")
    a.add_argument("--out", help="result file")
    parsed = a.parse_args()
    if parsed.seeds < 2:
        a.error("--seeds: noise takes at least two")
    return parsed


def data(smolt, work):
    """Corpus, tokenizer and shards, made once."""
    call = lambda *args: subprocess.run([smolt, *args], cwd=work, check=True, stdout=subprocess.DEVNULL)
    train = [f"corpus/{domain}.train.jsonl" for domain in ["prose", "code"]]
    if not (work / "corpus").exists():
        call("data", "corpus", "--out", "corpus")
    if not (work / "tokenizer").exists():
        call("tokenizer", "train", *train, "--vocab-size", "4096", "--out", "tokenizer")
    for shard, source in [("prose", train[0]), ("code", train[1]), ("prose-held-out", "corpus/prose.held-out.jsonl")]:
        if not (work / f"{shard}.ds").exists():
            call("data", "tokenize", source, "--tokenizer", "tokenizer/base", "--out", f"{shard}.ds")
    (work / "recipe.toml").write_text((HERE / "recipe.toml").read_text())


def train(a, work, precision, seed):
    """One run: its curve of mean training losses, its last loss and the held-out bits per byte."""
    out = f"{precision}-{seed}-{a.steps}"
    warmup, decay = min(100, a.steps // 10), min(400, a.steps // 5)
    sets = [f"seed={seed}", f'train.precision="{precision}"', f"train.train_steps={a.steps}",
            f"schedule.warmup_steps={warmup}", f"schedule.decay_steps={decay}"]
    command = [a.smolt, "train", "recipe.toml", "--out", out, "--threads", str(a.threads), "--json", "--resume"]
    subprocess.run(command + [part for s in sets for part in ("--set", s)], cwd=work, check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (work / out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    each = max(1, len(losses) // POINTS)
    curve = [[min(at + each, len(losses)), round(statistics.mean(losses[at:at + each]), 4)] for at in range(0, len(losses), each)]
    last = statistics.mean(losses[-max(1, len(losses) // 20):])
    return dict(precision=precision, seed=seed, final_loss=round(last, 5), curve=curve,
                held_out_bits_per_byte=lines[-1]["validation_bits_per_byte"]["prose"],
                tokens_per_second=round(statistics.median(line["tokens_per_second"] for line in lines), 1))


def verdict(runs, key):
    values = lambda precision: [run[key] for run in runs if run["precision"] == precision]
    fp32, bf16 = values("fp32"), values("bf16")
    difference, noise = statistics.mean(bf16) - statistics.mean(fp32), max(fp32) - min(fp32)
    return dict(fp32=fp32, bf16=bf16, difference=round(difference, 5), fp32_range=round(noise, 5),
                within_noise=abs(difference) <= noise)


def main():
    a = arguments()
    a.smolt = str(pathlib.Path(a.smolt).resolve())
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(a.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        data(a.smolt, work)
        runs = []
        for seed in range(1, a.seeds + 1):
            for precision in ["fp32", "bf16"]:
                runs.append(train(a, work, precision, seed))
                last = runs[-1]
                print(f"{precision}, seed {seed}: loss {last['final_loss']}, {last['held_out_bits_per_byte']:.4f} bits per "
                      f"byte, {last['tokens_per_second']} tokens/s", file=sys.stderr, flush=True)
    verdicts = {key: verdict(runs, key) for key in ["final_loss", "held_out_bits_per_byte"]}
    today = datetime.date.today().isoformat()
    out = pathlib.Path(a.out or ROOT / "bench/results" / f"{today}-precision.json")
    record = dict(format_version=1, date=today, steps=a.steps, recipe=(HERE / "recipe.toml").read_text(), verdicts=verdicts, runs=runs)
    out.write_text(json.dumps(record) + "\n")
    print(json.dumps(verdicts, indent=1))
    print(f"written: {out}")
    sys.exit(0 if all(v["within_noise"] for v in verdicts.values()) else 1)


main()
