//! Decoding from the cache gives what a full forward pass gives.

#![allow(clippy::unwrap_used)]

#[path = "../../model/tests/common/mod.rs"]
mod common;

use common::{Fixture, Rows, golden, max_error, some_ids, toys};
use smolt_arch::config::PositionEmbedding;
use smolt_arch::{ModelConfig, ModelType};
use smolt_infer::decoder::{Error, MAX_ROWS};
use smolt_infer::sampling::Sampling;
use smolt_infer::{Decoder, Finish, Reuse, Row, Said, Settings, generate};
use smolt_model::folder::Loaded;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::isa::Isa;
use std::ops::ControlFlow;

fn random_model(positions: usize) -> Loaded {
    let mut config = ModelConfig {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 10,
        vocab_size: 101,
        max_position_embeddings: positions,
        initializer_range: 0.2,
        ..ModelConfig::default()
    };
    config.set_no_rope_layer_interval(2);
    Loaded::fresh(config, 4)
}

fn decoder<'m>(cpu: &'m Cpu, loaded: &'m Loaded, slots: usize) -> Decoder<'m> {
    Decoder::new(
        cpu,
        &loaded.model,
        &loaded.weights,
        Precision::Fp32,
        slots,
        loaded.model.config().max_position_embeddings,
    )
}

#[test]
fn only_tables_of_positions_limit_a_sequence() {
    let cpu = Cpu::new(1).unwrap();
    let room = |position_embedding: PositionEmbedding| {
        let rope = random_model(8).model.config().clone();
        let config = ModelConfig {
            position_embedding,
            no_rope_layers: vec![1; rope.num_hidden_layers],
            model_type: ModelType::Smolt,
            ..rope
        };
        let loaded = Loaded::fresh(config, 4);
        let (model, weights) = (&loaded.model, &loaded.weights);
        let mut decoder = Decoder::new(&cpu, model, weights, Precision::Fp32, 1, 40);
        let ids = some_ids(1, decoder.capacity(), 101);
        assert!(feed(&mut decoder, &rows(0, 0, &ids)).iter().all(|logit| logit.is_finite()));
        decoder.capacity()
    };
    assert_eq!((room(PositionEmbedding::Rope), room(PositionEmbedding::Learned)), (8, 8));
    assert_eq!((room(PositionEmbedding::Alibi), room(PositionEmbedding::None)), (40, 40));
}

/// What a model that diverged writes is nothing of its own.
#[test]
fn logits_that_are_not_numbers_are_told() {
    let cpu = Cpu::new(1).unwrap();
    let mut loaded = random_model(16);
    let sampled = Sampling { temperature: 1.0, ..Sampling::default() };
    // The last value is the final norm's, or a part of one token's row of the head.
    *loaded.weights.last_mut().unwrap() = f32::NAN;
    for sampling in [Sampling::default(), sampled] {
        let settings = Settings { max_tokens: 4, stop: Vec::new(), sampling, seed: 0 };
        let prompts = [vec![], vec![1, 2]];
        let told =
            generate(&mut decoder(&cpu, &loaded, 2), &prompts, &settings, |_, _| ControlFlow::Continue(()));
        assert_eq!(told.unwrap_err(), Error::NotANumber { prompt: 1 });
    }
}

/// Rows of `tokens` in `slot` from `position` on, all wanted.
fn rows(slot: u32, position: u32, tokens: &[u32]) -> Vec<Row> {
    (position..).zip(tokens).map(|(position, &token)| Row { slot, position, token, wanted: true }).collect()
}

/// Logits of every wanted row, one after another.
fn feed(decoder: &mut Decoder<'_>, rows: &[Row]) -> Vec<f32> {
    let (mut out, mut next) = (Vec::new(), 0);
    decoder
        .feed(rows, |i, logits| {
            assert!(i >= next && rows[i].wanted, "wanted rows come in order");
            next = i + 1;
            out.extend_from_slice(logits);
        })
        .unwrap();
    out
}

/// Loss of each token after the first, from the pass that training uses.
fn full_forward(cpu: &Cpu, loaded: &Loaded, tokens: &[u32]) -> Vec<f32> {
    let mut packed = Rows::default();
    packed.push_document(tokens);
    let mut pass = loaded.model.loss_pass(tokens.len(), Precision::Fp32, 0.0, false);
    packed.run(&mut pass, cpu, loaded, None);
    pass.program.output::<f32>(pass.loss.per_token)[..tokens.len() - 1].to_vec()
}

