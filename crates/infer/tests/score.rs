//! Scores are those of the full forward pass, whatever is shared and however work is cut.

#![allow(clippy::unwrap_used)]

#[path = "../../model/tests/common/mod.rs"]
mod common;

use common::{Rows, bits, some_ids, toys};
use proptest::prelude::*;
use smolt_arch::ModelConfig;
use smolt_infer::decoder::{Error, MAX_ROWS};
use smolt_infer::sampling::{argmax, log_probability};
use smolt_infer::{Choice, Decoder, Question, Reuse, Row, rolling, score};
use smolt_model::folder::Loaded;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::isa::Isa;

const VOCAB: u32 = 101;

fn random_model(positions: usize) -> Loaded {
    let config = ModelConfig {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 10,
        vocab_size: VOCAB as usize,
        max_position_embeddings: positions,
        initializer_range: 0.2,
        ..ModelConfig::default()
    };
    Loaded::fresh(config, 4)
}

fn decoder<'m>(cpu: &'m Cpu, loaded: &'m Loaded, precision: Precision, slots: usize) -> Decoder<'m> {
    Decoder::new(
        cpu,
        &loaded.model,
        &loaded.weights,
        precision,
        slots,
        loaded.model.config().max_position_embeddings,
    )
}

/// ln P of each token after the first, from the pass that training uses.
fn full_forward(cpu: &Cpu, loaded: &Loaded, tokens: &[u32]) -> Vec<f32> {
    let mut packed = Rows::default();
    packed.push_document(tokens);
    let mut pass = loaded.model.loss_pass(tokens.len(), Precision::Fp32, 0.0, false);
    packed.run(&mut pass, cpu, loaded, None);
    pass.program.output::<f32>(pass.loss.per_token)[..tokens.len() - 1].iter().map(|nll| -nll).collect()
}

/// Questions of a few subjects, each with a beginning of its own after one that all share, some of them the same, some
/// the beginning of others; candidates of one token and of more, some of which begin alike.
fn questions(seed: u64, shared: usize, below: u32) -> Vec<Question> {
    let ids = |kind: u64, len: usize| some_ids(100 * seed + kind, len, below);
    let subject = |s: u64| [ids(0, shared / 2), ids(1 + s, shared - shared / 2)].concat();
    let one = |i: u64| {
        let own = ids(10 + i % 5, [0, 1, 3, 9, 4][i as usize % 5]);
        let prompt = [vec![1], subject(i % 3), own].concat();
        let lengths: &[usize] = [&[1, 1, 1, 1][..], &[3, 1, 2], &[2], &[1, 5], &[]][i as usize % 5];
        let mut choices: Vec<_> =
            lengths.iter().zip(50 * i..).map(|(&len, kind)| ids(20 + kind, len)).collect();
        if choices.is_empty() {
            // They begin alike, are the beginning of others, are the same.
            let long = ids(20 + 50 * i, 7);
            let other = [&long[..3], &ids(21 + 50 * i, 2)].concat();
            choices.extend([&long[..5], &long[..], &other[..], &long[..5], &long[..1]].map(<[u32]>::to_vec));
        }
        Question { prompt, choices }
    };
    (0..14).map(one).collect()
}

fn run(decoder: &mut Decoder<'_>, questions: &[Question]) -> Vec<Vec<Choice>> {
    let mut told = vec![None; questions.len()];
    let answers = score(decoder, questions, |i, choices| {
        assert!(told[i].replace(choices.to_vec()).is_none(), "question {i} is answered twice");
    })
    .unwrap();
    let told: Vec<Vec<Choice>> = told.into_iter().map(Option::unwrap).collect();
    assert_eq!(told, answers);
    answers
}

/// Every number as bits.
fn all_bits(answers: &[Vec<Choice>]) -> Vec<(u64, bool, Vec<u32>)> {
    answers.iter().flatten().map(|c| (c.log_likelihood.to_bits(), c.greedy, bits(&c.tokens))).collect()
}

#[test]
fn every_architecture_scores_what_its_full_pass_says() {
    let cpu = Cpu::new(2).unwrap();
    for (name, config) in toys(64) {
        let (loaded, questions) = (Loaded::fresh(config, 4), questions(7, 30, 64));
        let answers = run(&mut decoder(&cpu, &loaded, Precision::Fp32, 4), &questions);
        for (question, answers) in questions.iter().zip(&answers).step_by(3) {
            for (choice, answer) in question.choices.iter().zip(answers) {
                let all = full_forward(&cpu, &loaded, &[question.prompt.as_slice(), choice].concat());
                let want = &all[question.prompt.len() - 1..];
                assert_eq!(answer.tokens.len(), choice.len(), "{name}");
                let close = |(got, want): (&f32, &f32)| (got - want).abs() < 1e-4 * want.abs().max(1.0);
                assert!(answer.tokens.iter().zip(want).all(close), "{name}: {:?} {want:?}", answer.tokens);
                let sum: f64 = answer.tokens.iter().map(|&t| f64::from(t)).sum();
                assert!((answer.log_likelihood - sum).abs() < 1e-5 * sum.abs().max(1.0), "{name}");
            }
        }
    }
}

