//! Logits, losses and gradients against transformers (tests/golden), on every instruction set.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Fixture, NO_LABEL, Rows, bits, golden, l2_error, max_error};
use smolt_arch::ModelConfig;
use smolt_model::Transformer;
use smolt_model::folder::{self, Loaded};
use smolt_model::pairing;
use smolt_model::safetensors::Store;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::isa::Isa;
use smolt_tensor::ops::rope::Pairing;
use smolt_tensor::tape::Run;
use std::path::Path;

/// Models with gradients and packed documents.
const FAMILIES: [&str; 13] = [
    "models/llama",
    "models/smollm3",
    "models/llama_bias",
    "models/qwen2",
    "models/qwen3",
    "models/mistral",
    "models/olmo2",
    "models/gemma2",
    "models/gemma3",
    "models/mixtral",
    "models/qwen3_moe",
    "models/deepseek_v3",
    "models/gpt_oss",
];
/// Models of which there are logits only: RoPE stretched in each way.
const STRETCHED: [&str; 3] = ["models/llama_linear", "models/llama_llama3", "models/llama_yarn"];
const LENGTH: usize = 32;

fn every_cpu() -> Vec<Cpu> {
    Isa::available().into_iter().flat_map(|isa| [1, 2].map(|threads| Cpu::with_isa(isa, threads))).collect()
}

fn load(family: &str) -> Loaded {
    Loaded::load(&golden(family)).unwrap()
}

/// The two sequences of the fixture, each token predicting the next.
fn rows(fixture: &Fixture) -> Rows {
    let mut rows = Rows::default();
    fixture.ids("input_ids").chunks_exact(LENGTH).for_each(|row| rows.push_document(row));
    rows
}

/// Logits `[n, vocab]` of sequences of `length` tokens.
fn logits(cpu: &Cpu, loaded: &Loaded, tokens: &[u32], length: usize) -> Vec<f32> {
    let n = tokens.len();
    let mut pass = loaded.model.decode_pass(n, Precision::Fp32);
    let mut cache = loaded.model.cache(n / length, length);
    let p = &mut pass.program;
    p.input_mut::<u32>(pass.tokens).copy_from_slice(tokens);
    for i in 0..n {
        p.input_mut::<u32>(pass.slots)[i] = (i / length) as u32;
        p.input_mut::<u32>(pass.positions)[i] = (i % length) as u32;
    }
    let (layout, weights) = (loaded.model.layout(), loaded.weights.as_slice());
    p.run(Run { cpu, layout, weights, grads: None, cache: Some(&mut cache) });
    let all: Vec<u32> = (0..n as u32).collect();
    let mut logits = vec![0.0; n * loaded.model.config().vocab_size];
    pass.logits(cpu, &loaded.model, weights, &all, &mut logits);
    logits
}

/// Negative log-likelihood of each label under the fixture's logits.
fn nll(logits: &[f32], labels: &[u32]) -> Vec<f32> {
    let one = |(row, &label): (&[f32], &u32)| {
        let z: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
        if label == NO_LABEL { 0.0 } else { (z.ln() - f64::from(row[label as usize])) as f32 }
    };
    logits.chunks_exact(logits.len() / labels.len()).zip(labels).map(one).collect()
}

#[test]
fn logits_are_those_of_transformers_in_either_spelling_of_the_config() {
    for family in FAMILIES.into_iter().chain(STRETCHED) {
        let (loaded, fixture) = (load(family), Fixture::open(family));
        let old = tempfile::tempdir().unwrap();
        std::fs::copy(golden(family).join("config.v4.json"), old.path().join("config.json")).unwrap();
        let weights = "model.safetensors";
        std::fs::copy(golden(family).join(weights), old.path().join(weights)).unwrap();
        let old = Loaded::load(old.path()).unwrap();
        let (ids, want) = (fixture.ids("input_ids"), fixture.floats("logits"));
        for isa in Isa::available() {
            let got = logits(&Cpu::with_isa(isa, 1), &loaded, &ids, LENGTH);
            let error = max_error(&got, &want);
            assert!(error < 1e-4, "{family} on {isa}: logits off by {error:e}");
            let two = logits(&Cpu::with_isa(isa, 2), &loaded, &ids, LENGTH);
            assert_eq!(bits(&got), bits(&two), "{family} on {isa}: two threads give other bits");
            let v4 = logits(&Cpu::with_isa(isa, 1), &old, &ids, LENGTH);
            assert_eq!(bits(&got), bits(&v4), "{family} on {isa}: config.v4.json gives another model");
        }
    }
}

