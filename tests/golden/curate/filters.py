#!/usr/bin/env python3
"""Writes filters.jsonl: what datatrove decides about hard documents, for crates/curate/tests/datatrove.rs.

    pip install "datatrove[processing,io]==0.10.1" spacy==3.8.18
    python filters.py

A line is a document: its text; datatrove's English words as [gap, length, …] in bytes; the number of sentences of each
line that C4 counts; and what each filter says under each of the settings: null when it keeps the document, or its
reason; for C4 {"text": …} when it kept another text than it was given.
"""

import json
import random
import re
from pathlib import Path

import datatrove.pipeline.filters.c4_filters as c4_filters
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter
from datatrove.pipeline.filters import GopherRepetitionFilter
from datatrove.pipeline.filters.c4_filters import C4BadWordsFilter, C4ParagraphFilter
from datatrove.utils.text import split_into_words

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

BAD_WORDS = ["captain", "its", "stone of", "c++", "été", "中文", "language.", "fox", "é–é"]


def bad_words(language):
    """The filter with BAD_WORDS for its list, which it would download, in the expressions that it makes of lists."""
    step = C4BadWordsFilter(default_language=language)
    words = "|".join(map(re.escape, BAD_WORDS))
    separate = rf"(?:\W|^)({words})(?:\W|$)"
    step._badwords_regex[language] = re.compile(words if language in ("ja", "th", "zh") else separate)
    return step


# The names are those of the settings in crates/curate/tests/datatrove.rs.
STEPS = {
    "gopher_quality": GopherQualityFilter(),
    "gopher_quality_strict": GopherQualityFilter(
        min_doc_words=5, max_doc_words=200, min_avg_word_length=4, max_avg_word_length=6, max_symbol_word_ratio=0.02,
        max_bullet_lines_ratio=0.2, max_ellipsis_lines_ratio=0.1, max_non_alpha_words_ratio=0.9, min_stop_words=3,
        stop_words=["a", "is", "It", "in", "for"],
    ),
    "gopher_quality_off": GopherQualityFilter(
        min_doc_words=1, max_doc_words=None, min_avg_word_length=None, max_avg_word_length=None,
        max_symbol_word_ratio=None, max_bullet_lines_ratio=None, max_ellipsis_lines_ratio=None,
        max_non_alpha_words_ratio=None, min_stop_words=None,
    ),
    "gopher_repetition": GopherRepetitionFilter(),
    "gopher_repetition_grams": GopherRepetitionFilter(
        dup_line_frac=None, dup_para_frac=None, dup_line_char_frac=None, dup_para_char_frac=None,
        top_n_grams=((1, 0.1), (3, 0.05), (2, 0.06)), dup_n_grams=((3, 0.2), (2, 0.3), (6, 0.05)),
    ),
    "c4": C4QualityFilter(),
    "c4_sentences": C4QualityFilter(split_paragraph=False),
    "c4_off": C4QualityFilter(
        remove_citations=False, filter_no_terminal_punct=False, min_num_sentences=-1, min_words_per_line=-1,
        max_word_length=-1, filter_lorem_ipsum=False, filter_javascript=False, filter_curly_bracket=False,
        filter_policy=False,
    ),
    "c4_some": C4QualityFilter(filter_no_terminal_punct=False, min_num_sentences=2, max_word_length=20),
    "c4_paragraph": C4ParagraphFilter(),
    "c4_badwords": bad_words("en"),
    "c4_badwords_within": bad_words("zh"),
    "fineweb": FineWebQualityFilter(),
    "fineweb_other": FineWebQualityFilter(
        line_punct_thr=0.5, line_punct_exclude_zero=True, stop_chars=(".", "end", ";"), short_line_thr=0.5,
        short_line_length=10, char_duplicates_ratio=0.1, new_line_ratio=0.1,
    ),
}

PROSE = (
    "The harbour was quiet that morning, and the boats that were to leave with the tide lay still. Nobody had told "
    "the captain's daughter why; she didn't ask. \"It's nothing,\" said the cook, but he wouldn't look at her. At 8am "
    "the bells of St. Mary's rang, and Dr. Lee came down the hill with a lantern in his hand, although it was light."
)
WORDS = (
    "river stone of and the to be that with window paper green quickly seven under garden never money light table "
    "children morning because ocean yellow thought winter small answer between people machine history forest"
).split()


