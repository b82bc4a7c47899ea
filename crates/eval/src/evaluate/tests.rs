use super::*;
use crate::access::Standing;
use crate::dataset::Provenance;
use crate::model::{Continuation, Finish, OnDone, TextScore};
use crate::record::TaskResult;
use crate::task::builtin;
use crate::task::pose::{Row, pose};
use serde_json::json;

/// Finds every candidate as likely as the next and keeps what it was asked.
#[derive(Default)]
struct Listener {
    asked: Vec<Request>,
}

impl Model for Listener {
    fn score(&mut self, requests: &[Request], _: OnDone<'_>) -> Result<Vec<Scored>, ModelError> {
        self.asked = requests.to_vec();
        let of = |_: &String| Continuation { log_likelihood: -1.0, tokens: 1, greedy: false };
        let scored = |request: &Request| Scored {
            continuations: request.continuations.iter().map(of).collect(),
            dropped_tokens: 0,
        };
        Ok(requests.iter().map(scored).collect())
    }

    fn write(&mut self, _: &[Prompt], _: &Writing, _: OnDone<'_>) -> Result<Vec<Vec<Generated>>, ModelError> {
        Ok(Vec::new())
    }

    fn read(&mut self, _: &[String], _: OnDone<'_>) -> Result<Vec<TextScore>, ModelError> {
        Ok(Vec::new())
    }

    fn shown(&self, prompt: &Prompt) -> Result<String, ModelError> {
        Ok(match prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Chat(messages) => messages.iter().map(|m| format!("{}: {}", m.role, m.content)).collect(),
        })
    }
}

fn how(chat: bool) -> How {
    How {
        formulation: Formulation::Cloze,
        chat,
        system_prompt: chat.then(|| "Be brief.".to_owned()),
        strip_reasoning: true,
        samples: 1,
        temperature: 0.0,
        top_p: 1.0,
        max_tokens: None,
        seed: 0,
    }
}

fn row(value: serde_json::Value) -> Row {
    value.as_object().unwrap().clone()
}

/// What is recorded of a task that was asked.
pub(crate) fn result(
    task: &Task,
    formulation: Formulation,
    items: &[Item],
    samples: &[Sample],
) -> TaskResult {
    let dataset = Provenance {
        path: "hf://datasets/a/b".into(),
        found: "b".into(),
        revision: None,
        config: Some("all".into()),
        split: "test".into(),
        hash: "x".into(),
        rows: 9,
    };
    TaskResult {
        task: task.name.clone(),
        task_hash: "v".into(),
        held_out: false,
        few_shot: 3,
        how: How { formulation, ..how(false) },
        dataset,
        limit: None,
        scores: summarise(task, formulation, items, samples),
        contamination: None,
        standing: Standing::default(),
        seconds: 1.0,
    }
}

#[test]
fn what_is_likely_anyway_is_asked_for_as_the_question_is() {
    let task = builtin("mmlu", &[]).unwrap();
    let rows = [row(json!({"question": "q", "subject": "s", "choices": ["a", "b", "c", "d"], "answer": 0}))];
    let items = pose(&task, Formulation::Cloze, &rows, None).unwrap();
    let mut model = Listener::default();
    evaluate(&task, &items, &how(true), &mut model, &mut |_, _, _| {}).unwrap();
    let turns = vec![Message::new("system", "Be brief."), Message::new("user", "Answer:")];
    assert_eq!(model.asked[1].prompt, Prompt::Chat(turns));
    assert_eq!(model.asked[1].continuations, model.asked[0].continuations);
    evaluate(&task, &items, &how(false), &mut model, &mut |_, _, _| {}).unwrap();
    assert_eq!(model.asked[1].prompt, Prompt::Text("Answer:".into()));
    assert_eq!(model.asked[1].continuations[0], " a");
}

#[test]
fn candidates_in_their_prompts_keep_them() {
    let task = builtin("winogrande", &[]).unwrap();
    let rows = [row(json!({"sentence": "He saw _ run.", "option1": "Tom", "option2": "Jim", "answer": "2"}))];
    let items = pose(&task, Formulation::Cloze, &rows, None).unwrap();
    let samples = evaluate(&task, &items, &how(false), &mut Listener::default(), &mut |_, _, _| {}).unwrap();
    let prompts: Vec<_> = samples[0].candidates.iter().map(|c| c.prompt.as_deref()).collect();
    assert_eq!(prompts, [Some("He saw Tom"), Some("He saw Jim")]);
    let text = serde_json::to_string(&samples[0]).unwrap();
    assert_eq!(serde_json::from_str::<Sample>(&text).unwrap(), samples[0]);
    let rows = [row(json!({"goal": "g", "sol1": "a", "sol2": "b", "label": 0}))];
    let task = builtin("piqa", &[]).unwrap();
    let items = pose(&task, Formulation::Cloze, &rows, None).unwrap();
    let samples = evaluate(&task, &items, &how(false), &mut Listener::default(), &mut |_, _, _| {}).unwrap();
    assert!(samples[0].candidates.iter().all(|c| c.prompt.is_none()), "one question has one prompt");
}

#[test]
fn what_a_task_forgives_is_forgiven_over_the_corpus() {
    let sets = ["few_shot.count=0".to_owned(), "generation.normalise={ ignore_case = true }".to_owned()];
    let task = builtin("flores200", &sets).unwrap();
    let rows = [row(
        json!({"id": 1, "URL": "u", "sentence_eng_Latn": "a", "sentence_fra_Latn": "La mer est CALME."}),
    )];
    let items = pose(&task, Formulation::Generation, &rows, None).unwrap();
    let judge = Judge::new(task.generation.as_ref().unwrap()).unwrap();
    let text = "la mer est calme.".to_owned();
    let answer = Generated { text, finish: Finish::StopString, tokens: 1, dropped_tokens: 0 };
    let sample = written(&items[0], String::new(), vec![answer], &judge, &how(false));
    assert_eq!(sample.values["chrf"], 1.0);
    let scores = summarise(&task, Formulation::Generation, &items, &[sample]);
    assert!((scores.metrics["chrf"].value - 1.0).abs() < 1e-12, "{scores:?}");
}
