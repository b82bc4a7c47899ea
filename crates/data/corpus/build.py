#!/usr/bin/env python3
"""Builds the bundled corpus from a folder of sources. Run by hand when works.toml changes; never by CI.

    python3 build.py SOURCES

SOURCES holds the files that works.toml names. Writes {prose,code}.{train,held-out}.jsonl.zst (one JSON document a
line: id, source, text) and SOURCES.md beside this script. Needs Python 3.11 and the zstd command.

Formats of a work:
  html       a page of mdBook: its paragraphs and list items, split at each <h1>
  markdown   paragraphs of prose, without code blocks, tables and markup; each file a document
  gutenberg  plain text between the START and END marks, unwrapped, split at chapter headings
  source     source files as they are; each file a document
"""

import glob
import html.parser
import json
import os
import re
import subprocess
import sys
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
PIECE = 24_000  # a longer document is cut at a paragraph, so that one document is one sitting
QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "—": "--", "–": "-", "…": "...", "\u00a0": " ", "\u00ad": None, "\u200b": None})
CHAPTER = re.compile(r"^\s*(chapter|book|part|letter|stave)\s+[\divxlc]+\b.*$", re.I)


class Paragraphs(html.parser.HTMLParser):
    """The text of <p> and <li> under <main>, never of <pre>; None marks a new chapter."""

    def __init__(self):
        super().__init__()
        self.out, self.text, self.skip, self.inside = [], None, 0, 0

    def handle_starttag(self, tag, attrs):
        if tag == "main":
            self.inside += 1
        elif tag in ("pre", "script", "style", "table", "nav"):
            self.skip += 1
        elif tag == "h1" and self.inside:
            self.out.append(None)
        elif tag in ("p", "li") and self.inside and not self.skip:
            self.flush()
            self.text = []

    def handle_endtag(self, tag):
        if tag == "main":
            self.inside -= 1
        elif tag in ("pre", "script", "style", "table", "nav"):
            self.skip -= 1
        elif tag in ("p", "li"):
            self.flush()

    def handle_data(self, data):
        if self.text is not None and not self.skip:
            self.text.append(data)

    def flush(self):
        if self.text:
            self.out.append("".join(self.text))
        self.text = None


def tidy(paragraphs):
    """One line a paragraph, straight quotes, nothing that is not a sentence."""
    lines = (" ".join(p.translate(QUOTES).split()) for p in paragraphs)
    return [line for line in lines if len(line) >= 40 and line[-1] in ".!?:\"')"]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def from_html(path):
    parser = Paragraphs()
    parser.feed(read(path))
    parser.flush()
    chapter = []
    for paragraph in parser.out + [None]:
        if paragraph is None:
            yield tidy(chapter)
            chapter = []
        else:
            chapter.append(paragraph)


def from_markdown(path):
    text = re.sub(r"<!--.*?-->", "", read(path), flags=re.S)
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.S | re.M)
    text = re.sub(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])?", r"\1", text)
    text = re.sub(r"[`*]|<[^>]+>", "", text)
    blocks = (re.sub(r"^(\d+\.|[-+>])\s+", "", block.strip()) for block in re.split(r"\n\s*\n|\n(?=\s*[-+] )", text))
    yield tidy(block for block in blocks if not re.match(r"#|\||\w+: |\S+:", block))


def from_gutenberg(path):
    text = read(path)
    begin = re.search(r"^\*\*\* ?START OF.*?\*\*\*\s*$", text, re.M)
    end = re.search(r"^(\*\*\* ?END OF|End of (the )?Project Gutenberg)", text, re.M)
    text = text[begin.end() if begin else 0 : end.start() if end else None]
    if "gutenberg" in text.lower():
        text = "\n\n".join(p for p in re.split(r"\n\s*\n", text) if "gutenberg" not in p.lower())
    text = re.sub(r"\[Illustration[^\]]*\]|_", "", text)
    chapter = []
    for block in re.split(r"\n\s*\n", text):
        if CHAPTER.match(block.strip().split("\n")[0] if block.strip() else ""):
            yield tidy(chapter)
            chapter = []
        else:
            chapter.append(block)
    yield tidy(chapter)


READERS = {"html": from_html, "markdown": from_markdown, "gutenberg": from_gutenberg}


def documents(work, root):
    """(id, text) of each document of a work, in the order of its files."""
    paths = sorted({p for pattern in work["files"] for p in glob.glob(os.path.join(root, pattern), recursive=True)})
    paths = [p for p in paths if os.path.isfile(p)]
    if not paths:
        sys.exit(f"{work['id']}: no file matches {work['files']} under {root}")
    number = 0
    for path in paths:
        if work["format"] == "source":
            text = read(path)
            if 300 <= len(text) <= 60_000 and "\0" not in text and max(map(len, text.split("\n"))) <= 200:
                yield f"{work['id']}/{os.path.relpath(path, os.path.join(root, work['base']))}", text
            continue
        for chapter in READERS[work["format"]](path):
            while chapter:
                size, take = 0, 0
                while take < len(chapter) and size < PIECE:
                    size += len(chapter[take])
                    take += 1
                if size >= 200:
                    number += 1
                    yield f"{work['id']}/{number:03}", "\n\n".join(chapter[:take]) + "\n"
                chapter = chapter[take:]


def compress(name, lines):
    raw = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    path = os.path.join(HERE, f"{name}.jsonl.zst")
    subprocess.run(["zstd", "-q", "-f", "-19", "--long=24", "-o", path], input=raw, check=True)
    print(f"{name}: {len(raw)} -> {os.path.getsize(path)} bytes")


def main():
    root = sys.argv[1]
    with open(os.path.join(HERE, "works.toml"), "rb") as file:
        manifest = tomllib.load(file)
    groups, rows, licences, seen = {}, [], {}, set()
    for work in manifest["work"]:
        lines = []
        for id, text in documents(work, root):
            # The same text twice (vendored copies, repeated boilerplate pages) teaches nothing and can leak into held-out.
            if text not in seen:
                seen.add(text)
                lines.append({"id": id, "source": work["id"], "text": text})
        size = sum(len(line["text"].encode()) for line in lines)
        groups.setdefault(f"{work['kind']}.{work['split']}", []).extend(lines)
        rows.append((work, len(lines), size))
        for licence in work["licence_files"]:
            licences.setdefault(read(os.path.join(root, licence)).strip(), []).append(work["id"])
    for name, lines in groups.items():
        compress(name, lines)
    with open(os.path.join(HERE, "SOURCES.md"), "w", encoding="utf-8") as out:
        out.write(manifest["preface"].strip() + "\n\n| work | title | author | year | origin | licence | kind | split | documents | bytes |\n|---|---|---|---|---|---|---|---|---|---|\n")
        for work, count, size in rows:
            cells = [work[k] for k in ("id", "title", "author", "year", "origin", "licence", "kind", "split")]
            out.write("| " + " | ".join(str(c) for c in cells + [count, size]) + " |\n")
        for name in groups:
            total = sum(size for work, _, size in rows if f"{work['kind']}.{work['split']}" == name)
            out.write(f"\n{name}: {total} bytes of text." if name else "")
        out.write("\n\n## NOTICE\n\nThe copyright notices and licence texts of the works above.\n")
        for text, ids in licences.items():
            out.write(f"\n### {', '.join(dict.fromkeys(ids))}\n\n```text\n{text}\n```\n")


if __name__ == "__main__":
    main()
