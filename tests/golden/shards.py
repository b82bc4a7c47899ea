"""Token shards as datatrove 0.10.1 writes them, and whether it reads ours.

    python tests/golden/shards.py                 rewrites tests/golden/shards/
    python tests/golden/shards.py SHARD.ds LENGTH  reads a shard of smolt with DatatroveFileDataset: the number of
                                                      chunks, the positions of the first, and BLAKE2 of all tokens
"""
import hashlib
import json
import shutil
import struct
import sys
from pathlib import Path

HERE = Path(__file__).parent
TOKENIZER = HERE / "../../recipes/tests/kill-resume/tokenizer/tokenizer.json"
WORDS = "the cat sat on a mat while rain fell and nobody said anything about 17 boats or é ü 字".split()


def documents():
    for i in range(40):
        yield " ".join(WORDS[(i * j + j * j) % len(WORDS)] for j in range(3 + i * 7 % 60))


def make():
    from datatrove.data import Document
    from datatrove.pipeline.tokens.tokenizer import DocumentTokenizer

    out = HERE / "shards"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    texts = list(documents())
    (out / "documents.jsonl").write_text("".join(json.dumps({"id": f"d{i}", "text": t}) + "\n" for i, t in enumerate(texts)))
    variants = {
        "plain": dict(shuffle_documents=False),
        "shuffled": dict(shuffle_documents=True, seed=1),
        "chunked": dict(shuffle_documents=True, shuffle_chunk_size=33, seed=1),
        "loss": dict(shuffle_documents=False, save_loss_metadata=True),
    }
    for name, options in variants.items():
        folder = out / name
        step = DocumentTokenizer(str(folder), str(TOKENIZER), eos_token="<|endoftext|>", save_final_metadata=False, **options)
        data = (Document(text=t, id=str(i), metadata={"no_loss_ranges": [(0, 7)]}) for i, t in enumerate(texts))
        step.run(data)
        for file in folder.iterdir():
            file.rename(out / f"{name}.ds{file.name.split('.ds', 1)[1]}")
        folder.rmdir()


def read(path, length):
    from datatrove.utils.dataset import DatatroveFileDataset

    meta = json.loads(Path(path + ".smolt.json").read_text())
    data = DatatroveFileDataset(path, length, token_size=meta["token_size"], return_positions=True)
    rows = [data[i] for i in range(len(data))]
    ids = [int(t) for row in rows for t in row["input_ids"]]
    digest = hashlib.blake2b(struct.pack(f"<{len(ids)}I", *ids), digest_size=8).hexdigest()
    ends = struct.unpack(f"<{meta['n_documents']}Q", Path(path + ".index").read_bytes())
    assert ends[-1] == meta["n_tokens"] and len(data) == meta["n_tokens"] // (length + 1)
    if meta["eos_token_id"] is not None and meta["packing"] == "concatenate":
        starts = [0, *ends[:-1]]
        for chunk, row in enumerate(rows):
            first = chunk * (length + 1)
            for j, position in enumerate(row["positions"][:length]):
                # datatrove counts from the start of the chunk where a document began before it.
                at = first + j
                start = max([s for s in starts if s <= at] or [0])
                assert int(position) == at - max(start, first), (chunk, j)
    print(json.dumps({"chunks": len(data), "positions": rows[0]["positions"].tolist(), "tokens": digest}))


if __name__ == "__main__":
    read(sys.argv[1], int(sys.argv[2])) if len(sys.argv) == 3 else make()
