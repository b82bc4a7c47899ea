//! A clean suite passes; every fault that is planted is found.

use super::*;
use crate::evaluate::{self, Candidate, Counts, TaskScores};
use crate::evaluate::{Sample, Written};
use crate::model::{Finish, Generated};
use crate::score::generation::Judge;
use crate::score::reasoning::Reasoning;
use crate::stats::Score;
use crate::task::pose::{Item, Row, pose};
use crate::task::{builtin, names};
use serde_json::{Value, json};
use smolt_run::random::Stream;

const PEOPLE: [&str; 8] = ["Anna", "Ben", "Carla", "David", "Emma", "Felix", "Greta", "Henry"];
const THINGS: [&str; 12] = [
    "a red kite",
    "the old boat",
    "two green apples",
    "a heavy basket",
    "the small lamp",
    "a loaf of bread",
    "some warm gloves",
    "the broken clock",
    "a jar of honey",
    "three blue stones",
    "the long ladder",
    "a wooden spoon",
];
const PLACES: [&str; 10] = [
    "in the kitchen",
    "by the river",
    "behind the school",
    "under the bridge",
    "at the market",
    "near the mill",
    "on the roof",
    "in the garden",
    "along the beach",
    "inside the barn",
];
const VERBS: [&str; 8] = ["finds", "carries", "paints", "sells", "hides", "repairs", "borrows", "loses"];

/// Sentences that are made of few words and still differ.
struct Words(Stream);

impl Words {
    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.0.below(list.len() as u64) as usize]
    }

    fn number(&mut self, below: u64) -> u64 {
        self.0.below(below)
    }

    fn sentence(&mut self) -> String {
        let (who, does, what, place) =
            (self.of(&PEOPLE), self.of(&VERBS), self.of(&THINGS), self.of(&PLACES));
        format!("{who} {does} {what} {place} on day {}.", self.number(90_000))
    }

    fn question(&mut self, i: usize) -> String {
        let (who, does, place) = (self.of(&PEOPLE), self.of(&VERBS), self.of(&PLACES));
        format!("What does {who} need before anyone {does} things {place} in year {i}?")
    }

    /// Candidates that differ, none of them regularly the longest.
    fn choices(&mut self, n: usize) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        while all.len() < n {
            let candidate = format!("{} {}", self.of(&THINGS), self.of(&PLACES));
            if !all.contains(&candidate) {
                all.push(candidate);
            }
        }
        all
    }
}

