"""MinHash deduplication by smolt and datatrove on the same JSONL file, one process and one core each.

    pip install 'datatrove[processing,io]==0.10.1' spacy==3.8.18
    cargo build --release -p smolt-curate --example minhash_bench
    python bench/peers/minhash_datatrove.py --jsonl FILE [--rounds 3] [--out RESULT.json]

FILE holds {"text"} a line, real text for a fair result: words that it has never seen are slow for spaCy. Without it the
example's planted text is used, of --megabytes. Both read it, make signatures (datatrove of spaCy's English words, as is
its default, smolt of words between spaces), cluster, read it again and write what is kept. Rounds alternate. Reported is
processor time: datatrove's without imports and without loading the tokenizer, smolt's the whole process.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "target/release/examples/minhash_bench"


def datatrove_once(path):
    """Runs in a process of its own. Prints {"seconds", "stages", "kept", "documents", "megabytes"}."""
    import contextlib

    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    path = pathlib.Path(path)
    config = MinhashConfig()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        reader = lambda: JsonlReader(str(path.parent), glob_pattern=path.name)
        signatures = MinhashDedupSignature(f"{folder}/sigs", config=config, language="eng")
        signatures.get_shingles("load the tokenizer now, not while time is taken")
        stages = {
            "signatures": (1, [reader(), signatures]),
            "buckets": (config.num_buckets, [MinhashDedupBuckets(f"{folder}/sigs", f"{folder}/dups", config=config)]),
            "clusters": (1, [MinhashDedupCluster(f"{folder}/dups", f"{folder}/remove", config=config)]),
            "filter": (1, [reader(), MinhashDedupFilter(f"{folder}/remove"), JsonlWriter(f"{folder}/out", compression=None)]),
        }
        seconds = {}
        for name, (tasks, steps) in stages.items():
            begun = time.process_time()
            LocalPipelineExecutor(pipeline=steps, tasks=tasks, workers=1, logging_dir=f"{folder}/log/{name}").run()
            seconds[name] = time.process_time() - begun
        kept = sum(1 for file in pathlib.Path(f"{folder}/out").glob("*.jsonl") for _ in file.open())
    texts = [json.loads(line)["text"] for line in path.open()]
    print(json.dumps({"seconds": sum(seconds.values()), "stages": seconds, "kept": kept, "documents": len(texts),
                      "megabytes": sum(len(text.encode()) for text in texts) / 1e6}))


def datatrove(path):
    env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    command = [sys.executable, __file__, "--datatrove", str(path)]
    out = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def smolt(path):
    out = subprocess.run([str(EXAMPLE), "--from", str(path)], check=True, capture_output=True, text=True).stdout
    find = lambda pattern: float(re.search(pattern, out).group(1))
    return {"speed": find(r"end to end: ([\d.]+)"), "signatures": find(r"signatures: ([\d.]+)"), "kept": int(find(r"(\d+) kept"))}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--jsonl")
    a.add_argument("--megabytes", type=int, default=8)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--out")
    a.add_argument("--datatrove", help=argparse.SUPPRESS)
    a = a.parse_args()
    if a.datatrove:
        return datatrove_once(a.datatrove)
    rows = {"datatrove": [], "smolt": []}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(a.jsonl or f"{folder}/planted.jsonl").resolve()
        if not a.jsonl:
            subprocess.run([str(EXAMPLE), "--megabytes", str(a.megabytes), "--jsonl", str(path)], check=True)
        for _ in range(a.rounds):
            rows["datatrove"].append(datatrove(path))
            rows["smolt"].append(smolt(path))
    theirs = statistics.median(row["megabytes"] / row["seconds"] for row in rows["datatrove"])
    ours = statistics.median(row["speed"] for row in rows["smolt"])
    first = rows["datatrove"][0]
    print(f"{first['megabytes']:.1f} MB, {first['documents']} documents")
    print(f"datatrove {theirs:8.3f} MB/s per core, {first['kept']} kept")
    print(f"smolt     {ours:8.3f} MB/s per core, {rows['smolt'][0]['kept']} kept")
    print(f"ratio     {ours / theirs:8.1f}")
    if a.out:
        pathlib.Path(a.out).write_text(json.dumps(rows | {"datatrove_mb_s": theirs, "smolt_mb_s": ours}, indent=1) + "\n")


if __name__ == "__main__":
    main()
