"""What a watcher on a core of its own costs a training (REF-02): the same training with and without, in turns.

    python bench/watch_cost.py RECIPE WORK --task tinytown --set dataset.path=DIR [--smolt target/release/smolt] [--rounds 5]

The training has one thread on core 0, the watcher one on core 1 (Linux, `taskset`). The cost is that of the median step
from the tenth on: 1 - (tokens/s with) / (tokens/s without), and whole wall times beside it. Run nothing else meanwhile.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import time


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("recipe", type=pathlib.Path)
    a.add_argument("work", type=pathlib.Path)
    a.add_argument("--smolt", default="target/release/smolt")
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--steps", type=int, default=120)
    a.add_argument("--every", type=int, default=20, help="steps between checkpoints")
    return a.parse_known_args()


def train(a, watcher):
    run = a.work / ("with" if watcher else "without")
    shutil.rmtree(run, ignore_errors=True)
    sets = [f"train.train_steps={a.steps}", f"train.checkpoint_interval={a.every}", f"train.validation_interval={a.steps}",
            f"schedule.warmup_steps={a.steps // 10}", f"schedule.decay_steps={a.steps // 5}"]
    command = ["taskset", "-c", "0", a.smolt, "train", a.recipe, "--out", run, "--threads", "1", "--json"]
    command += [part for s in sets for part in ("--set", s)]
    log = open(a.work / "log", "a")
    start = time.perf_counter()
    training = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log)
    watching = None
    if watcher:
        while not (run / "recipe.lock.toml").exists():
            time.sleep(0.01)
        command = ["taskset", "-c", "1", a.smolt, "eval", "watch", run, "--threads", "1", *watcher]
        watching = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log)
    assert training.wait() == 0, f"see {log.name}"
    seconds = time.perf_counter() - start
    if watching:
        assert watching.wait() == 0, f"see {log.name}"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluated = sorted(p.name for p in (run / "evals").glob("step-*")) if watcher else []
    busy = sum(json.loads(line).get("seconds", 0) for line in (run / "evals/watch.jsonl").read_text().splitlines()) if watcher else 0
    return {"tokens_per_second": statistics.median(line["tokens_per_second"] for line in lines[10:]), "seconds": seconds,
            "evaluated": evaluated, "watcher_busy_seconds": busy}


def main():
    a, watcher = arguments()
    a.work.mkdir(parents=True, exist_ok=True)
    rounds = []
    for i in range(a.rounds):
        order = [None, watcher] if i % 2 == 0 else [watcher, None]
        pair = {("with" if w else "without"): train(a, w) for w in order}
        pair["cost_of_a_step"] = 1 - pair["with"]["tokens_per_second"] / pair["without"]["tokens_per_second"]
        pair["cost_of_wall_time"] = 1 - pair["without"]["seconds"] / pair["with"]["seconds"]
        rounds.append(pair)
        print(f"round {i + 1}: step {100 * pair['cost_of_a_step']:.2f} %, wall {100 * pair['cost_of_wall_time']:.2f} %, "
              f"watcher busy {pair['with']['watcher_busy_seconds']:.0f} of {pair['with']['seconds']:.0f} s", flush=True)
    median = {key: statistics.median(r[key] for r in rounds) for key in ("cost_of_a_step", "cost_of_wall_time")}
    (a.work / "watch_cost.json").write_text(json.dumps({"median": median, "rounds": rounds}, indent=1) + "\n")
    print(f"median: a step costs {100 * median['cost_of_a_step']:.2f} % more, the wall time {100 * median['cost_of_wall_time']:.2f} %")


main()
