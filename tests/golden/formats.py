"""Files of documents as other programs write them: pyarrow, warcio, gzip, zstandard; and what they hold, as JSONL.

    python formats.py        # writes into formats/
"""

import gzip
import io
import json
import random
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

OUT = Path(__file__).parent / "formats"


def jsonl(name, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (OUT / name).write_text(text, encoding="utf-8")


def documents():
    draw = random.Random(5)
    words = "the a data small model trains naïve 漢字 \U0001f600 learning\n of\t \"quoted\" \\ back".split(" ")
    for i in range(300):
        yield {
            "id": f"doc-{i}",
            "text": " ".join(draw.choice(words) for _ in range(draw.randrange(0, 40))),
            "url": f"https://example.org/{i}" if i % 3 else None,
            "source": draw.choice(["web", "books", "code"]),
        }


def parquet():
    rows = list(documents())
    table = pa.Table.from_pylist(rows)
    expected = [{k: v for k, v in row.items() if v is not None} for row in rows]
    jsonl("plain.expected.jsonl", expected)
    for codec in ["none", "snappy", "gzip", "zstd", "lz4"]:
        # Small pages and groups, so that a reader must join several.
        pq.write_table(table, OUT / f"{codec}.parquet", compression=codec, row_group_size=97, data_page_size=512,
                       write_batch_size=16)
    pq.write_table(table, OUT / "v2.parquet", compression="zstd", row_group_size=97, use_dictionary=False,
                   data_page_version="2.0", data_page_size=512, write_batch_size=16, write_page_index=True,
                   column_encoding={"id": "DELTA_BYTE_ARRAY", "text": "DELTA_LENGTH_BYTE_ARRAY", "url": "PLAIN",
                                    "source": "DELTA_BYTE_ARRAY"})
    arrow = table.set_column(3, "source", table["source"].dictionary_encode()).set_column(
        1, "text", table["text"].cast(pa.large_string()))
    pq.write_table(arrow, OUT / "arrow-types.parquet", compression="zstd")

    typed = pa.table({
        "content": pa.array(["one", None, "three"]),
        "id": pa.array([1, 2, 3], pa.uint64()),
        "text": pa.array([True, False, None]),
        "score": pa.array([0.1, float("nan"), None], pa.float32()),
        "price": pa.array([Decimal("1.50"), None, Decimal("-0.05")], pa.decimal128(9, 2)),
        "day": pa.array([date(2024, 2, 29), None, date(1969, 12, 31)]),
        "at": pa.array([datetime(2024, 2, 29, 1, 2, 3, 4000, tzinfo=timezone.utc), None, None], pa.timestamp("us", "UTC")),
        "tags": pa.array([["a", "b"], [], None]),
        "nested": pa.array([{"x": 1, "y": ["p"]}, {"x": None, "y": None}, None]),
        "pairs": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
        "raw": pa.array([b"utf8", b"\xff\x00", None]),
    })
    pq.write_table(typed, OUT / "typed.parquet")
    jsonl("typed.expected.jsonl", [
        {"id": "1", "text": "one", "text_": True, "score": 0.1, "price": "1.50", "day": "2024-02-29",
         "at": "2024-02-29T01:02:03.004000Z", "tags": ["a", "b"], "nested": {"x": 1, "y": ["p"]}, "pairs": {"k": 1},
         "raw": "utf8"},
        {"id": "3", "text": "three", "text_": None, "score": None, "price": "-0.05", "day": "1969-12-31", "at": None,
         "tags": None, "nested": None, "pairs": {}, "raw": None},
    ])


PAGES = [
    ("https://example.org/a", "text/html; charset=utf-8", "<html><body>Héllo 世界</body></html>".encode(), {}),
    ("https://example.org/latin", "text/html; charset=ISO-8859-1", "<p>café</p>".encode("latin-1"), {}),
    ("https://example.org/meta", "text/html", '<meta charset="windows-1251"><p>Привет</p>'.encode("cp1251"), {}),
    ("https://example.org/gz", "text/html", gzip.compress(b"<p>packed</p>", mtime=0), {"Content-Encoding": "gzip"}),
    ("https://example.org/chunked", "text/plain", b"6\r\nchunk \r\n4;x=y\r\nends\r\n0\r\n\r\n",
     {"Transfer-Encoding": "chunked"}),
    ("https://example.org/image", "image/png", b"\x89PNG", {}),
]
EXPECTED = [("<html><body>Héllo 世界</body></html>", {}), ("<p>café</p>", {"charset": "windows-1252"}),
            ('<meta charset="windows-1251"><p>Привет</p>', {"charset": "windows-1251"}), ("<p>packed</p>", {}),
            ("chunk ends", {})]
DATE = "2024-01-02T03:04:05Z"


def record(writer, uri, kind, payload, number, http=None, content_type=None):
    headers = {"WARC-Record-ID": f"<urn:uuid:00000000-0000-0000-0000-{number:012}>", "WARC-Date": DATE}
    return writer.create_warc_record(uri, kind, payload=io.BytesIO(payload), http_headers=http,
                                     warc_headers_dict=headers, warc_content_type=content_type or "")


def warc():
    rows = []
    for name, packed in [("crawl.warc.gz", True), ("crawl.warc", False)]:
        with open(OUT / name, "wb") as file:
            writer = WARCWriter(file, gzip=packed)
            info = record(writer, None, "warcinfo", b"software: test\r\n", 999, content_type="application/warc-fields")
            writer.write_record(info)
            for number, (uri, kind, body, more) in enumerate(PAGES):
                http = StatusAndHeaders("200 OK", [("Content-Type", kind), *more.items()], protocol="HTTP/1.1")
                writer.write_record(record(writer, uri, "request", b"", 100 + number,
                                           StatusAndHeaders("GET / HTTP/1.1", [("Host", "example.org")], is_http_request=True)))
                writer.write_record(record(writer, uri, "response", body, number, http))
    for number, ((uri, kind, _, _), (text, more)) in enumerate(zip(PAGES, EXPECTED)):
        rows.append({"id": f"<urn:uuid:00000000-0000-0000-0000-{number:012}>", "text": text, "url": uri, "date": DATE,
                     "http_status": 200, "content_type": kind, **more})
    jsonl("crawl.expected.jsonl", rows)
    with open(OUT / "crawl.wet.gz", "wb") as file:
        writer = WARCWriter(file, gzip=True)
        for number, text in enumerate(["Plain text\nof a page", "日本語"]):
            writer.write_record(record(writer, f"https://example.org/{number}", "conversion", text.encode(), number,
                                       content_type="text/plain"))
    jsonl("wet.expected.jsonl", [
        {"id": f"<urn:uuid:00000000-0000-0000-0000-{n:012}>", "text": t, "url": f"https://example.org/{n}", "date": DATE}
        for n, t in enumerate(["Plain text\nof a page", "日本語"])])


def archives():
    lines = (OUT / "plain.expected.jsonl").read_bytes().splitlines(keepends=True)
    halves = [b"".join(lines[:150]), b"".join(lines[150:])]
    # The first part ends within a line, so that lines go on over members.
    halves = [halves[0] + halves[1][:10], halves[1][10:]]
    (OUT / "two-members.jsonl.gz").write_bytes(b"".join(gzip.compress(h, mtime=0) for h in halves))
    (OUT / "two-frames.jsonl.zst").write_bytes(b"".join(zstandard.compress(h) for h in halves))


OUT.mkdir(exist_ok=True)
parquet()
warc()
archives()
