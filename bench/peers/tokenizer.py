"""Tokenizers beside PyPI `tokenizers`: time and peak memory of training, merges, batch encoding, ids.

usage: python bench/peers/tokenizer.py FILE… [--encode FILE…] [--vocab-size 32768] [--digits single] [--runs 3] [--out RESULT.json]

Each line of the files is a document. Both trainers run in processes of their own, on the same files, cutting text the
same way, with as many threads as the machine offers (RAYON_NUM_THREADS and SMOLT_THREADS limit both). Build first:
    cargo build --release -p smolt-text --examples
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "target/release/examples"

TRAIN = r"""
import json, sys
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
out, vocab, like, *files = sys.argv[1:]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = Tokenizer.from_file(like).pre_tokenizer
trainer = trainers.BpeTrainer(vocab_size=int(vocab), min_frequency=2, special_tokens=["<|endoftext|>"],
                              initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
def lines():
    for file in files:
        with open(file, encoding="utf-8", newline="\n") as text:
            for line in text:
                line = line.removesuffix("\n")
                yield line.removesuffix("\r")
tokenizer.train_from_iterator(lines(), trainer)
tokenizer.save(out)
"""

ENCODE = r"""
import sys, time
import numpy as np
from tokenizers import Tokenizer
path, *files = sys.argv[1:]
tokenizer = Tokenizer.from_file(path)
texts = [text for file in files for text in open(file, encoding="utf-8", newline="").read().split("\n\n")]
best = 1e9
for _ in range(3):
    start = time.perf_counter()
    out = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    best = min(best, time.perf_counter() - start)
ids = np.concatenate([np.array(e.ids, np.uint64) for e in out])
total = (ids * (np.arange(len(ids), dtype=np.uint64) % 65521 + 1)).sum()
print(best, total, len(ids))
"""


def run(command):
    """Seconds, peak bytes and output of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.stdout.close()
    if status != 0:
        sys.exit(f"{command[:2]} failed with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024, output


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--encode", nargs="*", default=[], help="files to encode instead of those trained on")
    parser.add_argument("--encode-runs", type=int, default=3)
    parser.add_argument("--vocab-size", default="32768")
    parser.add_argument("--digits", default="single")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out")
    args = parser.parse_args()
    size = sum(os.path.getsize(file) for file in args.files)
    folder = Path(tempfile.mkdtemp())
    ours, theirs = folder / "ours.json", folder / "theirs.json"
    rows = []
    for _ in range(args.runs):
        mine = run([EXAMPLES / "train_tokenizer", ours, args.vocab_size, args.digits, *args.files])
        peer = run([sys.executable, "-c", TRAIN, theirs, args.vocab_size, ours, *args.files])
        rows.append({"smolt": mine[:2], "tokenizers": peer[:2]})
        print(f"train: smolt {mine[0]:.1f} s, {mine[1] / 2**20:.0f} MiB; tokenizers {peer[0]:.1f} s, {peer[1] / 2**20:.0f} MiB")
    a, b = (json.loads(path.read_text())["model"]["merges"] for path in (ours, theirs))
    first = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
    equal = a == b
    print(f"merges: {len(a)} and {len(b)}, equal: {equal}", "" if equal else f"first difference at {first}")
    encoded, files = [], args.encode or args.files
    encode_size = sum(os.path.getsize(file) for file in files)
    for _ in range(args.encode_runs):
        mine = run([EXAMPLES / "encode_batch", ours, *files])[2].split()
        peer = run([sys.executable, "-c", ENCODE, ours, *files])[2].split()
        encoded.append({"smolt": float(mine[0]), "tokenizers": float(peer[0]), "same_ids": mine[1:] == peer[1:]})
        print(f"encode: smolt {encode_size / 1e6 / float(mine[0]):.1f} MB/s, tokenizers {encode_size / 1e6 / float(peer[0]):.1f} MB/s, "
              f"same ids: {mine[1:] == peer[1:]} ({mine[2]} tokens)")
    if args.out:
        import tokenizers
        result = {"bytes": size, "encode_bytes": encode_size, "vocab_size": args.vocab_size, "digits": args.digits, "tokenizers": tokenizers.__version__,
                  "train_seconds_and_bytes": rows, "merges": len(a), "merges_equal": equal, "encode_seconds": encoded}
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


main()
