//! After its first steps a training allocates nothing, nor does validation beyond the name in its report. A binary of
//! its own, because the allocator that counts is the whole process's.

#![allow(clippy::unwrap_used, dead_code)]

#[path = "equivalence/world.rs"]
mod world;

use smolt_arch::ModelConfig;
use smolt_data::batch::{Layout, Loader, Source};
use smolt_data::prefetch::Prefetcher;
use smolt_data::shard::Shard;
use smolt_data::validation::Validation;
use smolt_model::folder::Loaded;
use smolt_run::recipe;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_train::optimizer::AdamW;
use smolt_train::recipe::{Decay, Wsd};
use smolt_train::trainer::{BatchShape, Policy, Trainer};
use smolt_train::validate::{Domain, Validator};
use std::alloc::{GlobalAlloc, Layout as Block, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const LENGTH: usize = 32;
const VOCAB: usize = 384;

/// The system's allocator, counting what all threads ask of it.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        BYTES.fetch_add(block.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(block) }
    }
    unsafe fn alloc_zeroed(&self, block: Block) -> *mut u8 {
        BYTES.fetch_add(block.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(block) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, block: Block, size: usize) -> *mut u8 {
        BYTES.fetch_add(size, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, block, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, block: Block) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, block) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes allocated during `f`, by any thread.
fn allocated<T>(f: impl FnOnce() -> T) -> (usize, T) {
    let before = BYTES.load(Ordering::Relaxed);
    let result = f();
    (BYTES.load(Ordering::Relaxed) - before, result)
}

fn layout() -> Layout {
    Layout {
        sequence_length: LENGTH,
        vocab_size: VOCAB as u32,
        document_masking: true,
        reset_positions: true,
    }
}

/// Four leaves per step; documents of many lengths.
fn trainer(threads: usize, precision: Precision) -> Trainer {
    let mut config = ModelConfig {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        head_dim: 8,
        vocab_size: VOCAB,
        max_position_embeddings: LENGTH,
        ..ModelConfig::default()
    };
    config.set_no_rope_layer_interval(2);
    let loaded = Loaded::fresh(config, 3);
    let policy = Policy {
        shape: BatchShape { global_batch_size: 8, micro_batch_size: 2, sequence_length: LENGTH },
        schedule: Wsd { warmup_steps: 1, decay_steps: 1, train_steps: 100, decay: Decay::Linear },
        learning_rate: 1e-3,
        precision,
        z_loss: 1e-3,
        recompute: smolt_train::recipe::Recompute::None,
    };
    let optimizer = AdamW::new(recipe::defaults().unwrap(), &loaded.model);
    Trainer::new(Cpu::new(threads).unwrap(), loaded.model, loaded.weights, optimizer, policy)
}

/// One test, because tests run at the same time and would count each other's memory.
#[test]
fn nothing_is_allocated_after_the_first_step() {
    let world = world::World::new();
    let shard = Shard::open(&world.path("train.ds")).unwrap();
    let source = Source { name: "stories".into(), weight: 1.0, shard };
    let loader = Arc::new(Loader::new(vec![source], 7, layout()).unwrap());
    let batches = || Prefetcher::start(Arc::clone(&loader), 4, 2, 0, u64::MAX).unwrap();
    let data = Validation::new(Shard::open(&world.path("held-out.ds")).unwrap(), layout()).unwrap();
    let domain = Domain { name: "held out".into(), data, label_bytes: 1 };
    for (threads, precision) in
        [1, 2, 3].into_iter().flat_map(|n| [(n, Precision::Fp32), (n, Precision::Bf16)])
    {
        let mut trainer = trainer(threads, precision);
        let mut batches = batches();
        trainer.train_step(batches.next_batch().unwrap().0).unwrap();
        for step in 2..80 {
            let (bytes, report) = allocated(|| trainer.train_step(batches.next_batch().unwrap().0));
            report.unwrap();
            assert_eq!(bytes, 0, "{precision:?} on {threads} threads: step {step}");
        }
        drop(batches);
        if threads > 1 {
            continue;
        }
        let mut validator = Validator::new(&trainer.model, 2, LENGTH, precision);
        let mut validate =
            || allocated(|| validator.run(&trainer.cpu, &trainer.model, &trainer.weights, &domain).unwrap());
        validate();
        assert_eq!(validate().0, domain.name.len(), "{precision:?}: validation");
    }
}
