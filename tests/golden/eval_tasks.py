"""What lm-evaluation-harness makes of a few rows, for the test that smolt's built-in tasks make the same of them.

    python tests/golden/eval_tasks.py        # needs PyPI lm_eval (made with 0.4.13); writes eval_tasks.json

The rows are invented here and have the columns of the benchmarks. The harness reads its own task files; its model
`dummy` answers nothing, but what it was asked is logged.
"""

import importlib.machinery
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
LETTERS = ["A", "B", "C", "D", "E"]


def options(*texts):
    return {"text": list(texts), "label": LETTERS[: len(texts)]}


ARC = [
    dict(id="a", question="Which of these melts in the sun?", choices=options("a stone", "an ice cube", "a nail", "a brick"), answerKey="B"),
    dict(id="b", question="What does a compass show?", choices={"text": ["north", "noon", "dew"], "label": ["1", "2", "3"]}, answerKey="1"),
    dict(id="c", question="Wool keeps warm because it", choices=options("holds air", "is red", "is wet", "hums", "sinks"), answerKey="A"),
]
HELLASWAG = [
    dict(ind=1, source_id="a~1", activity_label="Baking bread", ctx_a="A baker kneads dough.", ctx_b="she", ctx="A baker kneads dough. she", label="2",
         endings=["paints the roof.", "[substeps] swims away.", "puts it into the oven.", "  sells a horse [step] twice."], split="val"),
    dict(ind=2, source_id="w~2", activity_label="Home and Garden", ctx_a="[header] How to water plants [title] Fill the can. [step] Do not spill.", ctx_b="",
         ctx="x", label="0", endings=["[substeps] Pour slowly.", "Run.", "Sing [title] Loudly.", "Wait  a year."], split="val"),
    dict(ind=3, source_id="a~3", activity_label="Rowing", ctx_a="Two men row.", ctx_b="the River", ctx="x", label="3", endings=["a.", "b.", "c.", "d."], split="val"),
]
MMLU = [
    dict(question=" Which gas do plants take up?\n", subject="anatomy", choices=["Neon", "Carbon dioxide", "Argon", "Helium"], answer=1),
    dict(question="How many legs has a spider?", subject="anatomy", choices=["6", "8", "10", "12"], answer=1),
    dict(question="The opposite of north is", subject="anatomy", choices=["east", "west", "south", "up"], answer=2),
]
ROWS = {
    "arc_easy": ("cloze", "arc/arc_easy.yaml", "test", "train", 2, ARC),
    "arc_challenge": ("cloze", "arc/arc_challenge.yaml", "test", "train", 0, ARC),
    "hellaswag": ("cloze", "hellaswag/hellaswag.yaml", "validation", "train", 1, HELLASWAG),
    "mlmm_hellaswag": ("cloze", "okapi/hellaswag_multilingual/hellaswag_fr.yaml", "val", None, 0, HELLASWAG),
    "piqa": ("cloze", "piqa/piqa.yaml", "validation", "train", 1, [
        dict(goal="To dry a shirt,", sol1="hang it up.", sol2="put it into the pond.", label=0),
        dict(goal="open a jar", sol1="sing to it", sol2="turn the  lid", label=1),
        dict(goal="cool tea ", sol1="wait", sol2="heat it", label=0),
    ]),
    "winogrande": ("cloze", "winogrande/default.yaml", "validation", "train", 2, [
        dict(sentence="The vase did not fit the box because _ was too large.", option1="the vase", option2="the box", answer="1"),
        dict(sentence="Ann thanked Eve as _ had been helped. ", option1="Ann", option2="Eve", answer="1"),
        dict(sentence="_ was late, so Tom left without Jim.", option1="Tom", option2="Jim", answer="2"),
    ]),
    "openbookqa": ("cloze", "openbookqa/openbookqa.yaml", "test", "train", 1, [
        dict(id="a", question_stem="A magnet pulls", choices=options("wood", "iron", "glass", "wool"), answerKey="B"),
        dict(id="b", question_stem="Rain falls from", choices=options("clouds", "trees", "lamps", "maps"), answerKey=" A"),
        dict(id="c", question_stem="Fish breathe with", choices=options("fins", "eyes", "gills", "tails"), answerKey="C"),
    ]),
    "siqa": ("cloze", "siqa/siqa.yaml", "validation", "train", 1, [
        dict(context="Kim found a purse.", question="What will Kim do next?", answerA="return it", answerB="eat it", answerC="paint it", label="1"),
        dict(context="Lee lost a race.", question="How does Lee feel?", answerA="glad", answerB="sad", answerC="green", label="2"),
        dict(context="Max was cold.", question="Why did Max light a fire?", answerA="to read", answerB="to sing", answerC="to get warm", label="3"),
    ]),
    "commonsense_qa": ("multiple_choice", "commonsense_qa/default.yaml", "validation", "train", 1, [
        dict(id="a", question=" Where do cows graze? ", choices=options("meadow", "roof", "sea", "sky", "jar"), answerKey="A"),
        dict(id="b", question="What holds soup?", choices=options("net", "bowl", "fork", "belt", "flag"), answerKey="B"),
        dict(id="c", question="Who bakes?", choices=options("pilot", "judge", "baker", "diver", "clerk"), answerKey="C"),
    ]),
    "mmlu": ("multiple_choice", "mmlu/default/mmlu_anatomy.yaml", "test", "dev", 2, MMLU),
    "mmlu (cloze)": ("cloze", "mmlu/continuation/mmlu_anatomy.yaml", "test", "dev", 1, MMLU),
    "mmlu_pro": ("generation", "mmlu_pro/mmlu_pro_math.yaml", "test", "validation", 1, [
        dict(question_id=1, question="What is 3 + 4?", options=["6", " 7", "8"], answer="B", answer_index=1, category="math",
             cot_content="A: Let's think step by step. 3 + 4 is 7. The answer is (B)."),
        dict(question_id=2, question="Half of 9?", options=["4.5 ", "5"], answer="A", answer_index=0, category="math",
             cot_content="A: Let's think step by step. 9 / 2 is 4.5. The answer is (A)."),
    ]),
    "belebele": ("multiple_choice", "belebele/belebele_eng_Latn.yaml", "test", None, 0, [
        dict(link="x", question_number=1, flores_passage="The bridge was built of oak.", question="What was used? ", mc_answer1="oak",
             mc_answer2="steel", mc_answer3="rope", mc_answer4="ice", correct_answer_num="1", dialect="eng_Latn"),
        dict(link="x", question_number=2, flores_passage="The bridge was built of oak.", question="What was built?", mc_answer1="a boat",
             mc_answer2="a barn", mc_answer3="a tower", mc_answer4="a bridge", correct_answer_num="4", dialect="eng_Latn"),
    ]),
    "triviaqa": ("generation", "triviaqa/default.yaml", "validation", "train", 1, [
        dict(question_id="a", question="Which river runs through Paris", answer=dict(value="Seine", aliases=["Seine", "The Seine"])),
        dict(question_id="b", question="Who wrote Faust?", answer=dict(value="Goethe", aliases=["Goethe", "J. W. Goethe"])),
    ]),
    "gsm8k": ("generation", "gsm8k/gsm8k.yaml", "test", "train", 2, [
        dict(question="Tom has 3 pens and buys 4. How many has he?", answer="3 + 4 = <<3+4=7>>7 pens.\n#### 7"),
        dict(question="A crate holds 1,200 nails. How many are in 2?", answer="2 * 1200 = 2,400.\n#### 2,400"),
        dict(question="Half of 9?", answer="9 / 2 = 4.5\n#### 4.5"),
    ]),
}


