#!/usr/bin/env python3
"""Makes a corpus of mixed prose, code and markup from text found on this machine, as JSONL.

    python make_curation_corpus.py OUT.jsonl [--documents 50000] [--corpus FOLDER] [ROOT ...]

The same files give the same corpus: paths are sorted, files are cut into documents at line ends, at lengths that
follow from their names, and which documents are taken follows from a hash. Without ROOT the usual places are
searched: documentation, manual pages, Python packages, Rust sources and their HTML documentation. FOLDER is
what `smolt data corpus --out FOLDER` writes; it is taken whole.

Only the standard library is needed.
"""

import argparse
import gzip
import hashlib
import html.parser
import json
import os
import sysconfig
from pathlib import Path

PROSE = {".txt", ".md", ".rst", ".gz", ".pod", "METADATA", "README", "NEWS", "copyright", ".changes"}
CODE = {".py", ".rs", ".h", ".hpp", ".c", ".pl", ".pm", ".sh", ".js", ".css", ".sql", ".vim", ".toml", ".yml", ".json"}
MARKUP = {".html", ".htm", ".xml", ".svg"}
SHARES = {"prose": 0.5, "code": 0.3, "markup": 0.2}
MIN_CHARS, MAX_CHARS = 40, 9000
MAX_FILE = 1 << 20
PER_FILE = 12


class Text(html.parser.HTMLParser):
    """The text of a page, a block per line, as a crawl would give it."""

    BLOCKS = {"p", "div", "li", "h1", "h2", "h3", "h4", "pre", "tr", "br", "section", "dt", "dd", "summary"}

    def __init__(self):
        super().__init__()
        self.parts, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("script", "style")
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style") and self.hidden > 0
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data):
        if not self.hidden:
            self.parts.append(data)


def number(text, low, high):
    """A number between low and high that follows from the text."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return low + int.from_bytes(digest, "big") % (high - low)


def kind_of(path):
    ending = path.suffix.lower() or path.name
    for kind, endings in (("prose", PROSE), ("code", CODE), ("markup", MARKUP)):
        if ending in endings:
            return kind
    return None


def read(path):
    try:
        if path.stat().st_size > MAX_FILE or path.is_symlink():
            return None
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data[: 2 * MAX_FILE].decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError, gzip.BadGzipFile):
        return None


def documents(path, kind):
    """Cuts a file into documents at line ends."""
    text = read(path)
    if not text or "\0" in text:
        return
    if kind == "markup" and path.suffix.startswith(".htm") and number(str(path), 0, 10) < 8:
        parser = Text()
        parser.feed(text)
        text = "".join(parser.parts)
    start = 0
    for index in range(PER_FILE):
        if start >= len(text):
            return
        length = number(f"{path}:{index}", MIN_CHARS, MAX_CHARS)
        length = max(MIN_CHARS, length * length // MAX_CHARS)
        end = text.find("\n", start + length)
        end = len(text) if end < 0 else end
        yield f"{path}:{index}", text[start:end]
        start = end + 1


def roots():
    found = [Path("/usr/share"), Path("/usr/lib/python3"), Path("/usr/include"), Path(sysconfig.get_paths()["purelib"])]
    home = Path.home()
    found += [home / ".cargo/registry/src", *sorted((home / ".rustup/toolchains").glob("*/share/doc"))]
    return [root for root in found if root.exists()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("roots", nargs="*", type=Path)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--corpus", type=Path)
    args = parser.parse_args()
    taken = []
    if args.corpus:
        for file in sorted(args.corpus.glob("*.jsonl")):
            with open(file, encoding="utf-8") as lines:
                for line in lines:
                    text = json.loads(line).get("text")
                    if text:
                        taken.append(("bundled", f"bundled:{len(taken)}", text))
    files = {kind: [] for kind in SHARES}
    for root in args.roots or roots():
        for folder, below, names in os.walk(root):
            below.sort()
            for name in sorted(names):
                path = Path(folder, name)
                kind = kind_of(path)
                if kind:
                    files[kind].append(path)
    wanted = args.documents - len(taken)
    for kind, share in SHARES.items():
        budget = round(wanted * share)
        ranked = sorted(set(files[kind]), key=lambda path: (number(str(path), 0, 1 << 62), str(path)))
        for path in ranked:
            if budget <= 0:
                break
            for name, text in documents(path, kind):
                if budget > 0:
                    taken.append((kind, name, text))
                    budget -= 1
    taken.sort(key=lambda item: (number(item[1], 0, 1 << 62), item[1]))
    size = 0
    with open(args.out, "w", encoding="utf-8") as out:
        for kind, name, text in taken:
            size += len(text.encode("utf-8"))
            out.write(json.dumps({"id": name, "text": text, "source": kind}, ensure_ascii=False) + "\n")
    print(f"{len(taken)} documents, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
