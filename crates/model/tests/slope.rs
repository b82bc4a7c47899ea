//! The gradient of a whole model is the slope of its loss.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Rows, some_ids};
use smolt_arch::ModelConfig;
use smolt_model::folder::Loaded;
use smolt_model::transformer::LossPass;
use smolt_run::random::Stream;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;

const Z_LOSS: f32 = 0.05;

fn objective(rows: &Rows, pass: &mut LossPass, cpu: &Cpu, loaded: &Loaded) -> f64 {
    let loss = rows.run(pass, cpu, loaded, None);
    loss + f64::from(Z_LOSS) * pass.loss.totals(&pass.program).z_sum / rows.label_count() as f64
}

/// Central differences along the gradient itself, where the slope is its norm, and along random directions.
#[test]
fn gradients_are_slopes() {
    let mut config = ModelConfig {
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        vocab_size: 37,
        max_position_embeddings: 32,
        initializer_range: 0.3,
        ..ModelConfig::default()
    };
    for tied in [true, false] {
        config.tie_word_embeddings = tied;
        config.set_no_rope_layer_interval(2);
        let mut loaded = Loaded::fresh(config.clone(), 5);
        let cpu = Cpu::new(2).unwrap();
        let ids = some_ids(3, 48, 37);
        let mut rows = Rows::default();
        for document in [&ids[..7], &ids[7..8], &ids[8..31], &ids[31..]] {
            rows.push_document(document);
        }
        let mut grads = vec![0.0; loaded.weights.len()];
        rows.run(
            &mut loaded.model.loss_pass(48, Precision::Fp32, Z_LOSS, true),
            &cpu,
            &loaded,
            Some(&mut grads),
        );
        let mut pass = loaded.model.loss_pass(48, Precision::Fp32, Z_LOSS, false);
        let start = loaded.weights.clone();
        for view in loaded.model.layout().views().to_vec() {
            let gradient: Vec<f64> = grads[view.range.clone()].iter().map(|&g| g.into()).collect();
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!(norm > 1e-4, "{}: gradient {norm}", view.name);
            let mut stream = Stream::new(1, &view.name, 0);
            let along: Vec<f64> = gradient.iter().map(|g| g / norm).collect();
            let aside: Vec<f64> =
                along.iter().map(|a| 0.5 * a + stream.normal() / (gradient.len() as f64).sqrt()).collect();
            for direction in [along, aside] {
                let slope: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
                let step = 4e-3;
                let mut moved = |by: f64| {
                    for (i, at) in view.range.clone().enumerate() {
                        loaded.weights[at] = (f64::from(start[at]) + by * direction[i]) as f32;
                    }
                    objective(&rows, &mut pass, &cpu, &loaded)
                };
                let found = (moved(step) - moved(-step)) / (2.0 * step);
                moved(0.0);
                let tolerance = 5e-3 * norm + 2e-4;
                assert!(
                    (found - slope).abs() < tolerance,
                    "{}: slope {found}, gradient says {slope}",
                    view.name
                );
            }
        }
    }
}
