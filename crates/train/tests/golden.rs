//! Ten AdamW steps against PyTorch (tests/golden): losses, gradient norms and the weights after them.

#![allow(clippy::unwrap_used)]

#[path = "../../model/tests/common/mod.rs"]
mod common;

use common::{Fixture, Rows, golden, l2_error};
use smolt_model::folder::Loaded;
use smolt_run::recipe;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::isa::Isa;
use smolt_train::optimizer::AdamW;

const LENGTH: usize = 32;

#[test]
fn ten_steps_are_those_of_pytorch() {
    for family in ["models/llama", "models/smollm3"] {
        let fixture = Fixture::open(family);
        let (batches, losses, norms) =
            (fixture.ids("batches"), fixture.floats("losses"), fixture.floats("grad_norms"));
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(isa, 2);
            let mut loaded = Loaded::load(&golden(family)).unwrap();
            let mut pass = loaded.model.loss_pass(2 * LENGTH, Precision::Fp32, 0.0, true);
            let mut optimizer = AdamW::new(recipe::defaults().unwrap(), &loaded.model);
            let mut grads = vec![0.0; loaded.weights.len()];
            for (s, batch) in batches.chunks_exact(2 * (LENGTH + 1)).enumerate() {
                let mut rows = Rows::default();
                batch.chunks_exact(LENGTH + 1).for_each(|row| rows.push(&row[..LENGTH], &row[1..]));
                let loss = rows.run(&mut pass, &cpu, &loaded, Some(&mut grads));
                let norm = optimizer.step(&cpu, &mut loaded.weights, &grads, 1e-3, s as u64 + 1);
                let off = |got: f64, want: f32| (got / f64::from(want) - 1.0).abs();
                assert!(off(loss, losses[s]) < 1e-5, "{family} on {isa}: loss {loss} in step {s}");
                assert!(off(norm, norms[s]) < 1e-5, "{family} on {isa}: gradient norm {norm} in step {s}");
            }
            for view in loaded.model.layout().views() {
                let got = &loaded.weights[view.range.clone()];
                let want = fixture.floats(&format!("after10.{}", view.name));
                let largest = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
                let l2 = l2_error(got, &want);
                assert!(largest < 1e-5 && l2 < 1e-5, "{family} on {isa}: {}: {largest:e}, {l2:e}", view.name);
            }
        }
    }
}
