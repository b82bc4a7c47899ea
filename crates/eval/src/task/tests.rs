use super::pose::{PoseError, Row, pose};
use super::{Formulation, Task, builtin, names};
use serde_json::json;

fn rows(values: &[serde_json::Value]) -> Vec<Row> {
    values.iter().map(|value| value.as_object().unwrap().clone()).collect()
}

fn arc(extra: &str) -> Task {
    let text = format!(
        r#"
name = "arc"
{extra}
[dataset]
path = "x"
[item]
prompt = "Question: {{{{ question }}}}\nAnswer:"
choices = "choices.text"
answer = "choices.label | index(answerKey)"
id = "id"
[cloze]
[multiple_choice]
"#
    );
    Task::parse("arc.toml", text.as_bytes(), &[]).unwrap()
}

fn arc_rows() -> Vec<Row> {
    rows(&[
        json!({"id": "a", "question": "What is wet?", "choices": {"text": ["Sand", "Water"], "label": ["A", "B"]}, "answerKey": "B"}),
        json!({"id": "b", "question": "What is hot?", "choices": {"text": ["Ice", "Fire", "Snow"], "label": ["1", "2", "3"]}, "answerKey": "2"}),
        json!({"id": "c", "question": "What is far?", "choices": {"text": ["Moon", "Hand"], "label": ["A", "B"]}, "answerKey": "A"}),
    ])
}

#[test]
fn a_row_in_cloze_and_multiple_choice() {
    let cloze = pose(&arc(""), Formulation::Cloze, &arc_rows(), None).unwrap();
    assert_eq!(cloze[0].prompt(0), "Question: What is wet?\nAnswer:");
    assert_eq!((cloze[0].continuations.join("|"), cloze[0].answer), ("Sand|Water".into(), Some(1)));
    assert_eq!(cloze[1].answer, Some(1));
    let shown = pose(&arc(""), Formulation::MultipleChoice, &arc_rows(), None).unwrap();
    assert_eq!(shown[1].prompt(0), "Question: What is hot?\nA. Ice\nB. Fire\nC. Snow\nAnswer:");
    assert_eq!(shown[1].continuations, ["A", "B", "C"]);
}

#[test]
fn examples_come_before_and_never_hold_the_item_itself() {
    let mut task = arc("");
    task.few_shot.count = 1;
    let items = pose(&task, Formulation::Cloze, &arc_rows(), None).unwrap();
    assert_eq!(
        items[1].prompt(0),
        "Question: What is wet?\nAnswer: Water\n\nQuestion: What is hot?\nAnswer:"
    );
    assert!(items[0].prompt(0).starts_with("Question: What is hot?\nAnswer: Fire\n\n"), "not itself");
    for sampler in [super::Sampler::Random, super::Sampler::RandomPerItem, super::Sampler::Balanced] {
        task.few_shot.sampler = sampler;
        for item in pose(&task, Formulation::Cloze, &arc_rows(), None).unwrap() {
            assert!(!item.shots.iter().any(|shot| item.questions[0].starts_with(&shot.question)));
        }
    }
    task.few_shot.count = 3;
    let error = pose(&task, Formulation::Cloze, &arc_rows(), None).unwrap_err().to_string();
    assert!(error.contains("3 examples were asked for, there are 2"), "{error}");
}

#[test]
fn a_conversation_may_ask_in_other_words_but_shows_the_same_options() {
    let mut task = arc("");
    task.item.chat_prompt = Some("{{ question }} Answer in a word.".into());
    task.few_shot.count = 1;
    let last = |formulation| {
        let item = pose(&task, formulation, &arc_rows(), None).unwrap().swap_remove(0);
        (item.prompt(0), item.messages(None, 0).iter().map(|m| m.content.clone()).collect::<Vec<_>>())
    };
    let (text, chat) = last(Formulation::Cloze);
    assert!(!text.contains("in a word") && chat.len() == 3);
    assert!(chat[0].ends_with("Answer in a word.") && chat[2].ends_with("Answer in a word."), "{chat:?}");
    let (text, chat) = last(Formulation::MultipleChoice);
    assert!(text.ends_with(&chat[2]) && chat[2].contains("\nB. "), "{chat:?}");
}