def sentence(rng, words):
    chosen = [rng.choice(WORDS) for _ in range(words)]
    return " ".join(chosen).capitalize() + rng.choice([".", ".", ".", "!", "?", "", "...", '."'])


def hard_cases():
    yield from ("", " ", "\n", "\n\n\n", "\t \u00a0\u3000\n", ".", "...", "…", "word", "#", "•", "- ", "\x00", "\x1c\x1d", "\ufeff")
    yield "!@#$%^&*()_+ -=[]{}|;':\",./<>? " * 30
    yield "# " * 60 + PROSE
    yield "\n".join(f"• item number {n} of the list" for n in range(20))
    yield "\n".join(f"  - entry {n} that goes on with the others" for n in range(20))
    yield "\n".join(f"It begins and then {WORDS[n]} to be..." for n in range(20))
    yield "\n".join(f"It begins and then {WORDS[n]} to be…  " for n in range(20))
    yield PROSE
    yield PROSE + "\n" + PROSE
    yield "\n\n".join([PROSE] * 4)
    yield (PROSE + "\n") * 3 + "\n" + PROSE
    yield PROSE.replace(". ", ".\n")
    yield PROSE.replace(". ", ".\r\n") + "\r\n"
    yield PROSE.replace(". ", ".\u2028").replace(", ", ",\x85")
    yield PROSE.replace(". ", ".\x0b").replace(", ", ",\x0c")
    yield PROSE.replace("'", "’").replace('"', "”")
    yield PROSE.upper()
    yield PROSE.replace(" ", "  ")
    yield PROSE.replace(" ", "\u00a0")
    yield PROSE + "\nLorem ipsum dolor sit amet is here."
    yield PROSE.replace(". ", ".\n") + "\nLOREM IPSUM dolor sit amet is here."
    yield PROSE.replace(". ", ".\n") + "\nPlease turn JavaScript on to see it.\nJava[1]script is fine, is it not?"
    yield PROSE.replace(". ", ".\n") + "\nWe use cookies as the others do.\nOur Privacy Policy is long.\nRead the TERMS OF USE."
    yield PROSE.replace(". ", ".\n") + "\nWe use coo\u212aies as the others do.\nJavaScr\u0130pt is not it."
    yield PROSE.replace(", ", "[12], ").replace(". ", "[citation needed].\n[edit] It[]self. [1\u0663] [a] [\n")
    yield PROSE.replace(". ", ".\n") + "\nThen \\frac{1}{2} is one half of the whole."
    yield PROSE.replace(". ", ".\n") + "\n" + "w" * 1001 + " is a long word.\n" + "é" * 1000 + " is not too long."
    yield "w" * 30 + " " + PROSE + " " + "x" * 200
    yield "incomprehensibilities notwithstanding " * 40
    yield "a b c d e f g " * 30
    yield "the cat sat " * 40 + PROSE
    yield "one two three four five six seven eight nine ten eleven. " * 5 + PROSE
    yield "-- --- -- --- --- -- --- -- -- --- " * 12 + PROSE
    yield "1 22 333 4444 " * 40
    yield "yes no\n" * 50
    yield "\n".join(WORDS * 3)
    yield "\n" + PROSE + "\n\n\n\n"
    yield "\\begin{equation}\n  E = mc^2 + \\sum_{i=1}^{n} x_i\n\\end{equation}\n" + PROSE.replace(". ", ".\n")
    yield "|---|---|\n| a | b |\n" * 20
    yield "def f(x):\n    return {'a': x[0], \"b\": f(x - 1)} if x > 0 else None  # why?\n" * 3 + "class A(B):\n    pass\n"
    yield "fn main() -> Result<(), Box<dyn Error>> {\n    let x: Vec<u8> = vec![0; 16];\n    println!(\"{x:?}\");\n    Ok(())\n}\n"
    yield "<html><body class=\"a\"><p>Some text &amp; more</p><a href='https://a.org/b?c=d'>x</a></body></html>\n" * 5
    yield "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", 1 << 3); return 0; } /* why not? */\n" * 4
    yield "SELECT a.b, c FROM t WHERE x>=1 AND y<>'z' -- e.g. this\n" * 5
    yield "key=value\npath=/usr/share/doc/a.txt\nurl=http://10.0.0.1:8080/x-y me@a.org a.b@c-d.com:80/e\n" * 3
    yield "Call 555-1234 by 5p.m. or 10:30am; $5.00/kg, 10km/h, 3°C., 5'10\", 100%, 2x4, 1/2, 3+4-5*6^7, A$5 5A$ 5€.\n" * 2
    yield "I'm, you're, he'd've, it's, y'all, 'cause, o'clock, ma'am, rock'n'roll, dogs', James's, '90s, 'tis, Ph.D., e.g., i.e., U.S.A., a.m. Jan. w/o and/or c'mon\n" * 2
    yield ":) :-( ;D xD foo:) (x): \"): O.O o_O ^_^ <3 </3 >.< (-_-) ¯\\(ツ)/¯ ಠ_ಠ 8) 8-) (8) =D :3 :1 a:b :/ //: http://:)\n" * 2
    yield "well-known state-of-the-art a--b a---b a–b a—b—c a——b a~b x,y x;y x:y 1-2 1--2 1-a a-1 A-B end.Next e.G E.g a..b a...b …a b… ……\n" * 2
    yield "Ünïcödé naïve façade Привет, мир! Это предложение. Ένα δύο τρία; עברית، العربية؟ हिन्दी भाषा। 한국어 문장입니다. №5 ★★ → ☃ é–é É.É\n" * 2
    yield "我喜欢读书。今天天气很好，我们去公园吧！你觉得怎么样？\n" * 3
    yield "これは日本語の文章です。とても長い文章ではありません。\n" * 3
    yield "ภาษาไทยไม่มีช่องว่างระหว่างคำ\n" * 3
    yield "mixed 中文 and English, with カタカナ words (東京) in it. " * 6
    yield "A paragraph. " * 20 + "\n" + "B paragraph. " * 20 + "\n" + "C paragraph. " * 20
    yield "A paragraph. " * 20 + "\n" + "B paragraph. " * 20 + "\n" + "C paragraph."


