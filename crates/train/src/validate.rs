//! Validation: bits per byte of held-out text, per domain.

use crate::trainer::fill_inputs;
use smolt_data::batch::{Buffers, Error, Validation};
use smolt_model::Llama;
use smolt_model::llama::LossPass;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::tape::Run;

/// Loss of one domain.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainLoss {
    /// The domain's name.
    pub name: String,
    /// Mean nats per label.
    pub loss: f64,
    /// Total bits over the text's bytes: comparable across tokenizers.
    pub bits_per_byte: f64,
    /// Labels counted.
    pub label_tokens: u64,
}

/// A compiled forward pass for validation, reused for every domain.
pub struct Validator {
    pass: LossPass,
    buffers: Buffers,
    micro_batch_size: usize,
}

impl Validator {
    /// Compiles the pass for leaves of `micro_batch_size` sequences.
    pub fn new(model: &Llama, micro_batch_size: usize, sequence_length: usize, precision: Precision) -> Validator {
        let n = micro_batch_size * sequence_length;
        let pass = model.loss_pass(n, precision, 0.0, false);
        Validator { pass, buffers: Buffers::new(n), micro_batch_size }
    }

    /// The loss over every chunk of a shard.
    pub fn run(
        &mut self,
        cpu: &Cpu,
        model: &Llama,
        weights: &[f32],
        name: &str,
        data: &Validation,
    ) -> Result<DomainLoss, Error> {
        let (mut nll, mut labels) = (0.0, 0);
        let mut chunk = 0;
        while chunk < data.chunks() {
            data.fill(chunk, self.micro_batch_size, &mut self.buffers)?;
            fill_inputs(&mut self.pass, &self.buffers, 1.0);
            let run = Run { cpu, layout: model.layout(), weights, grads: None, cache: None };
            self.pass.program.run(run);
            let totals = self.pass.loss.totals(&self.pass.program);
            nll += totals.nll_sum;
            labels += totals.label_tokens;
            chunk += self.micro_batch_size as u64;
        }
        Ok(DomainLoss {
            name: name.to_string(),
            loss: nll / labels.max(1) as f64,
            bits_per_byte: nll / std::f64::consts::LN_2 / data.text_bytes().max(1) as f64,
            label_tokens: labels,
        })
    }
}
