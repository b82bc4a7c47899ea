"""smolt's `encoding`, `pii` and `url` steps beside ftfy and datatrove, on the same documents.

    cargo build --release -p smolt-curate --example apply_step
    python bench/peers/text_steps.py target/release/examples/apply_step FILE.jsonl... [--urls URLS.txt]

Needs PyPI ftfy and datatrove (with tldextract, pyahocorasick). Every document that differs is counted and the first are shown.
URLs are one a line; the lists are those inside datatrove. Each tool runs alone in one process and one thread.
"""

import argparse
import importlib.resources
import json
import pathlib
import subprocess
import tarfile
import tempfile
import time


def smolt(binary, step, rows, *sets):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        done = subprocess.run([binary, step, file.name, *sets], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.split("\n") if line], done.stderr.strip()


def compare(name, rows, ours, said, call):
    start = time.perf_counter()
    theirs = [call(row) for row in rows]
    seconds = time.perf_counter() - start
    size = sum(len(row["text"].encode()) for row in rows) / 1e6
    different = [(row, our, their) for row, our, their in zip(rows, ours, theirs) if our != their]
    print(f"{name}: smolt {said}; peer {seconds:.3f} s, {size / seconds:.2f} MB/s, {len(rows) / seconds:.0f} rows/s; "
          f"{len(different)} of {len(rows)} differ")
    for row, our, their in different[:10]:
        if isinstance(our, str) and len(our) > 80:
            at = next((i for i, (a, b) in enumerate(zip(our, their)) if a != b), min(len(our), len(their)))
            our, their = our[max(0, at - 30) : at + 30], their[max(0, at - 30) : at + 30]
        print("   ", repr(row.get("url", "")), repr(our), repr(their))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("binary")
    arguments.add_argument("files", nargs="*", type=pathlib.Path)
    arguments.add_argument("--urls", type=pathlib.Path)
    a = arguments.parse_args()
    rows = [json.loads(line) for file in a.files for line in file.open()]
    rows = [{"text": row["text"]} for row in rows]
    if rows:
        import ftfy
        from datatrove.pipeline.formatters import PIIFormatter

        config = ftfy.TextFixerConfig(unescape_html=False, fix_latin_ligatures=False, fix_character_width=False,
                                      uncurl_quotes=False, fix_line_breaks=False, normalization=None)
        found, said = smolt(a.binary, "encoding", rows)
        compare("encoding", rows, [f["document"]["text"] for f in found], said, lambda row: ftfy.fix_text(row["text"], config))

        def mask(row):
            # Replacements go round within a document in smolt, within a process in datatrove.
            return PIIFormatter(email_replacement="<E>", ip_replacement="<I>").format(row["text"])

        found, said = smolt(a.binary, "pii", rows, 'email_replacements=["<E>"]', 'ip_replacements=["<I>"]')
        compare("pii", rows, [f["document"]["text"] for f in found], said, mask)
    if a.urls:
        from datatrove.data import Document
        from datatrove.pipeline.filters import URLFilter

        assets = importlib.resources.files("datatrove") / "assets"
        rows = [{"text": "", "url": line.strip()} for line in a.urls.open() if line.strip()]
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(assets / "url_filterblacklistsv0_3_0.tar.gz") as tar:
                tar.extractall(folder, filter="data")
            sets = [f'blocked_domains=["{folder}/domains"]', f'blocked_urls=["{folder}/urls"]']
            sets += [f'{name}=["{assets}/{name}.txt"]' for name in ("banned_words", "banned_subwords", "soft_banned_words")]
            found, said = smolt(a.binary, "url", rows, *sets)
        peer = URLFilter()
        peer.filter(Document("", "0", metadata={"url": "http://example.org"}))

        def judge(row):
            verdict = peer.filter(Document("", "0", metadata=row))
            return "" if verdict is True else verdict[1].replace("subdomain", "domain")

        compare("url", rows, [f["reason"] for f in found], said, judge)


if __name__ == "__main__":
    main()
