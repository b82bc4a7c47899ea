//! How a batch is cut into leaves, workers and rows.

use crate::common::{NO_LABEL, Rows, bits, l2_error, max_error, some_ids};
use crate::world::World;
use smolt_arch::ModelConfig;
use smolt_data::batch::{Batch, Layout, Loader, Source};
use smolt_data::leaves::Leaves;
use smolt_data::shard::Shard;
use smolt_model::folder::Loaded;
use smolt_run::recipe;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_train::leaf::LeafTree;
use smolt_train::optimizer::AdamW;
use smolt_train::recipe::{Decay, Recompute, Wsd};
use smolt_train::trainer::{BatchShape, Policy, StepReport, Trainer};

const LENGTH: usize = 32;
const VOCAB: usize = 384;

pub(crate) fn model() -> Loaded {
    let mut config = ModelConfig {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        head_dim: 8,
        vocab_size: VOCAB,
        max_position_embeddings: LENGTH,
        initializer_range: 0.1,
        ..ModelConfig::default()
    };
    config.set_no_rope_layer_interval(2);
    Loaded::fresh(config, 3)
}

pub(crate) fn loader(world: &World) -> Loader {
    let shard = Shard::open(&world.path("train.ds")).unwrap();
    let layout = Layout {
        sequence_length: LENGTH,
        vocab_size: VOCAB as u32,
        document_masking: true,
        reset_positions: true,
    };
    Loader::new(vec![Source { name: "stories".into(), weight: 1.0, shard }], 7, layout).unwrap()
}

/// The gradient that one of several workers, each with its own threads, sums over its leaves.
fn worker(loader: &Loader, leaves: Leaves, worker: u64, workers: u64, precision: Precision) -> Vec<f32> {
    let (cpu, loaded) = (Cpu::new(1 + worker as usize % 2).unwrap(), model());
    let rows = leaves.samples(0, 0).count();
    let mut pass = loaded.model.loss_pass(rows * LENGTH, precision, 0.0, true);
    let mut tree = LeafTree::new(loaded.weights.len());
    let mut batch = Batch::new(rows, LENGTH);
    let labels = loader.label_tokens(0, leaves.global(0).count() as u64);
    for leaf in leaves.owned(worker, workers).unwrap() {
        loader.fill(leaves.samples(0, leaf).start, rows, batch.as_mut()).unwrap();
        let packed = Rows {
            tokens: batch.tokens.clone(),
            labels: batch.labels.clone(),
            segments: batch.segments.clone(),
            positions: batch.positions.clone(),
        };
        packed.fill(&mut pass);
        pass.program.input_mut::<f32>(pass.scale)[0] = 1.0 / labels as f32;
        pass.program.run(smolt_tensor::tape::Run {
            cpu: &cpu,
            layout: loaded.model.layout(),
            weights: &loaded.weights,
            grads: Some(tree.buffer()),
            cache: None,
        });
        tree.push(&cpu);
    }
    tree.finish(&cpu).to_vec()
}

#[test]
fn any_number_of_workers_gives_the_same_gradient_bits() {
    let world = World::new();
    let loader = loader(&world);
    let leaves = Leaves::new(8, 2).unwrap();
    for precision in [Precision::Fp32, Precision::Bf16] {
        let whole = worker(&loader, leaves, 0, 1, precision);
        assert!(whole.iter().any(|&g| g != 0.0));
        for workers in [2, 4] {
            let mut parts: Vec<Vec<f32>> =
                (0..workers).map(|w| worker(&loader, leaves, w, workers, precision)).collect();
            while parts.len() > 1 {
                let sum = |pair: &[Vec<f32>]| pair[0].iter().zip(&pair[1]).map(|(a, b)| a + b).collect();
                parts = parts.chunks(2).map(sum).collect();
            }
            assert!(bits(&parts[0]) == bits(&whole), "{workers} workers give other bits");
        }
    }
}