#[test]
fn loss_and_every_gradient_are_those_of_transformers() {
    for family in FAMILIES {
        let (loaded, fixture) = (load(family), Fixture::open(family));
        let (rows, layout) = (rows(&fixture), loaded.model.layout());
        let want_loss = f64::from(fixture.floats("loss")[0]);
        let want_nll = nll(&fixture.floats("logits"), &rows.labels);
        let mut pass = loaded.model.loss_pass(rows.tokens.len(), Precision::Fp32, 0.0, true);
        let mut first: Option<(Isa, Vec<u32>)> = None;
        for cpu in every_cpu() {
            let at = format!("{family} on {} with {} threads", cpu.isa, cpu.pool.threads());
            let mut grads = vec![0.0; layout.len()];
            let loss = rows.run(&mut pass, &cpu, &loaded, Some(&mut grads));
            assert!((loss / want_loss - 1.0).abs() < 1e-5, "{at}: loss {loss}, not {want_loss}");
            let error = max_error(pass.program.output(pass.loss.per_token), &want_nll);
            assert!(error < 1e-4, "{at}: losses of tokens off by {error:e}");
            for (view, got) in folder::tensors(&loaded.model, &grads) {
                if view.name.ends_with("e_score_correction_bias") {
                    assert!(got.iter().all(|&g| g == 0.0), "{at}: {} is not trained by gradients", view.name);
                    continue;
                }
                let error = l2_error(&got, &fixture.floats(&format!("grad.{}", view.name)));
                assert!(error < 1e-4, "{at}: gradient of {} off by {error:e}", view.name);
            }
            match &first {
                Some((isa, one)) if *isa == cpu.isa => assert!(*one == bits(&grads), "{at}: other bits"),
                _ => first = Some((cpu.isa, bits(&grads))),
            }
        }
    }
}

#[test]
fn packed_documents_do_not_see_each_other() {
    for family in FAMILIES {
        let (loaded, fixture) = (load(family), Fixture::open(family));
        let (ids, ends) = (fixture.ids("packed.input_ids"), fixture.ids("packed.doc_ends"));
        let want = fixture.floats("packed.logits");
        let mut rows = Rows::default();
        let mut start = 0;
        for end in ends.into_iter().map(|end| end as usize) {
            rows.push_document(&ids[start..end]);
            start = end;
        }
        assert_eq!(rows.positions[13], 0);
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa, 2);
            let mut pass = loaded.model.loss_pass(ids.len(), Precision::Fp32, 0.0, false);
            rows.run(&mut pass, &cpu, &loaded, None);
            let error = max_error(pass.program.output(pass.loss.per_token), &nll(&want, &rows.labels));
            assert!(error < 1e-4, "{family} on {isa}: losses off by {error:e}");
            let documents = [&ids[..13], &ids[13..]];
            let alone: Vec<f32> = documents.iter().flat_map(|d| logits(&cpu, &loaded, d, d.len())).collect();
            let error = max_error(&alone, &want);
            assert!(error < 1e-4, "{family} on {isa}: logits off by {error:e}");
        }
    }
}

#[test]
fn bf16_stays_near_fp32() {
    for family in FAMILIES {
        let (loaded, fixture) = (load(family), Fixture::open(family));
        let (rows, want) = (rows(&fixture), f64::from(fixture.floats("loss")[0]));
        for isa in Isa::available() {
            let mut pass = loaded.model.loss_pass(rows.tokens.len(), Precision::Bf16, 0.0, true);
            let (mut one, mut two) = (vec![0.0; loaded.weights.len()], vec![0.0; loaded.weights.len()]);
            let loss = rows.run(&mut pass, &Cpu::with_isa(isa, 1), &loaded, Some(&mut one));
            assert!((loss / want - 1.0).abs() < 0.01, "{family} on {isa}: bf16 loss {loss}, fp32 {want}");
            rows.run(&mut pass, &Cpu::with_isa(isa, 2), &loaded, Some(&mut two));
            assert!(bits(&one) == bits(&two), "{family} on {isa}: two threads give other bits");
            // Rounding sends tokens to other experts, whose gradients differ by more than rounding.
            let routed = loaded.model.config().moe.is_some();
            for (view, got) in folder::tensors(&loaded.model, &one).filter(|_| !routed) {
                let error = l2_error(&got, &fixture.floats(&format!("grad.{}", view.name)));
                assert!(error < 0.1, "{family} on {isa}: bf16 gradient of {} off by {error:e}", view.name);
            }
        }
    }
}

/// Experts are chosen by comparison, so where two are nearly even rounding sends a token to another one, whose gradients
/// are others altogether. Routers of zeros choose alike in any arithmetic, so only rounding is left.
#[test]
fn bf16_gradients_of_experts_stay_near_fp32() {
    let cpu = Cpu::with_isa(Isa::available()[0], 1);
    for family in FAMILIES {
        let (mut loaded, fixture) = (load(family), Fixture::open(family));
        if loaded.model.config().moe.is_none() {
            continue;
        }
        let routers: Vec<_> =
            loaded.model.layout().views().iter().filter(|view| is_router(&view.name)).cloned().collect();
        assert!(!routers.is_empty(), "{family}");
        routers.into_iter().for_each(|view| loaded.weights[view.range].fill(0.0));
        let rows = rows(&fixture);
        let mut gradients = [Precision::Fp32, Precision::Bf16].map(|precision| {
            let mut pass = loaded.model.loss_pass(rows.tokens.len(), precision, 0.0, true);
            let mut grads = vec![0.0; loaded.weights.len()];
            rows.run(&mut pass, &cpu, &loaded, Some(&mut grads));
            grads
        });
        let [whole, rounded] = &mut gradients;
        let pairs = folder::tensors(&loaded.model, whole).zip(folder::tensors(&loaded.model, rounded));
        for ((view, want), (_, got)) in pairs.filter(|((_, want), _)| want.iter().any(|&g| g != 0.0)) {
            let error = l2_error(&got, &want);
            assert!(error < 0.15, "{family}: bf16 gradient of {} off by {error:e}", view.name);
        }
    }
}