/// A row as the benchmark has it.
fn row(task: &str, i: usize, words: &mut Words) -> Value {
    let question = words.question(i);
    let lettered = |words: &mut Words, n: usize| {
        let labels: Vec<String> = ('A'..='Z').take(n).map(String::from).collect();
        let key = labels[words.number(n as u64) as usize].clone();
        (json!({"text": words.choices(n), "label": labels}), key)
    };
    match task {
        "arc_easy" | "arc_challenge" => {
            let (choices, key) = lettered(words, 4);
            json!({"id": i.to_string(), "question": question, "choices": choices, "answerKey": key})
        }
        "commonsense_qa" => {
            let (choices, key) = lettered(words, 5);
            json!({"id": i.to_string(), "question": question, "choices": choices, "answerKey": key})
        }
        "openbookqa" => {
            let (choices, key) = lettered(words, 4);
            json!({"id": i.to_string(), "question_stem": words.sentence().trim_end_matches('.'), "choices": choices, "answerKey": key})
        }
        "belebele" => {
            let c = words.choices(4);
            json!({"flores_passage": words.sentence(), "question": question, "mc_answer1": c[0], "mc_answer2": c[1],
                "mc_answer3": c[2], "mc_answer4": c[3], "correct_answer_num": (words.number(4) + 1).to_string()})
        }
        "flores200" => json!({"id": i, "URL": format!("u{}", i / 3), "sentence_eng_Latn": words.sentence(),
            "sentence_fra_Latn": format!("Le jour {i}, {} arrive.", words.of(&PEOPLE))}),
        "global_mmlu" => {
            let c = words.choices(4);
            json!({"sample_id": i.to_string(), "subject": "law", "question": question, "option_a": c[0], "option_b": c[1],
                "option_c": c[2], "option_d": c[3], "cultural_sensitivity_label": "CA",
                "answer": words.of(&["A", "B", "C", "D"])})
        }
        "gsm8k" => {
            let (a, b) = (words.number(90) + 2, words.number(90) + 2);
            json!({"question": format!("{} has {a} coins and gets {b}. How many are there in year {i}?", words.of(&PEOPLE)),
                "answer": format!("There are {a} + {b} = <<{a}+{b}={0}>>{0} coins.\n#### {0}", a + b)})
        }
        "hellaswag" | "mlmm_hellaswag" => {
            json!({"ind": i, "source_id": format!("v_{i}"), "activity_label": "Walking", "ctx_a": words.sentence(),
            "ctx_b": format!("the {}", words.of(&["man", "woman", "child"])), "endings": words.choices(4),
            "label": words.number(4).to_string()})
        }
        "math_cot" => {
            let (a, b) = (words.number(90) + 2, words.number(90) + 2);
            json!({"problem": format!("{} folds {a} cranes, then {b}. How many are there on day {i}?", words.of(&PEOPLE)),
                "level": "Level 1", "type": "Algebra",
                "solution": format!("There are ${a} + {b} = \\boxed{{{}}}$ cranes.", a + b)})
        }
        "mmlu" => {
            json!({"question": question, "subject": words.of(&["law", "biology"]), "choices": words.choices(4),
            "answer": words.number(4)})
        }
        "mmlu_pro" => {
            let at = words.number(10) as usize;
            let letter = char::from(b'A' + at as u8);
            json!({"question_id": i, "question": question, "options": words.choices(10), "answer_index": at,
                "answer": letter.to_string(), "category": "law",
                "cot_content": format!("A: Let's think step by step. It must be so. The answer is ({letter}).")})
        }
        "piqa" => {
            let c = words.choices(2);
            json!({"goal": question, "sol1": c[0], "sol2": c[1], "label": words.number(2)})
        }
        "siqa" => {
            let c = words.choices(3);
            json!({"context": words.sentence(), "question": question, "answerA": c[0], "answerB": c[1], "answerC": c[2],
                "label": (words.number(3) + 1).to_string()})
        }
        "tinytown" => {
            let (choices, at) = (words.choices(4), words.number(4) as usize);
            json!({"id": i, "skill": "who", "prompt": format!("{question} It is"), "choices": choices, "answer": at,
                "answer_text": choices[at], "chat": [{"role": "user", "content": question}]})
        }
        "triviaqa" => {
            let name = format!("{} of {i}", words.of(&PEOPLE));
            json!({"question_id": i.to_string(), "question": question.trim_end_matches('?'),
                "answer": {"aliases": [name, format!("The {name}")], "value": name}})
        }
        "winogrande" => {
            json!({"sentence": format!("{} thanked the baker in year {i} because _ had {} ready.",
                words.of(&PEOPLE), words.of(&THINGS)), "option1": "the baker", "option2": "the guest",
            "answer": (words.number(2) + 1).to_string()})
        }
        other => panic!("{other} is a new task: give it rows"),
    }
}

fn rows(task: &str, n: usize, seed: u64) -> Vec<Row> {
    let mut words = Words(Stream::new(seed, task, 0));
    (0..n).map(|i| row(task, i + seed as usize * 1000, &mut words).as_object().unwrap().clone()).collect()
}

fn posed(task: &Task, formulation: Formulation, n: usize) -> Vec<Item> {
    pose(task, formulation, &rows(&task.name, n, 1), Some(&rows(&task.name, 40, 2))).unwrap()
}

fn all(task: &Task, formulation: Formulation, items: &[Item]) -> Vec<Finding> {
    let mut found = prompts(task, formulation, items, Some(&Bytes));
    if formulation == Formulation::Generation {
        found.extend(gold(task, items));
    }
    found
}

/// A tokenizer that keeps words with the space before them together.
struct Bytes;

impl Reader for Bytes {
    fn pieces(&self, text: &str) -> Vec<Vec<u8>> {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut before = ' ';
        for c in text.chars() {
            let joins =
                c.is_alphanumeric() && (before.is_alphanumeric() || before == ' ' && !pieces.is_empty());
            match pieces.last_mut().filter(|_| joins) {
                Some(last) => last.extend(c.to_string().bytes()),
                None => pieces.push(c.to_string().into_bytes()),
            }
            before = c;
        }
        pieces
    }

