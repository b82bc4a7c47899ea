"""Benchmarks as folders in the layout of the Hub, from copies in public git repositories, for places without the Hub.

    python bench/peers/eval_data.py OUT --llm-foundry CLONE --mmlu CLONE --gsm8k CLONE --hellaswag CLONE --flores CLONE

Each CLONE is a git repository (bare or not); what is read is its HEAD:
  --llm-foundry  github.com/mosaicml/llm-foundry            ARC, OpenBookQA, PIQA, WinoGrande, TriviaQA; parts of two more
  --mmlu         github.com/HaeChan0305/MLILAB-FedLLM       data/mmlu, test and dev of 57 subjects
  --gsm8k        github.com/openai/grade-school-math        train and test
  --hellaswag    github.com/klosax/hellaswag_text_data      all 10,042 rows of the validation split
  --flores       github.com/genggui001/opencompass          data/flores200_dataset

Real rows under the Hub's columns: ARC-Easy and -Challenge (test), OpenBookQA (test), PIQA, WinoGrande, HellaSwag
(validation), MMLU (test, dev), GSM8K (test, train), TriviaQA (3,000 of validation), FLORES-200 (dev, devtest). Two were
cleaned by those who copied them, so that what cleans them would have nothing to do: in every seventh row of HellaSwag
brackets as in the original are put back. OpenBookQA, PIQA, WinoGrande, HellaSwag, TriviaQA and ARC have no training rows
there: their first 50 rows stand in as `train`, for examples.

Generated rows with the Hub's columns where the real ones cannot be had, for checking prompts and arithmetic, never for
judging a model: CommonsenseQA (real questions, four of five options), Social IQa (real, two of three answers),
MMLU-Pro (options of other questions of the same subject added), Global-MMLU (MMLU, marked), Belebele and MLMM-HellaSwag
(which sentence of FLORES-200 comes next). OUT/SOURCES.md says which is which.

--easy-sums N writes N generated questions in GSM8K's columns that small models solve, so that right answers are extracted
too; give it an OUT of its own.
"""

import argparse
import bz2
import csv
import io
import json
import pathlib
import random
import subprocess

LANGUAGES = ["eng_Latn", "fra_Latn", "deu_Latn", "spa_Latn", "zho_Hans", "arb_Arab"]
TWO_LETTERS = {"fra_Latn": "fr", "deu_Latn": "de", "spa_Latn": "es", "zho_Hans": "zh", "arb_Arab": "ar"}


class Out:
    """Data sets under one folder, each with the card that says which file is which."""

    def __init__(self, folder):
        self.folder, self.sources, self.configs = pathlib.Path(folder), [], {}

    def write(self, name, config, splits, kind):
        """`splits`: rows by split; a README names them, since `dev` and `devtest` are no splits that names tell."""
        for split, rows in splits.items():
            path = self.folder / name / config / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            self.sources.append(f"| {name} | {config} | {split} | {len(rows):,} | {kind} |")
        self.configs.setdefault(name, []).append((config, list(splits)))

    def close(self):
        for name, configs in self.configs.items():
            lines = ["---", "configs:"]
            for config, splits in configs:
                lines += [f"- config_name: {config}"] + (["  default: true"] if len(configs) == 1 else [])
                lines += ["  data_files:"]
                lines += [part for s in splits for part in (f"  - split: {s}", f"    path: {config}/{s}.jsonl")]
            (self.folder / name / "README.md").write_text("\n".join([*lines, "---", ""]))
        head = ["| data set | configuration | split | rows | what |", "|---|---|---|---|---|"]
        (self.folder / "SOURCES.md").write_text("\n".join([*head, *self.sources, ""]))


def show(clone, path):
    return subprocess.check_output(["git", "-C", str(clone), "show", f"HEAD:{path}"])


def jsonl(clone, path):
    return [json.loads(line) for line in show(clone, path).decode().split("\n") if line.strip()]


def without(text, prefix):
    return text[len(prefix):] if text.startswith(prefix) else text


def lettered(options):
    return {"text": options, "label": [chr(ord("A") + i) for i in range(len(options))]}


def with_train(split, rows):
    """The first rows as examples, too: the sources have no others."""
    return {split: rows, "train": rows[:50]}


