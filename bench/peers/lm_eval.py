"""smolt eval beside lm-evaluation-harness: the same model folder, the same rows, fp32 on the CPU.

    python bench/peers/lm_eval.py parity MODEL DATA --smolt target/release/smolt [--task arc_easy ...] [--items 500]
    python bench/peers/lm_eval.py speed  MODEL DATA --smolt target/release/smolt [--task arc_easy] [--batch 1 --batch 8 ...]

Needs PyPI lm_eval, torch, transformers and accelerate in the Python that runs this. DATA is what eval_data.py wrote, or
the same folders from the Hub. The harness reads its own task files, told only where the rows are, so the prompts, the
continuations and the scores are its own.

parity compares every item: the prompt, the log-likelihood of every candidate, the candidate picked without and with
normalisation by characters, whether it is right, and for written answers the text and what was extracted from it. Prints
a table, writes everything that differs to --out (JSON), and exits with 1 if anything beyond --tolerance does.
Two candidates whose scores are closer than the tolerance are a tie, and are told apart from real differences.

speed times whole processes, `--rounds` times in turns, and the same with one row only, which is what starting costs;
the difference is what the rows cost. Run nothing else meanwhile.
"""

import argparse
import importlib.machinery
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time

# smolt's task: formulation, the harness's task file, data set, configuration, split, few-shot split, examples, more --set.
CLOZE, SHOWN, WRITTEN = "cloze", "multiple_choice", "generation"
TASKS = {
    "arc_easy": (CLOZE, "arc/arc_easy.yaml", "ai2_arc", "ARC-Easy", "test", "train", 0),
    "arc_challenge": (CLOZE, "arc/arc_challenge.yaml", "ai2_arc", "ARC-Challenge", "test", "train", 0),
    "arc_challenge-5": (CLOZE, "arc/arc_challenge.yaml", "ai2_arc", "ARC-Challenge", "test", "train", 5),
    "hellaswag": (CLOZE, "hellaswag/hellaswag.yaml", "hellaswag", "default", "validation", "train", 0),
    "piqa": (CLOZE, "piqa/piqa.yaml", "piqa", "plain_text", "validation", "train", 0),
    "winogrande": (CLOZE, "winogrande/default.yaml", "winogrande", "winogrande_xl", "validation", "train", 0),
    "winogrande-3": (CLOZE, "winogrande/default.yaml", "winogrande", "winogrande_xl", "validation", "train", 3),
    "openbookqa": (CLOZE, "openbookqa/openbookqa.yaml", "openbookqa", "main", "test", "train", 0),
    "siqa": (CLOZE, "siqa/siqa.yaml", "social_i_qa", "default", "validation", "train", 0),
    "commonsense_qa": (SHOWN, "commonsense_qa/default.yaml", "commonsense_qa", "default", "validation", "train", 0),
    "mmlu": (SHOWN, "mmlu/default/mmlu_{}.yaml", "mmlu", "all", "test", "dev", 0),
    "mmlu-2": (SHOWN, "mmlu/default/mmlu_{}.yaml", "mmlu", "all", "test", "dev", 2),
    "mmlu-cloze": (CLOZE, "mmlu/continuation/mmlu_{}.yaml", "mmlu", "all", "test", "dev", 0),
    "belebele": (SHOWN, "belebele/belebele_fra_Latn.yaml", "belebele", "fra_Latn", "test", "test", 0),
    "mlmm_hellaswag": (CLOZE, "okapi/hellaswag_multilingual/hellaswag_fr.yaml", "m_hellaswag", "fr", "val", None, 0),
    "gsm8k": (WRITTEN, "gsm8k/gsm8k.yaml", "gsm8k", "main", "test", "train", 0),
    "gsm8k-2": (WRITTEN, "gsm8k/gsm8k.yaml", "gsm8k", "main", "test", "train", 2),
    "triviaqa": (WRITTEN, "triviaqa/default.yaml", "trivia_qa", "rc.nocontext", "validation", "train", 0),
}
BATCHES = [1, 8, 32, 64]