    fn context_length(&self) -> usize {
        4096
    }
}

fn error<'f>(found: &'f [Finding], check: &str) -> &'f Finding {
    let found = found.iter().find(|f| f.check == check && f.severity == Severity::Error);
    found.unwrap_or_else(|| panic!("{check} was not found"))
}

fn warned(found: &[Finding], check: &str) -> bool {
    found.iter().any(|f| f.check == check && f.severity == Severity::Warning)
}

#[test]
fn a_clean_suite_passes() {
    for name in names() {
        for shots in [0, 5] {
            let task = builtin(name, &[format!("few_shot.count={shots}")]).unwrap();
            for formulation in task.formulations() {
                let found = all(&task, formulation, &posed(&task, formulation, 200));
                let errors: Vec<&Finding> = found.iter().filter(|f| f.severity == Severity::Error).collect();
                assert!(errors.is_empty(), "{errors:#?}");
            }
        }
    }
}

#[test]
fn a_missing_space_before_the_answer_is_caught_in_every_task() {
    for name in names() {
        let mut task = builtin(name, &[]).unwrap();
        for delimiter in [
            task.cloze.as_mut().map(|form| &mut form.delimiter),
            task.multiple_choice.as_mut().map(|form| &mut form.delimiter),
            task.generation.as_mut().map(|form| &mut form.delimiter),
        ] {
            delimiter.into_iter().for_each(String::clear);
        }
        for formulation in task.formulations() {
            let found = all(&task, formulation, &posed(&task, formulation, 100));
            let finding = error(&found, "missing_space");
            assert!(finding.count >= 90 && finding.fix.contains("delimiter"), "{name}: {finding:?}");
        }
    }
    // Chinese has no spaces to miss.
    let task = builtin("arc_easy", &[]).unwrap();
    let mut item = Item {
        continuations: vec!["北京".into(), "上海".into()],
        delimiter: String::new(),
        ..Item::asking("答案：")
    };
    item.answer = Some(0);
    assert!(!prompts(&task, Formulation::Cloze, &[item], None).iter().any(|f| f.check == "missing_space"));
}

#[test]
fn an_extraction_that_does_not_fit_the_targets_is_caught() {
    let mut task = builtin("gsm8k", &[]).unwrap();
    let items = posed(&task, Formulation::Generation, 50);
    assert_eq!(gold(&task, &items), []);
    let form = task.generation.as_mut().unwrap();
    form.extract[0].regex = "The answer is (-?[0-9.,]+)".into();
    let finding = gold(&task, &items);
    assert!(error(&finding, "target_judged_wrong").problem.contains("100.0 %"), "{finding:?}");
    // Half of the number is taken.
    task.generation.as_mut().unwrap().extract[0].regex = r"#### (\d)".into();
    let with_several_digits = gold(&task, &items);
    error(&with_several_digits, "target_judged_wrong");
    // A stop string that cuts the reasoning off before the number.
    let mut task = builtin("gsm8k", &[]).unwrap();
    task.generation.as_mut().unwrap().stop.push("\n".into());
    error(&gold(&task, &items), "stop_within_target");
    // A split without reasoning has no target to show, and nothing is wrong with that.
    let reasoned = builtin("mmlu_pro", &[]).unwrap();
    let mut bare = posed(&reasoned, Formulation::Generation, 50);
    bare.iter_mut().for_each(|item| item.target.clear());
    assert_eq!(gold(&reasoned, &bare), []);
    // Normalisation that leaves nothing.
    let mut task = builtin("triviaqa", &[]).unwrap();
    let items = posed(&task, Formulation::Generation, 50);
    task.generation.as_mut().unwrap().normalise.remove.push(".*".into());
    error(&gold(&task, &items), "answer_vanishes");
}

/// Samples in which `text` is written for each item, judged by the task's own rules.
fn answered(task: &Task, items: &[Item], text: impl Fn(usize, &Item) -> (String, Finish)) -> Vec<Sample> {
    let judge = Judge::new(task.generation.as_ref().unwrap()).unwrap();
    let of = |(i, item): (usize, &Item)| {
        let mut sample = evaluate::sample(item, item.prompt(0));
        let (text, finish) = text(i, item);
        let judged = judge.judge(&text, &item.answers);
        let generated = Generated { text, finish, tokens: 1, log_likelihood: None, dropped_tokens: 0 };
        sample.written.push(Written { generated, reasoning: Reasoning::Absent, judged });
        sample
    };
    items.iter().enumerate().map(of).collect()
}

