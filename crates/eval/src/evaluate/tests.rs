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

    fn shown(&self, prompt: &Prompt, _: usize) -> Result<String, ModelError> {
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
        few_shot_hash: None,
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
    let answer =
        Generated { text, finish: Finish::StopString, tokens: 1, log_likelihood: None, dropped_tokens: 0 };
    let sample = written(&items[0], String::new(), vec![answer], &judge, &how(false));
    assert_eq!(sample.values["chrf"], 1.0);
    let scores = summarise(&task, Formulation::Generation, &items, &[sample]);
    assert!((scores.metrics["chrf"].value - 1.0).abs() < 1e-12, "{scores:?}");
}

/// A model whose template opens a block of reasoning, and that writes one text.
struct Reasons(&'static str);

impl Model for Reasons {
    fn score(&mut self, _: &[Request], _: OnDone<'_>) -> Result<Vec<Scored>, ModelError> {
        Err(ModelError::Request("does not score".into()))
    }

    fn write(
        &mut self,
        prompts: &[Prompt],
        writing: &Writing,
        on_done: OnDone<'_>,
    ) -> Result<Vec<Vec<Generated>>, ModelError> {
        assert!(writing.stop_after_reasoning);
        let text = self.0.to_owned();
        let answer =
            Generated { text, finish: Finish::Length, tokens: 1, log_likelihood: None, dropped_tokens: 0 };
        on_done(1, Heard::Written(0, 0, &answer));
        Ok(vec![vec![answer]; prompts.len()])
    }

    fn read(&mut self, _: &[String], _: OnDone<'_>) -> Result<Vec<TextScore>, ModelError> {
        Err(ModelError::Request("does not read".into()))
    }

    fn shown(&self, _: &Prompt, _: usize) -> Result<String, ModelError> {
        Ok("<|im_start|>assistant\n<think>\n".into())
    }
}

#[test]
fn reasoning_that_the_template_opened_is_not_the_answer() {
    let task = builtin("gsm8k", &["few_shot.count=0".to_owned()]).unwrap();
    let row = serde_json::json!({"question": "What is 2 + 2?", "answer": "2 + 2 = 4\n#### 4"});
    let rows = [row.as_object().unwrap().clone()];
    let items = pose(&task, Formulation::Generation, &rows, None).unwrap();
    let how = How { formulation: Formulation::Generation, system_prompt: None, ..how(true) };
    for (text, reasoning, value) in
        [("#### 4, or #### 5", Reasoning::Unclosed, 0.0), ("#### 5</think>#### 4", Reasoning::Closed, 1.0)]
    {
        let mut so_far = None;
        let mut hear = |_: usize, _: usize, score: Option<f64>| so_far = score;
        let samples = evaluate(&task, &items, &how, &mut Reasons(text), &mut hear).unwrap();
        assert_eq!(samples[0].written[0].reasoning, reasoning);
        let primary = task.primary(Formulation::Generation);
        assert_eq!((samples[0].values[&primary], so_far), (value, Some(value)), "{text}");
    }
}