def arguments():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("what", choices=["parity", "speed"])
    a.add_argument("model", type=pathlib.Path)
    a.add_argument("data", type=pathlib.Path)
    a.add_argument("--smolt", default="target/release/smolt", type=pathlib.Path)
    a.add_argument("--task", action="append", choices=list(TASKS), help="may be repeated (parity: all, speed: arc_easy)")
    a.add_argument("--items", type=int, help="rows per data set, evenly taken; all without it")
    a.add_argument("--max-tokens", type=int, default=64, help="longest written answer (64)")
    a.add_argument("--threads", type=int, default=os.cpu_count())
    a.add_argument("--batch", type=int, action="append", help="the harness's; may be repeated (parity: 8, speed: 1 8 32 64)")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--tolerance", type=float, default=1e-3, help="of a log-likelihood")
    a.add_argument("--work", type=pathlib.Path, default="lm_eval.parity", help="folder for rows, task files and samples")
    a.add_argument("--keep", action="store_true", help="use the harness's samples in --work if they are there")
    a.add_argument("--out", type=pathlib.Path, help="what was found, JSON")
    a = a.parse_args()
    a.task = a.task or (list(TASKS) if a.what == "parity" else ["arc_easy"])
    a.batch = a.batch or ([8] if a.what == "parity" else BATCHES)
    a.work, a.model, a.smolt = a.work.resolve(), a.model.resolve(), a.smolt.resolve()
    return a