fn losses(logits: &[f32], tokens: &[u32]) -> Vec<f32> {
    let vocab = logits.len() / tokens.len();
    let loss = |(row, &next): (&[f32], &u32)| -smolt_infer::sampling::log_probability(row, next) as f32;
    logits.chunks_exact(vocab).zip(&tokens[1..]).map(loss).collect()
}

#[test]
fn every_architecture_decodes_what_it_was_trained_on() {
    let cpu = Cpu::new(2).unwrap();
    for (name, config) in toys(64) {
        let (loaded, tokens) = (Loaded::fresh(config, 4), some_ids(2, 40, 64));
        let want = full_forward(&cpu, &loaded, &tokens);
        let mut decoder = decoder(&cpu, &loaded, 2);
        // A prompt, then one token at a time.
        let mut logits = feed(&mut decoder, &rows(1, 0, &tokens[..23]));
        for (position, token) in (23_u32..).zip(&tokens[23..]) {
            logits.extend(feed(&mut decoder, &rows(1, position, std::slice::from_ref(token))));
        }
        let error = max_error(&losses(&logits, &tokens), &want);
        assert!(error < 1e-4, "{name}: losses off by {error:e}");
    }
}

#[test]
fn token_by_token_equals_the_full_forward_pass() {
    let fixture = Fixture::open("models/smollm3");
    let cases = [
        (Loaded::load(&golden("models/smollm3")).unwrap(), fixture.ids("input_ids")[..32].to_vec()),
        (random_model(64), some_ids(1, 64, 101)),
    ];
    for (case, (loaded, tokens)) in cases.iter().enumerate() {
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa, 2);
            let mut whole = decoder(&cpu, loaded, 1);
            let at_once = feed(&mut whole, &rows(0, 0, tokens));
            let mut each = decoder(&cpu, loaded, 1);
            let one_by_one: Vec<f32> =
                (0..tokens.len()).flat_map(|i| feed(&mut each, &rows(0, i as u32, &tokens[i..=i]))).collect();
            let error = max_error(&one_by_one, &at_once);
            assert!(error < 1e-5, "{isa}: one by one off by {error:e}");
            let want = full_forward(&cpu, loaded, tokens);
            let error = max_error(&losses(&one_by_one, tokens), &want);
            assert!(error < 1e-5, "{isa}: losses off by {error:e}");
            if case == 0 {
                let want = fixture.floats("logits");
                let error = max_error(&one_by_one, &want[..one_by_one.len()]);
                assert!(error < 1e-4, "{isa}: off the golden logits by {error:e}");
            }
        }
    }
}

#[test]
fn sequences_decoded_together_equal_each_alone() {
    let (cpu, loaded) = (Cpu::new(2).unwrap(), random_model(64));
    let prompts: Vec<Vec<u32>> = [3, 17, 1, 40, 8].iter().map(|&n| some_ids(n as u64, n + 6, 101)).collect();
    let alone: Vec<Vec<f32>> =
        prompts.iter().map(|p| feed(&mut decoder(&cpu, &loaded, 1), &rows(0, 0, p))).collect();
    let mut together = decoder(&cpu, &loaded, prompts.len());
    let mut got: Vec<Vec<f32>> = vec![Vec::new(); prompts.len()];
    // All prompts at once, then six steps of one token each, in which two sequences pause now and then.
    let mut fed = vec![0; prompts.len()];
    for step in 0..14 {
        let mut batch = Vec::new();
        for (slot, prompt) in prompts.iter().enumerate() {
            let until = if step == 0 { prompt.len() - 6 } else { fed[slot] + 1 };
            if until > prompt.len() || (step % 2 == 1 && slot % 2 == 1) {
                continue;
            }
            batch.extend(rows(slot as u32, fed[slot] as u32, &prompt[fed[slot]..until]));
            fed[slot] = until;
        }
        if batch.is_empty() {
            continue;
        }
        together.feed(&batch, |i, logits| got[batch[i].slot as usize].extend_from_slice(logits)).unwrap();
    }
    for (slot, (got, alone)) in got.iter().zip(&alone).enumerate() {
        let error = max_error(got, alone);
        assert!(error < 1e-5, "sequence {slot} is off by {error:e}");
    }
}

