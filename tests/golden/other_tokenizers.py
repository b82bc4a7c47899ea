"""Golden fixtures for crates/text from PyPI `tokenizers`: how other families' files encode and decode, what its BPE trainer
learns, and that it reads what is trained here. Writes tests/golden/tokenizers/{families,merges}.json.

usage: python tests/golden/other_tokenizers.py            makes the fixtures
       python tests/golden/other_tokenizers.py FOLDER…    checks that AutoTokenizer gives the ids of FOLDER/expected.json
"""

import json
import random
import sys
from pathlib import Path

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent / "tokenizers"

TEXTS = [
    "", " ", "  ", "\n", "Hello, world!", "The quick brown fox jumps over the lazy dog.", "It's Zoë's café, isn't it?",
    "def f(x):\n    return x + 1\n\n\tpass\r\n", "1 12 123 1234 12345 342792 3.14", "今天天气很好。", "明日は雨です", "ภาษาไทยง่าย",
    "Привет, мир!", "مرحبا بالعالم", "🧑‍🚀🚀 emoji", "e\u0301 and é", "a<|end|>b <|end|> c", "<s>x</s>", "tabs\tand   spaces ", " leading",
    "▁mark▁", "<0x41>", "UPPER lower MiXeD", "\u0000\u0007control", "ﬁ ligature ½", "한국어 텍스트", "x" * 120, "!!! ??? ...", "über naïve façade",
]

CORPUS = (TEXTS + [f"{a} {b} {c}" for a in TEXTS[4:9] for b in TEXTS[9:14] for c in ("one", "two", "three", "é", "日本")]) * 4
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def bpe(**options):
    """A BPE over letters with byte tokens, as SentencePiece's converter writes it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    special = ["<unk>", "<s>", "</s>"] + BYTES
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=620, special_tokens=special, show_progress=False, limit_alphabet=80)
    tokenizer.train_from_iterator(CORPUS, trainer)
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] in special[:3]]
    file.update(options)
    return file


def unigram(**options):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    file = json.loads(tokenizer.to_str())
    file.update(options)
    return file


def wordpiece(**options):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=options.pop("lowercase", True))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)])
    file = json.loads(tokenizer.to_str())
    file.update(options)
    return file


def byte_level(pattern=None, **options):
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    tokenizer.pre_tokenizer = level if pattern is None else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|end|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    file = json.loads(tokenizer.to_str())
    file.update(options)
    return file


def part(component):
    return json.loads(component.__getstate__())


def families():
    fallback = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    llama = {
        "normalizer": part(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])),
        "pre_tokenizer": None,
        "decoder": part(decoders.Sequence(fallback + [decoders.Strip(" ", 1, 0)])),
        "post_processor": part(processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])),
    }
    mistral = {**llama, "normalizer": None, "pre_tokenizer": part(pre_tokenizers.Metaspace(prepend_scheme="first", split=False))}
    gemma = {
        "normalizer": part(normalizers.Replace(" ", "▁")),
        "pre_tokenizer": part(pre_tokenizers.Split(" ", "merged_with_previous")),
        "decoder": part(decoders.Sequence(fallback)),
    }
    t5 = {"pre_tokenizer": part(pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])),
          "decoder": part(decoders.Metaspace()),
          "post_processor": part(processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)]))}
    albert = {"normalizer": part(normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(),
                                                       normalizers.Lowercase(), normalizers.Replace(Regex(" {2,}"), " ")])),
              "pre_tokenizer": part(pre_tokenizers.Metaspace()), "decoder": part(decoders.Metaspace())}
    added = byte_level()
    added["added_tokens"] += [
        {"id": 400, "content": "<tool>", "single_word": False, "lstrip": True, "rstrip": True, "normalized": False, "special": False},
        {"id": 401, "content": "word", "single_word": True, "lstrip": False, "rstrip": False, "normalized": True, "special": False},
    ]
    return {
        "llama-2": bpe(**llama), "mistral": bpe(**mistral), "gemma": bpe(**gemma),
        "t5": unigram(**t5), "albert": unigram(**albert),
        "bert-uncased": wordpiece(), "bert-cased": wordpiece(lowercase=False),
        "bloom": byte_level(r" ?[^(\s|[.,!?…。，、।۔،])]+"),
        "digits-from-right": byte_level(r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))|[^\p{N}]+"),
        "nfkc": byte_level(normalizer=part(normalizers.NFKC())),
        "added-tokens": added,
    }


def words(draw, letters):
    return "".join(draw.choices(letters, k=draw.randint(1, 14))) if draw.random() < 0.7 else draw.choice(letters) * draw.randint(1, 30)


def merges():
    """Corpora of few letters and long runs, where ties and strings made in two ways are common."""
    cases = []
    for seed, letters in enumerate(["ab", "a-=", "aAé日", "01ab", "xyz ,."]):
        draw = random.Random(seed)
        lines = [" ".join(words(draw, letters) for _ in range(draw.randint(1, 12))) for _ in range(80)]
        for size in (300, 400, 640):
            file = byte_level_of(lines, size)
            cases.append({"letters": letters, "lines": lines if size == 300 else None, "vocab_size": size, "merges": file["model"]["merges"]})
    return cases


def byte_level_of(lines, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(lines, trainer)
    return json.loads(tokenizer.to_str())


def make():
    HERE.mkdir(exist_ok=True)
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    with open(HERE / "families.json", "w") as out:
        out.write(f'{{"tokenizers":{dump(tokenizers.__version__)},\n"texts":{dump(TEXTS)},\n"families":{{\n')
        rows = []
        for name, file in families().items():
            tokenizer = Tokenizer.from_str(json.dumps(file))
            full = [tokenizer.encode(text).ids for text in TEXTS]
            bare = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
            decoded = [tokenizer.decode(ids, skip_special_tokens=True) for ids in full]
            rows.append(f'{dump(name)}:{{"file":{dump(file)},\n"ids":{dump(full)},\n"bare":{dump(bare)},\n"decoded":{dump(decoded)}}}')
        out.write(",\n".join(rows) + "\n}}\n")
    cases = merges()
    with open(HERE / "merges.json", "w") as out:
        out.write("[\n" + ",\n".join(map(dump, cases)) + "\n]\n")
    print(len(rows), "families,", len(cases), "trainings")


def check(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    raw = Tokenizer.from_file(f"{folder}/tokenizer.json")
    cases = json.loads((Path(folder) / "expected.json").read_text())
    wrong = 0
    for case in cases:
        got = [tokenizer(case["text"])["input_ids"], raw.encode(case["text"]).ids]
        text = raw.decode(case["ids"], skip_special_tokens=False)
        if got != [case["ids"]] * 2 or text != case["decoded"]:
            wrong += 1
            print(folder, repr(case["text"]), case["ids"], *got, repr(case["decoded"]), repr(text))
    print(folder, type(tokenizer).__name__, len(tokenizer), "tokens,", len(cases), "texts,", wrong, "differ")
    return wrong


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(sum(map(check, sys.argv[1:])) > 0)
    make()
