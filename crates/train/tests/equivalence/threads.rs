//! How many threads compute.

use crate::common::bits;
use crate::cutting::{loader, model};
use crate::world::World;
use smolt_run::recipe;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::isa::Isa;
use smolt_train::optimizer::AdamW;
use smolt_train::recipe::{Decay, Wsd};
use smolt_train::trainer::{BatchShape, Policy, Trainer};

/// Losses, gradient norms, weights and moments after three steps.
fn trained(world: &World, isa: Isa, threads: usize, precision: Precision) -> (Vec<u64>, Vec<u32>) {
    let (loaded, loader) = (model(), loader(world));
    let policy = Policy {
        shape: BatchShape { global_batch_size: 6, micro_batch_size: 2, sequence_length: 32 },
        schedule: Wsd { warmup_steps: 1, decay_steps: 1, train_steps: 3, decay: Decay::Linear },
        learning_rate: 1e-3,
        precision,
        z_loss: 1e-3,
        recompute: smolt_train::recipe::Recompute::None,
    };
    let optimizer = AdamW::new(recipe::defaults().unwrap(), &loaded.model);
    let cpu = Cpu::with_isa(isa, threads);
    let mut trainer = Trainer::new(cpu, loaded.model, loaded.weights, optimizer, policy);
    let mut reports = Vec::new();
    let mut batch = trainer.global_batch();
    for _ in 0..3 {
        batch.fill(&loader, trainer.next_sample()).unwrap();
        let report = trainer.train_step(&batch).unwrap();
        reports.extend([report.loss.to_bits(), report.grad_norm.to_bits(), report.z.to_bits()]);
    }
    let state = [bits(&trainer.weights), bits(&trainer.optimizer.m), bits(&trainer.optimizer.v)];
    (reports, state.concat())
}

#[test]
fn training_has_the_same_bits_on_one_two_and_three_threads() {
    let world = World::new();
    for isa in Isa::available() {
        for precision in [Precision::Fp32, Precision::Bf16] {
            let one = trained(&world, isa, 1, precision);
            for threads in [2, 3] {
                let more = trained(&world, isa, threads, precision);
                assert!(more == one, "{isa} {precision:?}: {threads} threads give other bits");
            }
        }
    }
}
