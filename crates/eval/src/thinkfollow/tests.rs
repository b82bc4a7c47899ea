use super::report::{Report, Verdict};
use super::*;
use crate::model::{
    Finish, Generated, Heard, Model, ModelError, OnDone, Prompt, Request, Scored, TextScore, Writing,
};
use crate::score::reasoning::Reasoning;
use crate::task::pose::Row;
use proptest::prelude::*;
use serde_json::json;
use smolt_text::template::Message;

/// Writes what `say` returns for the turn (from 0) and the conversation so far.
struct Scripted<F>(F, &'static str);

impl<F: FnMut(usize, &[Message]) -> String> Model for Scripted<F> {
    fn score(&mut self, _: &[Request], _: OnDone<'_>) -> Result<Vec<Scored>, ModelError> {
        Err(ModelError::Request("only writes".into()))
    }

    fn write(
        &mut self,
        prompts: &[Prompt],
        _: &Writing,
        on_done: OnDone<'_>,
    ) -> Result<Vec<Vec<Generated>>, ModelError> {
        let mut all = Vec::new();
        for (at, prompt) in prompts.iter().enumerate() {
            let Prompt::Chat(messages) = prompt else { panic!("not a conversation") };
            let turn = messages.iter().filter(|m| m.role == "assistant").count();
            let text = (self.0)(turn, messages);
            let answer = Generated {
                text,
                finish: Finish::EndToken,
                tokens: 1,
                log_likelihood: None,
                dropped_tokens: 0,
            };
            on_done(at + 1, Heard::Written(at, 0, &answer));
            all.push(vec![answer]);
        }
        Ok(all)
    }

    fn read(&mut self, _: &[String], _: OnDone<'_>) -> Result<Vec<TextScore>, ModelError> {
        Err(ModelError::Request("only writes".into()))
    }

    fn shown(&self, prompt: &Prompt, _: usize) -> Result<String, ModelError> {
        let Prompt::Chat(messages) = prompt else { panic!("not a conversation") };
        let said: Vec<String> = messages.iter().map(|m| format!("{}: {}\n", m.role, m.content)).collect();
        Ok(format!("{}assistant: {}", said.concat(), self.1))
    }
}

fn how() -> How {
    How {
        seed: 0,
        first_flag: FirstFlag::User,
        keep_reasoning: false,
        turns: None,
        limit: None,
        max_tokens: 9,
        temperature: 0.0,
        top_p: 1.0,
    }
}

fn asked(how: &How, prefix: &'static str, say: impl FnMut(usize, &[Message]) -> String) -> Vec<Turn> {
    let (conversations, _) = bundled().unwrap();
    let planned = plan(&conversations, None, None, 0);
    let (mut last, total) = ((0, None), planned.iter().map(|p| p.steps.len()).sum::<usize>());
    let turns = ask(&planned, how, &mut Scripted(say, prefix), &mut |done, of, so_far| {
        assert_eq!(of, total);
        last = (done, so_far);
    });
    let turns = turns.unwrap();
    let passed = turns.iter().filter(|turn| turn.passed).count();
    assert_eq!(last.0, total);
    assert!((last.1.unwrap() - passed as f64 / total as f64).abs() < 1e-12);
    turns
}

/// The last flag in what the user and the system say.
fn flag(messages: &[Message]) -> Option<Mode> {
    let words = messages.iter().filter(|m| m.role != "assistant").flat_map(|m| m.content.split_whitespace());
    words.fold(None, |last, word| match word {
        "/think" => Some(Mode::Think),
        "/no_think" => Some(Mode::NoThink),
        _ => last,
    })
}

fn obedient(messages: &[Message]) -> String {
    match flag(messages) {
        Some(Mode::Think) => "<think>\nlet me see\n</think>\n\nYes.".into(),
        _ => "<think>\n\n</think>\n\nNo.".into(),
    }
}

#[test]
fn an_obedient_model_passes_everywhere() {
    for first in [FirstFlag::User, FirstFlag::System] {
        let how = How { first_flag: first, ..how() };
        let turns = asked(&how, "", |_, messages| {
            let from_system = messages[0].role == "system";
            assert_eq!(from_system, first == FirstFlag::System);
            assert!(messages.iter().all(|m| !m.content.contains("let me see")), "thoughts are no history");
            obedient(messages)
        });
        let report = Report::new(&turns).unwrap();
        assert_eq!(report.conversations, 20);
        for cell in report.turns.iter().chain([&report.overall, &report.given]).chain(&report.carried) {
            assert_eq!((cell.all.value, cell.all.stderr), (1.0, 0.0));
            assert_eq!((cell.think.unwrap().value, cell.no_think.unwrap().value), (1.0, 1.0));
        }
        assert!(report.turns.iter().all(|cell| cell.always_thinks == 0.5 && cell.never_thinks == 0.5));
        assert_eq!(report.verdict, Verdict::Holds);
        assert!(report.verdict_line().starts_with("no fall from turn 2 on was seen"));
        assert_eq!((report.counts, report.notes()), (Counts::default(), vec![]));
    }
}

#[test]
fn a_model_that_learnt_single_turns_falls() {
    let turns =
        asked(&how(), "", |turn, messages| if turn == 0 { obedient(messages) } else { "Yes.".into() });
    let report = Report::new(&turns).unwrap();
    assert_eq!(report.turns[0].all.value, 1.0);
    for cell in &report.turns[1..] {
        assert_eq!((cell.think.unwrap().value, cell.no_think.unwrap().value), (0.0, 1.0));
        assert_eq!(cell.all.value, cell.never_thinks);
    }
    assert_eq!(report.verdict, Verdict::Falls);
    let line = report.verdict_line();
    assert!(line.starts_with("falls from turn 2 on: -50.0 ± ") && line.contains("p < 0.001"), "{line}");
}

#[test]
fn a_model_that_always_does_the_same_is_not_said_to_hold() {
    for said in ["Yes.", "<think>hm</think>Yes."] {
        let report = Report::new(&asked(&how(), "", |_, _| said.into())).unwrap();
        assert_eq!((report.overall.all.value, report.verdict), (0.5, Verdict::NotShown));
        let line = report.verdict_line();
        assert!(line.contains("50.0 % passed, against 50.0 % for always and 50.0 % for never"), "{line}");
    }
}

#[test]
fn few_turns_and_few_conversations_are_told() {
    let turns = asked(&how(), "", |_, messages| obedient(messages));
    let first: Vec<Turn> = turns.iter().filter(|turn| turn.turn == 1).cloned().collect();
    let report = Report::new(&first).unwrap();
    assert_eq!((report.verdict, report.carried), (Verdict::FirstTurnOnly, None));
    for n in [0, 1, 4] {
        let report = Report::new(&turns.iter().filter(|t| t.row < n).cloned().collect::<Vec<_>>()).unwrap();
        assert_eq!(report.verdict, Verdict::NotShown);
        assert_eq!(report.verdict_line().contains("ask more conversations"), n < 2);
    }
}

#[test]
fn reasoning_stays_in_earlier_turns_where_it_is_asked_for() {
    let how = How { keep_reasoning: true, ..how() };
    asked(&how, "<think>\n", |turn, messages| {
        let earlier: Vec<&str> =
            messages.iter().filter(|m| m.role == "assistant").map(|m| m.content.as_str()).collect();
        assert_eq!(earlier, vec!["<think>hm</think>yes"; turn], "with the tag that the template opened");
        "hm</think>yes ".into()
    });
}

#[test]
fn verdicts_of_blocks() {
    use Mode::{NoThink, Think};
    // What the template opened, what was written, and: is it thinking, how did the block end.
    let cases = [
        ("", "4", false, Reasoning::Absent),
        ("", "", false, Reasoning::Absent),
        ("", "<think>2+2</think>4", true, Reasoning::Closed),
        ("", "<think></think>4", false, Reasoning::Closed),
        ("", "<think> \n\t</think>4", false, Reasoning::Closed),
        ("", "<think>2+2", true, Reasoning::Unclosed),
        ("", "<think>\n", false, Reasoning::Unclosed),
        ("", "2+2</think>4", true, Reasoning::Closed),
        ("", "\n</think>4", false, Reasoning::Closed),
        ("", "<thinking>2+2</thinking>4", true, Reasoning::Closed),
        ("", "<think></think>4<think>or 5</think>", true, Reasoning::Closed),
        ("<think>\n", "2+2</think>4", true, Reasoning::Closed),
        ("<think>\n", "2+2", true, Reasoning::Unclosed),
        ("<think>\n", "\n</think>4", false, Reasoning::Closed),
        ("<think>\n", "<think>\n</think>4", false, Reasoning::Closed),
        ("<think>\n\n</think>\n\n", "4", false, Reasoning::Absent),
    ];
    for (prefix, written, thinks, end) in cases {
        let turns = asked(&how(), prefix, |_, _| written.into());
        for turn in &turns {
            assert_eq!(turn.passed, (turn.mode == Think) == thinks, "{prefix:?} {written:?}");
            assert_eq!((turn.reasoning, turn.passed), (end, (turn.mode == NoThink) != thinks));
        }
        let counts = Report::new(&turns).unwrap().counts;
        assert_eq!(counts.unclosed > 0, end == Reasoning::Unclosed);
        assert!(counts.unclosed_passed <= counts.unclosed);
    }
}

#[test]
fn plans_are_balanced_and_depend_on_nothing_else() {
    let of = |i: usize, turns: usize| Conversation {
        id: i.to_string(),
        row: i,
        language: None,
        turns: (0..turns).map(|turn| format!("question {i} {turn}")).collect(),
    };
    let all: Vec<Conversation> = (0..100).map(|i| of(i, 4)).collect();
    let planned = plan(&all, None, None, 7);
    assert_eq!(planned, plan(&all, None, None, 7));
    assert_ne!(planned, plan(&all, None, None, 8));
    for turn in 0..4 {
        let think = planned.iter().filter(|p| p.steps[turn].mode == Mode::Think).count();
        assert_eq!(think, 50, "turn {turn}");
        let given = planned.iter().filter(|p| p.steps[turn].given).count();
        assert!(if turn == 0 { given == 100 } else { (25..=75).contains(&given) }, "turn {turn}: {given}");
    }
    // A flag stays in force until the next.
    assert!(planned.iter().all(|p| p.steps.windows(2).all(|w| w[1].given || w[1].mode == w[0].mode)));
    // Neither the order of rows nor a limit changes a conversation's flags.
    let mut turned: Vec<Conversation> = all.iter().rev().cloned().collect();
    turned.iter_mut().zip(0..).for_each(|(conversation, row)| conversation.row = row);
    let steps_of = |planned: &[Planned], id: &str| planned.iter().find(|p| p.id == id).unwrap().steps.clone();
    for p in plan(&turned, None, None, 7) {
        assert_eq!(p.steps, steps_of(&planned, &p.id));
    }
    let (ten, thirty) = (plan(&all, None, Some(10), 7), plan(&all, Some(2), Some(30), 7));
    assert_eq!((ten.len(), thirty.len()), (10, 30));
    assert_eq!(ten.iter().filter(|p| p.steps[3].mode == Mode::Think).count(), 5);
    for p in &ten {
        assert_eq!(p.steps, steps_of(&planned, &p.id));
        assert_eq!(p.steps[..2], steps_of(&thirty, &p.id), "the 10 are among the 30");
    }
    assert_eq!(plan(&[], None, None, 7), []);
}

fn read(row: serde_json::Value) -> Result<Vec<Conversation>, String> {
    let row: Row = row.as_object().unwrap().clone();
    conversations("c.jsonl", &[row]).map_err(|e| e.to_string())
}

#[test]
fn both_kinds_of_rows_are_read() {
    let multi_if = json!({
        "key": "1001:2:fr", "language": "French", "turns": [], "responses": [],
        "turn_1_prompt": r#"{"role": "user", "content": "Un poème ?"}"#,
        "turn_1_instruction_id_list": "[]",
        "turn_2_prompt": r#"{"role": "user", "content": "Plus court."}"#,
        "turn_3_prompt": "",
    });
    let read_one = |row| read(row).unwrap().remove(0);
    let found = read_one(multi_if);
    assert_eq!((found.id.as_str(), found.language.as_deref()), ("1001:2:fr", Some("French")));
    assert_eq!(found.turns, ["Un poème ?", "Plus court."]);
    let plain = json!({"id": 7, "turn_1_prompt": "{x} is a set?", "turn_2_prompt": {"content": "and {y}?"}, "turn_3_prompt": null});
    assert_eq!(read_one(plain.clone()).turns, ["{x} is a set?", "and {y}?"]);
    assert_eq!(read_one(plain).id, "7");
    let messages = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]);
    assert_eq!(read_one(json!({"messages": messages})).turns, ["a", "c"]);
    assert_eq!(read_one(json!({"messages": messages.to_string()})).turns, ["a", "c"], "as a cell of CSV");
    let (bundled, provenance) = bundled().unwrap();
    assert_eq!((bundled.len(), provenance.rows), (20, 20));
    assert!(bundled.iter().all(|c| c.turns.len() == 3));
}

