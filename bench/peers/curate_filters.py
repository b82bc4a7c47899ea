#!/usr/bin/env python3
"""datatrove's Gopher, C4 and FineWeb filters on a corpus: time, decisions, and how they compare with smolt's.

    pip install "datatrove[processing,io]==0.10.1" spacy
    python make_curation_corpus.py corpus.jsonl
    python curate_filters.py time corpus.jsonl                       # one process, warmed, MB/s of CPU time
    python curate_filters.py decide corpus.jsonl theirs.jsonl [--words words.jsonl]
    cargo run --release -p smolt-curate --example filters -- corpus.jsonl --decisions ours.jsonl [--words words.jsonl]
    python curate_filters.py compare corpus.jsonl theirs.jsonl ours.jsonl [--show 20]

`decide` writes a line per document: each filter's reason (null: kept), and the text that C4 left. With --words it also
writes datatrove's own words (byte offsets) and the sentences of each line that C4 kept, so that smolt can decide on
the same segmentation. `compare` counts what differs, by filter and pair of reasons.
"""

import argparse
import collections
import hashlib
import json
import time

FILTERS = ("gopher_quality", "gopher_repetition", "c4", "fineweb")


def filters():
    from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

    made = (GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(), FineWebQualityFilter())
    return dict(zip(FILTERS, made))


def read(path, limit=None):
    with open(path, encoding="utf-8") as lines:
        for index, line in enumerate(lines):
            if index == limit:
                return
            yield json.loads(line)


def document(text):
    from datatrove.data import Document

    return Document(text=text, id="")


def reason(verdict):
    """Datatrove's answer as a reason, None when it keeps the document."""
    if isinstance(verdict, tuple):
        verdict, why = verdict
        return None if verdict else why
    return None if verdict else "rejected"


def measure(args):
    texts = [record["text"] for record in read(args.corpus, args.limit)]
    size = sum(len(text.encode("utf-8")) for text in texts)
    print(f"{len(texts)} documents, {size / 1e6:.1f} MB")
    for name, step in filters().items():
        if args.filter and name not in args.filter:
            continue
        for text in texts[:50]:
            step.filter(document(text))
        kept = 0
        start, cpu = time.perf_counter(), time.process_time()
        for text in texts:
            kept += reason(step.filter(document(text))) is None
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        rate = size / 1e6 / cpu
        print(f"{name:18} {rate:8.2f} MB/s  {cpu:8.1f} s CPU, {seconds:8.1f} s  kept {kept}", flush=True)


def spans(text):
    """Byte offsets of datatrove's English words, as [start, end, start, end, …]."""
    from datatrove.utils.text import split_into_words

    flat, char, byte = [], 0, 0
    for word in split_into_words(text):
        start = text.index(word, char)
        byte += len(text[char:start].encode("utf-8"))
        end = byte + len(word.encode("utf-8"))
        flat += [byte, end]
        char, byte = start + len(word), end
    return flat


def decide(args):
    import datatrove.pipeline.filters.c4_filters as c4

    steps, counts = filters(), []
    split = c4.split_into_sentences

    def counting(text, language):
        sentences = split(text, language)
        counts.append(len(sentences))
        return sentences

    c4.split_into_sentences = counting
    words = open(args.words, "w", encoding="utf-8") if args.words else None
    with open(args.out, "w", encoding="utf-8") as out:
        for record in read(args.corpus, args.limit):
            line = {}
            counts.clear()
            for name, step in steps.items():
                doc = document(record["text"])
                try:
                    line[name] = reason(step.filter(doc))
                except ZeroDivisionError:
                    line[name] = "ZeroDivisionError"
                if name == "c4" and line[name] is None:
                    line["c4_text"] = hashlib.blake2b(doc.text.encode("utf-8"), digest_size=16).hexdigest()
                    if args.texts:
                        line["c4_full"] = doc.text
            out.write(json.dumps(line) + "\n")
            if words:
                words.write(json.dumps({"words": spans(record["text"]), "sentences": counts}) + "\n")


def compare(args):
    differ = collections.Counter()
    shown = collections.Counter()
    total = edited = 0
    per_filter = collections.Counter()
    ours, theirs = read(args.ours), read(args.theirs)
    for record, mine, yours in zip(read(args.corpus), ours, theirs):
        total += 1
        for name in FILTERS:
            if mine[name] == yours[name]:
                continue
            per_filter[name] += 1
            pair = (name, str(yours[name]), str(mine[name]))
            differ[pair] += 1
            if shown[pair] < args.show:
                shown[pair] += 1
                print(f"{name}: datatrove {yours[name]}, smolt {mine[name]}: {record.get('id')}")
        if mine["c4"] is None and yours["c4"] is None:
            text = hashlib.blake2b(mine["c4_text"].encode("utf-8"), digest_size=16).hexdigest()
            edited += text != yours["c4_text"]
    for (name, yours, mine), count in sorted(differ.items()):
        print(f"{count:6}  {name}: datatrove {yours}, smolt {mine}")
    for name in FILTERS:
        print(f"{name:18} {100 * (1 - per_filter[name] / max(total, 1)):8.3f} % the same of {total}")
    print(f"texts that C4 left otherwise: {edited}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    add = commands.add_parser("time")
    add.add_argument("corpus")
    add.add_argument("--limit", type=int)
    add.add_argument("--filter", action="append", choices=FILTERS)
    add.set_defaults(run=measure)
    add = commands.add_parser("decide")
    add.add_argument("corpus")
    add.add_argument("out")
    add.add_argument("--words")
    add.add_argument("--limit", type=int)
    add.add_argument("--texts", action="store_true", help="also write the text that C4 left")
    add.set_defaults(run=decide)
    add = commands.add_parser("compare")
    add.add_argument("corpus")
    add.add_argument("theirs")
    add.add_argument("ours")
    add.add_argument("--show", type=int, default=3, help="examples of each kind of difference")
    add.set_defaults(run=compare)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
