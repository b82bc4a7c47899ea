#!/usr/bin/env python3
"""The data chapter beside its peers: filters, MinHash, tokenizer, loader and readers, into one file of raw results.

    pip install "datatrove[processing,io]==0.10.1" spacy tokenizers
    cargo build --release -p smolt-curate -p smolt-text -p smolt-data --examples
    python bench/peers/make_curation_corpus.py corpus.jsonl
    python bench/peers/data.py OUT.json --corpus corpus.jsonl [--text FILE… [--encode FILE…]] [--only PART…] [--rounds 3]

--corpus is the JSONL that filters and MinHash work on; datatrove gets its first --peer-documents, smolt the same and
the whole. --text are text files (a document a line) to train and encode a tokenizer on. Parts that OUT.json already
holds are kept, so a measurement can be taken again alone. Nothing else may run on the machine.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXAMPLES = ROOT / "target/release/examples"
ONE_THREAD = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", RAYON_NUM_THREADS="1")
SPEED = re.compile(r"^(\S.*?) +([\d.]+) MB/s .*kept (\d+)$", re.M)


def output(command, env=None):
    print("$", *map(str, command), flush=True)
    out = subprocess.run(list(map(str, command)), env=env, check=True, capture_output=True, text=True).stdout
    print(out, flush=True)
    return out


def speeds(out):
    return [{"filter": name, "mb_s": float(speed), "kept": int(kept)} for name, speed, kept in SPEED.findall(out)]


def head(corpus, documents, folder):
    path = pathlib.Path(folder) / "head.jsonl"
    with open(corpus, "rb") as lines, open(path, "wb") as out:
        out.writelines(line for line, _ in zip(lines, range(documents)))
    return path


def filters(args, folder):
    few = head(args.corpus, args.peer_documents, folder)
    rows = {"datatrove": [], "smolt": []}
    for _ in range(args.rounds):
        rows["datatrove"] += speeds(output([sys.executable, HERE / "curate_filters.py", "time", few], ONE_THREAD))
        rows["smolt"] += speeds(output([EXAMPLES / "filters", few, "--rounds", 1], ONE_THREAD))
    rows["smolt_whole"] = speeds(output([EXAMPLES / "filters", args.corpus, "--rounds", args.rounds], ONE_THREAD))
    middle = {}
    for who, measured in rows.items():
        for name in {row["filter"] for row in measured}:
            middle.setdefault(name, {})[who] = statistics.median(r["mb_s"] for r in measured if r["filter"] == name)
    for row in middle.values():
        if "datatrove" in row:
            row["ratio"] = row["smolt"] / row["datatrove"]
    return {"documents": args.peer_documents, "mb_s_per_core": middle, "raw": rows}


def minhash(args, folder):
    few, out = head(args.corpus, args.peer_documents, folder), pathlib.Path(folder) / "minhash.json"
    output([sys.executable, HERE / "minhash_datatrove.py", "--jsonl", few, "--rounds", args.rounds, "--out", out])
    result = json.loads(out.read_text())
    return {"ratio": result["smolt_mb_s"] / result["datatrove_mb_s"]} | result


def minhash_large(args, folder):
    threads = os.cpu_count()
    command = [EXAMPLES / "minhash_bench", "--megabytes", args.megabytes, "--memory-mib", 1536, "--threads", threads]
    return {"command": " ".join(map(str, command[1:])), "output": output([*command, "--folder", folder]).splitlines()}


def tokenizer(args, folder):
    out = pathlib.Path(folder) / "tokenizer.json"
    runs = ["--runs", args.tokenizer_runs, "--encode", *args.encode]
    output([sys.executable, HERE / "tokenizer.py", *args.text, *runs, "--out", out])
    return json.loads(out.read_text())


def loader(args, folder):
    runs = [output([EXAMPLES / "loader"]) for _ in range(args.rounds)]
    return [[json.loads(line) for line in run.splitlines()] for run in runs]


def readers(args, folder):
    return [output([EXAMPLES / "read_speed", args.corpus]).split(": ")[1].strip() for _ in range(args.rounds)]


PARTS = {"filters": filters, "minhash": minhash, "minhash_large": minhash_large, "tokenizer": tokenizer,
         "loader": loader, "readers": readers}


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()).group(1)
    flags = [flag for flag in ("avx2", "avx512f") if f" {flag} " in pathlib.Path("/proc/cpuinfo").read_text()]
    version = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    peers = {name: importlib.metadata.version(name) for name in ("datatrove", "spacy", "tokenizers")}
    return {"date": datetime.date.today().isoformat(), "cpu": cpu, "flags": flags, "cores": os.cpu_count(),
            "python": platform.python_version(), "smolt": version.strip(), "peers": peers}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--text", nargs="*", default=[])
    parser.add_argument("--encode", nargs="*", default=[], help="files to encode, --text unless given")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokenizer-runs", type=int, default=3)
    parser.add_argument("--peer-documents", type=int, default=3000)
    parser.add_argument("--megabytes", type=int, default=10_000)
    parser.add_argument("--scratch", help="folder for temporary files")
    args = parser.parse_args()
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    results["machine"] = machine()
    for name in args.only:
        with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
            results[name] = PARTS[name](args, folder)
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