#[test]
fn prompts_longer_than_a_piece_are_fed_in_pieces() {
    let (cpu, loaded) = (Cpu::new(2).unwrap(), random_model(2200));
    let tokens = some_ids(2, 2 * MAX_ROWS + 75, 101);
    let want = full_forward(&cpu, &loaded, &tokens);
    let mut both = decoder(&cpu, &loaded, 2);
    // The second prompt straddles the edge of a piece, too.
    let mut batch = rows(1, 0, &tokens);
    batch.extend(rows(0, 0, &tokens[..1100]));
    let logits = feed(&mut both, &batch);
    let (first, second) = logits.split_at(tokens.len() * 101);
    let error = max_error(&losses(first, &tokens), &want);
    assert!(error < 1e-5, "off by {error:e}");
    let error = max_error(second, &first[..second.len()]);
    assert!(error < 1e-5, "the second is off by {error:e}");
    // Only some logits wanted: the same ones, at the same rows.
    for row in &mut batch {
        row.wanted = row.position % 7 == 3;
    }
    let some = feed(&mut both, &batch);
    let want: Vec<f32> = (0..batch.len())
        .filter(|&i| batch[i].wanted)
        .flat_map(|i| logits[i * 101..(i + 1) * 101].to_vec())
        .collect();
    let error = max_error(&some, &want);
    assert!(error < 1e-5, "wanted rows are off by {error:e}");
}

#[test]
fn positions_fed_again_are_replaced() {
    let (cpu, loaded) = (Cpu::new(1).unwrap(), random_model(64));
    let tokens = some_ids(5, 20, 101);
    let want = feed(&mut decoder(&cpu, &loaded, 1), &rows(0, 0, &tokens));
    let mut used = decoder(&cpu, &loaded, 1);
    feed(&mut used, &rows(0, 0, &some_ids(6, 50, 101)));
    feed(&mut used, &rows(0, 0, &tokens[..12]));
    let got = feed(&mut used, &rows(0, 12, &tokens[12..]));
    assert!(max_error(&got, &want[12 * 101..]) < 1e-5);
}

