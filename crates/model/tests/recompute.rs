//! What backward computes again changes memory and nothing else, and memory is what was predicted.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Rows, bits, some_ids, toys};
use smolt_arch::ModelConfig;
use smolt_arch::memory::{Recompute, Training, training};
use smolt_model::folder::Loaded;
use smolt_model::transformer::LossPass;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;

const SETTINGS: [Recompute; 3] = [Recompute::None, Recompute::Attention, Recompute::Block];

fn config(num_hidden_layers: usize) -> ModelConfig {
    let mut config = ModelConfig {
        hidden_size: 48,
        intermediate_size: 128,
        num_hidden_layers,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 12,
        vocab_size: 64,
        max_position_embeddings: 64,
        initializer_range: 0.2,
        ..ModelConfig::default()
    };
    config.set_no_rope_layer_interval(2);
    config
}

#[test]
fn every_setting_gives_the_same_bits() {
    let (cpu, loaded) = (Cpu::new(2).unwrap(), Loaded::fresh(config(4), 3));
    for precision in [Precision::Fp32, Precision::Bf16] {
        let mut passes = SETTINGS.map(|setting| loaded.model.training_pass(64, precision, 1e-3, setting));
        // The second run finds in the slab what the first one left.
        for seed in [1, 2] {
            let ids = some_ids(seed, 64, 64);
            let mut rows = Rows::default();
            for document in [&ids[..9], &ids[9..10], &ids[10..41], &ids[41..]] {
                rows.push_document(document);
            }
            let run = |pass: &mut LossPass| {
                let mut grads = vec![0.0; loaded.weights.len()];
                let loss = rows.run(pass, &cpu, &loaded, Some(&mut grads));
                (loss.to_bits(), bits(pass.program.output(pass.loss.per_token)), bits(&grads))
            };
            let [none, attention, block] = &mut passes;
            let want = run(none);
            assert!(want == run(attention), "{precision:?}: attention");
            assert!(want == run(block), "{precision:?}: block");
        }
    }
}

#[test]
fn every_architecture_recomputes_the_same_bits_and_keeps_what_was_predicted() {
    let cpu = Cpu::new(2).unwrap();
    let ids = some_ids(1, 128, 64);
    let mut rows = Rows::default();
    [&ids[..50], &ids[50..70], &ids[70..]].iter().for_each(|document| rows.push_document(document));
    for (name, config) in toys(64) {
        let loaded = Loaded::fresh(config.clone(), 3);
        for (precision, bf16) in [(Precision::Fp32, false), (Precision::Bf16, true)] {
            let mut want = None;
            for recompute in SETTINGS {
                let mut pass = loaded.model.training_pass(128, precision, 0.0, recompute);
                let size = Training {
                    global_batch_size: 0,
                    micro_batch_size: 2,
                    sequence_length: 64,
                    bf16,
                    recompute,
                    gradient_buffers: 1,
                    threads: 2,
                };
                let memory = training(&config, &size);
                let predicted = (memory.activations + memory.activation_gradients) as f64;
                let ratio = pass.program.slab_bytes() as f64 / predicted;
                assert!(
                    (0.75..1.25).contains(&ratio),
                    "{name}, {precision:?}, {recompute}: {ratio:.2} of what was predicted"
                );
                let mut grads = vec![0.0; loaded.weights.len()];
                let loss = rows.run(&mut pass, &cpu, &loaded, Some(&mut grads)).to_bits();
                let got = (loss, bits(&grads));
                assert!(
                    *want.get_or_insert(got.clone()) == got,
                    "{name}, {precision:?}, {recompute}: other bits"
                );
            }
        }
    }
}

/// Activations, their gradients and the inputs, for shapes deep and shallow, with wide and narrow MLPs.
#[test]
fn the_slab_is_as_large_as_predicted() {
    let n = 64 * 4;
    for (layers, intermediate_size) in [(1, 128), (2, 128), (6, 192), (24, 128), (24, 40)] {
        let config = ModelConfig { intermediate_size, ..config(layers) };
        let loaded = Loaded::fresh(config.clone(), 0);
        for (precision, bf16) in [(Precision::Fp32, false), (Precision::Bf16, true)] {
            for recompute in SETTINGS {
                let size = Training {
                    global_batch_size: 0,
                    micro_batch_size: 4,
                    sequence_length: 64,
                    bf16,
                    recompute,
                    gradient_buffers: 1,
                    threads: 1,
                };
                let memory = training(&config, &size);
                let predicted = (memory.activations + memory.activation_gradients) as f64;
                let slab =
                    loaded.model.training_pass(n, precision, 0.0, recompute).program.slab_bytes() as f64;
                assert!(
                    (0.95..1.05).contains(&(slab / predicted)),
                    "{layers} layers, {intermediate_size}, {recompute}, {precision:?}: {slab}, predicted {predicted}"
                );
            }
        }
    }
}