#[test]
fn drawn_examples_are_the_same_for_the_same_seed_and_shared_between_items() {
    let mut task = arc("");
    (task.few_shot.count, task.few_shot.sampler) = (2, super::Sampler::Random);
    let many: Vec<Row> = (0..40).flat_map(|_| arc_rows()).collect();
    let of = |task: &Task| pose(task, Formulation::Cloze, &arc_rows(), Some(&many)).unwrap();
    let (first, again) = (of(&task), of(&task));
    assert_eq!(first, again);
    assert_eq!(first[0].shots, first[2].shots);
    task.few_shot.seed = 7;
    assert_ne!(of(&task)[0].shots, first[0].shots);
}

#[test]
fn the_candidate_may_lie_in_the_prompt() {
    let text = r#"
name = "winogrande"
[dataset]
path = "x"
[item]
prompts = "[sentence.split('_')[0] ~ option1, sentence.split('_')[0] ~ option2]"
continuation = "{{ sentence.split('_')[1].strip() }}"
answer = "(answer | int) - 1"
[cloze]
primary = "accuracy"
"#;
    let task = Task::parse("w.toml", text.as_bytes(), &[]).unwrap();
    let row = json!({"sentence": "The cup did not fit as _ was big.", "option1": "cup", "option2": "bag", "answer": "1"});
    let items = pose(&task, Formulation::Cloze, &rows(&[row]), None).unwrap();
    assert_eq!(
        (items[0].prompt(0), items[0].prompt(1)),
        ("The cup did not fit as cup".into(), "The cup did not fit as bag".into())
    );
    assert_eq!((items[0].continuations[0].as_str(), items[0].answer), ("was big.", Some(0)));
}

#[test]
fn wrong_rows_are_named_with_task_split_and_row() {
    let said = |rows: &[Row]| pose(&arc(""), Formulation::Cloze, rows, None).unwrap_err().to_string();
    let mut broken = arc_rows();
    broken[1].insert("answerKey".into(), json!("9"));
    let error = said(&broken);
    assert!(error.starts_with("task `arc`, test row 1: `item.answer`") && error.contains("`9`"), "{error}");
    let mut broken = arc_rows();
    broken[2].remove("question");
    let error = said(&broken);
    assert!(error.contains("row 2") && error.contains("is missing; the row has id, "), "{error}");
    assert!(matches!(pose(&arc(""), Formulation::Cloze, &[], None), Err(PoseError::Task { .. })));
    let mut broken = arc_rows();
    broken[0].insert("choices".into(), json!({"text": ["one"], "label": ["B"]}));
    assert!(said(&broken).contains("1 candidates"), "{}", said(&broken));
}

#[test]
fn candidates_and_prompts_that_do_not_go_together_are_refused() {
    let text = "name = \"t\"\n[dataset]\npath = \"x\"\n[item]\nprompts = \"prompts\"\ncontinuation = \"c\"\n\
                choices = \"choices\"\nanswer = \"0\"\n[cloze]\n";
    let task = Task::parse("t.toml", text.as_bytes(), &[]).unwrap();
    let said =
        |row| pose(&task, Formulation::Cloze, &rows(&[row]), None).map(drop).map_err(|e| e.to_string());
    assert_eq!(said(json!({"prompts": ["a", "b"], "choices": ["a", "b"]})), Ok(()));
    let error = said(json!({"prompts": ["a", "b"], "choices": ["a"]})).unwrap_err();
    assert!(error.contains("1 choices for 2 prompts"), "{error}");
    assert!(said(json!({"prompts": [], "choices": []})).is_err());
}