fn is_router(name: &str) -> bool {
    ["mlp.gate.weight", "mlp.router.weight", "block_sparse_moe.gate.weight"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Turned and turned back, weights are what they were; turned, the model says the same.
#[test]
fn features_turn_in_either_order() {
    let cpu = Cpu::with_isa(Isa::available()[0], 1);
    for family in FAMILIES {
        let (loaded, fixture) = (load(family), Fixture::open(family));
        let before = (loaded.model.config().clone(), loaded.weights.clone());
        let (one, other) = match before.0.rope_interleaved {
            true => (Pairing::Interleaved, Pairing::HalfSplit),
            false => (Pairing::HalfSplit, Pairing::Interleaved),
        };
        let turned = pairing::paired(loaded, other).unwrap();
        assert!(turned.model.config().rope_interleaved != before.0.rope_interleaved);
        assert!(turned.weights != before.1, "{family}");
        let got = logits(&cpu, &turned, &fixture.ids("input_ids"), LENGTH);
        let error = max_error(&got, &fixture.floats("logits"));
        assert!(error < 1e-4, "{family}: logits off by {error:e}");
        let back = pairing::paired(turned, one).unwrap();
        // Types differ in the order of their parameters.
        if back.model.config() == &before.0 {
            assert!(bits(&back.weights) == bits(&before.1), "{family}");
        } else {
            assert!(
                !["models/llama", "models/qwen3", "models/deepseek_v3"].contains(&family),
                "its own type again"
            );
            let got = logits(&cpu, &back, &fixture.ids("input_ids"), LENGTH);
            assert!(max_error(&got, &fixture.floats("logits")) < 1e-4, "{family}");
        }
    }
}

#[test]
fn saved_models_load_as_they_were() {
    for family in FAMILIES {
        let loaded = load(family);
        let dir = tempfile::tempdir().unwrap();
        folder::save(dir.path(), &loaded.model, &loaded.weights, Store::F32).unwrap();
        let again = Loaded::load(dir.path()).unwrap();
        assert_eq!(again.model.config(), loaded.model.config());
        assert!(bits(&again.weights) == bits(&loaded.weights));
        folder::save(dir.path(), &loaded.model, &loaded.weights, Store::Bf16).unwrap();
        let rounded = Loaded::load(dir.path()).unwrap();
        let error = max_error(&rounded.weights, &loaded.weights);
        assert!(error > 0.0 && error < 1.0 / 256.0, "{error}");
    }
}

#[test]
fn smollm3_3b_has_the_published_number_of_parameters() {
    let json =
        br#"{"model_type": "smollm3", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
        "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4, "rope_theta": 5000000.0,
        "max_position_embeddings": 4096, "tie_word_embeddings": true, "rms_norm_eps": 1e-6}"#;
    let config = ModelConfig::from_json(Path::new("smollm3-3b"), json).unwrap();
    assert_eq!(smolt_arch::count::parameters(&config).total(), 3_075_098_624);
    assert_eq!(Transformer::new(config).layout().count(), 3_075_098_624);
}

#[test]
fn layouts_hold_the_parameters_that_are_counted() {
    for family in ["models/llama", "models/smollm3", "curve"] {
        let model = load(family).model;
        assert_eq!(model.layout().count() as u64, smolt_arch::count::parameters(model.config()).total());
    }
    for (heads, kv_heads, head_dim, tied) in
        [(4, 1, 10, true), (4, 4, 64, false), (1, 1, 2, true), (6, 3, 6, false)]
    {
        let mut config = ModelConfig {
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            hidden_size: heads * 9,
            vocab_size: 77,
            tie_word_embeddings: tied,
            ..ModelConfig::default()
        };
        config.set_no_rope_layer_interval(3);
        config.validate().unwrap();
        let model = Transformer::new(config);
        assert_eq!(model.layout().count() as u64, smolt_arch::count::parameters(model.config()).total());
        let names: Vec<_> = smolt_arch::parameters::parameters(model.config());
        let mut ours: Vec<_> =
            model.layout().views().iter().map(|v| (v.name.clone(), v.shape.clone())).collect();
        let mut theirs: Vec<_> = names.into_iter().map(|p| (p.name, p.shape)).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
    }
}
