"""chrF and chrF++ of sacrebleu for pairs of sentences, and for all of them as a corpus.

    pip install sacrebleu        # 2.6.0 when this was last run
    python chrf.py               # writes chrf/cases.json
"""

import json
import random
from pathlib import Path

import sacrebleu
from sacrebleu.metrics import CHRF

OUT = Path(__file__).parent / "chrf"

PAIRS = [
    ("The mill stands by the river.", "The mill stands by the river."),
    ("The mill stood near a river.", "The mill stands by the river."),
    ("A river.", "The mill stands by the river."),
    ("The mill stands by the river, and the river turns its wheel all day.", "The mill stands by the river."),
    ("xyz", "The mill stands by the river."),
    ("", "The mill stands by the river."),
    (" \t ", "word"),
    ("word", " word\u00a0word\u3000word "),
    ("a", "a"),
    ("a", "b"),
    ("ab", "abcdefgh"),
    ("abcdefgh", "ab"),
    ("the the the the", "the cat"),
    ("(hi) there!", "(hi there)!"),
    ("\"Why?\" she asked - no one knew...", "'Why', she asked; nobody knew."),
    (". , ! ?", ". , ! ?"),
    ("3.5 % of 1,000", "3,5% of 1.000"),
    ("Der Müller geht über die Brücke.", "Der Müller läuft über die alte Brücke."),
    ("水车在河边。", "磨坊的水车立在河边。"),
    ("川のそばに水車がある", "水車は川のそばにあります。"),
    ("мельница стоит у реки", "Мельница стоит у реки."),
    ("\U0001f600 happy \U0001f680", "\U0001f600 happy \U0001f681"),
    ("e\u0301t\u00e9", "\u00e9te\u0301"),
    ("a\u001cb\u001fc\u0085d", "a b c d"),
    ("UPPER lower", "upper LOWER"),
]


def drawn():
    draw = random.Random(3)
    words = "the mill, river stands by turns (its) wheel \"all day\" long. old - new! é 水".split(" ")
    for _ in range(25):
        reference = [draw.choice(words) for _ in range(draw.randrange(1, 15))]
        hypothesis = [draw.choice(words) if draw.random() < 0.3 else word for word in reference if draw.random() < 0.9]
        yield " ".join(hypothesis), " ".join(reference)


def main():
    pairs = PAIRS + list(drawn())
    metrics = {"chrf": CHRF(), "chrf_plus_plus": CHRF(word_order=2)}
    cases = []
    for hypothesis, reference in pairs:
        scores = {name: metric.sentence_score(hypothesis, [reference]).score for name, metric in metrics.items()}
        cases.append({"hypothesis": hypothesis, "reference": reference, **scores})
    hypotheses, references = [list(side) for side in zip(*pairs)]
    corpus = {name: metric.corpus_score(hypotheses, [references]).score for name, metric in metrics.items()}
    OUT.mkdir(exist_ok=True)
    golden = {"sacrebleu": sacrebleu.__version__, "corpus": corpus, "cases": cases}
    (OUT / "cases.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
