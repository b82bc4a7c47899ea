#!/usr/bin/env python3
"""Builds the bundled corpus from a folder of sources. Run by hand when works.toml changes; never by CI.

    python3 build.py SOURCES

SOURCES holds the files that works.toml names. Writes {prose,code}.{train,held-out}.jsonl.zst (one JSON document a
line: id, source, text) and SOURCES.md beside this script. Needs Python 3.11 and the zstd command.

Formats of a work; each part of one is a work of its own:
  verses  lines "BookChapter:Verse text"; a part is a book, a paragraph a chapter without its numbers
  jargon  the Jargon File as plain text; a part is what stands under one of its headings, `until` another
  source  source files as they are; each file a document
"""

import glob
import json
import os
import re
import subprocess
import sys
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
PIECE = 3_000  # characters after which a document of prose ends with the paragraph (a chapter) or entry
PLAIN = {"‘": "'", "’": "'", "´": "'", "“": '"', "”": '"', "—": "--", "−": "-", "…": "...", "·": ""}
PLAIN = str.maketrans(PLAIN)
PARTING = re.compile(r"^(?!   \S) *((?:Part [IVX]+|Appendix [A-Z])\. .*|Bibliography)$", re.M)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def from_verses(work, text):
    """Each chapter, as one paragraph."""
    chapters = {}
    for chapter, verse in re.findall(rf"^{work['part']}(\d+):\d+ (.*)$", text, re.M):
        chapters.setdefault(chapter, []).append(verse.strip())
    return [[" ".join(verses)] for verses in chapters.values()]


def paragraph(block):
    """A block of running text as one line; None for headings, figures, tables, links and addresses."""
    lines = block.split("\n")
    if not all(re.match(r"   \S", line) for line in lines) or re.search(r"[─-╿═]|\S@\S+\.\w|^   \|", block):
        return None
    text = " ".join(block.translate(PLAIN).split())
    text = re.sub(r"\{([^{}]*)\}", r"\1", text)
    return text if text.endswith((".", "!", "?", ":", '"', "'", ")", "]")) else None


def from_jargon(work, text):
    """Each entry of the lexicon, or each paragraph of running text, without the tables of contents."""
    pieces = PARTING.split(text.replace("\u00a0", " "))
    text = pieces[pieces.index(work["part"]) + 1]
    text = text.split(f"\n{work['until']}\n")[0] if "until" in work else text
    entries, word = [], None
    lexicon = re.search(r"^   :", text, re.M)
    for block in re.split(r"\n\s*\n", text[lexicon.start() :] if lexicon else text):
        head = re.match(r"   :([^:]+): ?(.*)", " ".join(block.split("\n")))
        if head and lexicon:
            # Pronunciations between slashes are in a notation of the File's own.
            grammar = re.sub(r"/[^/]*/(,| or)? *", "", " ".join(head[2].split()))
            word = f"{head[1]}, {grammar}" if grammar else f"{head[1]}."
            entries.append([])
        elif (line := paragraph(block)) and (lexicon or len(line) >= 24):
            if not lexicon:
                entries.append([])
            line = f"{word} {line}".translate(PLAIN) if word else line
            entries[-1].append(line)
            word = None
    return entries


READERS = {"verses": from_verses, "jargon": from_jargon}


def documents(work, root):
    """(id, text) of each document of a work, in the order of its files."""
    paths = sorted({p for pattern in work["files"] for p in glob.glob(os.path.join(root, pattern), recursive=True)})
    paths = [p for p in paths if os.path.isfile(p)]
    if not paths:
        sys.exit(f"{work['id']}: no file matches {work['files']} under {root}")
    if work["format"] == "source":
        for path in paths:
            text = read(path)
            if 300 <= len(text) <= 60_000 and "\0" not in text and max(map(len, text.split("\n"))) <= 200:
                yield f"{work['id']}/{os.path.relpath(path, os.path.join(root, work['base']))}", text
        return
    pages = [[]]
    for entry in READERS[work["format"]](work, read(paths[0])):
        if sum(map(len, pages[-1])) >= PIECE:
            pages.append([])
        pages[-1].extend(entry)
    # A short last page belongs to the one before it.
    if len(pages) > 1 and sum(map(len, pages[-1])) < PIECE // 4:
        last = pages.pop()
        pages[-1].extend(last)
    for number, page in enumerate(pages, 1):
        yield f"{work['id']}/{number:03}", "\n\n".join(page) + "\n"


def works(manifest):
    """The works of the manifest, each part of one with the keys of the whole."""
    for work in manifest["work"]:
        for part in work.get("parts", [{}]):
            name = {"id": f"{work['id']}-{part['id']}"} if part else {}
            yield {**work, **part, **name}


def compress(name, lines):
    raw = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    path = os.path.join(HERE, f"{name}.jsonl.zst")
    subprocess.run(["zstd", "-q", "-f", "-19", "--long=24", "-o", path], input=raw, check=True)
    print(f"{name}: {len(raw)} -> {os.path.getsize(path)} bytes")


def main():
    root = sys.argv[1]
    with open(os.path.join(HERE, "works.toml"), "rb") as file:
        manifest = tomllib.load(file)
    groups, rows, notices, seen = {}, [], {}, set()
    for work in works(manifest):
        lines = []
        for id, text in documents(work, root):
            # The same text twice (a vendored copy) teaches nothing and can leak into held-out.
            if text not in seen:
                seen.add(text)
                lines.append({"id": id, "source": work["id"], "text": text})
        size = sum(len(line["text"].encode()) for line in lines)
        groups.setdefault(f"{work['kind']}.{work['split']}", []).extend(lines)
        rows.append((work, len(lines), size))
        texts = [read(os.path.join(root, file)) for file in work.get("licence_files", [])]
        for notice in texts or [work["notice"]]:
            notices.setdefault(notice.strip("\n"), []).append(work["id"])
    for name, lines in groups.items():
        compress(name, lines)
    with open(os.path.join(HERE, "SOURCES.md"), "w", encoding="utf-8") as out:
        columns = ("id", "title", "author", "year", "origin", "licence", "kind", "split")
        out.write(manifest["preface"].strip() + "\n\n| work | " + " | ".join(columns[1:]) + " | documents | bytes |\n")
        out.write("|---" * (len(columns) + 2) + "|\n")
        for work, count, size in rows:
            out.write("| " + " | ".join(str(c) for c in [work[k] for k in columns] + [count, size]) + " |\n")
        for name in groups:
            total = sum(size for work, _, size in rows if f"{work['kind']}.{work['split']}" == name)
            out.write(f"\n{name}: {total} bytes of text.")
        out.write("\n\n## NOTICE\n\nThe copyright notices and licence texts of the works above.\n")
        for text, ids in notices.items():
            out.write(f"\n### {', '.join(dict.fromkeys(ids))}\n\n```text\n{text}\n```\n")


if __name__ == "__main__":
    main()