def asked(folder, name):
    formulation, yaml, split, few_shot, shots, rows = ROWS[name]
    slug = name.replace(" ", "").replace("(", "-").replace(")", "")
    elsewhere = [p for p in sys.path if pathlib.Path(p).resolve() != HERE]
    tasks = pathlib.Path(importlib.machinery.PathFinder.find_spec("lm_eval", elsewhere).origin).parent / "tasks"
    path = folder / f"{slug}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    # MMLU-Pro's own says how examples are written, and takes the first.
    sampler = [] if name == "mmlu_pro" else ["fewshot_config:", "  sampler: first_n"]
    lines = [f"include: {tasks / yaml}", f"task: golden_{slug}", "tag: []", "dataset_path: json", "dataset_name: null",
             f"num_fewshot: {shots}", *sampler, "dataset_kwargs:", "  data_files:", f"    {split}: {path}"]
    if few_shot:
        examples = folder / f"{slug}.examples.jsonl"
        examples.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
        lines += [f"    {few_shot}: {examples}", f"fewshot_split: {few_shot}"]
    (folder / f"{slug}.yaml").write_text("\n".join([*lines, ""]))
    return slug


def read(out, name, slug):
    formulation, _, split, few_shot, shots, rows = ROWS[name]
    path, = out.rglob(f"samples_golden_{slug}_[0-9]*.jsonl")
    samples = [json.loads(line) for line in path.read_text().split("\n") if line]
    items = {}
    for sample in samples:
        args = [sample["arguments"][f"gen_args_{i}"] for i in range(len(sample["arguments"]))]
        items[sample["doc_id"]] = {
            "prompts": [arg["arg_0"] for arg in args],
            "continuations": [arg["arg_1"] for arg in args] if formulation != "generation" else [],
            "until": args[0]["arg_1"]["until"] if formulation == "generation" else [],
            "target": sample["target"],
        }
    return {"task": name.split(" ")[0], "formulation": formulation, "shots": shots, "rows": rows, "items": [items[i] for i in sorted(items)]}


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        slugs = {name: asked(folder, name) for name in ROWS}
        subprocess.check_call(
            [sys.executable, "-m", "lm_eval", "run", "--model", "dummy", "--include_path", folder, "--log_samples", "--output_path", folder / "out",
             "--tasks", ",".join(f"golden_{slug}" for slug in slugs.values())],
            cwd=folder, env=os.environ | dict(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1"),
        )
        found = [read(folder / "out", name, slug) for name, slug in slugs.items()]
    (HERE / "eval_tasks.json").write_text(json.dumps(found, indent=1) + "\n")


main()
