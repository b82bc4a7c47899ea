//! The built-in tasks make of a row what lm-evaluation-harness makes of it: tests/golden/eval_tasks.json holds invented rows
//! and what the harness asked a model about them, written by the script beside it.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use smolt_eval::task::pose::{Item, Row, pose};
use smolt_eval::task::{Formulation, Task, builtin};

const GOLDEN: &str = include_str!("../../../tests/golden/eval_tasks.json");

fn rows(of: &Value) -> Vec<Row> {
    of.as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect()
}

fn formulation(name: &str) -> Formulation {
    match name {
        "cloze" => Formulation::Cloze,
        "multiple_choice" => Formulation::MultipleChoice,
        _ => Formulation::Generation,
    }
}

fn posed(case: &Value) -> (Task, Vec<Item>) {
    let mut sets = vec![format!("few_shot.count={}", case["shots"]), "few_shot.sampler=\"first\"".to_owned()];
    if case["task"] == "belebele" {
        sets.push("dataset.config=\"eng_Latn\"".to_owned());
    }
    let task = builtin(case["task"].as_str().unwrap(), &sets).unwrap();
    let questions = rows(&case["rows"]);
    // The script gives the rows backwards as examples.
    let examples: Vec<Row> = questions.iter().rev().cloned().collect();
    let items =
        pose(&task, formulation(case["formulation"].as_str().unwrap()), &questions, Some(&examples)).unwrap();
    (task, items)
}

fn strings(of: &Value) -> Vec<String> {
    of.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The continuations with their delimiters, and the prompt of each.
fn asked(item: &Item) -> (Vec<String>, Vec<String>) {
    let continuations = item.continuations.iter().map(|c| format!("{}{c}", item.delimiter)).collect();
    let count = item.continuations.len().max(1);
    ((0..count).map(|choice| item.prompt(choice)).collect(), continuations)
}

#[test]
fn prompts_and_candidates_are_those_of_the_harness() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    for case in golden.as_array().unwrap() {
        let (task, items) = posed(case);
        let wanted = case["items"].as_array().unwrap();
        assert_eq!(items.len(), wanted.len(), "{}", task.name);
        for (item, wanted) in items.iter().zip(wanted) {
            let (prompts, continuations) = asked(item);
            assert_eq!(prompts, strings(&wanted["prompts"]), "{}", task.name);
            assert_eq!(continuations, strings(&wanted["continuations"]), "{}", task.name);
            if let Some(generation) = task.generation.as_ref().filter(|_| item.answer.is_none()) {
                assert_eq!(generation.stop, strings(&wanted["until"]), "{}", task.name);
            }
        }
    }
}

#[test]
fn the_right_answer_is_that_of_the_harness() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    for case in golden.as_array().unwrap() {
        let (task, items) = posed(case);
        for (item, wanted) in items.iter().zip(case["items"].as_array().unwrap()) {
            let target = wanted["target"].as_str().unwrap();
            let same = match item.answer {
                // An index, or the letter that is shown, or the words that follow each of two prompts.
                Some(answer) => {
                    target == answer.to_string()
                        || target == item.continuations[answer]
                        || item.questions.len() > 1
                }
                None => item.answers.iter().any(|answer| target.contains(answer.as_str())),
            };
            assert!(same, "{} {}: {target:?}, {:?} {:?}", task.name, item.id, item.answer, item.answers);
        }
    }
}

/// The letters are what is scored; the options stay known, for contamination and for checks.
#[test]
fn of_shown_options_letters_are_scored() {
    let row = serde_json::json!({
        "goal": "To dry a shirt,", "sol1": "hang it up in the sun for as long as it takes", "sol2": "eat it", "label": 0
    });
    let rows = [row.as_object().unwrap().clone()];
    let items = pose(&builtin("piqa", &[]).unwrap(), Formulation::MultipleChoice, &rows, None).unwrap();
    assert_eq!(items[0].continuations, ["A", "B"]);
    assert_eq!(items[0].choices[1], "eat it");
    assert!(items[0].prompt(0).contains("\nB. eat it\n"));
}

