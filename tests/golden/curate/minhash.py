"""Golden fixtures of MinHash from datatrove. Writes tests/golden/curate/minhash/{documents.jsonl.zst,expected.json}.

    pip install 'datatrove[processing,io]==0.10.1' spacy==3.8.18 zstandard
    python tests/golden/curate/minhash.py

documents.jsonl.zst: {"text", "simplified", "words"}: a text, what datatrove makes of it, and the words that its English
tokenizer (spaCy's) finds there, in bytes: starts and lengths. expected.json: for each configuration the signatures'
XXH3 (128 bits, over little-endian u64, document after document, those without a signature left out), the first document's
signature itself, and from its own four stages over two files the clusters and the documents that it keeps. It keeps the
root of its union by size, which in clusters of three and more need not be the first.
"""

import io
import json
import random
import struct
import tempfile
from pathlib import Path

import xxhash
import zstandard
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import simplify_text
from datatrove.utils.word_tokenizers import load_word_tokenizer

ROOT = Path(__file__).resolve().parents[3]
OUT = Path(__file__).parent / "minhash"
CONFIGS = {
    "default": MinhashConfig(),
    "xxhash32": MinhashConfig(hash_config=HashConfig(precision=32)),
    "sha1": MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="sha1"), seed=7, num_buckets=9, hashes_per_bucket=13),
    "sha1-32": MinhashConfig(hash_config=HashConfig(precision=32, hash_fc="sha1"), n_grams=3, seed=4294967295),
}
FOREIGN = [
    "Ёжик в тумане. Медведь считал звёзды: раз, два, 3,5 и ٣٫٥ и ４２!", "Crème brûlée, naïve façade — Ångström’s ÉCOLE; İstanbul",
    "ΟΔΥΣΣΕΥΣ ἄνδρα μοι ἔννεπε, μοῦσα, πολύτροπον", "한국어 문장은 이렇게 생겼다. 두 번째 문장도 있다.", "नमस्ते दुनिया, यह १२३ शब्द हैं।",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ ๑๒๓", "今天天气很好，我们去公园散步吧。【第１章】", "مرحبا بالعالم، هذا ١٢٣٫٤ نص قصير.", "שָׁלוֹם עוֹלָם", "a\u0301\u0323 \u0301 b\u0323\u0301 \u1c80 \ufb03 ½ Ⅷ ²",
    "tabs\tand\x0bcontrols\x00\x1c\x85and\u00a0spaces\u2003\u3000end", "12.5.7 1,234.5 v2.0.1 3. .5 x1y2 １２", "emoji 🚀🧑\u200d🚀 \u200b zero\ufeffwidth",
]


def corpus():
    """Pieces of the bundled corpus, some repeated with a share of their words replaced, and foreign texts."""
    rng = random.Random(5)
    pieces = []
    for name in ["prose.held-out", "code.held-out"]:
        packed = (ROOT / f"crates/data/corpus/{name}.jsonl.zst").read_bytes()
        lines = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read().decode().splitlines()
        for line in lines:
            text = json.loads(line)["text"]
            for _ in range(12):
                start = rng.randrange(max(1, len(text) - 900))
                pieces.append(text[start : start + rng.randrange(100, 900)])
    rng.shuffle(pieces)
    pieces = pieces[:260]
    texts = list(pieces)
    for piece in pieces[:110]:
        words = piece.split(" ")
        start = rng.randrange(len(words))
        count = int(len(words) * rng.choice([0, 0, 0.02, 0.05, 0.1, 0.2]))
        words[start : start + count] = [rng.choice(["fish", "Fowl,", "42", "été"]) for _ in words[start : start + count]]
        texts.append(rng.choice([str, str.upper])(" ".join(words)))
    for text in FOREIGN:
        texts += [text, " ".join([text] * 2)]
    texts += ["", " ", "too short", "one two three four five", "one two three four five six", "?!"]
    rng.shuffle(texts)
    return texts


