"""Quality classifier: smolt's trainer beside fastText on the same texts and settings.

    cargo build --release -p smolt-curate --example train_classifier
    python bench/peers/classifier.py target/release/examples/train_classifier \\
        --class python=FOLDER:.py --class prose=FOLDER:.txt ... [--lines 3] [--per-class 4000]

Needs PyPI fasttext-wheel (with NumPy 2: fasttext-numpy2-wheel). Each class is the files of one ending under a folder,
cut into texts of a few lines; 90 % train, 10 % test, by files' lines at random with a fixed seed. Then fastText loads
smolt's model and must give the same accuracy.
"""

import argparse
import json
import pathlib
import random
import subprocess
import tempfile
import time

import fasttext


def texts(folder, ending, lines, wanted, rng):
    paths = sorted(p for p in pathlib.Path(folder).rglob("*" + ending) if p.is_file() and p.stat().st_size < 1 << 20)
    rng.shuffle(paths)
    found = []
    for path in paths:
        rows = [row.strip() for row in path.read_text("utf-8", "replace").splitlines() if len(row.strip()) > 10]
        pieces = [" ".join(rows[at : at + lines]) for at in range(0, len(rows) - lines, lines)]
        rng.shuffle(pieces)
        found += [" ".join(piece.replace("__label__", "").split()) for piece in pieces[:50]]
        if len(found) >= 2 * wanted:
            break
    found = list(dict.fromkeys(found))
    rng.shuffle(found)
    return found[:wanted]


def accuracy(model, tests):
    hits = sum(model.f.predict(text + "\n", 1, 0.0, "strict")[0][1] == "__label__" + label for text, label in tests)
    return hits / len(tests)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("binary")
    a.add_argument("--class", action="append", dest="classes", required=True, metavar="NAME=FOLDER:ENDING")
    a.add_argument("--lines", type=int, default=3)
    a.add_argument("--per-class", type=int, default=4000)
    a.add_argument("--threads", type=int, default=1)
    a.add_argument("--rounds", type=int, default=3)
    a = a.parse_args()
    rng = random.Random(1)
    data = []
    for spec in a.classes:
        name, place = spec.split("=", 1)
        folder, ending = place.rsplit(":", 1)
        found = texts(folder, ending, a.lines, a.per_class, rng)
        print(f"{name}: {len(found)} texts")
        data += [(text, name) for text in found]
    rng.shuffle(data)
    tests, seen = data[: len(data) // 10], data[len(data) // 10 :]
    shared = dict(dim=64, epoch=5, lr=0.3, bucket=1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, part in (("train", seen), ("test", tests)):
            with open(folder / f"{name}.jsonl", "w") as out:
                out.writelines(json.dumps({"text": t, "label": l}) + "\n" for t, l in part)
            with open(folder / f"{name}.txt", "w") as out:
                out.writelines(f"__label__{l} {t}\n" for t, l in part)
        size = sum(len(t.encode()) for t, _ in seen) / 1e6
        print(f"{len(seen)} texts to train on, {size:.1f} MB")
        for kind, ngrams in (("words", dict(wordNgrams=2, minn=0, maxn=0)), ("letters", dict(wordNgrams=2, minn=2, maxn=4))):
            for loss in ("softmax", "ova"):
                for _ in range(a.rounds):
                    sets = [f"dim=64", "epochs=5", "lr=0.3", "bucket=1000000", "word_ngrams=2", f'loss="{loss}"']
                    sets += [f"minn={ngrams['minn']}", f"maxn={ngrams['maxn']}"]
                    files = [str(folder / name) for name in ("train.jsonl", "test.jsonl", "model.bin")]
                    ours = json.loads(subprocess.check_output([a.binary, *files, str(a.threads), *sets]))
                    start = time.perf_counter()
                    model = fasttext.train_supervised(
                        input=str(folder / "train.txt"), **shared, **ngrams, loss=loss, thread=a.threads, verbose=0
                    )
                    seconds = time.perf_counter() - start
                    theirs = accuracy(model, tests)
                    start = time.perf_counter()
                    for text, _ in tests:
                        model.f.predict(text + "\n", 1, 0.0, "strict")
                    predicting = sum(len(t.encode()) for t, _ in tests) / 1e6 / (time.perf_counter() - start)
                    crossed = accuracy(fasttext.load_model(files[2]), tests)
                    print(
                        f"{kind} {loss}: accuracy smolt {ours['accuracy']:.4f} (fastText on smolt's model {crossed:.4f}), "
                        f"fastText {theirs:.4f}; training smolt {ours['seconds']:.2f} s, fastText {seconds:.2f} s; "
                        f"predicting smolt {ours['predict_mb_s']:.1f} MB/s, fastText {predicting:.1f} MB/s"
                    )


if __name__ == "__main__":
    main()