#[test]
fn other_rows_are_named_with_their_fix() {
    let many: Row = (1..=101).map(|i| (format!("turn_{i}_prompt"), json!("x"))).collect();
    for (row, said) in [
        (json!({}), "it has no columns; give it `turn_1_prompt`"),
        (json!({"text": "a"}), "it has text; give it"),
        (json!({"turn_1_prompt": ""}), "the user says nothing"),
        (json!({"turn_1_prompt": 3}), "`turn_1_prompt` must be text or"),
        (json!({"turn_1_prompt": ["a"]}), "`turn_1_prompt` must be text or"),
        (json!({"turn_1_prompt": "a", "turn_2_prompt": false}), "`turn_2_prompt` must be text or"),
        (json!({"turn_1_prompt": {"role": "system", "content": "a"}}), "has the role \"system\""),
        (json!({"turn_1_prompt": r#"{"role": "user"}"#}), "has no text as its `content`"),
        (
            json!({"turn_1_prompt": "", "turn_2_prompt": "b"}),
            "`turn_1_prompt` is blank or missing and `turn_2_prompt` is not",
        ),
        (
            json!({"turn_1_prompt": "a", "turn_2_prompt": "", "turn_4_prompt": "d"}),
            "`turn_2_prompt` is blank or missing and `turn_4_prompt` is not",
        ),
        (json!({"turn_1_prompt": "Use /no_think."}), "turn 1 already says /no_think"),
        (json!({"turn_1_prompt": "a /no_think"}), "turn 1 already says /no_think"),
        (json!({"messages": {}}), "`messages` must be a list"),
        (json!({"messages": "[{"}), "`messages` must be a list"),
        (json!({"messages": "{}"}), "`messages` must be a list"),
        (json!({"messages": []}), "the user says nothing"),
        (json!({"messages": [{"content": "a"}]}), "message 0 has no role"),
        (json!({"messages": [{"role": "user", "content": " "}]}), "message 0 of the user is blank"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
            "message 0 of the user has no text",
        ),
        (json!(many), "it has 101 turns; cut it to 100"),
    ] {
        let error = read(row).unwrap_err();
        assert!(error.starts_with("c.jsonl, row 0: ") && error.contains(said), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let huge = "a ".repeat(1 << 20);
    assert_eq!(read(json!({"turn_1_prompt": huge.clone()})).unwrap()[0].turns, [huge]);
}

/// Any JSON.
fn any_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i32>().prop_map(|n| json!(n)),
        "[a-z{}\":/_ ]{0,12}".prop_map(|s| json!(s)),
        prop::sample::select(vec!["user", "system", "{\"role\":\"user\",\"content\":\"x\"}", "[]"])
            .prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop::sample::select(vec!["role", "content", "x"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| json!(v)),
            prop::collection::btree_map(key, inner, 0..3).prop_map(|m| json!(m)),
        ]
    })
}

proptest! {
    /// Any row is a conversation that can be planned, or an error of one line.
    #[test]
    fn any_row_is_a_conversation_or_an_error(
        columns in prop::collection::btree_map(
            prop::sample::select(vec![
                "turn_1_prompt", "turn_2_prompt", "turn_3_prompt", "messages", "key", "id", "language",
            ]),
            any_value(), 0..6,
        ),
    ) {
        match read(json!(columns)) {
            Ok(found) => {
                prop_assert!(found[0].turns.iter().all(|turn| !turn.trim().is_empty()));
                let planned = plan(&found, None, None, 1);
                prop_assert!(planned[0].steps[0].given && planned[0].steps.len() == found[0].turns.len());
            }
            Err(error) => prop_assert!(!error.contains('\n') && error.starts_with("c.jsonl, row 0: ")),
        }
    }
}