def words_of(simplified, tokenizer):
    at, spans = 0, []
    for word in tokenizer.word_tokenize(simplified):
        start = simplified.index(word, at)
        at = start + len(word)
        spans += [len(simplified[:start].encode()), len(word.encode())]
    return spans


def kept_by_datatrove(texts, config):
    """What remains after datatrove's four stages, and its clusters; the texts in two files as two tasks."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        half = len(texts) // 2
        (folder / "in").mkdir()
        for name, start, part in [("0.jsonl", 0, texts[:half]), ("1.jsonl", half, texts[half:])]:
            lines = [json.dumps({"id": str(start + n), "text": text}) + "\n" for n, text in enumerate(part)]
            (folder / "in" / name).write_text("".join(lines))
        # The reader leaves out empty documents, which would shift the positions, so there are none.
        reader = lambda: JsonlReader(str(folder / "in"), glob_pattern="*.jsonl")
        run = lambda tasks, *steps: LocalPipelineExecutor(pipeline=list(steps), tasks=tasks, workers=1, logging_dir=str(folder / f"log{len(list(folder.iterdir()))}")).run()
        run(2, reader(), MinhashDedupSignature(str(folder / "sigs"), config=config, language="eng"))
        run(config.num_buckets, MinhashDedupBuckets(str(folder / "sigs"), str(folder / "dups"), config=config))
        run(1, MinhashDedupCluster(str(folder / "dups"), str(folder / "remove"), config=config, save_cluster_id=True))
        run(2, reader(), MinhashDedupFilter(str(folder / "remove")), JsonlWriter(str(folder / "out"), compression=None))
        kept = []
        for path in (folder / "out").glob("*.jsonl"):
            kept += [int(json.loads(line)["id"]) for line in path.read_text().split("\n") if line]
        clusters = {}
        for path in (folder / "remove").glob("*.clusters"):
            for document, cluster in struct.iter_unpack("<II", path.read_bytes()):
                clusters.setdefault(cluster, []).append(document + half * int(path.stem))
        return {"kept": sorted(kept), "clusters": sorted(sorted(cluster) for cluster in clusters.values())}


def main():
    texts = [text for text in corpus() if text.strip()] + ["."]
    tokenizer = load_word_tokenizer("eng")
    OUT.mkdir(parents=True, exist_ok=True)
    lines = []
    for text in texts:
        simplified = simplify_text(text)
        lines.append(json.dumps({"text": text, "simplified": simplified, "words": words_of(simplified, tokenizer)}, ensure_ascii=False))
    (OUT / "documents.jsonl.zst").write_bytes(zstandard.ZstdCompressor(level=19).compress("\n".join(lines).encode() + b"\n"))
    expected = {}
    for name, config in CONFIGS.items():
        stage = MinhashDedupSignature("/dev/null", config=config, language="eng")
        hasher, first, count = xxhash.xxh3_128(), None, 0
        for text in texts:
            shingles = stage.get_shingles(text)
            if shingles.size:
                signature = [value for bucket in stage.get_signature(shingles) for value in bucket]
                first = first or signature
                count += 1
                hasher.update(struct.pack(f"<{len(signature)}Q", *signature))
        expected[name] = {
            "n_grams": config.n_grams, "num_buckets": config.num_buckets, "hashes_per_bucket": config.hashes_per_bucket,
            "seed": config.seed, "precision": config.hash_config.precision, "hash_fc": config.hash_config.hash_fc,
            "signed": count, "first": [str(value) for value in first], **kept_by_datatrove(texts, config),
            "signatures": hasher.hexdigest(),
        }
        print(name, count, "signed", len(expected[name]["kept"]), "of", len(texts), "kept")
    (OUT / "expected.json").write_text(json.dumps(expected, separators=(",", ":")).replace("},", "},\n") + "\n")


if __name__ == "__main__":
    main()