#[test]
fn generation_does_not_depend_on_the_batch() {
    let (cpu, loaded) = (Cpu::new(2).unwrap(), random_model(64));
    let prompts: Vec<Vec<u32>> =
        [9, 2, 30, 0, 1, 17, 5].iter().map(|&n| some_ids(n as u64, n, 101)).collect();
    for temperature in [0.0, 1.0] {
        let sampling = Sampling { temperature, ..Sampling::default() };
        let settings = Settings { max_tokens: 12, stop: vec![3, 50], sampling, seed: 1 };
        let run = |slots| {
            let mut seen: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
            let answers = generate(&mut decoder(&cpu, &loaded, slots), &prompts, &settings, |p, said| {
                if let Said::Token(token, _) = said {
                    seen[p].push(token);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
            assert!(answers.iter().zip(&seen).all(|(a, s)| a.tokens == *s), "tokens are told as they come");
            answers
        };
        let one = run(1);
        assert_eq!(one, run(3));
        assert_eq!(one, run(16));
        assert!(one[3].tokens.is_empty() && one[3].finish == Finish::Length, "an empty prompt has no answer");
        for (i, answer) in one.iter().enumerate().filter(|(i, _)| *i != 3) {
            assert!(answer.finish == Finish::Stop || answer.tokens.len() == 12, "prompt {i}");
            assert!(answer.tokens.iter().all(|t| !settings.stop.contains(t)));
        }
        if temperature == 0.0 {
            greedy_is_the_likeliest(&cpu, &loaded, &prompts[0], &one[0].tokens);
        }
    }
}

/// Each answer token is the argmax of a full forward pass over everything before it.
fn greedy_is_the_likeliest(cpu: &Cpu, loaded: &Loaded, prompt: &[u32], answer: &[u32]) {
    let mut tokens = prompt.to_vec();
    for &token in answer {
        let logits = feed(&mut decoder(cpu, loaded, 1), &rows(0, 0, &tokens));
        assert_eq!(smolt_infer::sampling::argmax(&logits[logits.len() - 101..]), token);
        tokens.push(token);
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (cpu, loaded) = (Cpu::new(1).unwrap(), random_model(64));
    let mut small = decoder(&cpu, &loaded, 1);
    let too_long = Error::TooLong { needed: 65, capacity: 64 };
    assert_eq!(small.feed(&rows(0, 0, &[1; 65]), |_, _| {}), Err(too_long));
    let unknown = Error::UnknownToken { token: 101, vocab_size: 101 };
    assert_eq!(small.feed(&rows(0, 0, &[1, 101]), |_, _| {}), Err(unknown));
    let settings = Settings { max_tokens: 60, stop: vec![], sampling: Sampling::default(), seed: 0 };
    assert!(generate(&mut small, &[vec![1; 6]], &settings, |_, _| ControlFlow::Continue(())).is_err());
    let full = generate(&mut small, &[vec![1; 5]], &settings, |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(full[0].tokens.len(), 60);
}

#[test]
fn samples_of_one_prompt_share_its_computation() {
    let (cpu, loaded) = (Cpu::new(2).unwrap(), random_model(200));
    // Twelve samples of each of two prompts that begin alike, and a short one.
    let shared = some_ids(1, 90, 101);
    let prompt = |end: u64| [shared.as_slice(), &some_ids(end, 20, 101)].concat();
    let prompts: Vec<Vec<u32>> = (0..24).map(|i| prompt(2 + i % 2)).chain([vec![5, 6]]).collect();
    let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
    let settings = Settings { max_tokens: 10, stop: vec![], sampling, seed: 3 };
    let run = |reuse, slots| {
        let mut decoder = decoder(&cpu, &loaded, slots);
        decoder.reuse = reuse;
        let answers = generate(&mut decoder, &prompts, &settings, |_, _| ControlFlow::Continue(())).unwrap();
        (answers, decoder.rows_fed())
    };
    let (want, rows) = run(Reuse::None, 4);
    assert_eq!(rows, 24 * 110 + 2 + 25 * 9, "every prompt is fed, and all but the last token of each answer");
    assert_ne!(want[0].tokens, want[2].tokens, "samples differ");
    for slots in [1, 4, 32] {
        let (got, rows) = run(Reuse::Prefix, slots);
        assert_eq!(got, want, "{slots} slots");
        assert_eq!(rows, 110 + 20 + 22 + 2 + 25 * 9, "{slots} slots: each prompt once, then its last token");
    }
}

#[test]
fn the_caller_may_end_an_answer() {
    let (cpu, loaded) = (Cpu::new(1).unwrap(), random_model(64));
    let prompts: Vec<Vec<u32>> = (0..5).map(|i| some_ids(i, 8, 101)).collect();
    let settings = Settings { max_tokens: 9, stop: vec![], sampling: Sampling::default(), seed: 0 };
    let mut told = [0; 5];
    let answers = generate(&mut decoder(&cpu, &loaded, 2), &prompts, &settings, |p, said| {
        told[p] += usize::from(matches!(said, Said::Token(..)));
        if told[p] == 2 * p { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    for (p, answer) in answers.iter().enumerate() {
        let ended = p > 0;
        assert_eq!(answer.tokens.len(), if ended { 2 * p } else { 9 });
        assert_eq!(answer.finish, if ended { Finish::Caller } else { Finish::Length });
    }
    // A stop token is not told of and not part of the answer.
    let tokens = &answers[0].tokens;
    let one = Settings { stop: vec![tokens[8]], ..settings };
    let before = tokens.iter().position(|&t| t == tokens[8]).unwrap();
    let mut told = 0;
    let stopped = generate(&mut decoder(&cpu, &loaded, 2), &prompts[..1], &one, |_, said| {
        told += usize::from(matches!(said, Said::Token(..)));
        assert!(matches!(said, Said::Token(..) | Said::End(Finish::Stop)));
        ControlFlow::Continue(())
    });
    let stopped = stopped.unwrap();
    assert_eq!((stopped[0].finish, stopped[0].tokens.as_slice()), (Finish::Stop, &tokens[..before]));
    assert_eq!(told, before);
}
