//! The step that is timed: random tokens forward and backward, then the optimizer.

use super::{Dtype, Shape};
use smolt_model::Transformer;
use smolt_model::folder::Loaded;
use smolt_model::transformer::LossPass;
use smolt_run::error::Failure;
use smolt_run::random::Stream;
use smolt_tensor::Cpu;
use smolt_tensor::memory::zeros;
use smolt_tensor::tape::Run;
use smolt_train::optimizer::AdamW;
use smolt_train::recipe::{Optimizer, Recompute};
use std::time::{Duration, Instant};

/// A model in training.
pub(super) struct Step {
    pub(super) cpu: Cpu,
    pub(super) model: Transformer,
    pub(super) pass: LossPass,
    pub(super) weights: Vec<f32>,
    pub(super) grads: Vec<f32>,
    optimizer: AdamW,
    steps: u64,
}

/// Wall time of one step.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) whole: Duration,
    pub(super) optimizer: Duration,
}

impl Step {
    pub(super) fn new(shape: &Shape, dtype: Dtype, recompute: Recompute, cpu: Cpu) -> Result<Step, Failure> {
        let Loaded { model, weights } = Loaded::fresh(shape.config()?, 0);
        let pass = model.training_pass(shape.tokens(), dtype.precision(), 0.0, recompute);
        let settings: Optimizer = smolt_run::recipe::defaults()?;
        let optimizer = AdamW::new(settings, model.layout());
        let grads = zeros(weights.len());
        let mut step = Step { cpu, model, pass, weights, grads, optimizer, steps: 0 };
        step.fill(shape);
        Ok(step)
    }

    fn fill(&mut self, shape: &Shape) {
        let mut stream = Stream::new(0, "bench", 0);
        let program = &mut self.pass.program;
        for var in [self.pass.tokens, self.pass.labels] {
            let vocab = self.model.config().vocab_size as u64;
            program.input_mut::<u32>(var).iter_mut().for_each(|t| *t = stream.below(vocab) as u32);
        }
        for (row, position) in program.input_mut::<u32>(self.pass.positions).iter_mut().enumerate() {
            *position = (row % shape.seq) as u32;
        }
        program.input_mut::<f32>(self.pass.scale)[0] = 1.0 / shape.tokens() as f32;
        program.input_mut::<f32>(self.pass.share)[0] = 1.0;
        for router in &self.pass.routers {
            if let Some(fractions) = router.fractions {
                program.input_mut::<f32>(fractions).fill(1.0);
            }
        }
        self.cut(shape, shape.seq);
    }

    /// Cuts every sequence into documents of `length` tokens that do not see each other.
    pub(super) fn cut(&mut self, shape: &Shape, length: usize) {
        let segments = self.pass.program.input_mut::<u32>(self.pass.segments);
        for (row, segment) in segments.iter_mut().enumerate() {
            *segment = (row - row % shape.seq % length) as u32;
        }
    }

    /// One step.
    pub(super) fn run(&mut self) -> Times {
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