def made(rng):
    """Documents of random sentences, lines that repeat, bullets, fragments."""
    lines = []
    pool = [sentence(rng, rng.randint(3, 14)) for _ in range(rng.randint(2, 30))]
    for _ in range(rng.randint(1, 25)):
        line = rng.choice(pool) if rng.random() < 0.15 else sentence(rng, rng.randint(1, 16))
        if rng.random() < 0.1:
            line = rng.choice(["- ", "• ", "# ", "  ", "> ", "1. "]) + line
        lines.append(line + rng.choice(["", "", "", " ", "[3]", " {x}", " (see p. 5)"] if rng.random() < 0.2 else [""]))
    return rng.choice(["\n", "\n", "\n\n", " "]).join(lines)


def from_repository(rng):
    """Pieces of this repository's own prose and code."""
    files = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/src/*.md"), *ROOT.glob("crates/*/src/*.rs"), *ROOT.glob("bench/peers/*.py")])
    for _ in range(50):
        text = rng.choice(files).read_text(encoding="utf-8")
        start = rng.randrange(max(1, len(text) - 200))
        yield text[start : start + rng.randint(200, 1000)]


def spans(text):
    flat, char = [], 0
    for word in split_into_words(text):
        start = text.index(word, char)
        flat += [len(text[char:start].encode("utf-8")), len(word.encode("utf-8"))]
        char = start + len(word)
    return flat


def main():
    rng = random.Random(5)
    texts = [*hard_cases(), *(made(rng) for _ in range(100)), *from_repository(rng)]
    counts = []
    split = c4_filters.split_into_sentences

    def counting(text, language):
        sentences = split(text, language)
        counts.append(len(sentences))
        return sentences

    c4_filters.split_into_sentences = counting
    with open(HERE / "filters.jsonl", "w", encoding="utf-8") as out:
        for text in texts:
            line = {"text": text, "words": spans(text)}
            for name, step in STEPS.items():
                counts.clear()
                document = Document(text=text, id="")
                try:
                    verdict = step.filter(document)
                except ZeroDivisionError:
                    continue  # datatrove gives no answer, so none is asked for
                reason = None if verdict is True else verdict[1]
                line[name] = {"text": document.text} if document.text != text else reason
                if name == "c4":
                    line["sentences"] = list(counts)
            out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
