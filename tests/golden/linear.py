"""Makes tests/golden/fasttext/: tiny models of PyPI fasttext-numpy2-wheel 0.9.2 (fastText 0.9.2) and what it predicts with them.

    python tests/golden/linear.py

Six made-up languages, each with its own syllables, so that the models learn something in a second.
"""

import json
import pathlib
import random
import tempfile

import fasttext

HERE = pathlib.Path(__file__).parent / "fasttext"
SYLLABLES = {
    "ka": ["ka", "ko", "ki", "ta", "to"],
    "sch": ["schn", "ich", "ung", "ei", "au"],
    "üñ": ["ñü", "éa", "oï", "çã", "ê"],
    "漢": ["漢", "字", "語", "文", "本"],
    "mix": ["ka", "ich", "éa", "字", "q"],
    "rare": ["zx", "xz", "zzx"],
}


def sentence(rng, label):
    words = ["".join(rng.choices(SYLLABLES[label], k=rng.randint(1, 3))) for _ in range(rng.randint(3, 9))]
    return " ".join(words)


def main():
    HERE.mkdir(exist_ok=True)
    rng = random.Random(5)
    labels = [label for label in SYLLABLES for _ in range(20 if label == "rare" else 80)]
    rng.shuffle(labels)
    texts = [sentence(rng, label) for label in SYLLABLES for _ in range(4)]
    texts += ["", "the quick brown fox", "kata\tkoki  ich", "__label__ka kata", "__label__none", "éa", "</s>", "< > <>"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for label in labels:
            file.write(f"__label__{label} {sentence(rng, label)}\n")
        file.flush()
        base = dict(input=file.name, epoch=20, lr=0.3, thread=1, verbose=0, seed=1)
        small = dict(base, dim=6, wordNgrams=2, minn=2, maxn=4, bucket=300)
        models = {}

        def train(name, **settings):
            model = fasttext.train_supervised(**settings)
            model.save_model(str(HERE / name))
            models[name] = model
            return model

        train("softmax.bin", **small, loss="softmax")
        train("words.bin", **dict(base, lr=0.1), dim=5, wordNgrams=1, minn=0, maxn=0, loss="softmax")
        train("tree.bin", **small, loss="hs")
        train("ova.bin", **small, loss="ova")
        train("sampled.bin", **small, loss="ns")
        for name, settings, quantize in [
            ("quantized.ftz", dict(small, loss="softmax"), dict(qnorm=True)),
            # Five columns in slices of two: the last slice is narrower.
            ("pruned.ftz", dict(small, loss="softmax", dim=5), dict(cutoff=300, retrain=True, qnorm=False)),
            ("pruned-tree.ftz", dict(small, loss="hs"), dict(cutoff=300, retrain=True, qnorm=True)),
            ("unnormed-ova.ftz", dict(small, loss="ova"), dict(qnorm=False, dsub=3)),
        ]:
            model = fasttext.train_supervised(**settings)
            model.quantize(input=file.name, **quantize, verbose=0, thread=1)
            model.save_model(str(HERE / name))
            models[name] = model
    answers = {}
    for name in models:
        model = fasttext.load_model(str(HERE / name))
        rows = []
        for text in texts:
            # The binding's own array copy fails with NumPy 2; its inner call gives (probability, label) pairs.
            pairs = model.f.predict(text + "\n", -1, 0.0, "strict")
            rows.append([[label.removeprefix("__label__"), probability] for probability, label in pairs])
        answers[name] = rows
    with open(HERE / "expected.json", "w") as file:
        json.dump({"texts": texts, "models": answers}, file, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
