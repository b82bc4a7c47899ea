//! 300 training steps lose what PyTorch's lose (tests/golden/curve).

#![allow(clippy::unwrap_used)]

#[path = "../../model/tests/common/mod.rs"]
mod common;

use common::{Fixture, Rows, golden};
use smolt_model::folder::Loaded;
use smolt_run::recipe;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_train::optimizer::AdamW;

const LENGTH: usize = 64;
const ROWS: usize = 4;

#[test]
fn the_loss_curve_is_that_of_pytorch() {
    let fixture = Fixture::open("curve");
    let (lr, losses, norms) = (fixture.floats("lr"), fixture.floats("losses"), fixture.floats("grad_norms"));
    let text: Vec<u32> =
        std::fs::read(golden("curve/text.txt")).unwrap().into_iter().map(u32::from).collect();
    let cpu = Cpu::new(1).unwrap();
    let mut loaded = Loaded::load(&golden("curve")).unwrap();
    let mut pass = loaded.model.loss_pass(ROWS * LENGTH, Precision::Fp32, 0.0, true);
    let mut optimizer = AdamW::new(recipe::defaults().unwrap(), &loaded.model);
    let mut grads = vec![0.0; loaded.weights.len()];
    let mut worst = (0.0, 0);
    for (s, batch) in text.chunks_exact(ROWS * (LENGTH + 1)).take(lr.len()).enumerate() {
        let mut rows = Rows::default();
        batch.chunks_exact(LENGTH + 1).for_each(|row| rows.push(&row[..LENGTH], &row[1..]));
        let loss = rows.run(&mut pass, &cpu, &loaded, Some(&mut grads));
        let norm = optimizer.step(&cpu, &mut loaded.weights, &grads, lr[s].into(), s as u64 + 1);
        let off = (loss / f64::from(losses[s]) - 1.0).abs();
        assert!(off < 5e-3, "step {s}: loss {loss}, PyTorch's {}", losses[s]);
        assert!(
            (norm / f64::from(norms[s]) - 1.0).abs() < 0.02,
            "step {s}: norm {norm}, PyTorch's {}",
            norms[s]
        );
        if off > worst.0 {
            worst = (off, s);
        }
    }
    println!("the largest deviation is {:.1e}, in step {}", worst.0, worst.1);
}