/// Rows of the tasks that the harness has no file for, in the columns of their data sets.
#[test]
fn tasks_in_other_languages_find_their_columns_and_words() {
    let row = serde_json::json!({
        "id": 1, "URL": "u", "sentence_eng_Latn": "The sea is calm.", "sentence_fra_Latn": "La mer est calme. "
    });
    let rows = [row.as_object().unwrap().clone()];
    for (pair, prompt, answer) in [
        ("eng_Latn-fra_Latn", "EN: The sea is calm. FR:", "La mer est calme."),
        ("fra_Latn-eng_Latn", "FR: La mer est calme. EN:", "The sea is calm."),
    ] {
        let sets = [format!("dataset.config=\"{pair}\""), "few_shot.count=0".to_owned()];
        let items =
            pose(&builtin("flores200", &sets).unwrap(), Formulation::Generation, &rows, None).unwrap();
        assert_eq!((items[0].prompt(0).as_str(), items[0].answers[0].as_str()), (prompt, answer));
    }
    let row = serde_json::json!({
        "sample_id": "a/test/0", "subject": "anatomy", "question": "Wo liegt das Herz? ", "option_a": "Brust", "option_b": "Knie",
        "option_c": "Hand", "option_d": "Kopf", "answer": "A", "cultural_sensitivity_label": "CA"
    });
    let mut sensitive = row.as_object().unwrap().clone();
    sensitive.insert("cultural_sensitivity_label".into(), "CS".into());
    let rows = [sensitive, row.as_object().unwrap().clone()];
    let german = builtin("global_mmlu", &["dataset.config=\"de\"".to_owned()]).unwrap();
    let items = pose(&german, Formulation::Cloze, &rows, None).unwrap();
    assert_eq!((items.len(), items[0].row, items[0].answer), (1, 1, Some(0)));
    assert_eq!(items[0].prompt(0), "Frage: Wo liegt das Herz?\nAntwort:");
    let row = serde_json::json!({
        "flores_passage": "桥是木头做的。", "question": "桥是什么做的？", "mc_answer1": "木头", "mc_answer2": "石头", "mc_answer3": "铁",
        "mc_answer4": "冰", "correct_answer_num": "1"
    });
    let chinese = builtin("belebele", &["dataset.config=\"zho_Hans\"".to_owned()]).unwrap();
    let items = pose(&chinese, Formulation::Cloze, &[row.as_object().unwrap().clone()], None).unwrap();
    assert_eq!(items[0].prompt(0), "桥是木头做的。\n问题：桥是什么做的？\n答案：");
}

/// Five reasoned examples, then the question, which ends where the reasoning begins.
#[test]
fn harder_exam_questions_are_reasoned_about_as_their_examples_are() {
    let row = |question: &str, reasoning: &str| {
        let value = serde_json::json!({
            "question_id": 7, "question": question, "options": ["1", " 2", "3", "4", "5"], "answer": "B", "answer_index": 1,
            "cot_content": reasoning, "category": "math"
        });
        value.as_object().unwrap().clone()
    };
    let task = builtin("mmlu_pro", &["few_shot.count=1".to_owned()]).unwrap();
    let examples = [row("1 + 1?", "A: Let's think step by step. One and one are two. The answer is (B).")];
    let items = pose(&task, Formulation::Generation, &[row("4 / 2?", "")], Some(&examples)).unwrap();
    let options = "Options:\nA. 1\nB. 2\nC. 3\nD. 4\nE. 5\nAnswer: Let's think step by step.";
    assert_eq!(
        items[0].prompt(0),
        format!(
            "The following are multiple choice questions (with answers) about math. Think step by step and then finish your \
             answer with \"the answer is (X)\" where X is the correct letter choice.\nQuestion:\n1 + 1?\n{options} One and one \
             are two. The answer is (B).\n\nQuestion:\n4 / 2?\n{options}"
        )
    );
    let judge = smolt_eval::score::generation::Judge::new(task.generation.as_ref().unwrap()).unwrap();
    assert_eq!(judge.judge(" It is two. The answer is (B).", &items[0].answers)[0].value, 1.0);
    assert_eq!(judge.judge(" The answer is (C).", &items[0].answers)[0].value, 0.0);
    let shown = pose(&task, Formulation::MultipleChoice, &[row("4 / 2?", "")], Some(&examples)).unwrap();
    assert_eq!((shown[0].continuations.len(), shown[0].answer), (5, Some(1)));
    // In some subjects the right option alone begins with a space.
    let cloze = pose(&task, Formulation::Cloze, &[row("4 / 2?", "")], Some(&examples)).unwrap();
    assert!(shown[0].prompt(0).contains("\nB. 2\n") && cloze[0].continuations[1] == "2");
}