#[test]
fn reuse_and_slots_change_no_bit_of_any_architecture() {
    for (name, config) in toys(64) {
        let experts = config.moe.is_some();
        let (loaded, questions) = (Loaded::fresh(config, 4), questions(7, 40, 64));
        for precision in [Precision::Fp32, Precision::Bf16] {
            let cpu = Cpu::new(2).unwrap();
            let mut plain = decoder(&cpu, &loaded, precision, 1);
            plain.reuse = Reuse::None;
            let want = run(&mut plain, &questions);
            let got = run(&mut decoder(&cpu, &loaded, precision, 5), &questions);
            if !experts {
                assert_eq!(all_bits(&got), all_bits(&want), "{name} {precision:?}");
            } else if precision == Precision::Fp32 {
                // An expert that more or fewer rows come to sums in another order.
                let close = |(a, b): (&Choice, &Choice)| (a.log_likelihood - b.log_likelihood).abs() < 1e-3;
                assert!(got.iter().flatten().zip(want.iter().flatten()).all(close), "{name}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn reuse_slots_threads_and_company_change_no_bit(
        seed in 0u64..1000,
        shared in 0usize..120,
        slots in 1usize..20,
        threads in 1usize..4,
        alone in 0usize..14,
        path in 0usize..8,
    ) {
        let paths = Isa::available();
        let isa = paths[path % paths.len()];
        let (loaded, questions) = (random_model(160), questions(seed, shared, VOCAB));
        let one = Cpu::with_isa(isa, 1);
        let mut plain = decoder(&one, &loaded, Precision::Fp32, 2);
        plain.reuse = Reuse::None;
        let want = run(&mut plain, &questions);
        let cpu = Cpu::with_isa(isa, threads);
        let mut shares = decoder(&cpu, &loaded, Precision::Fp32, slots);
        prop_assert_eq!(all_bits(&run(&mut shares, &questions)), all_bits(&want));
        // Again, now that the cache holds much of it, and one question by itself.
        let again = run(&mut shares, &questions[alone..=alone]);
        prop_assert_eq!(all_bits(&again), all_bits(&want[alone..=alone]));
        let mut fresh = decoder(&cpu, &loaded, Precision::Fp32, 1);
        prop_assert_eq!(all_bits(&run(&mut fresh, &questions[alone..=alone])), all_bits(&want[alone..=alone]));
    }
}

#[test]
fn what_narrow_passes_left_in_the_cache_is_not_reused() {
    let (cpu, loaded) = (Cpu::new(1).unwrap(), random_model(64));
    let tokens = some_ids(3, 30, VOCAB);
    let question = [Question { prompt: tokens.clone(), choices: vec![vec![4, 5]] }];
    let want = run(&mut decoder(&cpu, &loaded, Precision::Fp32, 1), &question);
    let mut used = decoder(&cpu, &loaded, Precision::Fp32, 1);
    for (position, &token) in (0u32..).zip(&tokens) {
        used.feed(&[Row { slot: 0, position, token, wanted: false }], |_, _| {}).unwrap();
    }
    assert_eq!(all_bits(&run(&mut used, &question)), all_bits(&want));
    assert_eq!(used.rows_fed(), 61, "all are fed again");
    assert_eq!(all_bits(&run(&mut used, &question)), all_bits(&want));
    assert_eq!(used.rows_fed(), 63, "but only once");
}

#[test]
fn a_token_is_greedy_if_it_is_the_likeliest_and_its_probability_that_of_the_logits() {
    let (cpu, loaded) = (Cpu::new(2).unwrap(), random_model(64));
    let mut tokens = some_ids(8, 6, VOCAB);
    let prompt = tokens.clone();
    let mut want = 0.0;
    for _ in 0..5 {
        let rows: Vec<Row> = (0u32..)
            .zip(&tokens)
            .map(|(position, &token)| Row {
                slot: 0,
                position,
                token,
                wanted: position as usize + 1 == tokens.len(),
            })
            .collect();
        let mut next = 0;
        decoder(&cpu, &loaded, Precision::Fp32, 1)
            .feed(&rows, |_, logits| {
                next = argmax(logits);
                want += log_probability(logits, next);
            })
            .unwrap();
        tokens.push(next);
    }
    let likeliest = tokens[6..].to_vec();
    let mut other = likeliest.clone();
    other[3] = (other[3] + 1) % VOCAB;
    let question = Question { prompt, choices: vec![likeliest, other] };
    let answers = run(&mut decoder(&cpu, &loaded, Precision::Fp32, 2), &[question]);
    assert!(answers[0][0].greedy && !answers[0][1].greedy);
    let got = answers[0][0].log_likelihood;
    assert!((got - want).abs() < 1e-5 * want.abs(), "{got} {want}");
}

#[test]
fn a_shared_beginning_is_fed_once_and_candidates_of_one_token_cost_nothing() {
    let (cpu, loaded) = (Cpu::new(2).unwrap(), random_model(1300));
    let shots = some_ids(1, 1200, VOCAB);
    let question = |i: u64| Question {
        // Endings differ from their first token on.
        prompt: [shots.as_slice(), &[i as u32], &some_ids(2 + i, 9, VOCAB)].concat(),
        choices: vec![vec![1], vec![2], vec![3], vec![4]],
    };
    let questions: Vec<Question> = (0..50).map(question).collect();
    for slots in [1, 7, 64] {
        let mut decoder = decoder(&cpu, &loaded, Precision::Fp32, slots);
        run(&mut decoder, &questions);
        assert_eq!(decoder.rows_fed(), 1200 + 50 * 10, "{slots} slots");
        decoder.reuse = Reuse::None;
        run(&mut decoder, &questions[..2]);
        assert_eq!(decoder.rows_fed(), 1200 + 50 * 10 + 2 * 1210, "{slots} slots");
    }
    assert!(questions[0].room() > MAX_ROWS, "a prompt of more than one pass");
}

#[test]
fn what_candidates_begin_with_is_fed_once() {
    let (cpu, loaded) = (Cpu::new(2).unwrap(), random_model(64));
    let choices = vec![vec![1, 2, 3, 4], vec![1, 2, 9, 9, 9], vec![1, 2, 3, 4], vec![1, 2], vec![7, 1]];
    let questions = vec![Question { prompt: some_ids(1, 10, VOCAB), choices }];
    let mut decoder = decoder(&cpu, &loaded, Precision::Fp32, 2);
    run(&mut decoder, &questions);
    // The prompt; 1 2 3, then 9 9 after 1 2, then 7: the last token of none.
    assert_eq!(decoder.rows_fed(), 10 + 3 + 2 + 1);
    decoder.reuse = Reuse::None;
    run(&mut decoder, &questions);
    assert_eq!(decoder.rows_fed(), 16 + 10 + 3 + 4 + 3 + 1 + 1);
}

#[test]
fn whole_texts_are_predicted_once_by_windows_that_overlap_in_one_token() {
    // The full pass has a row for the last token, too.
    let (cpu, loaded, longer) = (Cpu::new(2).unwrap(), random_model(20), random_model(21));
    assert_eq!(loaded.weights, longer.weights);
    let lengths = [0, 1, 19, 20, 21, 40, 53];
    let texts: Vec<Vec<u32>> = lengths.iter().map(|&len| some_ids(len as u64, len, VOCAB)).collect();
    let mut told = 0;
    let got = rolling(&mut decoder(&cpu, &loaded, Precision::Fp32, 3), 7, &texts, |n| told += n).unwrap();
    assert_eq!(told, lengths.iter().sum::<usize>());
    for (text, got) in texts.iter().zip(&got) {
        assert_eq!(got.len(), text.len());
        // What is fed, and where in the text the predicted tokens begin and end.
        let mut windows = vec![([&[7][..], &text[..text.len().min(20)]].concat(), 0, text.len().min(20))];
        if text.len() == 53 {
            windows.push((text[19..40].to_vec(), 20, 40));
            windows.push((text[32..53].to_vec(), 40, 53));
        } else if text.len() > 20 {
            windows.push((text[text.len() - 21..].to_vec(), 20, text.len()));
        }
        for (fed, start, end) in windows.into_iter().filter(|(_, start, end)| end > start) {
            let all = full_forward(&cpu, &longer, &fed);
            let want = &all[all.len() - (end - start)..];
            let close = |(got, want): (&f32, &f32)| (got - want).abs() < 1e-5 * want.abs().max(1.0);
            assert!(got[start..end].iter().zip(want).all(close), "{} tokens, {start}..{end}", text.len());
        }
    }
}

#[test]
fn bad_questions_are_errors() {
    let (cpu, loaded) = (Cpu::new(1).unwrap(), random_model(32));
    let mut decoder = decoder(&cpu, &loaded, Precision::Fp32, 2);
    let mut ask = |prompt: Vec<u32>, choices: Vec<Vec<u32>>| {
        let good = Question { prompt: vec![1], choices: vec![vec![2]] };
        score(&mut decoder, &[good, Question { prompt, choices }], |_, _| panic!("nothing is computed")).err()
    };
    assert_eq!(ask(vec![], vec![vec![1]]), Some(Error::EmptyPrompt { question: 1 }));
    assert_eq!(ask(vec![1; 30], vec![vec![1; 4]]), Some(Error::TooLong { needed: 33, capacity: 32 }));
    let unknown = Some(Error::UnknownToken { token: VOCAB, vocab_size: VOCAB as usize });
    assert_eq!(ask(vec![1, VOCAB], vec![vec![1]]), unknown);
    assert_eq!(ask(vec![1], vec![vec![1], vec![2, VOCAB]]), unknown);
    // As much as fits, and nothing to choose from.
    let questions = [
        Question { prompt: vec![1; 30], choices: vec![vec![1; 3], vec![]] },
        Question { prompt: vec![1], choices: vec![] },
    ];
    let answers = run(&mut decoder, &questions);
    assert_eq!((answers[0][0].tokens.len(), answers[0][1].tokens.len(), answers[1].len()), (3, 0, 0));
    assert!(answers[0][1].greedy && answers[0][1].log_likelihood == 0.0);
    assert!(run(&mut decoder, &[]).is_empty());
}
