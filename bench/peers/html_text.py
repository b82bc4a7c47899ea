"""Main text of HTML pages: smolt's `html_text` step beside PyPI `trafilatura`, page by page.

    cargo build --release -p smolt-curate --example apply_step
    python bench/peers/html_text.py target/release/examples/apply_step FOLDER... [--out result.json]

Needs PyPI trafilatura 2.x. Pages are the .html files under the folders. Agreement is the word-level F1 of the two
texts (multisets of whitespace-separated words); times are of one process and one thread each, pages in memory.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import tempfile
import time

import trafilatura


def f1(a, b):
    a, b = collections.Counter(a.split()), collections.Counter(b.split())
    if not a and not b:
        return 1.0
    common = sum((a & b).values())
    return 2 * common / max(1, sum(a.values()) + sum(b.values()))


def quantiles(values):
    values = sorted(values)
    at = lambda share: values[min(len(values) - 1, int(share * len(values)))]
    return {"mean": sum(values) / len(values), **{f"q{int(s * 100)}": at(s) for s in (0.05, 0.25, 0.5, 0.75)}}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("binary")
    arguments.add_argument("folders", nargs="+", type=pathlib.Path)
    arguments.add_argument("--favour", default="precision", choices=["precision", "balanced", "recall"])
    arguments.add_argument("--out", type=pathlib.Path)
    arguments = arguments.parse_args()
    pages, names = [], []
    for folder in arguments.folders:
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".html", ".htm")):
            page = path.read_bytes().decode("utf-8", "replace")
            if 0 < len(page) < 4 << 20:
                pages.append(page)
                names.append(f"{folder.name}/{path.name}")

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for page in pages:
            file.write(json.dumps({"text": page}) + "\n")
        file.flush()
        command = [arguments.binary, "html_text", file.name, f'favour="{arguments.favour}"']
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True)
    ours = [json.loads(line) for line in done.stdout.split("\n") if line]
    print("smolt:", done.stderr.strip().splitlines()[-1])

    theirs, seconds = [], 0.0
    for page in pages:
        start = time.perf_counter()
        text = trafilatura.extract(
            page,
            favor_precision=arguments.favour == "precision",
            favor_recall=arguments.favour == "recall",
            include_comments=False,
            deduplicate=False,
        )
        seconds += time.perf_counter() - start
        theirs.append(text or "")
    size = sum(len(page.encode()) for page in pages)
    print(f"trafilatura {trafilatura.__version__}: {seconds:.2f} s, {size / 1e6 / seconds:.2f} MB/s")

    groups, rows = collections.defaultdict(list), []
    for name, our, their in zip(names, ours, theirs):
        text = "" if our["reason"] else our["document"]["text"]
        score = f1(text, their)
        groups[name.split("/")[0]].append(score)
        groups["all"].append(score)
        row = {"page": name, "f1": score, "words": len(text.split()), "peer_words": len(their.split())}
        rows.append({**row, "reason": our["reason"]})
    for group, scores in groups.items():
        shown = ", ".join(f"{key} {value:.3f}" for key, value in quantiles(scores).items())
        print(f"{group}: {len(scores)} pages, F1 {shown}")
    both = [score for score, row in zip(groups["all"], rows) if row["words"] and row["peer_words"]]
    print(f"pages where both found text: {len(both)}, mean F1 {sum(both) / len(both):.3f}")
    print("one found nothing:", sum((row["words"] == 0) != (row["peer_words"] == 0) for row in rows))
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
