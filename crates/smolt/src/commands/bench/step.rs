//! The step that is timed: random tokens forward and backward, then the optimizer.

use smolt_arch::ModelConfig;
use smolt_model::Transformer;
use smolt_model::folder::Loaded;
use smolt_model::transformer::LossPass;
use smolt_run::error::Failure;
use smolt_run::random::Stream;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::memory::zeros;
use smolt_tensor::tape::Run;
use smolt_train::optimizer::AdamW;
use smolt_train::recipe::{Optimizer, Recompute};
use std::time::{Duration, Instant};

/// What a step trains on.
#[derive(Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) sequences: usize,
    /// Tokens per sequence.
    pub(crate) length: usize,
}

impl Batch {
    pub(crate) fn tokens(self) -> usize {
        self.sequences * self.length
    }
}

/// A model in training.
pub(crate) struct Step {
    pub(super) cpu: Cpu,
    pub(super) model: Transformer,
    pub(super) pass: LossPass,
    pub(super) weights: Vec<f32>,
    pub(super) grads: Vec<f32>,
    optimizer: AdamW,
    steps: u64,
    batch: Batch,
}

/// Wall time of one step.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) whole: Duration,
    pub(super) optimizer: Duration,
}

impl Step {
    pub(crate) fn new(
        config: ModelConfig,
        batch: Batch,
        precision: Precision,
        recompute: Recompute,
        cpu: Cpu,
    ) -> Result<Step, Failure> {
        let Loaded { model, weights } = Loaded::fresh(config, 0);
        let pass = model.training_pass(batch.tokens(), precision, 0.0, recompute);
        let settings: Optimizer = smolt_run::recipe::defaults()?;
        let optimizer = AdamW::new(settings, &model);
        let grads = zeros(weights.len());
        let mut step = Step { cpu, model, pass, weights, grads, optimizer, steps: 0, batch };
        step.fill();
        Ok(step)
    }

    fn fill(&mut self) {
        let Batch { length, .. } = self.batch;
        let mut stream = Stream::new(0, "bench", 0);
        let program = &mut self.pass.program;
        for var in [self.pass.tokens, self.pass.labels] {
            let vocab = self.model.config().vocab_size as u64;
            program.input_mut::<u32>(var).iter_mut().for_each(|t| *t = stream.below(vocab) as u32);
        }
        for (row, position) in program.input_mut::<u32>(self.pass.positions).iter_mut().enumerate() {
            *position = (row % length) as u32;
        }
        program.input_mut::<f32>(self.pass.scale)[0] = 1.0 / self.batch.tokens() as f32;
        program.input_mut::<f32>(self.pass.share)[0] = 1.0;
        for router in &self.pass.routers {
            if let Some(fractions) = router.fractions {
                program.input_mut::<f32>(fractions).fill(1.0);
            }
        }
        self.cut(length);
    }

    /// Cuts every sequence into documents of `length` tokens that do not see each other.
    pub(super) fn cut(&mut self, length: usize) {
        let whole = self.batch.length;
        let segments = self.pass.program.input_mut::<u32>(self.pass.segments);
        for (row, segment) in segments.iter_mut().enumerate() {
            *segment = (row - row % whole % length) as u32;
        }
    }

    /// One step.
    pub(crate) fn run(&mut self) -> Times {
        let start = Instant::now();
        self.pass.program.run(Run {
            cpu: &self.cpu,
            layout: self.model.layout(),
            weights: &self.weights,
            grads: Some(&mut self.grads),
            cache: None,
        });
        let pass = start.elapsed();
        self.steps += 1;
        self.optimizer.step(&self.cpu, &mut self.weights, &self.grads, 1e-3, self.steps);
        let whole = start.elapsed();
        Times { whole, optimizer: whole - pass }
    }

    /// Bytes that the optimizer moves: the norm reads gradients; AdamW reads weights, gradients and both moments
    /// and writes all but the gradients.
    pub(super) fn optimizer_bytes(&self) -> u64 {
        8 * 4 * self.weights.len() as u64
    }
}