fn number(item: &Item) -> String {
    item.answers[0].rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn faults_of_extraction_show_in_what_was_written() {
    let task = builtin("gsm8k", &[]).unwrap();
    let items = posed(&task, Formulation::Generation, 60);
    let checked = |text: &dyn Fn(usize, &Item) -> String| {
        written(&task, &answered(&task, &items, |i, item| (text(i, item), Finish::StopString)))
    };
    assert_eq!(checked(&|_, item| item.answers[0].clone()), [], "right answers");
    assert_eq!(checked(&|i, _| format!("It is so.\n#### {}", 100_000 + i)), [], "wrong answers");
    let found = checked(&|_, item| format!("The answer is {}.", number(item)));
    error(&found, "right_but_judged_wrong");
    error(&found, "nothing_extracted");
    // The number of the example is found, not the one that is written behind it.
    let found = checked(&|_, item| format!("#### 5\n#### {}", number(item)));
    error(&found, "always_the_same");
    error(&found, "right_but_judged_wrong");
    assert!(warned(&checked(&|_, _| "#### 5".into()), "always_the_same"), "the model's own fault");
    let cut = answered(&task, &items, |i, _| (format!("It is so.\n#### {}", 100_000 + i), Finish::Length));
    let scores = summary(&task, Formulation::Generation, 0.0, 0.0);
    error(&super::scores(&task, Formulation::Generation, &scores, &cut), "answers_truncated");
}

#[test]
fn reasoning_that_never_ended_is_a_fault_of_its_own() {
    let task = builtin("gsm8k", &[]).unwrap();
    let items = posed(&task, Formulation::Generation, 60);
    let scores = summary(&task, Formulation::Generation, 0.0, 0.0);
    for (finish, fix) in
        [(Finish::Length, "raise generation.max_tokens"), (Finish::StopString, "stop string")]
    {
        let mut samples =
            answered(&task, &items, |_, item| (format!("so it is {}, or", number(item)), finish));
        samples.iter_mut().flat_map(|s| &mut s.written).for_each(|w| w.reasoning = Reasoning::Unclosed);
        assert_eq!(written(&task, &samples), [], "no answer, so no fault of the extraction");
        let found = super::scores(&task, Formulation::Generation, &scores, &samples);
        let unclosed = error(&found, "reasoning_unclosed");
        assert!(unclosed.fix.contains(fix), "{}", unclosed.fix);
        let counts = evaluate::summarise(&task, Formulation::Generation, &items, &samples).counts;
        assert_eq!((counts.unclosed_reasoning, counts.nothing_extracted), (60, 0));
    }
    // The right number is in the reasoning only.
    let mut samples = answered(&task, &items, |i, item| {
        (format!("<think>{}</think>#### {}", number(item), 100_000 + i), Finish::EndToken)
    });
    samples.iter_mut().flat_map(|s| &mut s.written).for_each(|w| w.reasoning = Reasoning::Closed);
    assert_eq!(written(&task, &samples), []);
}

fn summary(task: &Task, formulation: Formulation, value: f64, chance: f64) -> TaskScores {
    let n = 400;
    let stderr = (value * (1.0 - value) / n as f64).sqrt();
    let score = Score { value, stderr, n, formula: crate::stats::Formula::Binomial };
    let primary = task.primary(formulation);
    TaskScores {
        items: n,
        metrics: [(primary.clone(), score)].into(),
        primary,
        subsets: Default::default(),
        macro_average: Default::default(),
        random_baseline: chance,
        most_frequent: Some(chance + 0.02),
        counts: Counts::default(),
    }
}

#[test]
fn scores_that_are_too_bad_to_be_true_are_caught() {
    let task = builtin("arc_easy", &[]).unwrap();
    let of = |formulation, value| scores(&task, formulation, &summary(&task, formulation, value, 0.25), &[]);
    assert_eq!(of(Formulation::Cloze, 0.45), []);
    error(&of(Formulation::Cloze, 0.18), "below_random");
    assert!(!of(Formulation::Cloze, 0.22).iter().any(|f| f.check == "below_random"), "1.4 standard errors");
    assert!(warned(&of(Formulation::Cloze, 0.26), "most_frequent_not_beaten"));
    assert!(warned(&of(Formulation::MultipleChoice, 0.27), "letters_at_chance"));
    assert!(!warned(&of(Formulation::MultipleChoice, 0.45), "letters_at_chance"));
}

#[test]
fn candidates_that_do_not_reach_the_model_are_caught() {
    let task = builtin("arc_easy", &[]).unwrap();
    let primary = task.primary(Formulation::Cloze);
    let samples = |likelihood: fn(usize) -> f64| -> Vec<Sample> {
        let of = |item: &Item| {
            let mut sample = evaluate::sample(item, String::new());
            sample.picks.insert(primary.clone(), 0);
            let candidate = |(i, text): (usize, &String)| Candidate {
                prompt: None,
                continuation: text.clone(),
                log_likelihood: likelihood(i),
                unconditional: None,
                tokens: 1,
                greedy: false,
            };
            sample.candidates = item.continuations.iter().enumerate().map(candidate).collect();
            sample.dropped_tokens = 1;
            sample
        };
        posed(&task, Formulation::Cloze, 40).iter().map(of).collect()
    };
    let summary = summary(&task, Formulation::Cloze, 0.25, 0.25);
    let checked = |likelihood| scores(&task, Formulation::Cloze, &summary, &samples(likelihood));
    for likelihood in [(|_| -3.0) as fn(usize) -> f64, |_| f64::NAN] {
        error(&checked(likelihood), "equal_likelihoods");
    }
    let found = checked(|i| -(i as f64));
    error(&found, "one_choice");
    error(&found, "prompts_truncated");
}

fn plant(name: &str, formulation: Formulation, change: impl Fn(&mut Vec<Item>)) -> Vec<Finding> {
    let task = builtin(name, &["few_shot.count=2".into()]).unwrap();
    let mut items = posed(&task, formulation, 80);
    change(&mut items);
    all(&task, formulation, &items)
}

#[test]
fn faults_of_prompts_are_caught() {
    use Formulation::{Cloze, Generation, MultipleChoice};
    let each = |change: fn(&mut Item)| move |items: &mut Vec<Item>| items.iter_mut().for_each(change);
    type Case = (&'static str, Formulation, fn(&mut Item), &'static str);
    let cases: [Case; 11] = [
        ("arc_easy", Cloze, |i| i.questions[0].push(' '), "doubled_space"),
        ("gsm8k", Generation, |i| i.questions[0].push(' '), "prompt_ends_in_space"),
        ("gsm8k", Generation, |i| i.chat_question = Some("How many? ".into()), "prompt_ends_in_space"),
        ("gsm8k", Generation, |i| i.chat_question = Some("None".into()), "template_leftovers"),
        (
            "arc_easy",
            Cloze,
            |i| i.questions[0] = "Question: {{ question }}\nAnswer:".into(),
            "template_leftovers",
        ),
        ("gsm8k", Generation, |i| i.questions[0] = "Question: None\nAnswer:".into(), "template_leftovers"),
        ("arc_easy", Cloze, |i| i.questions[0] = "Question: \nAnswer:".into(), "empty_question"),
        (
            "arc_easy",
            Cloze,
            |i| i.questions[0] += &format!(" {}", i.continuations[i.answer.unwrap()]),
            "answer_ends_prompt",
        ),
        (
            "arc_easy",
            Cloze,
            |i| i.questions[0] = format!("Is it {}? Answer:", i.continuations[i.answer.unwrap()]),
            "answer_in_prompt",
        ),
        ("mmlu", MultipleChoice, |i| i.answer = Some(0), "answer_by_place"),
        ("arc_easy", Cloze, |i| i.questions[0] = "long ".repeat(5000), "over_the_context"),
    ];
    for (name, formulation, change, check) in cases {
        error(&plant(name, formulation, each(change)), check);
    }
    let longest = plant(
        "arc_easy",
        Cloze,
        each(|i| i.choices[i.answer.unwrap()].push_str(" and a good deal more besides it")),
    );
    error(&longest, "answer_is_longest");
    error(&plant("arc_easy", Cloze, |items| items.extend(items.clone())), "duplicated_items");
    let contradiction = plant("arc_easy", Cloze, |items| {
        let other = items.iter().map(|i| Item { answer: i.answer.map(|a| (a + 1) % 4), ..i.clone() });
        *items = items.iter().cloned().chain(other).collect();
    });
    error(&contradiction, "same_prompt_other_answer");
    let example = plant("gsm8k", Generation, |items| {
        let first = items[0].clone();
        let shot = crate::task::pose::Shot {
            chat_question: None,
            question: first.questions[0].clone(),
            answer: first.target.clone(),
        };
        items.iter_mut().for_each(|item| item.shots = std::sync::Arc::new(vec![shot.clone()]));
    });
    error(&example, "examples_are_items");
    let unlike = plant(
        "arc_easy",
        Cloze,
        each(|i| {
            i.delimiter = String::new();
            let spaced = i
                .shots
                .iter()
                .map(|s| crate::task::pose::Shot { answer: format!(" {}", s.answer), ..s.clone() });
            i.shots = std::sync::Arc::new(spaced.collect());
        }),
    );
    error(&unlike, "unlike_examples");
    let torn = plant(
        "arc_easy",
        Cloze,
        each(|i| {
            i.delimiter = String::new();
            i.questions[0] = i.questions[0].replace(":", "");
        }),
    );
    error(&torn, "answer_within_a_token");
}

#[test]
fn a_few_bad_rows_are_warnings() {
    let found = plant("arc_easy", Formulation::Cloze, |items| {
        items[3].questions[0] = "Question: None\nAnswer:".into()
    });
    assert!(
        warned(&found, "template_leftovers") && !found.iter().any(|f| f.severity == Severity::Error),
        "{found:?}"
    );
    let latex = plant("mmlu", Formulation::Cloze, |items| {
        items.iter_mut().for_each(|item| {
            item.questions[0] = format!("Let {{{{1, 2}}}} be \\frac{{{{a}}}}{{b}} {}?", item.id)
        });
    });
    assert!(!latex.iter().any(|f| f.check == "template_leftovers"), "braces are also mathematics");
}

#[test]
fn tails_of_the_binomial_are_exact() {
    assert!((binomial_tail(3, 3, 0.5) - 0.125).abs() < 1e-12);
    assert!((binomial_tail(1, 4, 0.25) - (1.0 - 0.75f64.powi(4))).abs() < 1e-12);
    assert_eq!(
        (binomial_tail(0, 5, 0.3), binomial_tail(6, 5, 0.3), binomial_tail(2, 5, 0.0)),
        (1.0, 0.0, 0.0)
    );
    assert_eq!(binomial_tail(5, 5, 1.0), 1.0);
    // Far below the expected, where the first term is too small for a number, and as far above.
    assert!((binomial_tail(900, 10_042, 0.25) - 1.0).abs() < 1e-12);
    assert!((binomial_tail(1, 100_000, 0.999) - 1.0).abs() < 1e-12);
    assert!(binomial_tail(4_500, 10_042, 0.25) < 1e-300);
    // Both ways of summing agree about the middle.
    let below: f64 = (0..=10).map(|k| binomial_tail(k, 40, 0.25) - binomial_tail(k + 1, 40, 0.25)).sum();
    assert!((below + binomial_tail(11, 40, 0.25) - 1.0).abs() < 1e-12);
    // Twice the expected: far beyond chance, and no underflow on the way.
    assert!(
        binomial_tail(100_000, 200_000, 0.25) < 1e-300
            && (binomial_tail(50_000, 200_000, 0.25) - 0.5).abs() < 0.01
    );
}

proptest::proptest! {
    #[test]
    fn any_item_is_checked_without_panic(
        question in "\\PC{0,20}", answer in "\\PC{0,8}", other in "\\PC{0,8}", delimiter in "[ \n:]{0,2}",
    ) {
        let task = builtin("gsm8k", &[]).unwrap();
        let choice = builtin("arc_easy", &[]).unwrap();
        let written = Item { answers: vec![answer.clone()], target: answer.clone(), delimiter: delimiter.clone(), ..Item::asking(&question) };
        let texts = vec![answer, other];
        let chosen = Item { continuations: texts.clone(), choices: texts, answer: Some(1), delimiter, ..Item::asking(&question) };
        all(&task, Formulation::Generation, &vec![written; 12]);
        all(&choice, Formulation::Cloze, &vec![chosen.clone(); 12]);
        all(&choice, Formulation::MultipleChoice, &[chosen]);
    }
}