def foundry(out, clone):
    data = "scripts/eval/local_data"
    for size in ("Easy", "Challenge"):
        rows = [
            dict(id=f"{size}-{i}", question=without(row["query"], "Question: ").rstrip("\n"), choices=lettered(row["choices"]),
                 answerKey=chr(ord("A") + row["gold"]))
            for i, row in enumerate(jsonl(clone, f"{data}/world_knowledge/arc_{size.lower()}.jsonl"))
        ]
        out.write("ai2_arc", f"ARC-{size}", with_train("test", rows), "real")
    rows = [
        dict(id=f"{i}", question_stem=row["query"], choices=lettered(row["choices"]), answerKey=chr(ord("A") + row["gold"]))
        for i, row in enumerate(jsonl(clone, f"{data}/commonsense_reasoning/openbook_qa.jsonl"))
    ]
    out.write("openbookqa", "main", with_train("test", rows), "real")
    rows = [
        dict(goal=without(row["query"], "Question: ").removesuffix("\n"), sol1=row["choices"][0], sol2=row["choices"][1],
             label=row["gold"])
        for row in jsonl(clone, f"{data}/commonsense_reasoning/piqa.jsonl")
    ]
    out.write("piqa", "plain_text", with_train("validation", rows), "real")
    rows = [winogrande(row) for row in jsonl(clone, f"{data}/language_understanding/winogrande.jsonl")]
    out.write("winogrande", "winogrande_xl", with_train("validation", rows), "real")
    rows = [
        dict(question_id=f"t{i}", question=without(row["context"], "Question: ").removesuffix("\nAnswer:"),
             answer=dict(value=row["answer"], aliases=row["aliases"] or [row["answer"]]))
        for i, row in enumerate(jsonl(clone, f"{data}/world_knowledge/triviaqa_sm_sub.jsonl"))
    ]
    out.write("trivia_qa", "rc.nocontext", with_train("validation", rows), "real, a part")
    rows = []
    for i, row in enumerate(jsonl(clone, f"{data}/commonsense_reasoning/commonsense_qa.jsonl")):
        question, options = row["query"].removesuffix("\nAnswer:").split("\nChoices:\n")
        options = [line.split(". ", 1)[1] for line in options.split("\n")]
        rows.append(dict(id=f"c{i}", question=without(question, "Question: "), choices=options, answerKey=chr(ord("A") + row["gold"])))
    fifth = [rows[(i * 5 + 1) % len(rows)]["choices"][i % 4] for i in range(len(rows))]
    rows = [row | {"choices": lettered([*row["choices"], other])} for row, other in zip(rows, fifth)]
    out.write("commonsense_qa", "default", with_train("validation", rows), "real, the fifth option from another row")
    siqa(out, jsonl(clone, f"{data}/commonsense_reasoning/siqa.jsonl"))


def winogrande(row):
    """Sentence and options again, from what the two contexts have in common."""
    first, second = row["context_options"]
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    same = first.rfind(" ", 0, same) + 1
    return dict(sentence=first[:same] + "_ " + row["continuation"], option1=first[same:], option2=second[same:],
                answer=str(row["gold"] + 1))


def siqa(out, rows):
    parsed = []
    for row in rows:
        context, rest = row["query"].split("\nQuestion: ", 1)
        question, options = rest.removesuffix("\nAnswer:").split("\nChoices:\n")
        parsed.append((without(context, "Context: "), question, [line.split(". ", 1)[1] for line in options.split("\n")], row["gold"]))
    made = [
        dict(context=context, question=question, answerA=options[0], answerB=options[1],
             answerC=parsed[(i * 7 + 1) % len(parsed)][2][0], label=str(gold + 1))
        for i, (context, question, options, gold) in enumerate(parsed)
    ]
    out.write("social_i_qa", "default", with_train("validation", made), "real, one of three answers from another row")