def read(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def rows_of(a, name, items):
    """The rows of a task as both will read them, by split; written below --work with the data set's card."""
    _, _, dataset, config, split, few_shot, _ = TASKS[name]
    splits = {s: read(a.data / dataset / config / f"{s}.jsonl") for s in {split, few_shot} if s}
    if items and items < len(splits[split]):
        whole = splits[split]
        splits[split] = [whole[i * len(whole) // items] for i in range(items)]
    folder = a.work / f"rows-{items or 'all'}" / dataset
    for s, rows in splits.items():
        write(folder / config / f"{s}.jsonl", rows)
    shutil.copy(a.data / dataset / "README.md", folder / "README.md")
    return folder / config, splits


def installed():
    """The harness's folder; this file has its name, so the folder of this file is left out of the search."""
    elsewhere = [p for p in sys.path if pathlib.Path(p).resolve() != pathlib.Path(__file__).resolve().parent]
    spec = importlib.machinery.PathFinder.find_spec("lm_eval", elsewhere)
    return pathlib.Path(spec.origin).parent if spec else sys.exit("pip install lm_eval")


def harness_tasks(a, name, items):
    """Writes the harness's task files for a task: one, or one for each subject of MMLU; their names."""
    _, yaml, _, _, split, few_shot, shots = TASKS[name]
    folder, splits = rows_of(a, name, items)
    theirs = installed() / "tasks"
    parts = {"": splits}
    if "{}" in yaml:
        parts = {}
        for s, rows in splits.items():
            for row in rows:
                parts.setdefault(row["subject"], {}).setdefault(s, []).append(row)
        parts = {subject: rows for subject, rows in parts.items() if split in rows}
    names = []
    for part, rows in parts.items():
        files = {s: folder / f"{s}.jsonl" for s in splits}
        if part:
            files = {s: a.work / "parts" / f"rows-{items or 'all'}" / name / part / f"{s}.jsonl" for s in rows}
            for s, path in files.items():
                write(path, rows[s])
        task = f"{name}{'.' + part if part else ''}.parity"
        lines = [f"include: {theirs / yaml.format(part)}", f"task: {task}", "tag: []", "dataset_path: json", "dataset_name: null",
                 f"num_fewshot: {shots}", "fewshot_config:", "  sampler: first_n", "dataset_kwargs:", "  data_files:"]
        lines += [f"    {s}: {path}" for s, path in files.items()]
        if few_shot:
            lines.append(f"fewshot_split: {few_shot}")
        path = a.work / "tasks" / f"{task}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*lines, ""]))
        names.append(task)
    return names


def environment(a):
    quiet = dict(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS=str(a.threads))
    return os.environ | quiet


def run(a, command, log):
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with open(log, "w") as out:
        status = subprocess.call([str(part) for part in command], stdout=out, stderr=subprocess.STDOUT, cwd=a.work, env=environment(a))
    if status:
        sys.exit(f"exit code {status}: {' '.join(map(str, command))}\n" + "\n".join(log.read_text().split("\n")[-15:]))
    return time.perf_counter() - start


def harness(a, tasks, batch, out, written):
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={a.model},dtype=float32",
               "--device", "cpu", "--include_path", a.work / "tasks", "--tasks", ",".join(tasks), "--batch_size", batch,
               "--log_samples", "--output_path", out]
    if written:
        command += ["--gen_kwargs", f"max_gen_toks={a.max_tokens}"]
    return run(a, command, out.with_suffix(".log"))


def ours(a, name, items, out):
    formulation, _, _, config, _, _, shots = TASKS[name]
    shutil.rmtree(out, ignore_errors=True)
    task = name.split("-")[0]
    command = [a.smolt, "eval", a.model, "--task", task, "--formulation", formulation.replace("_", "-"), "--offline",
               "--datasets", a.work / f"rows-{items or 'all'}", "--few-shot", shots, "--set", 'few_shot.sampler="first"',
               "--out", out, "--json", "--precision", "fp32", "--threads", a.threads, "--max-tokens", a.max_tokens]
    if task in ("belebele", "mlmm_hellaswag"):
        command += ["--set", f'dataset.config="{config}"']
    return run(a, command, out.with_suffix(".log"))


def their_samples(out, tasks):
    """Samples of the harness by part and place."""
    found = {}
    for task in tasks:
        path, = out.rglob(f"samples_{task}_*.jsonl")
        part = task.removesuffix(".parity").partition(".")[2]
        for sample in read(path):
            found.setdefault((part, sample["doc_id"]), []).append(sample)
    return found


def best(scores):
    return max(range(len(scores)), key=lambda i: (scores[i], -i))


def choices(sample, theirs, tolerance):
    """What differs between an item of ours and of the harness: kind and detail; and the largest difference."""
    args = theirs["arguments"]
    args = [args[f"gen_args_{i}"] for i in range(len(args))] if isinstance(args, dict) else args
    logs = [float(r[0]) for r in theirs["filtered_resps"]]
    mine = [c["log_likelihood"] for c in sample["candidates"]]
    if len(mine) != len(logs):
        return [("candidates", f"{len(mine)} and {len(logs)}")], 0.0
    apart = max(abs(m - t) for m, t in zip(mine, logs))
    found = []
    if sample["prompt"].rstrip() != args[0]["arg_0"].rstrip():
        found.append(("prompt", [sample["prompt"], args[0]["arg_0"]]))
    if any(c["continuation"] != arg["arg_1"] for c, arg in zip(sample["candidates"], args)):
        found.append(("continuation", [[c["continuation"], arg["arg_1"]] for c, arg in zip(sample["candidates"], args)]))
    if apart > tolerance:
        found.append(("log_likelihood", [mine, logs]))
    lengths = [len(arg["arg_1"].removeprefix(" ")) for arg in args]
    for metric, theirs_name, scores in (
        ("accuracy", "acc", logs), ("accuracy_char", "acc_norm", [s / n for s, n in zip(logs, lengths)])
    ):
        if theirs_name not in theirs:
            continue
        if sample["picks"][metric] != best(scores):
            top = sorted(scores, reverse=True)
            tie = top[0] - top[1] <= 2 * tolerance
            found.append(("tie" if tie else "pick", [metric, sample["picks"][metric], best(scores), top[:2]]))
        if float(theirs[theirs_name]) != sample["values"][metric] and found[-1:] == []:
            found.append(("value", [metric, sample["values"][metric], theirs[theirs_name]]))
    return found, apart


def texts(sample, theirs):
    found, written = [], sample["written"][0]
    args = theirs[0]["arguments"]
    prompt = args["gen_args_0"]["arg_0"] if isinstance(args, dict) else args[0][0]
    if sample["prompt"].rstrip() != prompt.rstrip():
        found.append(("prompt", [sample["prompt"], prompt]))
    if written["text"].strip() != theirs[0]["resps"][0][0].strip():
        found.append(("text", [written["text"], theirs[0]["resps"][0][0]]))
    judged = {j["metric"]: j for j in written["judged"]}
    for one in theirs:
        name = "exact_match" if len(judged) == 1 else f"exact_match_{one['filter']}"
        extracted = judged[name]["extracted"]
        kept = one["filtered_resps"][0]
        if (extracted if extracted is not None else "[invalid]").strip() != kept.strip():
            found.append(("extracted", [one["filter"], extracted, kept]))
        if judged[name]["value"] != float(one["exact_match"]):
            found.append(("value", [one["filter"], judged[name]["value"], one["exact_match"]]))
    return found, 0.0


def compare(a, name, out, theirs):
    formulation = TASKS[name][0]
    samples = read(out / "samples" / f"{name.split('-')[0]}.{formulation}.jsonl")
    by_part, counts, differences, apart = {}, {}, [], 0.0
    for sample in samples:
        part = sample["subset"] if "{}" in TASKS[name][1] else ""
        at = by_part.setdefault(part or "", 0)
        by_part[part or ""] += 1
        other = theirs[(part or "", at)]
        found, far = texts(sample, other) if formulation == WRITTEN else choices(sample, other[0], a.tolerance)
        apart = max(apart, far)
        for kind, detail in found:
            counts[kind] = counts.get(kind, 0) + 1
            differences.append({"item": sample["id"], "kind": kind, "ours_and_theirs": detail})
    mean = lambda values: sum(values) / max(len(values), 1)
    keys = ("acc", "acc_norm", "exact_match")
    return {
        "task": name, "formulation": formulation, "items": len(samples), "theirs": len(theirs), "differences": counts,
        "largest_log_likelihood_difference": apart,
        "scores": {k: mean([s["values"][k] for s in samples]) for k in samples[0]["values"]},
        "their_scores": {
            f"{k},{s['filter']}": mean([float(x[k]) for xs in theirs.values() for x in xs if x["filter"] == s["filter"]])
            for s in next(iter(theirs.values())) for k in keys if k in s
        },
        "listed": differences[:50],
    }


def parity(a):
    report = []
    for name in a.task:
        out = a.work / f"theirs-{name}-{a.items or 'all'}"
        tasks = harness_tasks(a, name, a.items)
        if not (a.keep and list(out.rglob("samples_*.jsonl"))):
            harness(a, tasks, a.batch[0], out, TASKS[name][0] == WRITTEN)
        mine = a.work / f"ours-{name}-{a.items or 'all'}"
        ours(a, name, a.items, mine)
        result = compare(a, name, mine, their_samples(out, tasks))
        report.append(result)
        shown = ", ".join(f"{n} {k}" for k, n in result["differences"].items()) or "none"
        print(f"{name:18} {result['formulation']:16} {result['items']:6} items  Δ ln P {result['largest_log_likelihood_difference']:.1e}"
              f"  differences: {shown}", flush=True)
        print(f"{'':18} ours {result['scores']}\n{'':18} theirs {result['their_scores']}", flush=True)
        if a.out:
            a.out.write_text(json.dumps({"model": a.model.name, "machine": platform.processor(), "items": a.items, "tasks": report},
                                        indent=1, ensure_ascii=False) + "\n")
    bad = [r["task"] for r in report if any(kind != "tie" for kind in r["differences"])]
    sys.exit(f"differ: {', '.join(bad)}" if bad else 0)


def speed(a):
    report = []
    for name in a.task:
        rows = len(rows_of(a, name, a.items)[1][TASKS[name][4]])
        runs = [("smolt", None), *(("lm_eval", batch) for batch in a.batch)]
        times = {run: [] for run in runs}
        for _ in range(a.rounds):
            for who, batch in runs:
                pair = []
                for items in (1, a.items):
                    tasks = harness_tasks(a, name, items)
                    out = a.work / f"speed-{who}"
                    pair.append(ours(a, name, items, out) if who == "smolt" else harness(a, tasks, batch, out, TASKS[name][0] == WRITTEN))
                times[(who, batch)].append(pair)
        for (who, batch), pairs in times.items():
            net = [whole - start for start, whole in pairs]
            report.append({"task": name, "who": who, "batch": batch, "rows": rows, "seconds": pairs,
                           "rows_per_second": rows / statistics.median(net)})
            print(f"{name:16} {who:8} batch {batch or '-':>3}  {rows / statistics.median(net):8.1f} rows/s"
                  f"  (start {statistics.median(p[0] for p in pairs):.1f} s, whole {statistics.median(p[1] for p in pairs):.1f} s)", flush=True)
        mine = report[-len(runs)]["rows_per_second"]
        print(f"{name:16} smolt is {mine / max(r['rows_per_second'] for r in report[-len(runs) + 1:]):.2f} times the harness at its best")
        if a.out:
            a.out.write_text(json.dumps({"model": a.model.name, "threads": a.threads, "runs": report}, indent=1) + "\n")


if __name__ == "__main__":
    asked = arguments()
    (parity if asked.what == "parity" else speed)(asked)