#[test]
fn rows_that_do_not_count_are_left_out() {
    let mut task = arc("");
    task.dataset.filter = Some("choices.text | length == 2".into());
    let items = pose(&task, Formulation::Cloze, &arc_rows(), None).unwrap();
    assert_eq!(items.iter().map(|item| item.row).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn wrong_tasks_are_refused_with_the_fix() {
    let said = |text: &str| Task::parse("t.toml", text.as_bytes(), &[]).unwrap_err().to_string();
    let head = "name = \"t\"\n[dataset]\npath = \"x\"\n[item]\nprompt = \"{{ q }}\"\n";
    assert!(said(head).contains("[cloze], [multiple_choice] or [generation]"));
    assert!(said(&format!("{head}[cloze]\n")).contains("item.choices"));
    let full = "choices = \"c\"\nanswer = \"a\"\n";
    assert!(said(&format!("{head}{full}[cloze]\nprimary = \"accuracy_pmi\"\n")).contains("not a score"));
    assert!(said(&format!("{head}choices = \"c[\"\nanswer = \"a\"\n[cloze]\n")).contains("`item.choices`"));
    assert!(said(&format!("{head}{full}[clozed]\n")).contains("cloze"));
    assert!(said("name = \"../t\"\n[dataset]\npath = \"x\"\n[item]\n[cloze]\n").contains("names files"));
    let deep = format!("{head}choices = \"{}c\"\nanswer = \"a\"\n[cloze]\n", "(".repeat(60_000));
    assert!(said(&deep).contains("item.choices"));
}

#[test]
fn every_builtin_task_is_right_and_named_like_its_file() {
    for name in names() {
        let task = builtin(name, &[]).unwrap();
        assert_eq!(task.name, name);
        assert!(
            !task.description.is_empty() && !task.licence.is_empty() && !task.domain.is_empty(),
            "{name}"
        );
    }
    for suite in super::SUITES {
        for task in suite.tasks {
            assert!(names().any(|name| name == *task), "{} of the suite {}", task, suite.name);
        }
    }
}

#[test]
fn where_answers_are_listed_they_alone_are_accepted() {
    let text = "name = \"t\"\n[dataset]\npath = \"x\"\n[item]\nprompt = \"{{ q }}\"\n[generation]\ntarget = \"reasons\"\n\
                [few_shot]\ncount = 1\n";
    let rows = rows(&[
        json!({"q": "1 + 1?", "reasons": "One and one. It is 2", "all": ["2", "two"]}),
        json!({"q": "1 + 2?", "reasons": "", "all": ["3"]}),
    ]);
    let of = |extra: &str| {
        let sets = [extra.to_owned()];
        let task = Task::parse("t.toml", text.as_bytes(), &sets).unwrap();
        pose(&task, Formulation::Generation, &rows, None).unwrap()
    };
    let listed = of("generation.answers=\"all\"");
    assert_eq!(
        (&listed[0].answers, &listed[1].answers),
        (&vec!["2".into(), "two".into()], &vec!["3".into()])
    );
    assert_eq!(listed[1].shots[0].answer, "One and one. It is 2");
    assert_eq!(of("few_shot.seed=1")[0].answers, ["One and one. It is 2"]);
}

#[test]
fn rows_that_depend_on_each_other_share_a_cluster_and_no_id() {
    let posed = |name: &str, formulation, values: &[serde_json::Value]| {
        pose(&builtin(name, &[]).unwrap(), formulation, &rows(values), None)
    };
    let trivia = json!({"question_id": "tc_1", "question": "Who?", "answer": {"aliases": ["She"]}});
    let siqa = json!({"context": "Kim ran.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "1"});
    let scene = json!({"ind": 4, "source_id": "v", "activity_label": "Run", "ctx_a": "He", "ctx_b": "", "label": "0",
                       "endings": ["a", "b", "c", "d"]});
    let twin = json!({"sentence": "As _ ran.", "option1": "Tom", "option2": "Jim", "answer": "1"});
    let other = json!({"sentence": "As _ sat.", "option1": "Jim", "option2": "Tom", "answer": "1"});
    let cloze = Formulation::Cloze;
    for (name, formulation, values) in [
        ("triviaqa", Formulation::Generation, [trivia.clone(), trivia]),
        ("siqa", cloze, [siqa.clone(), siqa]),
        ("hellaswag", cloze, [scene.clone(), scene.clone()]),
        ("mlmm_hellaswag", cloze, [scene.clone(), scene]),
        ("winogrande", cloze, [twin, other]),
    ] {
        let items = posed(name, formulation, &values).unwrap();
        assert!(items[0].cluster.is_some() && items[0].cluster == items[1].cluster, "{name}");
        assert_ne!(items[0].id, items[1].id, "{name}");
    }
    let whole = json!({"sentence": "As Tom ran.", "option1": "Tom", "option2": "Jim", "answer": "1"});
    let error = posed("winogrande", cloze, &[whole]).unwrap_err().to_string();
    assert!(
        error.contains("task `winogrande`, validation row 0") && error.contains("`_` is not in the text"),
        "{error}"
    );
}