def hellaswag(out, clone):
    lines = bz2.decompress(show(clone, "hellaswag_val_full.txt.bz2")).decode().split("\n")
    rows = []
    for i in range(len(lines) // 6):
        head, label, *endings = lines[6 * i : 6 * i + 6]
        activity, context = head.split(": ", 1)
        before, dot, after = context.rpartition(". ")
        a, b = (before + ".", after) if dot and after[:1].islower() else (context, "")
        if i % 7 == 0:
            a = a.replace(". ", " [title] ", 1)
            endings = ["[substeps] " + ending.replace(", ", " [step] ", 1) for ending in endings]
        rows.append(dict(ind=i, source_id=f"scene~{i}", activity_label=activity, ctx_a=a, ctx_b=b, ctx=f"{a} {b}".strip(), endings=endings, label=label))
    out.write("hellaswag", "default", with_train("validation", rows), "real, brackets put back in every seventh")


def mmlu(out, clone):
    names = subprocess.check_output(["git", "-C", str(clone), "ls-tree", "--name-only", "HEAD", "data/mmlu/test/"], text=True)
    subjects = sorted(pathlib.Path(name).name.removesuffix("_test.csv") for name in names.split())
    splits = {"test": [], "dev": []}
    for split, rows in splits.items():
        for subject in subjects:
            for row in csv.DictReader(io.StringIO(show(clone, f"data/mmlu/{split}/{subject}_{split}.csv").decode())):
                choices = [row[f"choice{i}"] for i in range(4)]
                rows.append(dict(question=row["question"], subject=subject, choices=choices, answer=int(row["answer"])))
    out.write("mmlu", "all", splits, "real")
    keys = ["option_a", "option_b", "option_c", "option_d"]
    rows = [
        dict(sample_id=f"{row['subject']}/test/{i}", subject=row["subject"], question=row["question"],
             **dict(zip(keys, row["choices"])), answer="ABCD"[row["answer"]], cultural_sensitivity_label="CA" if i % 5 else "CS")
        for i, row in enumerate(splits["test"]) if i % 7 == 0
    ]
    out.write("Global-MMLU", "en", {"test": rows}, "generated from MMLU")
    out.write("MMLU-Pro", "default", mmlu_pro(splits), "generated from MMLU")


def mmlu_pro(splits):
    rng, by_subject, made = random.Random(1), {}, {}
    for row in splits["test"]:
        by_subject.setdefault(row["subject"], []).append(row)
    for split, every, source in (("test", 11, "test"), ("validation", 1, "dev")):
        made[split] = rows = []
        for i, row in enumerate(splits[source]):
            if i % every:
                continue
            others = [c for other in rng.sample(by_subject[row["subject"]], 3) for c in other["choices"] if c not in row["choices"]]
            right = row["choices"][row["answer"]]
            options = row["choices"] + list(dict.fromkeys(others))[: rng.randrange(7)]
            rng.shuffle(options)
            at = options.index(right)
            letter = "ABCDEFGHIJ"[at]
            cot = f"A: Let's think step by step. We look for what fits best: {right}. The answer is ({letter})."
            rows.append(dict(question_id=i, question=row["question"], options=options, answer=letter, answer_index=at,
                             cot_content=cot if split == "validation" else "", category=row["subject"].replace("_", " "), src="mmlu"))
    return made


def gsm8k(out, clone):
    splits = {split: jsonl(clone, f"grade_school_math/data/{split}.jsonl") for split in ("test", "train")}
    out.write("gsm8k", "main", splits, "real")


def easy_sums(out, count):
    rng, names, things = random.Random(3), ["Tom", "Ann", "Ben", "Mia"], ["apples", "books", "coins", "shells"]

    def row():
        name, thing, a, b = rng.choice(names), rng.choice(things), rng.randint(1, 9), rng.randint(1, 9)
        question = f"{name} has {a} {thing} and finds {b} more {thing}. How many {thing} does {name} have?"
        return dict(question=question, answer=f"{name} has {a} + {b} = <<{a}+{b}={a + b}>>{a + b} {thing}.\n#### {a + b}")

    out.write("gsm8k", "main", {"test": [row() for _ in range(int(count))], "train": [row() for _ in range(20)]}, "generated")


def flores(out, clone):
    text = {
        (split, code): show(clone, f"data/flores200_dataset/{split}/{code}.{split}").decode().strip("\n").split("\n")
        for split in ("dev", "devtest") for code in LANGUAGES
    }
    for code in LANGUAGES[1:]:
        for pair in (("eng_Latn", code), (code, "eng_Latn")):
            splits = {
                split: [
                    {"id": i + 1, "URL": f"article-{i // 3}", **{f"sentence_{c}": text[split, c][i] for c in pair}}
                    for i in range(len(text[split, code]))
                ]
                for split in ("dev", "devtest")
            }
            out.write("flores", "-".join(pair), splits, "real")
    rng = random.Random(2)
    for code in LANGUAGES:
        lines = text["devtest", code]
        order = [rng.sample(range(len(lines)), 3) for _ in range(len(lines) - 3)]
        belebele, endings = [], []
        for i, others in enumerate(order):
            wrong, at = [lines[o] for o in others if o not in range(i, i + 4)][:3], i % 4
            if len(wrong) < 3:
                continue
            options = wrong[:at] + [lines[i + 3]] + wrong[at:]
            belebele.append(dict(
                link=f"article-{i // 3}", question_number=1, flores_passage=" ".join(lines[i : i + 2]),
                question=f"Which sentence follows this one? {lines[i + 2]}", **{f"mc_answer{k + 1}": o for k, o in enumerate(options)},
                correct_answer_num=str(at + 1), dialect=code))
            endings.append(dict(ind=i, source_id=f"article~{i // 3}", activity_label="News", ctx_a=lines[i + 1], ctx_b=lines[i + 2][:40].rsplit(" ", 1)[0], endings=options, label=str(at)))
        out.write("belebele", code, {"test": belebele}, "generated from FLORES-200")
        if code in TWO_LETTERS:
            out.write("m_hellaswag", TWO_LETTERS[code], {"val": endings}, "generated from FLORES-200")


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("out")
    makers = {"llm-foundry": foundry, "mmlu": mmlu, "gsm8k": gsm8k, "hellaswag": hellaswag, "flores": flores}
    makers["easy-sums"] = easy_sums
    for name in makers:
        a.add_argument(f"--{name}", metavar="N" if name == "easy-sums" else "CLONE")
    a = vars(a.parse_args())
    out = Out(a["out"])
    for name, make in makers.items():
        if clone := a[name.replace("-", "_")]:
            make(out, clone)
    out.close()
    print((out.folder / "SOURCES.md").read_text())


main()