fn trained(loader: &Loader, micro_batch_size: usize) -> (Vec<StepReport>, Vec<f32>) {
    let loaded = model();
    let policy = Policy {
        shape: BatchShape { global_batch_size: 4, micro_batch_size, sequence_length: LENGTH },
        schedule: Wsd { warmup_steps: 1, decay_steps: 1, train_steps: 4, decay: Decay::Linear },
        learning_rate: 1e-3,
        precision: Precision::Fp32,
        recompute: Recompute::None,
        z_loss: 1e-3,
    };
    let optimizer = AdamW::new(recipe::defaults().unwrap(), &loaded.model);
    let mut trainer = Trainer::new(Cpu::new(2).unwrap(), loaded.model, loaded.weights, optimizer, policy);
    let mut batch = trainer.global_batch();
    let mut step = || {
        batch.fill(loader, trainer.next_sample()).unwrap();
        trainer.train_step(&batch).unwrap()
    };
    let reports = (0..4).map(|_| step()).collect();
    (reports, trainer.weights)
}

#[test]
fn micro_batches_of_any_size_train_alike() {
    let world = World::new();
    let loader = loader(&world);
    let (whole, weights) = trained(&loader, 4);
    for micro_batch_size in [1, 2] {
        let (cut, cut_weights) = trained(&loader, micro_batch_size);
        for (a, b) in cut.iter().zip(&whole) {
            assert_eq!((a.label_tokens, a.tokens), (b.label_tokens, b.tokens));
            for (a, b) in [(a.loss, b.loss), (a.grad_norm, b.grad_norm), (a.z, b.z)] {
                assert!((a / b - 1.0).abs() < 1e-5, "{a} and {b}");
            }
        }
        assert!(l2_error(&cut_weights, &weights) < 1e-5);
    }
}

/// Loss and gradient of some rows.
fn gradient(rows: &Rows) -> (f64, Vec<f32>, Vec<f32>) {
    let (cpu, loaded) = (Cpu::new(2).unwrap(), model());
    let mut pass = loaded.model.loss_pass(rows.tokens.len(), Precision::Fp32, 0.0, true);
    let mut grads = vec![0.0; loaded.weights.len()];
    let loss = rows.run(&mut pass, &cpu, &loaded, Some(&mut grads));
    (loss, grads, pass.program.output(pass.loss.per_token).to_vec())
}

#[test]
fn packed_documents_train_as_if_alone() {
    let lengths = [5, 1, 13, 13];
    let ids = some_ids(9, lengths.iter().sum(), VOCAB as u32);
    let (mut packed, mut alone, mut places) = (Rows::default(), Rows::default(), Vec::new());
    let mut start = 0;
    for length in lengths {
        let document = &ids[start..start + length];
        packed.push_document(document);
        // A row of its own, filled up with padding that is a document without labels.
        places.extend(alone.tokens.len()..alone.tokens.len() + length);
        alone.push_document(document);
        let padding = LENGTH - length;
        alone.push(&vec![0; padding], &vec![NO_LABEL; padding]);
        start += length;
    }
    assert_eq!((packed.tokens.len(), alone.tokens.len()), (LENGTH, 4 * LENGTH));
    let ((loss, grads, nll), (alone_loss, alone_grads, alone_nll)) = (gradient(&packed), gradient(&alone));
    assert!((loss / alone_loss - 1.0).abs() < 1e-6, "{loss} and {alone_loss}");
    let at_places: Vec<f32> = places.into_iter().map(|i| alone_nll[i]).collect();
    assert!(max_error(&nll, &at_places) < 1e-5);
    assert!(l2_error(&grads, &alone_grads) < 1e-5);
    // The test would notice documents that see each other.
    let mut joined = packed.clone();
    joined.segments.fill(0);
    assert!(l2_error(&gradient(&joined).1, &alone_grads) > 1e-3);
}
